"""Real images as tensors: float32 in [0, 1], shape (N, C, H, W), with int64 labels (N,).

Three sets come in the wheels of scikit-image and scikit-learn.  The others are read from the folder
that the environment variable LEAKLIB_DATA names, or downloaded by torchvision.
"""

import io
import os
import tempfile
import urllib.request
import zipfile
from http.client import HTTPException
from pathlib import Path
from typing import IO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from . import random
from ._errors import bad, one_of, require, whole

__all__ = ["PICTURES", "EMBEDDED", "TORCHVISION", "FOLDER_ONLY", "load", "names", "open_image"]

PICTURES = ("cat", "astronaut", "coffee", "rocket", "galaxies", "retina", "temple", "flower")
EMBEDDED = ("photos", "digits", "faces")
TORCHVISION = {
    "mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10",
    "cifar10_train": "CIFAR10", "cifar100": "CIFAR100", "lfw": "LFWPeople",
}  # fmt: skip
FOLDER_ONLY = ("olivetti", "cats_dogs")
CACHE = Path.home() / ".cache" / "leaklib"
DOWNLOAD_LIMIT = 50_000_000  # bytes of one picture
Content = str | os.PathLike | bytes | bytearray | memoryview | IO[bytes]


def load(
    name: str = "photos", count: int | None = None, size: int | None = None, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W), float32 in [0, 1], and their labels (N,), int64.

    "photos" (72, 3x32x32): each of the eight `PICTURES` whole, in that order, then the eight most
    varied tiles of each; the label says which picture.  "digits" (1,797, 1x28x28): scikit-learn's
    8x8 digits, enlarged.  "faces" (100, 1x25x25), each its own label.  Those of `TORCHVISION` (test
    split, but for "cifar10_train") and `FOLDER_ONLY`: from NAME.npz (images uint8 NHWC, labels
    int64) in LEAKLIB_DATA, else by torchvision's download where it has one.
    count: so many, drawn by `seed`; None is all of them in the order of the set.  size: in pixels.
    Raises ValueError for an unknown set or number, and RuntimeError where nothing can be had.
    """
    if size is not None:
        whole("size", size, "pixels, a positive whole number")
    images, labels = _read(name, size or 32)
    if size is not None and images.shape[-2:] != (size, size):
        images = F.interpolate(images, size=(size, size), mode="bicubic", antialias=True)
    if count is not None:
        n = len(images)
        whole("count", count, f"1 to {n}, the size of {name!r}", 1, n)
        rows = torch.randperm(n, generator=random.generator(seed, "data"))[:count]
        images, labels = images[rows], labels[rows]
    return images.clamp(0, 1), labels


def names(name: str = "photos") -> tuple[str, ...]:
    """What the labels of a set are called.  Raises ValueError where its classes have no names."""
    fashion = "T-shirt trouser pullover dress coat sandal shirt sneaker bag boot"
    objects = "aeroplane car bird cat deer dog frog horse ship lorry"
    digits = " ".join("0123456789")
    known = dict(photos=" ".join(PICTURES), digits=digits, mnist=digits, fashion_mnist=fashion)
    known |= dict(cifar10=objects, cifar10_train=objects, cats_dogs="cat dog")
    one_of("name", name, known)
    return tuple(known[name].split())


def open_image(source: Content | Image.Image | np.ndarray, size: int = 32) -> Tensor:
    """The centred square (1, 3, size, size), in [0, 1], of a picture that is not a tensor yet.

    source: a path, an address, bytes, an open file, a PIL image, or an array (H, W), (H, W, 3) or
    (H, W, 4) of 8 or 16 bits or of floats in [0, 1].  An animation is its first picture; what is
    transparent lies on white.  Raises ValueError for anything else.
    """
    whole("size", size, "pixels, a positive whole number")
    try:
        return resized(centred(_rgb(_picture(source))), size)[None]
    except Exception as error:  # decoders have many
        if isinstance(source, str | os.PathLike):
            shown = repr(str(source))
        else:
            n = f"{len(source)} " if isinstance(source, bytes | bytearray) else ""
            shown = f"{n}{type(source).__name__}"
        wanted = "a path, address or bytes of an image, a PIL image, or an array of pixels"
        raise bad("source", shown, f"{wanted} ({error})") from error


def decoded(content: bytes, formats: tuple[str, ...] | None = None) -> np.ndarray:
    """The picture in a file, (H, W, 3) uint8, turned as its EXIF data say; errors are PIL's."""
    with Image.open(io.BytesIO(content), formats=formats) as picture:
        return _rgb(picture)


def _picture(source: Content | Image.Image | np.ndarray) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, np.ndarray):
        is_grey = source.ndim == 3 and source.shape[2] == 1
        pixels = _of_8_bits(source[..., 0] if is_grey else source)
        fit = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
        require(fit, "shape", pixels.shape, "(H, W), (H, W, 3) or (H, W, 4)")
        return Image.fromarray(pixels)
    return Image.open(io.BytesIO(_bytes(source)))


def _rgb(picture: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8, on white, turned as the EXIF data say."""
    require(min(picture.size) > 0, "size", picture.size, "at least one pixel")
    kind, picture = picture.format, ImageOps.exif_transpose(picture)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        pixels = np.asarray(picture)
        # of the formats that Pillow reads into wide numbers, these say what is white
        is_16 = picture.mode == "I" and kind in ("PNG", "PPM")
        picture = Image.fromarray(_of_8_bits(pixels.astype(np.uint16) if is_16 else pixels))
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return np.asarray(picture.convert("RGB"))


def _of_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Whole numbers of 1, 8 or 16 bits, or floats in [0, 1], in 8 bits; ValueError for others."""
    if pixels.dtype == np.uint8:
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    white = {"bool": 1, "uint16": 65535}.get(pixels.dtype.name)
    if white is None:
        # and not for a NaN
        fit = pixels.dtype.kind == "f" and 0 <= low <= high <= 1
        got = f"{pixels.dtype} from {low:.3g} to {high:.3g}"
        require(fit, "pixels", got, "bool, uint8, uint16, or floats from 0 to 1")
    return np.round(pixels.astype(np.float64) * (255 / (white or 1))).astype(np.uint8)


def centred(pixels: np.ndarray) -> np.ndarray:
    """The largest centred square of (H, W, 3) pixels."""
    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def resized(square: np.ndarray, size: int) -> Tensor:
    """(side, side, 3) uint8 pixels as (3, size, size) in [0, 1], each a mean of what it covers."""
    small = Image.fromarray(square).resize((size, size), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255  # (3, size, size)


def _bytes(source: Content) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if not isinstance(source, str | os.PathLike):
        return source.read()
    if not str(source).lower().startswith(("http://", "https://")):
        return Path(source).read_bytes()
    with urllib.request.urlopen(str(source), timeout=20) as reply:
        if len(content := reply.read(DOWNLOAD_LIMIT + 1)) > DOWNLOAD_LIMIT:
            raise ValueError(f"more than {DOWNLOAD_LIMIT} bytes")
    return content


def _read(name: str, size: int) -> tuple[Tensor, Tensor]:
    one_of("name", name, [*EMBEDDED, *TORCHVISION, *FOLDER_ONLY])
    if name in EMBEDDED:
        return _embedded(name, size)
    folder = os.environ.get("LEAKLIB_DATA")
    if folder and (file := Path(folder) / f"{name}.npz").exists():
        return _npz(file)
    if name in TORCHVISION:
        return _torchvision(name)
    raise _missing(name, "torchvision has no such set")


def _embedded(name: str, size: int) -> tuple[Tensor, Tensor]:
    from skimage import data
    from sklearn.datasets import load_digits, load_sample_image

    if name == "digits":
        pixels, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
        images = pixels.float().reshape(-1, 1, 8, 8) / 16  # (N, 64) -> (N, 1, 8, 8)
        return F.interpolate(images, size=(28, 28), mode="bilinear"), labels.long()
    if name == "faces":
        # the second hundred of the set are not faces
        faces = torch.from_numpy(data.lfw_subset()[:100])[:, None]  # (100, 1, 25, 25)
        return faces.float(), torch.arange(100)
    six = (data.cat, data.astronaut, data.coffee, data.rocket, data.hubble_deep_field, data.retina)
    files = [read() for read in six] + [load_sample_image(f"{n}.jpg") for n in ("china", "flower")]
    wholes = [resized(centred(pixels), size) for pixels in files]
    tiles = [tile for pixels in files for tile in _varied_tiles(pixels, size, count=8)]
    labels = torch.arange(len(files))
    return torch.stack(wholes + tiles), torch.cat([labels, labels.repeat_interleave(8)])


def _varied_tiles(pixels: np.ndarray, size: int, count: int) -> list[Tensor]:
    """The `count` tiles with the largest standard deviation, of side a third of the short side."""
    side = min(pixels.shape[:2]) // 3
    tops, lefts = (range(0, length - side + 1, side) for length in pixels.shape[:2])
    corners = [(top, left) for top in tops for left in lefts]
    tiles = [resized(pixels[top : top + side, left : left + side], size) for top, left in corners]
    return sorted(tiles, key=lambda tile: -float(tile.std()))[:count]


def _npz(file: Path) -> tuple[Tensor, Tensor]:
    try:
        with np.load(file, allow_pickle=False) as held:
            images, labels = held["images"], held["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise bad(str(file), f"a file that cannot be read ({error})", "images, labels") from error
    fit = images.dtype == np.uint8 and images.ndim == 4 and labels.shape == (len(images),)
    got = f"images {images.shape} of {images.dtype}, labels {labels.shape} of {labels.dtype}"
    wanted = "images (N, H, W, C) of uint8 and labels (N,) of whole numbers"
    require(fit and labels.dtype.kind in "iu", str(file), got, wanted)
    return _to_tensors(images, labels)


def _torchvision(name: str) -> tuple[Tensor, Tensor]:
    import torchvision

    kept = CACHE / name
    split = dict(split="test") if name == "lfw" else dict(train=name.endswith("_train"))
    dataset = getattr(torchvision.datasets, TORCHVISION[name])
    try:
        if not kept.exists():
            # into a folder aside, renamed once whole: a broken download leaves nothing behind
            CACHE.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=CACHE) as aside:
                dataset(f"{aside}/{name}", download=True, **split)
                os.rename(f"{aside}/{name}", kept)
        held = dataset(kept, download=False, **split)
        pairs = [(np.asarray(image), int(label)) for image, label in held]
    except (OSError, RuntimeError, ValueError, EOFError, HTTPException) as error:
        raise _missing(name, str(error)) from error
    images = np.stack([image[..., None] if image.ndim == 2 else image for image, _ in pairs])
    return _to_tensors(images, np.array([label for _, label in pairs]))


def _to_tensors(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255  # (N, C, H, W)
    return tensor, torch.from_numpy(labels).long()


def _missing(name: str, cause: str) -> RuntimeError:
    return RuntimeError(
        f"{name!r} is not here: put {name}.npz (images uint8 NHWC, labels int64) into the folder "
        f"LEAKLIB_DATA, or use a set that needs no download: {', '.join(EMBEDDED)} ({cause})"
    )
