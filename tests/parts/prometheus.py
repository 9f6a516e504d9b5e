"""A real Prometheus, and its checker of metric pages."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.parts import HOST, free_port, tool
from tests.parts.child import Child


@dataclass(frozen=True)
class Sample:
    """One value that a query gave: its labels, the name under `__name__` included, and the number."""

    labels: dict[str, str]
    value: float


class Prometheus(Child):
    """Scrapes `targets` every second.

    Args:
        targets: addresses such as `127.0.0.1:9464`.
        folder: for its configuration and storage.
        job: more keys of the scrape job, such as `authorization`.
        rule_files: files with rules to evaluate every second.
    """

    name = "prometheus"

    def __init__(
        self,
        targets: Sequence[str],
        folder: Path,
        job: dict[str, object] | None = None,
        rule_files: Sequence[Path] = (),
    ) -> None:
        self.port = free_port()
        self._config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "scrape_configs": [{"job_name": "test", "static_configs": [{"targets": list(targets)}], **(job or {})}],
            "rule_files": [str(path.resolve()) for path in rule_files],
        }
        command = [
            tool("prometheus", "prometheus"),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={HOST}:{self.port}",
        ]
        super().__init__(command, folder)

    def launch(self) -> None:
        """Write the configuration, then start it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(self._config))
        super().launch()

    def ready(self) -> bool:
        """Tell whether it answers queries."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def query(self, expression: str) -> list[Sample]:
        """Evaluate a PromQL expression now; an unknown metric gives an empty list.

        Raises:
            AssertionError: Prometheus refuses the expression.
        """
        address = f"http://{HOST}:{self.port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                data = json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from None
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(result["metric"], float(result["value"][1])) for result in data["result"]]


def promtool_check(text: str) -> str:
    """Return what `promtool check metrics` has to say against a metrics page, nothing if it is content."""
    command = [tool("promtool", "prometheus"), "check", "metrics"]
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    complaint = (result.stdout + result.stderr).strip()
    return complaint or (f"exit code {result.returncode}" if result.returncode else "")


def promtool_check_config(path: Path) -> str:
    """Return what `promtool check config` has to say against a settings file, nothing if it is content."""
    command = [tool("promtool", "prometheus"), "check", "config", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return (result.stdout + result.stderr).strip() if result.returncode else ""
