"""The sentence, once in a plain loop, then each paper's attack as a value of it.

    find z that minimises  distance(defend(g(W, z, y)), leak) + prior(z),
    from a start, with a solver, with labels y from a label rule.

An `Attack` has these words as its fields: `replace(attacks.idlg, distance=distances.cosine)` is
another one.  `plain` says what each computes; called, it does so for all of a leak at once.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch  # noqa: F401 (the examples)
from torch import Tensor, nn

from .. import client, distances, labels, priors, solvers
from .._batching import first
from ..leak import Leak, Tensors, as_stack
from . import begin
from .attack import Attack
from .begin import STARTS
from .feedback import dlg_fb
from .predict import simulated, single_step, surrogate
from .search import CONVERGED, GREY, STOP, Reconstruction

__all__ = [
    "plain", "Attack", "dlg", "idlg", "invert_gradients", "dlg_fb",
    "dlm", "dlm_projected", "dlm_plus", "fedavg", "single_step", "surrogate", "simulated", "scaled",
    "Reconstruction", "CONVERGED", "STOP", "GREY", "STARTS",
]  # fmt: skip


def plain(
    attack: Attack, model: nn.Module, leak: Leak, shape: Sequence[int], *, seed: int = 0
) -> tuple[Tensor, Tensor, float]:
    """The attack on one victim in a plain loop, with no batching: the truth for the fast paths.

    Returns images (B, C, H, W) of the best restart, labels (B,), and the objective there.

    >>> net, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 9)), torch.rand(1, 1, 2, 2)
    >>> leak = client.share_gradient(net, x, torch.tensor([7]))
    >>> images, label, _ = plain(idlg, net, leak, x.shape)
    >>> int(label), bool(((images - x).abs() < 1e-3).all())
    (7, True)
    """
    g, h = client.gradient(model, attack.loss), leak.direction
    output = begin.check(attack, model, leak, shape)
    labels, y = begin.targets_of(attack, model, leak, 1, output)  # None: to be searched
    X, U = begin.first_points(attack, shape, first(h), seed, output.shape[-1], y)
    c = begin.first_unknowns(attack, as_stack(leak), X)

    def guess(z: Any) -> tuple[Tensor, Tensor, Tensors]:
        x, *rest = (part[0] for part in z)  # a solver's z has an axis of problems: here of one
        return x, rest.pop(0).softmax(-1) if labels is None else y[0], dict(zip(c, rest))

    def objective(z: Any, _: Tensor) -> Tensor:
        x, y, numbers = guess(z)
        G = attack.predict(g, leak, x, y, numbers)
        if attack.defend is not None:
            G = attack.defend(G, leak)
        D = attack.distance(G, h if attack.sent is None else attack.sent(h, numbers))
        return (D if attack.prior is None else D + attack.prior(x))[None]

    starts = [(x[None], *([u[None]] if labels is None else []), *c.values()) for x, u in zip(X, U)]
    found = [attack.solver(objective, z, steps=attack.steps) for z in starts]
    best = min(found, key=lambda solution: float(solution.value))
    x, y_found, _ = guess(best.z)
    return x, y_found.argmax(-1), float(best.value)


def scaled(h: Tensors, c: Tensors) -> Tensors:
    """What was sent, for an attacker to whom its scale is unknown: k h."""
    return {name: c["k"] * tensor for name, tensor in h.items()}


scaled.__dict__["formula"] = r"k \, (W_t - W_{t+1})"


dlg = Attack("DLG", labels="joint", about="""
    Deep leakage from gradients: images and soft labels that give the leaked gradient.

    The paper's own: `start="normal", solver=solvers.lbfgs_torch`.
    Source: Zhu et al. 2019, Algorithm 1; published code.

    >>> net, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 9)), torch.full((1, 1, 2, 2), 0.7)
    >>> leak = client.share_gradient(net, x, torch.tensor([7]))
    >>> dlg(net, leak, x.shape).labels
    tensor([[7]])
    """)  # fmt: skip

idlg = Attack("iDLG", labels=labels.idlg, about="""
    Improved DLG: read the label off the last layer, then find the image alone.

    A batch needs its `labels`: class numbers, or "joint".
    Source: Zhao, Mopuri & Bilen 2020, Algorithm 1.

    >>> net, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 9)), torch.full((1, 1, 2, 2), 0.7)
    >>> leak = client.share_gradient(net, x, torch.tensor([7]))
    >>> print(f"{idlg(net, leak, x.shape).images.mean():.1f}")
    0.7
    """)  # fmt: skip

invert_gradients = replace(
    idlg, name="Inverting Gradients", distance=distances.cosine, prior=priors.total_variation(0.1),
    start="uniform", solver=solvers.sign_adam,
    about="""Inverting Gradients: match the direction of the gradient alone, with a smooth picture.

    With the prior the objective ends where its terms balance: results are hardly ever `converged`.
    The paper's own: `start="normal"`, for pixels of mean 0 and variance 1; `steps=4800` or 24,000.
    Source: Geiping et al. 2020, eq. 4; published code (weight 0.1).

    >>> net, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 9)), torch.full((1, 1, 2, 2), 0.7)
    >>> leak = client.share_gradient(net, x, torch.tensor([7]))
    >>> print(f"{invert_gradients(net, leak, x.shape, steps=200).images.mean():.1f}")
    0.7
    """)  # fmt: skip

dlm = Attack(
    "DLM", unknowns={"k": 200.0}, sent=scaled, measure=distances.cosine, scale_free=True,
    about="""Deep leakage from model: DLG on weights, where k is what the learning rate hides.

    After one step at the rate lr the private image has k = 1 / lr, or s / lr, s in (0, 1], with a
    soft label.  Another minimum says nothing: g -> 0 with k -> 0; `converged` asks that the two
    have one direction.  The result holds `unknowns["k"]` (V,).
    The paper's own: `start="normal", solver=solvers.lbfgs_torch`, k from 60 to 240.
    Source: Zhao, Luo & Ding 2022, published code (DLM.py).

    >>> net, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 9)), torch.full((1, 1, 2, 2), 0.7)
    >>> leak = client.share_weights(net, x, torch.tensor([7]), lr=0.1)
    >>> print(f"{dlm(net, leak, x.shape, labels=7, unknowns={'k': 9.0}).unknowns['k'][0]:.1f}")
    10.0
    """)  # fmt: skip

dlm_projected = replace(
    dlm, name="DLM, best k", unknowns={}, sent=None, distance=distances.projected,
    about="""DLM with the best k at every evaluation, in closed form: k is not searched for.

    Source: the objective of Zhao, Luo & Ding 2022; Golub & Pereyra 1973 (variable projection).

    >>> net, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 9)), torch.full((1, 1, 2, 2), 0.7)
    >>> leak = client.share_weights(net, x, torch.tensor([7]), lr=0.1)
    >>> print(f"{dlm_projected(net, leak, x.shape, labels=7).images.mean():.1f}")
    0.7
    """)  # fmt: skip

dlm_plus = replace(idlg, name="DLM+", distance=distances.mean_norm, scale_free=True, about="""
    DLM+: match directions, so that the client's learning rate cancels and no k is needed.

    Where the rate is so small that rounding keeps the distance up, `converged` is false of right
    images too.  `labels="joint"` searches the label too, as the code for defences does.
    The paper's own: `start="normal", solver=solvers.lbfgs_torch`, with the true label.
    Source: Zhao, Luo & Ding 2022, published code (DLM_plus.py, dlm_defense.py).

    >>> net, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 9)), torch.full((1, 1, 2, 2), 0.7)
    >>> leak = client.share_weights(net, x, torch.tensor([7]), lr=0.1)
    >>> print(f"{dlm_plus(net, leak, x.shape).images.mean():.1f}")
    0.7
    """)  # fmt: skip

fedavg = replace(
    idlg, name="FedAvg", distance=distances.cosine, predict=surrogate(), scale_free=True,
    reads=("weights",),
    about="""Images out of weights after many local steps, by what the attacker takes those to be.

    predict: `surrogate()`, whose alpha the result holds in `unknowns["alpha"]`; `single_step`; or
    `simulated(lr, steps=…)`.  `labels.counts` reads the labels of a batch, given lr and steps.
    Source: Zhu, Yao & Blaschko 2023 (SME), Geiping et al. 2020 and Dimitrov et al. 2022.

    >>> net, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 9)), torch.full((1, 1, 2, 2), 0.7)
    >>> leak = client.share_weights(net, x, torch.tensor([7]), lr=0.1)
    >>> print(f"{fedavg(net, leak, x.shape).images.mean():.1f}")
    0.7
    """)  # fmt: skip
