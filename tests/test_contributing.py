"""What those who carry on are told: that it names what there is."""

import re

import pytest
import yaml

from tests.parts.daemon import ROOT

TEXTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "ARCHITECTURE.md")


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", (ROOT / name).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("name", TEXTS)
def test_targets_of_make_exist(name):
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:`|^    )make ([a-z0-9]+)", (ROOT / name).read_text(), re.M))
    assert named <= targets


def test_hooks_run_what_make_test_installs():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert local["repo"] == "local"
    programs = [hook["entry"].split()[0] for hook in local["hooks"]]
    assert set(programs) == {".venv/bin/ruff", ".venv/bin/mypy"}
    makefile = (ROOT / "Makefile").read_text()
    assert all(program.replace(".venv/bin", "$(BIN)") in makefile for program in programs)


def test_the_workflow_calls_make_test_and_its_actions_are_pinned():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    jobs = workflow["jobs"]
    assert {name: job["steps"][-1]["run"] for name, job in jobs.items()} == {"test": "make test", "audit": "make audit"}
    actions = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert actions
    assert all(re.fullmatch(r"[\w./-]+@v\d+\.\d+\.\d+", action) for action in actions)


def test_the_changelog_begins_with_what_is_not_released():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == "Unreleased"
    assert all(re.fullmatch(r"\[?\d+\.\d+\.\d+\]? - \d{4}-\d\d-\d\d", heading) for heading in headings[1:])
