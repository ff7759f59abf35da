"""What `defenses.dp_sgd` promises; a number out of the range that is given raises ValueError."""

import warnings

import torch

from ._errors import positive, require

__all__ = ["epsilon", "reconstruction_bound"]


def epsilon(
    noise: float, steps: int = 1, *, sample_rate: float = 1.0, delta: float = 1e-5
) -> float:
    """The privacy spent in so many steps: (epsilon, delta)-differential privacy holds.

    noise: sigma > 0, as in `dp_sgd`.  steps >= 1, 0 < delta < 1.  sample_rate: in (0, 1], how often
    an image is in a batch, independently (Poisson sampling).  Neighbours differ by one image.  An
    upper bound by Opacus (ImportError without).  Source: Mironov, Talwar & Zhang 2019.
    """
    _check(noise, steps)
    require(0 < sample_rate <= 1, "sample_rate", sample_rate, "0 < sample_rate <= 1")
    require(0 < delta < 1, "delta", delta, "0 < delta < 1")
    try:
        from opacus.accountants import RDPAccountant
    except ImportError as error:
        raise ImportError("the privacy spent needs Opacus: pip install opacus") from error
    accountant = RDPAccountant()
    accountant.history = [(noise, sample_rate, steps)]
    # with little noise the best order lies below 1.1, where Opacus's own begin
    orders = [1 + 10 ** (-i / 10) for i in range(30, 10, -1)] + accountant.DEFAULT_ALPHAS
    with warnings.catch_warnings():  # orders beyond these might give less; this holds all the same
        warnings.filterwarnings("ignore", "Optimal order")
        return float(accountant.get_epsilon(delta, orders))


def reconstruction_bound(prior: float, noise: float, steps: int = 1) -> float:
    """No attack reconstructs an image with a greater probability than this.

        Phi( Phi^-1(prior) + sqrt(steps) / noise )

    prior: in [0, 1], how often a guess without any message is right, say 1/N of N images.  noise,
    steps: as in `epsilon`, for full batches; all other images may be known.
    Source: Hayes, Mahloujifar & Balle 2023, abstract; the formula is of Dong, Roth & Su 2022.
    """
    _check(noise, steps)
    require(0 <= prior <= 1, "prior", prior, "a probability from 0 to 1")
    quantile = torch.special.ndtri(torch.tensor(prior, dtype=torch.float64))
    return float(torch.special.ndtr(quantile + steps**0.5 / noise))


def _check(noise: float, steps: int) -> None:
    positive("noise", noise, "a multiple of the norm at which one clips")
    require(steps >= 1, "steps", steps, "at least 1")
