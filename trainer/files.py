"""Files that are replaced in one step: whoever reads finds the old one or the new one, and never half of one."""

from __future__ import annotations

import os
from pathlib import Path

from trainer import TrainerError


class WriteError(TrainerError):
    """A file could not be written; what was there before is as it was."""


def replace_file(path: Path, content: bytes) -> None:
    """Write `path` in one step; a power cut leaves the old or the new content.

    Raises:
        WriteError: the disk is full, or the folder is not ours to write.
    """
    partial = path.with_name(f".partial.{os.getpid()}.{path.name}")  # two processes may write the same
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise WriteError(f"{path}: {error.strerror}; make room there, or choose another folder") from None
