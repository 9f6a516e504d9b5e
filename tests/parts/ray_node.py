"""A node of a Ray cluster on this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.parts import free_port
from tests.parts.child import Child

MARK = "EMOTION_TEST_NODE"
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
    start_timeout = 60.0

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
                MARK: str(self._session),
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
        for pid in self._processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.wait(self.stop_timeout)

    def close(self) -> None:
        """Make sure that nothing of it is left."""
        self.kill()
        shutil.rmtree(self._session, ignore_errors=True)

    def _processes(self) -> list[int]:
        """Return its processes, wherever they stand: some have left its process group."""
        mark = f"{MARK}={self._session}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found
