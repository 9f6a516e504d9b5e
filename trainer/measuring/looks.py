"""The record of looks at test data: who looks twice has begun to choose."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

from trainer.measuring.evaluation import Evaluation

#: What was seen of which file, and when: committed.
TEST_LOOKS = Path(__file__).parents[1] / "test_looks.jsonl"


def record_look(found: Evaluation, looks: Path) -> None:
    """Append one line to the record of looks at test data."""
    line = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "file": found.model.name,
        "sha256": found.sha256,
        "variant": found.variant,
        **{
            name: {protocol: judged.figures.summary() for protocol, judged in by_protocol.items()}
            for name, by_protocol in found.own.items()
        },
    }
    with looks.open("a") as file:
        file.write(json.dumps(line) + "\n")
