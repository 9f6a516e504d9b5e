"""Reads the recipe for Docker, for tests that carry it out without an engine."""

from __future__ import annotations

import re
import shutil
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
    """Copy what an engine is given to build from: what the ignore file lets through."""
    rules = [line for line in (HERE / "Dockerfile.dockerignore").read_text().splitlines() if not line.startswith("#")]
    taken = [ROOT / rule[1:] for rule in rules if rule.startswith("!")]
    left = tuple(f"{ROOT / rule}/" for rule in rules if not rule.startswith(("!", "*")))
    for path in (each for root in taken for each in (root, *root.rglob("*"))):
        if path.is_file() and "__pycache__" not in path.parts and not str(path).startswith(left):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
