"""What `emotion-trainer prepare` did, as tables and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

#: Names listed on the terminal; JSON has all.
LISTED = 10


@dataclass(frozen=True)
class Report:
    """What became of a data set.

    Attributes:
        data: its name.
        location: where it lies.
        steps: what was done to each picture, in order.
        subjects: persons known.
        counts: split → class → faces, copies dropped; `-` are faces from which nothing is learned.
        not_found: split → class → faces that the detector did not find, which are taken whole.
        dropped: split → names of the faces that are also in a later split.
        contradictions: name → class of each of the pictures that are the same, mirrored or not, but of different
            classes; one entry a picture. Nothing is dropped for that alone.
        broken: name → why it was skipped: pictures that could not be read.
        skipped: name → why it was skipped: what has no label, for instance.
        notes: what else should be known.
        seconds: taken.
        cache: folder with the prepared pictures.
    """

    data: str
    location: str
    steps: tuple[str, ...]
    subjects: int
    counts: dict[str, dict[str, int]]
    not_found: dict[str, dict[str, int]]
    dropped: dict[str, list[str]]
    contradictions: list[dict[str, str]]
    broken: dict[str, str]
    skipped: dict[str, str]
    notes: tuple[str, ...]
    seconds: float
    cache: str

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {**asdict(self), "steps": list(self.steps), "notes": list(self.notes)}


def show(report: Report, console: Console) -> None:
    """Print what was done: counts, and what was left out."""
    heading = f"{report.data} in {report.location}: faces, in brackets those that the detector did not find"
    console.print(heading, highlight=False, soft_wrap=True, markup=False)
    console.print(_counts(report))
    lines = [
        *report.steps,
        f"{report.subjects} persons known, none in two splits" if report.subjects else "persons unknown",
        *report.notes,
        *_listed("copies of faces in a later split, dropped from", report.dropped),
        *_contradicting(report.contradictions),
        *_named("broken pictures, skipped", report.broken),
        *_named("skipped", report.skipped),
        f"{report.seconds:.1f} s; kept in {report.cache}",
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _counts(report: Report) -> Table:
    table = Table("class")
    for name in report.counts:
        table.add_column(name, justify="right")
    for label in next(iter(report.counts.values())):
        table.add_row(label, *(_cell(report, name, label) for name in report.counts))
    table.add_section()
    totals = [_pair(sum(report.counts[name].values()), sum(report.not_found[name].values())) for name in report.counts]
    table.add_row("all", *totals)
    return table


def _cell(report: Report, split: str, label: str) -> str:
    return _pair(report.counts[split][label], report.not_found[split][label])


def _pair(faces: int, lost: int) -> str:
    return f"{faces} ({lost})" if lost else str(faces)


def _listed(what: str, names: dict[str, list[str]]) -> list[str]:
    return [f"{len(found)} {what} {split}" for split, found in names.items() if found]


def _contradicting(found: list[dict[str, str]]) -> list[str]:
    if not found:
        return []
    (name, label), *others = found[0].items()
    other, another = next(each for each in others if each[1] != label)
    count = sum(map(len, found))
    example = f"{name} ({label}) and {other} ({another})"
    return [f"{count} pictures have copies of another class, mirrored or not; for example {example}"]


def _named(what: str, reasons: dict[str, str]) -> list[str]:
    if not reasons:
        return []
    lines = [f"  {name}: {reason}" for name, reason in list(reasons.items())[:LISTED]]
    more = [f"  and {len(reasons) - LISTED} more (--json lists all)"] if len(reasons) > LISTED else []
    return [f"{len(reasons)} {what}:", *lines, *more]
