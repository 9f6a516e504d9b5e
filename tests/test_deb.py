"""The Debian package: what is in it, and what dpkg is told. `make booted` installs it."""

import itertools
import re
import subprocess
import sys
import tarfile

import pytest

from deploy.deb.build import HERE, SCRIPTS, build, debian_version
from edge import __version__
from tests.parts import tool
from tests.parts.daemon import ROOT

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
SITE = f"./opt/emotion-edge/lib/python{PYTHON}/site-packages"
#: What the daemon takes up on the disk with all that it requires, at most; Python itself is the system's.
MOST_MEGABYTES = 310
#: Older before newer.
VERSIONS = [
    *(("0.1.0.dev1", "3.11"), ("0.1.0a1", "3.11"), ("0.1.0b2", "3.11"), ("0.1.0rc1", "3.11"), ("0.1.0", "3.11")),
    *(("0.1.0", "3.13"), ("0.1.1", "3.11"), ("0.10.0", "3.11"), ("1.0.0", "3.11")),
]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package for this machine, not compressed."""
    return build(_said("dpkg", "--print-architecture"), sys.executable, tmp_path_factory.mktemp("deb"), "none")


@pytest.fixture(scope="module")
def files(package):
    """Each file of the package by its path, and the content of small ones."""
    process = subprocess.Popen([tool("dpkg-deb", "dpkg"), "--fsys-tarfile", package], stdout=subprocess.PIPE)
    with process, tarfile.open(fileobj=process.stdout, mode="r|") as archive:
        return {member.name: (member, _content(archive, member)) for member in archive}


def _content(archive, member):
    small = member.isfile() and member.size < 10_000
    return archive.extractfile(member).read().decode(errors="replace") if small else ""


def _said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _field(package, name):
    return _said("dpkg-deb", "--field", package, name)


def test_versions_are_in_the_order_of_releases():
    names = [debian_version(version, python) for version, python in VERSIONS]
    for older, newer in itertools.combinations(names, 2):
        subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=True)


def test_it_depends_on_the_python_that_it_is_for(package, files):
    assert _field(package, "Version") == debian_version(__version__, PYTHON)
    assert f"python{PYTHON}" in _field(package, "Depends").split(", ")
    assert files["./opt/emotion-edge/bin/python3"][0].linkname == f"/usr/bin/python{PYTHON}"
    modules = [name for name in files if name.endswith(".so") and ".cpython-" in name]
    assert modules
    assert all(f".cpython-{PYTHON.replace('.', '')}-" in name for name in modules)


def test_it_takes_up_no_more_than_it_may(package, figure):
    megabytes = int(_field(package, "Installed-Size")) * 1024 / 1e6
    assert 150 < megabytes <= MOST_MEGABYTES
    figure(f"the daemon with its packages takes {megabytes:.0f} MB on the disk (bar ≤ {MOST_MEGABYTES})")


def test_it_brings_what_the_daemon_needs_and_nothing_else(files):
    installed = {
        name.split("/")[6].partition("-")[0].lower() for name in files if re.search(r"dist-info/METADATA$", name)
    }
    assert {"emotion_edge", "ai_edge_litert", "numpy", "opencv_python_headless", "paho_mqtt", "waitress"} <= installed
    assert not installed & {"tensorflow", "keras", "tflite_runtime", "amqtt", "pip", "pytest"}
    assert f"{SITE}/edge/models/emotions.tflite" in files
    assert not [name for name in files if name.endswith((".pyc", "direct_url.json"))]
    places = {"/".join(name.split("/")[1:3]) for name, (member, _) in files.items() if not member.isdir()}
    assert places == {"etc/emotion-edge", "opt/emotion-edge", "usr/bin", "usr/lib", "usr/share"}


def test_no_file_names_the_machine_that_built_it(files):
    foreign = {str(ROOT), sys.prefix}
    small = ((name, text) for name, (member, text) in files.items() if text and not member.issym())
    assert [name for name, text in small if any(path in text for path in foreign)] == []


def test_units_start_a_program_of_the_package(files):
    for name in ("emotion-edge.service", "emotion-edge@.service"):
        unit = files[f"./usr/lib/systemd/system/{name}"][1]
        program = re.search(r"^ExecStart=(\S+)", unit, re.M)[1]
        member, script = files[f".{program}"]
        assert member.mode == 0o755
        assert script.startswith("#!/opt/emotion-edge/bin/python3 -I\n")
    assert files["./usr/bin/emotion-edge"][0].linkname == program
    assert "./usr/lib/sysusers.d/emotion-edge.conf" in files


def test_settings_are_the_administrators(package, files):
    assert _said("dpkg-deb", "--info", package, "conffiles") == "/etc/emotion-edge/edge.yaml"
    assert files["./etc/emotion-edge/edge.yaml"][0].mode == 0o640
    others = {
        member.mode for name, (member, _) in files.items() if not member.issym() and not name.startswith("./etc/")
    }
    assert others == {0o644, 0o755}
    assert {(member.uid, member.gid) for member, _ in files.values()} == {(0, 0)}


def test_the_settings_as_they_come_are_good_but_for_a_camera(tmp_path):
    text = (HERE / "edge.yaml").read_text()
    path = tmp_path / "edge.yaml"
    check = [sys.executable, "-m", "edge.cli", "check", path]
    path.write_text(text)
    refused = subprocess.run(check, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert re.fullmatch(rf"{path}:\d+: cameras: .*\n", refused.stderr)
    # As somebody would edit it: the marks before a camera taken away.
    path.write_text(text.replace("  # desk:", "  desk:").replace("  #   source: 0 ", "    source: 0 "))
    assert ": good;" in subprocess.run(check, capture_output=True, text=True, check=True).stdout


def test_the_settings_of_the_guide_are_good(tmp_path):
    guide = (ROOT / "deploy" / "raspberry-pi.md").read_text()
    path = tmp_path / "edge.yaml"
    path.write_text(re.search(r"```yaml\n(version: 2\n.+?)```", guide, re.S)[1])
    subprocess.run([sys.executable, "-m", "edge.cli", "check", path], capture_output=True, check=True)


@pytest.mark.parametrize("name", SCRIPTS)
def test_maintainer_scripts_end_at_the_first_mistake(package, name):
    script = HERE / name
    assert _said("dpkg-deb", "--info", package, name) == script.read_text().strip()
    assert script.read_text().startswith("#!/bin/sh\n")
    assert "\nset -e\n" in script.read_text()
    subprocess.run(["sh", "-n", script], check=True)
    assert script.stat().st_mode & 0o111
