"""`emotion-trainer evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from trainer.commands.options import CACHE, DATA_OPTION, FILE, one_line


@click.command()
@click.argument("model", type=FILE, required=False)
@click.option("--split", type=click.Choice(["validation", "test"]), default="validation", show_default=True)
@click.option("--float", "twin", type=FILE, help="Its float network.  [default: trainer/models/NAME.keras]")
@click.option("--json", "as_json", is_flag=True, help="Only JSON on stdout; accuracies are fractions.")
@click.option("--looks", type=FILE, help="Record of looks at test data.  [default: trainer/test_looks.jsonl]")
@DATA_OPTION
def evaluate(
    model: Path | None, split: str, twin: Path | None, as_json: bool, looks: Path | None, data: Path | None
) -> None:
    """Measure MODEL (default: the one that ships), int8 and float, under every protocol that the data allow.

    With --split test one line with the figures is appended to the record of looks.
    """
    with one_line():
        from edge.bundle import DEFAULT_MODEL
        from trainer.datasets import data_folder
        from trainer.quiet import load_keras

        folder = data_folder(data)
        load_keras()
        from rich.console import Console

        from trainer import evaluate as measuring
        from trainer.report import show

        chosen: measuring.Split = "test" if split == "test" else "validation"
        report = measuring.evaluate(model or DEFAULT_MODEL, twin, folder, chosen, CACHE)
        if chosen == "test":
            measuring.record_look(report, looks or measuring.TEST_LOOKS)
        if as_json:
            click.echo(json.dumps(report.as_json(), indent=2))
        else:
            show(report, Console())
