"""The settings file: read as YAML, checked, paths put right; every mistake is named with its line."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from edge.migrations import VersionError, migrate
from edge.named_files import no_authority, no_camera, no_file, no_place_for_outbox
from edge.regular import read_regular
from edge.settings import CameraSettings, Settings, SettingsError
from edge.strict_yaml import StrictYamlError, compose, construct
from edge.terminal import shown

#: Where the shell's `<(…)` and standard input are found: pipes that somebody has asked for by hand.
PIPES = {Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd")}
#: Plain words for mistakes, by pydantic's name of them.
PLAIN = {
    "extra_forbidden": "unknown key; emotion-edge example shows every key",
    "missing": "is missing; emotion-edge example shows every key",
    "empty": "is empty; write a value",
    "string_type": "must be text; put it in quotes",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list, such as [a, b]",
    "dict_type": "must have keys of its own below it; emotion-edge example shows them",
    "model_type": "must have keys of its own below it; emotion-edge example shows them",
    "path_type": "must be a path, as text",
    "too_short": "needs at least one entry",
    "string_too_long": "is too long; shorten it",
}


def load_settings(path: Path) -> Settings:
    """Read and check a settings file. Relative paths in it count from the file's folder.

    Raises:
        SettingsError: the file is missing, no YAML, or has a wrong key or value, or names a file that is missing or
            cannot be what it is named for.
    """
    root, content = _parse(path)
    if not isinstance(content, dict):
        raise SettingsError(f"{path}:1: expected keys and values such as 'cameras:', see emotion-edge example")
    try:
        settings = Settings.model_validate(content, context={"folder": path.parent})
    except ValidationError as error:
        lines = (_message(path, root, e["loc"], e["msg"], _kind(e)) for e in error.errors())
        raise SettingsError("\n".join(lines)) from None
    settings = _from_folder(settings, path.parent)
    problems = [_message(path, root, keys, text, "value_error") for keys, text in _file_problems(settings) if text]
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def with_place(path: Path | None, message: str) -> str:
    """Return a message that begins with a key, such as `metrics.port: …`, with file and line of the key before it.

    A message that begins otherwise comes back as it is, as do all without a settings file that can be read.
    """
    key, colon, text = message.partition(": ")
    if path is None or not colon or key.split(".")[0] not in Settings.model_fields:
        return message
    with contextlib.suppress(OSError, ValueError, yaml.YAMLError):  # it may have changed since it was loaded
        root = yaml.compose(_text(path), Loader=yaml.SafeLoader)
        where = shown(f"{path}:{_line(root, key.split('.'))}: {key}")
        return f"{where}: {text}"
    return message


def _parse(path: Path) -> tuple[yaml.Node | None, Any]:
    """Read a file as YAML of the present version: its nodes, which know their lines, and its content."""
    try:
        text = _text(path)
    except UnicodeDecodeError:
        raise SettingsError(f"{path}:1: no text in UTF-8; write the settings as YAML") from None
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; name an existing file, see emotion-edge example") from None
    try:
        root = compose(text, path)
        _migrate(root, path)
        return root, construct(root, path)
    except StrictYamlError as error:
        raise SettingsError(str(error)) from None


def _text(path: Path) -> str:
    """Read a file. Raises `OSError`, for a pipe or device too, but for those of `PIPES`."""
    if path.is_fifo() and path.parent in PIPES:
        return _piped(path, path.stat().st_ino)
    return read_regular(path).decode("utf-8")


@functools.cache
def _piped(path: Path, _number: int) -> str:
    """Read a pipe, which can be read once only, and remember what came."""
    return path.read_text(encoding="utf-8")


def _migrate(root: yaml.Node | None, path: Path) -> None:
    if isinstance(root, yaml.MappingNode):
        try:
            migrate(root)
        except VersionError as error:
            raise SettingsError(_message(path, root, ("version",), str(error), "value_error")) from None


def _from_folder(settings: Settings, folder: Path) -> Settings:
    cameras = {name: _camera_from_folder(camera, folder) for name, camera in settings.cameras.items()}
    outbox = settings.outbox
    if "path" in outbox.model_fields_set:  # a copy has what was changed among what was set
        outbox = outbox.model_copy(update={"path": folder / outbox.path})
    mqtt = settings.mqtt
    if mqtt.tls is not None:
        tls = mqtt.tls.model_copy(update={key: folder / path for key, path in mqtt.tls.files.items()})
        mqtt = mqtt.model_copy(update={"tls": tls})
    detector = settings.detector
    if detector.model is not None:
        detector = detector.model_copy(update={"model": folder / detector.model})
    changes = {
        "cameras": cameras,
        "model": folder / settings.model,
        "detector": detector,
        "outbox": outbox,
        "mqtt": mqtt,
    }
    return settings.model_copy(update=changes)


def _camera_from_folder(camera: CameraSettings, folder: Path) -> CameraSettings:
    changes: dict[str, Any] = {}
    if camera.kind in ("file", "images"):
        # Joining paths would drop the slash that tells a folder.
        changes["source"] = f"{folder / camera.source}{'/' if camera.kind == 'images' else ''}"
    if camera.tls.ca is not None:
        changes["tls"] = camera.tls.model_copy(update={"ca": folder / camera.tls.ca})
    return camera.model_copy(update=changes)


def _file_problems(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the keys of each file that the settings name, and what is wrong with it: mostly nothing."""
    yield ("outbox", "path"), no_place_for_outbox(settings.outbox.path)
    for key, file in (settings.mqtt.tls.files if settings.mqtt.tls else {}).items():
        yield ("mqtt", "tls", key), no_authority(file) if key == "ca" else no_file(file)
    for name, camera in settings.cameras.items():
        yield ("cameras", name, "source"), _source_problem(camera)
        if camera.tls.ca is not None:
            yield ("cameras", name, "tls", "ca"), no_authority(camera.tls.ca)


def _source_problem(camera: CameraSettings) -> str:
    if camera.kind == "file" and os.path.isdir(camera.source):
        return f"{camera.source}: is a folder; put a slash at its end"
    if camera.kind == "file":
        return no_file(camera.source)
    if camera.kind == "images" and not os.path.isdir(camera.source):
        return f"{camera.source}: no such folder; name an existing one"
    return no_camera(camera.source) if camera.kind == "webcam" and not camera.source.isdecimal() else ""


def _kind(mistake: ErrorDetails) -> str:
    """Return the kind of a mistake; of a key without a value the value is missing, whatever it should be."""
    empty = mistake["input"] is None and mistake["type"] != "extra_forbidden"
    return "empty" if empty else mistake["type"]


def _message(path: Path, root: yaml.Node | None, keys: tuple[int | str, ...], message: str, kind: str) -> str:
    text = PLAIN.get(kind, message.removeprefix("Value error, ").replace("Input should be", "must be"))
    names = [str(key) for key in keys if key != "[key]"]
    return shown(f"{path}:{_line(root, names)}: {'.'.join(names)}: {text}")


def _line(root: yaml.Node | None, names: list[str]) -> int:
    """Return the line of the key at the end of the path `names`, or of the deepest part of it that is there."""
    line, node = 1, root
    for name in names:
        if not isinstance(node, yaml.MappingNode):
            break
        for key, value in node.value:
            if str(key.value) == name:
                line, node = key.start_mark.line + 1, value
                break
        else:
            break
    return line
