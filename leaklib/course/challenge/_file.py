"""Files that go to students and come back: safetensors with a header of JSON.

They are read as what a stranger sent.  Nothing in them is run; every size is bounded before any
memory is taken, and what does not fit exactly raises ValueError.
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from ..._errors import bad
from ...leak import Leak, Tensors
from ._keys import FORMAT, check_id
from ._networks import Network, build, check_network

LARGEST = 16_000_000  # bytes of a file
HEADER = 32_000  # bytes of its header
DEPTH = 8  # brackets within brackets
TENSORS = 64  # in a file
DIMENSIONS = 4  # of a tensor
BATCH = 16  # images
DTYPES = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
NAME = re.compile(r"[a-z][a-z0-9_./]{0,79}", re.ASCII)
TAG = re.compile(r"[0-9a-f]{32}", re.ASCII)
TEXT = 500  # characters of what is said about a level


class Facts(NamedTuple):
    """What a challenge tells beside its leak.

    student_id, level  whose it is, and which of the `LEVELS`
    network  the architecture, for `model_of`
    shape    (B, C, H, W) of the private batch
    known    {name: value}: what is known of the client, such as steps, lr, defence
    text     the same as a sentence or two
    tags     {"secret": …, "images": …}: what it was made with; of use to the instructor alone
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
    """Write a leak and its facts; `load` reads the leak out of it as well."""
    tensors = {
        f"{what}/{name}": tensor.contiguous()
        for what in ("weights", "update")
        for name, tensor in getattr(leak, what).items()
    }
    header = dict(kind=leak.kind, batch_size=leak.batch_size, victims=None, names=list(tensors))
    header["challenge"] = {"format": FORMAT, **facts._asdict()}
    # one entry alone: the order of several is another each time
    return _write(path, tensors, {"leak": json.dumps(header, ensure_ascii=True)})


def write_answer(path: str | os.PathLike, images: Tensor, labels: Tensor) -> Path:
    """Write the answer to a challenge, and return its path.

    images (B, C, H, W) floating point, clamped to [0, 1] as every score does; labels (B,) int64,
    -1 for one that is not known.  Of an attack's result: `out.images[0], out.labels[0]`.
    Raises ValueError for other shapes and types, and for pixels that are not finite.
    """
    wanted = "(B, C, H, W) floating point, such as out.images[0]"
    if not torch.is_tensor(images) or not images.is_floating_point() or images.ndim != 4:
        raise bad("images", _came(images), wanted)
    if not images.isfinite().all():
        raise bad("images", "NaN or infinite pixels", "finite numbers")
    if not torch.is_tensor(labels) or labels.dtype != torch.int64 or labels.ndim != 1:
        raise bad("labels", _came(labels), "(B,) of torch.int64, such as out.labels[0]")
    if len(labels) != len(images):
        raise bad("labels", f"{len(labels)} labels", f"{len(images)}, one for each image")
    images = images.detach().cpu().float().clamp(0, 1).contiguous()
    return _write(Path(path), {"images": images, "labels": labels.cpu().contiguous()}, None)


def _write(path: Path, tensors: Tensors, metadata: dict[str, str] | None) -> Path:
    """Aside, then renamed, so that there is never half of a file."""
    aside = path.with_name(path.name + ".part")
    try:
        aside.write_bytes(safetensors.torch.save(tensors, metadata=metadata))
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path


# ------------------------------------------------------------------ what is read
def read_challenge(path: str | os.PathLike) -> tuple[Leak, Facts]:
    """The leak of a challenge, and what is known: (leak, facts).

    Raises ValueError for a file that `make_challenge` cannot have written: too large, truncated,
    with other names, types or shapes than the network has; and OSError where there is none.
    """
    tensors, metadata = _read(Path(path))
    try:
        if set(metadata) != {"leak"}:
            raise bad("header", "no leak", "that of a challenge, not of an answer")
        header = _json(metadata["leak"])
        facts = _facts(_entry(header, "challenge", dict))
        return _leak_of(header, facts, tensors), facts
    except ValueError as error:
        raise _refused(path, error, "a file that make_challenge wrote") from error


def read_answer(path: str | os.PathLike) -> Tensors:
    """The tensors of an answer {"images": …, "labels": …}, of whatever type and shape.

    Raises ValueError for a file that holds other tensors, or is not of this format.
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
    if len(content) < 8 or length > min(HEADER, len(content) - 8):
        raise bad("header", f"{length} bytes of {len(content)}", f"at most {HEADER}, all there")
    header = _json(content[8 : 8 + length].decode("utf-8"))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise bad("__metadata__", type(metadata).__name__, "a dict of strings")
    if len(header) > TENSORS:
        raise bad("header", f"{len(header)} tensors", f"at most {TENSORS}")
    body = memoryview(content)[8 + length :]
    places = [(*_place(name, entry, len(body)), name) for name, entry in header.items()]
    end, tensors = 0, {}
    for begin, stop, dtype, shape, name in sorted(places, key=lambda place: place[:2]):
        # each byte belongs to one tensor: nothing overlaps, and nothing is hidden between them
        if begin != end:
            raise bad(f"header[{name!r}]", f"bytes from {begin}", f"from {end}")
        array = np.frombuffer(body[begin:stop], dtype).reshape(shape)
        tensors[name] = torch.from_numpy(array.astype(dtype.newbyteorder("=")))
        end = stop
    if end != len(body):
        raise bad("file", f"{len(body)} bytes of tensors", f"{end}, as the header says")
    return {name: tensors[name] for name in header}, metadata


def _place(name: str, entry: object, size: int) -> tuple[int, int, np.dtype, tuple[int, ...]]:
    """Where a tensor begins and ends, its type and its shape; all of it checked."""
    if not NAME.fullmatch(name):
        raise bad("header", f"a tensor called {name!r:.60}", "letters, digits and _ . /")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise bad(f"header[{name!r}]", f"{entry!r:.60}", "dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise bad(f"{name}'s dtype", f"{dtype!r:.20}", f"one of {', '.join(DTYPES)}")
    if not _whole(shape) or len(shape) > DIMENSIONS or not all(0 < n <= LARGEST for n in shape):
        raise bad(f"{name}'s shape", f"{shape!r:.60}", f"at most {DIMENSIONS} positive numbers")
    if not _whole(offsets) or len(offsets) != 2 or not 0 <= offsets[0] <= offsets[1] <= size:
        raise bad(f"{name}'s data_offsets", f"{offsets!r:.60}", f"two from 0 to {size}")
    if math.prod(shape) * DTYPES[dtype].itemsize != offsets[1] - offsets[0]:
        raise bad(f"{name}'s shape", tuple(shape), f"{offsets[1] - offsets[0]} bytes")
    return *offsets, DTYPES[dtype], tuple(shape)


def _facts(told: dict[str, Any]) -> Facts:
    if set(told) != {"format", *Facts._fields}:
        raise bad("challenge", f"{sorted(told)!s:.100}", ", ".join(["format", *Facts._fields]))
    if told["format"] != FORMAT or type(told["format"]) is not int:
        came = f"{told['format']!r:.20}"
        raise bad("format", came, f"{FORMAT}; a newer leaklib may read others")
    facts = Facts(**{name: told[name] for name in Facts._fields})
    check_id(facts.student_id)
    for what in ("level", "text"):
        value = getattr(facts, what)
        if not isinstance(value, str) or len(value) > TEXT or not value.isprintable():
            raise bad(what, f"{value!r:.40}", f"at most {TEXT} printable characters")
    check_network(facts.network)
    shape = _shape(facts.shape)
    channels, size = facts.network["channels"], facts.network["size"]
    if shape[1:] != (channels, size, size):
        raise bad("shape", shape, f"the network's images {facts.network}")
    if not 1 <= shape[0] <= BATCH:
        raise bad("shape", shape, f"1 to {BATCH} images")
    for name, value in _entry(told, "known", dict).items():
        if not NAME.fullmatch(name) or not _plain(value):
            raise bad(f"known[{name!r:.40}]", f"{value!r:.40}", "a short text or a finite number")
    if set(_entry(told, "tags", dict)) != {"secret", "images"} or not all(
        isinstance(tag, str) and TAG.fullmatch(tag) for tag in facts.tags.values()
    ):
        raise bad("tags", f"{facts.tags!r:.80}", "secret and images, of 32 hexadecimal digits")
    return facts._replace(shape=shape)


def _leak_of(header: dict[str, Any], facts: Facts, tensors: Tensors) -> Leak:
    kind, size, names = header.get("kind"), header.get("batch_size"), header.get("names")
    if set(header) != {"kind", "batch_size", "victims", "names", "challenge"}:
        raise bad("header", f"{sorted(header)!s:.100}", "that of a challenge")
    if kind not in ("gradient", "weights") or header["victims"] is not None:
        raise bad("kind", f"{kind!r:.20}", "the gradient or the weights of one client")
    if type(size) is not int or size != facts.shape[0]:
        raise bad("batch_size", f"{size!r:.20}", f"{facts.shape[0]}, as the shape has")
    parameters = _parameters(build(facts.network))
    wanted = {f"{what}/{n}": s for what in ("weights", "update") for n, s in parameters.items()}
    # which layer is the last one is told by the order of the names
    if names != list(wanted):
        raise bad("names", f"{names!r:.80}", "the parameters of the network, in its order")
    if {name: tuple(t.shape) for name, t in tensors.items()} != wanted:
        raise bad("tensors", "other names or shapes", "those of the network's parameters")
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or not tensor.isfinite().all():
            raise bad(name, f"{tensor.dtype}, or not finite", "finite numbers of torch.float32")
    weights = {name: tensors[f"weights/{name}"] for name in parameters}
    return Leak(weights, {n: tensors[f"update/{n}"] for n in parameters}, kind, {}, size)


def _parameters(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def _json(text: str) -> dict[str, Any]:
    """A JSON object without repeated names, NaN, or more than `DEPTH` levels."""
    depth = deepest = 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        deepest = max(deepest, depth)
    if deepest > DEPTH:
        raise bad("header", f"{deepest} brackets within brackets", f"at most {DEPTH}")
    value = json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
    if not isinstance(value, dict):
        raise bad("header", type(value).__name__, "a JSON object")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise bad("header", "a name that occurs twice", "distinct names")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise bad("header", name, "finite numbers")


def _entry(told: dict[str, Any], name: str, kind: type) -> Any:
    value = told.get(name)
    if not isinstance(value, kind):
        raise bad(name, type(value).__name__, kind.__name__)
    return value


def _shape(shape: object) -> tuple[int, ...]:
    if not _whole(shape) or len(shape) != 4:
        raise bad("shape", f"{shape!r:.40}", "(B, C, H, W)")
    return tuple(shape)


def _whole(numbers: object) -> bool:
    return isinstance(numbers, list) and all(type(n) is int for n in numbers)


def _plain(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= TEXT and value.isprintable()
    # a whole number may be too large to be turned into another
    return type(value) in (int, float) and -1e9 <= value <= 1e9


def _came(value: object) -> str:
    if torch.is_tensor(value):
        return f"shape {tuple(value.shape)} of {value.dtype}"
    return type(value).__name__


def _refused(path: str | os.PathLike, what: object, wanted: str) -> ValueError:
    # the name alone: where an instructor keeps the answers is no student's business
    return bad("path", f"{Path(path).name[:120]} ({what})", wanted)
