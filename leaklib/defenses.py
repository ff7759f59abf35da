"""What a client does against leakage, by calls such as `gaussian(1e-2)`: the `defense` of a client.

There are three kinds.  Most are functions of the direction, (direction, generator) -> direction;
they leave their input untouched, and `compose` joins them.  `dp_sgd` and `soteria` take the place
of the gradient.  `weights_noise` and `weights_sparsify` change the new weights themselves.
(Networks that defend are in `keylock`.)  The generator is the client's stream for noise; masks are
drawn from a `random.child` of it.  A number out of its range raises ValueError.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from . import random
from ._batching import batched
from ._errors import at_least_0, bad, one_of, positive, share
from ._numbers import norm, total
from .client import InPlaceOfGradient, OnWeights, gradient
from .leak import Tensors

__all__ = [
    "OfDirection", "gaussian", "laplace", "clip", "prune", "quantize", "half", "random_mask",
    "compose", "dp_sgd", "soteria", "weights_noise", "weights_sparsify",
    "noise_factors", "spacing_of",
]  # fmt: skip

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
    return _noise("gaussian", sigma, relative)


def laplace(b: float, relative: bool = False) -> OfDirection:
    """Add independent Laplace noise to every entry: g + b L, of density exp(-|L|) / 2.

    b >= 0, with the standard deviation sqrt(2) b; `relative` as in `gaussian`.
    Source: Zhu et al. 2019.

    >>> noisy = laplace(0.1)({"w": torch.zeros(10_000)}, random.generator(0, "noise"))
    >>> print(f"{noisy['w'].std():.2f}")
    0.14
    """
    at_least_0("b", b, "a scale")
    return _noise("laplace", b, relative)


def clip(C: float) -> OfDirection:
    """Shorten the whole direction to the norm C where it is longer: g min(1, C / ||g||).

    C > 0.  Source: Abadi et al. 2016, Algorithm 1.

    >>> clip(1.0)({"w": torch.tensor([3.0]), "b": torch.tensor([-4.0])}, torch.Generator())
    {'w': tensor([0.6000]), 'b': tensor([-0.8000])}
    """
    positive("C", C, "a norm")

    def defend(direction: Tensors, generator: torch.Generator) -> Tensors:
        scale = (C / norm(direction)).clamp(max=1)
        return {name: scale * g for name, g in direction.items()}

    return defend


def prune(p: float, whole: bool = False) -> OfDirection:
    """Set to zero the share p of each tensor's entries that are smallest in magnitude.

    0 <= p <= 1; floor(p n) of n entries are dropped.  With `whole` they are the smallest of all
    tensors together.  Source: Zhu et al. 2019 (gradient compression).

    >>> prune(0.5)({"w": torch.tensor([3.0, -4.0, 1.0, -2.0])}, torch.Generator())
    {'w': tensor([ 3., -4.,  0.,  0.])}
    """
    share("p", p)
    if not whole:
        return _of_each(lambda g: _without_smallest(g, p))
    return lambda direction, generator: _shaped(_without_smallest(_flat(direction), p), direction)


def quantize(bits: int) -> OfDirection:
    """Round every entry to the nearest of 2^bits - 1 even levels, from -max |g| to max |g|.

    delta round(g / delta), with delta = `spacing_of(bits)` of each tensor; 2 <= bits <= 16.

    >>> quantize(3)({"w": torch.tensor([3.0, -1.2, 0.3])}, torch.Generator())
    {'w': tensor([ 3., -1.,  0.])}
    """
    spacing = spacing_of(bits)

    def rounded(g: Tensor) -> Tensor:
        delta = spacing(g)
        return torch.where(delta > 0, delta * (g / delta).round(), g)

    return _of_each(rounded)


def spacing_of(bits: int) -> Callable[[Tensor], Tensor]:
    """delta = max |g| / (2^(bits - 1) - 1), between the levels of `quantize(bits)` for g."""
    if not (isinstance(bits, int) and 2 <= bits <= 16):
        raise bad("bits", bits, "a whole number from 2 to 16")
    return lambda g: g.abs().max() / (2 ** (bits - 1) - 1)


def half(dtype: torch.dtype = torch.float16) -> OfDirection:
    """Send every entry in half precision: rounded to `dtype`, and back to what it was.

    dtype: torch.float16 or torch.bfloat16.  Source: Zhu et al. 2019.

    >>> half(torch.bfloat16)({"w": torch.tensor([1.001])}, torch.Generator())
    {'w': tensor([1.])}
    """
    if dtype not in (torch.float16, torch.bfloat16):
        raise bad("dtype", dtype, "torch.float16 or torch.bfloat16")
    return _of_each(lambda g: g.to(dtype).to(g))


def random_mask(p: float, rescale: bool = False) -> OfDirection:
    """Random Gradient Masking: set to zero each entry with probability p, drawn anew every round.

    m_i g_i,  m_i ~ Bernoulli(1 - p);  with `rescale`, and p < 1, m_i g_i / (1 - p): g on average.
    Source: Kim & Park 2024, abstract; the body could not be read, the formula is the usual one.

    >>> masked = random_mask(0.9)({"w": torch.ones(10_000)}, random.generator(0, "noise"))
    >>> print(f"{masked['w'].mean():.2f}")
    0.10
    """
    share("p", p)
    if rescale and p == 1:
        raise bad("p", p, "a share below 1, because the rest is divided by 1 - p")

    def defend(direction: Tensors, generator: torch.Generator) -> Tensors:
        draws, masked = random.child(generator, "mask"), {}
        for name, g in direction.items():
            m = torch.rand(g.shape, generator=draws, device=g.device) >= p
            masked[name] = m * g / (1 - p) if rescale else m * g
        return masked

    return defend


def compose(*defend: OfDirection) -> OfDirection:
    """Several functions of the direction, one after the other; ValueError for another kind.

    >>> compose(prune(0.5), clip(1.0))({"w": torch.tensor([3.0, -4.0])}, torch.Generator())
    {'w': tensor([ 0., -1.])}
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

    C = `clip` > 0 bounds what an image can change, and sigma = `noise` >= 0 is in its units.
    Privacy: `privacy.epsilon`, for batches drawn as it says.  Source: Abadi et al. 2016.

    >>> model, x, y = nn.Linear(2, 3), torch.rand(8, 2), torch.arange(8) % 3
    >>> g = dp_sgd(0.01, 0).gradient(model, torch.Generator())(dict(model.named_parameters()), x, y)
    >>> bool(norm(g) <= 0.01)
    True
    """
    positive("clip", clip, "a norm")
    at_least_0("noise", noise, "a multiple of clip")
    add_noise = _noise("gaussian", noise * clip)

    def clipped_and_noisy(model: nn.Module, generator: torch.Generator) -> Callable[..., Tensors]:
        plain = gradient(model)

        def g(W: Tensors, x: Tensor, y: Tensor, buffers: Tensors | None = None) -> Tensors:
            each = batched(lambda x, y: _flat(plain(W, x[None], y[None], buffers)))(x, y)  # (B, N)
            scale = (clip / each.norm(dim=1)).clamp(max=1)  # (B,)
            summed = _shaped(scale @ each, W)
            return {name: d / len(x) for name, d in add_noise(summed, generator).items()}

        return g

    return InPlaceOfGradient(clipped_and_noisy)


def soteria(layer: str, q: float) -> InPlaceOfGradient:
    """Hide what an image tells a linear layer: drop the columns of the inputs that tell the most.

        r (B, M) the inputs of the layer;  score_f = sum_b ||d r_bf / d x_b|| / |r_bf|

    layer: its name.  Of the columns of dV the floor(q M) with the smallest score become zero, those
    of inputs that are large against their derivative and so pin the image down.  0 <= q <= 1.
    Source: Sun et al. 2021, published code (where r stands for |r|: it always drops a negative r).

    >>> model = nn.Sequential(nn.Sigmoid(), nn.Linear(4, 3))
    >>> W, g = dict(model.named_parameters()), soteria("1", 0.5).gradient(model, torch.Generator())
    >>> int((g(W, torch.rand(1, 4), torch.tensor([2]))["1.weight"] == 0).all(0).sum())
    2
    """
    share("q", q)

    def with_columns_dropped(model: nn.Module, _: torch.Generator) -> Callable[..., Tensors]:
        known = dict(model.named_modules())
        if not isinstance(known.get(layer), nn.Linear):
            linear = [name for name, module in known.items() if isinstance(module, nn.Linear)]
            raise bad("layer", repr(layer), f"a linear layer of the model: {', '.join(linear)}")
        plain = gradient(model)

        def g(W: Tensors, x: Tensor, y: Tensor, buffers: Tensors | None = None) -> Tensors:
            def inputs(image: Tensor) -> tuple[Tensor, Tensor]:
                seen = []
                hook = known[layer].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
                try:
                    functional_call(model, (W, buffers or {}), (image[None],))
                finally:
                    hook.remove()
                r = seen[0].reshape(-1)  # (M,)
                return r, r

            def score(image: Tensor) -> Tensor:
                slopes, r = jacrev(inputs, has_aux=True)(image)  # (M, …), (M,)
                return slopes.flatten(1).norm(dim=1) / (r.abs() + 1e-10)

            scores = total(score(image) for image in x)
            dropped = scores.argsort()[: int(q * len(scores))]
            update, weight = plain(W, x, y, buffers), f"{layer}.weight"
            return {**update, weight: update[weight].index_fill(1, dropped, 0)}

        return g

    return InPlaceOfGradient(with_columns_dropped)


def weights_noise(
    b: float, law: Literal["laplace", "gaussian"] = "laplace",
    *, bound: float = 0.2, both: bool = False,
) -> OnWeights:  # fmt: skip
    """Noise on the weights, the first defence of DLM's paper: W + f b L for each tensor.

    f is that of `noise_factors(W, bound)`, L of the Laplace law (standard deviation sqrt(2)), or
    normal.  b >= 0 and bound > 0.  both: W_t is changed as well, though the server knows it anyway.
    Source: Zhao, Luo & Ding 2022, published code (dlm_defense.py), which calls it differential
    privacy: it divides W by f and multiplies by f again, so that nothing is clipped.

    >>> noisy = weights_noise(1e-3).change({"w": torch.ones(10_000)}, random.generator(0, "noise"))
    >>> print(f"{(noisy['w'] - 1).std():.1f}")  # sqrt(2) f b, with f = 100 / 0.2
    0.7
    """
    at_least_0("b", b, "a scale")
    positive("bound", bound, "a norm")
    one_of("law", law, LAWS)

    def change(weights: Tensors, generator: torch.Generator) -> Tensors:
        f = noise_factors(weights, bound)
        return {n: W + f[n] * b * _draw(law, W, generator) for n, W in weights.items()}

    return OnWeights(change, both)


def noise_factors(weights: Tensors, bound: float = 0.2) -> Tensors:
    """f = max(1, n(W) / bound), how much louder than b `weights_noise` is on each tensor.

    n(W) is the norm of a vector, and of more dimensions the largest norm along the second.
    """
    largest = {n: W.norm() if W.ndim < 2 else W.norm(dim=1).max() for n, W in weights.items()}
    return {name: (size / bound).clamp(min=1) for name, size in largest.items()}


def weights_sparsify(s: float, *, both: bool = False) -> OnWeights:
    """Drop the smallest weights of each tensor, floor(s n) of n: DLM's paper's second defence.

    0 <= s <= 1.  both: as in `weights_noise`.
    Source: Zhao, Luo & Ding 2022, published code (dlm_defense.py, which divides s by ten).

    >>> weights_sparsify(0.5).change({"w": torch.tensor([3.0, 4.0])}, torch.Generator())
    {'w': tensor([0., 4.])}
    """
    share("s", s)
    return OnWeights(_of_each(lambda W: _without_smallest(W, s)), both)


def _laplace(shape: torch.Size, *, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draws of density exp(-|L|) / 2: the difference of two exponential ones."""
    draw = lambda: torch.empty(shape, device=device).exponential_(generator=generator)  # noqa: E731
    return draw() - draw()


LAWS = {"laplace": _laplace, "gaussian": torch.randn}


def _draw(law: str, like: Tensor, generator: torch.Generator) -> Tensor:
    return LAWS[law](like.shape, generator=generator, device=like.device).to(like)


def _noise(law: str, scale: float, relative: bool = False) -> OfDirection:
    def defend(direction: Tensors, generator: torch.Generator) -> Tensors:
        count = sum(g.numel() for g in direction.values())
        unit = scale * float(norm(direction) / math.sqrt(count)) if relative else scale
        return {name: g + unit * _draw(law, g, generator) for name, g in direction.items()}

    return defend


def _of_each(change: Callable[[Tensor], Tensor]) -> OfDirection:
    """The defence that changes each tensor by itself, and draws nothing."""
    return lambda direction, generator: {name: change(g) for name, g in direction.items()}


def _flat(direction: Tensors) -> Tensor:
    """All entries (N,) of a direction."""
    return torch.cat([g.flatten() for g in direction.values()])


def _shaped(entries: Tensor, like: Tensors) -> Tensors:
    """Entries (N,) as the tensors that they were, by the names and shapes of `like`."""
    parts = entries.split([t.numel() for t in like.values()])
    return {name: part.reshape(t.shape).to(t) for (name, t), part in zip(like.items(), parts)}


def _without_smallest(d: Tensor, p: float) -> Tensor:
    """floor(p n) of the n entries set to zero, those smallest in magnitude."""
    smallest = d.abs().flatten().argsort()[: int(p * d.numel())]
    return d.flatten().index_fill(0, smallest, 0).reshape(d.shape)
