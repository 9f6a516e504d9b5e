"""Cross-validation: persons are never shared, every face is asked about once, and finished folds are kept."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from tests.parts.trainer_faces import draw_ck48, draw_ferplus, write_config
from trainer.cli import main
from trainer.config import ConfigError, changed, load_config
from trainer.data.datasets import LABELS, DataError, Faces, Samples
from trainer.measuring.folds import Fold, as_json, assign, parts_of, pooled, run_folds
from trainer.training.run_folder import record

PERSONS = tuple(f"S{number:03d}" for number in range(10, 16))


def samples_of(subjects: list[int], classes: list[int]) -> Samples:
    count = len(subjects)
    names = tuple(f"{i}.png" for i in range(count))
    images = np.zeros((count, 48, 48), np.uint8)
    people = tuple(f"S{subject:03d}" for subject in subjects)
    shares = np.eye(len(LABELS), dtype=np.float32)[classes]
    faces = Faces(LABELS, images, shares, names, people, ("train",) * count)
    return Samples(faces, np.full((count, 6, 2), np.nan, np.float32))


def folds(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["folds", *(str(argument) for argument in arguments)])


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 7)), min_size=12, max_size=60), st.integers(0, 5))
def test_no_person_is_in_two_parts(rows, seed):
    # Every person occurs, so that there are enough of them.
    rows = [*rows, *((person, 0) for person in range(12))]
    samples = samples_of([person for person, _ in rows], [label for _, label in rows])
    assigned = assign(samples, 4, seed)
    assert set(assigned) <= set(range(4))
    subjects = np.array(samples.faces.subjects)
    for person in set(subjects):
        assert len(set(assigned[subjects == person])) == 1


def test_every_face_is_asked_about_once_and_trains_in_the_other_folds(tmp_path):
    samples = samples_of([i // 3 for i in range(60)], [i % 8 for i in range(60)])
    last = load_config(write_config(tmp_path / "tiny.yaml", training={"keep": "last"}))
    best = load_config(write_config(tmp_path / "tiny.yaml", training={"keep": "best"}))
    assigned = assign(samples, 5, 0)
    asked = []
    for number in range(5):
        for config in (last, best):
            trained, chosen, others = (set(part.faces.names) for part in parts_of(samples, assigned, number, config))
            assert not trained & others
            assert not chosen & others
            assert bool(trained & chosen) == (config is last)
            assert len(trained | chosen | others) == 60
        asked += list(others)
    assert sorted(asked) == sorted(samples.faces.names)


def test_figures_of_folds_by_hand():
    found = [Fold(1, 2, (0, 1, 1, 1), (0, 1, 1, 0), (0, 1, 1, 1)), Fold(2, 1, (2, 2), (2, 1), (1, 1))]
    result = as_json(found, LABELS)
    assert [fold["int8"] for fold in result["folds"]] == [0.75, 0.5]
    assert result["int8"]["mean"] == 0.625
    assert result["int8"]["deviation"] == pytest.approx(0.25 / np.sqrt(2), abs=1e-6)
    assert result["int8"]["pooled"]["accuracy"] == pytest.approx(4 / 6, abs=1e-6)
    assert pooled(found, "float32", LABELS).confusion[2, 1] == 2


def test_nobody_known_and_too_few(tmp_path):
    samples = samples_of([0, 0, 1, 1], [0, 1, 0, 1])
    with pytest.raises(DataError, match="2 subjects are too few for 3 folds"):
        assign(samples, 3, 0)
    nobody = Samples(replace(samples.faces, subjects=("",) * 4), samples.landmarks)
    with pytest.raises(DataError, match="names no subjects"):
        assign(nobody, 2, 0)
    data = draw_ferplus(tmp_path / "data", each=(4, 2, 2))
    result = folds("--config", write_config(tmp_path / "tiny.yaml"), "--data", data, "--run", tmp_path / "run")
    assert result.exit_code == 2
    assert "names no subjects" in result.stderr
    with pytest.raises(DataError, match="no class has more than 2 faces, too few for 3 folds"):
        assign(samples_of([0, 1, 2], [0, 0, 1]), 3, 0)
    two = load_config(write_config(tmp_path / "tiny.yaml", folds=2, training={"keep": "best"}))
    with pytest.raises(ConfigError, match=r"folds: 2, .* leave none to train on"):
        run_folds(samples, two, tmp_path / "run")


def test_other_folds_and_another_quantisation_are_asked_anew(tmp_path, monkeypatch):
    asked = []

    def one_fold(number, parts, config, folder):
        asked.append(folder.name)
        record(folder, config)
        (folder / "best.weights.h5").touch()
        truth = tuple(parts[2].faces.truth().tolist())
        return Fold(number + 1, 1, truth, truth, truth)

    monkeypatch.setattr("trainer.measuring.folds._one_fold", one_fold)
    samples = samples_of([i // 3 for i in range(60)], [i % 8 for i in range(60)])
    config = load_config(write_config(tmp_path / "tiny.yaml", folds=4))
    for expected in (4, 0):
        asked.clear()
        found = run_folds(samples, config, tmp_path / "run")
        assert (len(asked), sum(len(fold.truth) for fold in found)) == (expected, 60)
    for change, expected in (({"folds": 3}, 3), ({"quantisation.faces": 9}, 4)):
        asked.clear()
        found = run_folds(samples, changed(config, change), tmp_path / "run")
        assert (len(asked), sum(len(fold.truth) for fold in found)) == (expected, 60)


def test_real_folds_are_trained_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = draw_ck48(tmp_path / "data", PERSONS, ("anger", "contempt", "fear"))
    config = write_config(
        tmp_path / "tiny.yaml",
        data={"source": "ck48"},
        folds=3,
        training={"epochs": 8, "batch_size": 6, "keep": "last"},
    )
    run = tmp_path / "run"
    arguments = ("--config", config, "--data", data, "--run", run)
    result = folds(*arguments, "--json")
    assert result.exit_code == 0, result.output
    assert "retracing" not in result.stderr
    first = json.loads(result.stdout)
    assert [fold["n"] for fold in first["folds"]] == [6, 6, 6]
    assert first["int8"]["pooled"]["n"] == 18
    assert first["float32"]["pooled"]["accuracy"] > 0.6  # a third by chance
    models = [path.stat().st_mtime_ns for path in sorted(run.glob("fold-*/tiny.tflite"))]
    assert len(models) == 3

    (run / "fold-02-of-03" / "fold.json").unlink()
    page = tmp_path / "folds.html"
    again = folds(*arguments, "--report", page)
    assert again.exit_code == 0, again.output
    after = [path.stat().st_mtime_ns for path in sorted(run.glob("fold-*/tiny.tflite"))]
    assert [before != now for before, now in zip(models, after, strict=True)] == [False, True, False]
    shown = page.read_text()
    for text in ("persons never shared", "Recall of each class", "pooled, float32"):
        assert text in shown
    for text in ("mean ± deviation", "pooled, int8", "18"):
        assert text in again.stdout

    other = write_config(tmp_path / "other.yaml", data={"source": "ck48"}, folds=3, training={"epochs": 3})
    refused = folds("--config", other, "--data", data, "--run", run)
    assert refused.exit_code == 2
    assert "another configuration" in refused.stderr
