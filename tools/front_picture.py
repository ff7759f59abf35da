"""Make the picture of the welcome page: six photographs, and what iDLG rebuilds of them.

    python tools/front_picture.py

Takes about five minutes. Writes, in book/assets, what_leaks.png (the still, also in the README)
and for the picture that reacts front/frames.webp, a column of rows of six tiles: first the
photographs, then for each amount of noise the search at each of its moments. front/data.js says
which is which, with the scores.
"""

import io
import json
import os
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from leaklib import attacks, client, data, defenses, metrics, models
from leaklib.book import plots
from leaklib.leak import stack

ASSETS = Path(__file__).resolve().parent.parent / "book" / "assets"
SHOWN = ("cat", "astronaut", "coffee", "rocket", "temple", "flower")
NOISE = (0.0, 0.03, 0.1, 0.3, 1.0)  # in root mean squares of the gradient
MOMENTS = (1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
STEPS = 2500


def photographs() -> tuple[Tensor, Tensor]:
    """The six pictures (6, 3, 32, 32) and their labels (6,)."""
    images, labels = data.load("photos")
    index = [data.PICTURES.index(name) for name in SHOWN]
    return images[index], labels[index]


def attacked(sigma: float) -> attacks.Reconstruction:
    """iDLG on one gradient of each picture, with noise: a client and a network for each."""
    x, y = photographs()
    sent = [
        client.share_gradient(
            models.lenet(seed=i),
            x[i : i + 1],
            y[i : i + 1],
            defense=defenses.gaussian(sigma, relative=True) if sigma else None,
            seed=i,
        )
        for i in range(len(x))
    ]
    return attacks.idlg(models.lenet(), stack(sent), (1, *x.shape[1:]), steps=STEPS)


def moments(out: attacks.Reconstruction) -> list[Tensor]:
    """The six pictures at each moment of the search, then the best that it found."""
    return [*(out.snapshots[count][:, 0] for count in MOMENTS), out.images[:, 0]]


def tiles(rows: list[Tensor]) -> bytes:
    """Rows of images (6, 3, 32, 32), one below the other, as a lossless WebP."""
    pixels = torch.stack(rows).clamp(0, 1)  # (rows, 6, 3, 32, 32)
    pixels = pixels.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)  # (rows*32, 6*32, 3)
    image, file = Image.fromarray((255 * pixels).round().byte().numpy()), io.BytesIO()
    image.save(file, format="webp", lossless=True, method=6)
    return file.getvalue()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_bytes(content)
    os.replace(aside, path)
    print(f"{path.name}: {len(content):,} bytes")


def main() -> None:
    x, _ = photographs()
    outs = [attacked(sigma) for sigma in tqdm(NOISE)]
    rows = [image for out in outs for image in moments(out)]
    scores = [[round(float(db), 1) for db in metrics.psnr(image, x)] for image in rows]
    told = {
        "names": SHOWN,
        "noise": NOISE,
        "evaluations": [*MOMENTS, STEPS],
        "psnr": scores,
    }
    words = "/* What the frames show, and their PSNR: made by tools/front_picture.py. */"
    write(ASSETS / "front" / "frames.webp", tiles([x, *rows]))
    write(
        ASSETS / "front" / "data.js",
        f"{words}\nconst leakFront = {json.dumps(told)};\n".encode(),
    )
    still = plots.images(
        {"private": x, "rebuilt from\nthe gradient": outs[0].images},
        titles=SHOWN,
        score=False,
        caption="",
    )
    write(ASSETS / "what_leaks.png", still.png())
    print(still.alt, f"Converged: {int(outs[0].converged.sum())} of {len(x)}.", sep="\n")


if __name__ == "__main__":
    main()
