"""Stands between FFmpeg and a camera that speaks RTSP: TLS and the log-in are its own, and frames end at once."""

from __future__ import annotations

import contextlib
import secrets
import selectors
import socket
import ssl
import threading
import time
from contextlib import ExitStack

from edge import probe
from edge.frames import CaptureError, Reason
from edge.settings import CameraSettings
from edge.sources.frame_ends import HEADER, FrameEnds
from edge.sources.rtsp_framing import Framing
from edge.sources.rtsp_talk import Talk

HOST = "127.0.0.1"
#: More than a record of TLS has, so that none is left half read where no selector sees it.
CHUNK = 65536
_NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
#: So many connections may wait to say who they are; the oldest makes room.
UNKNOWN, LONGEST_GREETING = 8, 4096
#: Seconds that are given to what FFmpeg has said last, and to the camera to hang up on it.
PARTING = 0.5


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
        with ExitStack() as opened:
            self._camera = opened.enter_context(_connected(settings))
            try:
                self._listener = opened.enter_context(socket.create_server((HOST, 0)))
                self._closing, self._closed = map(opened.enter_context, socket.socketpair())
                self._listener.setblocking(False)
                self.address = f"rtsp://{HOST}:{self._listener.getsockname()[1]}/{secrets.token_hex(16)}"
                self._talk = Talk(settings, self.address)
                self._ends: dict[int, FrameEnds] = {}
                self._thread = threading.Thread(target=self._run, name="rtsp-relay", daemon=True)
                self._thread.start()
            except (OSError, RuntimeError) as error:  # the latter where there can be no more threads
                text = getattr(error, "strerror", None) or error
                raise CaptureError("unreadable", f"no way from FFmpeg to the camera: {text}") from None
            opened.pop_all()

    def refused(self) -> tuple[Reason, str] | None:
        """Return why the camera gives nothing, if it has said so: the typed reason, and what it was."""
        if self._talk.wrong_login:
            return "auth", "username or password is wrong"
        if self._talk.refusal:
            return "refused", f"the camera refuses {self._talk.refusal}; has it a connection left?"
        return None

    def true(self, seconds: float) -> float:
        """Return what FFmpeg would say of a frame's time if frames had not been ended."""
        for ends in tuple(self._ends.values()):
            seconds = ends.true(seconds)
        return seconds

    def close(self) -> None:
        """End it, whatever it is at; waits a moment for what FFmpeg has said last to be passed on."""
        self._closing.close()
        self._thread.join(PARTING)

    def _run(self) -> None:
        try:
            with self._closed, self._listener:
                player, said = self._admitted()
                self._listener.close()
                with player:
                    self._carry(player, said)
        except (OSError, ValueError, CaptureError):
            pass  # why there is no stream is asked by others
        finally:
            self._camera.close()

    def _admitted(self) -> tuple[socket.socket, bytes]:
        """Wait for who names the address; returns the connection, and what it has said.

        The port is listened at until then: else another user of this machine could listen there for FFmpeg.
        """
        unknown: dict[socket.socket, bytes] = {}
        try:
            while True:
                one = self._wait(selectors.EVENT_READ, *unknown, self._listener)
                if one is self._listener:
                    self._greet(unknown)
                    continue
                heard = _heard(one)
                said = unknown.pop(one) + heard
                if self.address.encode() in said:
                    return one, said
                if heard and len(said) <= LONGEST_GREETING and b"\r\n\r\n" not in said:
                    unknown[one] = said
                else:
                    one.close()
        finally:
            for one in unknown:
                one.close()

    def _greet(self, unknown: dict[socket.socket, bytes]) -> None:
        if len(unknown) == UNKNOWN:
            oldest = next(iter(unknown))
            del unknown[oldest]
            oldest.close()
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):  # it has gone already
            one, _ = self._listener.accept()
            _prepare(one)
            unknown[one] = b""

    def _carry(self, player: socket.socket, said: bytes) -> None:
        """Carry everything both ways until one side hangs up, or `close`; `said`: what was read of FFmpeg already."""
        asked = Framing(lambda _: b"", self._talk.asked)
        self._send(self._camera, asked.feed(said))
        try:
            self._carry_on(player, asked)
        finally:
            with contextlib.suppress(OSError, ValueError):
                self._camera.send(asked.feed(player.recv(CHUNK)))
            self._part()

    def _part(self) -> None:
        """Let the camera hang up, for a moment: cut off while it speaks, it may not hear that no more is wanted."""
        until = time.monotonic() + PARTING
        with contextlib.suppress(OSError):
            self._camera.shutdown(socket.SHUT_WR)
            self._camera.settimeout(PARTING)
            while time.monotonic() < until and self._camera.recv(CHUNK):
                pass

    def _carry_on(self, player: socket.socket, asked: Framing) -> None:
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
            self._wait(selectors.EVENT_READ, player)
            if not player.recv(CHUNK):
                return

    def _send(self, target: socket.socket, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            try:
                rest = rest[target.send(rest) :]
            except _NOT_YET as error:
                reads = isinstance(error, ssl.SSLWantReadError)
                self._wait(selectors.EVENT_READ if reads else selectors.EVENT_WRITE, target)
            except OSError:
                if target is not self._camera:
                    raise
                return  # it has hung up; what it said before is still to be read

    def _wait(self, event: int, *others: socket.socket) -> socket.socket:
        """Wait until one of some sockets is ready, and return it. Raises `ConnectionAbortedError` after `close`."""
        with selectors.DefaultSelector() as ready:
            ready.register(self._closed, selectors.EVENT_READ)
            for other in others:
                ready.register(other, event)
            found = [key.fileobj for key, _ in ready.select()]
        if self._closed in found:
            raise ConnectionAbortedError
        (one, *_) = (other for other in others if other in found)
        return one


def _connected(settings: CameraSettings) -> socket.socket:
    camera = probe.connect(settings, time.monotonic() + probe.TIMEOUT)
    _prepare(camera)
    return camera


def _prepare(connection: socket.socket) -> None:
    connection.setblocking(False)
    # The end of a frame must not wait until its beginning was confirmed.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _heard(connection: socket.socket) -> bytes:
    """Return what is there to be read; empty if the other side has hung up."""
    try:
        return connection.recv(CHUNK)
    except OSError:
        return b""
