"""Reads the recipe for Docker, for tests that carry it out without an engine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.parts.daemon import ROOT

HERE = ROOT / "deploy" / "docker"
DOCKERFILE = HERE / "Dockerfile"
COMPOSE = HERE / "compose.yml"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile with their arguments, continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def context(folder: Path) -> None:
    """Copy what an engine is given to build from: committed files that the ignore file lets through."""
    rules = [line for line in (HERE / "Dockerfile.dockerignore").read_text().splitlines() if not line.startswith("#")]
    taken = [rule[1:] for rule in rules if rule.startswith("!")]
    left = [rule for rule in rules if rule not in ("*", "**/__pycache__") and not rule.startswith("!")]
    listed = subprocess.run(["git", "ls-files", *taken], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if not name.startswith(tuple(f"{rule}/" for rule in left)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
