"""Networks with mistakes and the right checksum, tried in children.

`python -m tests.parts.mutated_models FIRST BEYOND` prints what became of each, a line a seed: empty if it runs, why
not, or `crash`, which is how a child of ours ended.
"""

from __future__ import annotations

import os
import random
import signal
import sys

from edge.litert import Network
from edge.trial import LIMIT, attempt
from tests.parts.mutations import mutated
from tests.parts.samples import model_parts

CRASH = "crash"


def network(seed: int) -> bytes:
    """Return the network that ships with a mistake; most of them where its structure is, at both ends of the file."""

    def place(chance: random.Random, length: int) -> int:
        where = chance.random()
        if where < 0.4:
            return chance.randrange(min(4096, length))
        return length - 1 - chance.randrange(min(16384, length)) if where < 0.8 else chance.randrange(length)

    return mutated(model_parts()[0], seed, place)


def _try(first: int, beyond: int, write: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for seed in range(first, beyond):
        signal.alarm(int(LIMIT))
        os.write(write, attempt(network(seed)).replace("\n", " ").encode() + b"\n")
    os._exit(0)


def main() -> None:
    """Try them, in a new child after each crash."""
    Network(model_parts()[0])  # so that children have all loaded
    seed, beyond = int(sys.argv[1]), int(sys.argv[2])
    while seed < beyond:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            _try(seed, beyond, write)
        os.close(write)
        with os.fdopen(read) as lines:
            for line in lines:
                print(line, end="")
                seed += 1
        if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            print(CRASH)
            seed += 1
        sys.stdout.flush()


if __name__ == "__main__":
    main()
