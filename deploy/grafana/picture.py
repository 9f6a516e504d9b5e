"""Draws a dashboard from what a Prometheus answers: `python -m deploy.grafana.picture URL node picture.png node=hall`.

Titles, units, places and queries come from the dashboard's JSON; it needs matplotlib, which the extra `trainer` brings.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from deploy.grafana.dashboard import Panel, filled, read_dashboard

#: Inches of a 24th of the page's width, and of a row.
CELL = 0.58, 0.27
#: Inches around a panel's number, or its axes: left, top, right and below; and above all panels.
MARGIN, HEAD = ((0.62, 0.3, 0.1, 0.1), (0.62, 0.3, 0.1, 0.55)), 0.45
STYLE: dict[Any, Any] = {
    "font.size": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "axes.edgecolor": "#b6bcc4",
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 8,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "legend.fontsize": 6.5,
}
#: Of a legend, which has little room.
TIGHT = ("borderaxespad", "columnspacing", "handlelength", "handletextpad")
SIGNS = {"celsius": " °C", "s": " s", "none": ""}
SIZES = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


@dataclass(frozen=True)
class Curve:
    """One series of an answer: its name, and its values at the times (seconds since 1970)."""

    name: str
    times: list[float]
    values: list[float]


@dataclass(frozen=True)
class Source:
    """A Prometheus, and the time of which it is asked.

    Attributes:
        address: such as `http://127.0.0.1:9090`.
        start: seconds since 1970.
        end: likewise.
    """

    address: str
    start: float
    end: float

    def curves(self, panel: Panel, values: Mapping[str, str]) -> list[Curve]:
        """Return what every query of a panel gives, with these values of the variables."""
        return [
            Curve(_name(query.legend, result["metric"]), *_points(result["values"]))
            for query in panel.queries
            for result in self._ask(filled(query.expression, values))
        ]

    def _ask(self, expression: str) -> list[dict[str, Any]]:
        step = max(1.0, (self.end - self.start) / 240)
        asked = {"query": expression, "start": self.start, "end": self.end, "step": step}
        address = f"{self.address}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - the address is the caller's
            return list(json.load(answer)["data"]["result"])


def draw(name: str, source: Source, values: Mapping[str, str], out: Path) -> None:
    """Draw the dashboard of this name (`node`, `fleet`) to a PNG.

    Args:
        name: of the dashboard's file.
        source: who is asked, and about which time.
        values: of the dashboard's variables, `__rate_interval` included.
        out: the file.
    """
    dashboard = read_dashboard(name)
    height = max(panel.place[1] + panel.place[3] for panel in dashboard.panels)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(24 * CELL[0], height * CELL[1] + HEAD))
        moment = datetime.fromtimestamp(source.end, timezone.utc)
        figure.suptitle(
            f"{dashboard.title} · {', '.join(_shown(values))} · {moment:%Y-%m-%d %H:%M} UTC",
            fontsize=10,
            x=0.02,
            ha="left",
        )
        for panel in dashboard.panels:
            axes = figure.add_axes(_place(panel, figure))
            axes.set_title(panel.title)
            (_draw_curves if panel.kind == "timeseries" else _draw_value)(axes, panel, source.curves(panel, values))
        figure.savefig(out, dpi=100)


def _place(panel: Panel, figure: Figure) -> tuple[float, float, float, float]:
    """Return left, bottom, width and height of a panel's axes, in fractions of the page."""
    page_width, page_height = figure.get_size_inches()
    before, above, after, below = MARGIN[panel.kind == "timeseries"]
    left, top, width, height = (cells * CELL[place % 2] for place, cells in enumerate(panel.place))
    bottom = page_height - HEAD - top - height + below
    size = width - before - after, height - above - below
    return (left + before) / page_width, bottom / page_height, size[0] / page_width, size[1] / page_height


def _shown(values: Mapping[str, str]) -> Iterator[str]:
    return (f"{name} {'all' if value == '.+' else value}" for name, value in values.items() if name[0] != "_")


def _draw_curves(axes: Axes, panel: Panel, curves: Sequence[Curve]) -> None:
    curves = sorted(curves, key=lambda curve: curve.name)
    days = [[time / 86_400 for time in curve.times] for curve in curves]
    heights = [curve.values for curve in curves]
    # A name is of use where there is something to see.
    names = [curve.name if len(curves) < 5 or any(curve.values) else "_" for curve in curves]
    known = [value for values in heights for value in values if math.isfinite(value)]
    if panel.stacked and known:
        common = sorted({day for each in days for day in each})
        looked_up = [dict(zip(*each, strict=True)) for each in zip(days, heights, strict=True)]
        axes.stackplot(common, [[each.get(day, 0.0) for day in common] for each in looked_up], labels=names)
    elif known:
        for day, values, name in zip(days, heights, names, strict=True):
            axes.plot(day, values, label=name)
    else:
        axes.text(0.5, 0.5, "unknown here", ha="center", va="center", transform=axes.transAxes, color="#8a929c")
        axes.tick_params(labelbottom=False, labelleft=False)
    axes.set_ylim(bottom=0, top=None if max(known, default=0) > 0 else 1)
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M:%S"))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(MaxNLocator(3, prune="both"))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _written(value, panel.unit)))
    if known and any(name[0] != "_" for name in names):
        axes.legend(
            loc="upper left", bbox_to_anchor=(0, -0.16), ncols=max(2, panel.place[2] // 3), **dict.fromkeys(TIGHT, 0.6)
        )


def _draw_value(axes: Axes, panel: Panel, curves: Sequence[Curve]) -> None:
    axes.set_axis_off()
    values = [curve.values[-1] for curve in curves if curve.values]
    text = "–"
    if values:
        number = f"{values[0]:g}"
        text = panel.names.get(number) or _written(values[0], panel.unit)
    if curves and curves[0].name:
        text = curves[0].name
    axes.text(0, 0.3, text, fontsize=15 if len(text) < 14 else 8, color="#1a7f4b", transform=axes.transAxes)


def _written(value: float, unit: str) -> str:
    """Write a value as Grafana does with that unit."""
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "bytes":
        sign, size = next(((sign, size) for sign, size in SIZES if value >= size), ("B", 1))
        return f"{value / size:.3g} {sign}"
    return f"{value:.3g}{unit.removeprefix('suffix:') if unit.startswith('suffix:') else SIGNS[unit]}"


def _name(legend: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), legend)


def _points(values: Sequence[tuple[float, str]]) -> tuple[list[float], list[float]]:
    return [float(time) for time, _ in values], [float(value) for _, value in values]


def main() -> None:
    """Draw the last quarter of an hour."""
    address, name, out, *pairs = sys.argv[1:]
    values = {"__rate_interval": "1m", "camera": ".+", "site": ".+", **dict(pair.split("=", 1) for pair in pairs)}
    draw(name, Source(address, time.time() - 900, time.time()), values, Path(out))


if __name__ == "__main__":
    main()
