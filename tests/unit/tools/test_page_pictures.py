"""The pictures that pages carry are what the tools make of the embedded images."""

import base64
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

import front_picture
import live_pictures

ASSETS = Path(__file__).resolve().parents[3] / "book" / "assets"


def test_live_page_carries_the_embedded_pictures():
    script = (ASSETS / "live" / "pictures.js").read_text("utf-8")
    carried = json.loads(re.search(r"\{.*\}", script, re.DOTALL).group())
    wanted = live_pictures.pictures()
    assert list(carried) == list(wanted)
    for name, x in wanted.items():
        pixels = torch.tensor(list(base64.b64decode(carried[name]))) / 255
        assert x.shape == (28, 28)
        # other versions of Pillow and torch enlarge with another last digit
        assert torch.allclose(pixels.reshape(28, 28), x, atol=2 / 255), name


def test_script_of_pictures_keeps_every_byte():
    x = torch.arange(784).remainder(256).reshape(28, 28) / 255
    script = live_pictures.as_script({"ramp": x})
    packed = re.search(r'"ramp": "([^"]+)"', script).group(1)
    assert list(base64.b64decode(packed)) == [i % 256 for i in range(784)]


def test_front_frames_and_their_scores_belong_together():
    told = json.loads((ASSETS / "front" / "data.js").read_text("utf-8").split("= ", 1)[1][:-2])
    frames = len(told["noise"]) * len(told["evaluations"])
    assert tuple(told["names"]) == front_picture.SHOWN
    assert told["noise"] == list(front_picture.NOISE) and len(told["psnr"]) == frames
    with Image.open(ASSETS / "front" / "frames.webp") as image:
        assert image.size == (6 * 32, (1 + frames) * 32)
        pixels = torch.tensor(list(image.convert("RGB").tobytes())).reshape(
            1 + frames, 32, 6, 32, 3
        )
    rows = pixels.permute(0, 2, 4, 1, 3) / 255  # (rows, 6, 3, 32, 32)
    x, _ = front_picture.photographs()
    assert torch.allclose(rows[0], x, atol=1 / 255)
    for row, scores in zip(rows[1:], told["psnr"], strict=True):
        error = (row - x).square().mean((1, 2, 3))
        # pixels are rounded to bytes, which ends every score near 59 dB
        db = -10 * error.clamp_min(1e-6).log10()
        for found, score in zip(db.tolist(), scores, strict=True):
            assert found == pytest.approx(min(score, 58), abs=1.5) or min(found, score) > 45


def test_tiles_are_laid_row_by_row(tmp_path):
    rows = [torch.rand(6, 3, 32, 32) for _ in range(2)]
    path = tmp_path / "tiles.webp"
    path.write_bytes(front_picture.tiles(rows))
    with Image.open(path) as image:
        assert image.size == (192, 64)
        tile = image.crop((32, 32, 64, 64)).tobytes()
    wanted = (255 * rows[1][1]).round().byte().permute(1, 2, 0)  # the second picture's second row
    assert list(tile) == wanted.flatten().tolist()
