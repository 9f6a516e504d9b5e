"""Which of its rows a command is to print."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import click


def chosen(names: Collection[str], known: Iterable[str]) -> set[str]:
    """Return the names, all that are known if there are none.

    Raises:
        click.UsageError: one is not known.
    """
    every = list(known)
    strange = sorted(set(names) - set(every))
    if strange:
        raise click.UsageError(f"there is no {', '.join(strange)}; there are {', '.join(every)}")
    return set(names or every)
