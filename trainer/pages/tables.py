"""Prints what was measured as tables."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from trainer.measuring.bootstrap import Difference, Interval
from trainer.measuring.evaluation import FLOAT, INT8, Evaluation, Judged
from trainer.measuring.metrics import Figures

PARTS = ("precision", "recall", "f1")


def show(found: Evaluation, console: Console) -> None:
    """Print an evaluation: a summary of both variants and the peers, then each protocol's classes and confusions."""
    for line in _facts(found):
        console.print(line, highlight=False, soft_wrap=True)
    for variant, networks in found.networks.items():
        console.print(_summary(variant, found.columns if variant == found.variant else networks))
    for name, rival in found.rivals.items():
        console.print(_differences(f"int8 less {name}, in points, 95 % paired bootstrap", rival.differences))
    for protocol in found.own[INT8]:
        columns = {name: judged[protocol].figures for name, judged in found.columns.items()}
        console.print(class_table(protocol, columns))
        for name, figures in columns.items():
            console.print(confusion_table(f"{protocol}, {name}: rows are the truth", figures))


def class_table(title: str, networks: dict[str, Figures]) -> Table:
    """Lay out precision, recall and F1 of each class, their means and top-2, one column a network."""
    table = Table("class", title=f"{title}: precision / recall / F1 in per cent")
    for column in ("support", *networks):
        table.add_column(column, justify="right")
    rows = {name: found.per_class() for name, found in networks.items()}
    for label, first in next(iter(rows.values())).items():
        cells = [" / ".join(f"{100 * by[label][key]:.1f}" for key in PARTS) for by in rows.values()]
        table.add_row(label, str(first["support"]), *cells)
    table.add_section()
    for mean in ("macro", "weighted"):
        cells = [" / ".join(f"{100 * getattr(found, mean)(key):.1f}" for key in PARTS) for found in networks.values()]
        table.add_row(mean, "", *cells)
    if all(found.top2 is not None for found in networks.values()):
        table.add_row("top-2", "", *(percent(found.top2 or 0.0) for found in networks.values()))
    return table


def confusion_table(title: str, found: Figures) -> Table:
    """Lay out a confusion matrix, counts."""
    table = Table("", title=title)
    for label in found.labels:
        table.add_column(label[:4], justify="right")
    for label, counts in zip(found.labels, found.confusion.tolist(), strict=True):
        table.add_row(label, *(str(count) if count else "·" for count in counts))
    return table


def percent(value: float, interval: Interval | None = None) -> str:
    """Write a fraction in per cent, with its interval: `82.4 (81.1–83.6)`."""
    text = f"{100 * value:.1f}"
    return f"{text} ({100 * interval.low:.1f}–{100 * interval.high:.1f})" if interval else text


def signed(difference: float) -> str:
    """Write a difference of fractions in points: `+0.40`, `-1.25`, and `0.00` where it rounds to nothing."""
    text = f"{100 * difference:+.2f}"
    return "0.00" if float(text) == 0 else text


def points(difference: Difference) -> str:
    """Write a difference of fractions in points, with interval and verdict: `+0.4 (−0.9…+1.7) undecided`."""
    low, high = difference.interval.low, difference.interval.high
    return f"{100 * difference.value:+.1f} ({100 * low:+.1f}…{100 * high:+.1f}) {difference.verdict}"


def speeds(found: Evaluation) -> dict[str, str]:
    """Write each network's time a face, those of peers as what ours is of theirs."""
    lines = {}
    for name, latency in found.latency.items():
        low, high = latency.quartiles
        times = f", its resizing included; int8 takes {found.ratio(name):.2f} × as long" if name in found.rivals else ""
        lines[name] = f"{latency.median:.3f} ms a face, quartiles {low:.3f}–{high:.3f}{times}"
    return lines


def _facts(found: Evaluation) -> list[str]:
    lines = [
        f"[bold]{found.model}[/bold]  {found.size:,} bytes  SHA-256 {found.sha256}",
        f"split {found.split}; the figures to quote are the {found.variant} ones"
        + (", the peers prepare the stored picture" if found.rivals else ""),
    ]
    if found.leading is not None:
        where = found.leading.protocol
        if found.agreement is not None and found.drop is not None:
            faces = "" if where.endswith("faces") else " faces"
            lines.append(
                f"int8 and {FLOAT} agree on {found.agreement:.2%} of {where}{faces}, "
                f"accuracy of int8 less float {signed(-found.drop)} points"
            )
        lines.append(f"expected calibration error of int8 on {where}: {found.calibration_error:.3f}")
    lines += [f"{name}: expected calibration error {_error(rival.calibration_error)}"
              for name, rival in found.rivals.items()]  # fmt: skip
    lines += [f"{name}: {text}, one thread" for name, text in speeds(found).items()]
    lines += [f"{name}: {n} faces not found by the detector, taken whole" for name, n in found.faces_not_found.items()]
    return lines


def _error(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _summary(variant: str, networks: dict[str, dict[str, Judged]]) -> Table:
    table = Table("protocol", title=f"{variant}: accuracy / macro-F1 in per cent, with 95 % intervals")
    for column in ("n", *networks):
        table.add_column(column, justify="right")
    for protocol, first in networks[INT8].items():
        cells = ["\n".join(_both(by_protocol[protocol])) for by_protocol in networks.values()]
        table.add_row(protocol, str(first.figures.n), *cells)
    return table


def _both(judged: Judged) -> tuple[str, str]:
    figures, intervals = judged.figures, judged.intervals
    return percent(figures.accuracy, intervals["accuracy"]), percent(figures.macro_f1, intervals["macro_f1"])


def _differences(title: str, differences: dict[str, dict[str, Difference]]) -> Table:
    table = Table("protocol", title=title)
    for column in ("accuracy", "macro-F1"):
        table.add_column(column, justify="right")
    for protocol, by_figure in differences.items():
        table.add_row(protocol, points(by_figure["accuracy"]), points(by_figure["macro_f1"]))
    return table
