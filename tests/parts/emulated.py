"""A Debian for arm64 in a folder, whose programs QEMU runs one by one on this machine.

Needs root, and a kernel with binfmt_misc. It shares the network of this machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.parts import tool
from tests.parts.booted import PACKAGES, PYTHON, SUITES
from tests.parts.child import Child
from tests.parts.daemon import ROOT

CACHE = ROOT / ".cache" / "arm64"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
#: How the kernel knows a program for arm64, as the package qemu-user-static says it.
FORMAT = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
#: The beginning of such a program, as the kernel says what it has registered.
MAGIC = "magic 7f454c460201010000000000000000000200b7"
#: What /proc/cpuinfo of a Raspberry Pi 4 says of each core; and the core for QEMU.
CORE = """processor\t: {number}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "QEMU_CPU": "cortex-a72"}


@contextlib.contextmanager
def arm64_programs() -> Iterator[None]:
    """Let the kernel give programs for arm64 to QEMU meanwhile, if it does not already."""
    tool("qemu-aarch64-static", "qemu-user-static")
    with contextlib.ExitStack() as stack:
        if not (BINFMT / "register").exists():
            subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], check=True)
            stack.callback(_unmount, BINFMT)
        if not any(MAGIC in path.read_text() for path in BINFMT.glob("*aarch64*")):
            name = "emotion-edge-aarch64"
            _, _, rest = FORMAT.read_text().strip().split(":", 2)
            (BINFMT / "register").write_text(f":{name}:{rest}")
            stack.callback((BINFMT / name).write_text, "-1")
        yield


def fresh_arm64() -> Path:
    """Return the root of a Debian for arm64, made once by debootstrap, in about five minutes."""
    path = CACHE / SUITES[PYTHON]
    if not path.is_dir():
        making = path.with_suffix(".new")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        first: list[str | Path] = [tool("debootstrap", "debootstrap"), "--arch=arm64", "--foreign", "--variant=minbase"]
        subprocess.run([*first, f"--include={PACKAGES}", SUITES[PYTHON], making], check=True, stdout=subprocess.DEVNULL)
        second: list[str | Path] = ["chroot", making, "/debootstrap/debootstrap", "--second-stage"]
        subprocess.run(second, check=True, stdout=subprocess.DEVNULL)
        making.rename(path)
    return path


@contextlib.contextmanager
def arm64_debian(folder: Path) -> Iterator[Path]:
    """Give the root of a Debian for arm64, made from a fresh one, whose kernel seems to be that of a Raspberry Pi 4.

    Its /proc is this machine's but for `cpuinfo`; of /sys there is the list of processors. The /sys of another kind of
    processor is misleading: by it LiteRT's look at the processor ends the process.
    """
    root = folder / "root"
    subprocess.run(["cp", "--archive", "--reflink=auto", fresh_arm64(), root], check=True)
    count = os.cpu_count() or 1
    (folder / "cpuinfo").write_text("".join(CORE.format(number=number) for number in range(count)))
    processors = root / "sys" / "devices" / "system" / "cpu"
    processors.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (processors / name).write_text(f"0-{count - 1}\n")
    (processors / "kernel_max").write_text("255\n")
    subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)
    try:
        subprocess.run(["mount", "--bind", folder / "cpuinfo", root / "proc" / "cpuinfo"], check=True)
        yield root
    finally:
        _unmount(root / "proc")


def _unmount(path: Path) -> None:
    subprocess.run(["umount", "--recursive", "--lazy", path], check=True)


class Emulated(Child):
    """A program of a Debian in a folder, in the background.

    Args:
        root: root folder of that Debian.
        command: as in it.
        folder: for its output.
    """

    name = "emulated"
    stop_timeout = 60.0

    def __init__(self, root: Path, command: list[str], folder: Path) -> None:
        super().__init__(["chroot", str(root), *command], folder, ENVIRONMENT)


def run(root: Path, *command: str, text: str | None = None) -> str:
    """Run a program of a Debian in a folder, with `text` as its stdin, and return its stdout."""
    inside, environment = ["chroot", str(root), *command], {**os.environ, **ENVIRONMENT}
    done = subprocess.run(inside, input=text, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout
