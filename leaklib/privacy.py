"""What `defenses.dp_sgd` promises; a number out of the range that is given raises ValueError."""

import math
import warnings

import torch

from ._errors import number, positive, whole

__all__ = ["epsilon", "reconstruction_bound"]
SMALLEST = 1e-100  # the least noise whose square, and its inverse's, are numbers


def epsilon(
    noise: float, steps: int = 1, *, sample_rate: float = 1.0, delta: float = 1e-5
) -> float:
    """The privacy spent in so many steps: (epsilon, delta)-differential privacy holds.

    noise: sigma > 0, as in `dp_sgd`.  steps: 1 to 10^9, 0 < delta < 1.  sample_rate: in (0, 1], how
    often an image is in a batch, independently (Poisson sampling).  Neighbours differ by one image.
    An upper bound >= 0 by Opacus (ImportError without).  Source: Mironov, Talwar & Zhang 2019.
    """
    _check(noise, steps)
    number("sample_rate", sample_rate, lambda: 0 < sample_rate <= 1, "0 < sample_rate <= 1")
    number("delta", delta, lambda: 0 < delta < 1, "0 < delta < 1")
    if noise < SMALLEST:
        return math.inf
    try:
        from opacus.accountants import RDPAccountant
    except ImportError as error:
        raise ImportError("the privacy spent needs Opacus: pip install opacus") from error
    accountant = RDPAccountant()
    accountant.history = [(min(noise, 1 / SMALLEST), sample_rate, steps)]
    # with little noise the best order lies below 1.1, where Opacus's own begin; with much it is
    # large, and the fractions cost minutes
    near_1 = [1 + 10 ** (-i / 10) for i in range(30, 10, -1)]
    is_little = noise < 10 * steps**0.5
    orders = [*near_1, *accountant.DEFAULT_ALPHAS] if is_little else [*map(float, range(2, 257))]
    with warnings.catch_warnings():  # orders beyond these might give less; this holds all the same
        warnings.filterwarnings("ignore", "Optimal order")
        # it falls below 0 where delta alone would do
        return max(0.0, float(accountant.get_epsilon(delta, orders)))


def reconstruction_bound(prior: float, noise: float, steps: int = 1) -> float:
    """No attack reconstructs an image with a greater probability than this.

        Phi( Phi^-1(prior) + sqrt(steps) / noise )

    prior: in [0, 1], how often a guess without any message is right, say 1/N of N images.  noise,
    steps: as in `epsilon`, for full batches; all other images may be known.
    Source: Hayes, Mahloujifar & Balle 2023, abstract; the formula is of Dong, Roth & Su 2022.
    """
    _check(noise, steps)
    number("prior", prior, lambda: 0 <= prior <= 1, "a probability from 0 to 1")
    quantile = torch.special.ndtri(torch.tensor(float(prior), dtype=torch.float64, device="cpu"))
    # finite, since with a prior of 0 it is added to minus infinity
    apart = min(steps**0.5 / noise, 1 / SMALLEST)
    return float(torch.special.ndtr(quantile + apart))


def _check(noise: float, steps: int) -> None:
    positive("noise", noise, "a multiple of the norm at which one clips")
    whole("steps", steps, "at least 1, a whole number up to 10^9", 1, 10**9)
