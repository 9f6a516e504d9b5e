"""`emotion-trainer export`."""

from __future__ import annotations

from pathlib import Path

import click

from trainer.commands.options import CACHE, DATA_OPTION, FILE, SET_OPTION, one_line


@click.command()
@click.argument("network", type=FILE)
@click.option("--config", type=FILE, required=True, help="The YAML that it was trained with.")
@click.option("--output", type=FILE, help="The model file.  [default: NETWORK with .tflite]")
@SET_OPTION
@DATA_OPTION
def export(network: Path, config: Path, output: Path | None, overrides: tuple[str, ...], data: Path | None) -> None:
    """Make a model file of NETWORK, a .keras file that was trained on JAX or elsewhere.

    It is quantised, measured on validation faces, and written if int8 is as good as float.
    """
    with one_line():
        from trainer.config import load_config
        from trainer.data.datasets import data_folder
        from trainer.quiet import load_keras

        settings = load_config(config, overrides)
        folder = data_folder(data)
        load_keras()
        from trainer.training import train as steps

        steps.export(network, settings, folder, output or network.with_suffix(".tflite"), CACHE)
