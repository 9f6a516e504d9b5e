"""The bar of `make test`, and that nothing is left out below it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.coverage import main, verdict
from tests.parts.daemon import ROOT


@pytest.mark.parametrize(("lines", "branches", "enough"), [(95, 90, True), (89.9, 95, False), (95, 89.9, False)])
def test_lines_and_branches_have_to_suffice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: float, branches: float, enough: bool
) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps({"totals": {"percent_statements_covered": lines, "percent_branches_covered": branches}}))
    said, found = verdict(file)
    assert found is enough
    assert f"{branches:.1f} % of the branches" in said
    monkeypatch.setattr("sys.argv", ["coverage", str(file)])
    assert main() == (0 if enough else 1)


def test_nothing_is_left_out_of_the_count() -> None:
    marked = [path for path in (ROOT / "edge").rglob("*.py") if "pragma: no" in path.read_text()]
    assert marked == []
    settings = (ROOT / "pyproject.toml").read_text().partition("[tool.coverage.run]")[2].partition("[tool.pytest")[0]
    assert settings.split() == ["branch", "=", "true", "source", "=", '["edge"]']
    makefile = (ROOT / "Makefile").read_text()
    assert "--cov --cov-report=json:$(COVERAGE)" in makefile
    assert "-m tests.coverage $(COVERAGE)" in makefile
