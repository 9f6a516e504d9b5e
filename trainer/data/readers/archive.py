"""What lies in a folder or a tar archive, without reading it: one way to either, and nothing large in memory."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.data.datasets import DataError


@dataclass(frozen=True)
class Content:
    """Where the bytes of a file lie: in a file of their own, or in a stretch of a larger one.

    Attributes:
        path: of the file.
        offset: of the first byte in it.
        size: number of bytes; None for all that follow.
    """

    path: Path
    offset: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """Return the bytes.

        Raises:
            OSError: the file cannot be read.
        """
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(-1 if self.size is None else self.size)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield each line with the offset of its first byte, one at a time.

        Raises:
            OSError: the file cannot be read.
        """
        with self.path.open("rb") as file:
            file.seek(self.offset)
            done = 0
            while line := file.readline(-1 if self.size is None else self.size - done):
                yield done, line
                done += len(line)

    def part(self, offset: int, size: int) -> Content:
        """Return a stretch of it."""
        return Content(self.path, self.offset + offset, size)


@dataclass(frozen=True)
class Listing:
    """The content of a folder or archive; hidden files, with a name that begins with a dot, are left out.

    Attributes:
        location: the folder or the archive.
        files: path within → where its bytes lie, sorted by path in a folder, as stored in an archive.
        folders: paths within.
    """

    location: Path
    files: dict[str, Content]
    folders: frozenset[str]

    def text(self, path: str) -> str:
        """Return a text file.

        Raises:
            DataError: it is missing, unreadable or no text.
        """
        try:
            return self.files[path].read().decode()
        except KeyError:
            raise DataError(f"{self.location}: {path} is missing; unpack or copy the data set again") from None
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.location}: {path} is unreadable ({error}); copy the data set again") from None


def listing(location: Path) -> Listing:
    """List the folder `location`, or the tar archive of that name, with or without `.tar`.

    Raises:
        DataError: there is neither, or the archive is unreadable.
    """
    archive = location if location.is_file() else location.with_name(f"{location.name}.tar")
    if location.is_dir():
        return _of_folder(location)
    if not archive.is_file():
        raise DataError(f"{archive}: no such file, and no folder {location} either; see README, 'Train your own'")
    return _of_archive(archive)


def _of_folder(location: Path) -> Listing:
    files: dict[str, Content] = {}
    folders = set()
    for path in sorted(location.rglob("*")):
        name = path.relative_to(location).as_posix()
        if _hidden(name):
            continue
        if path.is_file():
            files[name] = Content(path)
        elif path.is_dir():
            folders.add(name)
    return Listing(location, files, frozenset(folders))


def _of_archive(archive: Path) -> Listing:
    files: dict[str, Content] = {}
    folders = set()
    try:
        # Not compressed: then its members can be read one by one.
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if _hidden(name):
                    continue
                if member.isreg():
                    files[name] = Content(archive, member.offset_data, member.size)
                elif member.isdir():
                    folders.add(name)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{archive}: unreadable ({error}); copy the file again, or unpack it") from None
    return Listing(archive, files, frozenset(folders))


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
