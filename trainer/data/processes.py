"""Several processes for work on pictures."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait

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
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent is killed would wait for its next task for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
