"""Fixtures of what runs on a booted Debian: the package, a later version of it, a broker with passwords."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.deb.build import build
from edge import __version__
from tests.conftest import Parts
from tests.parts import tool
from tests.parts.booted import SETTINGS, SITE
from tests.parts.broker import Mosquitto

USER, PASSWORD = "edge", "a secret"
LATER = "99.0"


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this checkout."""
    machine = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return build(machine, sys.executable, tmp_path_factory.mktemp("package"), "none")


@pytest.fixture(scope="session")
def later_package(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a later version, whose settings file is another one too."""
    folder = tmp_path_factory.mktemp("later")
    tree = folder / "tree"
    subprocess.run([tool("dpkg-deb", "dpkg"), "--raw-extract", package, tree], check=True)
    for path in (tree / "DEBIAN" / "control", tree / str(SITE / "edge" / "__init__.py").lstrip("/")):
        path.write_text(path.read_text().replace(__version__, LATER, 1))
    with (tree / str(SETTINGS).lstrip("/")).open("a") as settings:
        settings.write("\n# Of a later version.\n")
    later = folder / "later.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, later], capture_output=True, check=True
    )
    shutil.rmtree(tree)
    return later


@pytest.fixture
def broker(parts: Parts) -> Mosquitto:
    """A broker that wants a password and keeps sessions over a restart."""
    return parts.start(Mosquitto(parts.folder("broker"), passwords={USER: PASSWORD}, persistent=True))
