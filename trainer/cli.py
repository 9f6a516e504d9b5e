"""The command `emotion-trainer`. Imports only click at first: the rest needs the extra `trainer`."""

from __future__ import annotations

import importlib.util

import click

from trainer.commands.evaluate import evaluate
from trainer.commands.margins import margins
from trainer.commands.options import fail
from trainer.commands.prepare import prepare
from trainer.commands.train import train

NEEDED = ("jinja2", "keras", "matplotlib", "optuna", "rich", "sklearn", "tensorflow")
INSTALL = "pip install 'emotion-edge[trainer]'"


@click.group()
def main() -> None:
    """Train and measure the emotion model."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        fail(f"{', '.join(missing)} not installed: {INSTALL}")


for command in (prepare, train, evaluate, margins):
    main.add_command(command)
