"""`deploy/prometheus/` on a live Prometheus, hurried: it scrapes every second, and a minute lasts some seconds."""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.parts import HOST
from tests.parts.daemon import ROOT, Daemon
from tests.parts.prometheus import Prometheus

RECIPE = ROOT / "deploy" / "prometheus"
TOKEN = "a-long-random-text"


class Monitoring(Prometheus):
    """A Prometheus with the scrape configuration, the token, the rules and the alerts that ship.

    Args:
        nodes: the daemons to scrape, by the name that their series carry.
        folder: for its files.
        minute: seconds that a minute of the rules lasts.
    """

    def __init__(self, nodes: Mapping[str, Daemon], folder: Path, minute: int = 5) -> None:
        super().__init__([], folder)
        self._nodes = nodes
        self._minute = minute

    def launch(self) -> None:
        """Write the files that ship, hurried, then start it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = yaml.safe_load((RECIPE / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        self._config = config
        for name in config["rule_files"]:
            (self.folder / name).write_text(self.hurried((RECIPE / name).read_text()))
        (self.folder / "token").write_text(TOKEN)
        targets = self.folder / "targets"
        shutil.rmtree(targets, ignore_errors=True)
        targets.mkdir()
        entries = [
            {"targets": [f"{HOST}:{daemon.config['metrics']['port']}"], "labels": {"node": name, "site": "site-a"}}
            for name, daemon in self._nodes.items()
        ]
        (targets / "nodes.yml").write_text(yaml.safe_dump(entries))
        super().launch()

    def hurried(self, text: str) -> str:
        """Return rules whose minutes last some seconds."""
        return re.sub(r"(\[|for: )(\d+)m\b", lambda found: f"{found[1]}{max(1, int(found[2]) * self._minute)}s", text)

    def firing(self) -> set[tuple[str, str]]:
        """Return alert and node of what fires now."""
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/api/v1/alerts", timeout=10) as answer:
            alerts = json.load(answer)["data"]["alerts"]
        return {(each["labels"]["alertname"], each["labels"]["node"]) for each in alerts if each["state"] == "firing"}

    def values(self, series: str, label: str) -> set[str]:
        """Return the values that a label has in a series, as a dashboard's variable gets them."""
        return {sample.labels[label] for sample in self.query(series)}


def rules() -> Iterator[dict[str, Any]]:
    """Yield every rule and alert that ships."""
    for name in ("rules.yml", "alerts.yml"):
        for group in yaml.safe_load((RECIPE / name).read_text())["groups"]:
            yield from group["rules"]
