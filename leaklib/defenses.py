"""What a client does against leakage, by calls such as `gaussian(1e-2)`: the `defense` of a client.

Most are functions (direction, generator) -> direction that leave their input untouched, and
`compose` joins them; `dp_sgd` and `soteria` take the place of the gradient; `weights_noise` and
`weights_sparsify` change the new weights.  (Networks that defend: `keylock`.)  The generator is the
client's stream "noise"; masks come from its `random.child`.  Numbers out of range: ValueError.
"""

import math
from collections.abc import Callable
from functools import partial, reduce
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import _network, random
from ._batching import batched
from ._errors import at_least_0, bad, one_of, positive, require, share, whole
from ._loss import Loss
from ._numbers import floor_of, norm, total, wide
from .client import InPlaceOfGradient, OnWeights, gradient
from .leak import Tensors

__all__ = ["OfDirection", "gaussian", "laplace", "clip", "prune", "quantize", "half", "random_mask",
           "compose", "dp_sgd", "soteria", "weights_noise", "weights_sparsify", "noise_factors",
           "spacing_of"]  # fmt: skip
OfDirection = Callable[[Tensors, torch.Generator], Tensors]


def gaussian(sigma: float, relative: bool = False) -> OfDirection:
    """Add independent normal noise to every entry: g + sigma N(0, I).

    sigma >= 0 is absolute, or with `relative` a multiple of the direction's root mean square.
    No differential privacy: nothing bounds what one image changes.  Source: Zhu et al. 2019.

    >>> noisy = gaussian(0.1)({"w": torch.zeros(10_000)}, random.generator(0, "noise"))
    >>> print(f"{noisy['w'].std():.2f}")
    0.10
    """
    at_least_0("sigma", sigma, "a standard deviation")
    return partial(_noisy, "gaussian", sigma, relative)


def laplace(b: float, relative: bool = False) -> OfDirection:
    """Add Laplace noise, `relative` as in `gaussian`: g + b L, b >= 0, L of density exp(-|L|) / 2.

    >>> noisy = laplace(0.1)({"w": torch.zeros(10_000)}, random.generator(0, "noise"))
    >>> print(f"{noisy['w'].std():.2f}")  # sqrt(2) b
    0.14
    """
    at_least_0("b", b, "a scale")
    return partial(_noisy, "laplace", b, relative)


def clip(C: float) -> OfDirection:
    """Shorten what is longer than C > 0 to that norm: g min(1, C / ||g||) (Abadi et al. 2016).

    >>> clip(1.0)({"w": torch.tensor([3.0]), "b": torch.tensor([-4.0])}, torch.Generator())
    {'w': tensor([0.6000]), 'b': tensor([-0.8000])}
    """
    positive("C", C, "a norm")

    def defend(direction: Tensors, generator: torch.Generator) -> Tensors:
        # min(1, C / ||g||), and with no NaN for a derivative at 0
        scale = C / norm(direction).clamp(min=C)
        return {name: (scale * g).to(g) for name, g in direction.items()}

    return defend


def prune(p: float, whole: bool = False) -> OfDirection:
    """Set to zero floor(p n) of each tensor's n entries, those smallest in magnitude; 0 <= p <= 1.

    whole: the smallest of all tensors together.  Source: Zhu et al. 2019 (gradient compression).

    >>> prune(0.5)({"w": torch.tensor([3.0, -4.0, 1.0, -2.0])}, torch.Generator())
    {'w': tensor([ 3., -4.,  0.,  0.])}
    """
    share("p", p)
    if whole:
        return lambda direction, _: _shaped(_without_smallest(_flat(direction), p), direction)
    return _of_each(lambda g: _without_smallest(g, p))


def quantize(bits: int) -> OfDirection:
    """Round entries, delta round(g / delta) with delta = `spacing_of(bits)`; 2 <= bits <= 16.

    >>> quantize(3)({"w": torch.tensor([3.0, -1.2, 0.3])}, torch.Generator())
    {'w': tensor([ 3., -1.,  0.])}
    """
    spacing = spacing_of(bits)
    rounded = lambda g, delta: torch.where(delta > 0, delta * (g / delta).round(), g)  # noqa: E731
    return _of_each(lambda g: rounded(wide(g), spacing(g)).to(g))


def spacing_of(bits: int) -> Callable[[Tensor], Tensor]:
    """delta = max |g| / (2^(bits - 1) - 1), between the 2^bits - 1 levels of `quantize`."""
    whole("bits", bits, "a whole number from 2 to 16", 2, 16)
    return lambda g: wide(g).abs().max() / (2 ** (bits - 1) - 1)


def half(dtype: torch.dtype = torch.float16) -> OfDirection:
    """Round entries to torch.float16 or torch.bfloat16, and back to their type (Zhu et al. 2019).

    >>> half(torch.bfloat16)({"w": torch.tensor([1.001])}, torch.Generator())
    {'w': tensor([1.])}
    """
    known = (torch.float16, torch.bfloat16)
    require(dtype in known, "dtype", dtype, "torch.float16 or torch.bfloat16")
    return _of_each(lambda g: g.to(dtype).to(g))


def random_mask(p: float, rescale: bool = False) -> OfDirection:
    """Random Gradient Masking: set to zero each entry with probability p, drawn anew every round.

    m_i g_i,  m_i ~ Bernoulli(1 - p);  with `rescale`, and p < 1, m_i g_i / (1 - p): g on average.
    Source: Kim & Park 2024, of whom the abstract was read; the formula is the usual one.

    >>> masked = random_mask(0.9)({"w": torch.ones(10_000)}, random.generator(0, "noise"))
    >>> print(f"{masked['w'].mean():.2f}")
    0.10
    """
    share("p", p)
    require(p < 1 or not rescale, "p", p, "a share below 1, because the rest is divided by 1 - p")

    def defend(direction: Tensors, generator: torch.Generator) -> Tensors:
        draws = random.child(generator, "mask")
        kept = lambda g: torch.rand(g.shape, generator=draws, device=g.device) >= p  # noqa: E731
        return {n: kept(g) * g / (1 - p if rescale else 1) for n, g in direction.items()}

    return defend


def compose(*defend: OfDirection) -> OfDirection:
    """Several functions of the direction, one after the other; ValueError for another kind.

    >>> compose(prune(0.5), clip(1.0))({"w": torch.tensor([3.0, -4.0])}, torch.Generator())
    {'w': tensor([ 0., -1.])}
    """
    for i, part in enumerate(defend):
        require(callable(part), f"defend[{i}]", type(part).__name__, "a function of the direction")
    return lambda g, generator: reduce(lambda g, part: part(g, generator), defend, g)


def dp_sgd(clip: float, noise: float) -> InPlaceOfGradient:
    """The gradient of DP-SGD: each image's own is clipped, then noise hides any one of them.

        g = (1/B) [ sum_i g_i min(1, C / ||g_i||) + sigma C N(0, I) ]

    C = `clip` > 0 bounds what an image can change, and sigma = `noise` >= 0 is in its units.
    Privacy: `privacy.epsilon`, for batches drawn as it says.  Source: Abadi et al. 2016.

    >>> model, x, y = nn.Linear(2, 3), torch.rand(8, 2), torch.arange(8) % 3
    >>> g = dp_sgd(0.01, 0).gradient(model, torch.Generator())(dict(model.named_parameters()), x, y)
    >>> bool(norm(g) <= 0.01)
    True
    """
    positive("clip", clip, "a norm")
    at_least_0("noise", noise, "a multiple of clip")

    def clipped_and_noisy(
        model: nn.Module, generator: torch.Generator, loss: Loss = F.cross_entropy
    ) -> Callable[..., Tensors]:
        of = gradient(model, loss)

        def g(W: Tensors, x: Tensor, y: Tensor, buffers: Tensors | None = None) -> Tensors:
            one = lambda x, y: _flat(of(W, x[None], y[None], buffers))  # noqa: E731
            each = wide(batched(one)(x, y))  # (B, N)
            B = _divisor(each, _flat(of(W, x, y, buffers)))
            if B is None:
                _network.examined(model, x.shape, x, "x", W, buffers)
                came = "one whose gradient of a batch is neither mean nor sum of its images' own"
                wanted = "a mean or a sum, such as without class weights, of what each image gives"
                raise bad("loss", came, wanted)
            # min(1, C / ||g_i||)
            scale = clip / each.norm(dim=1).clamp(min=clip)  # (B,)
            noisy = _noisy("gaussian", noise * clip, False, _shaped(scale @ each, W), generator)
            return {name: d / B for name, d in noisy.items()}

        return g

    return InPlaceOfGradient(clipped_and_noisy)


def soteria(layer: str, q: float) -> InPlaceOfGradient:
    """Hide what an image tells a linear layer: drop the columns of the inputs that tell the most.

        r (B, M) the inputs of the layer;  score_f = sum_b ||d r_bf / d x_b|| / |r_bf|

    layer: its name; one that sees M numbers of an image once, or ValueError.  Of the columns of dV
    the floor(q M) of the smallest score become zero: inputs that are large against their derivative
    pin the image down.  0 <= q <= 1.
    Source: Sun et al. 2021, published code (where r stands for |r|: it always drops a negative r).

    >>> model = nn.Sequential(nn.Sigmoid(), nn.Linear(4, 3))
    >>> W, g = dict(model.named_parameters()), soteria("1", 0.5).gradient(model, torch.Generator())
    >>> int((g(W, torch.rand(1, 4), torch.tensor([2]))["1.weight"] == 0).all(0).sum())
    2
    """
    share("q", q)

    def with_columns_dropped(
        model: nn.Module, _: torch.Generator, loss: Loss = F.cross_entropy
    ) -> Callable[..., Tensors]:
        linear = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}
        wanted = f"a linear layer of the model: {', '.join(linear)}"
        require(layer in linear, "layer", repr(layer), wanted)
        inputs, of = _inputs_of(model, layer), gradient(model, loss)
        weight, M = f"{layer}.weight".removeprefix("."), linear[layer].in_features

        def g(W: Tensors, x: Tensor, y: Tensor, buffers: Tensors | None = None) -> Tensors:
            def score(image: Tensor) -> Tensor:
                image = image[None].detach().requires_grad_()
                r = inputs(W, buffers or {}, image)  # (M,), or more where it sees several
                came = f"{layer!r}, which sees {r.numel()} numbers of each image"
                require(r.numel() == M, "layer", came, f"one that sees its {M} inputs once")
                slope = lambda e: torch.autograd.grad(r, image, e, retain_graph=True)[0]  # noqa: E731
                slopes = batched(slope)(torch.eye(M).to(r))  # (M, 1, ...)
                return slopes.flatten(1).norm(dim=1) / r.abs().clamp(min=torch.finfo(r.dtype).tiny)

            _network.examined(model, x.shape, x, "x", W, buffers)
            came = f"{layer!r}, of which no {weight!r} is sent"
            require(weight in W, "layer", came, f"one whose weight is among {list(W)}")
            scores = total(score(image) for image in x)
            dropped = scores.argsort()[: floor_of(q, M)]
            update = of(W, x, y, buffers)
            return {**update, weight: update[weight].index_fill(1, dropped, 0)}

        return g

    return InPlaceOfGradient(with_columns_dropped)


def weights_noise(
    b: float, law: Literal["laplace", "gaussian"] = "laplace",
    *, bound: float = 0.2, both: bool = False,
) -> OnWeights:  # fmt: skip
    """Noise on the weights, the first defence of DLM's paper: W + f b L for each tensor.

    f of `noise_factors(W, bound)`, L of Laplace's law or normal; b >= 0, bound > 0.  both: W_t too,
    though the server knows it.  Source: Zhao, Luo & Ding 2022, dlm_defense.py, which clips nothing.

    >>> noisy = weights_noise(1e-3).change({"w": torch.ones(10_000)}, random.generator(0, "noise"))
    >>> print(f"{(noisy['w'] - 1).std():.1f}")  # sqrt(2) f b, with f = 100 / 0.2
    0.7
    """
    at_least_0("b", b, "a scale")
    positive("bound", bound, "a norm")
    one_of("law", law, ("laplace", "gaussian"))

    def change(weights: Tensors, generator: torch.Generator) -> Tensors:
        f = noise_factors(weights, bound)
        return {n: (W + f[n] * b * _draw(law, W, generator)).to(W) for n, W in weights.items()}

    return OnWeights(change, both)


def noise_factors(weights: Tensors, bound: float = 0.2) -> Tensors:
    """f = max(1, n(W) / bound), n the norm of a vector, and else the largest norm along axis 1."""
    positive("bound", bound, "a norm")
    W = {n: wide(w) for n, w in weights.items()}
    largest = {n: w.norm() if w.ndim < 2 else w.norm(dim=1).max() for n, w in W.items()}
    return {name: (size / bound).clamp(min=1) for name, size in largest.items()}


def weights_sparsify(s: float, *, both: bool = False) -> OnWeights:
    """Drop the smallest weights of each tensor, floor(s n) of n: DLM's paper's second defence.

    0 <= s <= 1 (the published code divides it by ten); both and source as in `weights_noise`.

    >>> weights_sparsify(0.5).change({"w": torch.tensor([3.0, 4.0])}, torch.Generator())
    {'w': tensor([0., 4.])}
    """
    share("s", s)
    return OnWeights(_of_each(lambda W: _without_smallest(W, s)), both)


def _draw(law: str, like: Tensor, generator: torch.Generator) -> Tensor:
    """Draws from N(0, 1), or of density exp(-|L|) / 2: the difference of two exponential ones."""
    if law == "gaussian":
        return torch.randn(like.shape, generator=generator, device=like.device).to(like)
    empty = [torch.empty(like.shape, device=like.device) for _ in range(2)]
    one, other = (part.exponential_(generator=generator) for part in empty)
    return (one - other).to(like)


def _noisy(law: str, scale: float, relative: bool, g: Tensors, draws: torch.Generator) -> Tensors:
    rms = float(norm(g) / math.sqrt(sum(d.numel() for d in g.values()))) if relative else 1
    return {name: d + scale * rms * _draw(law, d, draws) for name, d in g.items()}


def _of_each(change: Callable[[Tensor], Tensor]) -> OfDirection:
    return lambda direction, generator: {name: change(g) for name, g in direction.items()}


def _divisor(each: Tensor, whole: Tensor) -> int | None:
    """B where a batch's gradient is the mean of its images' (B, N), 1 for the sum, else None."""
    off = torch.finfo(whole.dtype).eps ** (1 / 3) * each.norm(dim=1).max()
    close = (B for B in (len(each), 1) if (whole - each.sum(0) / B).norm() <= off)
    return next(close, None)


def _inputs_of(model: nn.Module, layer: str) -> Callable[[Tensors, Tensors, Tensor], Tensor]:
    """(W, buffers, x) -> all numbers that the layer, or another with its weight, sees of x."""
    network, seen = _network.copied(model), []
    weight = network.get_submodule(layer).weight
    for part in network.modules():
        if getattr(part, "weight", None) is weight:
            part.register_forward_pre_hook(
                lambda _, args, named: seen.append((*args, *named.values())[0].flatten().clone()),
                with_kwargs=True,
            )
    forward = _network.function(network)

    def inputs(W: Tensors, buffers: Tensors, x: Tensor) -> Tensor:
        seen.clear()
        with torch.enable_grad():
            forward(W, buffers, x)
        # what no derivative leads to, the image does not move
        return torch.cat([x.new_empty(0), *(r for r in seen if r.requires_grad)])

    return inputs


def _flat(direction: Tensors) -> Tensor:
    return torch.cat([g.flatten() for g in direction.values()])  # (N,)


def _shaped(entries: Tensor, like: Tensors) -> Tensors:
    """Entries (N,) as the tensors that they were, by the names and shapes of `like`."""
    parts = entries.split([t.numel() for t in like.values()])
    return {name: part.reshape(t.shape).to(t) for (name, t), part in zip(like.items(), parts)}


def _without_smallest(d: Tensor, p: float) -> Tensor:
    """floor(p n) of the n entries set to zero, those smallest in magnitude."""
    smallest = d.abs().flatten().argsort()[: floor_of(p, d.numel())]
    return d.flatten().index_fill(0, smallest, 0).reshape(d.shape)
