"""The lock file: it pins all that the daemon needs, within the bounds of pyproject.toml, wherever the daemon runs."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements" / "edge.lock"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
PROCESSORS = ("x86_64", "aarch64")
INSTALL = "-m uv pip install --dry-run --require-hashes --only-binary :all:"


def pinned():
    """Every requirement of the file, with its hashes."""
    lines = re.sub(r"^ *#.*\n", "", LOCK.read_text(), flags=re.M).replace("\\\n", " ").splitlines()
    return [(Requirement(line.partition(" --hash")[0]), re.findall(r"--hash=(\S+)", line)) for line in lines]


def environment(python, processor):
    version = {"python_version": python, "python_full_version": f"{python}.0"}
    return {**version, "platform_machine": processor, "sys_platform": "linux", "os_name": "posix"}


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("python", PYTHONS)
def test_what_pyproject_asks_for_is_pinned_within_its_bounds(python, processor):
    here = environment(python, processor)
    versions = {}
    for requirement, _ in pinned():
        if requirement.marker is None or requirement.marker.evaluate(here):
            (specifier,) = requirement.specifier
            assert specifier.operator == "=="
            assert versions.setdefault(requirement.name, specifier.version) == specifier.version, "one version each"
    for wanted in map(Requirement, metadata.requires("emotion-edge") or []):
        if wanted.marker is None:  # else it is of an extra
            assert wanted.specifier.contains(versions[wanted.name]), f"{wanted}: make lock"


def pip(tmp_path, *arguments):
    """Let pip plan an installation; fail with what it says if it cannot."""
    done = subprocess.run(
        [*(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_pip_installs_it_by_its_hashes(tmp_path):
    pip(tmp_path, "--require-hashes", "--requirement", LOCK)


def test_what_is_for_every_python_is_for_the_last_too(tmp_path):
    """uv takes no notice of the latest Python that a package allows."""
    chosen = [f"{requirement.name}{requirement.specifier}" for requirement, _ in pinned() if not requirement.marker]
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (28, 27, 17)]
    folder = f"--target={tmp_path / 'none'}"
    pip(tmp_path, "--no-deps", "--only-binary=:all:", f"--python-version={PYTHONS[-1]}", *platforms, folder, *chosen)


def test_every_package_has_hashes_and_no_place_is_named():
    assert all(hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes) for _, hashes in pinned())
    assert "://" not in LOCK.read_text(), "where packages come from is up to whoever installs"
    assert "index" not in LOCK.read_text()


@pytest.mark.parametrize("processor", PROCESSORS)
def test_nothing_is_missing_for_any_python(tmp_path, processor):
    """There is a wheel of each package, with one of the hashes, and no package needs one that is not in the file."""
    for python in PYTHONS:
        done = subprocess.run(
            [
                *(sys.executable, *INSTALL.split()),
                *("--target", tmp_path / "none", "--python", sys.executable, "--python-version", python),
                *("--python-platform", f"{processor}-manylinux_2_28", "--requirement", LOCK),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{python}: {done.stderr}"
        assert "ai-edge-litert" in done.stderr
