"""Several processes, none of which outlives its parent."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

import cv2


@contextmanager
def pool(tasks: int) -> Iterator[ProcessPoolExecutor]:
    """Start a process a core, or a task where there are fewer; what has not begun when the block fails is given up."""
    # Fresh processes: a fork of one in which TensorFlow runs its threads may hang.
    fresh = multiprocessing.get_context("spawn")
    workers = ProcessPoolExecutor(max(1, min(tasks, os.cpu_count() or 1)), fresh, _begin)
    try:
        yield workers
    finally:
        workers.shutdown(cancel_futures=True)


def _begin() -> None:
    cv2.setNumThreads(1)
    end_with_parent()


def end_with_parent() -> None:
    """From now on, end this process at once when its parent has ended: it would work on unheard, or wait for ever."""
    threading.Thread(target=_outlive, args=(multiprocessing.parent_process(),), daemon=True).start()


def _outlive(parent: BaseProcess | None) -> None:
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
