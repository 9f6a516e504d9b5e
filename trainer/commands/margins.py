"""`emotion-trainer margins`."""

from __future__ import annotations

from pathlib import Path

import click

from trainer.commands.options import CACHE, DATA_OPTION, FILE, one_line


@click.command()
@click.argument("model", type=FILE, required=False)
@click.option("--faces", type=click.IntRange(min=1), default=1500, show_default=True, help="Photographs to compose.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the faces and the grounds they are put on.")
@DATA_OPTION
def margins(model: Path | None, faces: int, seed: int, data: Path | None) -> None:
    """Show MODEL's accuracy (default: the one that ships) over crop margins and eye lines, on validation faces."""
    with one_line():
        from rich.console import Console

        from edge.bundle import DEFAULT_MODEL, read_bundle
        from trainer.data.datasets import data_folder
        from trainer.measuring.margins import measure, show

        path = model or DEFAULT_MODEL
        measured = measure(path, data_folder(data), CACHE, faces, seed)
        show(measured, read_bundle(path).info.crop.rule(), Console())
