"""Settings files with mistakes: each gives settings or says in lines of its own what is wrong; nothing else is raised.

`FUZZ=10000` makes as many mistakes of each kind.
"""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.settings import SettingsError
from edge.settings_file import load_settings
from tests.parts.mutations import mutated, seeds

SHORT = 100
DUMPER = getattr(yaml, "CDumper", yaml.Dumper)
FULL: dict[str, Any] = {
    "version": 2,
    "node": "pi",
    "cameras": {
        "door": {
            "source": "rtsp://192.168.1.9:554/a?b=c",
            "username": "u",
            "password": "p",
            "zones": [[[0, 0], [1, 0], [1, 1]]],
        },
        "desk": {"source": 0, "max_fps": 5, "rotation": 90, "min_face": 0.1, "motion": 0.01},
        "yard": {"source": "rtsps://yard/x", "tls": {"insecure": True}},
        "csi": {"source": "picamera:0"},
    },
    "model": "emotions.tflite",
    "workers": 2,
    "detector": {"threshold": 0.5, "keep": 0.3, "interval": 0.2, "model": "yunet.onnx"},
    "tracking": {"appear": 0.5, "lost": 2, "enter": 0.5, "exit": 0.4, "dwell": 0.5, "smoothing": 0.6},
    "mqtt": {
        "host": "broker",
        "port": 1883,
        "fallbacks": ["other:1883"],
        "username": "u",
        "password": "${PATH}",
        "tls": {"alpn": ["mqtt"], "insecure": True},
        "transport": "websockets",
        "path": "/mqtt",
        "base": "a/b",
    },
    "outbox": {"path": "outbox.db", "durability": "normal", "max_megabytes": 1, "max_days": 1},
    "commands": {"allow": ["pause", "resume"]},
    "homeassistant": {"discovery": True, "prefix": "homeassistant"},
    "summary": {"period": 60},
    "privacy": "aggregate",
    "min_people": 2,
    "metrics": {"host": "0.0.0.0", "port": 9464, "token": {"file": "token"}},
    "log": {"level": "info", "format": "json"},
}
ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        1.5,
        10**400,
        float("nan"),
        float("inf"),
        "",
        " ",
        "~",
        "~/x",
        "-",
        "x" * 5000,
        "\0",
        "\x1b[2J",
    ),
    *(
        "a\nb",
        "::1",
        "[",
        "rtsp://[",
        "rtsp://h:99999/",
        "http://",
        "picamera:",
        "${NONE}",
        "a${PATH}",
        "$SYS",
        "#",
        "ü" * 300,
    ),
    *(
        [],
        [[]],
        {},
        {"a": 1},
        {"file": None},
        {"file": "\0"},
        {"credential": ["a"]},
        {1: 2},
        b"\xff",
        [[[0, 0], [1], []]],
    ),
    *("2026-13-45", "١٢٣", "9" * 5000, "/dev/zero", "//", ".", "..", "/", {"insecure": 1, "ca": "x"}, ["pause"] * 500),
)
TAILS = (
    "\n? [a]\n: b",
    "\n<<: *x",
    "\nnode: !!python/object:os.system x",
    "\n--- a",
    "\nx: !!binary ü",
    "\n\tx: 1",
    '\nx: "\\ud800"',
)


def loads(path: Path, content: bytes) -> bool:
    """Tell whether a file gives settings; if it does not, see that it says why as it should."""
    path.write_bytes(content)
    message = ""
    try:
        load_settings(path)
    except SettingsError as error:
        message = str(error)
    assert all(line.startswith(f"{path}:") and line.isprintable() for line in message.split("\n") if message), message
    return not message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("long and random")
    return tmp_path / "edge.yaml"


def test_what_the_mistakes_are_made_in_is_good(path: Path) -> None:
    assert loads(path, yaml.safe_dump(FULL).encode())


def test_bytes(path: Path) -> None:
    content = yaml.safe_dump(FULL, sort_keys=False).encode()
    good = sum(loads(path, mutated(content, seed)) for seed in seeds(SHORT))
    assert 0 < good < len(seeds(SHORT)) / 2


def test_structure(path: Path) -> None:
    good = 0
    for seed in seeds(SHORT):
        chance = random.Random(seed)
        content: Any = copy.deepcopy(FULL)
        for _ in range(chance.choice((1, 1, 3))):
            at: Any = content
            while chance.random() < 0.7 and (inner := [key for key in keys(at) if keys(at[key])]):
                at = at[chance.choice(inner)]
            key = chance.choice(keys(at) or [0])
            if chance.random() < 0.1 and isinstance(at, dict):
                at[chance.choice(("x", "\x1b", 7, None, 1.5, True, "x" * 3000))] = at.pop(key, None)
            elif keys(at):
                at[key] = chance.choice(ODD)
        tail = chance.choice(TAILS) if chance.random() < 0.1 else ""
        good += loads(path, (yaml.dump(content, Dumper=DUMPER, allow_unicode=chance.random() < 0.5) + tail).encode())
    assert 0 < good < len(seeds(SHORT)) / 2


def keys(node: Any) -> list[Any]:
    """Return by what the parts of a node are reached."""
    return list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
