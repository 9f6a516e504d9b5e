"""Network cameras that behave as told: in RTSP, in HTTP, with TLS or without, or not at all."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from typing_extensions import Self

from tests.parts import HOST, tool

Connection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
H264 = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
BOUNDARY = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"


class FakeCamera:
    """A TCP server in a thread of its own; each connection is given to `behave`.

    Args:
        behave: what it does with a connection, which is closed afterwards.
        tls: speaks TLS.

    Attributes:
        connections: how many there were.
    """

    def __init__(self, behave: Connection, tls: ssl.SSLContext | None = None) -> None:
        self.behave = behave
        self.connections = 0
        self._tls = tls
        self._port: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port.result(10)

    def __enter__(self) -> Self:
        self._thread.start()
        self._port.result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        # Ends with exceptions that nobody wants to see, such as a connection reset by its test.
        self._loop.set_exception_handler(lambda _loop, _context: None)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, HOST, 0, ssl=self._tls))
        self._port.set_result(server.sockets[0].getsockname()[1])
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.behave(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def read_request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]]:
    """Read a request of RTSP or HTTP: method, address, headers in small letters."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    method, address, _ = head[0].split(" ", 2)
    return (
        method,
        address,
        {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])},
    )


def rtsp(
    status: str = "200 OK",
    body: str = H264,
    challenges: Sequence[str] = (),
    accept: Callable[[str, str], bool] | None = None,
) -> Connection:
    """Answer OPTIONS with 200 and DESCRIBE as given, anything else with 400.

    Args:
        status: of the answer to DESCRIBE.
        body: of that answer, if it is 200.
        challenges: with these, DESCRIBE without a good log-in gets 401.
        accept: tells by the method and the `Authorization` header whether a log-in is good.
    """

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            method, _, headers = await read_request(reader)
            said, content, fields = "400 Bad Request", "", [f"CSeq: {headers['cseq']}"]
            if method == "OPTIONS":
                said = "200 OK"
                fields.append("Public: OPTIONS, DESCRIBE")
            elif method == "DESCRIBE":
                login = headers.get("authorization")
                if challenges and not (login and accept and accept(method, login)):
                    said = "401 Unauthorized"
                    fields += [f"WWW-Authenticate: {challenge}" for challenge in challenges]
                else:
                    said, content = status, body if status.startswith("200") else ""
            if content:
                fields += ["Content-Type: application/sdp", f"Content-Length: {len(content)}"]
            writer.write("\r\n".join([f"RTSP/1.0 {said}", *fields, "", content]).encode())
            await writer.drain()

    return behave


def http(
    status: str = "200 OK",
    kind: str = "multipart/x-mixed-replace; boundary=frame",
    challenge: str = "",
    accept: Callable[[str, str], bool] | None = None,
    head: bool = True,
    pictures: Sequence[bytes] = (),
    interval: float = 0.05,
    location: str = "",
) -> Connection:
    """Answer one HTTP request as given, then send JPEG pictures over and over.

    Args:
        status: of the answer.
        kind: its content type.
        challenge: with this, a request without a good log-in gets 401.
        accept: tells by the method and the `Authorization` header whether a log-in is good.
        head: whether HEAD is known.
        pictures: what is sent after the headers, for ever.
        interval: seconds between pictures.
        location: where it says that it is instead.
    """

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, _, headers = await read_request(reader)
        said, fields = status, [f"Content-Type: {kind}", *([f"Location: {location}"] if location else [])]
        login = headers.get("authorization")
        if method == "HEAD" and not head:
            said = "405 Method Not Allowed"
        elif challenge and not (login and accept and accept(method, login)):
            said = "401 Unauthorized"
            fields.append(f"WWW-Authenticate: {challenge}")
        writer.write("\r\n".join([f"HTTP/1.1 {said}", "Connection: close", *fields, "", ""]).encode())
        await writer.drain()
        while pictures and method == "GET" and said.startswith("200"):
            for picture in pictures:
                writer.write(BOUNDARY % len(picture) + picture + b"\r\n")
                await writer.drain()
                await asyncio.sleep(interval)

    return behave


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Take the connection and say nothing."""
    while await reader.read(4096):
        pass


def relay(port: int) -> Connection:
    """Pass everything on to a server at that port, and back: with TLS in front, a real server has TLS."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, port)

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while content := await source.read(65536):
                target.write(content)
                await target.drain()
            target.close()

        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True)

    return behave


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close the connection at once."""


async def other_protocol(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greet as a mail server does."""
    await reader.read(4096)
    writer.write(b"220 mail ready\r\n\r\n")
    await writer.drain()


def jpeg(width: int = 320, height: int = 240, brightness: int = 90) -> bytes:
    """Return a plain picture as JPEG."""
    ok, encoded = cv2.imencode(".jpg", np.full((height, width, 3), brightness, np.uint8))
    assert ok
    return encoded.tobytes()


class Authority:
    """Makes certificates for `127.0.0.1`, or other hosts, that its own certificate (`ca`) has signed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ca = folder / "ca.pem"
        self._key = folder / "ca.key"
        self._openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test authority"),
            *("-keyout", str(self._key), "-out", str(self.ca)),
        )

    def context(self, name: str = f"IP:{HOST}", days: int = 2) -> ssl.SSLContext:
        """Return what a server needs to prove that it is `name`; long expired with negative `days`."""
        signed, key = self.sign(name, days)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(signed, key)
        return context

    def sign(self, name: str = f"IP:{HOST}", days: int = 2, stem: str = "server") -> tuple[Path, Path]:
        """Write a certificate for `name` and its key to files; returns their paths."""
        key, request, signed = (self._folder / f"{stem}.{suffix}" for suffix in ("key", "csr", "pem"))
        names = self._folder / "names"
        names.write_text(f"subjectAltName={name}\n")
        self._openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=camera", "-keyout", str(key), "-out", str(request))
        )
        self._openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.ca), "-CAkey", str(self._key), "-CAcreateserial"),
            *("-days", str(days), "-extfile", str(names), "-out", str(signed)),
        )
        return signed, key

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run([tool("openssl", "openssl"), *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
