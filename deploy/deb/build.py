"""Builds the Debian package: `make deb`, or `python -m deploy.deb.build --architecture arm64`.

The package brings everything but Python: a virtual environment in /opt/emotion-edge whose interpreter is that of the
distribution. Its wheels come from the index as they are, so that nothing of another processor has to run here. They are
bound to one Python; it is the one that `--python` names, and the package depends on it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from edge import __version__

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
#: What Debian and what wheels call a processor.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
#: Wheels built for this glibc 2.x or an older one are taken; `control` depends on it.
GLIBC = 28
#: Every package that comes along, with its version and hashes.
LOCK = ROOT / "requirements" / "edge.lock"
HOME = Path("opt/emotion-edge")
SETTINGS = Path("etc/emotion-edge/edge.yaml")
SCRIPTS = ("postinst", "prerm", "postrm")


def debian_version(version: str, python: str) -> str:
    """Return the version of the package: one for a later Python, of a later Debian, is an upgrade.

    Args:
        version: of the distribution, such as `0.2.0rc1`; what comes before a release is older than it.
        python: such as `3.11`.
    """
    ordered = re.sub(r"(a|b|rc)(?=\d)", r"~\1", version).replace(".dev", "~~dev")
    return f"{ordered}+py{python}"


def build(architecture: str, python: str, output: Path, compression: str = "xz") -> Path:
    """Build the package for `amd64` or `arm64` into a folder; returns its file.

    Args:
        architecture: one of `MACHINES`.
        python: an interpreter, by name or path, whose version the package is for.
        output: made if it is not there.
        compression: as `dpkg-deb -Z` takes it.
    """
    version = _said(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    with tempfile.TemporaryDirectory(prefix="deb-") as folder:
        tree = Path(folder) / "tree"
        _install_packages(tree, Path(folder), architecture, python, version)
        _install_programs(tree, version)
        _install_files(tree)
        _set_modes(tree)
        _write_control(tree, architecture, version)
        output.mkdir(parents=True, exist_ok=True)
        path = output / f"emotion-edge_{debian_version(__version__, version)}_{architecture}.deb"
        _run("dpkg-deb", "--root-owner-group", f"-Z{compression}", "--build", tree, path)
    return path


def _install_packages(tree: Path, folder: Path, architecture: str, python: str, version: str) -> None:
    """Install the wheel of this checkout, and what it requires, into the tree."""
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq"]
    _run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    target = tree / HOME / "lib" / f"python{version}" / "site-packages"
    machine = MACHINES[architecture]
    platforms = [f"manylinux2014_{machine}", *(f"manylinux_2_{minor}_{machine}" for minor in range(17, GLIBC + 1))]
    wanted = [f"--platform={platform}" for platform in platforms]
    pip += ["--python", shutil.which(python) or python]
    install = [*pip, "install", "--no-compile", "--no-deps", "--target", target]
    _run(*install, "--only-binary=:all:", *wanted, "--require-hashes", "--requirement", LOCK)
    _run(*install, wheel)
    # Programs that name the interpreter of this machine, and where the wheel was on it.
    shutil.rmtree(target / "bin")
    (origin,) = target.glob("emotion_edge-*.dist-info/direct_url.json")
    origin.unlink()
    for record in target.glob("*.dist-info/RECORD"):
        lines = record.read_text().splitlines(keepends=True)
        record.write_text(
            "".join(line for line in lines if not line.startswith("../../bin/") and origin.name not in line)
        )


def _install_programs(tree: Path, version: str) -> None:
    """Make a virtual environment of the folder with the packages."""
    (tree / HOME / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    programs = tree / HOME / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(f"/usr/bin/python{version}")
    # Isolated: no variable or folder of the user that calls it brings in other packages.
    (programs / "emotion-edge").write_text(
        f"#!/{HOME}/bin/python3 -I\nfrom edge.__main__ import main\n\nmain()\n", encoding="utf-8"
    )
    (tree / "usr" / "bin").mkdir(parents=True)
    (tree / "usr" / "bin" / "emotion-edge").symlink_to(f"/{HOME}/bin/emotion-edge")


def _install_files(tree: Path) -> None:
    """Copy units, user, settings and documentation to their places."""
    documents = tree / "usr" / "share" / "doc" / "emotion-edge"
    for source, target in (
        (ROOT / "systemd" / "emotion-edge.service", tree / "usr/lib/systemd/system"),
        (ROOT / "systemd" / "emotion-edge@.service", tree / "usr/lib/systemd/system"),
        (ROOT / "systemd" / "sysusers.d" / "emotion-edge.conf", tree / "usr/lib/sysusers.d"),
        (HERE / "edge.yaml", (tree / SETTINGS).parent),
        (ROOT / "configs" / "edge.yaml", documents / "examples"),
        (ROOT / "NOTICE", documents),
        (ROOT / "CHANGELOG.md", documents),
    ):
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    (documents / "copyright").write_text((HERE / "copyright").read_text() + (ROOT / "LICENSE").read_text())


def _set_modes(tree: Path) -> None:
    """Let everybody read all files, whatever the builder's umask, but the settings, which may hold passwords."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    (tree / HOME / "bin" / "emotion-edge").chmod(0o755)
    (tree / SETTINGS).chmod(0o640)


def _write_control(tree: Path, architecture: str, python: str) -> None:
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    control = tree / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(
        (HERE / "control")
        .read_text()
        .format(
            version=debian_version(__version__, python),
            architecture=architecture,
            kibibytes=sum(-(-path.stat().st_size // 1024) for path in files),
            python=python,
            glibc=GLIBC,
        )
    )
    (control / "conffiles").write_text(f"/{SETTINGS}\n")
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n" for path in files]  # noqa: S324
    (control / "md5sums").write_text("".join(sums))
    for name in SCRIPTS:
        shutil.copy(HERE / name, control)
        (control / name).chmod(0o755)
    control.chmod(0o755)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": _date()}, stdout=subprocess.DEVNULL)


def _said(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()


def _date() -> str:
    """Return the date that files get, seconds since 1970: that of the commit, so that it makes the same file again."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return os.environ["SOURCE_DATE_EPOCH"]
    try:
        return _said("git", "log", "-1", "--format=%ct")
    except (OSError, subprocess.CalledProcessError):  # unpacked from an archive, or the checkout of another user
        return str(int((ROOT / "pyproject.toml").stat().st_mtime))


def main() -> None:
    """Build the package, and print its file and what it takes up."""
    parser = argparse.ArgumentParser(description="Build the Debian package.")
    parser.add_argument("--architecture", choices=MACHINES, default=_said("dpkg", "--print-architecture"))
    parser.add_argument("--python", default=sys.executable, help="interpreter whose version it is for")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--compression", default="xz")
    arguments = parser.parse_args()
    path = build(arguments.architecture, arguments.python, arguments.output, arguments.compression)
    kibibytes = int(_said("dpkg-deb", "--field", path, "Installed-Size"))
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {kibibytes * 1024 / 1e6:.1f} MB installed")


if __name__ == "__main__":
    main()
