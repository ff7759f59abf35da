"""What every experiment shares: its command line, and going on where it was interrupted."""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from leaklib._errors import bad
from leaklib.book import results

RESULTS = Path(__file__).resolve().parent / "results"


class Set(NamedTuple):
    """Private images (N, C, H, W), their labels (N,), and how many classes a network has for them.

    The labels need not fill the classes: the network is made for the whole of the set.
    """

    images: Tensor
    labels: Tensor
    classes: int


def command_line(
    doc: str,
    arguments: Sequence[str] | None,
    path: Path,
    *,
    sets: Mapping[str, Callable[[str, int], Set]],
    arms: Sequence[str],
    work: Callable[[int, str, str, range], Mapping[str, list]],
    images: int | Mapping[str, int],
    chunk: int,
    settings: Mapping[str, object],
    by_default: Sequence[str] | None = None,
) -> str | None:
    """Run an experiment as the arguments say, or go on; returns what is wrong, if anything.

    work(count, set, arm, range of images) -> {column: one entry an image}.  images: of each set, a
    number or {set: number}, and chunk: done at a time, unless the arguments say otherwise.
    by_default: the sets of a run that names none; None is all of them.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--images", type=int, help="of each set")
    parser.add_argument("--sets", nargs="+", choices=sets, default=list(by_default or sets))
    parser.add_argument("--chunk", type=int, default=chunk, help="images attacked at once")
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--fresh", action="store_true", help="begin anew, whatever is saved")
    given = parser.parse_args(arguments)

    command = f"python experiments/{path.stem}.py"
    if given.images not in (None, images):
        command += f" --images {given.images}"
        images = given.images
    counts = images if isinstance(images, Mapping) else dict.fromkeys(sets, images)
    try:
        found = read({name: sets[name] for name in given.sets}, counts)
        if not found:
            return "No set is here, so there is nothing to attack."
        made = results.provenance(command, seed=0, **{n: facts(s) for n, s in found.items()})
        shared = {"images": images, **settings, "arms": list(arms)}
        result = resume(path, made, shared, given.fresh)
    except ValueError as error:
        return str(error)
    fill(
        path, result, partial(_counted, work, counts), sets={name: counts[name] for name in found},
        arms=arms, chunk=given.chunk, workers=given.workers,
    )  # fmt: skip
    return None


def _counted(
    work: Callable, counts: Mapping[str, int], name: str, arm: str, rows: range
) -> Mapping[str, list]:
    return work(counts[name], name, arm, rows)


def read(
    sets: Mapping[str, Callable[[str, int], Set]], counts: Mapping[str, int]
) -> dict[str, Set]:
    """What can be read of the sets; one that cannot is left out, and that is said."""
    found = {}
    for name, load in sets.items():
        try:
            found[name] = load(name, counts[name])
        except RuntimeError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return found


def facts(victims: Set) -> dict[str, object]:
    """What a result says of a set: enough to know whether another run used the same images."""
    return {
        "n": len(victims.images),
        "shape": list(victims.images.shape[1:]),
        "classes": victims.classes,
        "sha256": results.fingerprint(victims.images, victims.labels),
    }


def resume(path: Path, provenance: dict, settings: dict, fresh: bool = False) -> results.Result:
    """The result at `path`, to go on with, or an empty one where there is none or with `fresh`.

    Raises ValueError, naming what differs, when it was made with other settings, versions or data:
    one file must not mix two experiments.
    """
    provenance, settings = results.as_saved(provenance), results.as_saved(settings)
    if fresh or not path.exists():
        return {"provenance": provenance, "settings": settings, "sets": {}}
    old = json.loads(path.read_text("utf-8"))
    then, now = _made(old["provenance"], old["settings"]), _made(provenance, settings)
    for name in {**then, **now}:
        if name.startswith("data ") and not (name in then and name in now):
            continue  # a set that only one of the runs has mixes nothing
        if then.get(name) != now.get(name):
            wanted = f"{now.get(name)!r}, or --fresh to start anew"
            raise bad(path.name, f"{name} {then.get(name)!r}", wanted)
    data = {**old["provenance"]["data"], **provenance["data"]}
    return {**old, "provenance": {**provenance, "data": data}}


def _made(provenance: dict, settings: dict) -> dict:
    """All that two runs must agree on, by name."""
    data = {f"data {name}": facts for name, facts in provenance["data"].items()}
    alike = {name: provenance[name] for name in ("seed", "machine")}
    return {**settings, **provenance["versions"], **alike, **data}


def fill(
    path: Path,
    result: results.Result,
    work: Callable[[str, str, range], Mapping[str, list]],
    *,
    sets: Mapping[str, int],
    arms: Sequence[str],
    chunk: int,
    workers: int = 1,
) -> None:
    """Do what is missing of a result, `chunk` images at a time, and save it after each.

    work(set, arm, range of images) -> {column: one entry an image}.  sets {name: images}.  More
    than one worker: that many processes of one thread each, to which `work` has to be picklable.
    """
    for name, value in dict(chunk=chunk, workers=workers).items():
        if not value > 0:
            raise bad(name, value, "a positive number")
    held = {
        (name, arm): result["sets"].setdefault(name, {}).setdefault(arm, {})
        for name in sets
        for arm in arms
    }
    done = {key: min(map(len, columns.values()), default=0) for key, columns in held.items()}
    tasks = [
        (name, arm, range(start, min(start + chunk, sets[name])))
        for name, arm in held
        for start in range(done[name, arm], sets[name], chunk)
    ]
    total = sum(sets.values()) * len(arms)
    with tqdm(total=total, initial=sum(done.values()), unit=" attacks") as bar:
        for (name, arm, rows), entries in zip(tasks, _each(work, tasks, workers), strict=True):
            for column, values in entries.items():
                held[name, arm].setdefault(column, []).extend(values)
            results.save(path, result)
            bar.set_description(f"{name}: {arm}")
            bar.update(len(rows))


def _each(work: Callable, tasks: Sequence[tuple], workers: int) -> Iterator[Mapping[str, list]]:
    """work(*task) of all tasks, in their order."""
    if workers == 1 or len(tasks) < 2:
        yield from (work(*task) for task in tasks)
        return
    # spawned, for threads that PyTorch has started already do not survive a fork
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,))
    try:
        yield from pool.map(work, *zip(*tasks, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)
