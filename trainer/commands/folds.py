"""`emotion-trainer folds`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from trainer.commands.options import CACHE, DATA_OPTION, FILE, FOLDER, SET_OPTION, command_line, one_line


@click.command()
@click.option("--config", type=FILE, required=True, help="The run's YAML, for example configs/trainer/ck48.yaml.")
@click.option("--run", type=FOLDER, help="Folder of the folds' runs.  [default: trainer/runs/NAME-folds]")
@click.option("--json", "as_json", is_flag=True, help="Only JSON on stdout; accuracies are fractions.")
@click.option("--report", type=FILE, help="Write a page for the browser too, one file.")
@SET_OPTION
@DATA_OPTION
def folds(
    config: Path, run: Path | None, as_json: bool, report: Path | None, overrides: tuple[str, ...], data: Path | None
) -> None:
    """Cross-validate with persons never shared between folds: one int8 model a fold.

    Folds that are finished are not trained again.
    """
    with one_line():
        from trainer.config import load_config
        from trainer.data.datasets import data_folder
        from trainer.files import check_writable
        from trainer.quiet import load_keras

        settings = load_config(config, overrides)
        folder = data_folder(data)
        if report:
            check_writable(report)
        load_keras()
        from rich.console import Console

        from trainer.data.prepare import prepare
        from trainer.measuring import folds as validation
        from trainer.pages.folds_report import write_report

        samples = prepare(settings, folder, CACHE).everyone
        found = validation.run_folds(samples, settings, run or Path("trainer/runs") / f"{settings.name}-folds")
        if report:
            write_report(report, settings.name, found, samples.faces.labels, command_line())
        if as_json:
            click.echo(json.dumps(validation.as_json(found, samples.faces.labels), indent=2))
        else:
            validation.show(found, samples.faces.labels, Console())
