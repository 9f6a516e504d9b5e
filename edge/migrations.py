"""Settings files of older versions, brought to the present form: as YAML nodes, which know their lines."""

from __future__ import annotations

from collections.abc import Callable

import yaml

#: Of the settings file's format; written as `version:`.
VERSION = 2


class VersionError(ValueError):
    """The file's version is none that can be read; the message says which can."""


def migrate(root: yaml.MappingNode) -> None:
    """Bring the keys of a settings file to the present version, in place.

    A file that says no version may use the keys of any.

    Raises:
        VersionError: its version is none that can be read.
    """
    node = _value(root, "version")
    said = node.value if isinstance(node, yaml.ScalarNode) else "1" if node is None else ""
    versions = {str(number): number for number in range(1, VERSION + 1)}
    if said not in versions:
        raise VersionError(f"this emotion-edge reads versions 1 to {VERSION}; write one of them, or update it")
    for number in range(versions[said], VERSION):
        STEPS[number](root)
    if isinstance(node, yaml.ScalarNode):
        node.value = str(VERSION)


def _group_log(root: yaml.MappingNode) -> None:
    """1 → 2: `log_level` and `log_format` are `level` and `format` of `log`."""
    _move(root, "log_level", "log", "level")
    _move(root, "log_format", "log", "format")


#: By the version that they read.
STEPS: dict[int, Callable[[yaml.MappingNode], None]] = {1: _group_log}


def _move(root: yaml.MappingNode, old: str, section: str, new: str) -> None:
    """Move a top-level key into a section, which is made if there is none."""
    found = next((pair for pair in root.value if pair[0].value == old), None)
    if found is None:
        return
    key, value = found
    root.value.remove(found)
    target = _value(root, section)
    if target is None:
        target = yaml.MappingNode("tag:yaml.org,2002:map", [], key.start_mark, value.end_mark)
        name = yaml.ScalarNode("tag:yaml.org,2002:str", section, key.start_mark, key.end_mark)
        root.value.append((name, target))
    if isinstance(target, yaml.MappingNode):
        target.value.append((yaml.ScalarNode(key.tag, new, key.start_mark, key.end_mark), value))


def _value(root: yaml.MappingNode, name: str) -> yaml.Node | None:
    return next((value for key, value in root.value if key.value == name), None)
