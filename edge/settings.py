"""The settings: every key, what it may be, and what it is if left out."""

from __future__ import annotations

import math
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    WrapValidator,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from edge.addresses import CONTROL, TOPIC, host_and_port, only_a_host, usable_path
from edge.bundle import DEFAULT_MODEL
from edge.schedule import INTERVAL
from edge.secret import secret
from edge.section import Section
from edge.tracking import Rules


def _polygons(value: Any) -> Any:
    """Check polygons as a whole: one message a corner would be many."""
    try:
        polygons = tuple(tuple((float(x), float(y)) for x, y in polygon) for polygon in value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("must be a list of polygons, each a list of corners [x, y]") from None
    for polygon in polygons:
        if len(polygon) < 3 or not all(0 <= number <= 1 for corner in polygon for number in corner):
            raise ValueError("a polygon needs at least three corners [x, y] in fractions from 0 to 1")
        if _on_one_line(polygon):
            raise ValueError("all corners of a polygon are on one line, so no face is in it; mend or remove it")
    return polygons


def _on_one_line(polygon: tuple[tuple[float, float], ...]) -> bool:
    (x, y), *others = polygon
    across, down = max(((each[0] - x, each[1] - y) for each in others), key=lambda side: math.hypot(*side))
    return all(abs((each[0] - x) * down - (each[1] - y) * across) < 1e-9 for each in others)


NAME = r"^[a-z0-9_-]{1,64}$"


def _matching(pattern: str, remedy: str) -> WrapValidator:
    """Say in plain words what text must look like that does not match a pattern."""

    def check(value: Any, handler: Callable[[Any], str], _info: ValidationInfo) -> str:
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            raise ValueError(remedy)
        return handler(value)

    return WrapValidator(check)


Name = Annotated[
    str,
    StringConstraints(pattern=NAME),
    _matching(NAME, "a name consists of a-z, 0-9, _ and -, at most 64 of them"),
]
Host = Annotated[str, StringConstraints(min_length=1, max_length=253), AfterValidator(only_a_host)]
Port = Annotated[int, Field(ge=1, le=65535)]
Topic = Annotated[
    str,
    StringConstraints(pattern=f"^{TOPIC}$", max_length=255),
    _matching(TOPIC, "a topic has no +, # or blanks, no $ at its beginning, and no / at its beginning or end"),
]
Command = Literal["pause", "resume", "reload", "threshold", "snapshot"]
UsablePath = Annotated[Path, AfterValidator(usable_path)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Polygons = Annotated[tuple[tuple[tuple[float, float], ...], ...], BeforeValidator(_polygons)]
NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https")
ENCRYPTED_SCHEMES = ("rtsps", "https")
LARGEST_INDEX = 255
#: Characters of a token that nobody finds by trying, if they were drawn at random.
SHORTEST_TOKEN = 16
ALPN = r"[\x21-\x7e]{1,255}"
#: Bytes of a user name or password, at most, because MQTT has no room for more.
LONGEST_LOGIN = 65_535
WEB_PATH = r"/[^\s\x00-\x1f\x7f]*"
#: Listens at all addresses of the machine, and is none that could be opened.
EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared, not listened on
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _secret(value: object, info: ValidationInfo) -> object:
    folder = info.context.get("folder", Path()) if info.context else Path()
    return secret(value, folder)


Secret = Annotated[SecretStr, BeforeValidator(_secret)]


def is_name(text: str) -> bool:
    """Tell whether nodes and cameras may have a name."""
    return re.fullmatch(NAME.strip("^$"), text) is not None


class SettingsError(ValueError):
    """The settings cannot be used; each line of the message names file, line, key and remedy."""


class _Login(Section):
    username: str | None = None
    password: Secret | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.password is not None and self.username is None:
            raise ValueError("a password without a username; give both or neither")
        words = (self.username, self.password.get_secret_value() if self.password else None)
        if any(CONTROL.search(word) for word in words if word):
            raise ValueError("username and password have no line breaks or other control characters; remove them")
        if any(len(word.encode()) > LONGEST_LOGIN for word in words if word):
            raise ValueError(f"username and password have {LONGEST_LOGIN} bytes at most")
        return self


class TlsSettings(Section):
    """How an encrypted stream is checked.

    Attributes:
        ca: file with the certificate of the authority that signed the camera's; the system's if left out.
        insecure: take any certificate.
    """

    ca: UsablePath | None = None
    insecure: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.insecure and self.ca is not None:
            raise ValueError("insecure takes any certificate, so ca has no use; remove one of them")
        if self.ca is not None and re.search(r"[;|]", str(self.ca)):
            raise ValueError("FFmpeg cannot be told of a path with ; or |; give the file another name")
        return self


class CameraSettings(_Login):
    """One camera.

    Attributes:
        source: an `rtsp://` or `http://` address, the index or device of a webcam, `picamera` or `picamera:1`, the path
            of a video file, or that of a folder of pictures, with a slash at its end.
        username: for an address only; encoded where needed, so write it as it is.
        password: likewise.
        tls: of an `rtsps://` or `https://` address.
        pace: of a file or folder: as it was recorded, or as fast as it can be analysed.
        loop: start a file or folder again when it ends.
        fps: of a folder: pictures a second.
        max_fps: frames a second that are analysed, at most; 0 for all.
        rotation: degrees clockwise by which pictures are turned before all else.
        zones: polygons of corners in fractions of the picture; a face counts if its centre is in one of them, or if
            there are none.
        masks: likewise, but a face whose centre is in one of them does not count.
        min_face: least height of a face that counts, in fractions of the picture's height.
        motion: least share of the picture that must have changed for a frame to be analysed; 0 for every frame.
        faces: publish the faces in view after each analysed frame; never with `privacy: aggregate`.
    """

    source: str = Field(min_length=1, max_length=4096)
    tls: TlsSettings = TlsSettings()
    pace: Literal["realtime", "fast"] = "realtime"
    loop: bool = False
    fps: float = Field(1.0, gt=0, le=240)
    max_fps: float = Field(0.0, ge=0, le=240)
    rotation: Literal[0, 90, 180, 270] = 0
    zones: Polygons = ()
    masks: Polygons = ()
    min_face: float = Field(0.0, ge=0, lt=1)
    motion: float = Field(0.0, ge=0, lt=1)
    faces: bool = False

    @field_validator("source", mode="before")
    @classmethod
    def _index(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("source")
    @classmethod
    def _no_login(cls, value: str) -> str:
        if CONTROL.search(value):
            raise ValueError("a source has no control characters such as tabs or line breaks")
        parts = _split(value)
        if "://" in value and parts.scheme not in NETWORK_SCHEMES:
            raise ValueError(f"no known kind of address; use one of {', '.join(NETWORK_SCHEMES)}")
        if parts.scheme in NETWORK_SCHEMES and not parts.hostname:
            raise ValueError("the address names no host; write scheme://host:port/path")
        if parts.scheme in NETWORK_SCHEMES and re.search(r"\s", value):
            raise ValueError("there are no blanks in an address; write %20 for one in a path")
        if "@" in parts.netloc:
            raise ValueError("user and password in the address would reach logs; use the keys username and password")
        if re.fullmatch(r"-[0-9]+", value) or (value.isdecimal() and int(value) > LARGEST_INDEX):
            raise ValueError(f"no webcam has this index; use 0 to {LARGEST_INDEX}")
        if value.startswith("picamera:") and not re.fullmatch(r"picamera:[0-9]", value):
            raise ValueError("no such camera; use picamera or picamera:0")
        if parts.scheme not in NETWORK_SCHEMES:
            return usable_path(value)
        only_a_host(parts.hostname)
        if parts.port == 0:
            raise ValueError("nothing answers at port 0; write the camera's, or none for the usual one")
        return value

    @model_validator(mode="after")
    def _keys_have_a_use(self) -> Self:
        if self.username is not None and self.kind != "network":
            raise ValueError("username and password are for a network address; remove them, or mend the source")
        if self.tls != TlsSettings() and not self.encrypted:
            raise ValueError("tls is for an rtsps:// or https:// address; remove it, or mend the source")
        if (self.loop or self.pace == "fast") and not self.recorded:
            raise ValueError("loop and pace are for a file or folder; remove them, or mend the source")
        if "fps" in self.model_fields_set and self.kind != "images":
            raise ValueError("fps is for a folder of pictures; for other sources there is max_fps")
        return self

    @property
    def kind(self) -> Literal["network", "webcam", "picamera", "file", "images"]:
        """Tell what `source` is."""
        if _split(self.source).scheme in NETWORK_SCHEMES:
            return "network"
        if self.source == "picamera" or self.source.startswith("picamera:"):
            return "picamera"
        if self.source.isdecimal() or self.source.startswith("/dev/"):
            return "webcam"
        return "images" if self.source.endswith("/") else "file"

    @property
    def recorded(self) -> bool:
        """Tell whether frames wait for whoever takes them: those of a file or folder do."""
        return self.kind in ("file", "images")

    @property
    def encrypted(self) -> bool:
        """Tell whether `source` is an address with TLS."""
        return _split(self.source).scheme in ENCRYPTED_SCHEMES

    def address(self) -> str:
        """Return `source` with the login in it. A secret: only for opening the stream."""
        if self.username is None:
            return self.source
        parts = urlsplit(self.source)
        password = self.password.get_secret_value() if self.password else ""
        login = f"{quote(self.username, safe='')}:{quote(password, safe='')}"
        return parts._replace(netloc=f"{login}@{parts.netloc}").geturl()


class DetectorSettings(Section):
    """Finding faces.

    Attributes:
        model: file with YuNet, for whole pictures; BlazeFace "back" if left out.
        threshold: least confidence of a new face.
        keep: least confidence of one already followed.
        interval: seconds between looks at the whole picture, 0.5 if that is longer where nothing changes; in the
            frames between only the places where faces are expected are looked at, if at all. 0 for the whole of every
            frame.
    """

    model: UsablePath | None = None
    threshold: float = Field(0.45, gt=0, lt=1)
    keep: float = Field(0.3, gt=0, lt=1, validate_default=True)
    interval: float = Field(INTERVAL, ge=0, le=60)

    @field_validator("keep")
    @classmethod
    def _below(cls, value: float, info: ValidationInfo) -> float:
        if value > info.data.get("threshold", 1):
            raise ValueError(f"{value:g} must not be above detector.threshold; lower the one or raise the other")
        return value


class TrackingSettings(Section):
    """Following faces and deciding when an emotion has changed; times in seconds, thresholds as probabilities."""

    appear: Seconds = 0.5
    lost: Seconds = 2.0
    smoothing: Seconds = 0.6
    enter: float = Field(0.5, gt=0, lt=1)
    exit: float = Field(0.4, gt=0, lt=1, validate_default=True)
    dwell: float = Field(0.5, ge=0, le=60)

    @field_validator("exit")
    @classmethod
    def _below(cls, value: float, info: ValidationInfo) -> float:
        if value > info.data.get("enter", 1):
            raise ValueError(f"{value:g} must not be above tracking.enter; lower the one or raise the other")
        return value


class MqttTlsSettings(Section):
    """How the connection to the broker is encrypted.

    Attributes:
        ca: file with the certificate of the authority that signed the broker's; the system's if left out.
        certificate: file with our own certificate, for a broker that asks for one …
        key: … and with its key.
        alpn: names of the protocol to ask for, such as a broker behind port 443 wants.
        insecure: take any certificate.
    """

    ca: UsablePath | None = None
    certificate: UsablePath | None = None
    key: UsablePath | None = None
    alpn: tuple[
        Annotated[str, StringConstraints(pattern=f"^{ALPN}$"), _matching(ALPN, "must be plain letters")], ...
    ] = ()
    insecure: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.insecure and self.ca is not None:
            raise ValueError("insecure takes any certificate, so ca has no use; remove one of them")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together; give both or neither")
        return self

    @property
    def files(self) -> dict[str, Path]:
        """The files by their keys."""
        named = {"ca": self.ca, "certificate": self.certificate, "key": self.key}
        return {key: path for key, path in named.items() if path is not None}


class MqttSettings(_Login):
    """The broker, and others to try in turn when it does not answer; all with one login and one way to connect.

    Attributes:
        tls: how the connection is encrypted; not at all if left out.
        transport: MQTT over TCP or over websockets.
        path: of the websocket.
    """

    host: Host = "127.0.0.1"
    port: Port = 1883
    fallbacks: tuple[Annotated[str, AfterValidator(host_and_port)], ...] = ()
    tls: MqttTlsSettings | None = None
    transport: Literal["tcp", "websockets"] = "tcp"
    path: Annotated[
        str, StringConstraints(pattern=f"^{WEB_PATH}$"), _matching(WEB_PATH, "a path begins with / and has no blanks")
    ] = "/mqtt"
    base: Topic = "emotion"
    keepalive: int = Field(30, ge=5, le=3600)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every broker, in the order to be tried."""
        others = (fallback.rpartition(":") for fallback in self.fallbacks)
        return [(self.host, self.port), *((host, int(port)) for host, _, port in others)]


class OutboxSettings(Section):
    """Where events wait for the broker.

    Attributes:
        path: of the file.
        durability: `full` waits at each commit until the disk has it, `normal` leaves that to the system.
        max_megabytes: of waiting events; the oldest are dropped.
        max_days: that an event waits.
    """

    path: UsablePath = Field(default_factory=lambda: default_outbox())
    durability: Literal["full", "normal"] = "full"
    max_megabytes: float = Field(64.0, ge=0.1, le=10_000)
    max_days: float = Field(7.0, gt=0, le=365)


class CommandsSettings(Section):
    """What may be asked of the daemon at `<base>/<node>/set` and `<base>/<node>/<camera>/set`.

    Attributes:
        allow: the commands that are carried out. `threshold` is not among them by default: it can make the daemon
            report what the settings say it should not.
    """

    allow: tuple[Command, ...] = ("pause", "resume", "reload", "snapshot")


class HomeAssistantSettings(Section):
    """Announcing the cameras to Home Assistant.

    Attributes:
        discovery: whether they are announced.
        prefix: of the topics, as Home Assistant is told it.
    """

    discovery: bool = True
    prefix: Topic = "homeassistant"


class SummarySettings(Section):
    """What each camera saw over a `period` of seconds."""

    period: float = Field(60.0, ge=1, le=86_400)


class MetricsSettings(Section):
    """Where `/metrics`, `/healthz` and `/readyz` listen.

    Attributes:
        token: what `/metrics` wants as `Authorization: Bearer …`; beyond this machine there must be one, or `none`.
    """

    host: Host = "127.0.0.1"
    port: Port = 9464
    token: Annotated[Secret, Field(min_length=1)] | None = None

    @field_validator("token", mode="before")
    @classmethod
    def _not_empty(cls, value: object) -> object:
        if value == "":
            raise ValueError("must not be empty; write a long random text, or leave token out")
        return value

    @field_validator("token")
    @classmethod
    def _fit_for_a_header(cls, token: SecretStr | None) -> SecretStr | None:
        text = token.get_secret_value() if token else ""
        if text != text.strip() or CONTROL.search(text):
            raise ValueError("a token has no blanks at its ends and no control characters; no request could bring it")
        return token

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if not self.local and self.token is None:
            raise ValueError(
                "beyond this machine metrics want a token; write token: and a long random text, or token: none"
            )
        return self

    @property
    def address(self) -> str:
        """Where a browser finds what listens here, such as `http://127.0.0.1:9464`."""
        host = socket.gethostname() if self.host in EVERY_ADDRESS else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def local(self) -> bool:
        """Tell whether only this machine can ask."""
        return self.host in LOOPBACK

    @property
    def open(self) -> bool:
        """Tell whether whoever reaches the port is answered."""
        return self.token is None or self.token.get_secret_value() == "none"


class PreviewSettings(Section):
    """A page at `/preview`, where the metrics are, that shows what the cameras see and what is read from it.

    Attributes:
        enabled: whether there is one.
    """

    enabled: bool = False


class LogSettings(Section):
    """What is said on stderr.

    Attributes:
        level: the least grave of what is said.
        format: a line for people and systemd's journal, or an object a line for programs.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


def default_outbox() -> Path:
    """Return `outbox.db` in the folder that systemd gives to the service, or in the user's folder for such files."""
    service, user = os.environ.get("STATE_DIRECTORY"), os.environ.get("XDG_STATE_HOME")
    folder = (
        Path(service.split(":")[0]) if service else Path(user or os.path.expanduser("~/.local/state")) / "emotion-edge"
    )
    return folder / "outbox.db"


def default_node() -> str:
    """Return the host's name as the name of the node."""
    return re.sub(r"[^a-z0-9_-]+", "-", socket.gethostname().split(".")[0].lower())[:64] or "node"


class Settings(Section):
    """Everything that the daemon can be told."""

    version: Literal[2] = 2
    node: Name = Field(default_factory=default_node)
    cameras: dict[Name, CameraSettings] = Field(min_length=1)
    model: UsablePath = DEFAULT_MODEL
    workers: int = Field(0, ge=0, le=64)
    detector: DetectorSettings = DetectorSettings()
    tracking: TrackingSettings = TrackingSettings()
    mqtt: MqttSettings = MqttSettings()
    outbox: OutboxSettings = Field(default_factory=OutboxSettings)
    commands: CommandsSettings = CommandsSettings()
    homeassistant: HomeAssistantSettings = HomeAssistantSettings()
    summary: SummarySettings = SummarySettings()
    privacy: Literal["full", "aggregate"] = "full"
    min_people: int = Field(3, ge=1, le=1000)
    metrics: MetricsSettings = MetricsSettings()
    preview: PreviewSettings = PreviewSettings()
    log: LogSettings = LogSettings()

    @field_validator("preview")
    @classmethod
    def _guarded(cls, value: PreviewSettings, info: ValidationInfo) -> PreviewSettings:
        metrics = info.data.get("metrics")
        if not value.enabled or metrics is None:
            return value
        if metrics.open and not metrics.local:
            raise ValueError("pictures are not for whoever reaches the port; give metrics.token a long random text")
        if not metrics.open and len(metrics.token.get_secret_value()) < SHORTEST_TOKEN:
            raise ValueError(f"metrics.token guards pictures then; make it at least {SHORTEST_TOKEN} characters long")
        return value

    @property
    def rules(self) -> Rules:
        """When faces and emotions count."""
        return Rules(begin=self.detector.threshold, **self.tracking.model_dump())


def without_effect(settings: Settings) -> str:
    """Return what stands in the settings and is not done, beginning with its key; empty if there is nothing."""
    names = [name for name, camera in settings.cameras.items() if camera.faces]
    if settings.privacy != "aggregate" or not names:
        return ""
    others = f" (so of {', '.join(names[1:])})" if names[1:] else ""
    return f"cameras.{names[0]}.faces: has no effect{others} with privacy: aggregate; remove one of the two"


def _split(source: str) -> Any:
    try:
        parts = urlsplit(source)
        _ = parts.port  # raises if it is none
    except ValueError:
        raise ValueError("not a valid address; write scheme://host:port/path") from None
    return parts
