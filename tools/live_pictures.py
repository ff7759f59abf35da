"""Make what the page of the live attack shows: its pictures, and its still for print.

    python tools/live_pictures.py

Writes book/assets/live/pictures.js (each picture as the bytes of its 28 x 28 grey pixels) and
book/assets/live_still.png (one such attack by leaklib, for paper and where no script runs).
"""

import base64
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from front_picture import write
from leaklib import analytic, attacks, client, data, labels, models
from leaklib.book import plots

ASSETS = Path(__file__).resolve().parent.parent / "book" / "assets"
SIDE, MARGIN, HIDDEN, CLASSES = 28, 3, 36, 10
CHOSEN = (4, 3, 3, 3, 3, 3, 1, 4, 0, 5)  # of each digit one with clear strokes
PHOTOS = ("cat", "flower")


def pictures() -> dict[str, Tensor]:
    """One of each digit with a margin, then photographs in grey; (28, 28) in [0, 1]."""
    digits, classes = data.load("digits", size=SIDE - 2 * MARGIN)
    photos, _ = data.load("photos", size=SIDE)
    padded = F.pad(digits.squeeze(1), [MARGIN] * 4)  # (N, 28, 28)
    chosen = {str(c): padded[classes == c][k] for c, k in enumerate(CHOSEN)}
    return chosen | {name: photos[data.PICTURES.index(name)].mean(0) for name in PHOTOS}


def as_script(images: dict[str, Tensor]) -> str:
    packed = {
        name: base64.b64encode(bytes((255 * x).round().byte().flatten().tolist())).decode()
        for name, x in images.items()
    }
    words = "/* Grey pictures, 28 x 28, a byte a pixel: made by tools/live_pictures.py. */"
    return f"{words}\nconst leakPictures = {json.dumps(packed, indent=2)};\n"


def still(x: Tensor, y: int) -> plots.Picture:
    """The private picture, the gradient of the first layer, one division, and DLG."""
    x = x.reshape(1, 1, SIDE, SIDE)
    model = models.mlp(size=SIDE, hidden=(HIDDEN,), classes=CLASSES, seed=1)
    leak = client.share_gradient(model, x, torch.tensor([y]))
    rows = leak.direction["fc1.weight"].reshape(6, 6, SIDE, SIDE)  # 36 rows as pictures
    mosaic = rows.permute(0, 2, 1, 3).reshape(1, 1, 6 * SIDE, 6 * SIDE)
    divided = analytic.linear_input(leak).reshape(x.shape)
    found = attacks.dlg(model, leak, x.shape, steps=600)
    read, searched = int(labels.idlg(leak)), int(found.labels)
    return plots.row(
        {
            f"1 private: {y}": x,
            "2 sent": mosaic.abs().sqrt() / mosaic.abs().max().sqrt(),
            f"3 one division: {read}": divided,
            f"4 search: {searched}": found.images[0],
        },
        caption="",
        score=False,
    )


def main() -> None:
    images = pictures()
    write(ASSETS / "live" / "pictures.js", as_script(images).encode())
    write(ASSETS / "live_still.png", still(images["7"], 7).png())


if __name__ == "__main__":
    main()
