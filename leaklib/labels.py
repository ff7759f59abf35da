"""Labels out of the last layer of a leak: no optimisation, no private image.

`idlg` reads the one label behind one image.  The others say of a batch how many of its B images are
of each class: counts (C,), or (V, C) for a stack.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import one_hot

from ._errors import bad, positive
from ._numbers import total
from ._words import Word
from .client import check_leak, logits_shape
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
    weights = (name for name, W in leak.weights.items() if W.ndim == axes)
    biases = ((name, f"{name.removesuffix('weight')}bias") for name in weights)
    return {weight: bias if bias in leak.weights else None for weight, bias in biases}


def last_layer(leak: Leak, layer: str | None = None) -> tuple[str, str | None]:
    """Names of the weight (C, M) and the bias (C,), or None, of the layer that makes the logits.

    The last of the `matrices`, or the layer called `layer`.  Raises ValueError where there is none.
    """
    for weight, bias in reversed(matrices(leak).items()):
        if layer in (None, weight, weight.removesuffix(".weight")):
            return weight, bias
    came = f"no such weight among {list(leak.weights)}"
    raise bad("layer", came, "the name of a linear layer, such as 'fc'")


@dataclass(frozen=True, repr=False)
class IDLG(Word):
    """The label (1,), or (V, 1), of one image: the only negative entry of the bias gradient.

    dl/db_i = p_i - [i = c], so c is the smallest entry.  It is read as the argmin, not by its sign:
    in a trained network p_c can round to 1.  Where the layer has no bias, the paper's rule:
    c is the only row of dl/dV whose inner product with every other row is at most 0.

    -1 where the rule cannot tell: the smallest entry is tied, or nearer to the next than
    `leak.rounding`, or no row, or more than one, has the property.  Exact for a hard label, softmax
    and cross-entropy; of leaked weights after any number of steps of SGD or momentum on the one
    image, and of Adam where there is a bias.  layer: its name, as in `last_layer`.
    Raises ValueError for a batch of more than one.
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
        if leak.batch_size != 1:
            raise bad(
                "leak",
                f"a batch of {leak.batch_size} images, whose label terms add up in one gradient",
                'a batch of one; an attack takes class numbers, or labels="joint", and '
                "labels.counts(model, leak) says how many there are of each class",
            )
        weight, bias = last_layer(leak, self.layer)
        read, name = (_obtuse_row, weight) if bias is None else (_smallest, bias)
        return read(leak.direction[name], leak.rounding[name])


idlg = IDLG()


def _smallest(db: Tensor, off: Tensor) -> Tensor:
    """c (..., 1) of the smallest in db (..., C), unless another may be as small within `off`."""
    c = db.argmin(-1, keepdim=True)
    ties = (db - off <= (db + off).gather(-1, c)).sum(-1, keepdim=True)
    return torch.where(ties == 1, c, UNDETERMINED)


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

    The bias gradient of the last layer is dl/db_j = mean_k p_kj - n_j / B, so that

        n_j = B (mean p_j - dl/db_j),

    brought to n >= 0 and rounded.  The attacker knows all but mean p, and estimates it
    - from images (M, C, H, W) of its own, or even from noise, as the network's mean p on them.
      Good where the network gives nearly the same p to all images, as before training;
    - or, without images, out of the gradient.  Row i of dl/dV has seen the mixture of features
      e_i = (dl/dV_i) / (dl/db_i); with pi_i = softmax(V e_i + b) for the probabilities of images of
      class i, mean p = sum_i n_i pi_i / B leaves linear equations for n, solved by least squares:
          sum_i n_i pi_ij - n_j = B dl/db_j  for every class j,   sum_i n_i = B.
      Good where each class's images dominate its row: while the network is not yet sure.

    Leaked weights need the client's lr and steps of SGD: dl/db is the mean (b_t - b_{t+1}) / (lr
    steps), p and pi are means along the straight way from where the first step began to where the
    last did, and with mini-batches of one size n is the count over the whole epoch.

    Raises ValueError for weights without lr, a gradient with one, a last layer without bias, and
    images that do not fit the model.
    Source: Ma et al. 2022, published code (the system); Geng et al. 2021 (images of one's own);
    Dimitrov et al. 2022, published code (p along the way).

    >>> from leaklib import client, data, models
    >>> (x, y), net = data.load("digits", 8), models.lenet(channels=1, size=28, init="torch")
    >>> torch.equal(counts(net, client.share_gradient(net, x, y)), y.bincount(minlength=10))
    True
    """
    check_leak(model, leak)
    scale = _scale(leak, lr, steps)
    weight, bias = last_layer(leak, layer)
    if bias is None:
        raise bad("layer", f"{weight!r}, which has no bias", "a last layer with a bias")
    dV, db = (leak.direction[name].double() / scale for name in (weight, bias))
    B = leak.batch_size
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
            if value != one:
                raise bad(name, value, f"{one} for a gradient, whose scale is known")
        return 1.0
    if lr is None:
        came = "weights, whose change is the gradient at an unknown scale"
        raise bad("leak", came, "a gradient, or the client's lr and steps")
    positive("lr", lr, "a learning rate")
    positive("steps", steps, "a number of local steps")
    return lr * steps


def _ends(leak: Leak, steps: int) -> list[tuple[float, Tensors]]:
    """The weights that are known of a client's steps, each with its share in their mean.

    Step j of T begins at W_t + (j / T) (W_{t+1} - W_t), nearly, and the mean of j / T is
    (T - 1) / 2T: one step, like a gradient, knows W_t alone.
    """
    if leak.kind == "gradient":
        return [(1.0, leak.weights)]
    after = (steps - 1) / (2 * steps)
    return [(1 - after, leak.weights), (after, leak.update)]


@torch.no_grad()
def _mean_probabilities(
    model: nn.Module, leak: Leak, images: Tensor, steps: int, classes: int
) -> Tensor:
    """The mean p (V, C) of the images, by each victim's own network, or networks."""
    like = next(iter(leak.weights.values()))
    if not torch.is_tensor(images) or images.ndim < 2 or len(images) == 0:
        came = f"shape {tuple(images.shape)}" if torch.is_tensor(images) else type(images).__name__
        raise bad("images", came, "at least one image, (M, C, H, W)")
    outputs = logits_shape(model, images.shape, like=like, name="images")[-1]
    if outputs != classes:
        came = f"a layer of {classes} outputs in a network of {outputs}"
        raise bad("layer", came, "the layer that makes the logits")

    def p(W: Tensors, v: int) -> Tensor:
        of = lambda tensors: {n: t if leak.victims is None else t[v] for n, t in tensors.items()}  # noqa: E731
        logits = functional_call(model, (of(W), of(leak.buffers)), (images.to(like),))
        return logits.softmax(-1).double().mean(0)  # (C,)

    ends = _ends(leak, steps)
    victims = range(leak.victims or 1)
    return torch.stack([total(share * p(W, v) for share, W in ends) for v in victims])


def _whole_numbers(n: Tensor, B: int) -> Tensor:
    """The counts nearest to n (..., C) among those that are never negative and sum to B."""
    # onto the simplex: n - t where that is positive, t such that the sum is B
    largest = n.sort(-1, descending=True).values
    rank = torch.arange(1, n.shape[-1] + 1).to(n)
    t = ((largest.cumsum(-1) - B) / rank).amax(-1, keepdim=True)
    n = (n - t).clamp(min=0)
    # the largest remainders round up
    down = n.floor()
    missing = (B - down.sum(-1, keepdim=True)).round()
    place = (n - down).argsort(-1, descending=True).argsort(-1)
    return (down + (place < missing)).long()


def llg(leak: Leak, *, layer: str | None = None) -> Tensor:
    """LLG's counts (C,), or (V, C): labels by the direction and the size of the rows of dl/dV.

        g_i = sum_m dl/dV_im,   m = (1/B) (1 + 1/C) sum_{g_i < 0} g_i.

    Every class with g_i < 0 gets one label and g_i <- g_i - m; then, until there are B labels, the
    class of the smallest g_i gets the next one, and g_i <- g_i - m.  Assumes features that are not
    negative, and that every image moves its row by the same m.  A class shows as negative only
    where n_i / B > mean p_i, so that large batches of few classes leave it little to go by.
    Source: Wainakh et al. 2022, published code (the variant that has no data of its own).

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

    Assumes that no class occurs twice, and features that are never negative.  Raises ValueError for
    more images than classes.
    Source: Yin et al. 2021, as a published port has it.

    >>> from leaklib import client, data, models
    >>> (x, _), net = data.load("digits", 3), models.lenet(channels=1, size=28, init="torch")
    >>> grad_inversion(client.share_gradient(net, x, torch.tensor([1, 4, 8])))
    tensor([0, 1, 0, 0, 1, 0, 0, 0, 1, 0])
    """
    smallest = leak.direction[last_layer(leak, layer)[0]].amin(-1)  # (..., C): min_m dl/dV_im
    B, C = leak.batch_size, smallest.shape[-1]
    if B > C:
        raise bad("leak", f"{B} images of {C} classes, so that a class repeats", "at most C images")
    return one_hot(smallest.argsort(-1)[..., :B], C).sum(-2)


def listed(counts: Tensor) -> Tensor:
    """The ascending labels (B,), or (V, B), that counts (C,), or (V, C), stand for.

    Raises ValueError for counts that are not whole numbers, or differ between victims in their sum.

    >>> listed(torch.tensor([2, 0, 1]))
    tensor([0, 0, 2])
    """
    n = torch.as_tensor(counts)
    if n.dtype != torch.int64 or n.ndim not in (1, 2) or (n < 0).any():
        raise bad("counts", f"shape {tuple(n.shape)} of {n.dtype}", "(C,) or (V, C) int64, n >= 0")
    sums = n.sum(-1)
    if sums.unique().numel() != 1 or sums.min() < 1:
        raise bad("counts", f"sums of {sums.tolist()}", "the same positive sum for each victim")
    classes = torch.arange(n.shape[-1], device=n.device).expand(n.shape)
    return classes.reshape(-1).repeat_interleave(n.reshape(-1)).reshape(*n.shape[:-1], -1)
