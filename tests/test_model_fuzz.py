"""Model files with mistakes: each is refused in one line, or does what a model file does; none takes the daemon down.

`FUZZ=10000` makes as many mistakes of each kind.
"""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edge.bundle import DEFAULT_MODEL, BundleError, read_bundle
from edge.model import ModelFile
from tests.parts.daemon import ROOT
from tests.parts.mutated_models import CRASH, network
from tests.parts.mutations import mutated, seeds
from tests.parts.samples import SIDE, model_parts, write_model

SHORT = 300
ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        1e308,
        float("nan"),
        10**400,
        "",
        "a" * 70_000,
        "\0\x1b[2J",
        "\ud800",
        [],
        {},
        [[]],
        {"a": {}},
    ),
    *([SIDE, SIDE, 2], [float(SIDE), SIDE, 1], [1 << 40, 1 << 40, 1], ["neutral"] * 8, {"size": 1 << 40}),
)


def outcome(path: Path) -> str:
    """Read a model file; returns why it cannot be used, in one line."""
    refusal = ""
    try:
        read_bundle(path)
    except BundleError as error:
        refusal = str(error)
    assert not refusal or refusal.startswith(f"{path}: ")
    assert "\n" not in refusal
    return refusal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    read_bundle(DEFAULT_MODEL)  # whose network need not be tried any more
    return tmp_path / "model.tflite"


def test_bytes(path: Path) -> None:
    content = DEFAULT_MODEL.read_bytes()
    start = len(model_parts()[0])
    refused = 0
    for seed in seeds(SHORT):
        # Half of the mistakes are in what is said of the network, which is small.
        anywhere = seed % 2 == 0
        path.write_bytes(mutated(content, seed, None if anywhere else lambda c, n: c.randrange(min(start, n - 1), n)))
        refused += bool(outcome(path))
    assert refused > len(seeds(SHORT)) / 2


def test_structure_of_the_metadata(path: Path) -> None:
    content, info, labels = model_parts()
    refused = 0
    for seed in seeds(SHORT):
        chance = random.Random(seed)
        changed = json.loads(json.dumps(info))
        at = changed
        while True:
            key = chance.choice(list(at))
            if not isinstance(at[key], dict) or not at[key] or chance.random() < 0.3:
                break
            at = at[key]
        at[key] = chance.choice(ODD)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("labels.txt", labels)
            archive.writestr("model.json", json.dumps(changed))
        path.write_bytes(content + packed.getvalue())
        refused += bool(outcome(path))
    assert refused > len(seeds(SHORT)) / 2


@pytest.mark.timeout(1200)
def test_networks_with_the_right_checksum(path: Path) -> None:
    """What would crash the runtime does so in a process that is there for it."""
    count = len(seeds(SHORT))
    done = subprocess.run(
        [sys.executable, "-m", "tests.parts.mutated_models", "0", str(count)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = done.stdout.splitlines()
    assert len(found) == count
    refused = [line for line in found if line]
    assert len(refused) > count / 10
    assert {line.split("(")[0].strip() for line in refused} <= {"no TFLite network", "the network does not run", CRASH}
    for seed, line in enumerate(found):
        if line == CRASH:
            assert outcome(write_model(path, network(seed)))


def test_a_network_that_crashes_or_hangs_does_so_elsewhere(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelFile(write_model(path))
    ends = {
        "import os; os.abort()": "the network crashes the runtime (signal 6)",
        "import time; time.sleep(60)": "does not come to an end within 0.5 s",
        "print('the network does not run (so)')": "the network does not run (so)",
        "raise SystemExit(3)": "cannot be tried: exit code 3",
    }
    for number, (program, says) in enumerate(ends.items()):
        monkeypatch.setattr("edge.trial.LIMIT", 0.5 if "sleep" in program else 60.0)
        monkeypatch.setattr("edge.trial.COMMAND", (sys.executable, "-c", program))
        write_model(path, model_parts()[0] + bytes(4 * number + 4), version=f"{number}")
        assert not model.check(asked=True)
        assert says in model.refusal
    monkeypatch.setattr("edge.trial.COMMAND", ("/none",))
    write_model(path, model_parts()[0] + bytes(99))
    assert "cannot be tried: No such file" in outcome(path)


def test_a_network_is_tried_once_and_the_one_that_ships_never(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []

    def why_not(content: bytes) -> str:
        tried.append(content)
        return ""

    monkeypatch.setattr("edge.bundle.why_not", why_not)
    monkeypatch.setattr("edge.bundle._tried", set())
    read_bundle(DEFAULT_MODEL)
    write_model(path, model_parts()[0] + b"abcd")
    read_bundle(path)
    read_bundle(path)
    assert tried == [model_parts()[0] + b"abcd"]
