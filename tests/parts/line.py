"""A TCP line to a server on this machine, which can be reset, or swallow everything as a dead switch does."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from tests.parts import HOST
from tests.parts.camera import FakeCamera


class Line(FakeCamera):
    """Passes everything on, both ways, to the server at `target`.

    Attributes:
        hole: while set, connections are taken and nothing goes through.
    """

    def __init__(self, target: int) -> None:
        super().__init__(self._carry)
        self.hole = False
        self._target = target
        self._near: set[asyncio.StreamWriter] = set()

    def reset(self) -> None:
        """Reset every connection; new ones are taken."""
        self._loop.call_soon_threadsafe(self._reset)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, self._target)
        self._near.add(writer)
        try:
            ways = self._pump(reader, far_writer), self._pump(far_reader, writer, self.listener())
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            self._near.discard(writer)

    def listener(self) -> Callable[[bytes], bytes]:
        """Return, for each connection anew, what is told of what the server sends, and returns what goes through."""
        return lambda content: content

    async def _pump(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        heard: Callable[[bytes], bytes] = lambda content: content,
    ) -> None:
        try:
            while content := await source.read(65536):
                while self.hole:
                    await asyncio.sleep(0.02)
                target.write(heard(content))
                await target.drain()
        finally:
            target.close()

    def _reset(self) -> None:
        for writer in list(self._near):
            # A linger of no seconds makes the end of a connection a reset.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
