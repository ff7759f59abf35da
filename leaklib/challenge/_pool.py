"""The instructor's own pictures, known by their content: what they are called changes nothing."""

from __future__ import annotations

import hashlib
import hmac
import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from .. import data
from .._errors import bad
from ._keys import Draws

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # others can start other programs
LARGEST_FILE = 100_000_000  # bytes of one picture
SIZE = 32  # pixels at which a picture is judged
FLATTEST = 20.0  # dB: how close a picture may be to one colour, below every level's floor


class Pool(NamedTuple):
    """Pictures to choose from, each once.

    hashes   SHA-256 of each file, or of each tensor
    sources  where each is: a path, or the tensor (3, H, W)
    """

    hashes: tuple[bytes, ...]
    sources: tuple[Path | Tensor, ...]

    def __repr__(self) -> str:
        return f"Pool({len(self.hashes)} pictures)"

    def chosen(self, draws: Draws, count: int) -> list[int]:
        """The numbers of the `count` pictures of a student.

        They are those whose hashes have the smallest HMAC: neither names nor order matter, and a
        new picture changes the choice of few.  Raises ValueError where there are fewer pictures.
        """
        if len(self.hashes) < count:
            raise bad("images", f"{len(self.hashes)} pictures", f"at least {count}")
        key = draws.key("images")
        rank = [hmac.digest(key, content, "sha256") for content in self.hashes]
        return sorted(range(len(rank)), key=rank.__getitem__)[:count]

    def picture(self, number: int, size: int) -> Tensor:
        """A picture (3, size, size) in [0, 1]: its largest centred square.

        Raises ValueError when the file has changed since the pool was opened.
        """
        source = self.sources[number]
        if torch.is_tensor(source):
            return _square(source, size)
        content = _content(source)
        if hashlib.sha256(content).digest() != self.hashes[number]:
            raise bad("images", f"{source.name}, which has changed", "pictures that stay")
        return data.open_image(content, size)[0]


def open_pool(images: str | os.PathLike | Sequence[Tensor] | Pool, progress: bool = False) -> Pool:
    """The pictures of a folder, or tensors (3, H, W) in [0, 1], as a `Pool`.

    Of a folder every file with one of the `ENDINGS` is read.  Left out, with a warning, are other
    files, and pictures that are nearly of one colour: of those even a flat answer would be close
    (a PSNR of the picture's own mean colour above `FLATTEST`).
    Raises ValueError for a folder without pictures, a file that cannot be read as one, and tensors
    that are none.
    """
    if isinstance(images, Pool):
        return images
    if isinstance(images, str | os.PathLike):
        found = _of_folder(Path(images), progress)
    else:
        found = _of_tensors(images)
    flat = [name for name, _, _, image in found if flat_psnr(image) > FLATTEST]
    if flat:
        warnings.warn(f"images: nearly of one colour, and left out: {_few(flat)}", stacklevel=2)
    kept = {content: source for name, content, source, _ in found if name not in flat}
    if not kept:
        raise bad("images", f"{len(found)} pictures, all nearly of one colour", "photographs")
    hashes = tuple(sorted(kept))
    return Pool(hashes, tuple(kept[content] for content in hashes))


def flat_psnr(image: Tensor) -> float:
    """PSNR in dB of the best picture of one colour: -10 log10 of the variance in each channel."""
    variance = (image - image.mean((-2, -1), keepdim=True)).square().mean()
    return float(-10 * variance.clamp(min=1e-12).log10())


def _of_folder(folder: Path, progress: bool) -> list[tuple[str, bytes, Path, Tensor]]:
    if not folder.is_dir():
        raise bad("images", repr(str(folder)), "a folder of pictures")
    files = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
    others = [f.name for f in files if f.suffix.lower() not in ENDINGS]
    if others:
        wanted = f"images: not one of {', '.join(ENDINGS)}, and left out: {_few(others)}"
        warnings.warn(wanted, stacklevel=3)
    pictures = [f for f in files if f.suffix.lower() in ENDINGS]
    if not pictures:
        raise bad("images", f"{str(folder)!r} with no picture in it", f"some of {ENDINGS}")
    found = []
    for file in tqdm(pictures, "pictures", disable=None if progress else True):
        content = _content(file)
        found.append((file.name, hashlib.sha256(content).digest(), file, _opened(file, content)))
    return found


def _content(file: Path) -> bytes:
    with file.open("rb") as opened:
        content = opened.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise bad("images", file.name, f"files of at most {LARGEST_FILE} bytes")
    return content


def _opened(file: Path, content: bytes) -> Tensor:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS):
            pass
        return data.open_image(content, SIZE)[0]
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise bad("images", file.name, f"a picture that can be read ({error})") from error


def _of_tensors(images: Sequence[Tensor]) -> list[tuple[str, bytes, Tensor, Tensor]]:
    found = []
    for i, image in enumerate(images):
        if not torch.is_tensor(image) or image.dtype != torch.float32 or image.ndim != 3:
            came = f"{tuple(image.shape)} of {image.dtype}" if torch.is_tensor(image) else image
            raise bad(f"images[{i}]", repr(came)[:80], "(3, H, W) of torch.float32")
        if len(image) != 3 or min(image.shape[1:]) < SIZE:
            raise bad(f"images[{i}]", tuple(image.shape), f"(3, H, W) of {SIZE} pixels or more")
        if not (image.min() >= 0 and image.max() <= 1):
            raise bad(f"images[{i}]", "pixels that are not in [0, 1]", "0 <= x <= 1")
        content = str(tuple(image.shape)).encode() + image.cpu().numpy().astype("<f4").tobytes()
        found.append((str(i), hashlib.sha256(content).digest(), image, _square(image, SIZE)))
    return found


def _square(image: Tensor, size: int) -> Tensor:
    """The largest centred square of (3, H, W) as (3, size, size), each pixel a mean."""
    height, width = image.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return F.adaptive_avg_pool2d(image[:, top : top + side, left : left + side], size)


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
