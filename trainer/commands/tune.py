"""`emotion-trainer tune`."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import closing, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer.commands.options import CACHE, DATA_OPTION, FILE, SET_OPTION, one_line

if TYPE_CHECKING:
    from trainer.search.trial import Workers
    from trainer.training.material import Material

SPACE = Path("configs/trainer/search.yaml")
INTERRUPTED = 130


@click.command()
@click.option("--config", type=FILE, required=True, help="The YAML to vary, for example configs/trainer/ferplus.yaml.")
@click.option("--trials", type=click.IntRange(min=1), required=True, help="How many, those of earlier starts included.")
@click.option("--search", "space_file", type=FILE, default=SPACE, show_default=True, help="What is searched.")
@click.option("--storage", type=FILE, help="The search so far.  [default: trainer/runs/NAME-search/search.sqlite3]")
@click.option("--jobs", type=click.IntRange(min=1), help="Trials at a time.  [default: 1; with --ray all processors]")
@click.option("--ray", "address", metavar="ADDRESS", help="Train on this Ray cluster; `local`: one on this machine.")
@click.option("--output", type=FILE, help="The best configuration.  [default: best.yaml beside the storage]")
@SET_OPTION
@DATA_OPTION
def tune(
    config: Path,
    trials: int,
    space_file: Path,
    storage: Path | None,
    jobs: int | None,
    address: str | None,
    output: Path | None,
    overrides: tuple[str, ...],
    data: Path | None,
) -> None:
    """Search better hyperparameters, judged on validation, and write the best configuration, ready for train.

    The first trial is the configuration itself. Trials that fall behind the others are given up. The same command
    goes on with a search that was cut off, and with a higher --trials makes it longer. Beside the best configuration
    lies a record of all trials, a line of JSON each.

    With --ray ADDRESS, such as 192.168.1.2:6379, the trials run on all nodes of that cluster. Each node needs the same
    Python and the same emotion-edge[trainer,ray]; data sets only this machine.
    """
    with one_line():
        from rich.console import Console

        from trainer.config import changed, load_config
        from trainer.data.datasets import data_folder
        from trainer.search.results import check_output, ended, record, show, write_best
        from trainer.search.space import SearchError, load_space
        from trainer.search.tune import Search, opened_study
        from trainer.training.material import material_of

        if address and importlib.util.find_spec("ray") is None:
            raise SearchError("ray is not installed: pip install 'emotion-edge[trainer,ray]'")
        settings = load_config(config, overrides)
        space = load_space(space_file, settings)
        storage = storage or Path("trainer/runs") / f"{settings.name}-search" / "search.sqlite3"
        output = output or storage.with_name("best.yaml")
        lines = output.with_suffix(".jsonl")
        check_output(output)
        say = partial(Console(stderr=True).print, soft_wrap=True, markup=False, highlight=False)
        with opened_study(storage, settings, space) as study:
            if len(ended(study)) < trials:
                material = material_of(changed(settings, space.budget), data_folder(data), CACHE)
                say(f"{len(material.train)} faces to train on, {len(material.validation)} to choose on")
                search = Search(
                    study,
                    settings,
                    space,
                    storage.with_name(f"{storage.name}.trials"),
                    say,
                    lambda: record(study, lines),
                )
                # Ray writes news of its nodes to stdout.
                with redirect_stdout(sys.stderr), closing(_workers(address, jobs, material, storage)) as workers:
                    try:
                        search.run(trials, workers)
                    except KeyboardInterrupt:
                        say(f"interrupted after {len(ended(study))} of {trials} trials; the same command goes on")
                        sys.exit(INTERRUPTED)
            record(study, lines)
            write_best(study, settings, space, output)
            show(study, settings, Console())
            click.echo(f"{output} is ready for train, {lines} tells of all trials")


def _workers(address: str | None, jobs: int | None, material: Material, storage: Path) -> Workers:
    if address:
        from trainer.search.ray_workers import RayWorkers

        return RayWorkers(address, jobs, material.train, material.validation)
    from trainer.search.local_workers import LocalWorkers

    return LocalWorkers(jobs or 1, material.train, material.validation, storage.with_name(f"{storage.name}.log"))
