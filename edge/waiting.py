"""The messages that wait in memory: in order, and counted. Plain state, which the outbox locks and bounds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge.store import Message


@dataclass
class Entry:
    """A message, when it was made (seconds since 1970), its row once it is committed, and whether it is under way."""

    message: Message
    made: float
    row: int | None = None
    offered: bool = False


class Waiting:
    """A message goes from `incoming` to the file and from there to `ready`.

    Attributes:
        incoming: what was made and is neither committed nor to be offered, oldest first.
        writing: what of it is being committed.
        ready: what is to be offered or was, by its id, oldest first; it stays until it is acknowledged.
        count: how many messages wait, with those that are in the file only.
        bytes: of all these, as they would be sent.
    """

    def __init__(self) -> None:
        self.incoming: list[Entry] = []
        self.writing: list[Entry] = []
        self.ready: OrderedDict[str, Entry] = OrderedDict()
        self.count = self.bytes = 0

    def add(self, entry: Entry) -> None:
        """Add a message that was just made."""
        self.incoming.append(entry)
        self.change(1, entry.message.size)

    def change(self, count: int, size: int) -> None:
        """Count so many messages and bytes more, or less."""
        self.count, self.bytes = self.count + count, self.bytes + size

    def recount(self) -> None:
        """Count afresh what is in memory, and nothing else."""
        waiting = [*self.ready.values(), *self.incoming]
        self.count, self.bytes = len(waiting), sum(entry.message.size for entry in waiting)

    def next(self) -> Entry | None:
        """Return the oldest message not yet offered."""
        return next((entry for entry in self.ready.values() if not entry.offered), None)

    def oldest(self) -> Entry | None:
        """Return the oldest message in memory, but for what is being committed."""
        return next(iter(self.ready.values()), None) or next(iter(self.incoming), None)

    def unwritten(self) -> list[Entry]:
        """Return what is to be offered or was, and is not in the file."""
        return [entry for entry in self.ready.values() if entry.row is None]

    def lost(self) -> int:
        """Return how many messages are in no file."""
        return sum(entry.row is None for entry in (*self.ready.values(), *self.writing, *self.incoming))

    def promote(self) -> None:
        """Let everything be offered, committed or not."""
        self.ready.update((entry.message.id, entry) for entry in self.incoming)
        self.incoming = []

    def withdraw(self) -> None:
        """Let everything be offered again."""
        for entry in self.ready.values():
            entry.offered = False

    def pop(self, message_id: str) -> Entry | None:
        """Take out what is to be offered or was."""
        entry = self.ready.pop(message_id, None)
        if entry is not None:
            self.change(-1, -entry.message.size)
        return entry

    def pop_oldest(self, entries: Iterable[Entry], wanted: Callable[[Entry], bool]) -> list[Entry]:
        """Take out, of some that are ready, the oldest as long as they are wanted; not those under way."""
        popped = []
        for entry in list(entries):
            if not wanted(entry):
                break
            if not entry.offered:
                self.pop(entry.message.id)
                popped.append(entry)
        return popped

    def cut_incoming(self, most: int) -> int:
        """Take out the oldest that came in, until the rest has at most so many bytes; returns how many they were."""
        excess = sum(entry.message.size for entry in self.incoming) - most
        count = 0
        while excess > 0:
            size = self.incoming[count].message.size
            excess, count = excess - size, count + 1
            self.change(-1, -size)
        del self.incoming[:count]
        return count

    def remove_events(self) -> None:
        """Take out every event."""
        events = [each for each in (*self.ready.values(), *self.incoming) if each.message.kind == "event"]
        for entry in events:
            self.ready.pop(entry.message.id, None)
        self.incoming = [entry for entry in self.incoming if entry.message.kind != "event"]
        self.change(-len(events), -sum(entry.message.size for entry in events))
