"""Feedback blending: an attack that learns from the last ones where to begin."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._errors import bad, require
from ..leak import Leak, some, stack
from .search import Reconstruction

__all__ = ["dlg_fb"]


def dlg_fb(
    model: nn.Module, leaks: Leak | Sequence[Leak], shape: Sequence[int],
    *, alpha: float = 0.5, wave: int = 1,
    attack: Callable[..., Reconstruction] | None = None,
    success: Callable[[Reconstruction], Tensor] = lambda out: out.converged,
    labels: Tensor | None = None, start: str | Tensor = "normal", seed: int = 0, **changes: Any,
) -> Reconstruction:  # fmt: skip
    """DLG with feedback blending: attack one leak after another, each from what the last ones gave.

        m <- x^ after the first success,  m <- alpha m + (1 - alpha) x^ after each later one,

    and the next attack starts at x' = m; until there is a success, at `start`: a name as in `dlg`,
    drawn anew for each leak, or images that broadcast to (V, B, C, H, W).

    leaks: V, or a stack, in their order.  wave: how many are attacked at once, from the same m.
    attack: None is `attacks.idlg`; it gets the `changes`, and labels (V, B) unless None.
    success(out) (V,) says which attacks are blended, by what an attacker sees.
    Raises ValueError for alpha outside [0, 1) and wave < 1, and as the attack does.
    Source: Leite et al. 2024, published code (which first waits for three successes).

    >>> from leaklib import client, models
    >>> net, x, y = models.mlp(1, 4, (8,)), torch.full((3, 1, 4, 4), 0.7), torch.tensor([7, 1, 2])
    >>> leaks = [client.share_gradient(net, x[i, None], y[i, None]) for i in range(3)]
    >>> dlg_fb(net, leaks, (1, 1, 4, 4)).labels.tolist()
    [[7], [1], [2]]
    """
    from . import idlg  # which is made after this function

    require(0 <= alpha < 1, "alpha", alpha, "0 <= alpha < 1")
    require(wave >= 1, "wave", wave, "at least 1")
    leaks = leaks if isinstance(leaks, Leak) else stack(leaks)
    if leaks.victims is None:
        raise bad("leaks", "one Leak", "several, or a stack of them")
    attack = idlg if attack is None else attack
    m, outs = None, []
    for first in range(0, leaks.victims, wave):
        rows = slice(first, first + wave)
        begin = start[rows, None] if torch.is_tensor(start) and start.ndim > 4 else start
        given = {} if labels is None else {"labels": labels[rows]}
        given |= dict(start=begin if m is None else m, seed=seed + first)
        out = attack(model, some(leaks, rows), shape, **given, **changes)
        for x in out.images[success(out)]:
            # m <- alpha m + (1 - alpha) x^
            m = x if m is None else alpha * m + (1 - alpha) * x
        outs.append(out)
    return _joined(outs)


def _joined(outs: Sequence[Reconstruction]) -> Reconstruction:
    """The results of several attacks, one after the other, as one of all their victims."""
    T = max(out.trace.shape[1] for out in outs)
    traces = [F.pad(out.trace, (0, T - out.trace.shape[1]), value=torch.nan) for out in outs]
    counts = sorted({count for out in outs for count in out.snapshots})
    images, labels, objective, converged, evaluations = (
        torch.cat([getattr(out, name) for out in outs])
        for name in ("images", "labels", "objective", "converged", "evaluations")
    )
    return Reconstruction(
        images,
        labels,
        objective,
        converged,
        evaluations=evaluations,
        trace=torch.cat(traces),
        # an attack that was over by then stands where it ended
        snapshots={n: torch.cat([o.snapshots.get(n, o.images) for o in outs]) for n in counts},
    )
