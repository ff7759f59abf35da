"""What `defenses.dp_sgd` promises: the privacy that it spends, and a bound on every attack.

Every number out of the range that is given raises ValueError.
"""

import math
import warnings

import torch

from ._errors import bad, positive

__all__ = ["epsilon", "reconstruction_bound"]


def epsilon(
    noise: float, steps: int = 1, *, sample_rate: float = 1.0, delta: float = 1e-5
) -> float:
    """The privacy spent in so many steps: (epsilon, delta)-differential privacy holds.

    noise: sigma > 0, as in `dp_sgd`.  steps: at least 1.  delta: in (0, 1).
    sample_rate: q in (0, 1], with which each image is in each batch, independently (Poisson
    sampling); 1 is the full batch.  Data sets are neighbours when one has an image that the other
    lacks.  An upper bound, by Opacus's Renyi accountant.  Raises ImportError without Opacus.
    Source: Mironov, Talwar & Zhang 2019; Opacus.
    """
    _check(noise, steps)
    if not 0 < sample_rate <= 1:
        raise bad("sample_rate", sample_rate, "0 < sample_rate <= 1")
    if not 0 < delta < 1:
        raise bad("delta", delta, "0 < delta < 1")
    try:
        from opacus.accountants import RDPAccountant
    except ImportError as error:
        raise ImportError("the privacy spent needs Opacus: pip install opacus") from error
    accountant = RDPAccountant()
    accountant.history = [(noise, sample_rate, steps)]
    # with little noise the best order lies below 1.1, where Opacus's own begin
    orders = [1 + 10 ** (-i / 10) for i in range(30, 10, -1)] + accountant.DEFAULT_ALPHAS
    with warnings.catch_warnings():
        # orders beyond these might give less; what is returned holds all the same
        warnings.filterwarnings("ignore", "Optimal order")
        return float(accountant.get_epsilon(delta, orders))


def reconstruction_bound(prior: float, noise: float, steps: int = 1) -> float:
    """No attack reconstructs an image with a greater probability than this.

        Phi( Phi^-1(prior) + sqrt(steps) / noise )

    prior: in [0, 1], how often the best guess without any message is right, say 1/N for one of N
    equally likely images.  noise, steps: as in `epsilon`, for full batches; the attacker may know
    every other image.
    Source: Hayes, Mahloujifar & Balle 2023, of whom the abstract was read; the formula is the trade
    between the errors of a test of two normal laws (Dong, Roth & Su 2022).
    """
    if not 0 <= prior <= 1:
        raise bad("prior", prior, "a probability from 0 to 1")
    _check(noise, steps)
    quantile = torch.special.ndtri(torch.tensor(prior, dtype=torch.float64))
    return float(torch.special.ndtr(quantile + math.sqrt(steps) / noise))


def _check(noise: float, steps: int) -> None:
    positive("noise", noise, "a multiple of the norm at which one clips")
    if not steps >= 1:
        raise bad("steps", steps, "at least 1")
