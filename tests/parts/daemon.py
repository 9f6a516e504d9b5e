"""The daemon itself, as a child process."""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.parts import eventually
from tests.parts.child import Child

ROOT = Path(__file__).parents[2]


def untimed(line: str) -> str:
    """Return a line of a daemon's log, which is a file, without the time that it begins with."""
    moment, _, rest = line.partition(" ")
    assert datetime.fromisoformat(moment.replace("Z", "+00:00")), line
    return rest


class Daemon(Child):
    """`emotion-edge run` with a configuration of its own.

    Args:
        config: the configuration; written to `folder/edge.yaml` at each start, so that changes to it take effect.
        folder: for its files.
        arguments: more arguments of `run`.
        environment: variables added to those of the test.
    """

    name = "daemon"
    start_timeout = 90.0

    def __init__(
        self,
        config: dict[str, Any],
        folder: Path,
        arguments: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.config = config
        self.path = folder / "edge.yaml"
        command = [sys.executable, "-m", "edge.cli", "run", "--config", str(self.path), *arguments]
        super().__init__(command, folder, environment_of(folder, environment))

    @property
    def outbox(self) -> Path:
        """Its file of events that wait, unless the configuration names another."""
        return self.folder / "state" / "outbox.db"

    @property
    def address(self) -> str:
        """Where it answers HTTP."""
        metrics = self.config["metrics"]
        return f"http://{metrics.get('host', '127.0.0.1')}:{metrics['port']}"

    def launch(self) -> None:
        """Write the configuration, then start it; does not wait until it is ready."""
        self.write_config()
        super().launch()

    def write_config(self) -> None:
        """Write `config` to its file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path.write_text(yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True))

    def ready(self) -> bool:
        """Tell whether `/healthz` answers: it runs, whether its broker and cameras are there or not."""
        return self.get("/healthz")[0] == 200

    def get(self, path: str, token: str = "", read: bool = True) -> tuple[int, str]:
        """Return status and body (if that is to be read) of its HTTP answer, (0, reason) if there is none."""
        try:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            with urllib.request.urlopen(
                urllib.request.Request(self.address + path, headers=headers), timeout=20
            ) as answer:
                return answer.status, answer.read().decode() if read else ""
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def wait_for_ready(self, timeout: float = 60) -> None:
        """Wait until `/readyz` says 200."""
        eventually(lambda: self._still() and self.get("/readyz")[0] == 200, timeout, "ready daemon", self._why_not)

    def wait_for_log(self, pattern: str, timeout: float = 30, start: int = 0) -> str:
        """Return the first line of its log, from line `start` on, in which the pattern is found, waiting for it."""
        expression = re.compile(pattern)
        return eventually(
            lambda: next((line for line in self.lines()[start:] if expression.search(line)), ""),
            timeout,
            f"log line with {pattern!r}",
            self.tail,
        )

    def metrics(self) -> list[Sample]:
        """Scrape it: name, labels and value of every sample."""
        status, text = self.get("/metrics", self.config["metrics"].get("token", ""))
        assert status == 200, f"/metrics: {status} {text}"
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of that full name that have these labels; 0 if there are none."""
        return sum(
            sample.value for sample in self.metrics() if sample.name == name and labels.items() <= sample.labels.items()
        )

    def _still(self) -> bool:
        assert self.running, f"the daemon ended with exit code {self.wait(0)}; {self.tail()}"
        return True

    def _why_not(self) -> str:
        return f"/readyz says {self.get('/readyz')}; {self.tail()}"


def environment_of(folder: Path, more: dict[str, str] | None = None) -> dict[str, str]:
    """Return the variables of a daemon that keeps its state in `folder`."""
    return {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "STATE_DIRECTORY": str(folder / "state"), **(more or {})}
