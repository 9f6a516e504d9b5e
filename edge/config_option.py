"""The option that names the settings file, and where that is without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

DEFAULT_CONFIG = Path("/etc/emotion-edge/edge.yaml")


def config_option(text: str, default: Path | None = DEFAULT_CONFIG) -> Callable[[Any], Any]:
    """Return the option `--config`.

    Args:
        text: what it is for.
        default: what the command gets without it; with none `text` says what it then does.
    """
    return click.option(
        "--config",
        "-c",
        type=click.Path(path_type=Path),
        default=default,
        show_default=default is not None,
        help=text,
    )
