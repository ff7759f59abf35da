"""Draw the picture of the welcome page and the README: six photographs and what iDLG rebuilt.

    python tools/front_picture.py

Takes about a minute and writes book/assets/what_leaks.png.
"""

import os
from pathlib import Path

from leaklib import attacks, client, data, models, plots

TARGET = Path(__file__).parent.parent / "book" / "assets" / "what_leaks.png"
SHOWN = ("cat", "astronaut", "coffee", "rocket", "temple", "flower")


def main() -> None:
    photos, numbers = data.load("photos")
    index = [data.PICTURES.index(name) for name in SHOWN]
    leaks = [
        client.share_gradient(models.lenet(seed=i), photos[i : i + 1], numbers[i : i + 1])
        for i in index
    ]
    out = attacks.idlg(
        models.lenet(), client.stack(leaks), (1, *photos.shape[1:]), steps=2500, progress=True
    )
    picture = plots.images(
        {"private": photos[index], "rebuilt from\nthe gradient": out.images},
        titles=SHOWN,
        score=False,
        caption="",
    )
    aside = TARGET.with_suffix(".part")
    aside.write_bytes(picture.png())
    os.replace(aside, TARGET)
    print(picture.alt, f"Converged: {int(out.converged.sum())} of {len(index)}.", sep="\n")


if __name__ == "__main__":
    main()
