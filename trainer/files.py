"""Files that are replaced in one step: whoever reads finds the old one or the new one, and never half of one."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import struct
import tokenize
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

from trainer import TrainerError

#: What NumPy and the ZIP reader below it raise on damaged `.npy` and `.npz` files, and on files of another kind.
DAMAGED: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    TypeError,  # the one array of a `.npy` where a `.npz` is expected; before Python 3.11 the next
    AttributeError,
    LookupError,
    EOFError,
    RuntimeError,  # a version, compression or encryption that the ZIP reader does not know
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)

#: In a `.keras` file, which is a ZIP.
KERAS_WEIGHTS = "model.weights.h5"


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
        discard(partial)
        raise cannot_write(path, error) from None


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file; of a `.keras` file that of its weights, for Keras writes the date into it.

    Raises:
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    if path.suffix == ".keras":
        with suppress(*DAMAGED):  # whoever loads it says so
            return _digest_of_weights(content)
    return hashlib.sha256(content).hexdigest()


def _digest_of_weights(content: bytes) -> str:
    import h5py  # comes with Keras, and takes a while

    digest = hashlib.sha256()

    def add(name: str, each: object) -> None:
        if isinstance(each, h5py.Dataset):
            digest.update(f"{name} {each.shape} {each.dtype}".encode() + each[()].tobytes())

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        h5py.File(io.BytesIO(archive.read(KERAS_WEIGHTS))).visititems(add)
    return digest.hexdigest()


def check_writable(path: Path) -> None:
    """Check, before long work, that `replace_file` can write `path`; what is there stays as it is.

    Raises:
        WriteError: it cannot be written.
    """
    partial = path.with_name(f".partial.{os.getpid()}.{path.name}")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        discard(partial)


def discard(partial: Path) -> None:
    """Remove what is half written, if there is anything."""
    with suppress(OSError):  # such as a file where the folder should be
        partial.unlink()


def cannot_write(path: Path, error: OSError, remedy: str = "choose another folder") -> WriteError:
    """Say that `path` cannot be written; room is to be made only where the disk or the quota is full."""
    room = "make room there, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    in_the_way = error.errno == errno.EEXIST  # a file where a folder is to be made
    reason = os.strerror(errno.ENOTDIR) if in_the_way else error.strerror
    return WriteError(f"{path}: {reason}; {room}{remedy}")
