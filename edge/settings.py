"""The settings: one YAML file, every key checked, every mistake named with its line."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from edge.bundle import DEFAULT_MODEL

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]
Host = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https")
LARGEST_INDEX = 255


class SettingsError(ValueError):
    """The settings cannot be used; each line of the message names file, line, key and remedy."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Login(_Section):
    username: str | None = None
    password: SecretStr | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.password is not None and self.username is None:
            raise ValueError("a password without a username; give both or neither")
        return self


class CameraSettings(_Login):
    """One camera.

    Attributes:
        source: an `rtsp://` or `http://` address, the index or device of a webcam, or the path of a video file.
        username: for an address only; encoded where needed, so write it as it is.
        password: likewise.
        pace: of a file: as it was recorded, or as fast as it can be analysed.
        loop: start a file again when it ends.
    """

    source: str = Field(min_length=1)
    pace: Literal["realtime", "fast"] = "realtime"
    loop: bool = False

    @field_validator("source", mode="before")
    @classmethod
    def _index(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("source")
    @classmethod
    def _no_login(cls, value: str) -> str:
        parts = _split(value)
        if "://" in value and parts.scheme not in NETWORK_SCHEMES:
            raise ValueError(f"no known kind of address; use one of {', '.join(NETWORK_SCHEMES)}")
        if parts.scheme in NETWORK_SCHEMES and not parts.hostname:
            raise ValueError("the address names no host; write scheme://host:port/path")
        if "@" in parts.netloc:
            raise ValueError("user and password in the address would reach logs; use the keys username and password")
        if value.isdecimal() and int(value) > LARGEST_INDEX:
            raise ValueError(f"no webcam has an index above {LARGEST_INDEX}")
        return value

    @model_validator(mode="after")
    def _login_has_a_use(self) -> Self:
        if self.username is not None and self.kind != "network":
            raise ValueError("username and password are for a network address; remove them, or mend the source")
        return self

    @property
    def kind(self) -> Literal["network", "webcam", "file"]:
        """Tell what `source` is."""
        if _split(self.source).scheme in NETWORK_SCHEMES:
            return "network"
        return "webcam" if self.source.isdecimal() or self.source.startswith("/dev/") else "file"

    def address(self) -> str:
        """Return `source` with the login in it. A secret: only for opening the stream."""
        if self.username is None:
            return self.source
        parts = urlsplit(self.source)
        password = self.password.get_secret_value() if self.password else ""
        login = f"{quote(self.username, safe='')}:{quote(password, safe='')}"
        return parts._replace(netloc=f"{login}@{parts.netloc}").geturl()


class DetectorSettings(_Section):
    """Finding faces: `threshold` is the least confidence of a new face, `keep` that of one already followed."""

    threshold: float = Field(0.45, gt=0, lt=1)
    keep: float = Field(0.3, gt=0, lt=1)

    @field_validator("keep")
    @classmethod
    def _below(cls, value: float, info: ValidationInfo) -> float:
        if value > info.data.get("threshold", 1):
            raise ValueError("must not be above detector.threshold")
        return value


class TrackingSettings(_Section):
    """Following faces and deciding when an emotion has changed; times in seconds, thresholds as probabilities."""

    appear: Seconds = 0.5
    lost: Seconds = 2.0
    smoothing: Seconds = 0.6
    enter: float = Field(0.5, gt=0, lt=1)
    exit: float = Field(0.4, gt=0, lt=1)
    dwell: float = Field(0.5, ge=0, le=60)


class MqttSettings(_Login):
    """The broker."""

    host: Host = "127.0.0.1"
    port: Port = 1883
    base: Annotated[str, StringConstraints(pattern=r"^[^+#\s/]+(/[^+#\s/]+)*$")] = "emotion"
    keepalive: int = Field(30, ge=5, le=3600)


class MetricsSettings(_Section):
    """Where `/metrics`, `/healthz` and `/readyz` listen."""

    host: Literal["127.0.0.1", "::1", "localhost"] = "127.0.0.1"
    port: Port = 9464


def default_node() -> str:
    """Return the host's name as the name of the node."""
    return re.sub(r"[^a-z0-9_-]+", "-", socket.gethostname().split(".")[0].lower())[:64] or "node"


class Settings(_Section):
    """Everything that the daemon can be told."""

    version: Literal[1] = 1
    node: Name = Field(default_factory=default_node)
    cameras: dict[Name, CameraSettings] = Field(min_length=1)
    model: Path = DEFAULT_MODEL
    workers: int = Field(0, ge=0, le=64)
    detector: DetectorSettings = DetectorSettings()
    tracking: TrackingSettings = TrackingSettings()
    mqtt: MqttSettings = MqttSettings()
    metrics: MetricsSettings = MetricsSettings()
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def load_settings(path: Path) -> Settings:
    """Read and check a settings file. Relative paths of the model and of video files count from the file's folder.

    Raises:
        SettingsError: the file is missing, no YAML, or has a wrong key or value.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{path}:1: no text in UTF-8; write the settings as YAML") from None
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; name an existing file, see configs/edge.yaml") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_doubled_keys(root, path)
        content = yaml.safe_load(text)
    except SettingsError:
        raise
    except yaml.YAMLError as error:
        raise SettingsError(_yaml_message(path, error)) from None
    except (ValueError, KeyError, AttributeError):  # from a value such as 2024-13-45, or !!int x
        raise SettingsError(f"{path}: a value looks like a date or number but is none; put it in quotes") from None
    except RecursionError:
        raise SettingsError(f"{path}: nested too deeply, or in itself; write it out, see configs/edge.yaml") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{path}:1: expected keys and values such as 'cameras:', see configs/edge.yaml")
    try:
        settings = Settings.model_validate(content)
    except ValidationError as error:
        lines = (_message(path, root, e["loc"], e["msg"], e["type"]) for e in error.errors())
        raise SettingsError("\n".join(lines)) from None
    return _from_folder(settings, path.parent)


def _split(source: str) -> Any:
    try:
        parts = urlsplit(source)
        _ = parts.port  # raises if it is none
    except ValueError:
        raise ValueError("not a valid address; write scheme://host:port/path") from None
    return parts


def _from_folder(settings: Settings, folder: Path) -> Settings:
    cameras = {
        name: camera.model_copy(update={"source": str(folder / camera.source)}) if camera.kind == "file" else camera
        for name, camera in settings.cameras.items()
    }
    return settings.model_copy(update={"cameras": cameras, "model": folder / settings.model})


def _yaml_message(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "not YAML"
    if re.search(r"alias|anchor|\btag\b", problem):
        # The problem would quote what follows, and that may be a password.
        problem = "a value that begins with *, & or ! needs quotes"
    return f"{path}:{mark.line + 1 if mark else 1}: {problem}; mend the YAML (indentation, quotes, colons)"


def _message(path: Path, root: yaml.Node | None, keys: tuple[int | str, ...], message: str, kind: str) -> str:
    text = message.removeprefix("Value error, ")
    if kind == "extra_forbidden":
        text = "unknown key; configs/edge.yaml shows every key"
    elif kind == "missing":
        text = "is missing; configs/edge.yaml shows every key"
    elif kind == "string_type":
        text = "must be text; put it in quotes"
    names = [str(key) for key in keys if key != "[key]"]
    return f"{path}:{_line(root, names)}: {'.'.join(names)}: {text}"


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


def _refuse_doubled_keys(node: yaml.Node | None, path: Path) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_doubled_keys(item, path)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if str(key.value) in seen:
            raise SettingsError(f"{path}:{key.start_mark.line + 1}: {key.value}: stands here twice; remove one")
        seen.add(str(key.value))
        _refuse_doubled_keys(value, path)
