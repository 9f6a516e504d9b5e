"""Trains trials on the nodes of a Ray cluster.

The driver, which has the search, puts the samples into the object store once and begins a task a trial. After each
epoch a trial asks `Desk`, an actor on the driver's node, whether to go on, and the driver answers there. So a node has
nothing that is not elsewhere: if it goes, its trials are begun again on others.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainer import TrainerError, first_line
from trainer.config import Config
from trainer.data.datasets import Samples
from trainer.search.space import SearchError
from trainer.search.trial import Died, Done, Epoch, Event, Outcome, Refused, prepare_process, run_trial

LOCAL = "local"
#: Seconds after which `wait` returns even if nothing has happened.
PATIENCE = 1.0


class Desk:
    """Where trials hand in an epoch's accuracy and wait for the driver's answer; an asynchronous Ray actor."""

    def __init__(self) -> None:
        self._tokens = itertools.count()
        self._reports: asyncio.Queue[tuple[int, int, int, float]] = asyncio.Queue()
        self._answers: dict[int, asyncio.Future[bool]] = {}

    async def report(self, number: int, epoch: int, accuracy: float) -> bool:
        """Hand in an epoch of a trial and return whether to go on."""
        token = next(self._tokens)
        self._answers[token] = asyncio.get_running_loop().create_future()
        self._reports.put_nowait((token, number, epoch, accuracy))
        return await self._answers[token]

    async def next(self) -> tuple[int, int, int, float]:
        """Return the next report: its token, and what was handed in."""
        return await self._reports.get()

    async def answer(self, token: int, go_on: bool) -> None:
        """Answer a report."""
        self._answers.pop(token).set_result(go_on)


class RayWorkers:
    """A Ray cluster, one processor a trial, and one GPU where the configuration asks for it.

    Args:
        address: of the cluster as `ray.init` takes it, or `local` for one on this machine that ends with the search.
        jobs: at most so many trials at a time; None for as many as there is room for.
        train: what is learned from.
        validation: what trials are judged by.

    Raises:
        SearchError: there is no cluster at that address, or one of another version of Ray or Python.
    """

    def __init__(self, address: str, jobs: int | None, train: Samples, validation: Samples) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        started = {"num_cpus": jobs, "include_dashboard": False} if address == LOCAL else {}
        try:
            _knock(address)
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **started)
        except (OSError, RuntimeError, ValueError) as error:
            raise SearchError(
                f"--ray {address}: {first_line(error)}; `ray status` shows whether the cluster runs"
            ) from None
        self._jobs = jobs
        self._samples = ray.put((train, validation))
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._desk: Any = ray.remote(Desk).options(num_cpus=0, scheduling_strategy=here).remote()
        self._next = self._desk.next.remote()
        self._trials: dict[Any, int] = {}

    def slots(self) -> int:
        """Return how many trials the cluster has processors for now, at least 1."""
        found = int(ray.cluster_resources().get("CPU", 0))
        return max(1, found if self._jobs is None else min(found, self._jobs))

    def start(self, number: int, config: Config, run: Path) -> None:  # noqa: ARG002
        """Begin a trial on any node; its run folder is a temporary one there."""
        # Begun again by the search and not by Ray, so that each time is counted and told.
        gpus = 1 if config.training.device == "gpu" else 0
        task = ray.remote(_trial).options(max_retries=0, num_cpus=1, num_gpus=gpus)
        self._trials[task.remote(config, self._samples, number, self._desk)] = number

    def wait(self) -> list[Event]:
        """Wait until trials have something to say, and return it; nothing after a second of silence."""
        ready, _ = ray.wait([self._next, *self._trials], num_returns=1, timeout=PATIENCE)
        return [self._heard() if one == self._next else self._ended(one) for one in ready]

    def close(self) -> None:
        """Leave the cluster; its trials end with that."""
        ray.shutdown()

    def _heard(self) -> Event:
        try:
            token, number, epoch, accuracy = ray.get(self._next)
        except RayActorError as error:
            raise SearchError(f"the process that gathers results is gone ({first_line(error)})") from None
        self._next = self._desk.next.remote()
        return Epoch(number, epoch, accuracy, lambda go_on: self._desk.answer.remote(token, go_on))

    def _ended(self, task: Any) -> Event:
        number = self._trials.pop(task)
        try:
            return Done(number, ray.get(task))
        except RayTaskError as error:
            if isinstance(error.cause, TrainerError | OSError):
                return Refused(number, error.cause)
            return Died(number, f"{type(error.cause).__name__}: {first_line(error.cause)}")
        except RayError as error:
            return Died(number, f"{type(error).__name__}: {first_line(error)}")


def _knock(address: str) -> None:
    """Raise OSError if nobody answers at an address with a port: Ray itself would try for many minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), PATIENCE * 10).close()


def _trial(config: Config, samples: tuple[Samples, Samples], number: int, desk: Any) -> Outcome:
    prepare_process(1)
    with tempfile.TemporaryDirectory(prefix="emotion-trial-") as run:
        return run_trial(
            config, *samples, Path(run), lambda epoch, accuracy: ray.get(desk.report.remote(number, epoch, accuracy))
        )
