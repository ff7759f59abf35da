"""Exercises: the book's own solutions pass, blanks and typical mistakes get their message."""

import inspect
import math
import re
from pathlib import Path

import nbformat
import pytest
import torch
from scipy.stats import binomtest, norm
from torch.func import grad, jacrev

from leaklib import attacks, client, data, labels, metrics
from leaklib.book import checks
from leaklib.leak import stack

NOTEBOOKS = sorted((Path(__file__).parents[3] / "notebooks").glob("*.ipynb"))
EXERCISES = sorted(name for name in vars(checks) if name.startswith("exercise_"))


def _exercises(path):
    """(name of the check, stub, solution) of every exercise of a notebook, in its order."""
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    solutions = re.findall(r"<details>.*?```python\n(.*?)```.*?</details>", text, re.S)
    stubs = [c.source for c in cells if c.cell_type == "code" and "checks.exercise" in c.source]
    called = [re.search(r"checks\.(exercise_\d+_\d)\((\w+)\)", stub).groups() for stub in stubs]
    assert len(solutions) == len(stubs), f"{path.name}: a solution for each exercise"
    return [(*names, *rest) for names, *rest in zip(called, stubs, solutions, strict=True)]


FOUND = [exercise for path in NOTEBOOKS for exercise in _exercises(path)]
NAMES = [check for check, *_ in FOUND]


def _verdict(check, function, code):
    space = dict(torch=torch, checks=checks, client=client, data=data, attacks=attacks)
    space |= dict(labels=labels, metrics=metrics, stack=stack)
    exec(code.rpartition("checks.exercise")[0] or code, space)
    return getattr(checks, check)(space[function])


def test_every_check_belongs_to_an_exercise_of_the_book():
    assert sorted(NAMES) == EXERCISES


@pytest.mark.parametrize(("check", "function", "stub", "solution"), FOUND, ids=NAMES)
def test_the_solution_of_the_book_is_right_and_the_blank_is_open(check, function, stub, solution):
    blank = _verdict(check, function, stub)
    assert not blank and repr(blank).startswith("○") and "not answered yet" in blank.message
    right = _verdict(check, function, solution)
    assert right, right.message


@pytest.mark.parametrize("check", EXERCISES)
def test_an_answer_that_raises_is_reported_and_does_not_raise(check):
    def broken(*args):
        raise ZeroDivisionError("oops")

    verdict = getattr(checks, check)(broken)
    assert not verdict and "ZeroDivisionError: oops" in verdict.message


def _mean_rows(dV, db):
    return (dV[db != 0] / db[db != 0][:, None]).mean(0)


def _solved(outputs, W, z, d, G, n, only=None):
    zero = torch.zeros(n, dtype=z.dtype)
    weights = lambda x: grad(lambda W: outputs(x, W) @ d)(W).flatten()  # noqa: E731
    rows = {
        "outputs": (jacrev(outputs)(zero, W), z),
        "weights": (jacrev(weights)(zero), G.flatten()),
    }
    taken = [row for name, row in rows.items() if only in (None, name)]
    left, right = (torch.cat(parts) for parts in zip(*taken, strict=True))
    return torch.linalg.pinv(left) @ right


def _nearest(images, truth):
    return (truth[:, None] - images).square().mean((2, 3, 4)).argmin(1)


def _blend(m, x, success, alpha):
    if not success:
        return m
    return x if m is None else alpha * m + (1 - alpha) * x


def _error(p, label):
    return p - torch.eye(len(p), dtype=p.dtype)[label]


def _angle(u, v):
    return 1 - (u * v).sum() / (u.norm() * v.norm())


def _together(g, h):
    return [torch.cat([t.flatten() for t in d.values()]) for d in (g, h)]


def _dot(g, h, names=None):
    return sum((g[name] * h[name]).sum() for name in names or g)


def _loss(g, k, D):
    return sum((g[name] - k * D[name]).square().sum() for name in D)


def _change(before, after):
    return [before[name] - after[name] for name in ("weight", "bias")]


def _ratios(dV, db):
    return dV / db[:, None]


def _epoch(g, W, batches, lr, *, kept=0.0, there=None, only=None):
    v = {name: torch.zeros_like(t) for name, t in W.items()}
    for batch in batches[:only]:
        v = {name: kept * v[name] + d for name, d in g(there or W, batch).items()}
        W = {name: W[name] - lr * v[name] for name in W}
    return W


def _overwritten(g, W, batches, lr):
    for batch in batches:
        for name, step in g(W, batch).items():
            W[name] -= lr * step
    return W


def _mixed(a, b):
    return lambda before, after, alpha: {
        n: a(alpha) * before[n] + b(alpha) * after[n] for n in before
    }


def _along(counts):
    """counts(p along the way, moved, B, lr, steps) with the arguments of exercise 11.3."""

    def answer(before, after, moved, B, lr, K):
        alpha = (K - 1) / (2 * K)
        return counts((1 - alpha) * before + alpha * after, moved, B, lr, K)

    return answer


EPS = torch.finfo(torch.float32).eps


def _over(G, n):
    return {name: t / n for name, t in G.items()}


def _mean_norm(G):
    return sum(t.norm() for t in G.values()) / len(G)


def _dlm_plus(g, D):
    return _loss(_over(g, _mean_norm(g)), 1, _over(D, _mean_norm(D)))


def _each_norm(g, D):
    return sum((g[n] / g[n].norm() - D[n] / D[n].norm()).square().sum() for n in g)


def _half_gap(w, g):
    return (torch.nextafter(w, -g.sign() * torch.inf) - w).abs() / 2 / g.abs()


def _always(value):
    return lambda *args: value


def _over_where(g, h, counts):
    return sum(((g[n] - h[n]).square() * counts(n)).sum() for n in h)


def _union(messages):
    known = {n: torch.zeros_like(d) for n, d in messages[0].items()}
    for message in messages:
        known = {n: torch.where(d != 0, d, known[n]) for n, d in message.items()}
    return known


def _written_over(messages):
    for message in messages[1:]:
        for n, known in messages[0].items():
            known[known == 0] = message[n][known == 0]
    return messages[0]


def _in_every_round(messages):
    everywhere = {n: torch.stack([m[n] != 0 for m in messages]).all(0) for n in messages[0]}
    return {n: d * everywhere[n] for n, d in messages[0].items()}


def _same(t):
    return t


def _locked(gate=torch.relu, gate_b=torch.relu, over=(2, 3), correction=0, bias=1):
    def lock(z, k, A, a, B, b):
        var = z.var(over, correction=correction, keepdim=True)
        n = (z - z.mean(over, keepdim=True)) / (var + 1e-5).sqrt()
        gamma, beta = gate(A @ k + bias * a), gate_b(B @ k + bias * b)
        return gamma[:, None, None] * n + beta[:, None, None]

    return lock


def _rmse(published):
    return 255**2 / 10 ** (published / 10)


def _surprise(g, h, x, sigma, scale, weight=0.5, power=2, rough=None):
    fit = weight * sum((g[name] - h[name]).square().sum() for name in g) / sigma**power
    down, right = (x.diff(dim=d).abs().sum() for d in (-2, -1))
    return fit + ((down + right) / scale if rough is None else rough(x, down, right, scale))


def _clip_each(each, C, norms=None, scale=lambda n, C: (C / n).clamp(max=1)):
    whole = sum(d.flatten(1).square().sum(1) for d in each.values()).sqrt()
    return {
        name: torch.tensordot(scale(norms(d) if norms else whole, C), d, 1)
        for name, d in each.items()
    }


def _clip_sum(each, C):
    summed = {name: d.sum(0) for name, d in each.items()}
    length = sum(d.square().sum() for d in summed.values()).sqrt()
    return {name: d * min(1, C / length) for name, d in summed.items()}


def _noise(found):
    return lambda prior, share, steps: found(norm.ppf(share), norm.ppf(prior), steps)


def _where(moved):
    """An answer to 13.1 or 13.3 that treats each tensor of the guess and the message alike."""
    return lambda g, leak: {n: moved(t, leak.direction[n]) for n, t in g.items()}


def _cell(width):
    """An answer to 13.2 whose cells are this wide, of max |h| and the bits."""

    def answer(h, bits):
        w = width(h.abs().max(), bits)
        return h - w / 2, h + w / 2

    return answer


def _outside(g, h, t):
    return torch.where(h != 0, g, g - g.clamp(-t, t))


def _least_of_all(leak):
    return min(h[h != 0].abs().min() for h in leak.direction.values())


def _beyond(g, leak, t):
    return {n: _outside(g[n], leak.direction[n], t) for n in g}


def _front(points, dominates):
    every = points.values()
    return [n for n, p in points.items() if not any(dominates(q, p) for q in every)]


def _repaired(masked, secret, sign):
    gone = masked.index(None)
    total = sum(m for m in masked if m is not None)
    for k in range(len(masked)):
        if k < gone:
            total = total - sign * secret(k, gone)
        if k > gone:
            total = total + sign * secret(gone, k)
    return total


def _half(d, by=None):
    smallest = (d if by is None else by).abs().flatten().argsort()[: d.numel() // 2]
    return d.flatten().index_fill(0, smallest, 0).reshape(d.shape)


def _half_of_all(g):
    level = torch.cat([d.flatten() for d in g.values()]).abs().median()
    return {n: d * (d.abs() > level) for n, d in g.items()}


def _halved_in_place(g, leak):
    for d in g.values():
        d *= _half(d) != 0
    return g


def _cells(g, h, sigma, beyond):
    upper, lower = (torch.special.ndtr((h - g + s * beyond) / sigma) for s in (1, -1))
    return upper - lower


def _judged(knows, mse, found, private, *, threshold=1e-3):
    if mse < threshold:
        return "recovered"
    return ("search on" if found > private else "hidden") if knows else "not tried"


MISTAKES = [
    ("1_1", lambda us, ns: {n: sum(u[n] for u in us) / len(us) for n in us[0]}, "count for more"),
    ("1_1", lambda us, ns: {n: sum(k * u[n] for k, u in zip(ns, us)) for n in us[0]}, "divide by"),
    ("1_1", lambda us, ns: us[0]["a"], "dictionary"),
    ("1_1", lambda us, ns: us[0], "not sum_k"),
    ("1_2", lambda leak, lr: leak.direction, "divide by lr"),
    ("1_2", lambda leak, lr: {n: -d / lr for n, d in leak.direction.items()}, "sign"),
    ("1_2", lambda leak, lr: leak.update, "not (W_t"),
    ("1_3", lambda leak, shape: sum(d.numel() for d in leak.update.values()) / 16, "three images"),
    ("1_3", lambda leak, shape: len(leak.update) / 48, "counts tensors"),
    ("1_3", lambda leak, shape: 48 / sum(d.numel() for d in leak.update.values()), "upside down"),
    ("1_3", lambda leak, shape: 2.0, "48 pixels"),
    ("2_1", lambda dV, db: (dV / db[:, None]).mean(0), "NaN"),
    ("2_1", lambda dV, db: (dV / db[:, None]).nan_to_num(0).mean(0), "all units"),
    ("2_1", _mean_rows, "tiny db"),
    ("2_1", lambda dV, db: dV[1], "not the input"),
    ("2_1", lambda dV, db: dV, "shape"),
    ("2_2", lambda dV, d: torch.linalg.lstsq(d.T, dV).solution, "third too dark"),
    ("2_2", lambda dV, d: dV[:3], "not the inputs"),
    ("2_2", lambda dV, d: dV, "shape"),
    ("2_3", lambda dV: dV[0] / dV[0].max(), "silent"),
    ("2_3", lambda dV: dV[1] / -2, "scale"),
    ("2_3", lambda dV: dV[1] / dV[1].abs().max(), "negative"),
    ("2_3", lambda dV: torch.ones(7), "not x / max"),
    ("3_1", lambda db: int(db.argmax()), "largest"),
    ("3_1", lambda db: int((db < 0).nonzero()[0]) if (db < 0).any() else -1, "very sure"),
    ("3_1", lambda db: int(db.argmin()), "all zeros"),
    ("3_1", lambda db: int(db.argsort()[1]), "the label is"),
    ("3_2", lambda db: tuple(sorted(db.topk(2, largest=False).indices.tolist()))[::-1], "first"),
    ("3_2", _always((0, 0)), "both entries"),
    ("3_3", lambda pi, db, B: B * (pi.mean(0) - db), "whole numbers"),
    ("3_3", lambda pi, db, B: (pi.mean(0) - db).round().long(), "right side"),
    ("3_3", lambda pi, db, B: (B * (pi.mean(0) - db)).round().long(), "depends on the counts"),
    ("3_3", lambda pi, db, B: (-B * db).round().long(), "the counts are"),
    ("3_3", lambda pi, db, B: pi.long(), "for each of the 4"),
    ("4_1", lambda g, G: sum((g[n] - G[n]).square().mean() for n in g), "means"),
    ("4_1", lambda g, G: (g["V"] - G["V"]).square().sum(), "one of the layers"),
    ("4_1", lambda g, G: sum((g[n] - G[n]).norm() for n in g), "norms"),
    ("4_1", lambda g, G: (g["V"] - G["V"]).square(), "one number"),
    ("4_1", _always(1.0), "test case"),
    ("4_2", lambda images: images.abs().amax((1, 2, 3, 4)) > 10, "NaN slipped"),
    ("4_2", lambda images: ~(images.amax((1, 2, 3, 4)) <= 1), "a little"),
    ("4_2", lambda images: images > 10, "shape"),
    ("4_2", _always(torch.tensor([True, True, True, False])), "you say"),
    ("4_3", lambda z, u: -(u.softmax(0) * z.softmax(0).log()).sum(), "log_softmax"),
    ("4_3", lambda z, u: (u.softmax(0) * z.log_softmax(0)).sum(), "sign"),
    ("4_3", lambda z, u: -(u * z.log_softmax(0)).sum(), "softmax first"),
    ("4_3", _always(torch.tensor(1.0)), "test case"),
    (
        "5_1",
        lambda m, k, s: attacks.dlg(m, k, s, labels=torch.tensor([0]), steps=2),
        "label is wrong",
    ),
    ("5_1", lambda m, k, s: attacks.idlg(m, k, s, steps=2), "more steps"),
    ("5_1", lambda m, k, s: labels.idlg(k), "what attacks.dlg returns"),
    ("5_2", lambda m, k, s, C: labels.idlg(k), "compare `objective`"),
    ("5_3", lambda a, b: binomtest(int(a.sum()), len(a)).pvalue, "fair coins"),
    ("5_3", lambda a, b: binomtest(6, 8, alternative="greater").pvalue, "one-sided"),
    ("5_3", _always(0.5), "6 against 2"),
    ("5_3", lambda a, b: binomtest(6, 8).pvalue, "never differ"),
    ("6_1", lambda layer, n: (n * n, 0, 0), "all of them are unknown"),
    ("6_1", lambda layer, n: (3 * n * n, 8 * n * n, 600), "halves the outputs"),
    ("6_1", lambda layer, n: (3 * n * n, 288, 608), "the bias has a gradient too"),
    ("6_1", lambda layer, n: (3 * n * n, 288, 75), "3 x 12 x 12 pixels"),
    ("6_1", lambda layer, n: (3 * n * n, 8 * (n // 2) ** 2, 600), "run the layer"),
    ("6_2", lambda a, u: (a, u), "not the inverse"),
    ("6_2", lambda a, u: (a.atanh(), (1 - a.tanh() ** 2) * u), "put in a for z"),
    ("6_2", lambda a, u: (a.atanh(), u / (1 - a**2)), "multiplies by the slope"),
    ("6_2", lambda a, u: (a.atanh(), a * (1 - a) * u), "dl/dz is not"),
    ("6_3", lambda f, W, z, d, G, n: _solved(f, W, z, d, G, n)[:8], "192 numbers"),
    ("6_3", lambda f, W, z, d, G, n: _solved(f, W, z, d, G, n, "outputs"), "cannot fix"),
    ("6_3", lambda f, W, z, d, G, n: _solved(f, W, z, d, G, n, "weights"), "only 180 differ"),
    ("6_3", lambda f, W, z, d, G, n: _solved(f, W, z, d, -G, n), "not the input"),
    ("7_1", lambda p, c, a: torch.outer(_error(p, c), a), "one number"),
    ("7_1", lambda p, c, a: torch.outer(_error(p, c), a).square().sum(), "square"),
    ("7_1", lambda p, c, a: p.norm() * a.norm(), "p - y"),
    ("7_1", lambda p, c, a: _error(p, c).norm(), "length of dl/db"),
    ("7_1", lambda p, c, a: (1 - p[c]) * a.norm(), "label's row alone"),
    ("7_1", lambda p, c, a: a.norm(), "the length of the test case"),
    ("7_2", lambda g, h: torch.stack([_angle(g[n], h[n]) for n in g]), "one number"),
    ("7_2", lambda g, h: 1 - _angle(*_together(g, h)), "smallest there"),
    ("7_2", lambda g, h: sum(_angle(g[n], h[n]) for n in g) / len(g), "one vector"),
    ("7_2", lambda g, h: 1 - sum((g[n] * h[n]).sum() for n in g), "both lengths"),
    ("7_2", lambda g, h: sum((g[n] - h[n]).square().sum() for n in g), "the distance of the test"),
    ("7_3", lambda x, d, lr: (x - lr * d.sign())[:2], "same shape"),
    ("7_3", lambda x, d, lr: x - lr * d.sign(), "has left"),
    ("7_3", lambda x, d, lr: (x + lr * d.sign()).clamp(0, 1), "uphill"),
    ("7_3", lambda x, d, lr: (x - lr * d).clamp(0, 1), "derivative itself"),
    ("7_3", lambda x, d, lr: (x - lr * (2.0 * (d > 0) - 1)).clamp(0, 1), "the pixel stays"),
    ("7_3", lambda x, d, lr: (x - lr * lr * d.sign()).clamp(0, 1), "the test case leads to"),
    ("8_1", lambda images, truth: _nearest(images, truth), "used twice"),
    ("8_1", lambda images, truth: metrics.assignment(images, truth).argsort(), "inverse"),
    ("8_1", lambda images, truth: torch.arange(3), "smaller total error"),
    ("8_1", lambda images, truth: 0, "one number for each"),
    ("8_2", lambda m, x, success, a: _blend(m, x, success, 1 - a), "kept of the old"),
    ("8_2", lambda m, x, success, a: x if m is None else a * m + (1 - a) * x, "failure"),
    ("8_2", lambda m, x, success, a: 0 * x if m is None else m, "after the first success"),
    ("8_2", lambda m, x, success, a: _blend(m, x, success, 0.5), "alpha m"),
    ("8_2", lambda m, x, success, a: x if m is None else _blend(m, x, success, a), "return None"),
    ("8_3", lambda noise, control, blend: control / blend, "what is saved"),
    ("8_3", lambda noise, control, blend: (control - blend) / (noise - blend), "adds"),
    ("8_3", lambda noise, control, blend: 0.5, "saves 200"),
    ("8_3", lambda noise, control, blend: min(1, (noise - control) / (noise - blend)), "cap"),
    ("9_1", lambda before, after: _change(before, after)[0].mean(), "shape (6,)"),
    ("9_1", lambda before, after: _ratios(*_change(before, after))[0], "has not moved"),
    ("9_1", lambda before, after: _ratios(after["weight"], after["bias"])[1], "ratio of weights"),
    ("9_1", lambda before, after: -_ratios(*_change(before, after))[1], "wrong sign"),
    ("9_1", lambda before, after: _ratios(*_change(before, after))[1:].mean(0), "mostly rounding"),
    ("9_2", lambda g, D: torch.stack([_dot(g, D, [n]) for n in g]), "one number"),
    ("9_2", lambda g, D: _dot(g, D) / _dot(g, g), "multiplies g"),
    ("9_2", lambda g, D: _dot(D, D) / _dot(g, D), "upside down"),
    ("9_2", lambda g, D: (_dot(g, g) / _dot(D, D)).sqrt(), "one direction"),
    ("9_2", lambda g, D: _dot(g, D) / _dot(D, D).sqrt(), "the square"),
    ("9_2", lambda g, D: sum(_dot(g, D, [n]) / _dot(D, D, [n]) for n in g), "for each tensor"),
    ("9_2", lambda g, D: _dot(g, D), "best k of the test case"),
    ("9_3", _always(False), "you say that this means nothing: the private image"),
    ("9_3", _always(True), "the loss is large"),
    ("9_3", lambda g, k, D: _loss(g, k, D) < 1e-6, "a collapse"),
    ("9_3", lambda g, k, D: _loss(g, k, D) < 1e-6 and abs(k) > 1e-3, "taken over the scale"),
    ("9_3", lambda g, k, D: _loss(g, k, D) <= 1e-6 * _dot(g, g), "points the other way"),
    ("9_3", lambda g, k, D: _loss(g, k, D) <= 1e-6 * _dot(g, g) and k >= 0, "no direction"),
    ("9_3", lambda g, k, D: k != 0.5 and _angle(*_together(g, D)) < 1e-6, "rate is 2"),
    ("9_3", _always(True), "you say that this"),
    ("10_1", lambda G: torch.stack([t.norm() for t in G.values()]), "one number for all"),
    ("10_1", lambda G: _dot(G, G).sqrt(), "norm of the whole"),
    ("10_1", lambda G: sum(t.norm() for t in G.values()), "sum of the norms"),
    ("10_1", lambda G: (_dot(G, G) / len(G)).sqrt(), "not of their squares"),
    (
        "10_1",
        lambda G: sum(t.norm() for t in G.values()) / sum(t.numel() for t in G.values()),
        "not of their entries",
    ),
    ("10_1", lambda G: sum(t.abs().sum() for t in G.values()) / len(G), "n of the test case"),
    ("10_2", lambda g, D: _over(g, _mean_norm(g))["b"], "the distance is one number"),
    ("10_2", lambda g, D: _loss(_over(g, _mean_norm(g)), 1, D), "only one side"),
    ("10_2", lambda g, D: _loss(g, 1, D) / _mean_norm(D) ** 2, "its own n"),
    ("10_2", lambda g, D: _loss(g, 1, D), "nothing is divided"),
    ("10_2", lambda g, D: _angle(*_together(g, D)), "is the cosine"),
    ("10_2", lambda g, D: _each_norm(g, D), "each tensor by its own"),
    ("10_2", lambda g, D: _dlm_plus(g, D).sqrt(), "square is missing"),
    ("10_2", lambda g, D: _dlm_plus(g, D) / 2, "distance of the test case"),
    ("10_3", lambda w, g: _half_gap(w, g)[:2], "shape of w"),
    ("10_3", lambda w, g: _half_gap(w, g) * g.sign(), "is positive"),
    ("10_3", lambda w, g: 2 * _half_gap(w, g), "half a gap"),
    ("10_3", lambda w, g: EPS / 2 / g.abs(), "gap at 1"),
    ("10_3", lambda w, g: EPS * w.abs() / g.abs(), "follow |w|"),
    ("10_3", lambda w, g: torch.tensor([1, 1, 1, 2]) * _half_gap(w, g), "power of two"),
    ("10_3", lambda w, g: _half_gap(w, g) * g.abs(), "rates of the test case"),
    ("11_1", lambda g, W, bs, lr: W["V"], "dictionary"),
    (
        "11_1",
        lambda g, W, bs, lr: {n: W[n] - t for n, t in _epoch(g, W, bs, lr).items()},
        "return the weights",
    ),
    ("11_1", lambda g, W, bs, lr: _epoch(g, W, bs, lr, kept=1.0), "pile up"),
    ("11_1", lambda g, W, bs, lr: _epoch(g, W, bs, -lr), "uphill: subtract"),
    ("11_1", lambda g, W, bs, lr: _epoch(g, W, bs, lr, there=W), "taken at W_t"),
    ("11_1", lambda g, W, bs, lr: _epoch(g, W, bs, lr, only=1), "only one step"),
    ("11_1", lambda g, W, bs, lr: _epoch(g, W, bs, lr, kept=0.9), "these are not the weights"),
    ("11_1", _overwritten, "overwritten"),
    ("11_2", lambda before, after, alpha: before["V"], "dictionary"),
    ("11_2", _mixed(lambda a: a, lambda a: 1 - a), "swapped"),
    ("11_2", _mixed(lambda a: 1 + a, lambda a: -a), "walks away"),
    ("11_2", _mixed(lambda a: 1, lambda a: a), "add up to one"),
    ("11_2", _mixed(lambda a: 0.5, lambda a: 0.5), "whatever alpha is"),
    ("11_2", _mixed(lambda a: 1, lambda a: 0), "in every tensor"),
    ("11_3", _along(lambda p, moved, B, lr, K: B), "for each of the 4 classes"),
    ("11_3", _along(lambda p, moved, B, lr, K: B * (p - moved / lr)), "sum over all steps"),
    ("11_3", _along(lambda p, moved, B, lr, K: B * (p - moved / K)), "carries the learning rate"),
    ("11_3", _along(lambda p, moved, B, lr, K: B * (p + moved / (lr * K))), "the sign: b_t"),
    ("11_3", _along(lambda p, moved, B, lr, K: p - moved / (lr * K)), "these are shares"),
    (
        "11_3",
        lambda p, q, moved, B, lr, K: B * (p - moved / (lr * K)),
        "training for the p along the way",
    ),
    (
        "11_3",
        lambda p, q, moved, B, lr, K: B * (q - moved / (lr * K)),
        "training for the p along the way",
    ),
    (
        "11_3",
        lambda p, q, moved, B, lr, K: B * ((p + q) / 2 - moved / (lr * K)),
        "a gradient at its end",
    ),
    ("11_3", _always(torch.ones(4)), "counts of the test case are"),
    ("12_1", lambda g, h, x, s, t: x, "surprise is one number"),
    ("12_1", lambda *given: -_surprise(*given), "wants minus that"),
    ("12_1", lambda *given: _surprise(*given, rough=lambda *_: 0), "prior is missing"),
    ("12_1", lambda *given: _surprise(*given, weight=1), "divided by 2 sigma^2"),
    ("12_1", lambda *given: _surprise(*given, power=1), "sigma stands squared"),
    (
        "12_1",
        lambda *given: _surprise(*given, rough=lambda x, down, right, scale: down + right),
        "units of scale",
    ),
    (
        "12_1",
        lambda *given: _surprise(*given, rough=lambda x, down, right, scale: down / scale),
        "add both",
    ),
    (
        "12_1",
        lambda *given: _surprise(
            *given, rough=lambda x, d, r, t: (d + r) / (t * x.diff(dim=-1).numel())
        ),
        "not the mean",
    ),
    ("12_1", lambda *given: 3 * _surprise(*given), "the surprise of the test case is"),
    ("12_2", lambda each, C: each["V"], "is a dictionary {name: tensor} with the names of each"),
    ("12_2", lambda each, C: each, "the first axis is gone"),
    ("12_2", lambda each, C: {n: d.sum(0) for n, d in each.items()}, "nothing is clipped"),
    ("12_2", _clip_sum, "this clips the sum"),
    (
        "12_2",
        lambda each, C: _clip_each(each, C, lambda d: d.flatten(1).norm(dim=1)),
        "over all its tensors together",
    ),
    ("12_2", lambda each, C: _clip_each(each, C, scale=lambda n, C: C / n), "at most 1"),
    (
        "12_2",
        lambda each, C: _clip_each(each, C, scale=lambda n, C: (C / n**2).clamp(max=1)),
        "not by its square",
    ),
    ("12_2", lambda each, C: {n: d / 4 for n, d in _clip_each(each, C).items()}, "is the mean"),
    ("12_2", lambda each, C: {n: 2 * d for n, d in _clip_each(each, C).items()}, "not the sum"),
    ("12_3", lambda prior, share, steps: torch.ones(2), "the noise is one number"),
    ("12_3", _noise(lambda to, at, T: T**0.5 / (at - to)), "are swapped"),
    ("12_3", _noise(lambda to, at, T: T / (to - at)), "as their square root"),
    ("12_3", _noise(lambda to, at, T: 1 / (to - at)), "noise for one step"),
    ("12_3", _noise(lambda to, at, T: (to - at) / T**0.5), "this is 1 / noise"),
    ("12_3", lambda prior, share, T: T**0.5 / (share - prior), "compare quantiles"),
    ("12_3", _noise(lambda to, at, T: T**0.5 / to), "counts too: the prior"),
    ("12_3", _noise(lambda to, at, T: 2 * T**0.5 / (to - at)), "the noise of the test case"),
    ("13_1", lambda g, leak: g["V"], "zeros, no holes"),
    ("13_1", lambda g, leak: {n: t[leak.update[n] != 0] for n, t in g.items()}, "no holes"),
    ("13_1", lambda g, leak: g, "does not know of the defence"),
    ("13_1", lambda g, leak: leak.direction, "returns the message"),
    ("13_1", _where(lambda g, h: g * (h > 0)), "negative entries"),
    ("13_1", _where(lambda g, h: g * h), "not by h itself"),
    ("13_1", _where(lambda g, h: g * (h == 0)), "that were not sent"),
    ("13_1", _where(lambda g, h: g * (g != 0) / 2), "zero elsewhere"),
    ("13_2", lambda h, bits: (h.min(), h.max()), "one cell for each entry"),
    ("13_2", _cell(lambda m, b: -m / (2 ** (b - 1) - 1)), "low is above"),
    ("13_2", _cell(lambda m, b: 2 * m / (2 ** (b - 1) - 1)), "half a level"),
    ("13_2", _cell(lambda m, b: m / 2 ** (b - 1)), "count the levels"),
    ("13_2", _cell(lambda m, b: m / (2**b - 1)), "not from 0"),
    ("13_2", lambda h, bits: (0 * h - 0.05, 0 * h + 0.05), "not around zero"),
    ("13_2", _cell(lambda m, b: m), "0.65 to 0.75"),
    ("13_3", lambda g, leak: g["V"], "names and shapes"),
    ("13_3", _where(lambda g, h: g * (h != 0)), "bound on them is not used"),
    ("13_3", lambda g, leak: _beyond(g, leak, _least_of_all(leak)), "for itself"),
    ("13_3", _where(lambda g, h: _outside(g, h, h.abs().max())), "not the largest"),
    ("13_3", _where(lambda g, h: _outside(g, h, h.abs().min())), "is t zero?"),
    (
        "13_3",
        _where(lambda g, h: torch.where(h != 0, g, _outside(g, h, h[h != 0].abs().min()).abs())),
        "sign is lost",
    ),
    ("13_3", _where(lambda g, h: g / 2), "a dropped one is"),
    ("14_1", lambda g, h: (g["b"] - h["b"]).square(), "one number for all tensors"),
    ("14_1", lambda g, h: _loss(g, 1, h), "counts the hidden entries"),
    ("14_1", lambda g, h: _over_where(g, h, lambda n: g[n] != 0), "not g"),
    (
        "14_1",
        lambda g, h: _over_where(g, h, lambda n: (h[n] != 0) & (g[n] != 0)),
        "counts as well",
    ),
    ("14_1", lambda g, h: _over_where(g, h, lambda n: h[n] == 0), "these are the hidden"),
    ("14_1", lambda g, h: _over_where(g, h, lambda n: h[n] != 0).sqrt(), "without a mean"),
    ("14_1", lambda g, h: _over_where(g, h, lambda n: h[n] != 0) / 2, "distance of the test case"),
    ("14_2", lambda messages: messages[0]["V"], "dictionary {name: tensor} with the names"),
    ("14_2", lambda messages: {n: sum(m[n] for m in messages) for n in messages[0]}, "came twice"),
    (
        "14_2",
        lambda messages: {n: sum(m[n] for m in messages) / len(messages) for n in messages[0]},
        "not that it is 0",
    ),
    ("14_2", lambda messages: messages[-1], "this is one message"),
    ("14_2", lambda messages: _in_every_round(messages), "in every round"),
    ("14_2", lambda messages: _union(messages[:2]), "not every entry"),
    ("14_2", _written_over, "work on a copy"),
    ("14_3", lambda p, s: math.log(1 - s) / math.log(p), "round up"),
    ("14_3", lambda p, s: math.floor(math.log(1 - s) / math.log(p)), "one round too early"),
    ("14_3", lambda p, s: math.ceil(s / (1 - p)), "rounds overlap"),
    ("14_3", lambda p, s: math.ceil(math.log(s) / math.log(p)), "still hidden"),
    ("14_3", lambda p, s: math.ceil(math.log(1 - s) / math.log(1 - p)), "not 1 - p"),
    ("14_3", _always(3), "it takes"),
    ("15_1", lambda z, k, A, a, B, b: _locked()(z, k, A, a, B, b)[0], "shape of z"),
    ("15_1", _locked(torch.abs), "test case begins with"),
    ("15_1", _locked(_same, _same), "the gate is missing"),
    ("15_1", _locked(gate_b=_same), "through the gate too"),
    ("15_1", _locked(bias=0), "the maps have biases: A k + a"),
    ("15_1", lambda z, k, A, a, B, b: _locked()(z, k, B, b, A, a), "swapped: A and a"),
    ("15_1", _locked(over=(0, 2, 3)), "others of its batch"),
    ("15_1", _locked(over=(1, 2, 3)), "each channel is normalised"),
    ("15_1", _locked(correction=1), "mean of the squares"),
    (
        "15_1",
        lambda z, k, A, a, B, b: (
            (A @ k + a).relu()[:, None, None] * z + (B @ k + b).relu()[:, None, None]
        ),
        "z is not normalised",
    ),
    (
        "15_1",
        lambda z, k, A, a, B, b: (
            _locked()(z, k, A, a, B, b)
            + ((A @ k + a).relu() - 1)[:, None, None] * (B @ k + b).relu()[:, None, None]
        ),
        "gamma does not multiply it",
    ),
    ("15_2", lambda n, L: 2 * n, "return two numbers"),
    ("15_2", lambda n, L: (L, 2 * n), "not the key alone"),
    ("15_2", lambda n, L: (L + 2 * n * L, 2 * n), "the maps have biases."),
    ("15_2", lambda n, L: (L + n * L + n, 2 * n), "two maps, one for"),
    ("15_2", lambda n, L: (2 * (n * L + n), 2 * n), "key is private too"),
    ("15_2", lambda n, L: (1, 2 * n), "private numbers"),
    ("15_2", lambda n, L: (L + 2 * (n * L + n), L), "not for what they were made"),
    ("15_2", lambda n, L: (L + 2 * (n * L + n), n), "a gain and a shift"),
    ("15_2", lambda n, L: (L + 2 * (n * L + n), 1), "numbers beside the image"),
    ("15_3", lambda p: p, "square root still"),
    ("15_3", lambda p: _rmse(p), "decibels of its square"),
    ("15_3", lambda p: 10 * math.log10(255 / _rmse(p)), "the square is missing: 10"),
    ("15_3", lambda p: 2 * p, "take 20 log10(255) off"),
    ("15_3", lambda p: -20 * math.log10(_rmse(p)), "from 0 to 255"),
    ("15_3", _always(0.0), "30 dB published"),
    ("16_1", lambda g, leak: g["V"], "with the names of the gradient"),
    ("16_1", _halved_in_place, "return new tensors"),
    ("16_1", lambda g, leak: {n: d * (leak.update[n] != 0) for n, d in g.items()}, "has filled"),
    ("16_1", lambda g, leak: {n: d - _half(d) for n, d in g.items()}, "the small entries"),
    ("16_1", lambda g, leak: _half_of_all(g), "not of all entries together"),
    ("16_1", lambda g, leak: {n: _half(d, leak.update[n]) for n, d in g.items()}, "would become"),
    ("16_1", lambda g, leak: {n: 0 * d for n, d in g.items()}, "with zeros for the rest"),
    ("16_2", lambda g, h, s, d: -_cells(g, h, s, d / 2).log(), "add up over all entries"),
    ("16_2", lambda g, h, s, d: _cells(g, h, s, d / 2).log().sum(), "needs minus the logarithm"),
    ("16_2", lambda g, h, s, d: _cells(g, h, s, d / 2).prod(), "take their logarithm"),
    ("16_2", lambda g, h, s, d: -_cells(g, h, s, d / 2).log().mean(), "without a mean"),
    ("16_2", lambda g, h, s, d: -_cells(g, h, s, d).log().sum(), "half of delta to each side"),
    ("16_2", lambda g, h, s, d: (g - h).square().sum() / (2 * s**2), "noise without rounding"),
    ("16_2", _always(1.0), "the test case gives"),
    ("16_3", _always("broken"), "answer with one of"),
    ("16_3", lambda k, m, f, p: _judged(k, m, f, p) if k else "not tried", "is there is there"),
    ("16_3", lambda k, m, f, p: _judged(k, min(m, f), f, p), "small objective is no image"),
    ("16_3", lambda k, m, f, p: _judged(True, m, f, p), "without knowing the defence"),
    ("16_3", lambda k, m, f, p: _judged(k, m, 0, 1), "the search has missed it"),
    ("16_3", lambda k, m, f, p: _judged(k, m, 1, 0), "no search will help"),
    ("17_1", lambda points: [*list(points)[1:2], "z"], "names out of points"),
    (
        "17_1",
        lambda points: _front(points, lambda q, p: q[0] >= p[0] and q[1] <= p[1]),
        "no point dominates itself",
    ),
    (
        "17_1",
        lambda points: [
            n
            for n, p in points.items()
            if not any(q[0] >= p[0] and q[1] <= p[1] for m, q in points.items() if m != n)
        ],
        "both stay",
    ),
    (
        "17_1",
        lambda points: _front(points, lambda q, p: q[0] > p[0] and q[1] < p[1]),
        "in one number and worse",
    ),
    ("17_1", lambda points: ["b"], "more than its ends"),
    ("17_1", lambda points: ["a", "b"], "less leakage is better"),
    ("17_1", lambda points: ["c", "e"], "the front of the test case"),
    ("17_2", lambda epsilon, budget: -1.0, "a positive number"),
    ("17_2", lambda epsilon, budget: epsilon(1e9) * 1e9 / budget, "ask the function"),
    ("17_2", lambda epsilon, budget: epsilon(budget), "the inverse is wanted"),
    ("17_2", lambda epsilon, budget: 1.0, "over the budget"),
    ("17_2", lambda epsilon, budget: 100.0, "would be enough"),
    ("17_3", lambda masked, secret: masked[0][:2], "one tensor"),
    ("17_3", lambda masked, secret: sum(m for m in masked if m is not None), "still in this sum"),
    ("17_3", lambda masked, secret: _repaired(masked, secret, -1), "has to be taken off"),
    (
        "17_3",
        lambda masked, secret: secret(0, 1) + _repaired(masked, secret, 1),
        "others unmask those who stay",
    ),
    ("17_3", lambda masked, secret: 0 * masked[0], "not the sum"),
]


@pytest.mark.parametrize(("number", "answer", "message"), MISTAKES)
def test_a_typical_mistake_is_named(number, answer, message):
    verdict = getattr(checks, f"exercise_{number}")(answer)
    assert not verdict
    assert message in verdict.message, verdict.message


def test_every_message_of_the_checks_is_provoked_here():
    chapters = [module for name, module in vars(checks).items() if name.startswith("chapter_")]
    yields = re.findall(r"yield (.*)", "\n".join(map(inspect.getsource, chapters)))
    assert len(yields) > 3 * len(EXERCISES) / 2
    said = [" ".join(re.findall(r'"([^"]*)"', line)) for line in yields]
    provoked = [message for _, _, message in MISTAKES]
    unprovoked = [text for text in said if not any(message in text for message in provoked)]
    assert unprovoked == []
