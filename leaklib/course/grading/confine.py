"""Give up rights, then start a program: ``python confine.py RULES PROGRAM ARGUMENT...``.

RULES is JSON: {"read": [paths], "write": [paths]}.  The program sees these paths and what lies
below them, and nothing else of the file system (Linux's Landlock, which needs no privilege).  On a
kernel without it, and if this runs as root, the program becomes a user without rights.
LEAKLIB_CONFINED says what was done: "landlock", "user" or "nothing".

A filter of system calls (seccomp) comes on top: no other process can be started, signalled or
inspected, no socket opened, and changing a file's owner or mode does nothing (programs that copy a
file want it to succeed).  LEAKLIB_FILTERED is "yes" where the kernel can do this, else "no".

Standard library only, without leaklib: rights are given up before any thread begins.
"""

import ctypes
import errno
import json
import os
import struct
import sys

CREATE, ADD_RULE, RESTRICT = 444, 445, 446  # system calls, the same numbers on every processor
PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
ALL_OF_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many rights each version knows
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | 1 << 14  # the rights that a rule for a file may give

DIES_WITH_PARENT, FILTER, DROP_FROM_BOUNDS, NO_NEW_PRIVILEGES = 1, 22, 24, 38  # of prctl
FIRST_USER, USERS = 61184, 4336  # ids of nobody who logs in: one for each submission

THREAD = 0x10000  # the flag of a new thread, among those of clone
CALLS = {  # by processor: its number, calls refused or ignored, and calls with their own rule
    "x86_64": {
        "processor": 0xC000003E,
        "refused": {
            "fork": 57, "vfork": 58, "socket": 41, "io_uring_setup": 425,
            "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "pidfd_getfd": 438,
            "tkill": 200, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
            "pidfd_send_signal": 424, "memfd_create": 319, "shmget": 29, "keyctl": 250,
        },
        "ignored": {
            "chmod": 90, "fchmod": 91, "fchmodat": 268, "fchmodat2": 452,
            "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260,
        },
        "clone": 56, "clone3": 435, "prctl": 157, "kill": 62, "tgkill": 234, "prlimit64": 302,
    },
    "aarch64": {
        "processor": 0xC00000B7,
        "refused": {
            "socket": 198, "io_uring_setup": 425,
            "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "pidfd_getfd": 438,
            "tkill": 130, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240,
            "pidfd_send_signal": 424, "memfd_create": 279, "shmget": 194, "keyctl": 219,
        },
        "ignored": {
            "fchmod": 52, "fchmodat": 53, "fchmodat2": 452, "fchown": 55, "fchownat": 54,
        },
        "clone": 220, "clone3": 435, "prctl": 167, "kill": 129, "tgkill": 131, "prlimit64": 261,
    },
}  # fmt: skip

# instructions of the kernel's filters, which read (call, processor, address, arguments)
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
CALL, PROCESSOR, FIRST_ARGUMENT = 0, 4, 16
ALLOW, IGNORE = 0x7FFF0000, 0x50000
REFUSE, UNKNOWN = IGNORE | errno.EPERM, IGNORE | errno.ENOSYS

libc = ctypes.CDLL(None, use_errno=True)


def landlock(read, write):
    """Confine this process; False where the kernel cannot."""
    version = libc.syscall(CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    rights = (1 << ALL_OF_VERSION[min(version, 5)]) - 1
    # TCP's bind and connect; and, from version 6, abstract sockets and signals to others
    handled = struct.pack("<QQQ", rights, 3, 3)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = libc.syscall(CREATE, handled, ctypes.c_size_t(len(handled)), 0)
    if rules < 0:
        return False
    for paths, allowed in ((read, EXECUTE | READ_FILE | READ_DIR), (write, rights)):
        for path in paths:
            if os.path.exists(path):
                allow(rules, path, allowed)
    return libc.syscall(RESTRICT, rules, 0) == 0


def allow(rules, path, allowed):
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if not os.path.isdir(path):
        allowed &= ON_FILES
    rule = struct.pack("<Qi", allowed, place)
    if libc.syscall(ADD_RULE, rules, PATH_BENEATH, rule, 0):
        raise OSError(ctypes.get_errno(), "no rule for the path", path)
    os.close(place)


def give_up_capabilities():
    """Root without them is a user who owns root's files, few of which the rules show."""
    for capability in range(64):
        libc.prctl(DROP_FROM_BOUNDS, capability, 0, 0, 0)
    if libc.capset(struct.pack("<Ii", 0x20080522, 0), bytes(24)):
        raise OSError(ctypes.get_errno(), "root cannot give up its capabilities")


def become_nobody(write):
    """Become a user without rights, who owns what may be written and nothing else."""
    user = FIRST_USER + os.getpid() % USERS
    for path in write:
        if os.path.isdir(path):
            os.chown(path, user, user)
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def instructions(calls, own):
    """The filter, a list of (code, jump if so, jump if not, number)."""
    done = [(RETURN, 0, 0, REFUSE)]
    found = [(LOAD, 0, 0, PROCESSOR), (EQUAL, 1, 0, calls["processor"]), *done, (LOAD, 0, 0, CALL)]
    found += [(AT_LEAST, 0, 1, 0x40000000), *done]  # another way to number calls, on x86_64
    for number in calls["refused"].values():
        found += [(EQUAL, 0, 1, number), *done]
    for number in calls["ignored"].values():
        found += [(EQUAL, 0, 1, number), (RETURN, 0, 0, IGNORE)]
    # without clone3 a C library starts its threads with clone, whose flags a filter can read
    found += [(EQUAL, 0, 1, calls["clone3"]), (RETURN, 0, 0, UNKNOWN)]

    def by_argument(name, test, number, if_so, if_not):
        return [
            (EQUAL, 0, 4, calls[name]), (LOAD, 0, 0, FIRST_ARGUMENT), (test, 0, 1, number),
            (RETURN, 0, 0, if_so), (RETURN, 0, 0, if_not),
        ]  # fmt: skip

    found += by_argument("clone", ANY_BIT, THREAD, ALLOW, REFUSE)
    found += by_argument("kill", EQUAL, own, ALLOW, REFUSE)
    found += by_argument("tgkill", EQUAL, own, ALLOW, REFUSE)
    found += by_argument("prlimit64", EQUAL, 0, ALLOW, REFUSE)
    found += by_argument("prctl", EQUAL, DIES_WITH_PARENT, REFUSE, ALLOW)
    return [*found, (RETURN, 0, 0, ALLOW)]


def filter_calls():
    """Refuse what no answer needs; False where the kernel or the processor cannot do it."""
    calls = CALLS.get(os.uname().machine)
    if calls is None:
        return False
    program = [struct.pack("HBBI", *each) for each in instructions(calls, os.getpid())]
    held = ctypes.create_string_buffer(b"".join(program))
    told = struct.pack("HP", len(program), ctypes.addressof(held))
    return libc.prctl(FILTER, 2, told, 0, 0) == 0


def main(rules, program):
    parent = os.getppid()
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if landlock(rules["read"], rules["write"]):
        done = "landlock"
        if os.getuid() == 0:
            give_up_capabilities()
    elif os.getuid() == 0:
        become_nobody(rules["write"])
        done = "user"
    else:
        done = "nothing"
    # after the change of user, which would undo it, and before the filter, which forbids it
    libc.prctl(DIES_WITH_PARENT, 9, 0, 0, 0)
    if os.getppid() != parent:
        return
    os.environ["LEAKLIB_CONFINED"] = done
    os.environ["LEAKLIB_FILTERED"] = "yes" if filter_calls() else "no"
    try:
        os.execv(program[0], program)
    except PermissionError:
        sys.exit(f"{program[0]} cannot be run by another user: its folders need `chmod o+x`")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
