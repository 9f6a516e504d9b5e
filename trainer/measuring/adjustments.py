"""Accuracy and macro-F1 over logit adjustments, so that their strength is chosen on validation data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from edge.bundle import read_bundle
from trainer.data.datasets import DataError, without_leaks
from trainer.data.readers.ferplus import read_ferplus
from trainer.measuring.evaluate import ask
from trainer.measuring.metrics import Figures
from trainer.measuring.networks import int8_network
from trainer.measuring.questions import official_questions
from trainer.training.adjustment import adjustment

STRENGTHS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)
#: Of the protocols, those that are shown: the clean ones and FER+ 7 go with them.
SHOWN = ("FER+ 8", "FER+ strict", "CK+ cross B", "CK+ cross C")
Found = dict[float, dict[str, Figures]]


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
    bundle = read_bundle(model)
    learned = without_leaks(read_ferplus(data)).train
    if bundle.info.labels != learned.labels:
        raise DataError(f"{model}: knows other classes than FER+, whose shares the adjustment is made of")
    distributions = learned.distributions[learned.distributions.any(axis=1)]
    sets = official_questions(data, "validation", cache)
    rule, variant, network = bundle.info.crop.rule(), bundle.info.variant, int8_network(bundle)
    logits = {each.name: network(each.coloured(bundle.info.input.colour).crops(variant, rule)) for each in sets}
    asked = [(each, protocol) for each in sets for protocol in each.protocols if protocol.name in SHOWN]
    return {
        strength: {
            protocol.name: ask(protocol, logits[each.name] + adjustment(distributions, strength, below), learned.labels)
            for each, protocol in asked
        }
        for strength in strengths
    }


def show(found: Found, below: float, console: Console) -> None:
    """Print a row for each strength."""
    shifted = "all classes" if below == 1 else f"classes with a share below {below:g}"
    title = f"{shifted} shifted; validation, CK+ subjects of odd number: accuracy / macro-F1 in per cent"
    table = Table("logit adjustment", title=title)
    for protocol in next(iter(found.values())):
        table.add_column(protocol, justify="right")
    for strength, by_protocol in found.items():
        cells = [f"{100 * each.accuracy:.1f} / {100 * each.macro_f1:.1f}" for each in by_protocol.values()]
        table.add_row(f"{strength:.2f}", *cells)
    console.print(table)
