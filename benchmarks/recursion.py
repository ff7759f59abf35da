"""The exact recursion against matching on the same gradients: seconds an image, and MSE.

    python benchmarks/recursion.py [--images 16]

Every image has a sigmoid LeNet of its own and sends one gradient.  `analytic.invert_network` solves
for one image after another; `attacks.idlg` matches all of them at once, which is how it is fastest,
until its own stop.  One thread each.  MNIST and CIFAR-10 are read from the folder LEAKLIB_DATA;
where it has none, digits and photos take their places.
Writes benchmarks/results/recursion.json.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from leaklib import analytic, attacks, client, data, metrics, models
from leaklib.book import results
from leaklib.leak import stack

RESULT = Path(__file__).resolve().parent / "results" / "recursion.json"
IMAGES, CLASSES = 16, 10
SETS = {"mnist": "digits", "cifar10": "photos"}  # and what takes the place of one that is not here
WAYS = {"recursion": analytic.invert_network, "matching": attacks.idlg}


def victims(name: str, count: int) -> tuple[str, Tensor, Tensor]:
    """The set that was found, its images and labels."""
    try:
        return name, *data.load(name, count)
    except RuntimeError:
        print(f"LEAKLIB_DATA has no {name}: {SETS[name]} in its place.")
        return SETS[name], *data.load(SETS[name], count)


def compare(images: Tensor, labels: Tensor) -> dict[str, dict]:
    """Both ways on the same images: {way: seconds an image, MSE, converged, labels right}."""
    channels, size = images.shape[1:3]
    nets = [models.lenet(channels, size, CLASSES, seed=i) for i in range(len(images))]
    leak = stack(
        client.share_gradient(net, images[i : i + 1], labels[i : i + 1])
        for i, net in enumerate(nets)
    )
    shape = (1, *images.shape[1:])
    return {
        name: measure(lambda way=way: way(nets[0], leak, shape), images, labels)
        for name, way in WAYS.items()
    }


def measure(way: Callable, images: Tensor, labels: Tensor) -> dict:
    start, used = time.perf_counter(), time.process_time()
    out = way()
    wall, cpu = time.perf_counter() - start, time.process_time() - used
    return {
        "seconds": wall / len(images),
        "cpu_seconds": cpu / len(images),
        "mse": metrics.mse(out.images, images).tolist(),
        "converged": out.converged.tolist(),
        "label_right": (out.labels[:, 0] == labels).tolist(),
    }


def told(name: str, found: dict[str, dict]) -> str:
    """One line on each way."""
    lines = []
    for way, run in found.items():
        mse, converged = torch.tensor(run["mse"]), sum(run["converged"])
        lines.append(
            f"{name:8} {way:10} {run['cpu_seconds']:6.2f} CPU s an image, MSE {mse.median():.1e} "
            f"(median) to {mse.max():.1e} (worst), {converged} of {len(mse)} converged"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None, path: Path = RESULT) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=IMAGES, help="of each set")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    compare(*data.load("digits", 1, size=12))  # the first call loads kernels
    found = {}
    for wanted in SETS:
        name, images, labels = victims(wanted, given.images)
        found[name] = compare(images, labels)
        print(told(name, found[name]), flush=True)
    made = results.provenance("python benchmarks/recursion.py", seed=0)
    results.save(path, {"provenance": made, "settings": vars(given), "sets": found})
    print(f"Saved as {path.relative_to(path.parent.parent.parent)}.")


if __name__ == "__main__":
    main()
