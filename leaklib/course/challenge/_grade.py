"""What an answer is worth.  Nothing that a student hands in raises an error."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ... import metrics
from ..._errors import bad
from ...leak import Tensors
from ._file import check_pixels, read_answer, read_challenge
from ._keys import Draws
from ._levels import Level, level_of
from ._make import check_made_with, truth
from ._pool import Pool, open_pool

LABEL_POINTS, IMAGE_POINTS = 2.0, 8.0


class Grade(NamedTuple):
    """The score of one answer.

    points, out_of  the sum of both parts
    psnr, ssim      (B,) of each private image, in dB; empty where no images could be scored
    labels_right    how many of the B labels, in any order
    lines           what to tell the student
    """

    points: float
    out_of: float
    psnr: tuple[float, ...]
    ssim: tuple[float, ...]
    labels_right: int
    lines: tuple[str, ...]


def grade_challenge(
    student_id: str,
    secret: str | bytes,
    answer: str | os.PathLike | Tensors,
    *,
    level: str,
    images: str | os.PathLike | Sequence[Tensor] | Pool,
    challenge: str | os.PathLike | None = None,
) -> Grade:
    """Score an answer: the labels, and the PSNR of each image after `metrics.match`.

    answer: a file that `write_answer` wrote, or its tensors images (B, C, H, W) float32 and labels
    (B,) int64.  Labels earn `LABEL_POINTS` times the share that is right, and each image earns its
    part of `IMAGE_POINTS` times (PSNR - floor) / (full - floor) of the level, from 0 to 1.
    Whatever is wrong with an answer costs those points alone, and a line says so.
    challenge: the file as it was made.
    Raises ValueError as `make_challenge` does, for what the instructor gives, and where the
    challenge was made with another secret or other pictures.
    """
    recipe, draws = level_of(level), Draws(secret, student_id, level)
    pool = open_pool(images)
    if challenge is not None:
        _, facts = read_challenge(challenge)
        if (facts.student_id, facts.level) != (student_id, level):
            came = f"that of {facts.student_id}, {facts.level}"
            raise bad("challenge", came, f"that of {student_id}, {level}")
        check_made_with(facts, draws, recipe, pool)
    try:
        found = answer if isinstance(answer, dict) else read_answer(answer)
    except FileNotFoundError:
        return _nothing("no answer was handed in")
    except (OSError, TypeError, ValueError) as error:
        return _nothing(f"the answer cannot be read: {error}")
    x, y = truth(draws, recipe, pool)
    right, about_labels = _labels(found.get("labels"), y, recipe.network["classes"])
    psnr, ssim, about_images = _images(found.get("images"), x)
    shares = [_share(value, recipe) for value in psnr]
    points = LABEL_POINTS * right / len(y) + IMAGE_POINTS * sum(shares) / len(x)
    if psnr and not any(shares):
        about_images += (f"no image is recovered: marks begin at {recipe.floor:g} dB",)
    lines = (*about_labels, *about_images)
    return Grade(round(points, 2), LABEL_POINTS + IMAGE_POINTS, psnr, ssim, right, lines)


def _nothing(line: str) -> Grade:
    return Grade(0.0, LABEL_POINTS + IMAGE_POINTS, (), (), 0, (line,))


def _share(psnr: float, level: Level) -> float:
    """(PSNR - floor) / (full - floor), from 0 to 1."""
    return min(max((psnr - level.floor) / (level.full - level.floor), 0.0), 1.0)


def _labels(labels: object, truth: Tensor, classes: int) -> tuple[int, tuple[str, ...]]:
    """How many labels are right, and what to say about them."""
    fault = _fault(labels, torch.int64, tuple(truth.shape))
    if fault:
        return 0, (f"labels: {fault}",)
    # without images to match, the labels of a batch have no order: their counts are compared
    given = labels.detach().cpu()
    known = given[(given >= 0) & (given < classes)]
    counts = torch.bincount(known, minlength=classes)  # (C,)
    right = round(metrics.count_accuracy(counts, truth) * len(truth))
    return right, (f"labels: {right} of {len(truth)} right",)


def _images(
    images: object, truth: Tensor
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[str, ...]]:
    """PSNR and SSIM of each private image, and what to say about them."""
    fault = _fault(images, torch.float32, tuple(truth.shape))
    if fault:
        return (), (), (f"images: {fault}",)
    images = images.detach().cpu()
    try:
        check_pixels(images)
    except ValueError as error:
        return (), (), (str(error),)
    images = metrics.match(images, truth)
    psnr, ssim = (tuple(score(images, truth).tolist()) for score in (metrics.psnr, metrics.ssim))
    lines = tuple(
        f"image {i}: PSNR {p:.1f} dB, SSIM {s:.2f}" for i, (p, s) in enumerate(zip(psnr, ssim), 1)
    )
    return psnr, ssim, lines


def _fault(tensor: object, dtype: torch.dtype, shape: tuple[int, ...]) -> str | None:
    """What is wrong with a tensor of an answer, if anything is."""
    wanted = f"shape {shape} of {dtype}"
    # a class of the student's own could answer every question as it likes
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided:
        came = "missing" if tensor is None else f"got {type(tensor).__name__}"
        return f"{came}; wanted a tensor of {wanted}"
    if tensor.dtype != dtype or tuple(tensor.shape) != shape:
        return f"got shape {tuple(tensor.shape)[:8]} of {tensor.dtype}; wanted {wanted}"
    if tensor.is_meta:
        return f"got a tensor without numbers; wanted {wanted}"
    return None
