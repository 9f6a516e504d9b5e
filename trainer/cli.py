"""The command `emotion-trainer`. Imports only click at first: the rest needs the extra `trainer`."""

from __future__ import annotations

import importlib.util

import click

from trainer.commands.adjustments import adjustments
from trainer.commands.adopt import adopt
from trainer.commands.compare import compare
from trainer.commands.evaluate import evaluate
from trainer.commands.export import export
from trainer.commands.folds import folds
from trainer.commands.inspect import inspect
from trainer.commands.margins import margins
from trainer.commands.options import fail
from trainer.commands.photographs import photographs
from trainer.commands.prepare import prepare
from trainer.commands.teach import teach
from trainer.commands.train import train
from trainer.commands.tune import tune

# Not what Keras runs on: `trainer.quiet` looks for that.
NEEDED = ("jinja2", "keras", "markdown_it", "matplotlib", "optuna", "rich", "sklearn", "tensorboard")
INSTALL = "pip install 'emotion-edge[trainer]'"


@click.group()
def main() -> None:
    """Train and measure the emotion model."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        fail(f"{', '.join(missing)} not installed: {INSTALL}")


COMMANDS = (
    prepare, train, tune, export, teach, adopt, folds, compare, evaluate, inspect, margins, adjustments, photographs
)  # fmt: skip
for command in COMMANDS:
    main.add_command(command)
