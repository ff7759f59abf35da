"""A student's notebook in a process of its own, which is asked from outside."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from . import confine, wire

PACKAGE = Path(__file__).resolve().parents[2]  # leaklib
PATIENCE = 5  # seconds that an interrupted process has before it is killed
SLACK = 5
STARTS = 60  # seconds in which PyTorch is imported
TICKS = os.sysconf("SC_CLK_TCK")
ENDED = "the notebook ended its own process"
READABLE = (
    "/usr", "/lib", "/lib64", "/bin", "/sys/devices/system", "/sys/fs/cgroup", "/dev/urandom",
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat",
    "/etc/ld.so.cache", "/etc/localtime", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf",
    "/etc/fonts", "/etc/ssl", "/etc/mime.types",
)  # fmt: skip


UNCONFINED = (
    "This machine cannot keep a submission from reading files: it has no Landlock, and this is not "
    "root. Grade in a container."
)
UNFILTERED = (
    "This machine cannot keep a submission from the network and from other processes: its kernel "
    "does not filter system calls. Grade in a container."
)


class Limits(NamedTuple):
    """What a submission may use: processor seconds for each cell or call and in all, and bytes.

    It may take `SLACK` times as many seconds on the clock, because graders are busy and a cell may
    sleep; `SLACK` of those count as one processor second.
    """

    seconds: float = 60
    total: float = 900
    memory: int = 4 * 2**30
    printed: int = 2 * 2**20
    files: int = 100 * 2**20


DEFAULT = Limits()


def line_of(text: object, most: int = 500) -> str:
    """Whatever somebody wrote, as one line that can be printed."""
    words = " ".join(str(text)[: 4 * most].split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)[:most]


class SubmissionError(Exception):
    """What went wrong in the student's notebook, in one line."""

    def __init__(self, text: object):
        super().__init__(line_of(text))


class Submission:
    """The cells of a notebook, run one by one in a confined process, then open to questions.

    A cell that raises, prints too much or does not end in time is noted and skipped, and the
    others run: each question stands alone.  `notes` has a line for each such cell.  Use it as a
    context manager, or call `close`; it ends with the thread that made it.  Raises OSError where
    this machine cannot start the process at all.
    """

    def __init__(self, cells: Sequence[str], limits: Limits = DEFAULT):
        self.limits, self.notes, self.kept = limits, [], []
        self.left = limits.total
        self.folder = Path(tempfile.mkdtemp(prefix="submission-"))
        self.folder.chmod(0o711)  # another user may pass through, into a folder of its own
        self.child: _Child | None = None
        try:
            self._start()
            if self.child.confined == "nothing":
                self.notes.append(UNCONFINED)
            if not self.child.filtered:
                self.notes.append(UNFILTERED)
            for number, cell in enumerate(cells, start=1):
                try:
                    self._ask({"run": cell})
                    self.kept.append(cell)
                except SubmissionError as error:
                    self.notes.append(f"Code cell {number}: {error}")
        except BaseException:
            self.close()
            raise

    def call(self, name: str, *args: object, **kwargs: object) -> object:
        """The value of the student's function.  Raises SubmissionError."""
        return self._ask({"name": name, "args": list(args), "kwargs": kwargs})

    def value(self, name: str) -> object:
        """A variable of the student's.  Raises SubmissionError."""
        return self._ask({"name": name})

    def close(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Submission:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: dict) -> object:
        if self.child is None:
            self._start()
            for cell in self.kept:
                with contextlib.suppress(SubmissionError):
                    self._asked({"run": cell})
        return self._asked(request)

    def _start(self) -> None:
        self.child = _Child(self.folder, self.limits)

    def _asked(self, request: dict) -> object:
        """The answer of the running process; the time it took is no longer left."""
        if self.left <= 0:
            raise SubmissionError(f"stopped: the notebook took {self.limits.total:g} s in all")
        if self.child is None:
            raise SubmissionError(ENDED)
        used, begun = self.child.seconds(), time.monotonic()
        try:
            return self.child.ask(request, min(self.limits.seconds, self.left))
        finally:
            on_the_clock = time.monotonic() - begun
            self.left -= max(self.child.seconds() - used, on_the_clock / SLACK)
            if self.child.gone():
                self.child.kill()
                self.child = None


class _Child:
    """One process, its two pipes of frames, and a thread that counts what it prints."""

    def __init__(self, folder: Path, limits: Limits):
        self.limits, self.printed, self.last_words = limits, 0, b""
        library = folder / "library"
        library.mkdir(exist_ok=True)
        if not (library / PACKAGE.name).exists():
            # the folder with leaklib in it holds other things too, so the process sees a link
            (library / PACKAGE.name).symlink_to(PACKAGE)
        work = folder / "work"
        work.mkdir(exist_ok=True)
        requests, self.requests = os.pipe()
        self.replies, replies = os.pipe()
        os.set_blocking(self.requests, False)
        rules = {
            "read": [*READABLE, sys.prefix, sys.base_prefix, str(PACKAGE), str(library)],
            "write": [str(work), "/dev/null"],
        }
        allowed = {"memory": limits.memory, "files": limits.files, "total": limits.total}
        self.process = subprocess.Popen(
            [
                sys.executable, "-I", confine.__file__, json.dumps(rules),
                sys.executable, "-m", "leaklib.course.grading.child", str(requests), str(replies),
                json.dumps(allowed),
            ],
            cwd=work,
            env=_environment(library, work),
            pass_fds=(requests, replies),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        os.close(requests)
        os.close(replies)
        self.reader = threading.Thread(target=self._count, daemon=True)
        self.reader.start()
        self.killed, self.used = False, 0.0
        try:
            # this comes from `child`, before it has seen a line of the student's code
            self.confined, filtered = self._reply(STARTS)
        except (SubmissionError, TimeoutError) as error:
            self.kill()
            self.reader.join()
            words = self.last_words.decode(errors="replace").strip() or str(error)
            reason = words.splitlines()[-1] if words else "it took too long"
            raise OSError(f"a submission cannot be started on this machine: {reason}") from None
        self.filtered = filtered == "yes"

    def seconds(self) -> float:
        """Processor seconds that the process has used; the last count known once it is gone."""
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text()
            after_name = stat.rpartition(")")[2].split()
            self.used = sum(int(ticks) for ticks in after_name[11:15]) / TICKS
        except (OSError, IndexError):
            pass
        return self.used

    def ask(self, request: dict, seconds: float) -> object:
        self.printed = 0
        check = self._watch(seconds)
        try:
            self._send(wire.pack(request), check)
            return self._reply(seconds, check)
        except BrokenPipeError:
            raise SubmissionError(ENDED) from None
        except TimeoutError:
            self._interrupt()
            raise SubmissionError(f"stopped: it took more than {seconds:.3g} s") from None

    def _interrupt(self) -> None:
        """Stop as Ctrl-C does, which keeps what was defined before; if that fails, kill."""
        self.process.send_signal(signal.SIGINT)
        try:
            self._reply(PATIENCE)
        except TimeoutError:
            self.kill()
        except SubmissionError:
            pass

    def _watch(self, seconds: float) -> Callable[[], None]:
        """A check that raises once too much is printed, or the time is over."""
        used, begun = self.seconds(), time.monotonic()

        def check() -> None:
            if self.printed > self.limits.printed:
                self.kill()
                words = f"it printed more than {self.limits.printed:,} bytes"
                raise SubmissionError(f"stopped: {words}")
            on_the_clock = time.monotonic() - begun
            if on_the_clock > SLACK * seconds or self.seconds() - used > seconds:
                raise TimeoutError

        return check

    def _send(self, packed: bytes, check: Callable[[], None]) -> None:
        """Write a frame to a process that may not read it."""
        rest = memoryview(packed)
        with selectors.DefaultSelector() as selector:
            selector.register(self.requests, selectors.EVENT_WRITE)
            while rest:
                check()
                if selector.select(0.1):
                    rest = rest[os.write(self.requests, rest) :]

    def _reply(self, seconds: float, check: Callable[[], None] | None = None) -> object:
        stream = _Watched(self.replies, check or self._watch(seconds))
        try:
            reply = wire.receive(stream, plain=True)
        except EOFError:
            self.kill()
            raise SubmissionError(ENDED) from None
        except ValueError as error:
            self.kill()
            raise SubmissionError(f"an answer that cannot be read: {error}") from None
        if not isinstance(reply, dict) or reply.keys() not in ({"value"}, {"error"}):
            self.kill()
            raise SubmissionError("an answer that cannot be read")
        if "error" in reply:
            raise SubmissionError(reply["error"])
        return reply["value"]

    def _count(self) -> None:
        while more := self.process.stdout.read1(65536):
            self.printed += len(more)
            self.last_words = more[-2000:]

    def gone(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        """End the process.  Where system calls are filtered, it has no children."""
        if self.killed:
            return
        self.killed = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.requests)
        os.close(self.replies)


class _Watched:
    """The reading end of a pipe; `check` may raise before each piece."""

    def __init__(self, pipe: int, check: Callable[[], None]):
        self.pipe, self.check = pipe, check

    def read(self, count: int) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(self.pipe, selectors.EVENT_READ)
            while not selector.select(0.1):
                self.check()
        self.check()
        return os.read(self.pipe, count)


def _environment(library: Path, work: Path) -> dict[str, str]:
    """What a notebook needs, and nothing else from the grader's own environment."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    folders = {name: str(work) for name in ("HOME", "TMPDIR", "MPLCONFIGDIR", "IPYTHONDIR")}
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    return {**kept, **folders, **threads, "PYTHONPATH": str(library), "MPLBACKEND": "agg"}
