"""Give up rights, then start a program: ``python confine.py RULES PROGRAM ARGUMENT...``.

RULES is JSON: {"read": [paths], "write": [paths]}.  Of the file system the program sees these and
what lies below them, and no network (Linux's Landlock, which needs no privilege).  Where the
kernel has none and this runs as root, the program becomes a user without rights.  What was done is
told in LEAKLIB_CONFINED: "landlock", "user" or "nothing".

Only the standard library, and no import of leaklib: rights are given up before any thread begins.
"""

import ctypes
import json
import os
import struct
import sys

CREATE, ADD_RULE, RESTRICT = 444, 445, 446  # system calls, the same numbers on every processor
PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
ALL_OF_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many rights each version knows
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | 1 << 14  # of these a rule for a file may speak
NO_NEW_PRIVILEGES = 38
NOBODY = 65534


def landlock(read, write):
    """Confine this process; False where the kernel cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    rights = (1 << ALL_OF_VERSION[min(version, 5)]) - 1
    handled = struct.pack("<QQ", rights, 3 if version >= 4 else 0)  # 3: TCP, bind and connect
    rules = libc.syscall(CREATE, handled, ctypes.c_size_t(len(handled) if version >= 4 else 8), 0)
    if rules < 0:
        return False
    for paths, allowed in ((read, EXECUTE | READ_FILE | READ_DIR), (write, rights)):
        for path in paths:
            if os.path.exists(path):
                allow(libc, rules, path, allowed)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    return libc.syscall(RESTRICT, rules, 0) == 0


def allow(libc, rules, path, allowed):
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if not os.path.isdir(path):
        allowed &= ON_FILES
    rule = struct.pack("<Qi", allowed, place)
    if libc.syscall(ADD_RULE, rules, PATH_BENEATH, rule, 0):
        raise OSError(ctypes.get_errno(), "no rule for the path", path)
    os.close(place)


def become_nobody(write):
    """Become a user without rights, who owns what may be written."""
    for path in write:
        if os.path.isdir(path):
            os.chown(path, NOBODY, NOBODY)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def main(rules, program):
    if landlock(rules["read"], rules["write"]):
        done = "landlock"
    elif os.getuid() == 0:
        become_nobody(rules["write"])
        done = "user"
    else:
        done = "nothing"
    os.environ["LEAKLIB_CONFINED"] = done
    os.execv(program[0], program)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
