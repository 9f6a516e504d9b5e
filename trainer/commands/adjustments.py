"""`emotion-trainer adjustments`."""

from __future__ import annotations

from pathlib import Path

import click

from edge.number_option import a_number
from trainer.commands.options import CACHE, DATA_OPTION, FILE, one_line

#: More have too many combinations.
MOST_CLASSES = 5


@click.command()
@click.argument("model", type=FILE, required=False)
@click.option(
    "--below",
    type=click.FloatRange(0, 1, min_open=True),
    callback=a_number,
    default=1,
    show_default=True,
    help="As training.adjust_below: classes with less than this share are shifted.",
)
@click.option(
    "--shift",
    "classes",
    metavar="CLASS",
    multiple=True,
    help="Shift this class by itself, as training.logit_shifts does; again for more. Of all combinations those are "
    "shown that no other beats on both FER+ and CK+.",
)
@DATA_OPTION
def adjustments(model: Path | None, below: float, classes: tuple[str, ...], data: Path | None) -> None:
    """Show MODEL's figures (default: the one that ships) over logit adjustments, on validation faces.

    What is shown comes on top of the training.logit_adjustment and logit_shifts that MODEL was made with.
    """
    if classes and below != 1:
        raise click.BadParameter("shifts all classes by one strength; leave it or --shift out", param_hint="--below")
    if len(set(classes)) > MOST_CLASSES:
        raise click.BadParameter(f"{MOST_CLASSES} classes at most", param_hint="--shift")
    with one_line():
        from rich.console import Console

        from edge.bundle import DEFAULT_MODEL
        from trainer.data.datasets import data_folder
        from trainer.quiet import load_keras

        folder = data_folder(data)
        load_keras()
        from trainer.measuring.adjustments import measure, search, show, show_shifts

        if classes:
            show_shifts(search(model or DEFAULT_MODEL, folder, CACHE, tuple(dict.fromkeys(classes))), Console())
        else:
            show(measure(model or DEFAULT_MODEL, folder, CACHE, below=below), below, Console())
