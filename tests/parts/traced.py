"""A daemon whose system calls are written down: which files it opens, and every byte that it writes or sends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.parts import eventually, tool
from tests.parts.daemon import Daemon

#: All calls that let bytes leave a process by themselves, and those by which files are opened or shared.
WRITES = ("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendto", "sendmsg", "sendmmsg")
COPIES = ("sendfile", "splice", "tee", "vmsplice", "copy_file_range", "io_uring_setup", "process_vm_writev")
OPENS = ("open", "openat", "openat2", "creat", "memfd_create", "mmap")
LINE = re.compile(r"(\w+)\((.*)")
#: As `strace -yy` writes a file number: what it is, in angle brackets.
TARGET = re.compile(r"(?:\w+=)?\d+<((?:->|[^<>])*)>")
HEX = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
LONGEST = 1 << 22


@dataclass(frozen=True)
class Written:
    """What one call wrote.

    Attributes:
        target: the path of a file, or `TCP:[from->to]`.
        content: the bytes.
    """

    target: str
    content: bytes


class TracedDaemon(Daemon):
    """`emotion-edge run` under strace, which is a stranger to it: signals go to the daemon itself."""

    start_timeout = 120.0

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        super().__init__(config, folder)
        self._trace = folder / "trace"
        calls = ",".join(f"?{name}" for name in (*WRITES, *COPIES, *OPENS))
        strace = [tool("strace", "strace"), "-D", "-ff", "-qq", "-yy", "-xx", "-s", str(LONGEST), "--seccomp-bpf"]
        self.command = [*strace, "-o", str(self._trace), "-e", f"trace={calls}", "-e", "signal=none", *self.command]

    def calls(self) -> Iterator[tuple[str, str]]:
        """Return name and arguments of every call, after the daemon's end."""
        paths = list(self.folder.glob("trace.*"))
        assert paths, "strace wrote nothing; may this user trace its own programs?"
        for path in paths:
            for line in path.read_text(encoding="ascii").splitlines():
                found = LINE.match(line)
                if found:
                    yield found[1], found[2]

    def written(self) -> list[Written]:
        """Return everything that was written or sent."""
        return [
            Written(*_content(arguments))
            for name, arguments in self.calls()
            if name in WRITES and "= -1" not in arguments
        ]

    def opened(self) -> set[str]:
        """Return the paths of all files that were opened so that they can be written to, or shared as memory."""
        found = set()
        for name, arguments in self.calls():
            if name == "mmap" and "MAP_SHARED" in arguments and "PROT_WRITE" in arguments and "<" in arguments:
                found.add(_target(arguments))
            elif name in OPENS and name != "mmap" and re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", arguments):
                result = arguments.rsplit(" = ", 1)[-1]
                if not result.startswith("-1"):
                    found.add(_target(result))
        return found

    def copied(self) -> list[str]:
        """Return the calls that move bytes in ways that are not looked into."""
        return [name for name, arguments in self.calls() if name in (*COPIES, "creat", "memfd_create")]

    def stop(self) -> int:
        """Ask it to end; returns its exit code, once its calls are all on the disk."""
        code = super().stop()
        sizes: list[list[int]] = []

        def same() -> bool:
            sizes.append([path.stat().st_size for path in sorted(self.folder.glob("trace.*"))])
            return len(sizes) > 5 and sizes[-1] == sizes[-6]

        eventually(same, 30, "end of the trace")
        return code


def _target(arguments: str) -> str:
    found = TARGET.search(arguments)
    return _text(found[1]) if found else ""


def _content(arguments: str) -> tuple[str, bytes]:
    parts = HEX.findall(arguments)
    assert not any(cut for _, cut in parts), "strace left some of it out"
    return _target(arguments), b"".join(bytes.fromhex(part.replace("\\x", "")) for part, _ in parts)


def _text(path: str) -> str:
    """Return a path as it is: `-xx` writes paths in hexadecimal too."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), path)
