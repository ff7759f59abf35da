"""CPU seconds per recovered image: the papers' one-image loop against 64 images at once.

    python benchmarks/throughput.py [--images 64] [--plain 8] [--quick]

Both run iDLG from the same grey start on the same images and networks, stop at the same objective,
and count an image as recovered below the same mean squared error.  MNIST and CIFAR-10 are read from
the folder LEAKLIB_DATA; where it has none, digits and photos take their places.  The loop is plain
autograd with torch.optim.LBFGS, as published.  It is slow, so it gets the first `--plain` images.
Each of these has a process of its own, which is asked for its CPU time and its peak memory.
With a GPU both are run on it as well, with 1,000 images at once.

The second part measures how the cost of an evaluation grows with the number of problems, of pixels
and of parameters.  Writes benchmarks/results/throughput.json, which the page "How fast" shows.
"""

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from leaklib import attacks, client, data, labels, metrics, models, solvers
from leaklib.book import results
from leaklib.leak import Leak, stack

RESULT = Path(__file__).resolve().parent / "results" / "throughput.json"
STOP, RECOVERED = 1e-6, 1e-3
CALLS, PER_CALL = 300, 20  # of torch.optim.LBFGS.step, and evaluations in each
ON_GPU = 1000
SETS = {"mnist": "digits", "cifar10": "photos"}  # and what takes the place of one that is not here
PROBLEMS, SIDES, CLASSES = (1, 4, 16, 64, 256), (16, 32, 64), (10, 100, 1000)
EVALUATIONS = 120  # of each problem of the second part: beyond them the history is full

Tensors = tuple[torch.Tensor, torch.Tensor]


def victims(name: str, count: int) -> Tensors:
    """Images and labels; a set with fewer than `count` gives its images again."""
    images, numbers = data.load(name)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    rows = order.repeat(-(-count // len(images)))[:count]
    return images[rows], numbers[rows]


def leaks_of(images: torch.Tensor, numbers: torch.Tensor, classes: int, device: str) -> tuple:
    """A sigmoid LeNet for every image, and the gradient that it gives away."""
    channels, side = images.shape[1:3]
    nets = [models.lenet(channels, side, classes, seed=i).to(device) for i in range(len(images))]
    x, y = images.to(device), numbers.to(device)
    return nets, [client.share_gradient(n, x[i : i + 1], y[i : i + 1]) for i, n in enumerate(nets)]


def plain_loop(
    model: torch.nn.Module, leak: Leak, shape: tuple[int, ...], calls: int = CALLS
) -> tuple[torch.Tensor, int]:
    """iDLG as its authors' script runs it, from a grey start; the image, and the evaluations."""
    W, G, y = list(model.parameters()), list(leak.direction.values()), labels.idlg(leak)
    x = torch.full(shape, 0.5, device=W[0].device, requires_grad=True)
    solver, evaluations = torch.optim.LBFGS([x]), 0

    def closure() -> torch.Tensor:
        nonlocal evaluations
        evaluations += 1
        loss = torch.nn.functional.cross_entropy(model(x), y)
        g = torch.autograd.grad(loss, W, create_graph=True)
        distance = sum((a - b).square().sum() for a, b in zip(g, G, strict=True))
        (x.grad,) = torch.autograd.grad(distance, x)
        return distance

    for _ in range(calls):
        if solver.step(closure) < STOP:
            break
    return x.detach(), evaluations


def stopping(objective: solvers.Objective, z: solvers.Points, **settings: object):
    """leaklib's solver with the loop's stopping rule."""
    return solvers.lbfgs(objective, z, **{**settings, "tolerance": STOP})


def one_by_one(nets: list, leaks: list, shape: tuple[int, ...], calls: int = CALLS) -> tuple:
    found = [plain_loop(net, leak, shape, calls) for net, leak in zip(nets, leaks, strict=True)]
    return torch.cat([image for image, _ in found]), [evaluations for _, evaluations in found]


def all_at_once(
    nets: list, leaks: list, shape: tuple[int, ...], steps: int = CALLS * PER_CALL, **settings
) -> tuple:
    out = attacks.idlg(nets[0], stack(leaks), shape, solver=stopping, steps=steps, **settings)
    return out.images[:, 0], out.evaluations.tolist()


def by_autograd(nets: list, leaks: list, shape: tuple[int, ...], steps: int) -> tuple:
    """All at once, as a network is attacked that is no chain of layers."""
    return all_at_once(nets, leaks, shape, steps, defend=lambda g, leak: g)


def measure(way: Callable, images: torch.Tensor, numbers: torch.Tensor, **of: object) -> dict:
    """Seconds, CPU seconds and peak memory of one way, in a process of its own.

    of: `threads`, `classes` and `device`.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measure, (way, images, numbers), of)


def _measure(way, images, numbers, threads: int, classes: int = 10, device: str = "cpu") -> dict:
    torch.set_num_threads(threads)
    nets, leaks = leaks_of(images, numbers, classes, device)
    shape = (1, *images.shape[1:])
    all_at_once(nets[:2], leaks[:2], shape, steps=3)  # the first evaluation loads kernels
    one_by_one(nets[:1], leaks[:1], shape, calls=1)
    start, used = time.perf_counter(), time.process_time()
    found, evaluations = way(nets, leaks, shape)
    found = found.cpu()  # waits for a GPU
    wall, cpu = time.perf_counter() - start, time.process_time() - used
    recovered = int((metrics.mse(found, images) < RECOVERED).sum())
    return {
        "images": len(images),
        "recovered": recovered,
        "threads": threads,
        "seconds": wall,
        "cpu_seconds": cpu,
        "evaluations": evaluations,
        "ms_per_evaluation": 1e3 * cpu / sum(evaluations),
        "peak_gigabytes": _peak_bytes(device) / 1e9,
    }


def _peak_bytes(device: str) -> int:
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def each(run: dict, clock: str) -> float:
    """Seconds of a clock for every image that was recovered."""
    return run[clock] / run["recovered"] if run["recovered"] else float("inf")


def ratio(loop: Sequence[dict], batch: Sequence[dict], clock: str) -> float:
    """How many times faster the batch is, each with the number of threads that suits it best."""
    return min(each(run, clock) for run in loop) / min(each(run, clock) for run in batch)


def throughput(name: str, count: int, few: int, threads: Sequence[int], device: str) -> dict:
    """The loop and the batch on one set, each with every number of threads."""
    try:
        images, numbers = victims(name, count)
    except RuntimeError:
        name = SETS[name]
        print(f"LEAKLIB_DATA has no such set: {name} in its place.")
        images, numbers = victims(name, count)
    of = dict(classes=10, device=device)
    loop, batch = [], []
    for t in threads:
        loop.append(measure(one_by_one, images[:few], numbers[:few], threads=t, **of))
        batch.append(measure(all_at_once, images, numbers, threads=t, **of))
        for what, run in (("one at a time", loop[-1]), ("all at once", batch[-1])):
            print(
                f"{name:8} {what:14} {run['threads']} threads: {run['recovered']} of "
                f"{run['images']} recovered, {each(run, 'cpu_seconds'):7.3f} CPU s and "
                f"{each(run, 'seconds'):7.3f} s each, {run['ms_per_evaluation']:.3f} CPU ms an "
                f"evaluation, {run['peak_gigabytes']:.1f} GB",
                flush=True,
            )
    ratios = {clock: ratio(loop, batch, clock) for clock in ("cpu_seconds", "seconds")}
    print(f"{name:8} ratio {ratios['cpu_seconds']:.1f} in CPU seconds, {ratios['seconds']:.1f}")
    return {"set": name, "loop": loop, "batch": batch, "ratio": ratios}


def scaling(threads: int) -> dict:
    """CPU milliseconds of an evaluation, for a growing number of problems, pixels, parameters."""
    ways = {
        "one at a time": partial(one_by_one, calls=EVALUATIONS // PER_CALL),
        "all at once": partial(all_at_once, steps=EVALUATIONS),
        "all at once, by autograd": partial(by_autograd, steps=EVALUATIONS),
    }
    cases = {
        "problems": [(count, count, 32, 10) for count in PROBLEMS],
        "pixels": [(3 * side**2, 64, side, 10) for side in SIDES],
        "parameters": [(_parameters(classes), 64, 32, classes) for classes in CLASSES],
    }
    grown: dict = {}
    for along, rows in cases.items():
        grown[along] = {"x": [x for x, *_ in rows]} | {way: [] for way in ways}
        for x, count, side, classes in rows:
            images, numbers = data.load("photos", size=side)
            take = torch.arange(count) % len(images)
            for name, way in ways.items():
                # the loop does not gain by more images, so two are enough
                mine = take[:2] if name == "one at a time" else take
                run = _measure(way, images[mine], numbers[mine], threads, classes)
                grown[along][name].append(run["ms_per_evaluation"])
            print(f"{along} {x}:", {n: round(grown[along][n][-1], 3) for n in ways}, flush=True)
    return grown


def _parameters(classes: int) -> int:
    return sum(p.numel() for p in models.lenet(3, 32, classes).parameters())


def main(arguments: Sequence[str] | None = None, path: Path = RESULT) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64, help="attacked at once")
    parser.add_argument("--plain", type=int, default=8, help="of them, by the loop")
    parser.add_argument("--quick", action="store_true", help="leave out how the cost grows")
    given = parser.parse_args(arguments)
    cores = torch.get_num_threads()
    threads = sorted({1, cores})
    print(f"PyTorch {torch.__version__}, {cores} threads")
    result = results.provenance("python benchmarks/throughput.py", seed=0)
    result = {"provenance": result, "settings": vars(given) | {"stop": STOP, "mse": RECOVERED}}
    result["sets"] = {n: throughput(n, given.images, given.plain, threads, "cpu") for n in SETS}
    if torch.cuda.is_available():
        result["gpu"] = {n: throughput(n, ON_GPU, given.plain, [cores], "cuda") for n in SETS}
    if not given.quick:
        result["scaling"] = scaling(cores)
        results.save(path, result)
        print(f"Saved as {path.relative_to(path.parent.parent.parent)}.")


if __name__ == "__main__":
    main()
