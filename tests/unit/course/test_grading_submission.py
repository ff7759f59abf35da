"""A student's notebook in a process of its own: what it may do, and what ends it.

One process is asked many questions, for each takes seconds to start.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import leaklib
from leaklib.course.grading import (
    Limits,
    Submission,
    SubmissionError,
    confine,
    submission,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="grading needs Linux")

SHORT = Limits(seconds=1, total=60, memory=2**30, printed=10**6, files=10**6)
SECRET = "what nobody may read"

PROBES = """
import ctypes, glob, os, pickle, signal, socket, subprocess, sys, threading
import torch
import leaklib
from leaklib import metrics

def tried(action):
    try:
        return ["done", str(action())]
    except BaseException as error:
        return [type(error).__name__, str(error)]

def read(path):
    return tried(lambda: open(path, errors="replace").read())

def written(path, mode="w"):
    return tried(lambda: open(path, mode).write("mine"))

def found(name):
    return [os.path.join(place, name) for place, _, files in os.walk("/") if name in files]

def listed(path):
    return tried(lambda: os.listdir(path))

def environment():
    return dict(os.environ)

def parent():
    return os.getppid()

def connected(port):
    return tried(lambda: socket.create_connection(("127.0.0.1", port), timeout=1))

def spoken():
    return tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

def forked():
    return tried(os.fork)

def started():
    return tried(lambda: subprocess.run(["/bin/true"], check=True))

def spawned():
    return tried(lambda: os.posix_spawn("/bin/true", ["true"], {}))

def shouted():
    return os.system("true")

def killed(pid):
    return tried(lambda: os.kill(pid, signal.SIGKILL))

def looked_into(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.ptrace(16, pid, None, None)

def outlives():
    return ctypes.CDLL(None, use_errno=True).prctl(1, 0, 0, 0, 0)

def mode(path):
    return tried(lambda: os.chmod(path, 0))

def threads():
    out = []
    one = threading.Thread(target=out.append, args=(1,))
    one.start()
    one.join()
    return out

def large(name):
    def write():
        with open(name, "wb") as file:
            for _ in range(30):
                file.write(bytes(10**5))
    return tried(write)
"""
ODD = '''
torch.allclose = lambda *a, **k: True
torch.Tensor.__eq__ = lambda *a: True
metrics.psnr = lambda *a, **k: 99.0
leaklib.metrics = sys.modules["leaklib.metrics"]

class Evil:
    """Right, whatever it is compared with."""
    def __eq__(self, other): return True
    def __len__(self): return 3
    def __float__(self): return 1.0
    def __reduce__(self): return (os.system, ("touch /tmp/pickled",))

class EvilList(list):
    def __eq__(self, other): return True

class EvilNumber(float):
    def __eq__(self, other): return True

class EvilTensor(torch.Tensor):
    pass

def evil(): return Evil()
def inside(): return [1, {"a": Evil()}]
def evil_list(): return EvilList([1])
def evil_number(): return EvilNumber(2)
def evil_tensor(): return torch.ones(2).as_subclass(EvilTensor)
def generator(): return (i for i in range(3))
def function(): return len
def nan(): return float("nan")
def nans(): return torch.full((2,), float("nan"))
def wrong_shape(): return torch.ones(7, 0, 1)
def deep():
    value = []
    for _ in range(10**4):
        value = [value]
    return value
def endless():
    value = []
    value.append(value)
    return value
def raises(): raise ValueError("two\\nlines \\x1b[31m red, " + "long " * 10**5)
def leaves(): sys.exit(0)
not_a_function = 3
class Quiet(Exception): pass
def quiet(): raise Quiet
def unprintable():
    class Bad(Exception):
        def __str__(self): raise KeyboardInterrupt
    raise Bad
'''


@pytest.fixture(scope="module")
def grader(tmp_path_factory):
    """A folder of the grader's, with a secret."""
    folder = tmp_path_factory.mktemp("grader")
    (folder / "leaklib_secret.txt").write_text(SECRET)
    (folder / "tests").mkdir()
    (folder / "tests" / "q1.py").write_text("# a hidden test")
    return folder


@pytest.fixture(scope="module")
def probe(grader):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAKLIB_SECRET", SECRET)
        with Submission([PROBES, ODD], SHORT._replace(seconds=30)) as started:
            yield started


def confined(probe):
    if probe.child.confined == "nothing":
        pytest.skip("this machine has no Landlock, and this is not root")


def filtered(probe):
    if not probe.child.filtered:
        pytest.skip("this machine does not filter system calls")


def test_a_cell_and_a_function_run(probe):
    assert probe.notes == []
    assert probe.call("threads") == [1]


def test_the_graders_files_cannot_be_read_listed_or_found(probe, grader):
    confined(probe)
    assert probe.call("read", str(grader / "leaklib_secret.txt"))[0] == "PermissionError"
    assert probe.call("listed", str(grader))[0] == "PermissionError"
    assert probe.call("found", "leaklib_secret.txt") == []
    assert probe.call("found", "q1.py") == []


def test_the_graders_files_cannot_be_changed(probe, grader):
    confined(probe)
    for path in (grader / "tests" / "q1.py", grader / "new.txt", leaklib.__file__):
        assert probe.call("written", str(path))[0] == "PermissionError"
    assert (grader / "tests" / "q1.py").read_text() == "# a hidden test"
    assert probe.call("written", "mine.txt") == ["done", "4"]


def test_the_mode_of_the_graders_files_stays(probe, grader):
    filtered(probe)
    before = grader.stat().st_mode
    probe.call("mode", str(grader))
    assert grader.stat().st_mode == before


def test_the_process_of_the_grader_cannot_be_looked_into_or_stopped(probe):
    filtered(probe)
    confined(probe)
    assert probe.call("parent") == os.getpid()
    for name in ("environ", "mem", "maps", "fd/0"):
        assert probe.call("read", f"/proc/{os.getpid()}/{name}")[0] == "PermissionError"
    assert probe.call("looked_into", os.getpid()) == -1
    # signal 9 to the grader, to everybody, and to the next process of all
    for pid in (os.getpid(), -1, 1):
        assert probe.call("killed", pid)[0] == "PermissionError"


def test_the_environment_of_the_grader_is_not_handed_on(probe):
    assert os.environ["LEAKLIB_SECRET"] == SECRET
    assert SECRET not in str(probe.call("environment"))
    assert SECRET not in probe.call("read", "/proc/self/environ")[1]


def test_there_is_no_network(probe):
    filtered(probe)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert probe.call("connected", server.getsockname()[1])[0] == "PermissionError"
    assert probe.call("spoken")[0] == "PermissionError"


def test_no_other_process_can_be_started(probe):
    filtered(probe)
    for way in ("forked", "started", "spawned"):
        assert probe.call(way)[0] == "PermissionError"
    assert probe.call("shouted") != 0
    assert probe.call("outlives") == -1


def test_a_file_ends_at_its_limit(probe):
    kind, text = probe.call("large", "large.bin")
    assert kind == "OSError" and "large" in text


def test_what_is_patched_is_patched_there_alone(probe):
    assert probe.call("threads") == [1]
    assert not torch.allclose(torch.zeros(1), torch.ones(1))
    assert leaklib.metrics.psnr(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)) < 1


def test_numbers_come_as_they_are(probe):
    assert probe.call("nan") != probe.call("nan")
    assert probe.call("nans").isnan().all()
    assert probe.call("wrong_shape").shape == (7, 0, 1)
    assert type(probe.call("evil_tensor")) is torch.Tensor


@pytest.mark.parametrize("name", ["evil", "inside", "generator", "function"])
def test_an_object_of_its_own_class_does_not_come_through(probe, name):
    with pytest.raises(SubmissionError, match="a value of type"):
        probe.call(name)
    assert not Path("/tmp/pickled").exists()


def test_a_class_that_answers_for_itself_does_not_come_through(probe):
    assert type(probe.call("evil_list")) is list
    with pytest.raises(SubmissionError, match="a value of type EvilNumber"):
        probe.call("evil_number")


@pytest.mark.parametrize("name", ["deep", "endless"])
def test_what_is_nested_too_deep_is_an_error(probe, name):
    with pytest.raises(SubmissionError, match="nested more than"):
        probe.call(name)


def test_an_error_is_one_line_that_can_be_printed(probe):
    with pytest.raises(SubmissionError) as caught:
        probe.call("raises")
    assert str(caught.value).startswith("ValueError: two lines ")
    assert str(caught.value).isprintable() and len(str(caught.value)) <= 500
    with pytest.raises(SubmissionError, match="^Quiet$"):
        probe.call("quiet")
    with pytest.raises(SubmissionError, match="SystemExit"):
        probe.call("leaves")
    with pytest.raises(SubmissionError):
        probe.call("unprintable")
    assert probe.call("threads") == [1]


def test_a_name_that_is_missing_or_no_function_is_an_error(probe):
    with pytest.raises(SubmissionError, match="`absent` is not defined"):
        probe.call("absent")
    with pytest.raises(SubmissionError, match="`absent` is not defined"):
        probe.value("absent")
    with pytest.raises(SubmissionError, match="`not_a_function` is not a function"):
        probe.call("not_a_function")
    assert probe.value("not_a_function") == 3


def test_an_argument_that_cannot_be_handed_over_is_the_graders_fault(probe):
    with pytest.raises(TypeError, match="a value of type"):
        probe.call("read", object())


# --- what ends it


ENDERS = {
    "good = 1\nend = {}": None,
    "import nothing_of_that_name": "ModuleNotFoundError",
    "this is no Python": "SyntaxError",
    "while True: pass": "stopped: it took more than 1 s",
    "held = bytearray(10**10)": "MemoryError",
    "import os\nos._exit(0)": "the notebook ended its own process",
    "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass": "stopped",
    "while True: print('x' * 10**4)": "printed more than",
    "import time\ntime.sleep(10**6)": "stopped",
    "raise SystemExit": "SystemExit",
    "def loops():\n    while True: pass": None,
    "def swallows():\n    while True:\n        try:\n            while True: sum(range(9))\n"
    "        except BaseException: pass": None,
    "def total(x):\n    return float(x.sum())": None,
    "def leaves():\n    import os\n    os._exit(1)": None,
    "later = good + 1": None,
}


@pytest.fixture(scope="module")
def ended():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submission, "PATIENCE", 1)
        with Submission(list(ENDERS), SHORT) as started:
            yield started


def test_each_cell_that_does_not_end_well_is_noted_and_the_others_run(ended):
    wanted = {i: words for i, words in enumerate(ENDERS.values(), start=1) if words}
    assert len(ended.notes) == len(wanted)
    for note, (number, words) in zip(ended.notes, wanted.items()):
        assert note.startswith(f"Code cell {number}: ") and words in note
    assert ended.value("later") == 2


@pytest.mark.parametrize("name, words", [("loops", "took more than"), ("leaves", "ended its own")])
def test_a_function_that_does_not_end_well_leaves_the_others(ended, name, words):
    with pytest.raises(SubmissionError, match=words):
        ended.call(name)
    assert ended.value("later") == 2
    # more than a pipe holds at once
    assert ended.call("total", torch.ones(10**6)) == 10**6


def test_a_process_that_will_not_stop_is_killed(ended):
    before = ended.child.process.pid
    with pytest.raises(SubmissionError, match="took more than"):
        ended.call("swallows")
    assert not Path(f"/proc/{before}").exists()
    assert ended.value("later") == 2


def test_closing_ends_the_process_and_removes_its_files():
    with Submission(["x = 1"], SHORT) as started:
        pid, folder = started.child.process.pid, started.folder
        assert Path(f"/proc/{pid}").exists() and folder.exists()
    assert not Path(f"/proc/{pid}").exists() and not folder.exists()


PIPES = """
import os, struct, sys, time
def fds():
    return [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2]
def shout(content):
    for fd in fds():
        try:
            os.write(fd, content)
        except OSError:
            pass
def garbage(): shout(b"garbage " * 100)
def huge(): shout(struct.pack("<QQ", 2**62, 2**62))
def drips():
    shout(struct.pack("<QQ", 10**6, 0))
    while True:
        shout(b" ")
        time.sleep(0.01)
def forges():
    from leaklib.course.grading import wire
    shout(wire.pack({"value": 1, "error": "both"}))
def closes():
    for fd in fds():
        try:
            os.close(fd)
        except OSError:
            pass
def stops_reading():
    import signal, threading
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGSTOP)).start()
    return 1
def size(x): return len(x)
"""


@pytest.fixture(scope="module")
def pipes():
    with Submission([PIPES], SHORT) as started:
        yield started


@pytest.mark.parametrize("name", ["garbage", "huge", "forges", "closes"])
def test_garbage_in_the_pipes_costs_the_answer_alone(pipes, name):
    with pytest.raises(SubmissionError, match="cannot be read|ended its own process"):
        pipes.call(name)
    assert pipes.call("size", "abc") == 3


def test_an_answer_that_drips_is_stopped(pipes):
    with pytest.raises(SubmissionError, match="took more than"):
        pipes.call("drips")
    assert pipes.call("size", "abc") == 3


def test_a_process_that_stops_reading_is_stopped(pipes):
    assert pipes.call("stops_reading") == 1
    time.sleep(0.5)
    with pytest.raises(SubmissionError, match="took more than"):
        pipes.call("size", "a" * 10**6)
    assert pipes.call("size", "abc") == 3


def test_the_notebook_as_a_whole_has_a_limit():
    cells = ["import time\ntime.sleep(3)", "x = 1", "def f(): return 1"]
    with Submission(cells, SHORT._replace(total=0.5)) as started:
        assert "took 0.5 s in all" in started.notes[1] and len(started.notes) == 3
        with pytest.raises(SubmissionError, match=r"the notebook took 0\.5 s in all"):
            started.call("f")


def test_the_process_ends_with_its_grader():
    code = (
        "import os, time\nfrom leaklib.course.grading import Submission\n"
        "s = Submission(['import threading, time\\nclass A: pass\\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()'])\n"
        "print(s.child.process.pid, flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as run:
        pid = int(run.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        run.send_signal(signal.SIGKILL)
        run.wait()
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


# --- where the machine can do less


def weaker(tmp_path, monkeypatch, changes):
    """Let submissions be started by a confine.py of which something is changed."""
    script = tmp_path / "confine.py"
    script.write_text(
        f"import json, os, sys\nsys.path.insert(0, {str(Path(confine.__file__).parent)!r})\n"
        f"import confine\n{changes}\nconfine.main(json.loads(sys.argv[1]), sys.argv[2:])\n"
    )
    monkeypatch.setattr(confine, "__file__", str(script))


WITHOUT_LANDLOCK = "confine.landlock = lambda *a: False"
LOOKS = """
import os
def user(): return os.getuid()
def tried(path):
    try:
        return open(path).read()
    except OSError as error:
        return type(error).__name__
open("mine.txt", "w").write("mine")
"""


def others_may_run(program):
    folders = [*Path(program).parents, *Path(program).resolve().parents]
    return all(folder.stat().st_mode & 0o1 for folder in folders)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_without_landlock_root_becomes_a_user_without_rights(tmp_path, monkeypatch):
    weaker(tmp_path, monkeypatch, WITHOUT_LANDLOCK)
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "secret.txt").chmod(0o600)
    if not others_may_run(sys.executable):
        with pytest.raises(OSError, match=r"cannot be run by another user: .* `chmod o\+x`"):
            Submission([LOOKS], SHORT)
        return
    with Submission([LOOKS], SHORT) as started:
        assert started.notes == [] and started.child.confined == "user"
        assert started.call("user") >= confine.FIRST_USER
        assert started.call("tried", str(tmp_path / "secret.txt")) == "PermissionError"
        assert started.call("tried", "mine.txt") == "mine"


def test_where_nothing_can_be_done_the_report_says_so(tmp_path, monkeypatch):
    as_user = "confine.os.getuid = lambda: 1000"
    no_filter = "confine.os.uname = lambda: type('', (), {'machine': 'abacus'})"
    weaker(tmp_path, monkeypatch, "\n".join([WITHOUT_LANDLOCK, as_user, no_filter]))
    with Submission([LOOKS], SHORT) as started:
        assert started.child.confined == "nothing" and not started.child.filtered
        assert started.notes == [submission.UNCONFINED, submission.UNFILTERED]
        assert started.call("tried", "mine.txt") == "mine"


def test_a_machine_that_cannot_start_a_submission_is_an_error_not_a_mark(tmp_path, monkeypatch):
    weaker(tmp_path, monkeypatch, "raise SystemExit('this machine is broken')")
    with pytest.raises(OSError, match="cannot be started on this machine: this machine is broken"):
        Submission(["x = 1"], SHORT)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_normal_user_is_confined_as_well():
    """The same rules without a privilege: Landlock needs none."""
    if not others_may_run(sys.executable):
        pytest.skip("another user cannot run this Python")
    code = (
        "import os, sys\nfrom leaklib.course.grading import Submission\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "with Submission(['import os\\ndef look():\\n    return os.listdir(\"/tmp\")']) as s:\n"
        "    print(s.child.confined, s.child.filtered, s.notes)\n"
        "    try:\n        s.call('look')\n    except Exception as error:\n        print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    if "nothing" in run.stdout:
        pytest.skip("this machine has no Landlock")
    assert run.stdout.startswith("landlock True []\n"), run.stderr
    assert "PermissionError" in run.stdout


@pytest.mark.parametrize("machine", sorted(confine.CALLS))
def test_the_filter_has_a_rule_for_each_call_and_ends(machine):
    calls = confine.CALLS[machine]
    program = confine.instructions(calls, own=7)
    for place, (_, if_so, if_not, _) in enumerate(program):
        assert place + max(if_so, if_not) + 1 <= len(program)

    def verdict(call, argument=0, processor=calls["processor"]):
        data = {confine.CALL: call, confine.PROCESSOR: processor, confine.FIRST_ARGUMENT: argument}
        place = held = 0
        while True:
            code, if_so, if_not, number = program[place]
            if code == confine.RETURN:
                return number
            if code == confine.LOAD:
                held, place = data[number], place + 1
                continue
            true = {
                confine.EQUAL: held == number,
                confine.AT_LEAST: held >= number,
                confine.ANY_BIT: bool(held & number),
            }[code]
            place += 1 + (if_so if true else if_not)

    for number in calls["refused"].values():
        assert verdict(number) == confine.REFUSE
    for number in calls["ignored"].values():
        assert verdict(number) == confine.IGNORE
    assert verdict(calls["clone3"]) == confine.UNKNOWN
    assert verdict(calls["clone"], confine.THREAD | 0xF00) == confine.ALLOW
    assert verdict(calls["clone"], 17) == confine.REFUSE
    for name in ("kill", "tgkill"):
        assert verdict(calls[name], 7) == confine.ALLOW
        assert verdict(calls[name], 8) == verdict(calls[name], 2**32 - 1) == confine.REFUSE
    assert verdict(calls["prctl"], confine.DIES_WITH_PARENT) == confine.REFUSE
    assert verdict(calls["prctl"], 15) == confine.ALLOW
    assert verdict(1) == verdict(0) == confine.ALLOW
    assert verdict(1, processor=3) == verdict(0x40000001) == confine.REFUSE
