"""A broker for what Mosquitto does not do: answer publishes as the test wants or not at all, and refuse MQTT 5."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from tests.parts import HOST

PUBLISH, SUBSCRIBE, UNSUBSCRIBE, PING, DISCONNECT = 3, 8, 10, 12, 14


class StubbornBroker:
    """Accepts connections and answers everything but publishes, which `answer` decides on.

    Args:
        answer: gets the topic of a publish; returns the reason code of its PUBACK, none for no PUBACK.
        grant: gets a topic filter; returns the reason code of its subscription.
        welcome: the reason code that each connection of MQTT 5 gets.
        refuse_5: what a connection of MQTT 5 gets instead, before it is closed; one of 3.1.1 is accepted.
        receives: how many publishes it takes without having acknowledged them (Receive Maximum); 0: it does not say.

    Attributes:
        connections: when each asked to be accepted, monotonic seconds.
        versions: of MQTT, that each asked for: 4 is 3.1.1.
        published: the topics of what was published.
        goodbyes: how many connections were ended in order, so that a last will would stay unsaid.
    """

    def __init__(
        self,
        answer: Callable[[str], int | None],
        grant: Callable[[str], int] = lambda _topic: 1,
        welcome: int = 0,
        refuse_5: bytes = b"",
        receives: int = 0,
    ) -> None:
        self.connections: list[float] = []
        self.versions: list[int] = []
        self.published: list[str] = []
        self.goodbyes = 0
        self._answer = answer
        self._grant = grant
        self._welcome = welcome
        self._refuse_5 = refuse_5
        self._properties = b"\x21" + receives.to_bytes(2, "big") if receives else b""
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                head = stream.read(1)
                version = stream.read(_length(stream.read))[6]  # behind the length and the name of the protocol
                self.connections.append(time.monotonic())
                self.versions.append(version)
                if version == 5 and self._refuse_5:
                    connection.sendall(self._refuse_5)
                    return
                says = bytes([0, self._welcome, len(self._properties)]) + self._properties if version == 5 else b"\0\0"
                connection.sendall(bytes([0x20, len(says)]) + says)
                while head := stream.read(1):
                    self._handle(connection, head[0], stream.read(_length(stream.read)), version)
        except (OSError, IndexError):
            return

    def _handle(self, connection: socket.socket, head: int, body: bytes, version: int) -> None:
        kind = head >> 4
        none = b"\x00" if version == 5 else b""  # properties
        if kind == SUBSCRIBE:
            reasons = bytes(self._grant(topic) for topic in _filters(body[2 + len(none) :]))
            connection.sendall(bytes([0x90, 2 + len(none) + len(reasons)]) + body[:2] + none + reasons)
        elif kind == UNSUBSCRIBE:
            connection.sendall(b"\xb0\x04" + body[:2] + b"\x00\x00" if version == 5 else b"\xb0\x02" + body[:2])
        elif kind == DISCONNECT:
            self.goodbyes += 1
        elif kind == PING:
            connection.sendall(b"\xd0\x00")
        elif kind == PUBLISH:
            size = int.from_bytes(body[:2], "big")
            topic = body[2 : 2 + size].decode()
            self.published.append(topic)
            reason = self._answer(topic)
            if reason is not None:
                reasons = bytes([reason, 0]) if version == 5 else b""
                connection.sendall(bytes([0x40, 2 + len(reasons)]) + body[2 + size : 4 + size] + reasons)

    def __enter__(self) -> StubbornBroker:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for connection in self._open:
            connection.close()


def _filters(body: bytes) -> Iterator[str]:
    while body:
        end = 2 + int.from_bytes(body[:2], "big")
        yield body[2:end].decode()
        body = body[end + 1 :]


def _length(read: Callable[[int], bytes]) -> int:
    value = shift = 0
    while True:
        byte = read(1)[0]
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value
