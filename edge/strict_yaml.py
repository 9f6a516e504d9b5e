"""YAML for settings: what it lets pass and no key can mean is refused, with its line."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from edge.terminal import shown

#: What unquoted words can be to YAML 1.1 that are meant as a name, such as `off`.
NO_TEXT = {
    "tag:yaml.org,2002:bool": "true or false",
    "tag:yaml.org,2002:int": "a number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:null": "nothing",
    "tag:yaml.org,2002:timestamp": "a date",
}
#: What the constructors of YAML raise of a value that is none of its kind, besides what they mean to.
NO_VALUE = (ValueError, LookupError, AttributeError, TypeError, OverflowError)
#: So many values a file may stand for, its aliases written out: a few lines of aliases to aliases are millions.
MOST_VALUES = 100_000


class StrictYamlError(ValueError):
    """The text is no YAML, or YAML that nothing can be meant by; the message names file, line and remedy."""


def read(path: Path) -> Any:
    """Return the content of a file.

    Raises:
        StrictYamlError: as of `compose` and `construct`.
        OSError: it cannot be read.
        UnicodeDecodeError: it is no text.
    """
    return construct(compose(path.read_text(encoding="utf-8"), path), path)


def compose(text: str, path: Path) -> yaml.Node | None:
    """Read YAML as nodes, which know their lines; none of an empty text.

    Args:
        text: the YAML.
        path: what it is named in messages.

    Raises:
        StrictYamlError: it is none, or has a key twice, half of a character, or far too many values.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _check(root, path, {})
        return root
    except yaml.YAMLError as error:
        raise StrictYamlError(_message(path, error)) from None
    except RecursionError:
        raise StrictYamlError(f"{path}: nested too deeply, or in itself; write it out") from None


def construct(root: yaml.Node | None, path: Path) -> Any:
    """Return the content of nodes that `compose` gave.

    Raises:
        StrictYamlError: a tag is unknown, or its value none of its kind.
    """
    try:
        return None if root is None else SafeConstructor().construct_document(root)
    except yaml.YAMLError as error:
        raise StrictYamlError(_message(path, error)) from None
    except NO_VALUE:
        raise StrictYamlError(f"{path}: a value is none of the kind that its tag says; leave out the tag") from None


def _check(node: yaml.Node, path: Path, sizes: dict[int, int]) -> int:
    """Refuse what no key can mean; returns how many values the node stands for.

    Args:
        node: to be checked, with all below it.
        path: what its file is named in messages.
        sizes: of the nodes that were checked; 0 for one that is being checked. An alias is the node that it names.
    """
    if id(node) not in sizes:
        sizes[id(node)] = 0
        sizes[id(node)] = _size(node, path, sizes)
    elif not sizes[id(node)]:
        raise RecursionError
    return sizes[id(node)]


def _size(node: yaml.Node, path: Path, sizes: dict[int, int]) -> int:
    where = f"{path}:{node.start_mark.line + 1}"
    size = 1
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(node, where)
    elif isinstance(node, yaml.MappingNode):
        _check_keys(node, path)
        size += sum(_check(key, path, sizes) + _check(value, path, sizes) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_check(item, path, sizes) for item in node.value)
    if size > MOST_VALUES:
        raise StrictYamlError(f"{where}: stands for more than {MOST_VALUES:,} values; leave some out")
    return size


def _check_scalar(node: yaml.ScalarNode, where: str) -> None:
    if any("\ud800" <= each <= "\udfff" for each in node.value):
        raise StrictYamlError(shown(f"{where}: half of a character, such as \\ud800; write the character itself"))
    try:
        with contextlib.suppress(yaml.YAMLError):  # told of the whole, where it matters
            SafeConstructor().construct_document(node)
    except NO_VALUE:  # from a value such as 2024-13-45, or !!int x
        # It may be a secret, so it is not repeated.
        raise StrictYamlError(f"{where}: a value looks like a date or number but is none; put it in quotes") from None


def _check_keys(node: yaml.MappingNode, path: Path) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        where = f"{path}:{key.start_mark.line + 1}: {key.value}"
        if key.tag in NO_TEXT:
            raise StrictYamlError(shown(f"{where}: YAML reads this as {NO_TEXT[key.tag]}; put it in quotes"))
        if str(key.value) in seen:
            raise StrictYamlError(shown(f"{where}: stands here twice; remove one"))
        seen.add(str(key.value))


def _message(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "not YAML"
    if re.search(r"alias|anchor|\btag\b", problem):
        # The problem would quote what follows, and that may be a password.
        problem = "a value that begins with *, & or ! needs quotes"
    return f"{path}:{mark.line + 1 if mark else 1}: {problem}; mend the YAML (indentation, quotes, colons)"
