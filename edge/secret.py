"""Where a password or token is: in the settings, in the environment, in a file, in systemd's credentials."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from edge.addresses import usable_path

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
FOLDER = "CREDENTIALS_DIRECTORY"
#: Characters of a file with a secret, at most.
LONGEST = 65536


def secret(value: object, folder: Path) -> object:
    """Return a secret as text, looked up where `value` says; anything else as it is.

    Args:
        value: text, `${NAME}` alone, `{file: …}` or `{credential: …}`.
        folder: from which the path of a file counts.

    Raises:
        ValueError: there is none at that place; the message says how to mend that, and nothing of the content.
    """
    if isinstance(value, str):
        named = VARIABLE.search(value)
        if named and named[0] != value:
            raise ValueError(
                "${NAME} must stand alone; a secret that has such characters itself goes into a {file: path}"
            )
        return _of_environment(named[1]) if named else value
    if isinstance(value, Mapping):
        if set(value) == {"file"}:
            return _content(folder / usable_path(str(value["file"])))
        if set(value) == {"credential"}:
            return _content(_credentials(name := Path(usable_path(str(value["credential"]))).name) / name)
        raise ValueError("must be text, ${NAME} of the environment, {file: path} or {credential: name}")
    return value


def _of_environment(name: str) -> str:
    if not os.environ.get(name):
        raise ValueError(f"the environment has no {name}; set it, or write {{file: path}}")
    return os.environ[name]


def _credentials(name: str) -> Path:
    if not os.environ.get(FOLDER):
        raise ValueError(
            "only a systemd service with LoadCredential= has credentials; look with sudo systemd-run --pipe "
            f"-p User=emotion-edge -p LoadCredential={name} emotion-edge doctor, or write {{file: path}}"
        )
    return Path(os.environ[FOLDER])


def _content(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            content = file.read(LONGEST).rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; name a file that this user may read") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: no text in UTF-8") from None
    if not content:
        raise ValueError(f"{path}: is empty; write the secret into it")
    return content
