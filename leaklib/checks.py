"""Answers to the book's exercises: each check says at once whether one is right, and if not why.

A check takes what the reader wrote and returns a `Verdict`, which is true when the answer is right
and shows itself as one line.  It never raises: a notebook with open exercises runs to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from torch import Tensor

from . import attacks, client, data, labels, metrics, models


class _Unanswered(Exception):
    pass


class Verdict:
    """What a check found: true when the answer is right; `message` says what is wrong.

    right is None where there is no answer yet.
    """

    def __init__(self, number: str, right: bool | None, message: str):
        self.number, self.right, self.message = number, right, message

    def __bool__(self) -> bool:
        return self.right is True

    def __repr__(self) -> str:
        mark = {True: "✓", False: "✗", None: "○"}[self.right]
        return f"{mark} Exercise {self.number}: {self.message}"


def _check(number: str, faults: Callable[[], Iterator[str]]) -> Verdict:
    """The first fault that an answer has, or that it has none."""
    try:
        fault = next(faults(), None)
    except _Unanswered:
        return Verdict(number, None, "not answered yet. Replace the dots and run the cell again.")
    except Exception as error:  # whatever the reader's code raises is theirs to see
        fault = f"your code raised {type(error).__name__}: {error}"
    return Verdict(number, fault is None, fault or "right.")


def _call(answer: Callable, *args: object) -> object:
    result = answer(*args)
    if result is None or result is ...:
        raise _Unanswered
    return result


def _tensor(answer: Callable, *args: object) -> Tensor:
    result = torch.as_tensor(_call(answer, *args))
    return result.double() if result.is_floating_point() else result


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------ 1 federated learning
def exercise_1_1(
    average: Callable[[list[dict[str, Tensor]], list[int]], dict[str, Tensor]],
) -> Verdict:
    """average(updates, sizes) -> the mean of the updates, weighted by the clients' sizes."""

    def faults() -> Iterator[str]:
        updates = [{"a": _random(2, 3, seed=k), "b": _random(3, seed=9 + k)} for k in range(3)]
        sizes = [10, 1, 5]
        mean = _call(average, updates, sizes)
        if not isinstance(mean, dict) or set(mean) != {"a", "b"}:
            yield "return a dictionary with the same names as each update."
        total = {n: sum(s * u[n] for s, u in zip(sizes, updates, strict=True)) for n in "ab"}
        if torch.allclose(mean["a"], sum(u["a"] for u in updates) / 3):
            yield "all clients count the same here; one with more images must count for more."
        if torch.allclose(mean["a"], total["a"]):
            yield "this is the weighted sum; divide by the number of all images."
        if not all(torch.allclose(mean[n], total[n] / sum(sizes)) for n in "ab"):
            yield "the mean is not sum_k (n_k / n) update_k."

    return _check("1.1", faults)


def exercise_1_2(gradient_of: Callable[[client.Leak, float], dict[str, Tensor]]) -> Verdict:
    """gradient_of(leak, lr) -> the gradient behind one local step of SGD."""

    def faults() -> Iterator[str]:
        model = models.mlp(size=4, hidden=(5,), classes=3).double()
        x, y = _random(6, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2])
        g = client.share_gradient(model, x, y).update
        found = _call(gradient_of, client.share_weights(model, x, y, lr=0.05), 0.05)
        ratio = float((found["fc.bias"] * g["fc.bias"]).sum() / g["fc.bias"].square().sum())
        if abs(ratio + 1) < 1e-6:
            yield "the sign is wrong: SGD subtracts lr times the gradient."
        if abs(ratio - 0.05) < 1e-6:
            yield "this is W_t - W_(t+1), which is lr times the gradient: divide by lr."
        if not all(torch.allclose(found[n], g[n]) for n in g):
            yield "this is not (W_t - W_(t+1)) / lr."

    return _check("1.2", faults)


def exercise_1_3(equations_per_unknown: Callable[[client.Leak, tuple[int, ...]], float]) -> Verdict:
    """equations_per_unknown(leak, shape) -> numbers sent per number that is private."""

    def faults() -> Iterator[str]:
        shape = (3, 1, 4, 4)
        model = models.mlp(size=4, hidden=(5,), classes=3)
        leak = client.share_gradient(model, torch.zeros(shape), torch.tensor([0, 1, 2]))
        ratio = float(_call(equations_per_unknown, leak, shape))
        sent = sum(d.numel() for d in leak.update.values())
        if abs(ratio - sent / 16) < 1e-9:
            yield "the batch has three images, and all of them are unknown."
        if abs(ratio - len(leak.update) / 48) < 1e-9:
            yield "this counts tensors; count the numbers in them."
        if abs(ratio - 48 / sent) < 1e-9:
            yield "upside down: numbers sent, divided by numbers unknown."
        if abs(ratio - sent / 48) > 1e-9:
            yield f"{sent} numbers are sent and 48 pixels are unknown."

    return _check("1.3", faults)


# ------------------------------------------------------------------ 2 the linear layer
def exercise_2_1(input_from: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """input_from(dV, db) -> x, when some rows are zero."""

    def faults() -> Iterator[str]:
        x, delta = _random(7), _random(5, seed=1)
        delta[[0, 3]] = 0
        found = _tensor(input_from, delta[:, None] * x, delta)
        if found.shape != x.shape:
            yield f"the input has shape {tuple(x.shape)}, yours {tuple(found.shape)}."
        if found.isnan().any():
            yield "NaN: a silent unit has db = 0, and 0/0 spoils the mean. Leave it out."
        if torch.allclose(found, x * 3 / 5):
            yield "you divide by the number of all units; the silent ones added nothing."
        if not torch.allclose(found, x):
            yield "this is not the input."
        noisy = delta[:, None] * x + 1e-3 * _random(5, 7, seed=2)
        loud = delta.clone()
        loud[1] = 1e-9  # a whisper drowned in rounding
        if (input_from(noisy, loud) - x).abs().max() > 1:
            yield "exact without noise, but a tiny db ruins it: weight rows by db squared."

    return _check("2.1", faults)


def exercise_2_2(unmix: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """unmix(dV, delta) -> all inputs of a batch."""

    def faults() -> Iterator[str]:
        X, delta = _random(3, 7), _random(3, 9, seed=1)
        found = _tensor(unmix, delta.T @ X / 3, delta)
        if found.shape != X.shape:
            yield f"three inputs of 7 numbers have shape (3, 7), yours {tuple(found.shape)}."
        if torch.allclose(found, X / 3):
            yield "every image is a third too dark: the loss is a mean over the batch."
        if not torch.allclose(found, X):
            yield "these are not the inputs; solve dV = delta' X / B for X."

    return _check("2.2", faults)


def exercise_2_3(shape_of: Callable[[Tensor], Tensor]) -> Verdict:
    """shape_of(dV) -> x / max(x), without the bias."""

    def faults() -> Iterator[str]:
        x, delta = _random(7).abs(), torch.tensor([0.0, -2.0, 0.5], dtype=torch.float64)
        found = _tensor(shape_of, delta[:, None] * x)
        if found.isnan().any():
            yield "NaN: the first row is silent. Take a row that is not."
        if torch.allclose(found, x):
            yield "the scale cannot be known; return it with its largest entry at 1."
        if found.shape == x.shape and (found * x).sum() < 0:
            yield "the picture is a negative: pixels are not negative, so flip the sign."
        if found.shape != x.shape or not torch.allclose(found, x / x.max()):
            yield "this is not x / max(x)."

    return _check("2.3", faults)


# ------------------------------------------------------------------ 3 labels
def exercise_3_1(label_of: Callable[[Tensor], int]) -> Verdict:
    """label_of(db) -> the class, or -1 for zeros."""

    def faults() -> Iterator[str]:
        for c in range(4):
            p = _random(4, seed=c).softmax(0)
            found = int(_call(label_of, p - F.one_hot(torch.tensor(c), 4)))
            if found == int((p - F.one_hot(torch.tensor(c), 4)).argmax()):
                yield "this is the largest entry; the label's is the smallest."
            if found != c:
                yield f"the label is {c}, not {found}."
        if int(label_of(torch.tensor([1e-9, 1e-12, 0.0, 2e-9]))) != 2:
            yield "a very sure network has p_c = 1 and no negative entry: take the smallest."
        if int(label_of(torch.zeros(4))) != -1:
            yield "all zeros tell nothing: return -1."

    return _check("3.1", faults)


def exercise_3_2(mixed_pair: Callable[[Tensor], tuple[int, int]]) -> Verdict:
    """mixed_pair(db) -> both classes of a mixup label."""

    def faults() -> Iterator[str]:
        for a, b, share in ((2, 5, 0.3), (0, 1, 0.5), (3, 7, 0.8)):
            y = share * F.one_hot(torch.tensor(a), 8) + (1 - share) * F.one_hot(torch.tensor(b), 8)
            found = tuple(int(c) for c in _call(mixed_pair, torch.full((8,), 1 / 8) - y))
            if found == (b, a):
                yield "the right two; the smaller number comes first."
            if found != (a, b):
                yield f"the classes are {a} and {b}, not {found}: both entries are negative."

    return _check("3.2", faults)


def exercise_3_3(class_counts: Callable[[Tensor, Tensor, int], Tensor]) -> Verdict:
    """class_counts(db, p_mean, B) -> how many images of each class."""

    def faults() -> Iterator[str]:
        counts = torch.tensor([3, 0, 4, 1])
        p = _random(4).softmax(0)
        noise = 1e-3 * _random(4, seed=1)
        found = _tensor(class_counts, p - counts / 8 + noise, p, 8)
        if found.is_floating_point():
            yield "counts are whole numbers: round, and convert to integers."
        if found.tolist() == [0, 0, 0, 0] or found.sum() == 1:
            yield "these are shares of the batch; multiply by B before you round."
        if found.tolist() != counts.tolist():
            yield f"the counts are {counts.tolist()}, not {found.tolist()}."

    return _check("3.3", faults)


# ------------------------------------------------------------------ 4 DLG
def exercise_4_1(distance: Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]) -> Verdict:
    """distance(g, G) -> sum over parameters of the squared norms of the differences."""

    def faults() -> Iterator[str]:
        g = {"V": _random(3, 4), "b": _random(3, seed=1)}
        G = {"V": _random(3, 4, seed=2), "b": _random(3, seed=3)}
        found = _tensor(distance, g, G)
        parts = [(g[n] - G[n]).square() for n in g]
        right = sum(p.sum() for p in parts)
        if found.numel() != 1:
            yield "the distance is one number."
        if torch.allclose(found, sum(p.mean() for p in parts)):
            yield "this takes means; DLG sums, so that every entry counts the same."
        if any(torch.allclose(found, p.sum()) for p in parts):
            yield "this is only one of the layers; sum over all of them."
        if torch.allclose(found, sum(p.sum().sqrt() for p in parts)):
            yield "these are norms; the distance is made of squared norms."
        if not torch.allclose(found, right):
            yield f"the distance of the test case is {right:.4f}, not {float(found):.4f}."

    return _check("4.1", faults)


def exercise_4_2(has_exploded: Callable[[Tensor], Tensor]) -> Verdict:
    """has_exploded(images) -> which guesses were thrown away."""

    def faults() -> Iterator[str]:
        images = torch.rand(4, 1, 1, 5, 5, generator=torch.Generator().manual_seed(0))
        images[1] *= 1e6
        images[2, 0, 0, 0, 0] = float("nan")
        images[3] = 1.5 * images[3] - 0.2  # a good guess may leave [0, 1] a little
        found = _tensor(has_exploded, images)
        if found.shape != (4,):
            yield f"one answer an attack, shape (4,); yours has shape {tuple(found.shape)}."
        if found[3]:
            yield "a guess that leaves [0, 1] by a little has not exploded."
        if not found[2]:
            yield "NaN slipped through: every comparison with NaN is false."
        if found.tolist() != [False, True, True, False]:
            yield f"of the test cases the second and third exploded; you say {found.tolist()}."

    return _check("4.2", faults)


def exercise_4_3(soft_cross_entropy: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """soft_cross_entropy(z, u) -> finite for any logits."""

    def faults() -> Iterator[str]:
        z, u = _random(5), _random(5, seed=1)
        right = F.cross_entropy(z[None], u.softmax(0)[None])
        found = _tensor(soft_cross_entropy, z, u)
        if torch.allclose(found, -right):
            yield "the sign is wrong: a loss is positive."
        if torch.allclose(found, F.cross_entropy(z[None], u[None])):
            yield "u are free numbers; put them through a softmax first."
        if found.numel() != 1 or not torch.allclose(found, right):
            yield f"the loss of the test case is {right:.4f}."
        far = torch.tensor([0.0, 200.0, 0.0, 0.0, 0.0])
        if not soft_cross_entropy(far, u.float()).isfinite():
            yield "infinite for far logits: use log_softmax, not the log of a softmax."

    return _check("4.3", faults)


# ------------------------------------------------------------------ 5 iDLG
def _small_leak(seed: int) -> tuple[torch.nn.Module, client.Leak, Tensor, int]:
    images, numbers = data.load("digits", 4, size=14, seed=7)
    model = models.lenet(1, 14, seed=seed)
    x, y = images[seed : seed + 1], numbers[seed : seed + 1]
    return model, client.share_gradient(model, x, y), x, int(y)


def exercise_5_1(my_idlg: Callable) -> Verdict:
    """my_idlg(model, leak, shape) -> the reconstruction."""

    def faults() -> Iterator[str]:
        model, leak, x, y = _small_leak(0)
        out = _call(my_idlg, model, leak, tuple(x.shape))
        if not isinstance(out, attacks.Reconstruction):
            yield "return what attacks.dlg returns."
        if int(out.labels) != y:
            yield "the label is wrong: pass labels=labels.idlg(leak) to attacks.dlg."
        if not metrics.success_rate(out.images, x):
            yield "the label is right but the image is not there yet: give it more steps."

    return _check("5.1", faults)


def exercise_5_2(label_by_trying: Callable) -> Verdict:
    """label_by_trying(model, leak, shape, classes) -> the label whose attack fits best."""

    def faults() -> Iterator[str]:
        for seed in (1, 2):
            model, leak, x, y = _small_leak(seed)
            # the label must come from the fit, so the bias gradient is withheld
            hidden = {n: d for n, d in leak.update.items() if n != "fc.bias"}
            hidden["fc.bias"] = torch.zeros_like(leak.update["fc.bias"])
            shown = client.Leak(leak.weights, hidden)
            found = int(_call(label_by_trying, model, shown, tuple(x.shape), 10))
            if found == int(labels.idlg(leak)) == y:
                continue
            yield f"the label is {y}, not {found}: compare `objective` after the same steps."

    return _check("5.2", faults)


def exercise_5_3(mcnemar: Callable[[Tensor, Tensor], float]) -> Verdict:
    """mcnemar(a, b) -> the exact two-sided p-value."""

    def faults() -> Iterator[str]:
        both, only_a, only_b = torch.tensor([True] * 9), torch.tensor([True] * 6), 2
        a = torch.cat([both, only_a, torch.tensor([False] * only_b)])
        b = torch.cat([both, ~only_a, torch.tensor([True] * only_b)])
        found = float(_call(mcnemar, a, b))
        if abs(found - binomtest(int(a.sum()), len(a)).pvalue) < 1e-9:
            yield "only the images on which the attacks differ are fair coins."
        if abs(found - binomtest(6, 8, alternative="greater").pvalue) < 1e-9:
            yield "this is one-sided; either attack may be the better one."
        if abs(found - binomtest(6, 8).pvalue) > 1e-9:
            yield f"6 against 2 has p = {binomtest(6, 8).pvalue:.3f}, not {found:.3f}."
        if abs(float(mcnemar(both, both)) - 1) > 1e-9:
            yield "two attacks that never differ have p = 1."

    return _check("5.3", faults)
