"""The model file is watched and read again."""

import logging

import pytest

from edge.bundle import BundleError
from edge.model import ModelFile
from tests.parts.samples import LABELS, write_model


@pytest.fixture
def path(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    return write_model(tmp_path / "model.tflite", version="one")


@pytest.fixture
def model(path):
    return ModelFile(path)


def test_nothing_changes_by_itself(model):
    assert [model.check() for _ in range(3)] == [False] * 3
    assert model.check(asked=True) is False
    assert model.name.endswith(" one")


def test_a_replaced_file_is_taken_once_it_looks_the_same_twice(path, model, caplog):
    write_model(path, version="two")
    assert [model.check() for _ in range(3)] == [False, True, False]
    assert model.name.endswith(" two")
    assert " one replaced by " in caplog.text


def test_asked_for_it_is_taken_at_once(path, model):
    write_model(path, version="two")
    assert model.check(asked=True)
    assert [model.check() for _ in range(2)] == [False] * 2


def test_a_touched_file_is_no_other_model(path, model):
    path.touch()
    assert [model.check() for _ in range(3)] == [False] * 3


@pytest.mark.parametrize("spoil", ["truncate", "vanish", "checksum", "labels"])
def test_a_bad_file_is_refused_once_and_a_good_one_taken_after_it(path, model, caplog, spoil):
    if spoil == "truncate":
        path.write_bytes(path.read_bytes()[:1000])
    elif spoil == "vanish":
        path.unlink()
    elif spoil == "checksum":
        write_model(path, sha256="0" * 64)
    else:
        write_model(path, labels="\n".join(LABELS[:3]))
    assert [model.check() for _ in range(4)] == [False] * 4
    assert model.name.endswith(" one")
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "model refused" in line
    assert str(path) in line
    assert " one goes on" in line
    write_model(path, version="three")
    assert [model.check() for _ in range(2)] == [False, True]
    assert model.name.endswith(" three")


def test_the_first_file_must_be_good(tmp_path):
    with pytest.raises(BundleError):
        ModelFile(tmp_path / "none.tflite")
