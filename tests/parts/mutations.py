"""Seeded mistakes in files: flipped bits, lost and doubled bytes, numbers at their limits. One seed, one mistake."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

#: How many mistakes a fuzz makes; `FUZZ=10000` is the long form.
VARIABLE = "FUZZ"
NUMBERS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
BYTES = (0, 1, 127, 128, 255)


def seeds(short: int) -> range:
    """Return the seeds of a fuzz: so many in the short form, or as many as `$FUZZ` says."""
    return range(int(os.environ.get(VARIABLE, short)))


def mutated(content: bytes, seed: int, place: Callable[[random.Random, int], int] | None = None) -> bytes:
    """Return a copy with a mistake or some.

    Args:
        content: of the file.
        seed: of the mistake.
        place: chooses where, from the length; anywhere by default.
    """
    chance = random.Random(seed)
    found = bytearray(content)

    def somewhere() -> int:
        return place(chance, len(found)) if place else chance.randrange(len(found))

    kind = chance.randrange(6)
    if kind == 0:
        for _ in range(chance.choice((1, 1, 2, 8))):
            found[somewhere()] ^= 1 << chance.randrange(8)
    elif kind == 1:
        for _ in range(chance.choice((1, 4))):
            found[somewhere()] = chance.choice(BYTES)
    elif kind == 2:
        at = somewhere() // 4 * 4
        found[at : at + 4] = chance.choice((*NUMBERS, chance.getrandbits(32))).to_bytes(4, "little")
    elif kind == 3:
        del found[chance.randrange(len(found)) :]
    elif kind == 4:
        at, other = somewhere(), somewhere()
        found[at : at + 16] = found[other : other + 16]
    else:
        at = somewhere()
        length = chance.choice((1, 4, 64))
        found[at : at + chance.choice((0, length))] = found[at : at + length] * chance.choice((0, 2))
    return bytes(found)
