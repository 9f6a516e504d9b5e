"""A Debian of its own in a folder, booted: its systemd runs the package as it would on a Raspberry Pi.

Needs root, and a kernel that lets systemd-nspawn make namespaces. It shares the network of this machine, so that it
finds the tests' broker at 127.0.0.1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.parts import eventually, tool
from tests.parts.child import Child
from tests.parts.daemon import ROOT

#: The Debian whose Python is the one that the package is for.
SUITES = {"3.11": "bookworm", "3.13": "trixie"}
PYTHON = "{}.{}".format(*sys.version_info[:2])
CACHE = ROOT / ".cache" / "booted"
#: What the package wants, so that it is installed without a network; and what a machine has that boots.
PACKAGES = f"systemd-sysv,dbus,procps,ca-certificates,libstdc++6,python{PYTHON}"
UNIT = "emotion-edge.service"
SETTINGS = Path("/etc/emotion-edge/edge.yaml")
SITE = Path(f"/opt/emotion-edge/lib/python{PYTHON}/site-packages")


def fresh_debian() -> Path:
    """Return the root of a Debian that was never booted, made once by debootstrap, which takes some minutes."""
    assert PYTHON in SUITES, f"no Debian has Python {PYTHON}: make the environment with one of {', '.join(SUITES)}"
    path = CACHE / SUITES[PYTHON]
    if not path.is_dir():
        making = path.with_suffix(".new")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        command = [tool("debootstrap", "debootstrap"), "--variant=minbase", f"--include={PACKAGES}", SUITES[PYTHON]]
        done = subprocess.run([*command, making], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"debootstrap ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr}"
        making.rename(path)
    return path


class Machine(Child):
    """A Debian that boots from a copy of a fresh one, and can be booted again.

    Args:
        folder: for its files; `folder/root` is its root folder.
    """

    name = "machine"
    stop_timeout = 60.0

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        nspawn = [tool("systemd-nspawn", "systemd-container"), "--quiet", "--boot", f"--directory={self.root}"]
        super().__init__([*nspawn, "--register=no", "--keep-unit", "--console=pipe"], folder)

    def launch(self) -> None:
        """Copy the fresh Debian if that has not been done, and boot."""
        assert os.geteuid() == 0, "booting a Debian in a folder needs root"
        if not self.root.is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "--archive", "--reflink=auto", fresh_debian(), self.root], check=True)
        super().launch()

    def ready(self) -> bool:
        """Tell whether it has booted, with or without a service that failed."""
        return self._init() > 0 and self.ask("systemctl", "is-system-running") in ("running", "degraded")

    def run(self, *command: str | Path) -> str:
        """Run a command on it; returns its stdout."""
        done = self._inside(*command)
        assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def ask(self, *command: str | Path) -> str:
        """Run a command on it that answers by its stdout, whatever its exit code."""
        return self._inside(*command).stdout.strip()

    def refuses(self, *command: str | Path) -> str:
        """Run a command on it that must fail; returns its stderr."""
        done = self._inside(*command)
        assert done.returncode != 0, f"{command} works: {done.stdout}"
        return done.stderr

    def path(self, path: str | Path) -> Path:
        """Return where a file of it is for this process."""
        return self.root / str(path).lstrip("/")

    def install(self, package: Path) -> str:
        """Install a package file as a user would, settings that were changed being kept; returns what was said."""
        shutil.copy(package, self.path("/root"))
        keep = ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]
        install = ["apt-get", "install", "--yes", "--no-install-recommends", "--allow-downgrades", *keep]
        said = self.run("env", "DEBIAN_FRONTEND=noninteractive", *install, f"/root/{package.name}")
        self.path(f"/root/{package.name}").unlink()
        return said

    def show(self, name: str, unit: str = UNIT) -> str:
        """Return a property of a unit."""
        return self.ask("systemctl", "show", "--value", f"--property={name}", unit)

    def wait_for(self, name: str, value: str, timeout: float, unit: str = UNIT) -> None:
        """Wait until a property of a unit has a value."""
        eventually(
            lambda: self.show(name, unit) == value,
            timeout,
            f"{unit} with {name}={value}",
            lambda: f"{self.show(name, unit)}; {self.journal(unit)}",
        )

    def journal(self, unit: str = UNIT) -> str:
        """Return what the journal has of a unit."""
        return self.ask("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")

    def _inside(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        enter = [tool("nsenter", "util-linux"), f"--target={self._init()}", "--all", "--"]
        return subprocess.run([*enter, *command], capture_output=True, text=True, timeout=300, check=False)

    def _init(self) -> int:
        """Return the number that its first process has on this machine, 0 before there is one."""
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
            except OSError:  # it has ended
                continue
            if fields["PPid"].strip() == str(self.pid) and fields["NSpid"].split()[-1] == "1":
                return int(fields["Pid"])
        return 0
