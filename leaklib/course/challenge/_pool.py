"""The instructor's own pictures, identified by their content: file names do not matter."""

from __future__ import annotations

import hashlib
import hmac
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from ..._errors import bad
from ...data import centred, decoded, resized
from ._keys import Draws

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # some of the others start programs
LARGEST_FILE = 100_000_000  # bytes of one picture
SIZE = 32  # pixels on a side at which a picture is judged
FLATTEST = 20.0  # dB: how close a picture may be to a single colour, below every level's floor
NARROWEST, WIDEST = 0.5, 0.9  # share of a picture's shorter side that a student gets
TRIES = 8  # windows, in case some are nearly of one colour


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
        new picture changes what few students get.  Raises ValueError where there are too few.
        """
        if len(self.hashes) < count:
            raise bad("images", f"{len(self.hashes)} pictures", f"at least {count}")
        key = draws.key("images")
        rank = [hmac.digest(key, content, "sha256") for content in self.hashes]
        return sorted(range(len(rank)), key=rank.__getitem__)[:count]

    def pixels(self, number: int) -> np.ndarray:
        """A picture (H, W, 3) uint8.

        Raises ValueError when the file has changed since the pool was opened.
        """
        source = self.sources[number]
        if torch.is_tensor(source):
            return _pixels(source)
        content = _content(source)
        if hashlib.sha256(content).digest() != self.hashes[number]:
            raise bad("images", f"{source.name}, which has changed", "pictures that stay")
        return decoded(content, FORMATS)


def window(pixels: np.ndarray, size: int, u: np.ndarray) -> Tensor:
    """A square somewhere in a picture, perhaps mirrored, as (3, size, size) in [0, 1].

    u: (4 n,) numbers in (0, 1), four for each try: side, top, left, mirrored.  The side is from
    `NARROWEST` to `WIDEST` of the picture's shorter one, and at least `size` where the picture is
    that large.  If all n windows are nearly of one colour, it is the largest centred square.
    """
    height, width = pixels.shape[:2]
    short = min(height, width)
    for a, b, c, d in u.reshape(-1, 4):
        share = NARROWEST + (WIDEST - NARROWEST) * a
        side = max(int(share * short), min(size, short))
        top, left = int(b * (height - side + 1)), int(c * (width - side + 1))
        image = resized(pixels[top : top + side, left : left + side], size)
        if flat_psnr(image) <= FLATTEST:
            return image.flip(-1) if d < 0.5 else image
    return resized(centred(pixels), size)


def open_pool(images: str | os.PathLike | Sequence[Tensor] | Pool, progress: bool = False) -> Pool:
    """The pictures of a folder, or tensors (3, H, W) in [0, 1], as a `Pool`.

    Every file of a folder with one of the `ENDINGS` is read.  Other files are left out with a
    warning, and so are pictures that are nearly of one colour, where even a flat answer comes close
    (the picture's own mean colour has a PSNR above `FLATTEST`).
    Raises ValueError for a folder without pictures, a file that cannot be read as a picture, and
    tensors that are not pictures.
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
        return resized(centred(decoded(content, FORMATS)), SIZE)
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
        small = resized(centred(_pixels(image)), SIZE)
        found.append((str(i), hashlib.sha256(content).digest(), image, small))
    return found


def _pixels(image: Tensor) -> np.ndarray:
    """A tensor (3, H, W) in [0, 1] as (H, W, 3) uint8."""
    return (255 * image.cpu()).round().byte().permute(1, 2, 0).contiguous().numpy()  # (H, W, 3)


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
