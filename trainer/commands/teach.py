"""`emotion-trainer teach`."""

from __future__ import annotations

from pathlib import Path

import click

from trainer.commands.options import CACHE, DATA_OPTION, FILE, SET_OPTION, TEACHER_OPTION, one_line


@click.command()
@click.option("--config", type=FILE, required=True, help="The YAML of the training they are for.")
@click.option("--output", type=FILE, required=True, help="The file, for training.distillation.soft_labels.")
@TEACHER_OPTION
@SET_OPTION
@DATA_OPTION
def teach(config: Path, output: Path, teachers: tuple[str, ...], overrides: tuple[str, ...], data: Path | None) -> None:
    """Write what teachers answer about every training face, for trainings without them."""
    if not teachers:
        raise click.UsageError("Missing option '--teacher'.")
    with one_line():
        from trainer.config import load_config
        from trainer.data.datasets import data_folder
        from trainer.quiet import load_keras

        settings = load_config(config, overrides)
        folder = data_folder(data)
        load_keras(any_backend=True)
        from trainer.training.material import material_of
        from trainer.training.teachers import write_soft_labels

        write_soft_labels(output, teachers, material_of(settings, folder, CACHE).train)
        click.echo(f"{output}: {output.stat().st_size:,} bytes")
