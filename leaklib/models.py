"""The papers' networks: each an `nn.Sequential` with named layers, though any `nn.Module` works."""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from . import chain, keylock, random
from ._errors import count, one_of, positive, require
from ._network import copied

__all__ = ["ACTIVATIONS", "lenet", "lenet_keylock", "mlp", "convnet", "resnet18", "cats_dogs",
           "Normalize", "normalized", "init_uniform"]  # fmt: skip
ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU,
               "silu": nn.SiLU, "gelu": nn.GELU, "softplus": nn.Softplus}  # fmt: skip


def lenet(
    channels: int = 3, size: int = 32, classes: int = 10, activation: str = "sigmoid",
    seed: int = 0, init: str = "dlg", width: int = 12,
) -> nn.Sequential:  # fmt: skip
    """The LeNet that DLG and iDLG attack: three 5x5 convolutions of 12 channels, one linear layer.

    x (N, channels, size, size) -> 12 x size/2 x size/2 -> 12 x size/4 x size/4 -> the same ->
    logits (N, classes).  With 3 x 32 x 32 and 100 classes it has 85,036 parameters, as in the code.
    activation: a key of `ACTIVATIONS`.  init: "dlg" draws every weight and bias from U(-0.5, 0.5),
    "torch" keeps PyTorch's own; seed: of either.  width > 0: of the convolutions.  ValueError for
    anything else.  Source: Zhu et al. 2019, published code (models/vision.py).
    """
    count("width", width)
    stages = (width, 2), (width, 2), (width, 1)
    with random.of_layers(seed):
        model = _convolutional(channels, size, classes, activation, stages, kernel=5)
    return _initialized(model, init, seed)


def lenet_keylock(
    channels: int = 3, size: int = 32, classes: int = 10, activation: str = "sigmoid",
    seed: int = 0, init: str = "dlg", width: int = 12,
    *, key: Tensor | None = None, gate: str = "relu", norm: bool = True,
) -> nn.Sequential:  # fmt: skip
    """The LeNet of `lenet` whose first convolution is behind a lock: `keylock.KeyLock`.

    key (L,): `keylock.new_key()` if None.  gate and norm are the lock's.  Its maps keep PyTorch's
    initialisation: a key of 1,024 numbers times U(-0.5, 0.5) would close half of the channels.
    Source: Ren et al. 2023, published code (LeNet2_kl, which locks the first convolution).
    """
    plain = lenet(channels, size, classes, activation, seed, init, width)
    (_, conv), *rest = plain.named_children()
    key = keylock.new_key() if key is None else key
    with random.of_layers(random.mixed(seed, "maps")):
        lock = keylock.KeyLock(cast(nn.Conv2d, conv), key, gate, norm)
    return nn.Sequential(OrderedDict([("lock", lock), *rest]))


def mlp(
    channels: int = 1, size: int = 28, hidden: Sequence[int] = (300,), classes: int = 10,
    activation: str = "sigmoid", seed: int = 0, init: str = "torch",
) -> nn.Sequential:  # fmt: skip
    """A fully connected network: flatten, hidden layers fc1, fc2, … with activations, and fc.

    x (N, channels, size, size) -> logits (N, classes).  hidden: the widths, () for softmax
    regression.  activation, init, seed and errors as in `lenet`.
    """
    _check_counts(channels=channels, size=size, classes=classes)
    require(isinstance(hidden, Sequence), "hidden", repr(hidden), "widths, such as (300,)")
    for n in hidden:
        count("hidden", n)
    widths = [channels * size**2, *hidden]
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    with random.of_layers(seed):
        for i, (n_in, n_out) in enumerate(pairwise(widths), start=1):
            layers[f"fc{i}"] = nn.Linear(n_in, n_out)
            layers[f"act{i}"] = _activation(activation)
        layers["fc"] = nn.Linear(widths[-1], classes)
    return _initialized(nn.Sequential(layers), init, seed)


def convnet(
    channels: int = 3, size: int = 32, classes: int = 10, activation: str = "gelu",
    seed: int = 0, norm: str | None = None, width: int = 16,
) -> nn.Sequential:  # fmt: skip
    """A small network as people train them: four 3x3 convolutions, PyTorch's own initialisation.

    x (N, channels, size, size) -> width x size x size -> 2 width x size/2 x size/2 -> the same ->
    4 width x size/4 x size/4 -> logits (N, classes).  73,802 parameters for 3 x 32 x 32.
    norm: after each convolution, None, "batch" (BatchNorm, in evaluation mode) or "group" (of four
    groups); width: a multiple of 4.  ValueError for others.  activation and seed as in `lenet`.
    """
    _check_width(width)
    stages = (width, 1), (2 * width, 2), (2 * width, 1), (4 * width, 2)
    with random.of_layers(seed):
        return _convolutional(channels, size, classes, activation, stages, 3, norm).eval()


def resnet18(
    channels: int = 3, classes: int = 10, activation: str = "gelu",
    seed: int = 0, norm: str = "batch", width: int = 16,
) -> nn.Sequential:  # fmt: skip
    """ResNet-18 for small images, made fit for attack, in evaluation mode.

    x (N, channels, H, W) -> eight residual blocks, of width to 8 width channels -> logits
    (N, classes).  Not torchvision's are the smooth `activation`, the first layer (3x3, stride 1, no
    pooling) and the width (16 channels for 64: 701,466 parameters for 11.2 million).
    norm: "batch" or "group".  The other arguments and errors as in `convnet`.
    Source: He et al. 2016; torchvision.models.resnet18, whose initialisation it has.
    """
    _check_counts(channels=channels, classes=classes)
    _check_width(width)
    with random.of_layers(seed):
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=nn.Conv2d(channels, width, 3, padding=1, bias=False),
            bn1=_norm(norm, width), act1=_activation(activation),
        )  # fmt: skip
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        for i, (n_in, n_out) in enumerate(pairwise(widths), start=1):
            first = _block(n_in, n_out, 1 if i == 1 else 2, activation, norm)
            layers[f"layer{i}"] = nn.Sequential(first, _block(n_out, n_out, 1, activation, norm))
        layers["avgpool"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        layers["fc"] = nn.Linear(widths[-1], classes)
        model = nn.Sequential(layers)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model.eval()


def cats_dogs(kind: str = "convolution", size: int = 32, **settings: Any) -> nn.Sequential:
    """A network for cats (0) and dogs (1), after Mu 2023: fully connected, or convolutional.

    x (N, 3, size, size) -> logits (N, 2).  kind: "linear" is an `mlp`, "convolution" a `lenet`,
    with their `settings`.  The layers are ours: only the abstract was read.
    """
    kinds = {"linear": mlp, "convolution": lenet}
    one_of("kind", kind, kinds)
    return kinds[kind](3, size, classes=2, **settings)


class Normalize(nn.Module):
    """Images x (..., C, H, W), each channel normalised: (x - mean) / std.

    mean, std: a number for all channels, or C of them.  The arguments, and errors, of `normalized`.
    """

    def __init__(self, mean: float | Sequence[float] = 0.0, std: float | Sequence[float] = 1.0):
        super().__init__()
        self.mean, self.std = (_numbers(n, v) for n, v in (("mean", mean), ("std", std)))
        channels = {len(part) for part in (self.mean, self.std) if isinstance(part, tuple)}
        came = f"{self.std}, and mean {self.mean}"
        require(len(channels) < 2, "std", came, "as many numbers for both, or one for all channels")
        self.channels = next(iter(channels), None)

    def forward(self, x: Tensor) -> Tensor:
        mean, std = self.like(x)
        return (x - mean) / std

    def like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, std) as tensors that broadcast with x; ValueError for other images."""
        fits = self.channels is None or (x.ndim > 2 and x.shape[-3] == self.channels)
        wanted = f"images, in floating point, of {self.channels or 'any'} channels"
        fits = fits and x.is_floating_point()
        require(fits, "x", f"shape {tuple(x.shape)} of {x.dtype}", wanted)
        shape = (-1, 1, 1) if self.channels else ()
        mean, std = (x.new_tensor(part).reshape(shape) for part in (self.mean, self.std))
        return mean, std

    def ahead(self, module: nn.Module, inputs: tuple) -> tuple:
        """The hook for a network that is no sequence of layers."""
        return self(inputs[0]), *inputs[1:]

    def extra_repr(self) -> str:
        return f"mean={self.mean}, std={self.std}"


chain.LAYERS[Normalize] = chain.Activation(
    derivatives=lambda s, a: (torch.ones_like(a) / s.like(a)[1], torch.zeros_like(a)),
    inverse=lambda s, a: a * s.like(a)[1] + s.like(a)[0],
)


def normalized(
    model: nn.Module, mean: float | Sequence[float], std: float | Sequence[float]
) -> nn.Module:
    """A copy of a network that takes images of pixels in [0, 1] and normalises them itself.

    x (N, C, H, W) -> model((x - mean) / std), so that an attacker searches, and scores, pixels.
    The names of parameters and buffers stay the model's, whose messages and checkpoints fit.
    mean in [0, 1] and std in (0, 1]: of the pixels, a number for all channels or C of them.  An
    `nn.Sequential` gets a first layer "normalize", any other network a hook that runs first; the
    copy, in the model's mode, shares nothing with it.
    Raises ValueError for other numbers, and for a network that is `normalized` already.

    >>> network = normalized(lenet(), mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
    >>> network[0]
    Normalize(mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
    """
    network, layer = copy.deepcopy(copied(model)), Normalize(mean, std)
    layer.train(network.training)
    hooks = network._forward_pre_hooks.values()
    before = (*network.modules(), *(getattr(hook, "__self__", None) for hook in hooks))
    twice = any(isinstance(part, Normalize) for part in before)
    require(not twice, "model", "a network that normalises already", "one that does not")
    if type(network) is nn.Sequential and not hooks and "normalize" not in network._modules:
        network._modules = OrderedDict(normalize=layer, **network._modules)
    else:
        network.register_forward_pre_hook(layer.ahead, prepend=True)
    return network


@torch.no_grad()
def init_uniform(model: nn.Module, a: float = 0.5, seed: int = 0) -> nn.Module:
    """Draw the parameters from U(-a, a), a > 0, in place (Zhu et al. 2019); returns the model."""
    positive("a", a, "half the width of the interval (-a, a)")
    generator = random.weights(seed)
    for parameter in model.parameters():
        draw = torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.copy_(a * (2 * draw - 1))
    return model


def _numbers(name: str, value: Any) -> float | tuple[float, ...]:
    """A number or a tuple of them, as pixels in [0, 1] have for their mean or spread."""
    try:
        t = torch.as_tensor(value, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        t = torch.full((), torch.nan)
    in_range = (t <= 1) & (t > 0 if name == "std" else t >= 0)
    wanted = "one of (0, 1]" if name == "std" else "one of [0, 1]"
    wanted = f"{wanted} for all channels, or for each (pixels are from 0 to 1, not to 255)"
    require(t.ndim < 2 and t.numel() and in_range.all(), name, f"{value!r:.80}", wanted)
    return tuple(t.tolist()) if t.ndim else t.item()


def _convolutional(
    channels: int, size: int, classes: int, activation: str, stages: Sequence[tuple[int, int]],
    kernel: int, norm: str | None = None,
) -> nn.Sequential:  # fmt: skip
    """conv1, act1, conv2, … flatten, fc: a convolution for each stage (channels, stride)."""
    _check_counts(channels=channels, size=size, classes=classes)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (n_out, stride) in enumerate(stages, start=1):
        layers[f"conv{i}"] = nn.Conv2d(channels, n_out, kernel, stride, padding=kernel // 2)
        if norm is not None:
            layers[f"norm{i}"] = _norm(norm, n_out)
        layers[f"act{i}"] = _activation(activation)
        channels, size = n_out, -(-size // stride)
    layers["flatten"], layers["fc"] = nn.Flatten(), nn.Linear(channels * size**2, classes)
    return nn.Sequential(layers)


def _initialized(model: nn.Sequential, init: str, seed: int) -> nn.Sequential:
    require(init in ("dlg", "torch"), "init", repr(init), '"dlg" (U(-0.5, 0.5)) or "torch"')
    if init == "dlg":
        init_uniform(model, 0.5, seed)
    return model


def _check_counts(**numbers: int) -> None:
    for name, value in numbers.items():
        count(name, value)


def _check_width(width: int) -> None:
    fits = isinstance(width, int) and width > 0 and width % 4 == 0
    require(fits, "width", repr(width), "a positive multiple of 4")


def _activation(name: str) -> nn.Module:
    one_of("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


def _norm(name: str, channels: int) -> nn.Module:
    require(name in ("batch", "group"), "norm", repr(name), '"batch" or "group"')
    return nn.BatchNorm2d(channels) if name == "batch" else nn.GroupNorm(4, channels)


def _block(n_in: int, n_out: int, stride: int, activation: str, norm: str) -> nn.Module:
    from torchvision.models.resnet import BasicBlock

    shortcut = None
    if stride > 1:
        shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), _norm(norm, n_out))
    block = BasicBlock(n_in, n_out, stride, shortcut, norm_layer=lambda n: _norm(norm, n))
    block.add_module("relu", _activation(activation))
    return block
