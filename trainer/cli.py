"""The command `emotion-trainer`. Imports only click at first: the rest needs the extra `trainer`."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from trainer import TrainerError

NEEDED = ("keras", "rich", "tensorflow")
INSTALL = "pip install 'emotion-edge[trainer]'"
CACHE = Path(".cache/landmarks")
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
DATA_OPTION = click.option(
    "--data", type=FOLDER, help="Folder with ferplus.tar and ck48.tar.  [default: $EMOTION_DATA, else ../shared/data]"
)


@click.group()
def main() -> None:
    """Train and measure the emotion model."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        _fail(f"{', '.join(missing)} not installed: {INSTALL}")


@main.command()
@click.option("--config", type=FILE, required=True, help="The run's YAML, for example configs/trainer/ferplus.yaml.")
@click.option("--run", type=FOLDER, help="Folder of checkpoints and log.  [default: trainer/runs/NAME]")
@click.option("--output", type=FILE, help="The model file.  [default: RUN/NAME.tflite]")
@click.option("--ship", is_flag=True, help="Write it to edge/models and its float twin to trainer/models too.")
@DATA_OPTION
def train(config: Path, run: Path | None, output: Path | None, ship: bool, data: Path | None) -> None:
    """Train a model, or go on where a run ended, and write the model file."""
    with _one_line():
        from edge.bundle import DEFAULT_MODEL
        from trainer.config import load_config
        from trainer.datasets import data_folder
        from trainer.quiet import load_keras

        settings = load_config(config)
        folder = data_folder(data)
        load_keras()
        from trainer import train as steps
        from trainer.evaluate import FLOAT_TWINS

        run = run or Path("trainer/runs") / settings.name
        twin = f"{settings.name}.keras"
        models, twins = [output or run / f"{settings.name}.tflite"], [run / twin]
        if ship:
            models, twins = [*models, DEFAULT_MODEL], [*twins, FLOAT_TWINS / twin]
        steps.train(settings, folder, steps.Outputs(run, models, twins), CACHE)


@main.command()
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
    with _one_line():
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


@main.command()
@click.argument("model", type=FILE, required=False)
@click.option("--faces", type=click.IntRange(min=1), default=1500, show_default=True, help="Photographs to compose.")
@click.option("--seed", type=int, default=1, show_default=True)
@DATA_OPTION
def margins(model: Path | None, faces: int, seed: int, data: Path | None) -> None:
    """Show MODEL's accuracy (default: the one that ships) over crop margins and eye lines, on validation faces."""
    with _one_line():
        from rich.console import Console

        from edge.bundle import DEFAULT_MODEL, read_bundle
        from trainer.datasets import data_folder
        from trainer.margins import measure, show

        path = model or DEFAULT_MODEL
        measured = measure(path, data_folder(data), CACHE, faces, seed)
        show(measured, read_bundle(path).info.crop.rule(), Console())


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn what the user can put right into one line on stderr and exit code 2."""
    from edge.bundle import BundleError
    from edge.litert import RuntimeMissingError

    try:
        yield
    except (TrainerError, BundleError, RuntimeMissingError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'file'}: {error.strerror}")


def _fail(line: str) -> None:
    click.echo(f"emotion-trainer: {line}", err=True)
    sys.exit(2)
