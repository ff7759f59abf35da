"""The process in which a submission runs: it takes cells and calls, and answers with values.

    python -m leaklib.course.grading.child IN OUT LIMITS

IN and OUT are file descriptors that carry frames (`wire`); LIMITS is JSON.  `submission` starts it,
through `confine`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import types

from . import wire


class Grader:
    """Takes the place of Otter's notebook: the tests are elsewhere, so a check says nothing."""

    def __init__(self, *args: object, **kwargs: object):
        pass

    def __getattr__(self, name: str) -> object:
        return lambda *args, **kwargs: None


def without_tests() -> None:
    """Make `import otter` give a Grader that does nothing."""
    module = types.ModuleType("otter")
    module.Notebook = Grader
    sys.modules["otter"] = module


def limit(memory: int, files: int, total: float) -> None:
    """Limit the memory that may still be taken, the size of a file, and the time."""
    with open("/proc/self/statm") as statm:
        in_use = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + memory,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (files,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # this only ends a process whose grader is gone: the grader counts more finely
    resource.setrlimit(resource.RLIMIT_CPU, (2 * int(total) + 60,) * 2)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write then fails, as on a full disk


def shell() -> object:
    """An interpreter that understands notebooks, without history and colours."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    settings = Config()
    settings.HistoryManager.enabled = False
    settings.InteractiveShell.colors = "nocolor"
    return InteractiveShell.instance(config=settings)


def words_of(error: BaseException) -> str:
    try:
        words = " ".join(str(error).split())
    except BaseException:  # the student's own exception may raise when it is printed
        words = ""
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def answer(ip: object, request: dict) -> dict:
    """{"value": ...} or {"error": a line}."""
    if "run" in request:
        result = ip.run_cell(request["run"], store_history=False)
        error = result.error_before_exec or result.error_in_exec
        return {"error": words_of(error)} if error else {"value": None}
    name = request["name"]
    if name not in ip.user_ns:
        return {"error": f"NameError: `{name}` is not defined in the notebook"}
    value = ip.user_ns[name]
    if "args" in request:
        if not callable(value):
            return {"error": f"TypeError: `{name}` is not a function"}
        value = value(*request["args"], **request["kwargs"])
    return {"value": value}


def main(incoming: int, outgoing: int, limits: dict) -> None:
    without_tests()
    ip = shell()
    with os.fdopen(incoming, "rb") as requests, os.fdopen(outgoing, "wb") as replies:
        limit(**limits)
        done = [os.environ["LEAKLIB_CONFINED"], os.environ["LEAKLIB_FILTERED"]]
        wire.send(replies, {"value": done})
        while True:
            try:
                request = wire.receive(requests)
            except EOFError:
                return
            except KeyboardInterrupt:
                continue  # what it should have stopped has ended already
            try:
                reply = wire.pack(answer(ip, request))
            except BaseException as error:
                reply = wire.pack({"error": words_of(error)})
            replies.write(reply)
            replies.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
