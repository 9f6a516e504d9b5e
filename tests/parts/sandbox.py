"""Runs a program with the system calls that a systemd unit leaves it, where no systemd runs.

`python -m tests.parts.sandbox UNIT COMMAND …`: what `SystemCallFilter=` and `MemoryDenyWriteExecute=` take away is
refused with EPERM.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.parts import tool

ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
WRITE, EXECUTE = 2, 4
#: Position of the argument that says what memory may be used for.
PROTECTION = 2
MASKED_EQUAL = 7


class Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`: which argument, how it is compared, a mask and a value."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    )


def allowed_calls(unit: str) -> set[str]:
    """Return the names of the system calls that the text of a unit leaves."""
    allowed = _expand(["@default"])
    for value in re.findall(r"^SystemCallFilter=(.+)$", unit, re.M):
        names = _expand(value.removeprefix("~").split())
        allowed = allowed - names if value.startswith("~") else allowed | names
    return allowed


def confine(unit: str) -> None:
    """Take away from this process, and what it starts, what the unit takes away.

    Raises:
        OSError: the kernel does not take the filter.
    """
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(REFUSE)))
    for name in allowed_calls(unit):
        number = library.seccomp_syscall_resolve_name(name.encode())
        for comparison in _conditions(name) if "\nMemoryDenyWriteExecute=yes\n" in unit else [None]:
            rule = ctypes.byref(comparison) if comparison else None
            # Calls that this processor does not have are refused here; there is nothing to leave.
            library.seccomp_rule_add_array(context, ctypes.c_uint32(ALLOW), number, int(rule is not None), rule)
    code = library.seccomp_load(context)
    if code:
        raise OSError(-code, "the kernel does not take the filter")


def _conditions(name: str) -> list[Comparison | None]:
    """Return when a call is left: memory is never both written and executed."""
    never_executed = Comparison(PROTECTION, MASKED_EQUAL, EXECUTE, 0)
    if name == "mmap":
        return [never_executed, Comparison(PROTECTION, MASKED_EQUAL, EXECUTE | WRITE, EXECUTE)]
    return [never_executed] if name in ("mprotect", "pkey_mprotect") else [None]


def _expand(names: Iterable[str]) -> set[str]:
    """Return the calls of sets such as `@system-service`."""
    calls: set[str] = set()
    for name in names:
        if not name.startswith("@"):
            calls.add(name)
            continue
        listed = [tool("systemd-analyze", "systemd"), "--no-pager", "syscall-filter", name]
        lines = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines()[1:]
        calls |= _expand(line.strip() for line in lines if line.strip() and not line.strip().startswith("#"))
    return calls


if __name__ == "__main__":
    confine(Path(sys.argv[1]).read_text())
    os.execvp(sys.argv[2], sys.argv[2:])
