"""`emotion-trainer prepare`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from trainer.commands.options import CACHE, DATA_OPTION, FILE, SET_OPTION, one_line


@click.command()
@click.option("--config", type=FILE, required=True, help="The run's YAML, for example configs/trainer/ckplus.yaml.")
@click.option("--json", "as_json", is_flag=True, help="Only JSON on stdout, with every name.")
@SET_OPTION
@DATA_OPTION
def prepare(config: Path, as_json: bool, overrides: tuple[str, ...], data: Path | None) -> None:
    """Read a data set, find the faces, split it, drop copies between splits, and say what was done.

    What is prepared is kept in .cache, where `train` finds it; a run that was stopped goes on. All faces are prepared:
    the key `limit` is for training.
    """
    with one_line():
        from rich.console import Console

        from trainer.config import load_config
        from trainer.data.datasets import data_folder
        from trainer.data.preparation import show
        from trainer.data.prepare import prepare as prepare_data

        report = prepare_data(load_config(config, overrides), data_folder(data), CACHE).report
        if as_json:
            click.echo(json.dumps(report.as_json(), indent=2))
        else:
            show(report, Console())
