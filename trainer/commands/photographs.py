"""`emotion-trainer photographs`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from trainer.commands.options import DATA_OPTION, FILE, FOLDER, one_line


@click.command()
@click.argument("model", type=FILE, required=False)
@click.option("--faces", type=click.IntRange(min=1), default=1500, show_default=True, help="Photographs to compose.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the faces and how they are put in.")
@click.option("--grounds", type=FOLDER, help="Folder of pictures or clips to put them on.  [default: drawn ones]")
@click.option("--json", "as_json", is_flag=True, help="Only JSON on stdout; shares are fractions.")
@DATA_OPTION
def photographs(
    model: Path | None, faces: int, seed: int, grounds: Path | None, as_json: bool, data: Path | None
) -> None:
    """Show how MODEL (default: the one that ships) does on whole photographs, by face size and light.

    They are composed of validation faces, and asked about as `emotion-edge classify` does.
    """
    with one_line():
        from rich.console import Console

        from edge.bundle import DEFAULT_MODEL
        from trainer.data.datasets import data_folder
        from trainer.measuring.on_photographs import measure, show

        answers = measure(model or DEFAULT_MODEL, data_folder(data), faces, seed, grounds)
        if as_json:
            click.echo(json.dumps(answers.as_json(), indent=2))
        else:
            show(answers, Console())
