"""What an attacker does who knows the defence, though not its random numbers.

Most of it is one word of an attack, `defend(gradient, leak) -> gradient`, of the attacker's own
gradient before it is compared.  (`defenses.clip(1.0)`, which draws nothing, can be that word.)
Both are of one problem: a stack raises ValueError.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import _network, distances
from ._batching import batched, first
from ._errors import positive, require
from ._loss import Loss
from ._numbers import inverse, norm, squared, total, wide
from ._words import Word
from .client import check_images, check_leak, check_targets, gradient
from .defenses import noise_factors, spacing_of
from .leak import Leak, Tensors, as_stack, first_of

__all__ = ["entries_sent", "scale_free", "within_cells", "left_out", "noisy_weights",
           "without_zeros", "likeliest"]  # fmt: skip
Defend = Callable[[Tensors, Leak], Tensors]


def entries_sent(gradient: Tensors, leak: Leak) -> Tensors:
    """Compare what was sent, g_i [h_i != 0]: against masks and pruning (Balunovic et al. 2022)."""
    return {n: torch.where(h != 0, gradient[n], 0.0) for n, h in _sent(leak).items()}


def scale_free(gradient: Tensors, leak: Leak) -> Tensors:
    """Compare directions, g ||h|| / ||g||: against `clip`, which keeps them.  A zero stays zero."""
    h = _sent(leak)
    scale = norm(h) * inverse(norm({name: gradient[name] for name in h}))
    return {name: scale * gradient[name] for name in h}


@dataclass(frozen=True, repr=False)
class within_cells(Word):
    """Compare only as finely as `quantize(bits)` told: g's distance from the cell around h.

    g + min(max(h - g, -delta/2), delta/2),  delta of `defenses.spacing_of(bits)`.
    """

    bits: int

    def __post_init__(self) -> None:
        spacing_of(self.bits)

    def act(self, gradient: Tensors, leak: Leak) -> Tensors:
        h = _sent(leak)
        half = {name: spacing_of(self.bits)(sent) / 2 for name, sent in h.items()}
        apart = {name: wide(sent) - gradient[name] for name, sent in h.items()}
        return {n: gradient[n] + apart[n].maximum(-half[n]).minimum(half[n]) for n in h}


@dataclass(frozen=True, repr=False, init=False)
class left_out(Word):
    """Leave tensors out of the comparison, such as `soteria`'s weight (Balunovic et al. 2022)."""

    names: tuple[str, ...]

    def __init__(self, *names: str):
        fit = bool(names) and all(isinstance(name, str) for name in names)
        require(fit, "names", [type(name).__name__ for name in names], "names of tensors")
        object.__setattr__(self, "names", names)

    def __repr__(self) -> str:
        return f"left_out{self.names!r}"

    def act(self, gradient: Tensors, leak: Leak) -> Tensors:
        h = _sent(leak)
        unknown = [name for name in self.names if name not in h]
        require(not unknown, "names", unknown, f"some of {list(h)}")
        return {**gradient, **{name: h[name] for name in self.names}}


@dataclass(frozen=True, repr=False)
class noisy_weights(Word):
    """Weigh tensors by how much `weights_noise` hides them, at the best common scale.

        h_l + (s g_l - h_l) / f_l,  s = sum_l <g_l, h_l> / f_l^2 / sum_l ||g_l||^2 / f_l^2

    f_l of `defenses.noise_factors(W_t, bound)`.  No learning rate has to be known.
    """

    bound: float = 0.2

    def __post_init__(self) -> None:
        positive("bound", self.bound, "a norm")

    def act(self, gradient: Tensors, leak: Leak) -> Tensors:
        f, h = noise_factors(leak.weights, self.bound), _sent(leak)
        g = {name: wide(gradient[name]) for name in h}
        inner = total((g[n] * h[n]).sum() / f[n] ** 2 for n in h)
        # s = <g, h> / <g, g>
        s = inner * inverse(total(squared(g[n]) / f[n] ** 2 for n in h))
        return {n: h[n] + (s * g[n] - h[n]) / f[n] for n in h}


def without_zeros(leak: Leak) -> Leak:
    """Weights whose zeros count as not sent, for `entries_sent`; ValueError for gradients."""
    require(leak.kind == "weights", "leak", "a gradient", "weights")
    W = leak.weights
    return replace(leak, update={n: torch.where(w != 0, w, W[n]) for n, w in leak.update.items()})


def likeliest(
    model: nn.Module, leak: Leak, images: Tensor, labels: Tensor, defend: Defend | None = None,
    *, loss: Loss = F.cross_entropy,
) -> Tensor:  # fmt: skip
    """Which of N images is behind the leak (V,), int64: argmin_j ||defend(g(W, x_j, y_j)) - h||^2.

    images (N, C, H, W), labels (N,), loss: as in `client.gradient`.  Under normal noise, and with
    images of equal probability, no attack is right more often (Neyman & Pearson).  defend: as an
    attack takes it; `clip(C)` for `dp_sgd(C, …)`.  -1 where no distance is a finite number.
    Raises ValueError for a leak that does not fit the model, a batch, weights without a `defend`
    that knows their scale, and for a network that is random or mixes the images of a batch.
    """
    check_leak(model, leak)
    require(leak.batch_size == 1, "leak", f"a batch of {leak.batch_size}", "one image")
    came = "weights, whose change is the gradient times a rate"
    knows = leak.kind == "gradient" or defend is not None
    require(knows, "leak", came, "a gradient, or a defend such as adaptive.scale_free")
    leaks = as_stack(leak)
    check_images("images", images)
    N, is_tensor = len(images), torch.is_tensor(labels)
    came = f"shape {tuple(labels.shape)}" if is_tensor else type(labels).__name__
    fit = is_tensor and labels.ndim > 0 and len(labels) == N
    require(fit, "labels", came, f"a tensor of {N} labels, one an image")
    one = first_of(leak)
    output = _network.examined(model, images[:1].shape, images, "images", one.weights, one.buffers)
    check_targets("labels", labels, loss, output.expand(N, *output.shape[1:]))
    g = gradient(model, loss)

    def distance(W: Tensors, update: Tensors, buffers: Tensors, x: Tensor, y: Tensor) -> Tensor:
        seen = replace(leak, weights=W, update=update, buffers=buffers, victims=None)
        guess = g(W, x[None], y[None], buffers)
        return distances.l2(guess if defend is None else defend(guess, seen), seen.direction)

    of_victims, V = batched(distance), len(first(leaks.weights))
    apart = torch.stack([
        of_victims(leaks.weights, leaks.update, leaks.buffers, *(t.expand(V, *t.shape) for t in xy))
        for xy in zip(images, labels)  # one image at a time, so that V gradients are held, not V N
    ]).nan_to_num(nan=torch.inf)  # fmt: skip
    return torch.where(apart.isfinite().any(0), apart.argmin(0), -1)


def _sent(leak: Leak) -> Tensors:
    """The leak's direction, of one victim."""
    require(leak.victims is None, "leak", f"a stack of {leak.victims}", "the leak of one victim")
    return leak.direction
