"""Files that go to students and come back: safetensors, with a header of JSON.

They are read as coming from a stranger.  Nothing in them is run, every size is checked before any
memory is taken, and whatever does not fit exactly raises ValueError.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor

from ..._errors import bad
from ..._files import write
from ...leak import Leak, Tensors, packed, unpacked
from ..class_table import check_id
from ._keys import FORMAT
from ._networks import Network, build, check_network

LARGEST = 16_000_000  # bytes of a file
HEADER = 32_000  # bytes of its header
DEPTH = 8  # brackets within brackets
TENSORS = 64  # in a file
DIMENSIONS = 4  # of a tensor
BATCH = 16  # images
FURTHEST = 1.0  # how far outside [0, 1] a pixel may lie and still be clamped
DTYPES = ("F32", "I64")
NAME = re.compile(r"[a-z][a-z0-9_./]{0,79}", re.ASCII)
TAG = re.compile(r"[0-9a-f]{32}", re.ASCII)
TEXT = 500  # characters of what is said about a level


class Facts(NamedTuple):
    """What a challenge tells besides its leak.

    student_id, level  whose it is, and which of the `LEVELS`
    network  the architecture, for `model_of`
    shape    (B, C, H, W) of the private batch
    known    {name: value}: what is known of the client, such as steps, lr, defence
    text     the same as a sentence or two
    tags     {"secret": …, "images": …}: what it was made with; only the instructor can read them
    """

    student_id: str
    level: str
    network: Network
    shape: tuple[int, ...]
    known: dict[str, str | int | float]
    text: str
    tags: dict[str, str]


# ------------------------------------------------------------------ what is written
def write_challenge(path: Path, leak: Leak, facts: Facts) -> Path:
    """Write a leak and its facts; `leak.load` reads the leak out of it as well."""
    return write(path, packed(leak, challenge={"format": FORMAT, **facts._asdict()}))


def write_answer(path: str | os.PathLike, images: Tensor, labels: Tensor) -> Path:
    """Write the answer to a challenge, and return its path.

    images (B, C, H, W) floating point, clamped to [0, 1] as every score does, and at most
    `FURTHEST` outside; labels (B,) int64, -1 where unknown.  From an attack's result:
    `out.images[0], out.labels[0]`.
    Raises ValueError for other shapes and types, and for pixels that are not finite, or further.
    """
    wanted = "(B, C, H, W) floating point, square, such as out.images[0]"
    fit = torch.is_tensor(images) and images.is_floating_point() and images.ndim == 4
    # the pictures of all levels are square, and with their colours last they would not be
    if not fit or not images.numel() or images.shape[-1] != images.shape[-2]:
        raise bad("images", _came(images), wanted)
    check_pixels(images)
    if not torch.is_tensor(labels) or labels.dtype != torch.int64 or labels.ndim != 1:
        raise bad("labels", _came(labels), "(B,) of torch.int64, such as out.labels[0]")
    if len(labels) != len(images):
        raise bad("labels", f"{len(labels)} labels", f"{len(images)}, one for each image")
    if labels.min() < -1:
        raise bad("labels", f"labels from {int(labels.min())}", "0 or more, or -1 where unknown")
    images = images.detach().cpu().float().clamp(0, 1).contiguous()
    answer = {"images": images, "labels": labels.cpu().contiguous()}
    return write(path, bytes_of(answer))


def check_pixels(images: Tensor) -> None:
    """Raise ValueError for pixels that are not finite, or too far from [0, 1] to be clamped."""
    if not images.isfinite().all():
        raise bad("images", "NaN or infinite pixels", "finite numbers")
    low, high = float(images.min()), float(images.max())
    if low < -FURTHEST or high > 1 + FURTHEST:
        raise bad("images", f"pixels from {low:.3g} to {high:.3g}", "0 to 1")


# ------------------------------------------------------------------ what is read
def read_challenge(path: str | os.PathLike) -> tuple[Leak, Facts]:
    """The leak of a challenge, and what is known: (leak, facts).

    Raises ValueError for a file that `make_challenge` cannot have written: too large, truncated, or
    with names, types or shapes that are not the network's; and OSError where there is none.
    """
    tensors, metadata = _read(Path(path))
    try:
        if set(metadata) != {"leak"}:
            raise bad("header", "no leak", "that of a challenge, not of an answer")
        header = _json(metadata["leak"])
        facts = _facts(header.pop("challenge", None))
        return _leak_of(header, facts, tensors), facts
    except ValueError as error:
        raise _refused(path, error, "a file that make_challenge wrote") from error


def read_answer(path: str | os.PathLike) -> Tensors:
    """The tensors of an answer {"images": …, "labels": …}, of whatever type and shape.

    Raises ValueError for a file with other tensors, or in another format; and OSError where there
    is none.
    """
    tensors, metadata = _read(Path(path))
    if metadata.get("leak"):
        raise _refused(path, "this is a challenge", "an answer, as write_answer writes it")
    if set(tensors) != {"images", "labels"}:
        came = f"the tensors {', '.join(sorted(tensors))[:80] or 'none'}"
        raise _refused(path, came, "images and labels, as write_answer writes them")
    return tensors


def _read(path: Path) -> tuple[Tensors, dict[str, str]]:
    """The tensors of a safetensors file, and the strings of its header."""
    # a pipe would block for ever
    if path.exists() and not path.is_file():
        raise _refused(path, "not a file", "a file")
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    try:
        return _parsed(content)
    except ValueError as error:
        raise _refused(path, error, "a whole safetensors file") from error


def _parsed(content: bytes) -> tuple[Tensors, dict[str, str]]:
    if len(content) > LARGEST:
        raise bad("file", f"more than {LARGEST} bytes", "less")
    length = int.from_bytes(content[:8], "little")
    if length > HEADER:
        raise bad("header", f"{length} bytes", f"at most {HEADER}")
    try:
        # each byte belongs to one tensor: nothing overlaps, and nothing is hidden between them
        safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        # it may quote the file: escaped and cut off
        raise ValueError(f"{str(error)!a:.200}") from error
    header = json.loads(content[8 : 8 + length].decode("utf-8"))
    metadata = header.pop("__metadata__", None) or {}
    if len(header) > TENSORS:
        raise bad("header", f"{len(header)} tensors", f"at most {TENSORS}")
    for name, entry in header.items():
        _check_tensor(name, entry)
    return tensors_of(content), metadata


def _check_tensor(name: str, entry: dict[str, Any]) -> None:
    """What the library allows, and no challenge and no answer has."""
    if not NAME.fullmatch(name):
        raise bad("header", f"a tensor called {name!a:.60}", "letters, digits and _ . /")
    if set(entry) != {"dtype", "shape", "data_offsets"}:
        raise bad(f"header[{name!r}]", f"{entry!a:.60}", "dtype, shape and data_offsets")
    if entry["dtype"] not in DTYPES:
        raise bad(f"{name}'s dtype", entry["dtype"], f"one of {', '.join(DTYPES)}")
    if len(entry["shape"]) > DIMENSIONS or 0 in entry["shape"]:
        came = f"{entry['shape']!r:.60}"
        raise bad(f"{name}'s shape", came, f"at most {DIMENSIONS} positive numbers")


def _facts(told: object) -> Facts:
    if not isinstance(told, dict) or set(told) != {"format", *Facts._fields}:
        wanted = ", ".join(["format", *Facts._fields])
        raise bad("challenge", f"{told!r:.100}", f"a dict of {wanted}")
    if told["format"] != FORMAT or type(told["format"]) is not int:
        came = f"{told['format']!r:.20}"
        raise bad("format", came, f"{FORMAT}; a newer leaklib may read others")
    facts = Facts(**{name: told[name] for name in Facts._fields})
    check_id(facts.student_id)
    for what in ("level", "text"):
        if not _is_text(getattr(facts, what)):
            came = f"{getattr(facts, what)!r:.40}"
            raise bad(what, came, f"at most {TEXT} printable characters")
    check_network(facts.network)
    shape = facts.shape
    if not isinstance(shape, list) or len(shape) != 4 or any(type(n) is not int for n in shape):
        raise bad("shape", f"{shape!r:.40}", "(B, C, H, W)")
    channels, size = facts.network["channels"], facts.network["size"]
    if shape[1:] != [channels, size, size]:
        raise bad("shape", shape, f"the network's images {facts.network}")
    if not 1 <= shape[0] <= BATCH:
        raise bad("shape", shape, f"1 to {BATCH} images")
    for what in ("known", "tags"):
        if not isinstance(getattr(facts, what), dict):
            raise bad(what, type(getattr(facts, what)).__name__, "a dict")
    for name, value in facts.known.items():
        # a whole number may be too large to be turned into another
        is_number = type(value) in (int, float) and -1e9 <= value <= 1e9
        if not NAME.fullmatch(name) or not (is_number or _is_text(value)):
            raise bad(f"known[{name!r:.40}]", f"{value!r:.40}", "a short text or a finite number")
    if set(facts.tags) != {"secret", "images"} or not all(
        isinstance(tag, str) and TAG.fullmatch(tag) for tag in facts.tags.values()
    ):
        raise bad("tags", f"{facts.tags!r:.80}", "secret and images, of 32 hexadecimal digits")
    return facts._replace(shape=tuple(shape))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= TEXT and value.isprintable()


def _leak_of(header: dict[str, Any], facts: Facts, tensors: Tensors) -> Leak:
    if set(header) != {"kind", "batch_size", "victims", "names"}:
        raise bad("header", f"{sorted(header)!s:.100}", "that of a challenge")
    leak = unpacked(header, tensors)
    if leak.victims is not None or leak.batch_size != facts.shape[0]:
        came = f"{leak.batch_size} images of {leak.victims or 1} victims"
        raise bad("header", came, f"{facts.shape[0]} of one client, as the shape has")
    parameters = {n: tuple(p.shape) for n, p in build(facts.network).named_parameters()}
    wanted = [f"{what}/{name}" for what in ("weights", "update") for name in parameters]
    # which layer is the last one is told by the order of the names
    if header["names"] != wanted or set(tensors) != set(wanted):
        raise bad("names", f"{header['names']!r:.80}", "the network's parameters, in their order")
    for name, tensor in tensors.items():
        shape = parameters[name.partition("/")[2]]
        if tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
            raise bad(name, _came(tensor), f"shape {shape} of torch.float32, as the network has")
        if not tensor.isfinite().all():
            raise bad(name, "NaN or infinite numbers", "finite numbers")
    return leak


def _json(text: str) -> dict[str, Any]:
    """A JSON object without more than `DEPTH` brackets within brackets."""
    depth = deepest = 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        deepest = max(deepest, depth)
    if deepest > DEPTH:
        raise bad("header", f"{deepest} brackets within brackets", f"at most {DEPTH}")
    value = json.loads(text)
    if not isinstance(value, dict):
        raise bad("header", type(value).__name__, "a JSON object")
    return value


def _came(value: object) -> str:
    if torch.is_tensor(value):
        return f"shape {tuple(value.shape)} of {value.dtype}"
    return type(value).__name__


def _refused(path: str | os.PathLike, what: object, wanted: str) -> ValueError:
    # the name alone: where an instructor keeps the answers is no student's business
    return bad("path", f"{Path(path).name[:120]} ({what})", wanted)
