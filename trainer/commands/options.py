"""What the commands share: options, and mistakes told in one line. Imports only click at first."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from trainer import TrainerError

CACHE = Path(".cache/prepared")
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
DATA_OPTION = click.option(
    "--data", type=FOLDER, help="Folder of the data sets.  [default: $EMOTION_DATA, else ../shared/data]"
)
SET_OPTION = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Another value for a key of the YAML, such as training.epochs=3; again for more.",
)
TEACHER_OPTION = click.option(
    "--teacher",
    "teachers",
    metavar="MODEL",
    multiple=True,
    help="A network to learn from beside the labels: a model file, or a .keras file with its configuration beside it "
    "(config.json, or its name with .yaml) or named as MODEL=CONFIG; again for more.",
)


@contextmanager
def one_line() -> Iterator[None]:
    """Turn what the user can put right into one line on stderr and exit code 2."""
    from edge.bundle import BundleError
    from edge.litert import RuntimeMissingError

    try:
        yield
    except (TrainerError, BundleError, RuntimeMissingError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'file'}: {error.strerror}")


def fail(line: str) -> None:
    """Say what is wrong and exit with code 2."""
    click.echo(f"emotion-trainer: {line}", err=True)
    sys.exit(2)


def command_line() -> str:
    """Return the command that is running as one would type it again."""
    context = click.get_current_context()
    words = ["emotion-trainer", str(context.info_name)]
    for parameter in context.command.params:
        value = context.params[str(parameter.name)]
        if context.get_parameter_source(str(parameter.name)) is not click.core.ParameterSource.COMMANDLINE:
            continue
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(parameter, click.Option):
                words.append(parameter.opts[0])
            words += [] if each is True else [str(each)]
    return shlex.join(words)
