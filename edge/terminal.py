"""What is said to people: no file name, setting or message of others may steer their terminal."""

from __future__ import annotations


def shown(text: str, keep: str = "") -> str:
    r"""Return a text with what is not printable written out, such as `\x1b`, but for the characters in `keep`."""
    return "".join(
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode() for each in text
    )
