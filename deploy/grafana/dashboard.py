"""Reads a dashboard's JSON as Grafana does: panels with title, unit and queries, variables put into them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "dashboards"
LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), *(?P<label>\w+)\)")


@dataclass(frozen=True)
class Query:
    """One query of a panel: the expression as it stands there, and how its curves are named."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        kind: `stat`, `timeseries` or `table`.
        unit: as Grafana calls it.
        place: left, top, width and height, in 24ths of the page's width and rows.
        names: what values are shown as, by their number.
        stacked: whether curves stand on top of each other.
    """

    title: str
    kind: str
    unit: str
    place: tuple[int, int, int, int]
    names: Mapping[str, str]
    stacked: bool
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class Dashboard:
    """One dashboard: its title, its panels, and the queries that its variables are filled by."""

    title: str
    panels: tuple[Panel, ...]
    variables: Mapping[str, str]


def read_dashboard(name: str) -> Dashboard:
    """Read `dashboards/NAME.json`."""
    document = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    variables = {v["name"]: v["definition"] for v in document["templating"]["list"] if v["type"] == "query"}
    return Dashboard(document["title"], tuple(_panel(panel) for panel in document["panels"]), variables)


def filled(expression: str, values: Mapping[str, str]) -> str:
    """Put variables' values into an expression; `$__rate_interval` is one of them.

    Raises:
        KeyError: one has no value.
    """
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expression)


def label_values(definition: str) -> tuple[str, str]:
    """Return series and label of a variable's `label_values(series, label)`."""
    found = LABEL_VALUES.fullmatch(definition)
    if found is None:
        raise ValueError(f"{definition}: not label_values(series, label)")
    return found["series"], found["label"]


def _panel(document: dict[str, Any]) -> Panel:
    defaults = document["fieldConfig"]["defaults"]
    place = document["gridPos"]
    return Panel(
        title=document["title"],
        kind=document["type"],
        unit=defaults["unit"],
        place=(place["x"], place["y"], place["w"], place["h"]),
        names={number: shown["text"] for each in defaults["mappings"] for number, shown in each["options"].items()},
        stacked=defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal",
        queries=tuple(Query(target["expr"], target["legendFormat"]) for target in document["targets"]),
    )
