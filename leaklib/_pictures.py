"""Pictures as they come in files, and what is cut out of them."""

import io

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor


def decoded(content: bytes, formats: tuple[str, ...] | None = None) -> np.ndarray:
    """The picture in the bytes of a file: (H, W, 3) uint8, the right way up.

    formats: those of PIL that may be tried, such as ("PNG", "JPEG"); None is all.
    Raises OSError, ValueError or Image.DecompressionBombError where there is none.
    """
    with Image.open(io.BytesIO(content), formats=formats) as picture:
        # a photograph carries in its EXIF data which way is up
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def centred(pixels: np.ndarray) -> np.ndarray:
    """The largest centred square of (H, W, 3) pixels."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def resized(square: np.ndarray, size: int) -> Tensor:
    """(side, side, 3) uint8 pixels as (3, size, size) in [0, 1], each a mean of what it covers."""
    small = Image.fromarray(square).resize((size, size), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255  # (3, size, size)
