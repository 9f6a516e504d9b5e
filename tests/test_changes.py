"""What a changed settings file asks for."""

from __future__ import annotations

from typing import Any

import pytest

from edge.changes import LIVE, changes
from edge.settings import Settings

BASE: dict[str, Any] = {"node": "pi", "cameras": {"a": {"source": "0"}, "b": {"source": "1"}}}


def settings(**more: Any) -> Settings:
    return Settings.model_validate({**BASE, **more})


def test_nothing_is_to_be_done_for_the_same_settings() -> None:
    found = changes(settings(), settings())
    assert (found.everything, found.stop, found.start, found.removed) == ((), (), (), ())


def test_only_cameras_that_changed_are_touched() -> None:
    new = settings(cameras={"c": {"source": "2"}, "a": {"source": "0", "max_fps": 5}, "b": {"source": "1"}})
    found = changes(settings(), new)
    assert (found.everything, found.stop, found.start, found.removed) == ((), ("a",), ("c", "a"), ())
    assert changes(new, settings()).removed == ("c",)


def test_faces_of_each_frame_are_a_matter_of_one_camera() -> None:
    new = settings(cameras={"a": {"source": "0"}, "b": {"source": "1", "faces": True}})
    for found in (changes(settings(), new), changes(new, settings())):
        assert (found.everything, found.stop, found.start, found.removed) == ((), ("b",), ("b",), ())


@pytest.mark.parametrize(
    "more",
    [
        {"tracking": {"appear": 1}},
        {"detector": {"threshold": 0.6}},
        {"summary": {"period": 5}},
        {"log": {"level": "debug"}},
        {"log": {"format": "json"}},
        {"model": "x.tflite"},
    ],
)
def test_some_keys_change_while_everything_goes_on(more: dict[str, Any]) -> None:
    found = changes(settings(), settings(**more))
    assert (found.everything, found.stop) == ((), ())


def test_another_interval_is_for_every_camera() -> None:
    assert changes(settings(), settings(detector={"interval": 1})).stop == ("a", "b")


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"mqtt": {"port": 1884}}, "mqtt"),
        ({"node": "other"}, "node"),
        ({"privacy": "aggregate"}, "privacy"),
        ({"detector": {"keep": 0.2}}, "detector"),
        ({"metrics": {"token": "other"}}, "metrics"),
        ({"workers": 1}, "workers"),
    ],
)
def test_other_keys_need_a_new_start_of_everything(more: dict[str, Any], key: str) -> None:
    assert changes(settings(), settings(**more)).everything == (key,)


def test_every_key_is_known() -> None:
    assert set(Settings.model_fields) >= LIVE
