"""Labels out of the last layer of a leak: one image's, or how many a batch has of each class."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import one_hot

from ._errors import bad, require
from ._numbers import total
from ._words import Word
from .client import check_images, check_leak, check_training, logits_shape
from .leak import Leak, Tensors

__all__ = [
    "Labels", "UNDETERMINED", "idlg", "counts", "llg", "grad_inversion", "listed", "last_layer",
]  # fmt: skip

UNDETERMINED = -1
Labels = Tensor | Literal["joint"] | Callable[..., Tensor]
"""Class numbers (B,) or (V, B); a rule `(leak, model=None, loss=None)`; or "joint": searched."""


def matrices(leak: Leak) -> dict[str, str | None]:
    """{weight: bias} of the names of all linear layers; None for a layer without a bias."""
    axes = 2 if leak.victims is None else 3
    weights = [name for name, W in leak.weights.items() if W.ndim == axes]
    biases = [f"{name.removesuffix('weight')}bias" for name in weights]
    return {weight: b if b in leak.weights else None for weight, b in zip(weights, biases)}


def last_layer(leak: Leak, layer: str | None = None) -> tuple[str, str | None]:
    """Names of weight (C, M) and bias (C,) or None of `layer`, or the last; ValueError for none."""
    for weight, bias in reversed(matrices(leak).items()):
        if layer in (None, weight, weight.removesuffix(".weight")):
            return weight, bias
    raise bad("layer", f"no such weight in {list(leak.weights)}", "a linear layer, such as 'fc'")


@dataclass(frozen=True, repr=False)
class IDLG(Word):
    """The label (1,), or (V, 1), of one image: the only negative entry of the bias gradient.

    dl/db_i = p_i - [i = c], so c is the argmin (in a trained network p_c can round to 1).  Without
    a bias, the paper's rule: c is the only row of dl/dV whose inner products with the others are at
    most 0.  -1 where the rule cannot tell: the two smallest are within `leak.rounding`, or not just
    one row has the property.  Exact for a hard label, softmax and cross-entropy; of leaked weights
    after any steps of SGD or momentum on the one image, and of Adam where there is a bias.
    layer: its name, as in `last_layer`.  Raises ValueError for a batch of more than one.
    Source: Zhao, Mopuri & Bilen 2020 (the row rule); the bias rule has the same derivation.

    >>> from leaklib import client, models
    >>> net = models.lenet(channels=1, size=12)
    >>> idlg(client.share_gradient(net, torch.rand(1, 1, 12, 12), torch.tensor([7])))
    tensor([7])
    """

    layer: str | None = None
    called = "idlg"
    formula = r"\text{argmin}_i \, \frac{\partial \ell}{\partial b_i}"

    def act(self, leak: Leak, model: nn.Module | None = None, loss: object = None) -> Tensor:
        came = f"a batch of {leak.batch_size} images, whose label terms add up in one gradient"
        wanted = 'a batch of one; else class numbers, "joint", or labels.counts(model, leak)'
        require(leak.batch_size == 1, "leak", came, wanted)
        weight, bias = last_layer(leak, self.layer)
        read, name = (_obtuse_row, weight) if bias is None else (_smallest, bias)
        return read(leak.direction[name], leak.rounding[name])


idlg = IDLG()


def _smallest(db: Tensor, off: Tensor) -> Tensor:
    """c (..., 1) of the smallest in db (..., C), unless another may be as small within `off`."""
    c = db.argmin(-1, keepdim=True)
    as_small = (db - off <= (db + off).gather(-1, c)).sum(-1, keepdim=True)
    return torch.where(as_small == 1, c, UNDETERMINED)


def _obtuse_row(dV: Tensor, off: Tensor) -> Tensor:
    """c (..., 1), the only row of dV (..., C, M) at 90 degrees or more to all the others."""
    # what rounding leaves of a row says nothing: an entry that it may have made counts as 0
    dV = torch.where(dV.abs() > off, dV, 0.0)
    inner = dV @ dV.mT  # (..., C, C): <dV_i, dV_j>
    others = ~torch.eye(inner.shape[-1], dtype=torch.bool, device=dV.device)
    is_label = ((inner <= 0) | ~others).all(-1) & ((inner < 0) & others).any(-1)  # (..., C)
    c = is_label.int().argmax(-1, keepdim=True)
    return torch.where(is_label.sum(-1, keepdim=True) == 1, c, UNDETERMINED)


def counts(
    model: nn.Module, leak: Leak, images: Tensor | None = None,
    *, lr: float | None = None, steps: int = 1, layer: str | None = None,
) -> Tensor:  # fmt: skip
    """How many images of each class are in a batch: counts (C,), or (V, C), that sum to B.

    As the last layer has dl/db_j = mean_k p_kj - n_j / B, n_j is B (mean p_j - dl/db_j), brought to
    n >= 0 and rounded.  The attacker knows all but mean p, and estimates it
    - from images (M, C, H, W) of its own, or noise, as the network's mean p on them: good where p
      is nearly the same for all images, as before training;
    - or out of the gradient: row i of dl/dV has seen the features e_i = (dl/dV_i) / (dl/db_i), and
      with pi_i = softmax(V e_i + b) for images of class i, least squares of
          sum_i n_i pi_ij - n_j = B dl/db_j  for every class j,   sum_i n_i = B.
    Leaked weights need the client's lr and steps of SGD: dl/db is (b_t - b_{t+1}) / (lr steps), p
    and pi are means along the straight way from the first step's weights to the last one's.
    Raises ValueError for weights without lr, a gradient with one, a last layer without bias, and
    images that do not fit the model.  Source: published code of Ma et al. 2022 (the system) and
    Dimitrov et al. 2022 (p along the way); Geng et al. 2021 (images of one's own).

    >>> from leaklib import client, data, models
    >>> (x, y), net = data.load("digits", 8), models.lenet(channels=1, size=28, init="torch")
    >>> torch.equal(counts(net, client.share_gradient(net, x, y)), y.bincount(minlength=10))
    True
    """
    check_leak(model, leak)
    scale, B = _scale(leak, lr, steps), leak.batch_size
    weight, bias = last_layer(leak, layer)
    if bias is None:
        raise bad("layer", f"{weight!r}, which has no bias", "a last layer with a bias")
    dV, db = (leak.direction[name].double() / scale for name in (weight, bias))
    if images is not None:
        # n_j = B (mean p_j - dl/db_j)
        p = _mean_probabilities(model, leak, images, steps, db.shape[-1]).reshape(db.shape)
        return _whole_numbers(B * (p - db), B)
    # e_i = (dl/dV_i) / (dl/db_i)
    e = torch.where(db[..., None] == 0, 0.0, dV / db[..., None])  # (..., C, M)
    # pi_i = softmax(V e_i + b)
    pi = total(
        share * (e @ W[weight].double().mT + W[bias].double()[..., None, :]).softmax(-1)
        for share, W in _ends(leak, steps)
    )  # (..., C, C)
    # sum_i n_i pi_ij - n_j = B dl/db_j;  sum_i n_i = B
    left = torch.cat([pi.mT - torch.eye(pi.shape[-1]).to(pi), torch.ones_like(pi[..., :1, :])], -2)
    right = torch.cat([B * db, torch.full_like(db[..., :1], B)], -1)  # (..., C + 1)
    # the driver that bears a singular system: a class that no row has seen
    n = torch.linalg.lstsq(left.cpu(), right.cpu()[..., None], driver="gelsd").solution[..., 0]
    return _whole_numbers(n, B).to(db.device)


def _scale(leak: Leak, lr: float | None, steps: int) -> float:
    """By what a direction is divided to be the mean gradient of a client's steps."""
    if leak.kind == "gradient":
        for name, value, one in (("lr", lr, None), ("steps", steps, 1)):
            require(value == one, name, value, f"{one} for a gradient, whose scale is known")
        return 1.0
    if lr is None:
        raise bad("leak", "weights, a gradient at an unknown scale", "a gradient, or lr and steps")
    check_training(lr=lr, steps=steps)
    return lr * steps


def _ends(leak: Leak, steps: int) -> list[tuple[float, Tensors]]:
    """The weights that are known of a client's steps, each with its share in their mean."""
    if leak.kind == "gradient":
        return [(1.0, leak.weights)]
    # step j of T begins at W_t + (j / T) (W_{t+1} - W_t), nearly; the mean of j / T:
    after = (steps - 1) / (2 * steps)
    return [(1 - after, leak.weights), (after, leak.update)]


@torch.no_grad()
def _mean_probabilities(model: nn.Module, leak: Leak, images: Tensor, steps: int, C: int) -> Tensor:
    """The mean p (V, C) of the images, by each victim's own network, or networks."""
    like = next(iter(leak.weights.values()))
    images = images.to(like) if torch.is_tensor(images) else images
    check_images("images", images)
    outputs = logits_shape(model, images.shape, like=like, name="images")[-1]
    came = f"a layer of {C} outputs in a network of {outputs}"
    require(outputs == C, "layer", came, "the layer that makes the logits")

    def p(W: Tensors, v: int) -> Tensor:
        of = lambda tensors: {n: t if leak.victims is None else t[v] for n, t in tensors.items()}  # noqa: E731
        logits = functional_call(model, (of(W), of(leak.buffers)), (images,))
        return logits.softmax(-1).double().mean(0)  # (C,)

    ends, V = _ends(leak, steps), leak.victims or 1
    return torch.stack([total(share * p(W, v) for share, W in ends) for v in range(V)])


def _whole_numbers(n: Tensor, B: int) -> Tensor:
    """The counts nearest to n (..., C) among those that are never negative and sum to B."""
    # onto the simplex: n - t where that is positive, t such that the sum is B
    largest, rank = n.sort(-1, descending=True).values, torch.arange(1, n.shape[-1] + 1).to(n)
    n = (n - ((largest.cumsum(-1) - B) / rank).amax(-1, keepdim=True)).clamp(min=0)
    # the largest remainders round up
    down = n.floor()
    place = (n - down).argsort(-1, descending=True).argsort(-1)
    return (down + (place < (B - down.sum(-1, keepdim=True)).round())).long()


def llg(leak: Leak, *, layer: str | None = None) -> Tensor:
    """LLG's counts (C,), or (V, C): labels by the direction and the size of the rows of dl/dV.

    With g_i = sum_m dl/dV_im and m = (1/B) (1 + 1/C) sum_{g_i < 0} g_i, every class with g_i < 0
    gets one label; then, until there are B, that of the smallest g_i the next; each time
    g_i <- g_i - m.  Assumes features that are not negative, and that every image moves its row by
    the same m.  A class shows as negative only where n_i / B > mean p_i.
    Source: Wainakh et al. 2022, published code (without data of its own).

    >>> from leaklib import client, data, models
    >>> (x, y), net = data.load("digits", 8), models.lenet(channels=1, size=28, init="torch")
    >>> int(llg(client.share_gradient(net, x, y)).sum())
    8
    """
    g = leak.direction[last_layer(leak, layer)[0]].double().sum(-1)  # (..., C)
    B, C = leak.batch_size, g.shape[-1]
    # m = (1/B) (1 + 1/C) sum_{g_i < 0} g_i
    m = (1 + 1 / C) / B * g.clamp(max=0).sum(-1, keepdim=True)
    # no more than B classes can be there: the most negative ones
    n = one_hot(g.argsort(-1)[..., :B], C).sum(-2) * (g < 0)
    g = g - n * m
    for _ in range(B):
        next_one = one_hot(g.argmin(-1), C) * (n.sum(-1, keepdim=True) < B)
        n, g = n + next_one, g - next_one * m
    return n


def grad_inversion(leak: Leak, *, layer: str | None = None) -> Tensor:
    """GradInversion's counts (C,), or (V, C), of zeros and ones: the B smallest min_m dl/dV_im.

    Assumes that no class occurs twice, and features that are never negative.
    Raises ValueError for more images than classes.  Source: Yin et al. 2021, in a published port.

    >>> from leaklib import client, data, models
    >>> (x, _), net = data.load("digits", 3), models.lenet(channels=1, size=28, init="torch")
    >>> grad_inversion(client.share_gradient(net, x, torch.tensor([1, 4, 8])))
    tensor([0, 1, 0, 0, 1, 0, 0, 0, 1, 0])
    """
    smallest = leak.direction[last_layer(leak, layer)[0]].amin(-1)  # (..., C): min_m dl/dV_im
    B, C = leak.batch_size, smallest.shape[-1]
    require(B <= C, "leak", f"{B} images of {C} classes: a class repeats", "at most C images")
    return one_hot(smallest.argsort(-1)[..., :B], C).sum(-2)


def listed(counts: Tensor) -> Tensor:
    """The ascending labels (B,), or (V, B), of counts (C,), or (V, C); ValueError for no counts."""
    n = torch.as_tensor(counts)
    fit, got = n.dtype == torch.int64 and n.ndim in (1, 2), f"shape {tuple(n.shape)} of {n.dtype}"
    require(fit and (n >= 0).all(), "counts", got, "(C,) or (V, C) int64, n >= 0")
    fit = len((sums := n.sum(-1)).unique()) == 1 and sums.min() >= 1
    require(fit, "counts", f"sums of {sums.tolist()}", "the same positive sum for each victim")
    classes = torch.arange(n.shape[-1], device=n.device).expand(n.shape)
    return classes.reshape(-1).repeat_interleave(n.reshape(-1)).reshape(*n.shape[:-1], -1)
