"""Chapter 15: the key-lock module."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor

from ...keylock import EPS
from ._verdict import Verdict, call, check, close, random, tensor


def exercise_15_1(lock: Callable[..., Tensor]) -> Verdict:
    """lock(z, k, A, a, B, b) -> gamma n(z) + beta with a ReLU for the gate."""

    def faults() -> Iterator[str]:
        z = 2 * random(2, 4, 3, 3) + 1
        k = random(6, seed=9)
        A, a, B, b = (
            random(4, 6, seed=2),
            random(4, seed=3),
            random(4, 6, seed=4),
            random(4, seed=5),
        )
        found = tensor(lock, z, k, A, a, B, b)

        def normal(over: tuple[int, ...] = (2, 3), correction: int = 0) -> Tensor:
            var = z.var(over, correction=correction, keepdim=True)
            return (z - z.mean(over, keepdim=True)) / (var + EPS).sqrt()

        def scaled(n: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
            return gamma[:, None, None] * n + beta[:, None, None]

        if found.shape != z.shape:
            yield "y has the shape of z, (N, O, H, W): gamma and beta are (O, 1, 1) beside it."
            return
        same = partial(close, found)
        bare = A @ k + a, B @ k + b
        gamma, beta = bare[0].relu(), bare[1].relu()
        if same(scaled(normal(), *bare)):
            yield "the gate is missing: gamma = relu(A k + a), and beta likewise."
        if same(scaled(normal(), gamma, bare[1])):
            yield "the shift goes through the gate too."
        if same(scaled(normal(), (A @ k).relu(), (B @ k).relu())):
            yield "the maps have biases: A k + a and B k + b."
        if same(scaled(normal(), beta, gamma)):
            yield "gain and shift are swapped: A and a give gamma, which multiplies."
        if same(gamma[:, None, None] * (normal() + beta[:, None, None])):
            yield "the shift is added last, and gamma does not multiply it."
        if same(scaled(z, gamma, beta)):
            yield "z is not normalised."
        if same(scaled(normal((0, 2, 3)), gamma, beta)):
            yield "each image is normalised by itself, not with the others of its batch."
        if same(scaled(normal((1, 2, 3)), gamma, beta)):
            yield "each channel is normalised by itself."
        if same(scaled(normal(correction=1), gamma, beta)):
            yield "the variance is the mean of the squares: correction=0."
        if not same(scaled(normal(), gamma, beta)):
            first = float(scaled(normal(), gamma, beta).flatten()[0])
            yield f"y of the test case begins with {first:.3f}, not {found.flatten()[0]:.3f}."

    return check("15.1", faults)


def exercise_15_2(count: Callable[[int, int], tuple[int, int]]) -> Verdict:
    """count(O, L) -> (numbers that stay private, numbers that an attacker has to find)."""

    def faults() -> Iterator[str]:
        O, L = 5, 7  # noqa: E741
        found = call(count, O, L)
        if not isinstance(found, tuple) or len(found) != 2:
            yield "return two numbers: what stays private, and what the attacker has to find."
            return
        private, unknown = found
        if private == L:
            yield "the two maps are private too, not the key alone."
        if private == L + 2 * O * L:
            yield "the maps have biases."
        if private == L + O * L + O:
            yield "there are two maps, one for the gains and one for the shifts."
        if private == 2 * (O * L + O):
            yield "the key is private too."
        if private != L + 2 * (O * L + O):
            yield f"with O = 5 and L = 7 there are {L + 2 * (O * L + O)} private numbers."
        if unknown in (L, private):
            yield "the forward pass asks for gamma and beta, not for what they were made from."
        if unknown == O:
            yield "each channel has a gain and a shift."
        if unknown != 2 * O:
            yield f"with O = 5 an attacker has to find {2 * O} numbers beside the image."

    return check("15.2", faults)


def exercise_15_3(true_psnr: Callable[[float], float]) -> Verdict:
    """true_psnr(published) -> the PSNR of an image whose RMSE was taken for its MSE."""

    def faults() -> Iterator[str]:
        published = 30.0
        found = float(tensor(true_psnr, published))
        rmse = 255**2 / 10 ** (published / 10)
        right = 20 * math.log10(255 / rmse)
        same = partial(math.isclose, found, rel_tol=1e-4)
        if same(published):
            yield "this is what was published: the error is its square root still."
        if same(rmse):
            yield "this is the root mean square error; now take the decibels of its square."
        if same(right / 2):
            yield "the square is missing: 10 log10(255^2 / RMSE^2)."
        if same(2 * published):
            yield "255 is squared once in the published formula: take 20 log10(255) off."
        if same(20 * math.log10(1 / rmse)):
            yield "the pixels go from 0 to 255, and so does this error."
        if not same(right):
            yield f"30 dB published are {right:.2f} dB, not {found:.2f}."

    return check("15.3", faults)
