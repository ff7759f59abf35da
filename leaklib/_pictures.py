"""Pictures as they come in files, and what is cut out of them."""

import io

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor


def decoded(content: bytes, formats: tuple[str, ...] | None = None) -> np.ndarray:
    """The picture in a file, (H, W, 3) uint8, turned as its EXIF data say.

    Raises OSError, ValueError or Image.DecompressionBombError where it is in none of PIL's formats.
    """
    with Image.open(io.BytesIO(content), formats=formats) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def centred(pixels: np.ndarray) -> np.ndarray:
    """The largest centred square of (H, W, 3) pixels."""
    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def resized(square: np.ndarray, size: int) -> Tensor:
    """(side, side, 3) uint8 pixels as (3, size, size) in [0, 1], each a mean of what it covers."""
    small = Image.fromarray(square).resize((size, size), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255  # (3, size, size)
