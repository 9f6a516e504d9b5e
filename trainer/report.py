"""Prints what was measured as tables."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from trainer.evaluate import Report
from trainer.metrics import Figures


def show(report: Report, console: Console) -> None:
    """Print a report: a summary of both variants, then each protocol's classes and confusions."""
    console.print(
        f"[bold]{report.model}[/bold]  {report.size:,} bytes  SHA-256 {report.sha256}", highlight=False, soft_wrap=True
    )
    console.print(
        f"split {report.split}; the figures to quote are the {report.variant} ones", highlight=False, soft_wrap=True
    )
    for variant, networks in report.networks.items():
        console.print(_summary(variant, networks))
    if report.agreement is not None:
        console.print(
            f"int8 and float agree on {report.agreement:.2%} of the FER+ 8 faces", highlight=False, soft_wrap=True
        )
    if report.calibration_error is not None:
        console.print(
            f"expected calibration error of int8: {report.calibration_error:.3f}", highlight=False, soft_wrap=True
        )
    for name, count in report.faces_not_found.items():
        console.print(f"{name}: {count} faces not found by the detector, taken whole", highlight=False, soft_wrap=True)
    own = report.networks[report.variant]
    for protocol in own["int8"]:
        console.print(_classes(protocol, {name: found[protocol] for name, found in own.items()}))
        for name, found in own.items():
            console.print(_confusion(f"{protocol}, {name}: rows are the truth", found[protocol]))


def _summary(variant: str, networks: dict[str, dict[str, Figures]]) -> Table:
    table = Table("protocol", title=f"{variant}: accuracy / macro-F1 in per cent")
    for column in ("n", *networks):
        table.add_column(column, justify="right")
    for protocol, first in networks["int8"].items():
        cells = [f"{100 * by[protocol].accuracy:.1f} / {100 * by[protocol].macro_f1:.1f}" for by in networks.values()]
        table.add_row(protocol, str(first.n), *cells)
    return table


def _classes(protocol: str, networks: dict[str, Figures]) -> Table:
    table = Table("class", title=f"{protocol}: precision / recall / F1 in per cent")
    for column in ("support", *networks):
        table.add_column(column, justify="right")
    rows = {name: found.per_class() for name, found in networks.items()}
    for label, first in rows["int8"].items():
        cells = [
            " / ".join(f"{100 * by[label][key]:.1f}" for key in ("precision", "recall", "f1")) for by in rows.values()
        ]
        table.add_row(label, str(first["support"]), *cells)
    return table


def _confusion(title: str, found: Figures) -> Table:
    table = Table("", title=title)
    for label in found.labels:
        table.add_column(label[:4], justify="right")
    for label, counts in zip(found.labels, found.confusion.tolist(), strict=True):
        table.add_row(label, *(str(count) if count else "·" for count in counts))
    return table
