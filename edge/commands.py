"""Commands that come over MQTT: checked, carried out one after the other, answered. None of them is fatal.

What a command does is in `edge/control.py`. Whoever may publish to the daemon's topics may send anything, any number of
times: what waits and what is remembered is bounded, and so is what is logged (`edge/logs.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from edge.metrics import Metrics
from edge.settings import Command, is_name

log = logging.getLogger(__name__)

#: Bytes of a command, at most; larger ones are dropped unread.
LARGEST = 4096
#: Commands that wait, at most; more are dropped.
WAITING = 64
#: Characters of a command's id, at most.
LONGEST_ID = 128
#: For how long an id is known, seconds, how many are, and the bytes of their answers, at most.
REMEMBER, REMEMBERED, REMEMBERED_BYTES = 600.0, 1000, 1 << 20
#: A command that takes longer than this, its answer included, is no progress, seconds.
STUCK = 30.0

#: Carries a command out: camera (none for all of them) and arguments; returns what the answer says beside `ok`.
Handler = Callable[[str | None, dict[str, Any]], dict[str, Any]]
#: Sends an answer: topic, payload, MQTT 5 correlation data; returns whether the broker takes one of its size.
Send = Callable[[str, bytes, bytes | None], bool]


class CommandError(ValueError):
    """A command cannot be carried out; the message says why, and what to do."""


@dataclass(frozen=True)
class Request:
    """A command as it came: for which camera (none for all), its bytes, and how it wants to be answered."""

    camera: str | None
    payload: bytes
    answer_to: str
    correlation: bytes | None = None


@dataclass(frozen=True)
class Answered:
    """A command that was carried out: when (monotonic, seconds), a digest of what it was, and its answer."""

    time: float
    digest: bytes
    answer: bytes


class Commands:
    """Takes commands, carries them out in a thread of its own, answers them.

    Args:
        allow: the commands that are carried out.
        handlers: what each command does; they raise `CommandError`.
        send: sends an answer.
        metrics: counts what becomes of commands.
    """

    def __init__(
        self, allow: Collection[Command], handlers: Mapping[Command, Handler], send: Send, metrics: Metrics
    ) -> None:
        self._allow = allow
        self._handlers = handlers
        self._send = send
        self._count = metrics.commands
        self._waiting: queue.Queue[Request | None] = queue.Queue(WAITING)
        self._answered: OrderedDict[str, Answered] = OrderedDict()
        self._answered_bytes = 0
        self._busy_since: float | None = None
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commands", daemon=True)

    def start(self) -> None:
        """Begin to carry out what comes."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Carry out no more; a command under way is waited for, at most `timeout` seconds."""
        self._leave.set()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)  # so that it need not wait for the next command
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def dead(self) -> bool:
        """Tell whether the thread has ended although nobody asked it to."""
        return self._thread.ident is not None and not self._thread.is_alive() and not self._leave.is_set()

    def stuck(self, now: float) -> bool:
        """Tell whether the thread has been inside one command for too long."""
        since = self._busy_since
        return since is not None and now - since > STUCK

    def receive(self, request: Request, retained: bool) -> None:
        """Take in what came; never waits. A retained command is as old as nobody knows, and is dropped."""
        about = _about(request.camera)
        if retained:
            self._drop("retained", f"a retained one for {about}; send commands without the flag")
        elif len(request.payload) + len(request.correlation or b"") > LARGEST:
            self._drop("oversized", f"one of more than {LARGEST} bytes for {about}")
        else:
            try:
                self._waiting.put_nowait(request)
            except queue.Full:
                self._drop("busy", f"one for {about}, because {WAITING} wait")

    def _drop(self, result: str, line: str) -> None:
        self._count[result].inc()
        log.warning("%s: %s", "commands not taken", line)

    def _run(self) -> None:
        while not self._leave.is_set():
            request = self._waiting.get()
            if request is None:
                return
            self._busy_since = time.monotonic()
            self._answer(request, self._respond(request))
            self._busy_since = None

    def _answer(self, request: Request, answer: dict[str, Any]) -> None:
        """Send an answer; one that the broker does not take for its size would vanish, so a short one says that."""
        payload = _encode(answer)
        if not self._send(request.answer_to, payload, request.correlation):
            remedy = "; ask for a single camera" if request.camera is None else ""
            error = f"the answer has {len(payload)} bytes, which is more than the broker takes{remedy}"
            short = _encode({"id": answer["id"], "ok": False, "error": error})
            self._send(request.answer_to, short, request.correlation)

    def _respond(self, request: Request) -> dict[str, Any]:
        """Return the answer, having carried the command out unless its id was answered before."""
        answer: dict[str, Any] = {"id": None, "ok": False, "error": None}
        try:
            document = _decode(request.payload)
            answer["id"] = name = _id_of(document)
            known = self._known(name, request)
            if known is not None:
                self._count["repeated"].inc()
                return known
            command, arguments = self._check(document)
        except CommandError as error:
            answer["error"] = str(error)
            self._drop("refused", f"one for {_about(request.camera)}: {error}")
            return answer
        self._carry_out(command, request.camera, arguments, answer)
        self._remember(name, request, answer)
        return answer

    def _carry_out(
        self, command: Command, camera: str | None, arguments: dict[str, Any], answer: dict[str, Any]
    ) -> None:
        """Carry a command out. A supervision point: what it raises is an answer, and nothing else."""
        what = f"{command} of {_about(camera)}"
        try:
            answer.update(self._handlers[command](camera, arguments), ok=True)
        except CommandError as error:
            answer["error"] = str(error)
            self._count["failed"].inc()
            log.warning("%s: %s failed: %s", "commands", what, error)
        except Exception:
            answer["error"] = "failed; the daemon's log says why"
            self._count["failed"].inc()
            log.exception("%s: %s failed", "commands", what)
        else:
            self._count["done"].inc()
            if "warning" in answer:
                log.warning("%s: %s carried out: %s", "commands", what, answer["warning"])
            else:
                log.info("%s: %s carried out", "commands", what)

    def _check(self, document: dict[str, Any]) -> tuple[Command, dict[str, Any]]:
        known: tuple[Command, ...] = get_args(Command)
        command = next((name for name in known if name == document.get("command")), None)
        arguments = document.get("arguments", {})
        if command is None:
            raise CommandError(f"command: must be one of {', '.join(known)}")
        if not isinstance(arguments, dict):
            raise CommandError("arguments: must be an object")
        if command not in self._allow:
            raise CommandError(f"{command} is not allowed; it can be, with commands.allow in the settings")
        return command, arguments

    def _known(self, name: str, request: Request) -> dict[str, Any] | None:
        """Return the answer that a command with this id got. Raises `CommandError` if that was another command."""
        self._forget()
        found = self._answered.get(name)
        if found is None:
            return None
        if found.digest != _digest(request):
            raise CommandError("id: was that of another command within ten minutes; give each command one of its own")
        known: dict[str, Any] = json.loads(found.answer)
        return known

    def _remember(self, name: str, request: Request, answer: dict[str, Any]) -> None:
        payload = _encode(answer)
        self._answered[name] = Answered(time.monotonic(), _digest(request), payload)
        self._answered_bytes += len(payload)
        self._forget()

    def _forget(self) -> None:
        """Forget the oldest answers, as far as they are too old, too many or too much."""
        oldest = time.monotonic() - REMEMBER
        while self._answered and (
            len(self._answered) > REMEMBERED
            or self._answered_bytes > REMEMBERED_BYTES
            or next(iter(self._answered.values())).time < oldest
        ):
            _, gone = self._answered.popitem(last=False)
            self._answered_bytes -= len(gone.answer)


def _about(camera: str | None) -> str:
    """Say whom a command is for. Who sent it chose the words, and not each is one for the log."""
    if camera is None:
        return "the node"
    return f"camera {camera}" if is_name(camera) else "no camera of this node"


def _digest(request: Request) -> bytes:
    return hashlib.sha256(f"{request.camera!r}\n".encode() + request.payload).digest()


def _encode(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()


def _decode(payload: bytes) -> dict[str, Any]:
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        raise CommandError("must be a JSON object in UTF-8") from None
    if not isinstance(document, dict):
        raise CommandError("must be a JSON object")
    return document


def _id_of(document: dict[str, Any]) -> str:
    name = document.get("id")
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_ID:
        raise CommandError(f"id: must be text of 1 to {LONGEST_ID} characters")
    return name
