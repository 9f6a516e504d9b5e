"""Stands between FFmpeg and a camera that speaks RTSP: TLS and the log-in are its own, and frames end at once."""

from __future__ import annotations

import secrets
import selectors
import socket
import ssl
import threading
import time

from edge import probe
from edge.frames import CaptureError
from edge.settings import CameraSettings
from edge.sources.frame_ends import HEADER, FrameEnds
from edge.sources.rtsp_framing import Framing
from edge.sources.rtsp_talk import Talk

HOST = "127.0.0.1"
#: More than a record of TLS has, so that none is left half read where no selector sees it.
CHUNK = 65536
_NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class RtspRelay:
    """Connects to a camera and carries one connection of FFmpeg's to it, in a thread that ends with either.

    Nothing is read from one side before what it said last was taken by the other, so that a slow reader holds up the
    camera as without it.

    Args:
        settings: of the camera.

    Raises:
        CaptureError: the camera does not take the connection, or this machine has no more to give.

    Attributes:
        address: what FFmpeg is to open. A secret: who knows it is logged in at the camera.
    """

    def __init__(self, settings: CameraSettings) -> None:
        self._settings = settings
        self._camera = _connected(settings)
        try:
            self._listener = socket.create_server((HOST, 0), backlog=1)
            self._closing, self._closed = socket.socketpair()
        except OSError as error:
            self._camera.close()
            raise CaptureError("unreadable", f"no way from FFmpeg to the camera: {error.strerror or error}") from None
        self.address = f"rtsp://{HOST}:{self._listener.getsockname()[1]}/{secrets.token_hex(16)}"
        self._talk = Talk(settings, self.address)
        self._ends: dict[int, FrameEnds] = {}
        threading.Thread(target=self._run, name="rtsp-relay", daemon=True).start()

    def true(self, seconds: float) -> float:
        """Return what FFmpeg would say of a frame's time if frames had not been ended."""
        for ends in tuple(self._ends.values()):
            seconds = ends.true(seconds)
        return seconds

    def close(self) -> None:
        """End it, whatever it is at; does not wait for that."""
        self._closing.close()

    def _run(self) -> None:
        try:
            with self._closed, self._listener:
                self._wait(self._listener, selectors.EVENT_READ)
                player, _ = self._listener.accept()
                self._listener.close()
                with player:
                    _prepare(player)
                    self._carry(player)
        except (OSError, ValueError, CaptureError):
            pass  # why there is no stream is asked by others
        finally:
            self._camera.close()

    def _carry(self, player: socket.socket) -> None:
        """Carry everything both ways until one side hangs up, or `close`."""
        asked = Framing(lambda _: b"", self._talk.asked)
        answered = Framing(self._passed, self._talk.answered)
        with selectors.DefaultSelector() as ready:
            for each in (self._closed, player, self._camera):
                ready.register(each, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if key.fileobj is self._closed:
                        return
                    if key.fileobj is player:
                        if not self._pass(player, asked, self._camera):
                            return
                    elif self._pass(self._camera, answered, player):
                        if self._talk.again:
                            answered = self._ask_again(ready, answered)
                    else:
                        self._hear_out(player)
                        return

    def _pass(self, source: socket.socket, framing: Framing, target: socket.socket) -> bool:
        """Pass on what is there; tells whether there may be more."""
        try:
            chunk = source.recv(CHUNK)
        except _NOT_YET:
            return True
        except OSError:
            chunk = b""  # however it has hung up
        self._send(target, framing.feed(chunk))
        return bool(chunk)

    def _passed(self, packet: memoryview) -> bytes:
        """Return what to put behind a packet of the camera's."""
        if len(packet) < HEADER.size:
            return b""
        channel, kind = packet[1], packet[5] & 0x7F
        if kind not in self._talk.codecs:
            return b""
        if channel not in self._ends:
            self._ends[channel] = FrameEnds(self._talk.codecs[kind])
        return self._ends[channel].passed(packet)

    def _ask_again(self, ready: selectors.BaseSelector, answered: Framing) -> Framing:
        """Ask the camera, where it is now, what its answer makes us ask; returns what its next answer goes through."""
        if self._settings is not self._talk.settings:
            self._settings = self._talk.settings
            ready.unregister(self._camera)
            self._camera.close()
            self._camera = _connected(self._settings)
            ready.register(self._camera, selectors.EVENT_READ)
            answered = Framing(self._passed, self._talk.answered)
        again, self._talk.again = self._talk.again, b""
        self._send(self._camera, again)
        return answered

    def _hear_out(self, player: socket.socket) -> None:
        """Let FFmpeg hang up first: what is on its way to it would be lost if it said something after we did."""
        player.shutdown(socket.SHUT_WR)
        while True:
            self._wait(player, selectors.EVENT_READ)
            if not player.recv(CHUNK):
                return

    def _send(self, target: socket.socket, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            try:
                rest = rest[target.send(rest) :]
            except _NOT_YET:
                self._wait(target, selectors.EVENT_WRITE)
            except OSError:
                if target is not self._camera:
                    raise
                return  # it has hung up; what it said before is still to be read

    def _wait(self, other: socket.socket, event: int) -> None:
        """Wait until a socket is ready. Raises `ConnectionAbortedError` after `close`."""
        with selectors.DefaultSelector() as ready:
            ready.register(self._closed, selectors.EVENT_READ)
            ready.register(other, event)
            if any(key.fileobj is self._closed for key, _ in ready.select()):
                raise ConnectionAbortedError


def _connected(settings: CameraSettings) -> socket.socket:
    camera = probe.connect(settings, time.monotonic() + probe.TIMEOUT)
    _prepare(camera)
    return camera


def _prepare(connection: socket.socket) -> None:
    connection.setblocking(False)
    # The end of a frame must not wait until its beginning was confirmed.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
