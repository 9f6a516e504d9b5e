"""What is built and installed: the wheel, an environment with nothing else, and one with the older runtime."""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from functools import cache
from pathlib import Path

import pytest

from edge import __version__
from edge.classify import write_image
from tests.parts.samples import portrait

ROOT = Path(__file__).parents[1]
#: tflite-runtime has no wheels for later ones.
LEGACY_PYTHONS = ("3.11", "3.10")


@cache
def legacy_python() -> str | None:
    """Return a Python for which tflite-runtime has wheels: this one, or another of the machine that can make venvs."""
    if f"{sys.version_info[0]}.{sys.version_info[1]}" in LEGACY_PYTHONS:
        return sys.executable
    for version in LEGACY_PYTHONS:
        found = shutil.which(f"python{version}")
        if found and subprocess.run([found, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            return found
    return None


def run(*command, **environment):
    """Run a program away from the source; its stdout, or a failure with what it said."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EMOTION", "VIRTUAL"))}
    result = subprocess.run(
        [str(part) for part in command],
        cwd="/",
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, f"{command}: exit code {result.returncode}\n{result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built as `python -m build` builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def picture(tmp_path):
    write_image(tmp_path / "portrait.png", portrait())
    return tmp_path / "portrait.png"


def install(folder, requirement, python=sys.executable):
    """Make an environment with the requirement in it, as pip resolves it; returns its folder of programs."""
    if python == sys.executable:
        venv.create(folder, with_pip=False)
    else:
        run(python, "-m", "venv", "--without-pip", folder)
    programs = folder / "bin"
    run(sys.executable, "-m", "pip", "--python", programs / "python", "install", "--quiet", requirement)
    return programs


def packages(programs):
    listed = run(sys.executable, "-m", "pip", "--python", programs / "python", "list", "--format", "json")
    return {package["name"].lower(): package["version"] for package in json.loads(listed)}


def classified(programs, picture, **environment):
    (document,) = json.loads(run(programs / "emotion-edge", "classify", "--json", picture, **environment))
    return document["faces"]


def test_wheel_holds_what_the_daemon_needs_and_nothing_of_the_workshop(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"emotion_edge-{__version__}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
    wanted = {
        "edge/models/emotions.tflite",
        "edge/models/blazeface_back.tflite",
        "edge/models/blazeface_short.tflite",
        "edge/media/bench.mp4",
        "edge/media/demo.mp4",
        *(
            f"edge/schemas/{name}-1.json"
            for name in ("command", "emotion", "event", "faces", "response", "status", "summary")
        ),
        "edge/schemas/preview-1.json",
        "edge/schemas/settings.json",
        *(f"edge/preview/{name}" for name in ("page.html", "page.js", "page.css", "login.html", "icon.svg")),
        "edge/example.yaml",
        "trainer/cli.py",
        "trainer/measuring/peers.yaml",
        "trainer/templates/page.html.j2",
        f"{info}/licenses/LICENSE",
        f"{info}/licenses/NOTICE",
        f"{info}/licenses/LICENSES/Apache-2.0.txt",
    }
    assert wanted <= names
    assert {name.split("/")[0] for name in names} == {"edge", "trainer", info}
    assert not [name for name in names if name.startswith(("trainer/runs", "trainer/models", "trainer/test_looks"))]
    assert sum(name.endswith(".tflite") for name in names) == 3
    assert {Path(name).suffix for name in names if name.startswith("trainer/")} == {".py", ".yaml", ".j2"}
    for line in (
        "License-Expression: MIT",
        "License-File: NOTICE",
        "Provides-Extra: legacy",
        "Provides-Extra: trainer",
    ):
        assert line in metadata.splitlines()


def test_installed_daemon_works_without_tensorflow(wheel, tmp_path, picture):
    programs = install(tmp_path / "env", str(wheel))
    installed = packages(programs)
    assert not {"tensorflow", "keras", "tflite-runtime", "amqtt", "scikit-image"} & set(installed)
    assert run(programs / "emotion-edge", "--version") == f"emotion-edge, version {__version__}\n"
    (face,) = classified(programs, picture)
    assert face["probability"] == max(face["probabilities"].values())
    trainer = subprocess.run([programs / "emotion-trainer", "train"], capture_output=True, text=True, check=False)
    assert (trainer.returncode, trainer.stdout) == (2, "")
    (line,) = trainer.stderr.splitlines()
    assert re.fullmatch(r"emotion-trainer: .*\bkeras\b.* not installed: pip install 'emotion-edge\[trainer\]'", line)


@pytest.mark.skipif(
    legacy_python() is None and not os.environ.get("CI"),
    reason="no Python 3.10 or 3.11 here, the last for which tflite-runtime exists; continuous integration has one",
)
def test_legacy_runtime_gives_the_same_answers(wheel, tmp_path, picture):
    python = legacy_python()
    assert python, "continuous integration needs a Python 3.11 or 3.10 for the extra legacy: install python3.11"
    programs = install(tmp_path / "env", f"{wheel}[legacy]", python)
    installed = packages(programs)
    assert installed["numpy"].startswith("1.")
    assert "tflite-runtime" in installed
    (old,) = classified(programs, picture, EMOTION_EDGE_RUNTIME="tflite-runtime")
    (new,) = classified(programs, picture, EMOTION_EDGE_RUNTIME="ai-edge-litert")
    assert old["emotion"] == new["emotion"]
    assert old["probabilities"] == pytest.approx(new["probabilities"], abs=0.02)
    assert old["box"] == pytest.approx(new["box"], abs=1)
