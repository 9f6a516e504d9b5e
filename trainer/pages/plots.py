"""Draws plots as SVG for a page: its own fonts, its own ink in light and in dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from trainer.measuring.bootstrap import Interval
from trainer.measuring.calibration import BINS, Reliability

#: Stands for the page's own colour of text until the SVG is written.
INK = "#010203"
COLOURS = ("#3f85c6", "#de8a35", "#4ba373", "#b0629f", "#8d8d3a", "#5fb3c4")
WIDTH = 5.0
STYLE: dict[Any, Any] = {  # the names of the keys are a type of their own there
    "svg.fonttype": "none",
    "svg.hashsalt": "emotion-edge",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "axes.prop_cycle": cycler(color=COLOURS),
    "font.size": 10,
}


def curve(
    epochs: Sequence[float], values: Sequence[float], name: str, unit: str = "", best: int | None = None
) -> Markup:
    """Draw a value over the epochs of a training; `best` marks one of them, the highest, by its place in the list."""
    with mpl.rc_context(STYLE):
        figure, axes = _axes(3.0)
        axes.plot(epochs, values, marker="o" if len(epochs) < 3 else "", linewidth=1.8)
        if best is not None:
            axes.plot(epochs[best], values[best], "o", color=COLOURS[1])
            # Above the highest value there is no curve.
            late = epochs[best] - epochs[0] > (epochs[-1] - epochs[0]) / 2
            axes.annotate(
                f"epoch {epochs[best]:g}: {values[best]:.4g}{unit}", (epochs[best], values[best]),
                textcoords="offset points", xytext=(0, 8), ha="right" if late else "left",
            )  # fmt: skip
            axes.margins(y=0.2)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        return _svg(figure, f"{name} over the epochs")


def reliability(found: Reliability) -> Markup:
    """Draw how often answers are right against how probable they were said to be, and how many there are."""
    middles = (np.arange(BINS) + 0.5) / BINS
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.bar(middles, np.nan_to_num(found.accuracy), 0.9 / BINS, alpha=0.85, label="share that is right")
        above.plot((0, 1), (0, 1), color=INK, linewidth=1, linestyle="--", label="as said")
        above.plot(found.confidence, found.accuracy, "o", color=COLOURS[1], markersize=4, label="mean probability")
        above.set_ylim(0, 1)
        above.set_xlim(0, 1)
        above.set_ylabel("right")
        above.legend(loc="upper left")
        below.bar(middles, found.counts, 0.9 / BINS, color=COLOURS[2], alpha=0.85)
        below.set_xlabel("probability of the answer")
        below.set_ylabel("faces")
        return _svg(figure, "Reliability diagram")


def class_bars(labels: Sequence[str], values: Mapping[str, Sequence[float]], name: str) -> Markup:
    """Draw a figure of each class (fractions), one bar a network."""
    thickness = 0.8 / len(values)
    with mpl.rc_context(STYLE):
        figure, axes = _axes(0.9 + len(labels) * (0.16 + 0.17 * len(values)))
        for place, (network, numbers) in enumerate(values.items()):
            rows = np.arange(len(labels)) + (place - (len(values) - 1) / 2) * thickness
            axes.barh(rows, [100 * number for number in numbers], thickness * 0.92, label=network)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, 100)
        axes.set_xlabel(f"{name}, per cent")
        _legend_above(figure, axes)
        return _svg(figure, f"{name} of each class")


def interval_bars(
    rows: Sequence[str], values: Mapping[str, Sequence[tuple[float, Interval]]], name: str
) -> Markup:  # fmt: skip
    """Draw a figure (fractions) with its interval in each row, one dot a network."""
    with mpl.rc_context(STYLE):
        figure, axes = _axes(0.9 + len(rows) * (0.16 + 0.17 * len(values)))
        for place, (network, found) in enumerate(values.items()):
            heights = np.arange(len(rows)) + (place - (len(values) - 1) / 2) * 0.7 / len(values)
            middles = np.array([100 * value for value, _ in found])
            ends = 100 * np.array([[interval.low, interval.high] for _, interval in found]).T
            axes.errorbar(
                middles, heights, xerr=np.abs(ends - middles), fmt="o", markersize=4, capsize=2, label=network
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.5, -0.5)  # the first on top, and none on the frame
        axes.set_xlabel(f"{name}, per cent, with 95 % interval")
        _legend_above(figure, axes)
        return _svg(figure, f"{name} under each protocol")


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _legend_above(figure: Figure, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=3)


def _svg(figure: Figure, description: str) -> Markup:
    """Write a figure as an SVG element that takes its size and its ink from the page."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(INK, "currentColor")
    drawing = re.sub(r'<g id="[^"]*"', "<g", drawing)  # the same names in every plot
    drawing = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", drawing)
    drawing = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", drawing)
    named = f'<svg role="img" aria-label="{escape(description)}"'
    return Markup(drawing.replace("<svg", named, 1))  # noqa: S704  # matplotlib escapes the texts
