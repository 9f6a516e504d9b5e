"""A program of the machine as a child process of a test."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tests.parts import eventually

Self = TypeVar("Self", bound="Child")


class Child:
    """Starts a program, waits until it is ready, stops it; what it writes goes to `folder/NAME.log`.

    Started again after a stop it goes on writing to the same file. As a context manager it is started on entry, and
    gone on exit.

    Attributes:
        command: the program and its arguments.
        folder: where it works and where its output goes.
        environment: variables added to those of the test.
    """

    name = "child"
    start_timeout = 60.0
    stop_timeout = 30.0

    def __init__(self, command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> None:
        self.command = list(command)
        self.folder = folder
        self.environment = environment or {}
        self.log = folder / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The number of the running process."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self: Self) -> Self:
        """Start it and wait until it is ready."""
        self.launch()
        eventually(self._ready_or_gone, self.start_timeout, f"ready {self.name}", self.tail)
        return self

    def launch(self) -> None:
        """Start it without waiting."""
        assert not self.running, f"{self.name} runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def ready(self) -> bool:
        """Tell whether it does its work by now."""
        return True

    def stop(self) -> int:
        """Ask it to end (SIGTERM) and return its exit code; -N if it died of signal N."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Halt it (SIGSTOP): connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        os.kill(self.pid, signal.SIGCONT)

    def wait(self, timeout: float) -> int:
        """Wait for it to end by itself and return its exit code."""
        assert self._process is not None, f"{self.name} has not been started"
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {timeout:g} s: {self.tail()}") from None

    def lines(self) -> list[str]:
        """Return what it has written so far, stdout and stderr together."""
        return self.log.read_text(errors="replace").splitlines() if self.log.is_file() else []

    def tail(self, count: int = 40) -> str:
        """Return the last lines that it has written."""
        return "\n".join([f"last lines of {self.name}:", *self.lines()[-count:]])

    def close(self) -> None:
        """Make sure that it is gone, frozen or not."""
        if self.running:
            self.kill()

    def _ready_or_gone(self) -> bool:
        assert self.running, f"{self.name} ended with exit code {self.wait(0)}; {self.tail()}"
        return self.ready()

    def _end(self, number: signal.Signals) -> int:
        os.kill(self.pid, number)
        return self.wait(self.stop_timeout)

    def __enter__(self: Self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
