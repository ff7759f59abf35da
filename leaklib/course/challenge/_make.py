"""A student's challenge, from the secret and the instructor's pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..._errors import bad
from ._file import Facts, write_challenge
from ._keys import Draws
from ._levels import Level, level_of
from ._pool import TRIES, Pool, open_pool, window


def make_challenge(
    student_id: str,
    secret: str | bytes,
    level: str,
    *,
    images: str | os.PathLike | Sequence[Tensor] | Pool,
    to: str | os.PathLike,
) -> Path:
    """Write a student's own leak file of one of the `LEVELS` to the path `to`, and return that.

    The same arguments give the same challenge.  secret: 32 random characters or more,
    such as `course.secret.new_secret()` gives.
    images: a folder, tensors (3, H, W) in [0, 1], or what `open_pool` made of them, so that they
    are not read again for every student.
    Raises ValueError for an id that is not safe in a file name, a weak secret, an unknown level,
    and too few pictures; OSError where the file cannot be written.
    """
    recipe, draws = level_of(level), Draws(secret, student_id, level)
    pool = open_pool(images)
    x, y = truth(draws, recipe, pool)
    leak = recipe.share(draws, x, y)
    facts = Facts(
        student_id, level, recipe.network, recipe.shape, recipe.known, recipe.text,
        tags_of(draws, recipe, pool),
    )  # fmt: skip
    return write_challenge(Path(to), leak, facts)


def truth(draws: Draws, level: Level, pool: Pool) -> tuple[Tensor, Tensor]:
    """The private batch: images (B, C, H, W), windows in the pictures chosen, and labels (B,)."""
    B, _, size, _ = level.shape
    images = [
        window(pool.pixels(number), size, draws.uniform(f"window of image {i}", 4 * TRIES))
        for i, number in enumerate(pool.chosen(draws, B))
    ]
    return torch.stack(images), draws.labels(B, level.network["classes"])


def tags_of(draws: Draws, level: Level, pool: Pool) -> dict[str, str]:
    """What tells the holder of the secret, and nobody else, which secret and pictures were used."""
    chosen = b"".join(pool.hashes[i] for i in pool.chosen(draws, level.shape[0]))
    return {"secret": draws.tag("tag of the secret"), "images": draws.tag("tag", chosen)}


def check_made_with(facts: Facts, draws: Draws, level: Level, pool: Pool) -> None:
    """Raise ValueError unless a challenge was made with this secret and these pictures."""
    tags = tags_of(draws, level, pool)
    if facts.tags["secret"] != tags["secret"]:
        raise bad("secret", "another one", "the one that the challenge was made with")
    if facts.tags["images"] != tags["images"]:
        raise bad("images", "others", "those that the challenge was made with")
