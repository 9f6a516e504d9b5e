"""`emotion-trainer compare`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from trainer.commands.options import CACHE, DATA_OPTION, FILE, FOLDER, SET_OPTION, fail, one_line

PICTURES = (".svg", ".png")
DEFAULTS = (Path("configs/trainer/compare-ck48.yaml"), Path("configs/trainer/compare-ferplus.yaml"))


@click.command()
@click.option(
    "--config",
    "configs",
    type=FILE,
    multiple=True,
    default=DEFAULTS,
    show_default=True,
    help="A data set and the budget, epochs and minutes; may be given several times.",
)
@click.option("--kind", "kinds", multiple=True, help="Only this architecture; may be given several times.")
@click.option(
    "--run",
    type=FOLDER,
    default=Path("trainer/runs/compare"),
    show_default=True,
    help="Folder of the trainings and the picture; what is finished there is not trained again.",
)
@click.option("--plot", type=FILE, help="The picture, .svg or .png.  [default: RUN/compare.svg]")
@click.option("--json", "as_json", is_flag=True, help="Only JSON on stdout; accuracies are fractions.")
@SET_OPTION
@DATA_OPTION
def compare(
    configs: tuple[Path, ...],
    kinds: tuple[str, ...],
    run: Path,
    plot: Path | None,
    as_json: bool,
    overrides: tuple[str, ...],
    data: Path | None,
) -> None:
    """Train every architecture under one budget on the same faces, and say what each int8 file is worth.

    CK+48 is asked about on persons not trained on, FER+ on its validation split: the test split is for the model that
    ships. What is finished is not trained again; times are measured anew, all in one run.
    """
    if plot and plot.suffix not in PICTURES:
        fail(f"--plot {plot}: end the name in {' or '.join(PICTURES)}")
    with one_line():
        from trainer.config import load_config
        from trainer.data.datasets import data_folder
        from trainer.quiet import load_keras

        settings = [load_config(config, overrides) for config in configs]
        folder = data_folder(data)
        load_keras()
        from rich.console import Console

        from trainer.measuring import compare as comparison

        found = comparison.compare(settings, kinds, folder, CACHE, run)
        run.mkdir(parents=True, exist_ok=True)
        comparison.plot(found, plot or run / "compare.svg")
        if as_json:
            click.echo(json.dumps([asdict(each) for each in found], indent=2))
        else:
            comparison.show(found, Console())
