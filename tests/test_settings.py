"""The settings file: what is good, and that every mistake is named with its place and never with a secret."""

import os
import re
from pathlib import Path
from typing import get_args, get_origin
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from edge.bundle import DEFAULT_MODEL
from edge.settings import CameraSettings, MetricsSettings, Settings, SettingsError, default_node
from edge.settings_file import load_settings, with_place
from tests.parts.camera import Authority

EXAMPLE = Path(__file__).parents[1] / "configs" / "edge.yaml"
SMALL = "cameras:\n  door:\n    source: 0\n"
SECRET = "hunter2-and-more"
#: A few lines of aliases to aliases, in which 9⁸ values would be written out.
ALIASES = "a0: &a0 x\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))


@pytest.fixture
def load(tmp_path):
    """Load settings from text."""
    path = tmp_path / "edge.yaml"

    def loader(text):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_settings(path)

    return loader


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Content of an authority's file."""
    return Authority(tmp_path_factory.mktemp("authority")).ca.read_bytes()


def complaint(load, text):
    with pytest.raises(SettingsError) as caught:
        load(text)
    return str(caught.value)


def test_smallest_file_has_defaults_for_the_rest(load):
    loaded = load(SMALL)
    assert loaded.cameras["door"].kind == "webcam"
    assert loaded.node == default_node()
    assert loaded.model == DEFAULT_MODEL
    assert (loaded.mqtt.host, loaded.mqtt.port, loaded.mqtt.base) == ("127.0.0.1", 1883, "emotion")
    assert set(loaded.commands.allow) == {"pause", "resume", "reload", "snapshot"}, "threshold loosens what is reported"
    assert (loaded.homeassistant.discovery, loaded.homeassistant.prefix) == (True, "homeassistant")
    assert (loaded.metrics.host, loaded.metrics.port) == ("127.0.0.1", 9464)
    assert not loaded.preview.enabled


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, kind):
    path = tmp_path / "edge.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(SettingsError, match=r"edge\.yaml: (No regular file|Is a directory); name an existing file"):
        load_settings(path)


def test_what_the_shell_hands_over_is_read():
    ours, theirs = os.pipe()
    with open(theirs, "w") as pipe:
        pipe.write(SMALL)
    try:
        assert load_settings(Path(f"/dev/fd/{ours}")).cameras["door"].kind == "webcam"
    finally:
        os.close(ours)


@pytest.mark.parametrize(
    ("text", "line", "key", "says"),
    [
        (SMALL + "colour: red\n", 4, "colour", "unknown key"),
        (SMALL + "colour:\n", 4, "colour", "unknown key"),
        (SMALL + "    rate: 5\n", 4, "cameras.door.rate", "unknown key"),
        (SMALL + "    fps: 5\n", 2, "cameras.door", "there is max_fps"),
        (SMALL + "    loop: true\n", 2, "cameras.door", "loop and pace are for a file or folder"),
        (SMALL + "    pace: fast\n", 2, "cameras.door", "loop and pace are for a file or folder"),
        (SMALL + "    max_fps: -1\n", 4, "cameras.door.max_fps", "must be greater than or equal to 0"),
        (SMALL + "    rotation: false\n", 4, "cameras.door.rotation", "not true or false"),
        (SMALL + "    rotation: 45\n", 4, "cameras.door.rotation", "0, 90, 180 or 270"),
        (SMALL + "    zones: [[[0, 0], [1, 1]]]\n", 4, "cameras.door.zones", "at least three corners"),
        (SMALL + "    masks: [[[0, 0], [1, 1], [0, 2]]]\n", 4, "cameras.door.masks", "from 0 to 1"),
        *(
            (SMALL + f"    {key}: [[{corners}]]\n", 4, f"cameras.door.{key}", "on one line")
            for key in ("zones", "masks")
            for corners in ("[0, 0], [0.1, 0.3], [0.2, 0.6]", "[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]")
        ),
        (SMALL + "    zones: [[0, 0], [1, 1], [0, 1]]\n", 4, "cameras.door.zones", "a list of polygons"),
        (SMALL + f"    zones: [[[{'9' * 400}, 0], [1, 1], [0, 1]]]\n", 4, "cameras.door.zones", "a list of polygons"),
        (SMALL + "    min_face: 40\n", 4, "cameras.door.min_face", "less than 1"),
        (SMALL + "    motion: 1\n", 4, "cameras.door.motion", "less than 1"),
        (SMALL + "    tls: {insecure: true}\n", 2, "cameras.door", "rtsps:// or https://"),
        *(
            (f"cameras:\n  door:\n    source: {source}\n", 3, "cameras.door.source", says)
            for source, says in (
                ("x" * 5000, "shorten it"),
                ("x" * 3000, "too long for a path"),
                ("~/visit.mp4", "~ does not stand for a folder"),
                ('"a\\0b.mp4"', "no control characters"),
                ('"rtsp://host/\\e[2J"', "no control characters"),
                ("rtsp://a b/x", "no blanks in an address; write %20"),
                ("rtsp://a/my stream", "no blanks in an address; write %20"),
                ("/dev/zero", "/dev/zero: is no camera; v4l2-ctl"),
                ("/dev/shm", "/dev/shm: is no camera; v4l2-ctl"),
            )
        ),
        *(
            (SMALL + f"{section}:\n  {key}: {path}\n", 5, f"{section}.{key}", says)
            for section, key in (("outbox", "path"), ("detector", "model"))
            for path, says in (
                ('"a\\0b"', "no control characters"),
                ("~/x", "~ does not stand for a folder"),
                ("x" * 5000, "too long for a path"),
                ("/", "must name a file"),
                ("''", "must name a file"),
            )
        ),
        *(
            (SMALL + f"metrics:\n  token: {token}\n", 5, "metrics.token", "no request could bring it")
            for token in ('" aaaaaaaaaaaaaaaa"', '"aaaaaaaa\\naaaaaaaa"')
        ),
        (SMALL + 'model: "a\\0b"\n', 4, "model", "no control characters"),
        (SMALL + "mqtt:\n  host: 1.2.3.4:1883\n", 5, "mqtt.host", "the port is a key of its own"),
        (SMALL + "mqtt:\n  host: '[::1]'\n", 5, "mqtt.host", "name or address alone"),
        (SMALL + "mqtt:\n  fallbacks: ['a:b:1883']\n", 5, "mqtt.fallbacks.0", "name or address alone"),
        *(
            (SMALL + f"mqtt:\n  host: {host}\n", 5, "mqtt.host", "no - at the ends of its parts")
            for host in ("-foo", "foo-", "foo.-bar", "foo-.bar", "foo..bar", ".foo")
        ),
        (SMALL + "metrics:\n  host: http://x\n  token: none\n", 5, "metrics.host", "without http://, a path or a port"),
        (SMALL + "metrics:\n  token: ''\n", 5, "metrics.token", "must not be empty; write a long random text"),
        (SMALL + "mqtt:\n  base: $SYS/x\n", 5, "mqtt.base", "no $ at its beginning"),
        (SMALL + 'mqtt:\n  base: "a\\0b"\n', 5, "mqtt.base", "a topic has no +"),
        (SMALL + f"mqtt:\n  base: {'x' * 256}\n", 5, "mqtt.base", "shorten it"),
        (SMALL + "homeassistant:\n  prefix: $x\n", 5, "homeassistant.prefix", "no $ at its beginning"),
        (SMALL + f"mqtt:\n  username: {'ü' * 33_000}\n", 4, "mqtt", "65535 bytes at most"),
        (SMALL + "mqtt:\n  tls: {alpn: [ü]}\n", 5, "mqtt.tls.alpn.0", "must be plain letters"),
        (SMALL + "detector:\n  threshold: 0.2\n", 4, "detector.keep", "0.3 must not be above detector.threshold"),
        (SMALL + "detector:\n  keep: 0.6\n", 5, "detector.keep", "0.6 must not be above detector.threshold"),
        (SMALL + "tracking:\n  enter: 0.3\n", 4, "tracking.exit", "0.4 must not be above tracking.enter"),
        (SMALL + '"a\\e[2J": 1\n', 4, r"a\x1b[2J", "unknown key"),
        (SMALL + "mqtt:\n  host: mqtt://foo\n", 5, "mqtt.host", "name or address alone"),
        (SMALL + "mqtt:\n  host: foo/bar\n", 5, "mqtt.host", "name or address alone"),
        ("cameras:\n  door:\n    source: -1\n", 3, "cameras.door.source", "no webcam"),
        ("cameras:\n  door:\n    source: '-1'\n", 3, "cameras.door.source", "no webcam"),
        ("cameras:\n  door:\n    source: picamera:x\n", 3, "cameras.door.source", "picamera:0"),
        ("cameras:\n  door:\n    source: gone.mp4\n", 3, "cameras.door.source", "gone.mp4: no such file"),
        ("cameras:\n  door:\n    source: .\n", 3, "cameras.door.source", "put a slash at its end"),
        ("cameras:\n  door:\n    source: gone/\n", 3, "cameras.door.source", "gone/: no such folder"),
        (
            "cameras:\n  door:\n    source: rtsps://h/x\n    tls:\n      ca: gone.pem\n",
            *(5, "cameras.door.tls.ca", "gone.pem: no such file"),
        ),
        (
            "cameras:\n  door:\n    source: rtsps://h/x\n    tls: {ca: a, insecure: true}\n",
            *(4, "cameras.door.tls", "remove one of them"),
        ),
        (
            "cameras:\n  door:\n    source: rtsps://h/x\n    tls: {ca: 'a;b'}\n",
            *(4, "cameras.door.tls", "another name"),
        ),
        (SMALL + "mqtt:\n  host: x\n  prot: 1883\n", 6, "mqtt.prot", "unknown key"),
        (SMALL + "mqtt:\n  port: 0\n", 5, "mqtt.port", "must be greater than or equal to 1"),
        (SMALL + "mqtt:\n  port: 65536\n", 5, "mqtt.port", "less than or equal to 65535"),
        (SMALL + "mqtt:\n  port: many\n", 5, "mqtt.port", "must be a whole number"),
        (SMALL + "mqtt:\n  base: home/+/x\n", 5, "mqtt.base", "a topic has no +"),
        (SMALL + "mqtt:\n  fallbacks: [other]\n", 5, "mqtt.fallbacks.0", "must be host:port"),
        (SMALL + "mqtt:\n  tls: {certificate: a.pem}\n", 5, "mqtt.tls", "give both or neither"),
        ("cameras:\n  door:\n    source:\n", 3, "cameras.door.source", "is empty"),
        (SMALL + "mqtt:\n  tls: {ca: /tmp}\n", 5, "mqtt.tls.ca", "is no file"),
        (SMALL + "mqtt:\n  tls: {ca: gone.pem}\n", 5, "mqtt.tls.ca", "gone.pem: no such file"),
        (SMALL + "outbox:\n  durability: none\n", 5, "outbox.durability", "'full' or 'normal'"),
        (SMALL + "privacy: none\n", 4, "privacy", "'full' or 'aggregate'"),
        (SMALL + "mqtt:\n  base: /home\n", 5, "mqtt.base", "a topic has no +"),
        (SMALL + "mqtt:\n  base: home/\n", 5, "mqtt.base", "a topic has no +"),
        (SMALL + "mqtt:\n  username: 1234\n", 5, "mqtt.username", "must be text; put it in quotes"),
        (SMALL + "mqtt:\n  password: x\n", 4, "mqtt", "password without a username"),
        (SMALL + "mqtt: 5\n", 4, "mqtt", "must have keys of its own"),
        (SMALL + "metrics:\n  host: 0.0.0.0\n", 4, "metrics", "beyond this machine metrics want a token"),
        (SMALL + "preview: {enabled: 5}\n", 4, "preview.enabled", "must be true or false"),
        (
            SMALL + "metrics: {host: 0.0.0.0, token: none}\npreview: {enabled: true}\n",
            *(5, "preview", "give metrics.token a long random text"),
        ),
        (
            SMALL + "preview: {enabled: true}\nmetrics: {token: too-short}\n",
            *(4, "preview", "make it at least 16 characters long"),
        ),
        (SMALL + "workers: -1\n", 4, "workers", "must be greater than or equal to 0"),
        (SMALL + "workers: 1.5\n", 4, "workers", "must be a whole number"),
        (SMALL + "workers: true\n", 4, "workers", "must be a number, not true or false"),
        (SMALL + "tracking:\n  smoothing: on\n", 5, "tracking.smoothing", "must be a number, not true or false"),
        (SMALL + "log_level: loud\n", 4, "log.level", "'debug', 'info', 'warning' or 'error'"),
        (SMALL + "version: 3\n", 4, "version", "this emotion-edge reads versions 1 to 2"),
        (SMALL + "node: Living room\n", 4, "node", "a name consists of a-z"),
        (SMALL + f"node: {'x' * 65}\n", 4, "node", "a name consists of a-z"),
        (SMALL + "detector:\n  threshold: 1.2\n", 5, "detector.threshold", "less than 1"),
        (SMALL + "tracking:\n  lost: 0\n", 5, "tracking.lost", "greater than 0"),
        (SMALL + "tracking:\n  lost: .nan\n", 5, "tracking.lost", "3600"),
        (SMALL + "tracking:\n  appear: .inf\n", 5, "tracking.appear", "3600"),
        ("cameras: {}\n", 1, "cameras", "needs at least one entry"),
        ("# nothing else\nnode: a\n", 1, "cameras", "is missing"),
        ("cameras:\n  - source: 0\n", 1, "cameras", "must have keys of its own"),
        ("cameras:\n  door: {}\n", 2, "cameras.door.source", "is missing"),
        ("cameras:\n  door: rtsp://host/x\n", 2, "cameras.door", "must have keys of its own"),
        ("cameras:\n  Front Door:\n    source: 0\n", 2, "cameras.Front Door", "a name consists of a-z"),
        ("cameras:\n  door:\n    source: ''\n", 3, "cameras.door.source", "must not be empty"),
        ("cameras:\n  door:\n    source: true\n", 3, "cameras.door.source", "must be text"),
        ("cameras:\n  door:\n    source: 99999999999\n", 3, "cameras.door.source", "no webcam"),
        ("cameras:\n  door:\n    source: rtmp://host/x\n", 3, "cameras.door.source", "use one of rtsp, rtsps, http"),
        ("cameras:\n  door:\n    source: rtsp:///x\n", 3, "cameras.door.source", "names no host"),
        ("cameras:\n  door:\n    source: rtsp://host:port/x\n", 3, "cameras.door.source", "not a valid address"),
        ("cameras:\n  door:\n    source: rtsp://host:70000/x\n", 3, "cameras.door.source", "not a valid address"),
        ("cameras:\n  door:\n    source: rtsp://[host/x\n", 3, "cameras.door.source", "not a valid address"),
        ("cameras:\n  door:\n    source: rtsp://-cam/x\n", 3, "cameras.door.source", "no host has such a name"),
        ("cameras:\n  door:\n    source: http://cam..lan/x\n", 3, "cameras.door.source", "no host has such a name"),
        (f"cameras:\n  door:\n    source: rtsp://{'a' * 64}/x\n", 3, "cameras.door.source", "63 characters at most"),
        ("cameras:\n  door:\n    source: rtsp://cam:0/x\n", 3, "cameras.door.source", "at port 0"),
        ("cameras:\n  door:\n    source: rtsp://me@host/x\n", 3, "cameras.door.source", "keys username and password"),
        ("cameras:\n  door:\n    source: rtsp://h/x\n    password: a\n", 2, "cameras.door", "without a username"),
        ('cameras:\n  door:\n    source: rtsp://h/x\n    username: "a\\r\\nb"\n', 2, "cameras.door", "line breaks"),
        ("cameras:\n  desk:\n    source: 0\n    username: a\n", 2, "cameras.desk", "are for a network address"),
        ("cameras:\n  file:\n    source: a.mp4\n    username: a\n    password: b\n", 2, "cameras.file", "remove them"),
        ("cameras:\n  door:\n    source: a.mp4\n    pace: slow\n", 4, "cameras.door.pace", "'realtime' or 'fast'"),
        *(
            (f"cameras:\n  {name}:\n    source: 0\n", 2, name, f"reads this as {what}; put it in quotes")
            for name, what in (
                *(("off", "true or false"), ("no", "true or false"), ("On", "true or false"), ("1", "a number")),
                *(("1.5", "a number"), ("null", "nothing"), ("~", "nothing"), ("2026-01-31", "a date")),
            )
        ),
        ("on: 1\n" + SMALL, 1, "on", "put it in quotes"),
        (SMALL + "cameras:\n  back:\n    source: 1\n", 4, "cameras", "stands here twice"),
        (SMALL + "  door:\n    source: 1\n", 4, "door", "stands here twice"),
        (SMALL + "    source: 1\n", 4, "source", "stands here twice"),
    ],
)
def test_mistake_is_named_with_file_line_and_key(load, tmp_path, text, line, key, says):
    message = complaint(load, text)
    assert message.startswith(f"{tmp_path / 'edge.yaml'}:{line}: {key}: "), message
    assert says in message
    assert "\n" not in message


def test_every_mistake_has_its_line(load):
    text = SMALL + "workers: -1\nmqtt:\n  port: 0\n  bse: x\n"
    lines = complaint(load, text).splitlines()
    assert {line.split(": ")[1] for line in lines} == {"workers", "mqtt.port", "mqtt.bse"}
    assert {line.split(": ")[0].rpartition(":")[2] for line in lines} == {"4", "6", "7"}


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", ":1", "expected keys and values"),
        ("just words", ":1", "expected keys and values"),
        ("- a\n- b\n", ":1", "expected keys and values"),
        ("cameras:\n  door:\n source: 0\n", ":3", "mend the YAML"),
        ("cameras:\n\tdoor: 1\n", ":2", "mend the YAML"),
        ("node: [a\n", ":2", "mend the YAML"),
        ("a: 1\n---\nb: 2\n", ":2", "another document"),
        ("node: 'a\n", ":2", "mend the YAML"),
        (b"node: \xff\xfe\n", ":1", "UTF-8"),
        (b"node: \x00\n", ":1", "mend the YAML"),
        ("? [a, b]\n: c\n", ":1", "mend the YAML"),
        (SMALL + 'mqtt:\n  username: "\\ud800"\n', ":5", "half of a character"),
        ("node: 2026-13-45\n" + SMALL, ":1", "a value looks like a date or number but is none"),
        (SMALL + "node: !!int x\n", ":4", "put it in quotes"),
        (SMALL + 'node: !!float ""\n', ":4", "put it in quotes"),
        (SMALL + "node: " + ":".join(["1", *["10"] * 200]) + ".5\n", ":4", "put it in quotes"),
        (SMALL + "node: !!int {=: x}\n", "", "leave out the tag"),
        (SMALL + "node: !!bool {=: x}\n", "", "leave out the tag"),
        (SMALL + "node: !!timestamp {=: x}\n", "", "leave out the tag"),
        ("cameras: &a\n  door: *a\n", "", "nested"),
        ("[" * 3000, "", "nested"),
        (ALIASES, ":7", "stands for more than 100,000 values"),
        (SMALL + "    zones: [[[0, 0], [1, true], [1, 1], [0, 1]]]\n", ":4", "not true or false"),
    ],
)
def test_what_is_no_settings_file_gets_one_line(load, tmp_path, text, line, says):
    message = complaint(load, text)
    assert message.startswith(f"{tmp_path / 'edge.yaml'}{line}: "), message
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_unreadable_file_is_named(tmp_path, name):
    with pytest.raises(SettingsError, match=r"name an existing file") as caught:
        load_settings(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60) | st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@example("!!timestamp x")
@example("!!bool x")
@example("&a [*a]")
def test_any_content_gives_settings_or_a_settings_error(load, text):
    with pytest.raises(SettingsError):
        load(text)


@pytest.mark.parametrize(
    "text",
    [
        "cameras:\n  door:\n    source: rtsp://h/x\n    usernme: u\n    password: {secret}\n",
        "cameras:\n  door:\n    source: rtsp://u:{secret}@h/x\n",
        "cameras:\n  door:\n    source: rtsp://u:{secret}@h:port/x\n",
        "cameras:\n  door:\n    source: rtsp://h/x\n    username: u\n    password: [{secret}]\n",
        "cameras:\n  door:\n    source: rtsp://h/x\n    username: u\n    password: *{secret}\n",
        "cameras:\n  door:\n    source: rtsp://h/x\n    username: u\n    password: !{secret}\n",
        "cameras:\n  door:\n    source: rtsp://h/x\n    username: u\n    password: @{secret}\n",
        "cameras:\n  door:\n    source: rtsp://h/x\n    username: u\n    password: '{secret}\n",
        "cameras:\n  door:\n    source: rtsp://h/x\n    password: {secret}\n",
        "cameras:\n  door:\n    source: rtsp://h/x\n    username: u\n    password:{secret}\n",
        SMALL + "mqtt:\n  host: ''\n  username: u\n  password: {secret}\n",
        SMALL + "mqtt:\n  username: u\n  password: {secret}\n  password: b\n",
        SMALL + "mqtt:\n  username: u\n  password: !!int {=: {secret}}\n",
    ],
)
def test_no_message_holds_a_secret(load, text):
    assert SECRET not in complaint(load, text.replace("{secret}", SECRET))


def test_loaded_settings_do_not_show_secrets(load):
    loaded = load(
        f"cameras:\n  door:\n    source: rtsp://h/x\n    username: u\n    password: {SECRET}\n"
        f"mqtt:\n  username: u\n  password: {SECRET}\n"
    )
    for shown in (repr(loaded), str(loaded), loaded.model_dump_json(), repr(loaded.model_dump())):
        assert SECRET not in shown
    assert SECRET in loaded.cameras["door"].address()


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("rtsp://host/x", "network"),
        ("RTSP://host:8554/x?a=b", "network"),
        ("https://host/x.mjpg", "network"),
        ("rtsp://[::1]:8554/x", "network"),
        (0, "webcam"),
        ("2", "webcam"),
        ("/dev/video0", "webcam"),
        ("clip.mp4", "file"),
        ("picamera", "picamera"),
        ("picamera:1", "picamera"),
        ("picamera.mp4", "file"),
        ("pictures/", "images"),
        ("/srv/clip 1.mp4", "file"),
        ("²", "file"),
    ],
)
def test_kind_follows_from_the_source(source, kind):
    assert CameraSettings(source=source).kind == kind


LOGIN = st.text(st.characters(exclude_categories=["Cc", "Cs"]))


@given(LOGIN.filter(bool), st.none() | LOGIN)
@example("u", "p@ss:w/rd?#[]% ")
def test_address_brings_back_any_login(username, password):
    camera = CameraSettings(source="rtsp://camera.local:8554/a/b?c=d#e", username=username, password=password)
    parts = urlsplit(camera.address())
    assert (unquote(parts.username), unquote(parts.password)) == (username, password or "")
    assert (parts.hostname, parts.port, parts.path, parts.query) == ("camera.local", 8554, "/a/b", "c=d")


def test_address_without_login_is_the_source():
    assert CameraSettings(source="rtsp://h/x").address() == "rtsp://h/x"
    assert CameraSettings(source="clip.mp4").address() == "clip.mp4"


def test_relative_paths_count_from_the_files_folder(load, tmp_path, tmp_path_factory, certificate):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for path in (tmp_path / "clips" / "a.mp4", elsewhere / "b.mp4"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "ca.pem").write_bytes(certificate)
    loaded = load(
        f"model: m.tflite\ncameras:\n  a: {{source: clips/a.mp4}}\n  b: {{source: {elsewhere}/b.mp4}}\n"
        "  c: {source: 0}\n  d: {source: clips/}\n  e: {source: rtsps://h/x, tls: {ca: ca.pem}}\n"
    )
    assert loaded.model == tmp_path / "m.tflite"
    sources = [str(tmp_path / "clips/a.mp4"), str(elsewhere / "b.mp4"), "0", f"{tmp_path / 'clips'}/", "rtsps://h/x"]
    assert [camera.source for camera in loaded.cameras.values()] == sources
    assert loaded.cameras["d"].kind == "images"
    assert loaded.cameras["e"].tls.ca == tmp_path / "ca.pem"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("cameras:\n  door:\n    source: rtsps://h/x\n    tls: {ca: words.pem}\n", "4: cameras.door.tls.ca"),
        (SMALL + "mqtt:\n  tls:\n    ca: words.pem\n", "6: mqtt.tls.ca"),
    ],
)
def test_what_is_no_certificate_is_named_with_its_place(load, tmp_path, text, key):
    (tmp_path / "words.pem").write_text("just words")
    expected = f"{tmp_path / 'edge.yaml'}:{key}: {tmp_path / 'words.pem'}: holds no certificate; "
    assert complaint(load, text).startswith(expected)


@pytest.mark.parametrize(("name", "says"), [("sub", "no regular file"), ("edge.yaml/x.db", "edge.yaml is no folder")])
def test_what_can_be_no_outbox_is_named_with_its_place(load, tmp_path, name, says):
    (tmp_path / "sub").mkdir()
    message = complaint(load, SMALL + f"outbox:\n  path: {name}\n")
    assert message.startswith(f"{tmp_path / 'edge.yaml'}:5: outbox.path: {tmp_path / name}: ")
    assert says in message


def test_quoted_names_are_names(load):
    assert list(load("cameras: {'off': {source: 0}, '1': {source: 1}}\n").cameras) == ["off", "1"]


def test_merged_keys_of_yaml_are_keys(load):
    loaded = load("cameras:\n  a: &a {source: 0, max_fps: 5}\n  b: {<<: *a, source: 1}\n")
    assert loaded.cameras["b"].max_fps == 5


def test_a_zone_that_crosses_itself_is_one(load):
    loaded = load(SMALL + "    zones: [[[0, 0], [1, 1], [1, 0], [0, 1]]]\n")
    assert len(loaded.cameras["door"].zones) == 1


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("0.0.0.0", "pi"), ("::", "pi"), ("pi.lan", "pi.lan")],
)
def test_an_address_to_open_names_no_wildcard(monkeypatch, host, shown):
    monkeypatch.setattr("socket.gethostname", lambda: "pi")
    assert MetricsSettings(host=host, token="none").address == f"http://{shown}:9464"


def test_a_message_gets_the_place_of_its_key(tmp_path):
    path = tmp_path / "edge.yaml"
    path.write_text(SMALL + "metrics:\n  port: 9000\n")
    assert with_place(path, "metrics.port: taken: for long") == f"{path}:5: metrics.port: taken: for long"
    assert with_place(path, "outbox.path: x") == f"{path}:1: outbox.path: x"
    assert with_place(path, "something: else") == "something: else"
    assert with_place(None, "metrics.port: taken") == "metrics.port: taken"
    path.write_text("cameras: [")  # since it was loaded
    for changed in (path, tmp_path / "gone.yaml"):
        assert with_place(changed, "metrics.port: taken") == "metrics.port: taken"


def test_addresses_of_version_6(load):
    loaded = load(SMALL + "mqtt:\n  host: ::1\n  fallbacks: ['[::1]:1884', 'fe80::1%eth0:1885']\n")
    assert loaded.mqtt.addresses == [("::1", 1883), ("::1", 1884), ("fe80::1%eth0", 1885)]


def test_settings_cannot_be_changed(load):
    with pytest.raises(ValidationError):
        load(SMALL).node = "other"


def test_example_loads():
    loaded = load_settings(EXAMPLE)
    assert {camera.kind for camera in loaded.cameras.values()} == {"network", "webcam"}


def test_example_names_every_key_and_no_other():
    written = yaml.safe_load(example_in_full())
    assert keys_of(Settings) == keys_in(written, Settings)


def example_in_full():
    """The example with the keys that are commented out, such as "# model: …"."""
    text = EXAMPLE.read_text(encoding="utf-8")
    return re.sub(r"^(\s*)# ( *[a-z_]+:( |$))", r"\1\2", text, flags=re.MULTILINE)


def test_example_in_full_loads(load, tmp_path, certificate):
    for name in ("edge.pem", "edge.key", "visit.mp4", "my-model.tflite"):
        (tmp_path / name).touch()
    for name in ("broker-ca.pem", "camera-ca.pem"):
        (tmp_path / name).write_bytes(certificate)
    (tmp_path / "holiday").mkdir()
    text = example_in_full().replace("rtsp://192", "rtsps://192")
    kinds = {camera.kind for camera in load(text).cameras.values()}
    assert kinds == {"network", "webcam", "picamera", "file", "images"}


def test_example_shows_the_defaults():
    loaded = load_settings(EXAMPLE)
    defaults = Settings(cameras=loaded.cameras, node=loaded.node)
    login = {"mqtt": {"username", "password"}}
    assert loaded.model_dump(exclude=login) == defaults.model_dump(exclude=login)


def test_every_key_of_the_example_is_explained():
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    bare = [line for line in lines if re.match(r"\s*[a-z_]+: \S", line) and "#" not in line]
    assert {line.split(":")[0].strip() for line in bare} <= {"host", "port", "password"}


def keys_of(model, prefix=""):
    """Names of all keys of a pydantic model; a star stands for a name that the user chooses."""
    keys = set()
    for name, field in model.model_fields.items():
        keys.add(f"{prefix}{name}")
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                star = "*." if get_origin(field.annotation) is dict else ""
                keys |= keys_of(kind, f"{prefix}{name}.{star}")
    return keys


def keys_in(content, model, prefix=""):
    keys = set()
    for name, value in content.items():
        named = "*" if prefix == "cameras." else name
        keys |= {f"{prefix}{named}"} - {"cameras.*"}
        if isinstance(value, dict):
            keys |= keys_in(value, model, f"{prefix}{named}.")
    return keys


def test_default_node_is_a_good_name(monkeypatch):
    for host, node in (("Kitchen Pi.local", "kitchen-pi"), ("raspberrypi", "raspberrypi"), ("ü", "-"), ("", "node")):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        assert default_node() == node
        assert Settings(cameras={"a": {"source": "0"}}).node == node
