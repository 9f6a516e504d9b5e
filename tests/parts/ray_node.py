"""A node of a Ray cluster on this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.parts import eventually, free_port
from tests.parts.child import Child

OTHER_HOST = "127.0.0.2"
ADDRESS = re.compile(r"ray start --address='(.+)'")
#: Of nodes and drivers: no secret in the home folder.
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled"}


class RayNode(Child):
    """One node with one processor: the head of a new cluster, or a node more.

    Drivers on this machine belong to the head, as it has the machine's own address.

    Attributes:
        temporary: where the tasks on this node put temporary files.
    """

    name = "ray"
    start_timeout = 120.0

    def __init__(self, folder: Path, head: RayNode | None = None) -> None:
        self.temporary = folder / "temporary"
        # Short: Ray puts unix sockets there, whose paths are limited to 107 bytes.
        self._session = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
        kind = ["--head", "--port", str(free_port()), "--include-dashboard", "false"]
        if head:
            kind = ["--address", head.address, "--node-ip-address", OTHER_HOST]
        super().__init__(
            [
                sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *kind, "--num-cpus", "1",
                "--object-store-memory", "100000000", "--temp-dir", str(self._session), "--disable-usage-stats",
                "--dashboard-agent-listen-port", str(free_port()), "--ray-client-server-port", str(free_port()),
            ],
            folder,
            {
                **ENVIRONMENT,
                "TMPDIR": str(self.temporary),
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "RAY_health_check_period_ms": "500",
                "RAY_health_check_timeout_ms": "2000",
                "RAY_health_check_failure_threshold": "3",
            },
        )  # fmt: skip

    @property
    def address(self) -> str:
        """Where drivers find the cluster of this head."""
        (found,) = [found for line in self.lines() if (found := ADDRESS.search(line))]
        return found.group(1)

    def launch(self) -> None:
        """Start it without waiting."""
        self.temporary.mkdir(parents=True, exist_ok=True)
        super().launch()

    def ready(self) -> bool:
        """Tell whether it is part of its cluster."""
        return any("Ray runtime started" in line for line in self.lines())

    def kill(self) -> None:
        """Let all its processes vanish at once, as in a power cut."""
        # Those that are not killed now would notice and end, after a while.
        found = [self.pid, *descendants(self.pid)]
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait(self.stop_timeout)
        eventually(lambda: not any(map(alive, found)), self.stop_timeout, f"end of {self.name}")

    def close(self) -> None:
        """Make sure that nothing of it is left."""
        super().close()
        shutil.rmtree(self._session, ignore_errors=True)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, those that they have started, and so on."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in map(int, path.read_text().split()):
                found += [child, *descendants(child)]
    return found


def alive(pid: int) -> bool:
    """Tell whether a process runs: one that has ended may wait for its parent to ask how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
