"""`emotion-trainer train`."""

from __future__ import annotations

from pathlib import Path

import click

from trainer.commands.options import CACHE, DATA_OPTION, FILE, FOLDER, SET_OPTION, TEACHER_OPTION, one_line


def no_twin(_context: click.Context, _option: click.Parameter, path: Path | None) -> Path | None:
    """Refuse the name that the float twin will have."""
    if path is not None and path.suffix == ".keras":
        raise click.BadParameter("the float twin beside the model file will have this name; name a .tflite file")
    return path


@click.command()
@click.option("--config", type=FILE, required=True, help="The run's YAML, for example configs/trainer/ferplus.yaml.")
@click.option("--run", type=FOLDER, help="Folder of checkpoints and log.  [default: trainer/runs/NAME]")
@click.option(
    "--output",
    type=FILE,
    callback=no_twin,
    help="The model file; its float twin lies beside it.  [default: RUN/NAME.tflite]",
)
@click.option("--ship", is_flag=True, help="Write it to edge/models and its float twin to trainer/models too.")
@TEACHER_OPTION
@SET_OPTION
@DATA_OPTION
def train(
    config: Path,
    run: Path | None,
    output: Path | None,
    ship: bool,
    teachers: tuple[str, ...],
    overrides: tuple[str, ...],
    data: Path | None,
) -> None:
    """Train a model, or go on where a run ended, and write the model file.

    With KERAS_BACKEND=jax it trains on JAX and writes the float network, from which `export` makes the model file.
    """
    with one_line():
        from edge.bundle import DEFAULT_MODEL
        from trainer.config import load_config, with_teachers
        from trainer.data.datasets import data_folder
        from trainer.quiet import load_keras

        settings = load_config(config, overrides)
        if teachers:
            settings = with_teachers(settings)
        folder = data_folder(data)
        load_keras(any_backend=True)
        from trainer.measuring.networks import FLOAT_TWINS
        from trainer.training import train as steps

        run = run or Path("trainer/runs") / settings.name
        output = output or run / f"{settings.name}.tflite"
        models, twins = [output], [output.with_suffix(".keras")]
        if ship:
            models, twins = [*models, DEFAULT_MODEL], [*twins, FLOAT_TWINS / f"{settings.name}.keras"]
        steps.train(settings, folder, steps.Outputs(run, models, twins), CACHE, teachers)
