"""Where passwords and tokens can be."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.secret import VARIABLE, secret
from edge.settings import Settings, SettingsError
from edge.settings_file import load_settings


def test_environment_file_and_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMERA_PASSWORD", "of the environment")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "token").write_text("of systemd\n")
    (tmp_path / "broker.secret").write_text("of a file  \n")
    path = tmp_path / "edge.yaml"
    path.write_text(
        "cameras:\n  door: {source: 'rtsp://a/b', username: u, password: '${CAMERA_PASSWORD}'}\n"
        "mqtt: {username: u, password: {file: broker.secret}}\nmetrics: {token: {credential: token}}\n"
    )
    loaded: Settings = load_settings(path)
    found = loaded.cameras["door"].password, loaded.mqtt.password, loaded.metrics.token
    assert [each.get_secret_value() for each in found if each] == ["of the environment", "of a file  ", "of systemd"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("${NOT_THERE}", "the environment has no NOT_THERE"),
        ("a${NOT_THERE}", "must stand alone"),
        ("'${NOT_THERE} '", "must stand alone"),
        ('{file: "a\\0b"}', "no control characters"),
        ("{file: ~/x}", "~ does not stand for a folder"),
        ("{file: none}", "No such file"),
        ("{file: empty}", "is empty"),
        ("{file: bytes}", "no text in UTF-8"),
        ("{credential: token}", "LoadCredential="),
        ("{path: x}", "must be text"),
        ("{file: empty, credential: x}", "must be text"),
    ],
)
def test_what_is_missing_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, says: str
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfehunter2")
    path = tmp_path / "edge.yaml"
    path.write_text(f"cameras:\n  door: {{source: 0}}\nmqtt:\n  username: u\n  password: {value}\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert str(caught.value).startswith(f"{path}:5: mqtt.password: ")
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_credential_is_no_way_out_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    (tmp_path / "other").write_text("x")
    with pytest.raises(ValueError, match="No such file"):
        secret({"credential": "../other"}, tmp_path)


@given(st.text())
def test_any_other_text_is_the_secret_itself(text: str) -> None:
    if not VARIABLE.search(text):
        assert secret(text, Path()) == text
