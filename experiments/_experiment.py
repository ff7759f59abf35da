"""What every experiment shares: going on where an interrupted run stopped, with a progress bar."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tqdm.auto import tqdm

from leaklib import results
from leaklib._errors import bad

RESULTS = Path(__file__).resolve().parent / "results"


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
) -> None:
    """Do what is missing of a result, `chunk` images at a time, and save it after each.

    work(set, arm, range of images) -> {column: one entry an image}.  sets {name: images}.
    """
    if not chunk > 0:
        raise bad("chunk", chunk, "a positive number of images")
    held = {
        (name, arm): result["sets"].setdefault(name, {}).setdefault(arm, {})
        for name in sets
        for arm in arms
    }
    done = {key: min(map(len, columns.values()), default=0) for key, columns in held.items()}
    total = sum(sets.values()) * len(arms)
    with tqdm(total=total, initial=sum(done.values()), unit=" attacks") as bar:
        for (name, arm), columns in held.items():
            bar.set_description(f"{name}: {arm}")
            for start in range(done[name, arm], sets[name], chunk):
                rows = range(start, min(start + chunk, sets[name]))
                for column, entries in work(name, arm, rows).items():
                    columns.setdefault(column, []).extend(entries)
                results.save(path, result)
                bar.update(len(rows))
