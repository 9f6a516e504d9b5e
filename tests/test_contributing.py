"""What those who carry on are told: that it names what there is."""

import ast
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


def test_the_broad_excepts_of_the_daemon_are_the_supervision_points_that_are_named():
    found = {point for path in (ROOT / "edge").rglob("*.py") for point in broad_excepts(ast.parse(path.read_text()))}
    (named,) = re.findall(r"\*\*Supervision points\*\*.*?\n\n", (ROOT / "ARCHITECTURE.md").read_text(), re.S)
    assert found == set(re.findall(r"`(\w+\.\w+)`", named))


def broad_excepts(node, inside=()):
    """Yield the names of what catches, or suppresses, any exception below a node."""
    inside = (*inside, node.name) if isinstance(node, ast.ClassDef | ast.FunctionDef) else inside
    caught = []
    if isinstance(node, ast.ExceptHandler):
        caught = ["BaseException"] if node.type is None else ast.unparse(node.type).strip("()").split(", ")
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        caught = [ast.unparse(argument) for argument in node.args]
    if {"Exception", "BaseException"} & set(caught):
        yield ".".join(inside)
    for child in ast.iter_child_nodes(node):
        yield from broad_excepts(child, inside)


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
