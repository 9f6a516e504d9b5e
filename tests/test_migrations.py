"""Settings files of older versions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge.migrations import STEPS, VERSION, VersionError, migrate
from edge.settings import Settings, SettingsError
from edge.settings_file import load_settings

SMALL = "cameras:\n  door:\n    source: 0\n"


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Settings]:
    def loader(text: str) -> Settings:
        (tmp_path / "edge.yaml").write_text(text)
        return load_settings(tmp_path / "edge.yaml")

    return loader


def test_there_is_a_step_from_every_version() -> None:
    assert set(STEPS) == set(range(1, VERSION))


@pytest.mark.parametrize("version", ["version: 1\n", ""])
def test_first_version_is_read_still(load: Callable[[str], Settings], version: str) -> None:
    loaded = load(f"{version}{SMALL}log_level: debug\nlog_format: json\n")
    assert (loaded.version, loaded.log.level, loaded.log.format) == (2, "debug", "json")


def test_present_version_is_as_written(load: Callable[[str], Settings]) -> None:
    assert load(f"version: 2\n{SMALL}log: {{level: error}}\n").log.level == "error"
    with pytest.raises(SettingsError, match=r"edge\.yaml:5: log_level: unknown key"):
        load(f"version: 2\n{SMALL}log_level: debug\n")


def test_mistake_in_an_older_file_has_its_own_line(load: Callable[[str], Settings]) -> None:
    with pytest.raises(SettingsError, match=r"edge.yaml:6: log\.level: "):
        load(f"version: 1\n{SMALL}log: {{format: json}}\nlog_level: loud\n")


@pytest.mark.parametrize("version", ["3", "0", "1.0", "new", "[1]", "true"])
def test_other_versions_are_refused(load: Callable[[str], Settings], version: str) -> None:
    with pytest.raises(SettingsError, match=r"edge\.yaml:1: version: this emotion-edge reads versions 1 to 2"):
        load(f"version: {version}\n{SMALL}")


@given(
    st.dictionaries(
        st.sampled_from(["version", "log_level", "log_format", "log", "node"]),
        st.sampled_from([1, 2, 3, None, "x", [], {}, {"level": "info"}]),
    )
)
def test_what_was_migrated_is_not_changed_again(content: dict[str, object]) -> None:
    root = yaml.compose(yaml.safe_dump(content), Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    try:
        migrate(root)
    except VersionError:
        return
    once = yaml.serialize(root)
    migrate(root)
    assert yaml.serialize(root) == once
