"""`emotion-edge bench`: its progress, its lines, its JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import click
import cv2

from edge.bench.rig import BenchError
from edge.bench.rows import BARS, MEASUREMENTS, Bar, Figures
from edge.bench.sustained import Sustained, sustained

T = TypeVar("T")
#: Steps of the estimate, and of the trials that it commonly takes.
SUSTAINED_STEPS = 3


@click.command()
@click.option("--full", is_flag=True, help="Print all figures that need nothing but this package.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
def bench(full: bool, as_json: bool) -> None:
    """Measure how many cameras this machine sustains, and which stage limits. Close other programs first."""
    logging.basicConfig(format="%(levelname)s %(message)s", level="ERROR", stream=sys.stderr)
    cv2.setNumThreads(1)
    answer = _cameras()
    figures, failures = _figures() if full else ({}, [])
    if as_json:
        said = {"cameras": answer.cameras, "frames_per_second": round(answer.rate, 2), "limited_by": answer.stage}
        click.echo(json.dumps({**said, **{key: round(value, 4) for key, value in figures.items()}}, indent=2))
    else:
        click.echo(str(answer))
        for key, value in figures.items():
            click.echo(line(key, value, BARS[key]))
    for failure in failures:
        click.echo(failure, err=True)
    if failures:
        sys.exit(1)


def line(key: str, value: float, bar: Bar) -> str:
    """Return one readable line about a figure and what it ought to be."""
    return f"{_judged(value, bar)}  {key} {value:.4g} ({bar}): {bar.title}"


def _judged(value: float, bar: Bar) -> str:
    if bar.value is None:
        return "     "
    return "held " if bar.holds(value) else "SHORT"


def _cameras() -> Sustained:
    found = [step for step in _steps("cameras", sustained, SUSTAINED_STEPS) if step is not None]
    return found[-1]


def _figures() -> tuple[Figures, list[str]]:
    """Return all figures, and a line for each measurement that could not be made; the others are made all the same."""
    figures: Figures = {}
    failures = []
    for title, measure, steps in MEASUREMENTS:
        try:
            for found in _steps(title, measure, steps):
                figures.update(found)
        except BenchError as error:
            failures.append(f"FAILED {title}: {error}")
    return figures, failures


def _steps(title: str, measure: Callable[[], Iterator[T]], steps: int) -> Iterator[T]:
    """Hand on what a measurement yields, with its progress on stderr where that is a terminal."""
    with click.progressbar(length=steps, label=title, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        for found in measure():
            yield found
            bar.update(1)
        bar.update(steps)
