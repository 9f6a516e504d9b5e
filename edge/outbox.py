"""The queue between those who make events and the publisher: on disk from 50 ms after they were made until delivered.

Who makes events never waits for the disk: a thread of its own writes them in groups. A message is offered to the
publisher once it is committed, and removed once the broker has acknowledged it. While the file cannot be written, the
queue is a small one in memory, and says so.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from edge.events import Event, decode_event, restarted
from edge.numbering import Numbering
from edge.settings import is_name
from edge.store import (
    FAULTS,
    Changes,
    Durability,
    Lock,
    Message,
    OutboxBusyError,
    Remains,
    Row,
    Store,
    is_damage,
    remove_damaged,
    set_aside,
)
from edge.waiting import Entry, Waiting

log = logging.getLogger(__name__)

#: The first event of a group waits so long for others, seconds; the commit has the rest of the 50 ms.
GROUP = 0.035
#: What was acknowledged is removed with the next group, or after so many seconds.
TIDY = 1.0
#: Between attempts to write to a file that could not be written, seconds.
RETRY = 5.0
#: Between looks for messages that are too old, seconds.
EXPIRE = 60.0
#: Most committed messages that are kept in memory too; the rest is read when these are gone.
PAGE = 512
#: Most bytes that wait in memory for a file that cannot be written.
MEMORY = 8 << 20
#: Whether that is so many bytes is looked at with every so many messages: adding up takes a while.
LOOK = 256
#: The highest row of a file that was not read to its end.
UNKNOWN = 1 << 62
#: A commit that takes longer than this is no progress, seconds.
STUCK = 30.0


class Outbox:
    """A bounded queue that outlives its process; when it is full the oldest goes, of those not under way.

    Args:
        path: of the file; without one everything is in memory only.
        durability: `full`: committed means on the disk. `normal`: a power loss can cost what was committed since the
            system last wrote it out; the death of the process costs nothing.
        most_bytes: of all messages that wait.
        most_seconds: that a message waits.
        dropped: called with reason and number of messages that will never be delivered.

    Attributes:
        damaged: whether something in the file could not be read.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        durability: Durability = "full",
        most_bytes: int = 64 << 20,
        most_seconds: float = 7 * 86_400.0,
        dropped: Callable[[str, int], None] = lambda _reason, _count: None,
    ) -> None:
        self.damaged = False
        self._path = path
        self._durability = durability
        self._most_bytes = most_bytes
        self._most_seconds = most_seconds
        self._dropped = dropped
        self._changed = threading.Condition()
        self._numbering = Numbering()
        self._waiting = Waiting()
        self._group_since = 0.0
        # What the next commit does beside adding; faces that the file knows of.
        self._next_changes = Changes()
        self._tidy_at = 0.0
        self._faces: set[str] = set()
        self._orphans: dict[str, bytes] = {}
        # Rows above _loaded, up to _highest, are in the file only.
        self._highest = self._loaded = 0
        # The file is given up, and what it held is in memory, to be written anew.
        self._all_in_memory = False
        self._keep_events, self._to_erase = True, False
        self._store: Store | None = None
        self._lock: Lock | None = None
        self._problem = ""
        self._retry_at = self._expire_at = 0.0
        self._leaving = False
        self._busy_since: float | None = None
        self._wall, self._monotonic = time.time(), time.monotonic()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def claim(self) -> None:
        """Lock the file ahead of `start`, so that nobody else can come in between.

        Raises:
            OutboxBusyError: another process uses the file.
        """
        if self._path is None:
            return
        try:
            self._lock = self._lock or Lock(self._path)
        except OutboxBusyError:
            raise
        except OSError as error:  # `start` tries again, and makes do without the file
            log.debug("outbox: %s: %s", self._path, error)

    def start(self, keep_events: bool = True) -> None:
        """Open the file, end the faces that an earlier run left open, and begin to write.

        Args:
            keep_events: whether events that wait, and all that is known of faces, are kept; summaries always are.

        Raises:
            OutboxBusyError: another process uses the file.
        """
        if self._path is None:
            return
        self._keep_events = keep_events
        try:
            self._open()
        except OutboxBusyError:
            raise
        except FAULTS as error:
            self._recover(error)
        if keep_events:
            self._end_faces()
        else:
            self._forget_events()
        self._thread.start()

    def stop(self, timeout: float) -> int:
        """Write what is not yet written, within `timeout` seconds; returns the number of messages lost with this."""
        with self._changed:
            self._leaving = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        if self._lock is not None and not self._thread.is_alive():
            self._lock.release()
        with self._changed:
            return self._waiting.lost()

    def stopped(self) -> bool:
        """Tell whether the file is free after a `stop`."""
        if self._thread.is_alive():
            return False
        if self._lock is not None:
            self._lock.release()
        return True

    @property
    def epoch(self) -> int:
        """Milliseconds since 1970 when the numbers of events began; later than any before."""
        return self._numbering.epoch

    def number(self, camera: str) -> int:
        """Return the number of a camera's next event; (`epoch`, number) never goes back."""
        with self._changed:
            return self._numbering.next(camera)

    def put(self, events: Iterable[Event]) -> None:
        """Add events in order; never waits for the disk."""
        for event in events:
            payload, face = event.encode(), event.face.id
            with self._changed:
                changes = self._next_changes
                if event.type != "end":
                    changes.opened[face] = payload
                elif changes.opened.pop(face, None) is None or face in self._faces:
                    changes.closed.append(face)
                self._add(Message(event.id, event.camera, "event", payload))

    def put_message(self, message: Message) -> None:
        """Add another message; never waits for the disk."""
        with self._changed:
            self._add(message)

    def offer(self, timeout: float) -> Message | None:
        """Return the oldest message not yet offered, waiting for one up to `timeout` seconds."""
        with self._changed:
            entry = self._changed.wait_for(self._waiting.next, timeout)
            if entry is None:
                return None
            entry.offered = True
            return entry.message

    def acknowledge(self, message_id: str) -> Message | None:
        """Forget a message that was delivered; returns it if it was still there."""
        with self._changed:
            entry = self._pop(message_id)
            self._changed.notify_all()
            return entry.message if entry else None

    def refuse(self, message_id: str, reason: str) -> bool:
        """Set a message aside that the broker will never take; tells whether it was still there."""
        with self._changed:
            entry = self._pop(message_id)
            if entry is not None and entry.row is not None:
                self._next_changes.refused[entry.row] = reason
            self._changed.notify_all()
            return entry is not None

    def withdraw(self) -> None:
        """Offer everything again that was offered but not acknowledged."""
        with self._changed:
            self._waiting.withdraw()
            self._changed.notify_all()

    def wait_empty(self, timeout: float) -> bool:
        """Wait until everything was acknowledged; tells whether it was."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting.count, timeout)

    def problem(self) -> str:
        """Return why messages wait in memory only; empty if they do not."""
        return self._problem

    def dead(self) -> bool:
        """Tell whether the thread has ended although nobody asked it to."""
        return self._thread.ident is not None and not self._thread.is_alive() and not self._leaving

    def stuck(self, now: float) -> bool:
        """Tell whether the thread has been inside one commit for too long."""
        since = self._busy_since
        return since is not None and now - since > STUCK

    def __len__(self) -> int:
        return self._waiting.count

    def bytes(self) -> int:
        """Return the size of the waiting messages as they would be sent."""
        return self._waiting.bytes

    def oldest_seconds(self) -> float:
        """Return for how long the oldest message has been waiting, 0 if none is."""
        with self._changed:
            first = self._waiting.oldest()
        return max(0.0, self._now() - first.made) if first else 0.0

    # --- the queue in memory; all of these under self._changed ---

    def _add(self, message: Message) -> None:
        if not self._waiting.incoming:
            self._group_since = time.monotonic()
        self._waiting.add(Entry(message, self._now()))
        if self._path is None or self._problem:
            self._promote()
        self._changed.notify_all()

    def _promote(self) -> None:
        """Offer what is not committed, because there is no file or it cannot be written."""
        most = min(self._most_bytes, MEMORY)
        if self._loaded < self._highest:  # older ones in the file come first
            self._bound_incoming(most)
            return
        waiting = self._waiting
        waiting.promote()
        if waiting.bytes > most:  # what is in the file too stays: it may not be lost
            unwritten = waiting.unwritten()
            most += waiting.bytes - sum(entry.message.size for entry in unwritten)
            self._drop_oldest(unwritten, "overflow", lambda _: waiting.bytes > most)
        self._changed.notify_all()

    def _bound_incoming(self, most: int) -> None:
        """Drop the oldest of what can be neither written nor offered, once it is too much."""
        if len(self._waiting.incoming) % LOOK:
            return
        dropped = self._waiting.cut_incoming(most)
        if dropped:
            self._dropped("overflow", dropped)

    def _wanted(self, row: Row) -> bool:
        """Tell whether a message of the file may still be delivered."""
        return self._keep_events or row.message.kind != "event"

    def _pop(self, message_id: str) -> Entry | None:
        entry = self._waiting.pop(message_id)
        if entry is not None and entry.row is not None:
            self._remove(entry.row)
        return entry

    def _remove(self, row: int) -> None:
        if not self._next_changes.remove:
            self._tidy_at = time.monotonic() + TIDY
        self._next_changes.remove.append(row)

    def _drop_oldest(self, entries: Iterable[Entry], reason: str, wanted: Callable[[Entry], bool]) -> None:
        dropped = self._waiting.pop_oldest(entries, wanted)
        for entry in dropped:
            if entry.row is not None:
                self._remove(entry.row)
        if dropped:
            self._dropped(reason, len(dropped))

    def _now(self) -> float:
        """Return seconds since 1970 that a step of the wall clock does not change."""
        return self._wall + time.monotonic() - self._monotonic

    # --- the writer's thread ---

    def _run(self) -> None:
        while True:
            with self._changed:
                pause = self._pause(time.monotonic())
                if pause > 0:
                    self._changed.wait(pause)
                    continue
            self._busy_since = time.monotonic()
            try:
                self._pass(self._busy_since)
            except FAULTS as error:
                self._recover(error)
            self._busy_since = None
            if self._leaving and self._left():
                return

    def _pause(self, now: float) -> float:
        """Return for how long nothing is to be done, seconds."""
        if self._leaving or self._wants_more():
            return 0.0
        if self._problem:
            return self._retry_at - now
        pauses = [self._expire_at - now]
        if self._waiting.incoming:
            pauses.append(self._group_since + GROUP - now)
        if self._next_changes:
            pauses.append(self._tidy_at - now)
        return min(pauses)

    def _wants_more(self) -> bool:
        return self._loaded < self._highest and len(self._waiting.ready) < PAGE // 2

    def _pass(self, now: float) -> None:
        """Write a group, drop what is too old or too much, read on."""
        if self._problem and now < self._retry_at and not self._leaving:
            self._go_on_in_memory()
            return
        if self._store is None:
            self._open()
        assert self._store is not None  # noqa: S101 - for mypy: `_open` raises otherwise
        self._write(self._store)
        if now >= self._expire_at:
            self._expire_at = now + EXPIRE
            self._expire(self._store)
        if self._waiting.bytes > self._most_bytes:
            self._bound(self._store)
        self._read_on(self._store)
        if self._problem:
            log.warning("outbox: %s can be written again", self._path)
            self._problem = ""

    def _go_on_in_memory(self) -> None:
        """Offer what the file holds, and then what is not in it."""
        try:
            if self._store is not None:
                self._read_on(self._store)
        except FAULTS:  # not even that
            self._close()
        if self._store is None and not self._all_in_memory:
            self._read_on_without_writing()
        with self._changed:
            self._promote()

    def _write(self, store: Store) -> None:
        with self._changed:
            unsaved = self._waiting.unwritten()
            fresh, self._waiting.incoming = self._waiting.incoming, []
            self._waiting.writing = fresh
            changes, self._next_changes = self._next_changes, Changes()
            self._faces.update(changes.opened)
        rows = enumerate([*unsaved, *fresh], self._highest + 1)
        changes.add = [Row(row, entry.message, entry.made) for row, entry in rows]
        try:
            if changes:
                store.commit(changes)
        except FAULTS:
            self._take_back(fresh, changes)
            raise
        with self._changed:
            self._waiting.writing = []
            self._faces.difference_update(changes.closed)
            self._offer_committed(unsaved, fresh)

    def _take_back(self, fresh: list[Entry], changes: Changes) -> None:
        """Undo a group that could not be written."""
        with self._changed:
            since = self._next_changes
            self._waiting.incoming, self._waiting.writing = fresh + self._waiting.incoming, []
            changes.add = []
            changes.remove += since.remove
            changes.refused.update(since.refused)
            changes.closed += since.closed
            changes.opened.update(since.opened)
            self._next_changes = changes

    def _offer_committed(self, unsaved: list[Entry], fresh: list[Entry]) -> None:
        """Offer what was written, as far as everything before it is offered."""
        reaches = self._loaded == self._highest
        for entry in unsaved:
            self._highest += 1
            entry.row = self._highest
            if entry.message.id not in self._waiting.ready:  # gone while it was written
                self._remove(entry.row)
        if reaches:
            self._loaded = self._highest
        for entry in fresh:
            self._highest += 1
            entry.row = self._highest
            reaches = reaches and len(self._waiting.ready) < PAGE
            if reaches:
                self._waiting.ready[entry.message.id] = entry
                self._loaded = self._highest
        self._changed.notify_all()

    def _bound(self, store: Store) -> None:
        """Drop the oldest of what is more than may wait: those in memory come before those only in the file."""
        with self._changed:
            waiting = self._waiting
            self._drop_oldest(waiting.ready.values(), "overflow", lambda _: waiting.bytes > self._most_bytes)
        self._drop_unread(store.sizes(self._loaded), "overflow", self._waiting.bytes - self._most_bytes)

    def _expire(self, store: Store) -> None:
        """Drop what has waited for too long."""
        before = self._now() - self._most_seconds
        with self._changed:
            self._drop_oldest(self._waiting.ready.values(), "expired", lambda entry: entry.made < before)
        self._drop_unread(store.sizes(self._loaded, before), "expired", float("inf"))

    def _drop_unread(self, rows: Iterable[tuple[int, int]], reason: str, excess: float) -> None:
        """Drop messages that are in the file only until so many bytes are gone."""
        dropped: list[int] = []
        freed = 0
        for row, size in rows:
            if freed >= excess:
                break
            dropped.append(row)
            freed += size
        if dropped:
            with self._changed:
                self._next_changes.remove += dropped
                self._waiting.change(-len(dropped), -freed)
                self._loaded = dropped[-1]
            self._dropped(reason, len(dropped))

    def _read_on(self, store: Store) -> None:
        """Bring the next messages of the file into memory once most of those there are gone."""
        while self._wants_more():
            rows, damaged = store.load(self._loaded, PAGE)
            with self._changed:
                self._take_in(rows)
                self._next_changes.remove += damaged
                read = [*damaged, *(row.row for row in rows)]
                self._loaded = max(read) if len(read) == PAGE else self._highest
                if self._loaded == self._highest:
                    self._waiting.recount()
                self._changed.notify_all()
            if damaged:
                self.damaged = True
                self._dropped("damaged", len(damaged))
                log.error("outbox: %d messages in %s were damaged; dropped", len(damaged), self._path)

    def _take_in(self, rows: list[Row]) -> None:
        """Queue messages of the file, those that may still be delivered; under self._changed."""
        # What was made while the file could not be written was offered before it was in there.
        gone = set(self._next_changes.remove)
        for row in rows:
            if not self._wanted(row):
                self._next_changes.remove.append(row.row)
                self._waiting.change(-1, -row.message.size)
            elif row.row not in gone and row.message.id not in self._waiting.ready:
                self._waiting.ready[row.message.id] = Entry(row.message, row.made, row.row)

    def _left(self) -> bool:
        """Note that the run ended in order; tells whether the thread may end."""
        if self._store is None:
            return True
        with self._changed:
            if not self._problem and (self._waiting.incoming or self._next_changes):
                return False
        if not self._problem:
            with contextlib.suppress(*FAULTS):
                self._store.write_meta(self._numbering.ended())
        self._store.close()
        return True

    # --- opening and mending ---

    def _open(self) -> None:
        """Open the file and take in what waits there. Raises what `Store` raises."""
        assert self._path is not None  # noqa: S101 - for mypy: without a path there is nothing to open
        self._lock = self._lock or Lock(self._path)
        store = Store(self._path, self._durability)
        try:
            self._numbering.begin(store.meta())
            store.write_meta(self._numbering.begun())
            if self._to_erase:
                self._erase_events(store)
            count, size, highest = store.totals(self._loaded)
            stale = [row for row, _ in store.sizes(0)] if self._all_in_memory else []
            faces = store.faces()
        except FAULTS:
            store.close()
            raise
        with self._changed:
            self._highest = max(highest, self._loaded)
            self._faces.update(faces)
            if self._thread.ident is None:
                self._orphans.update(faces)
            if self._all_in_memory:
                self._next_changes.remove += stale
                self._next_changes.closed += [face for face in faces if face not in self._next_changes.opened]
                self._loaded = highest
            else:
                self._waiting.recount()
                self._waiting.change(count, size)
        self._store, self._all_in_memory = store, False

    def _recover(self, error: Exception) -> None:
        """Go on after the file failed: replace a damaged one, wait in memory for any other."""
        if is_damage(error):
            try:
                self._replace(error)
            except FAULTS as second:
                error = second
            else:
                return
        elif self._store is None and not self._problem:
            self._take_up_without_writing()
        why = getattr(error, "strerror", None) or error
        if not self._problem:
            log.error(
                "outbox: %s: %s; events wait in memory, at most %d MiB: mend outbox.path or the disk",
                *(self._path, why, MEMORY >> 20),
            )
        with self._changed:
            self._problem = f"outbox: {why}"
            self._retry_at = time.monotonic() + RETRY
            self._promote()

    def _replace(self, error: Exception) -> None:
        """Read what can be read of a damaged file, set it aside, and begin a new one."""
        assert self._path is not None  # noqa: S101 - for mypy
        if not self._all_in_memory:
            self._read_remains()
        self.damaged = True
        aside = set_aside(self._path)
        log.error("outbox: %s: %s; set aside as %s, %d messages kept", self._path, error, aside.name, len(self))
        self._open()

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _take_up_without_writing(self) -> None:
        """Begin with a file that cannot be written, as far as it can be read: what waits in it stays there."""
        assert self._path is not None  # noqa: S101 - for mypy
        remains = Remains(self._path)
        self._begin_epoch_of(remains)
        count, size = remains.totals()
        with self._changed:
            self._highest = UNKNOWN
            self._waiting.change(count, size)
            self._orphans.update(remains.faces())
        remains.close()
        self._read_on_without_writing()

    def _read_on_without_writing(self) -> None:
        """Bring the next messages into memory, as `_read_on` does; what cannot be read is found when it is opened."""
        assert self._path is not None  # noqa: S101 - for mypy
        if not self._wants_more():
            return
        remains = Remains(self._path)
        rows = list(itertools.islice(remains.rows(self._loaded), PAGE)) if remains.current else []
        remains.close()
        with self._changed:
            self._take_in(rows)
            if rows:
                self._loaded = rows[-1].row
            if len(rows) < PAGE:
                self._highest = self._loaded
                self._waiting.recount()
            self._changed.notify_all()

    def _begin_epoch_of(self, remains: Remains) -> None:
        assert self._path is not None  # noqa: S101 - for mypy
        with contextlib.suppress(OSError):
            last_written = int(self._path.stat().st_mtime * 1000)
            self._numbering.begin({"epoch": last_written, **remains.meta(), "closed": False})

    def _read_remains(self) -> None:
        """Bring everything that can be read of a damaged file into memory, to be written anew."""
        assert self._path is not None  # noqa: S101 - for mypy
        self._close()
        remains = Remains(self._path)
        self._begin_epoch_of(remains)
        known = set(self._waiting.ready) | {entry.message.id for entry in self._waiting.incoming}
        behind = (row for row in remains.rows() if row.row > self._loaded and row.message.id not in known)
        rows = [row for row in behind if self._wanted(row)]
        with self._changed:
            left = remains.faces() if self._keep_events else {}
            faces = {face: event for face, event in left.items() if face not in self._next_changes.closed}
            if self._thread.ident is None:
                self._orphans.update(faces)
            self._next_changes = Changes(opened={**faces, **self._next_changes.opened})
            self._waiting.incoming = [Entry(row.message, row.made) for row in rows] + self._waiting.incoming
            for entry in self._waiting.ready.values():
                entry.row = None
            self._highest = self._loaded = 0
            self._waiting.recount()
            self._all_in_memory = True
        remains.close()

    def _forget_events(self) -> None:
        """Delete every event, and leave no trace of it in the folder."""
        assert self._path is not None  # noqa: S101 - for mypy
        self._orphans = {}
        with self._changed:
            self._next_changes.opened = {}
            self._waiting.remove_events()
        try:
            if self._store is not None:
                self._erase_events(self._store)
                count, size, self._highest = self._store.totals()
                self._waiting.recount()
                self._waiting.change(count, size)
                self._faces = set()
            else:  # what is in it once it is opened
                self._to_erase = True
                remove_damaged(self._path)
        except FAULTS as error:  # what is still there is not delivered
            with self._changed:
                self._next_changes.closed += self._faces
            self._recover(error)

    def _erase_events(self, store: Store) -> None:
        assert self._path is not None  # noqa: S101 - for mypy
        store.forget("event")
        store.erase()
        remove_damaged(self._path)
        self._to_erase = False

    def _end_faces(self) -> None:
        """End the faces that an earlier run left open: nobody knows when they left, only what was last said of them."""
        for face, payload in self._orphans.items():
            try:
                last = decode_event(payload)
                if not (is_name(last.node) and is_name(last.camera)):  # a flipped bit; they become part of a topic
                    raise ValueError
            except ValueError:
                with self._changed:
                    self._next_changes.opened.pop(face, None)
                    self._next_changes.closed.append(face)
            else:
                self.put([restarted(last, self.epoch, self.number(last.camera))])
