"""Accuracy and macro-F1 over logit adjustments, so that their strength is chosen on validation data."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.table import Table

from edge.bundle import read_bundle
from trainer.data.datasets import DataError, Faces, without_leaks
from trainer.data.readers.ferplus import read_ferplus
from trainer.measuring.evaluate import ask
from trainer.measuring.metrics import Figures
from trainer.measuring.networks import int8_network
from trainer.measuring.protocols import Protocol
from trainer.measuring.questions import official_questions
from trainer.training.adjustment import Floats, adjustment, shifts

STRENGTHS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)
#: Of the protocols, those that are shown: the clean ones and FER+ 7 go with them.
SHOWN = ("FER+ 8", "FER+ strict", "CK+ cross B", "CK+ cross C")
#: What is added to the logit of a class, when single ones are shifted.
STEPS = (0.0, 0.5, 1.0, 1.5, 2.0)
FER, CK = "FER+", "CK+"
Found = dict[float, dict[str, Figures]]
#: Class → shift, and protocol → figures.
Shifted = tuple[dict[str, float], dict[str, Figures]]
#: The first cells of a row of the table, and protocol → figures.
Row = tuple[tuple[str, ...], dict[str, Figures]]
#: Protocols, each with the logits (n, classes) of all faces of its data set.
Answers = list[tuple[Protocol, Floats]]


def measure(model: Path, data: Path, cache: Path, strengths: Sequence[float] = STRENGTHS, below: float = 1) -> Found:
    """Shift the logits of a model file by each strength and ask about FER+ validation and CK+ subjects of odd number.

    Args:
        model: the model file.
        data: folder of the data sets.
        cache: folder for landmarks.
        strengths: as `training.logit_adjustment`, on top of the one the model was made with.
        below: as `training.adjust_below`.

    Returns:
        strength → protocol → figures.

    Raises:
        BundleError: the model file cannot be used.
        DataError: FER+ is missing or broken, or has other classes.
    """
    learned, answers = _answers(model, data, cache)
    distributions = learned.distributions[learned.distributions.any(axis=1)]
    return {
        strength: _figures(answers, learned.labels, adjustment(distributions, strength, below))
        for strength in strengths
    }


def search(
    model: Path, data: Path, cache: Path, classes: Sequence[str], steps: Sequence[float] = STEPS
) -> list[Shifted]:
    """Shift the logits of single classes by every combination of steps, and keep those that no other beats.

    One beats another if it is right about more of FER+ (mean accuracy of both protocols shown) and not about less of
    CK+ (likewise), or the other way round.

    Args:
        model: the model file.
        data: folder of the data sets.
        cache: folder for landmarks.
        classes: that are shifted, as in `training.logit_shifts`.
        steps: by how much each is.

    Returns:
        Shifts and their protocol → figures, the best on FER+ first.

    Raises:
        BundleError: the model file cannot be used.
        DataError: FER+ is missing or broken, or has other classes, or none of a name.
    """
    shifts(read_bundle(model).info.labels, dict.fromkeys(classes, 0))  # before long work
    learned, answers = _answers(model, data, cache)
    combinations = [dict(zip(classes, each, strict=True)) for each in product(steps, repeat=len(classes))]
    found = [(each, _figures(answers, learned.labels, shifts(learned.labels, each))) for each in combinations]
    return unbeaten(found)


def _answers(model: Path, data: Path, cache: Path) -> tuple[Faces, Answers]:
    """Return the faces learned from, and the protocols shown with the logits of all faces of their data set."""
    bundle = read_bundle(model)
    learned = without_leaks(read_ferplus(data)).train
    if bundle.info.labels != learned.labels:
        raise DataError(f"{model}: knows other classes than FER+, whose shares the adjustment is made of")
    sets = official_questions(data, "validation", cache)
    rule, variant, network = bundle.info.crop.rule(), bundle.info.variant, int8_network(bundle)
    logits = {each.name: network(each.coloured(bundle.info.input.colour).crops(variant, rule)) for each in sets}
    return learned, [(p, logits[each.name]) for each in sets for p in each.protocols if p.name in SHOWN]


def _figures(answers: Answers, labels: tuple[str, ...], added: Floats) -> dict[str, Figures]:
    return {protocol.name: ask(protocol, logits + added, labels) for protocol, logits in answers}


def unbeaten(found: list[Shifted]) -> list[Shifted]:
    """Keep what nothing else beats, of equals the one with the smallest shifts."""
    found = sorted(found, key=lambda each: (-_mean(each[1], FER), -_mean(each[1], CK), sum(each[0].values())))
    kept: list[Shifted] = []
    for each in found:
        if not kept or _mean(each[1], CK) > _mean(kept[-1][1], CK):
            kept.append(each)
    return kept


def _mean(figures: dict[str, Figures], data_set: str) -> float:
    """Return the mean accuracy of a data set's protocols; 0 if it is not there."""
    accuracies = [each.accuracy for name, each in figures.items() if name.startswith(data_set)]
    return sum(accuracies) / max(len(accuracies), 1)


def show(found: Found, below: float, console: Console) -> None:
    """Print a row for each strength."""
    shifted = "all classes" if below == 1 else f"classes with a share below {below:g}"
    rows: list[Row] = [((f"{strength:.2f}",), by_protocol) for strength, by_protocol in found.items()]
    _show(("logit adjustment",), f"{shifted} shifted", rows, console)


def show_shifts(found: list[Shifted], console: Console) -> None:
    """Print a row for each combination of shifts."""
    rows: list[Row] = [(tuple(f"{shift:.2f}" for shift in each.values()), by_protocol) for each, by_protocol in found]
    _show(tuple(found[0][0]), "single classes shifted; no other combination beats these", rows, console)


def _show(first: tuple[str, ...], title: str, rows: list[Row], console: Console) -> None:
    about = "validation, CK+ subjects of odd number: accuracy / macro-F1 in per cent"
    table = Table(*first, title=f"{title}; {about}")
    for protocol in rows[0][1]:
        table.add_column(protocol, justify="right")
    for cells, by_protocol in rows:
        table.add_row(
            *cells, *(f"{100 * each.accuracy:.1f} / {100 * each.macro_f1:.1f}" for each in by_protocol.values())
        )
    console.print(table)
