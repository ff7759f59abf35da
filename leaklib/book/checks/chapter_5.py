"""Chapter 5: iDLG."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ... import attacks, client, data, labels, metrics, models
from ...leak import Leak
from ._verdict import Verdict, call, check


def _small_leak(seed: int) -> tuple[torch.nn.Module, Leak, Tensor, int]:
    images, numbers = data.load("digits", 4, size=14, seed=7)
    model = models.lenet(1, 14, seed=seed)
    x, y = images[seed : seed + 1], numbers[seed : seed + 1]
    return model, client.share_gradient(model, x, y), x, int(y)


def exercise_5_1(my_idlg: Callable) -> Verdict:
    """my_idlg(model, leak, shape) -> the reconstruction."""

    def faults() -> Iterator[str]:
        model, leak, x, y = _small_leak(0)
        out = call(my_idlg, model, leak, tuple(x.shape))
        if not isinstance(out, attacks.Reconstruction):
            yield "return what attacks.dlg returns."
        if int(out.labels) != y:
            yield "the label is wrong: pass labels=labels.idlg(leak) to attacks.dlg."
        if not metrics.success_rate(out.images, x):
            yield "the label is right but the image is not there yet: give it more steps."

    return check("5.1", faults)


def exercise_5_2(label_by_trying: Callable) -> Verdict:
    """label_by_trying(model, leak, shape, classes) -> the label whose attack fits best."""

    def faults() -> Iterator[str]:
        for seed in (1, 2):
            model, leak, x, y = _small_leak(seed)
            # the label must come from the fit, so the bias gradient is withheld
            hidden = {n: d for n, d in leak.update.items() if n != "fc.bias"}
            hidden["fc.bias"] = torch.zeros_like(leak.update["fc.bias"])
            shown = Leak(leak.weights, hidden)
            found = int(call(label_by_trying, model, shown, tuple(x.shape), 10))
            if found == int(labels.idlg(leak)) == y:
                continue
            yield f"the label is {y}, not {found}: compare `objective` after the same steps."

    return check("5.2", faults)


def exercise_5_3(mcnemar: Callable[[Tensor, Tensor], float]) -> Verdict:
    """mcnemar(a, b) -> the exact two-sided p-value."""

    def faults() -> Iterator[str]:
        from scipy.stats import binomtest

        both, only_a, only_b = torch.tensor([True] * 9), torch.tensor([True] * 6), 2
        a = torch.cat([both, only_a, torch.tensor([False] * only_b)])
        b = torch.cat([both, ~only_a, torch.tensor([True] * only_b)])
        found = float(call(mcnemar, a, b))
        if abs(found - binomtest(int(a.sum()), len(a)).pvalue) < 1e-9:
            yield "only the images on which the attacks differ are fair coins."
        if abs(found - binomtest(6, 8, alternative="greater").pvalue) < 1e-9:
            yield "this is one-sided; either attack may be the better one."
        if abs(found - binomtest(6, 8).pvalue) > 1e-9:
            yield f"6 against 2 has p = {binomtest(6, 8).pvalue:.3f}, not {found:.3f}."
        if abs(float(mcnemar(both, both)) - 1) > 1e-9:
            yield "two attacks that never differ have p = 1."

    return check("5.3", faults)
