"""What a client does against leakage, by calls such as `gaussian(1e-2)`: the `defense` of a client.

There are three kinds.  Most are functions of the direction, (direction, generator) -> direction;
they leave their input untouched, and `compose` joins them.  `dp_sgd` and `soteria` take the place
of the gradient.  `weights_noise` and `weights_sparsify` change the new weights themselves.
(Networks that defend are in `keylock`.)  The attacker who does not know of the defence compares its
own clean gradient with what was sent; `adaptive` is the one who does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from ._errors import at_least_0, bad, positive, share
from ._numbers import norm as whole_norm
from .client import InPlaceOfGradient, OnWeights, gradient
from .leak import Tensors

OfDirection = Callable[[Tensors, torch.Generator], Tensors]


def gaussian(sigma: float, relative: bool = False) -> OfDirection:
    """Add independent normal noise to every entry: g + sigma N(0, I).

    sigma >= 0 is absolute; with `relative` it is a multiple of the root mean square of the whole
    direction, so that the noise is about sigma times as long as the direction.
    This is noise, not differential privacy: nothing bounds what one image can change.
    Raises ValueError for a negative sigma.  Source: Zhu et al. 2019 (noisy gradients).
    """
    at_least_0("sigma", sigma, "a standard deviation")
    return _noise(torch.randn, sigma, relative)


def laplace(b: float, relative: bool = False) -> OfDirection:
    """Add independent Laplace noise to every entry: g + b L, of density exp(-|L|) / 2.

    b >= 0 is absolute, with the standard deviation sqrt(2) b; `relative` as in `gaussian`.
    Raises ValueError for a negative b.  Source: Zhu et al. 2019 (noisy gradients).
    """
    at_least_0("b", b, "a scale")
    return _noise(_laplace, b, relative)


def clip(C: float) -> OfDirection:
    """Shorten the whole direction to the norm C where it is longer: g min(1, C / ||g||).

    One scale for all tensors, so that the direction is what it was.  C > 0.
    Raises ValueError for another C.  Source: Abadi et al. 2016, Algorithm 1.
    """
    positive("C", C, "a norm")

    def defend(direction: Tensors, generator: torch.Generator) -> Tensors:
        # g min(1, C / ||g||)
        scale = (C / whole_norm(direction)).clamp(max=1)
        return {name: scale * d for name, d in direction.items()}

    return defend


def prune(p: float, whole: bool = False) -> OfDirection:
    """Set to zero the share p of each tensor's entries that are smallest in magnitude.

    0 <= p <= 1; floor(p n) of n entries are dropped.  With `whole` they are the smallest of all
    tensors together.  Raises ValueError for another p.
    Source: Zhu et al. 2019 (gradient compression).
    """
    share("p", p)

    def defend(direction: Tensors, generator: torch.Generator) -> Tensors:
        if not whole:
            return {name: _without_smallest(d, p) for name, d in direction.items()}
        sizes = [d.numel() for d in direction.values()]
        flat = _without_smallest(torch.cat([d.flatten() for d in direction.values()]), p)
        parts = zip(direction.items(), flat.split(sizes))
        return {name: part.reshape(d.shape) for (name, d), part in parts}

    return defend


def quantize(bits: int) -> OfDirection:
    """Round every entry to the nearest of 2^bits - 1 even levels, from -max |g| to max |g|.

    delta round(g / delta),  delta = max |g| / (2^(bits - 1) - 1), for each tensor.  Zero is a
    level; two bits leave -max, 0 and max.  2 <= bits <= 16.  Raises ValueError for other bits.
    """
    spacing = spacing_of(bits)

    def defend(direction: Tensors, generator: torch.Generator) -> Tensors:
        rounded = {}
        for name, d in direction.items():
            delta = spacing(d)
            rounded[name] = torch.where(delta > 0, delta * (d / delta).round(), d)
        return rounded

    return defend


def spacing_of(bits: int) -> Callable[[Tensor], Tensor]:
    """How far apart the levels of `quantize(bits)` are, for a tensor before rounding or after it.

    delta = max |g| / (2^(bits - 1) - 1).  Raises ValueError unless 2 <= bits <= 16.
    """
    if not (isinstance(bits, int) and 2 <= bits <= 16):
        raise bad("bits", bits, "a whole number from 2 to 16")
    # delta = max |g| / (2^(bits - 1) - 1)
    return lambda g: g.abs().max() / (2 ** (bits - 1) - 1)


def half(dtype: torch.dtype = torch.float16) -> OfDirection:
    """Send every entry in half precision: rounded to `dtype`, and back to what it was.

    Raises ValueError unless dtype is torch.float16 or torch.bfloat16.
    Source: Zhu et al. 2019 (half precision).
    """
    if dtype not in (torch.float16, torch.bfloat16):
        raise bad("dtype", dtype, "torch.float16 or torch.bfloat16")

    def defend(direction: Tensors, generator: torch.Generator) -> Tensors:
        return {name: d.to(dtype).to(d) for name, d in direction.items()}

    return defend


def random_mask(p: float, rescale: bool = False) -> OfDirection:
    """Random Gradient Masking: set to zero each entry with probability p, drawn anew every round.

    m_i g_i,  m_i ~ Bernoulli(1 - p);  with `rescale` m_i g_i / (1 - p), which is g on average.
    0 <= p <= 1, and below 1 with `rescale`.  Raises ValueError for another p.
    Source: Kim & Park 2024, abstract; the body could not be read, the formula is the usual one.
    """
    share("p", p)
    if rescale and p == 1:
        raise bad("p", p, "a share below 1, for the rest is divided by 1 - p")

    def defend(direction: Tensors, generator: torch.Generator) -> Tensors:
        masked = {}
        for name, d in direction.items():
            # m_i g_i / (1 - p)
            m = torch.rand(d.shape, generator=generator, device=d.device) >= p
            masked[name] = m * d / (1 - p) if rescale else m * d
        return masked

    return defend


def compose(*defend: OfDirection) -> OfDirection:
    """Several functions of the direction, one after the other.

    Raises ValueError for the other two kinds of defence, which are not functions of a direction.
    """
    for i, part in enumerate(defend):
        if not callable(part):
            raise bad(f"defend[{i}]", type(part).__name__, "a function of the direction")

    def joined(direction: Tensors, generator: torch.Generator) -> Tensors:
        for part in defend:
            direction = part(direction, generator)
        return direction

    return joined


def dp_sgd(clip: float, noise: float) -> InPlaceOfGradient:
    """The gradient of DP-SGD: each image's own is clipped, then noise hides any one of them.

        g = (1/B) [ sum_i g_i min(1, C / ||g_i||) + sigma C N(0, I) ]

    C = `clip` > 0 bounds what an image can change, and sigma = `noise` >= 0 is in its units.  What
    it costs in privacy is `epsilon`, for batches drawn as that function says.
    Raises ValueError for another clip or noise.  Source: Abadi et al. 2016, Algorithm 1.
    """
    positive("clip", clip, "a norm")
    at_least_0("noise", noise, "a multiple of clip")

    def private_gradient(model: nn.Module, generator: torch.Generator) -> Callable[..., Tensors]:
        g = gradient(model)

        def private(W: Tensors, x: Tensor, y: Tensor, buffers: Tensors | None = None) -> Tensors:
            # g_i (B, ...), of one image each
            each = vmap(lambda x, y: g(W, x[None], y[None], buffers))(x, y)
            # min(1, C / ||g_i||)
            norms = sum(d.flatten(1).square().sum(1) for d in each.values()).sqrt()  # (B,)
            scale = (clip / norms).clamp(max=1)
            summed = {name: torch.tensordot(scale, d, 1) for name, d in each.items()}
            noisy = _noise(torch.randn, noise * clip, False)(summed, generator)
            return {name: d / len(x) for name, d in noisy.items()}

        return private

    return InPlaceOfGradient(private_gradient)


def soteria(layer: str, q: float) -> InPlaceOfGradient:
    """Hide what an image tells a linear layer: drop the columns of the inputs that tell the most.

        r (B, M) the inputs of the layer;  score_f = sum_b ||d r_bf / d x_b|| / |r_bf|

    The share q of the columns of dV with the smallest score are set to zero, floor(q M) of them;
    the bias and the other layers are sent as they are.  0 <= q <= 1.
    The smallest are those that the paper keeps from the attacker: an input that is large against
    its derivative pins the image down.  The published code has r in place of |r|, so that a
    negative input is always dropped.
    Raises ValueError for another q, and for a layer that is not linear.
    Source: Sun et al. 2021, published code.
    """
    share("q", q)

    def private_gradient(model: nn.Module, generator: torch.Generator) -> Callable[..., Tensors]:
        known = dict(model.named_modules())
        if not isinstance(known.get(layer), nn.Linear):
            linear = [name for name, module in known.items() if isinstance(module, nn.Linear)]
            raise bad("layer", repr(layer), f"a linear layer of the model: {', '.join(linear)}")
        g = gradient(model)

        def private(W: Tensors, x: Tensor, y: Tensor, buffers: Tensors | None = None) -> Tensors:
            def inputs(x: Tensor) -> tuple[Tensor, Tensor]:
                seen = []
                hook = known[layer].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
                try:
                    functional_call(model, (W, buffers or {}), (x[None],))
                finally:
                    hook.remove()
                r = seen[0].reshape(-1)  # (M,)
                return r, r

            score = 0
            for image in x:
                slopes, r = jacrev(inputs, has_aux=True)(image)  # (M, …), (M,)
                # score_f = sum_b ||d r_bf / d x_b|| / |r_bf|
                score = score + slopes.flatten(1).norm(dim=1) / (r.abs() + 1e-10)
            dropped = score.argsort()[: int(q * len(score))]
            update = g(W, x, y, buffers)
            weight = f"{layer}.weight"
            return {**update, weight: update[weight].index_fill(1, dropped, 0)}

        return private

    return InPlaceOfGradient(private_gradient)


def weights_noise(
    b: float,
    law: Literal["laplace", "gaussian"] = "laplace",
    *,
    bound: float = 0.2,
    both: bool = False,
) -> OnWeights:
    """Noise on the weights, the first defence of DLM's paper: W + f b L for each tensor.

    f is that of `noise_factors`, L of the Laplace law (standard deviation sqrt(2)), or normal.
    The published code calls it differential privacy: it divides W by f and multiplies by f again,
    so that nothing is clipped.
    both: W_t is changed as well, though the server that sent it knows it anyway.
    Raises ValueError for a negative b, a bound that is not positive, and another law.
    Source: Zhao, Luo & Ding 2022, published code (dlm_defense.py).
    """
    at_least_0("b", b, "a scale")
    positive("bound", bound, "a norm")
    laws = {"laplace": _laplace, "gaussian": torch.randn}
    if law not in laws:
        raise bad("law", repr(law), f"one of {', '.join(laws)}")

    def change(weights: Tensors, generator: torch.Generator) -> Tensors:
        f = noise_factors(weights, bound)
        return {
            name: W + f[name] * b * laws[law](W.shape, generator=generator, device=W.device).to(W)
            for name, W in weights.items()
        }

    return OnWeights(change, both)


def noise_factors(weights: Tensors, bound: float = 0.2) -> Tensors:
    """How much louder than b `weights_noise` is on each tensor: {name: ()}, at least 1.

    f = max(1, n(W) / bound),  n(W) the norm of a vector, and of a W with more dimensions the
    largest norm along the second.  Source: Zhao, Luo & Ding 2022, published code.
    """
    largest = {n: W.norm() if W.ndim < 2 else W.norm(dim=1).max() for n, W in weights.items()}
    return {name: (size / bound).clamp(min=1) for name, size in largest.items()}


def weights_sparsify(s: float, *, both: bool = False) -> OnWeights:
    """Drop the smallest weights, the second defence of DLM's paper: the share s of each tensor.

    0 <= s <= 1; floor(s n) of n weights become zero.  both as in `weights_noise`.
    Raises ValueError for another s.
    Source: Zhao, Luo & Ding 2022, published code (dlm_defense.py, which divides s by ten).
    """
    share("s", s)
    return OnWeights(
        lambda weights, generator: {n: _without_smallest(W, s) for n, W in weights.items()}, both
    )


def _noise(draw: Callable[..., Tensor], scale: float, relative: bool) -> OfDirection:
    def defend(direction: Tensors, generator: torch.Generator) -> Tensors:
        unit = scale * (_root_mean_square(direction) if relative else 1)
        return {
            name: d + unit * draw(d.shape, generator=generator, device=d.device).to(d)
            for name, d in direction.items()
        }

    return defend


def _laplace(shape: torch.Size, *, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draws of density exp(-|L|) / 2: the difference of two exponential ones."""
    draw = lambda: torch.empty(shape, device=device).exponential_(generator=generator)  # noqa: E731
    return draw() - draw()


def _without_smallest(d: Tensor, p: float) -> Tensor:
    """floor(p n) of the n entries set to zero, those smallest in magnitude."""
    smallest = d.abs().flatten().argsort()[: int(p * d.numel())]
    return d.flatten().index_fill(0, smallest, 0).reshape(d.shape)


def _root_mean_square(direction: Tensors) -> float:
    return float(whole_norm(direction) / math.sqrt(sum(d.numel() for d in direction.values())))
