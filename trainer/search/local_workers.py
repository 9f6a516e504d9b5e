"""Trains the trials of a search in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path

from trainer import TrainerError
from trainer.config import Config
from trainer.data.datasets import Samples
from trainer.processes import end_with_parent
from trainer.search.trial import Died, Done, Epoch, Event, Outcome, Refused, prepare_process, run_trial

#: Seconds for a process to be gone after its pipe has closed.
END_TIMEOUT = 5.0
GONE = (BrokenPipeError, ConnectionResetError, EOFError)


class LocalWorkers:
    """Up to `jobs` processes, each training one trial at a time on its share of the cores.

    What they write to stdout and stderr goes to `log`. They end with this process, however that ends.
    """

    def __init__(self, jobs: int, train: Samples, validation: Samples, log: Path) -> None:
        self._jobs, self._log = jobs, log
        self._samples = train, validation
        self._idle: list[_Worker] = []
        self._busy: dict[int, _Worker] = {}
        self._stillborn: list[Event] = []

    def slots(self) -> int:
        """Return how many trials can be trained at a time."""
        return self._jobs

    def start(self, number: int, config: Config, run: Path) -> None:
        """Begin a trial, or go on with it if its run folder has a checkpoint."""
        threads = max(1, (os.cpu_count() or 1) // self._jobs)
        while self._idle:
            worker = self._idle.pop()
            if worker.accepts(number, config, run):
                self._busy[number] = worker
                return
            worker.end()
        worker = _Worker(self._samples, threads, self._log)
        if worker.accepts(number, config, run):
            self._busy[number] = worker
        else:
            self._stillborn.append(self._died(number, worker))

    def wait(self) -> list[Event]:
        """Wait until trials have something to say, and return it."""
        if self._stillborn:
            events, self._stillborn = self._stillborn, []
            return events
        ready = wait([worker.connection for worker in self._busy.values()])
        return [self._heard(number, worker) for number, worker in [*self._busy.items()] if worker.connection in ready]

    def close(self) -> None:
        """End all processes, and the trials in them."""
        for worker in (*self._idle, *self._busy.values()):
            worker.end()

    def _heard(self, number: int, worker: _Worker) -> Event:
        try:
            message = worker.connection.recv()
        except GONE:
            del self._busy[number]
            return self._died(number, worker)
        if isinstance(message, tuple):
            epoch, accuracy = message
            return Epoch(number, epoch, accuracy, worker.answer)
        self._idle.append(self._busy.pop(number))
        return Done(number, message) if isinstance(message, Outcome) else Refused(number, message)

    def _died(self, number: int, worker: _Worker) -> Died:
        return Died(number, f"its process {worker.fate()}; {self._log} has its last words")


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, samples: tuple[Samples, Samples], threads: int, log: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, threads, log), daemon=True)
        with _ctrl_c_later():
            self._process.start()
        theirs.close()
        with suppress(*GONE):
            self.connection.send(samples)

    def accepts(self, number: int, config: Config, run: Path) -> bool:
        """Hand over a trial; return False if the process is gone."""
        try:
            self.connection.send((number, config, run))
        except GONE:
            return False
        return True

    def answer(self, go_on: bool) -> None:
        """Tell the trial whether to go on. If the process is gone, the next `recv` tells."""
        with suppress(*GONE):
            self.connection.send(go_on)

    def fate(self) -> str:
        """Say how the process, whose pipe has closed, ended."""
        self._process.join(END_TIMEOUT)
        self.end()
        code = self._process.exitcode or 0
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def end(self) -> None:
        """Make sure that the process is gone."""
        self._process.kill()
        self._process.join()
        self.connection.close()


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Put off Ctrl-C to the end of the block, and let a process started in it inherit that it is not for it.

    A terminal sends Ctrl-C to all processes. Any thread of this one may take it, so that a mask alone does not hold.
    """
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    if came:
        raise KeyboardInterrupt


def _serve(connection: Connection, threads: int, log: Path) -> None:
    """Train trials, one after the other, on the samples that come first: what a process does."""
    end_with_parent()
    # Keras makes a semaphore on import. With "fork" it has no name, and a process that is killed leaves none behind.
    multiprocessing.set_start_method("fork", force=True)
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    prepare_process(threads)
    train, validation = connection.recv()

    def go_on(epoch: int, accuracy: float) -> bool:
        connection.send((epoch, accuracy))
        return bool(connection.recv())

    while True:
        number, config, run = connection.recv()
        print(f"trial {number}", flush=True)
        try:
            connection.send(run_trial(config, train, validation, run, go_on))
        except (TrainerError, OSError) as error:
            connection.send(error)
