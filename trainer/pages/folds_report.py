"""The report of a cross-validation: one page for the browser."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from trainer.measuring.folds import NETWORKS, Fold, as_json, pooled
from trainer.measuring.metrics import Figures
from trainer.pages import page, plots
from trainer.pages.page import Section
from trainer.pages.tables import PARTS, percent


def write_report(path: Path, name: str, folds: list[Fold], labels: tuple[str, ...], command: str) -> None:
    """Write the page, one file that loads nothing from elsewhere, in one step.

    Args:
        path: of the page.
        name: of the run.
        folds: what each fold's model answered.
        labels: of the classes.
        command: that trained and asked them.

    Raises:
        WriteError: it cannot be written; what was there is as it was.
    """
    both = {network: pooled(folds, network, labels) for network in NETWORKS}
    lead = f"{len(folds)} folds, persons never shared: each model is asked about persons that it has not seen"
    sections = [
        Section("Summary", _summary(folds, labels, command)),
        Section("Folds", _each(folds)),
        Section("Classes", _classes(both)),
        Section("Confusion", [page.matrices([page.confusion(each, f"pooled, {n}") for n, each in both.items()])]),
    ]
    page.write_page(path, name, lead, sections)


def _summary(folds: list[Fold], labels: tuple[str, ...], command: str) -> list[Markup]:
    found = as_json(folds, labels)
    cards = []
    for network in NETWORKS:
        by = found[network]
        note = f"± {100 * by['deviation']:.1f} between folds; {percent(by['pooled']['accuracy'])} % pooled"
        cards.append((f"Mean accuracy, {network}", f"{percent(by['mean'])} %", note))
    return [page.cards(cards), page.text("The command behind this page:"), page.code(command)]


def _each(folds: list[Fold]) -> list[Markup]:
    rows = [
        [str(fold.number), str(fold.subjects), str(len(fold.truth)), *(percent(fold.accuracy(n)) for n in NETWORKS)]
        for fold in folds
    ]
    return [page.table(["fold", "subjects", "faces", *NETWORKS], rows, "Accuracy in per cent")]


def _classes(both: dict[str, Figures]) -> list[Markup]:
    first = both[NETWORKS[0]].per_class()
    shown = [label for label, row in first.items() if row["support"]]
    values = {name: [found.per_class()[label]["recall"] for label in shown] for name, found in both.items()}
    rows = [[label, str(row["support"]), *(percent(row[key]) for key in PARTS)] for label, row in first.items()]
    return [
        page.plots([("Recall of each class, pooled", plots.class_bars(shown, values, "Recall"))]),
        page.table(["class", "faces", *PARTS], rows, f"Pooled, {NETWORKS[0]}, in per cent"),
    ]
