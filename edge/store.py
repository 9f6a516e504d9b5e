"""The file behind the outbox: SQLite with a write-ahead log, opened, checked, written in groups, mended.

Each row has a checksum of its own, because SQLite notices a flipped bit in its structure but not in what is stored.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import logging
import os
import sqlite3
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edge.named_files import nearest_there

log = logging.getLogger(__name__)

Durability = Literal["full", "normal"]
Kind = Literal["event", "summary"]
KINDS = ("event", "summary")
#: What belongs to the file `outbox.db` beside itself.
COMPANIONS = ("", "-wal", "-shm")
#: Damaged files that are kept; older ones are removed.
DAMAGED_KEPT = 3
#: Refused messages that are kept; older ones are removed.
REFUSED_KEPT = 100
#: How long a command such as `outbox ls` may keep the file busy, seconds.
BUSY = 5.0
#: Rows to leap over at a page that cannot be read, and how often at most.
LEAP, LEAPS = 4, 20_000
TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages (
    row INTEGER PRIMARY KEY, id TEXT, camera TEXT, kind TEXT, payload BLOB, made REAL, checksum INTEGER);
CREATE TABLE IF NOT EXISTS faces (face TEXT PRIMARY KEY, event BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (id TEXT PRIMARY KEY, camera TEXT, kind TEXT, payload BLOB, reason TEXT);
"""
OUR_TABLES = {"meta", "messages", "faces", "refused"}
#: With what every SQLite file begins; and the name by which a file is ours whatever is left of it.
SQLITE, OUR_NAME = b"SQLite format 3\0", "outbox.db"
#: Seconds since 1970; a moment behind it cannot be written out. The checksum does not cover when a message was made.
YEAR_9999 = 253_370_764_800
COLUMNS = "row, id, camera, kind, payload, made, checksum"
#: What reading or writing the file can raise.
FAULTS = (sqlite3.Error, OSError)


class OutboxBusyError(OSError):
    """Another process uses the file; the message says what to do."""


class ForeignFileError(OutboxBusyError):
    """The file is not an outbox, but somebody's; the message says what to do."""


class UnreadableError(OSError):
    """The file cannot be read; the message says why."""


@dataclass(frozen=True)
class Message:
    """What is to be published: `<base>/<node>/<camera>/<kind>`."""

    id: str
    camera: str
    kind: Kind
    payload: bytes

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return len(self.payload)


@dataclass(frozen=True)
class Row:
    """A message in the file: its place in the order, and when it was made (seconds since 1970)."""

    row: int
    message: Message
    made: float


@dataclass
class Changes:
    """What one commit does.

    Attributes:
        add: new rows; one that is there already is replaced.
        remove: rows to be forgotten.
        refused: why the broker refused a row that is to be forgotten.
        opened: faces in view and their last event.
        closed: faces that have left.
    """

    add: list[Row] = field(default_factory=list)
    remove: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    opened: dict[str, bytes] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.add or self.remove or self.refused or self.opened or self.closed)


def is_damage(error: Exception) -> bool:
    """Tell whether an error means that the file's content is wrong, and not that it cannot be written now."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)


class Store:
    """An open outbox file. One thread at a time.

    Args:
        path: of the file, made if it is not there.
        durability: `full` waits at each commit until the disk has it, `normal` leaves that to the system.

    Raises:
        sqlite3.Error, OSError: it cannot be opened, see `is_damage`.
    """

    def __init__(self, path: Path, durability: Durability) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._connection = _connect(f"{path.absolute().as_uri()}?mode=rwc")
        try:
            path.chmod(0o600)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            (verdict,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            self._connection.executescript(TABLES)
            sync_folder(path.parent)
            self._synchronous = f"PRAGMA synchronous={durability.upper()}"
            self._connection.execute(self._synchronous)
        except FAULTS:
            self._connection.close()
            raise

    def meta(self) -> dict[str, Any]:
        """Return what the last run noted: `epoch`, `closed`, `numbers`, as far as there."""
        return _meta(self._connection)

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        """Note facts for the next run, and wait until the disk has them."""
        self._connection.execute("PRAGMA synchronous=FULL")
        with self._transaction():
            for key, value in meta.items():
                self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))
        self._connection.execute(self._synchronous)

    def commit(self, changes: Changes) -> None:
        """Write a group of changes, all or none."""
        with self._transaction():
            run = self._connection.execute
            for row, reason in changes.refused.items():
                run(
                    "INSERT OR REPLACE INTO refused SELECT id, camera, kind, payload, ? FROM messages WHERE row = ?",
                    (reason, row),
                )
            if changes.refused:
                run(
                    "DELETE FROM refused WHERE rowid NOT IN (SELECT rowid FROM refused ORDER BY rowid DESC LIMIT ?)",
                    (REFUSED_KEPT,),
                )
            gone = [(row,) for row in (*changes.remove, *changes.refused)]
            self._connection.executemany("INSERT OR REPLACE INTO messages VALUES (?,?,?,?,?,?,?)", _rows(changes.add))
            self._connection.executemany("DELETE FROM messages WHERE row = ?", gone)
            self._connection.executemany("INSERT OR REPLACE INTO faces VALUES (?, ?)", changes.opened.items())
            self._connection.executemany("DELETE FROM faces WHERE face = ?", [(face,) for face in changes.closed])

    def totals(self, after: int = 0) -> tuple[int, int, int]:
        """Return how many messages wait behind a row, their bytes, and the highest row of all."""
        return _totals(self._connection, after)

    def load(self, after: int, limit: int) -> tuple[list[Row], list[int]]:
        """Return up to `limit` messages in order from behind a row, and the rows among them that are damaged."""
        found = self._connection.execute(
            f"SELECT {COLUMNS} FROM messages WHERE row > ? ORDER BY row LIMIT ?",  # noqa: S608
            (after, limit),
        )
        good, damaged = [], []
        for fields in found:
            row = _row(fields)
            if row is None:
                damaged.append(int(fields[0]))
            else:
                good.append(row)
        return good, damaged

    def sizes(self, after: int, before: float = float("inf")) -> Iterator[tuple[int, int]]:
        """Yield row and bytes of the messages behind a row, in order, up to the first made at a time or later."""
        found = self._connection.execute(
            "SELECT row, length(payload), made FROM messages WHERE row > ? ORDER BY row", (after,)
        )
        yield from ((row, size) for row, size, _ in itertools.takewhile(lambda fields: fields[2] < before, found))

    def faces(self) -> dict[str, bytes]:
        """Return the last event of each face that has not left."""
        return dict(self._connection.execute("SELECT face, event FROM faces"))

    def forget(self, kind: Kind | None = None) -> int:
        """Delete all messages, or those of a kind, with the faces and what was refused; returns how many messages."""
        condition = "" if kind is None else f" WHERE kind = '{kind}'"
        with self._transaction():
            gone = self._connection.execute(f"DELETE FROM messages{condition}").rowcount  # noqa: S608
            self._connection.execute("DELETE FROM faces")
            self._connection.execute("DELETE FROM refused")
        return gone

    def erase(self) -> None:
        """Remove the traces of what was deleted from the file."""
        self._connection.execute("VACUUM")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Close the file; never raises."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except FAULTS:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


class Lock:
    """Keeps other daemons away from a file. Another file has the lock, because SQLite locks the file itself.

    Args:
        path: of the outbox file.

    Raises:
        ForeignFileError: the file is none of ours.
        OutboxBusyError: another process has it.
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        _refuse_irregular(path)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = path.with_name(f"{path.name}.lock")
        self._file = name.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise OutboxBusyError(
                f"outbox.path: {path}: another emotion-edge uses it; stop that one, or give each a path of its own"
            ) from None
        # Only now: to open and close a file that this process has open would free SQLite's own locks on it.
        if is_foreign(path):
            self._file.close()
            name.unlink()
            raise _foreign(path, "is no outbox")

    def release(self) -> None:
        """Let others have the file."""
        self._file.close()


def _refuse_irregular(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise _foreign(path, "is no regular file")


def look_into(path: Path) -> Remains:
    """Open an outbox file to look at what it holds, in use or not; one that is not there holds nothing.

    Raises:
        ForeignFileError: there is something else.
        UnreadableError: it cannot be read.
    """
    try:
        _refuse_irregular(path)
        if is_foreign(path):
            raise _foreign(path, "is no outbox")
        there = path.exists()
    except OutboxBusyError:
        raise
    except OSError as error:
        remedy = "mend outbox.path, or look as the user that runs the daemon"
        raise UnreadableError(f"outbox.path: {path}: {error.strerror}; {remedy}") from None
    remains = Remains(path)
    if there and not remains.readable:
        raise UnreadableError(
            f"outbox.path: {path}: nothing of it can be read; the daemon sets it aside as {path.name}.damaged-…"
        )
    return remains


def look_where_it_will_be(path: Path) -> Path:
    """Make sure that an outbox could be at a path where this process has none open, and make nothing there.

    Returns:
        The nearest folder that exists.

    Raises:
        ForeignFileError: the file is none of ours.
        OSError: nothing can be written there; `PermissionError`: not by this user.
    """
    _refuse_irregular(path)
    if is_foreign(path):
        raise _foreign(path, "is no outbox")
    folder = nearest_there(path)
    try:
        # Rights do not tell: root has them where nobody can write, as on a read-only disk or in /proc.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(error.errno, f"nothing can be written in {folder}: {error.strerror}") from None
    return folder


def is_foreign(path: Path) -> bool:
    """Tell whether a file is none of ours: neither absent nor empty, nor an outbox, not even a damaged one.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(SQLITE))
    except FileNotFoundError:
        return False
    if not head or path.name == OUR_NAME:
        return False
    return head != SQLITE or _has_other_tables(path)


def _has_other_tables(path: Path) -> bool:
    connection, _ = _connect_to_read(path)
    if connection is None:  # too damaged to tell
        return False
    with contextlib.suppress(*FAULTS), contextlib.closing(connection):
        tables = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        # One name may be damaged; and a power loss can leave the first of the tables only.
        return not tables <= OUR_TABLES and len(tables & OUR_TABLES) < len(OUR_TABLES) - 1
    return False


def _foreign(path: Path, why: str) -> ForeignFileError:
    return ForeignFileError(f"outbox.path: {path}: {why}; move it away, or name a file that is not there yet")


class Remains:
    """What can be read of a file that is damaged or cannot be written. Never raises.

    Args:
        path: of the file.

    Attributes:
        readable: whether it could be opened at all.
        current: whether what can be read includes its log; without that it is what once was.
    """

    def __init__(self, path: Path) -> None:
        self._connection, self.current = _connect_to_read(path)
        self.readable = self._connection is not None

    def sound(self) -> bool:
        """Tell whether no page of the file is damaged."""
        if not self._connection:
            return False
        try:
            return bool(self._connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
        except FAULTS:
            return False

    def meta(self) -> dict[str, Any]:
        """Return what the last run noted, as far as it can be read."""
        with contextlib.suppress(*FAULTS):
            return _meta(self._connection) if self._connection else {}
        return {}

    def faces(self) -> dict[str, bytes]:
        """Return the last events of the faces that have not left, as far as they can be read."""
        found: dict[str, bytes] = {}
        with contextlib.suppress(*FAULTS):
            if self._connection:
                found.update(self._connection.execute("SELECT face, event FROM faces"))
        return found

    def totals(self) -> tuple[int, int]:
        """Return how many messages wait, and their bytes; nothing if that cannot be read."""
        with contextlib.suppress(*FAULTS, TypeError, ValueError):
            return _totals(self._connection, 0)[:2] if self._connection else (0, 0)
        return 0, 0

    def rows(self, after: int = 0) -> Iterator[Row]:
        """Yield in order every message behind a row whose page can be read and whose checksum is right."""
        connection = self._connection
        if connection is None:
            return
        with contextlib.suppress(*FAULTS):
            after = max(after, int(connection.execute("SELECT min(row) FROM messages").fetchone()[0] or 1) - 1)
        for _ in range(LEAPS):
            try:
                for fields in connection.execute(
                    f"SELECT {COLUMNS} FROM messages WHERE row > ? ORDER BY row",  # noqa: S608
                    (after,),
                ):
                    after = int(fields[0])
                    row = _row(fields)
                    if row is not None:
                        yield row
            except (*FAULTS, TypeError, ValueError):
                after += LEAP
            else:
                return

    def refused(self) -> list[tuple[Message, str]]:
        """Return the messages that the broker refused for good, and why."""
        with contextlib.suppress(*FAULTS):
            if self._connection:
                query = "SELECT id, camera, kind, payload, reason FROM refused ORDER BY rowid"
                return [(Message(*fields[:4]), str(fields[4])) for fields in self._connection.execute(query)]
        return []

    def close(self) -> None:
        """Close the file."""
        if self._connection:
            self._connection.close()


def set_aside(path: Path) -> Path:
    """Rename a damaged file and its companions; returns the new name. Raises `OSError`."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}-{time.monotonic_ns()}")
    for companion in COMPANIONS:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + companion).rename(aside.with_name(aside.name + companion))
    remove_damaged(path, DAMAGED_KEPT)
    return aside


def remove_damaged(path: Path, keep: int = 0) -> None:
    """Remove damaged files that were set aside, but for the newest. Raises `OSError`."""
    damaged = (name for name in path.parent.glob(f"{path.name}.damaged-*") if not name.name.endswith(COMPANIONS[1:]))
    newest_first = sorted(damaged, key=lambda name: (name.stat().st_mtime, name.name), reverse=True)
    for name in newest_first[keep:]:
        for companion in COMPANIONS:
            name.with_name(name.name + companion).unlink(missing_ok=True)


def _connect(uri: str) -> sqlite3.Connection:
    # The writer's thread uses it alone, but another one opens it.
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY, isolation_level=None, check_same_thread=False)
    connection.text_factory = lambda raw: raw.decode(errors="replace")  # so that a flipped bit is a wrong checksum
    return connection


def _connect_to_read(path: Path) -> tuple[sqlite3.Connection | None, bool]:
    """Open a file without writing; without its log where even that would have to be written, and tell so."""
    for mode, with_log in (("mode=ro", True), ("mode=ro&immutable=1", False)):
        with contextlib.suppress(*FAULTS):
            connection = _connect(f"{path.absolute().as_uri()}?{mode}")
            try:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except FAULTS:
                connection.close()
            else:
                wal = path.with_name(f"{path.name}-wal")
                return connection, with_log or not (wal.exists() and wal.stat().st_size)
    return None, False


def _meta(connection: sqlite3.Connection) -> dict[str, Any]:
    try:
        return {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM meta")}
    except ValueError as error:  # like any other damage
        raise sqlite3.DatabaseError(f"meta: {error}") from None


def _totals(connection: sqlite3.Connection, after: int) -> tuple[int, int, int]:
    query = "SELECT count(*), total(length(payload)) FROM messages WHERE row > ?"
    count, size = connection.execute(query, (after,)).fetchone()
    (highest,) = connection.execute("SELECT max(row) FROM messages").fetchone()
    return int(count), int(size), int(highest or 0)


def _rows(rows: Sequence[Row]) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        message = row.message
        yield (row.row, message.id, message.camera, message.kind, message.payload, row.made, _checksum(message))


def _row(fields: tuple[Any, ...]) -> Row | None:
    """Return a row of the table; none if it is not what was written."""
    row, id_, camera, kind, payload, made, checksum = fields
    if not isinstance(payload, bytes) or kind not in KINDS or not (isinstance(made, float) and 0 <= made < YEAR_9999):
        return None
    message = Message(str(id_), str(camera), kind, payload)
    return Row(int(row), message, made) if _checksum(message) == checksum else None


def _checksum(message: Message) -> int:
    return zlib.crc32(message.payload, zlib.crc32(f"{message.id}/{message.camera}/{message.kind}".encode()))


def sync_folder(folder: Path) -> None:
    """Make the name of a new or renamed file outlive a power loss. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
