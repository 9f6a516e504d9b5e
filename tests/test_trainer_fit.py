"""Trainings that can be trusted: repeatable, resumable, stopped in time, and clear about what went wrong."""

import json
import resource
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.parts import eventually
from tests.parts.child import Child
from tests.parts.trainer_faces import TINY, drawn_samples
from trainer.config import Config, Training, changed
from trainer.data.datasets import DataError
from trainer.files import WriteError
from trainer.training.checkpoints import load, load_network
from trainer.training.devices import DeviceError
from trainer.training.fit import TrainingError, fit, is_over
from trainer.training.judge import Judge
from trainer.training.run_folder import CheckpointError, read_log

TRAIN, VALIDATION = drawn_samples(8), drawn_samples(2, seed=1)
NOBODY = VALIDATION.subset(np.arange(0))
#: All that draws random numbers or keeps a state.
CONFIG = changed(
    Config.model_validate(TINY),
    {
        "architecture.stem": 4,
        "architecture.stages": [8],
        "architecture.dropout": 0.3,
        "training.epochs": 4,
        "training.weight_decay": 0.05,
        "training.average_momentum": 0.9,
        "training.mixup": 0.2,
        "training.label_smoothing": 0.1,
        "training.class_weights": 0.5,
    },
)
# Trains like any other process, but stands still in the middle of its third epoch.
STANDS_STILL = """
import sys, time
from pathlib import Path
from trainer.quiet import load_keras
load_keras()
from rich.progress import Progress
from tests.test_trainer_fit import TRAIN, VALIDATION
from trainer.config import Config
from trainer.training.fit import fit
from trainer.training.run_folder import read_log

run, config = Path(sys.argv[1]), Config.model_validate_json(sys.argv[2])
steps = 0

def advance(progress, task):
    global steps
    steps += len(read_log(run)) == 2
    if steps == 3:
        (run / "stands still").touch()
        time.sleep(600)

Progress.advance = advance
fit(TRAIN, VALIDATION, config, run)
"""


class Stopped(Exception):  # noqa: N818
    pass


def with_precision(precision: str) -> Config:
    return changed(CONFIG, {"training.precision": precision})


def weights(model: keras.Model) -> list[np.ndarray]:
    found: list[np.ndarray] = model.get_weights()
    return found


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def judged(run: Path) -> list[dict[str, Any]]:
    """The log without what may differ: how long it took."""
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in read_log(run)]


def stop_after(epochs: int):
    def after_epoch(epoch: int, accuracy: float) -> None:
        if epoch == epochs:
            raise Stopped(accuracy)

    return after_epoch


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Run and weights of an uninterrupted training in a precision."""
    done: dict[str, tuple[Path, list[np.ndarray]]] = {}

    def train(precision: str) -> tuple[Path, list[np.ndarray]]:
        if precision not in done:
            run = tmp_path_factory.mktemp(precision) / "run"
            done[precision] = run, weights(fit(TRAIN, VALIDATION, with_precision(precision), run))
        return done[precision]

    return train


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A run that was ended after its second epoch; to be copied."""
    run: Path = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(Stopped):
        fit(TRAIN, VALIDATION, CONFIG, run, stop_after(2))
    return run


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_killed_in_mid_epoch_and_resumed_the_weights_are_the_same(straight, parts, tmp_path, precision):
    config, run = with_precision(precision), tmp_path / "run"
    path = str(Path(__file__).parents[1])
    arguments = [sys.executable, "-c", STANDS_STILL, str(run), config.model_dump_json()]
    child = parts.start(Child(arguments, tmp_path, {"PYTHONPATH": path}))
    eventually(lambda: (run / "stands still").exists() or not child.running, 120, "third epoch", child.tail)
    assert child.running, child.tail()
    with pytest.raises(CheckpointError, match="another process trains here"):
        fit(TRAIN, VALIDATION, config, run)
    child.kill()
    assert len(read_log(run)) == 2

    told: list[int] = []
    resumed = weights(fit(TRAIN, VALIDATION, config, run, lambda epoch, _: told.append(epoch)))
    assert told == [3, 4]
    other, expected = straight(precision)
    assert same(resumed, expected)
    assert judged(run) == judged(other)


def test_same_seed_gives_the_same_weights_and_another_does_not(straight, tmp_path):
    _, expected = straight("float32")
    assert same(weights(fit(TRAIN, VALIDATION, CONFIG, tmp_path / "again")), expected)
    other = changed(CONFIG, {"seed": 6, "training.epochs": 1})
    assert not same(weights(fit(TRAIN, VALIDATION, other, tmp_path / "other")), expected)


def test_finished_run_is_loaded_and_not_trained_again(straight):
    run, expected = straight("float32")
    before = read_log(run)
    assert same(weights(fit(TRAIN, VALIDATION, CONFIG, run, stop_after(1))), expected)
    assert read_log(run) == before
    assert not (run / "checkpoint.npz").exists()


def test_curves_can_be_read_back(straight):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = straight("float32")
    curves = EventAccumulator(str(run / "tensorboard"))
    curves.Reload()
    for tag, key in (("loss",) * 2, ("validation accuracy", "validation_accuracy"), ("learning rate", "learning_rate")):
        found = [(event.step, event.value) for event in curves.Scalars(tag)]
        assert found == [(entry["epoch"], pytest.approx(entry[key])) for entry in read_log(run)]


def test_full_disk_costs_no_more_than_the_epoch(straight, stopped, tmp_path):
    run = shutil.copytree(stopped, tmp_path / "run")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoint: list[bytes] = []

    def fill_disk(epoch: int, _: float) -> None:
        if epoch == 3:
            checkpoint.append((run / "checkpoint.npz").read_bytes())
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))

    try:
        with pytest.raises(WriteError, match=r"run/checkpoint\.npz: .*; choose another folder"):
            fit(TRAIN, VALIDATION, CONFIG, run, fill_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(run / "checkpoint.npz").read_bytes()] == checkpoint
    assert not list(run.glob("*partial*")) + list(run.glob(".*partial*"))
    assert same(weights(fit(TRAIN, VALIDATION, CONFIG, run)), straight("float32")[1])


def test_checkpoint_of_another_architecture_is_refused(stopped, tmp_path):
    run = shutil.copytree(stopped, tmp_path / "run")
    (run / "config.json").unlink()
    before = (run / "checkpoint.npz").read_bytes()
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: is of another architecture.*; remove"):
        fit(TRAIN, VALIDATION, changed(CONFIG, {"architecture.stages": [8, 8]}), run)
    assert (run / "checkpoint.npz").read_bytes() == before
    assert len(read_log(run)) == 2


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no such thing", None])
def test_damaged_checkpoint_is_refused(stopped, tmp_path, content):
    run = shutil.copytree(stopped, tmp_path / "run")
    whole = (run / "checkpoint.npz").read_bytes()
    (run / "checkpoint.npz").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: unreadable .*remove .*run to start again"):
        fit(TRAIN, VALIDATION, CONFIG, run)
    assert len(read_log(run)) == 2


@pytest.mark.parametrize("name", ["best.weights.h5", "config.json"])
def test_damaged_finished_run_is_refused(straight, tmp_path, name):
    run = shutil.copytree(straight("float32")[0], tmp_path / "run")
    (run / name).write_bytes(b"PK\x03\x04 no such thing")
    with pytest.raises(CheckpointError, match=rf"{name}: unreadable .*remove .*run to start again"):
        fit(TRAIN, VALIDATION, CONFIG, run)


def test_loss_that_is_no_number_names_the_learning_rate(tmp_path):
    config = changed(CONFIG, {"training.learning_rate": 1e30, "training.optimizer": "sgd"})
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 1: training\.learning_rate 1e\+30 is too high"):
        fit(TRAIN, VALIDATION, config, tmp_path / "run")
    assert not (tmp_path / "run/checkpoint.npz").exists()


def test_absent_gpu_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.training.devices.gpus", lambda: 0)
    with pytest.raises(DeviceError, match=r"training\.device: gpu is asked for, and tensorflow finds none"):
        fit(TRAIN, VALIDATION, changed(CONFIG, {"training.device": "gpu"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_start_gives_the_first_weights(straight, tmp_path):
    _, expected = straight("float32")
    start = tmp_path / "start.keras"
    run, _ = straight("float32")
    fit(TRAIN, VALIDATION, CONFIG, run).save(start)
    still = {"training.start": str(start), "training.learning_rate": 1e-12, "training.epochs": 1}
    model = fit(TRAIN, VALIDATION, changed(CONFIG, {**still, "training.device": "cpu"}), tmp_path / "run")
    names = [weight.path for weight in model.weights]
    for name, found, wanted in zip(names, weights(model), expected, strict=True):
        if "moving" not in name:  # the statistics are measured anew
            np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert same(weights(load_network(start)), expected)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"architecture.stages": [12]}, r"start\.keras: layer conv2d_\w+ has weights .*8\).*wants .*12\)"),
        (
            {"architecture.stages": [12], "architecture.stem": 2},
            r"start\.keras: layer conv2d_\w+ has weights .*wants .*12\)",
        ),
        ({"architecture.blocks": 2}, r"start\.keras: "),
    ],
)
def test_start_of_another_architecture_is_refused(straight, tmp_path, change, what):
    run, _ = straight("float32")
    start = tmp_path / "start.keras"
    fit(TRAIN, VALIDATION, CONFIG, run).save(start)
    with pytest.raises(CheckpointError, match=what) as error:
        fit(TRAIN, VALIDATION, changed(CONFIG, {"training.start": str(start), **change}), tmp_path / "run")
    assert "\n" not in str(error.value)


def test_narrower_network_starts_with_the_first_channels(straight, tmp_path):
    _, wide = straight("float32")
    run, _ = straight("float32")
    start = tmp_path / "start.keras"
    fit(TRAIN, VALIDATION, CONFIG, run).save(start)
    still = {"training.start": str(start), "training.learning_rate": 1e-12, "training.epochs": 1}
    config = changed(CONFIG, {**still, "architecture.stages": [5], "training.device": "cpu"})
    model = fit(TRAIN, VALIDATION, config, tmp_path / "run")
    for name, found, wanted in zip([weight.path for weight in model.weights], weights(model), wide, strict=True):
        if "moving" not in name:
            np.testing.assert_allclose(found, wanted[tuple(map(slice, found.shape))], atol=1e-6)
    assert any(found.shape != wanted.shape for found, wanted in zip(weights(model), wide, strict=True))


@pytest.mark.parametrize("change", [{"architecture.stages": [6, 5]}, {"crop.size": 40}])
def test_what_is_flattened_starts_no_network_of_other_size(change, tmp_path):
    lenet = {"architecture.kind": "lenet", "architecture.stem": None, "architecture.blocks": None}
    config = changed(CONFIG, {**lenet, "architecture.stages": [6, 8], "crop.size": 48, "training.epochs": 1})
    start = tmp_path / "start.keras"
    fit(TRAIN, VALIDATION, config, tmp_path / "large").save(start)
    with pytest.raises(CheckpointError, match=r"start\.keras: layer .* has weights"):
        fit(TRAIN, VALIDATION, changed(config, {"training.start": str(start), **change}), tmp_path / "run")


def test_shallower_network_starts_with_the_first_layers(tmp_path):
    start = tmp_path / "start.keras"
    short = changed(CONFIG, {"training.epochs": 1, "training.device": "cpu"})
    deep = fit(TRAIN, VALIDATION, changed(short, {"architecture.blocks": 2}), tmp_path / "deep")
    deep.save(start)
    still = {"training.start": str(start), "training.learning_rate": 1e-12}
    model = fit(TRAIN, VALIDATION, changed(short, {**still, "architecture.blocks": 1}), tmp_path / "run")
    *first, _kernel, _bias = zip(model.weights, weights(model), weights(deep), strict=False)
    assert len(deep.weights) > len(model.weights) > 2
    for weight, found, wanted in first:
        if "moving" not in weight.path:
            np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert not np.allclose(weights(model)[-2], weights(deep)[-2])


def test_start_that_is_no_network_is_refused(tmp_path):
    (tmp_path / "bad.keras").write_text("nothing")
    for name, what in (("bad.keras", "no Keras model"), ("none.keras", "no such file")):
        with pytest.raises(CheckpointError, match=f"{name}: {what}"):
            fit(TRAIN, VALIDATION, changed(CONFIG, {"training.start": str(tmp_path / name)}), tmp_path / "run")


def log_of(*accuracies: float, seconds: float = 1) -> list[dict[str, Any]]:
    return [{"validation_accuracy": accuracy, "seconds": seconds} for accuracy in accuracies]


def test_training_is_over_when_epochs_time_or_patience_are():
    assert not is_over([], Training(epochs=1, minutes=1e-9, patience=1))
    assert not is_over(log_of(0.1, 0.2), Training(epochs=3))
    assert is_over(log_of(0.1, 0.2, 0.3), Training(epochs=3))
    assert not is_over(log_of(0.1, 0.2, seconds=29), Training(epochs=9, minutes=1))
    assert is_over(log_of(0.1, 0.2, seconds=31), Training(epochs=9, minutes=1))
    patient = Training(epochs=9, patience=2)
    assert not is_over(log_of(0.1, 0.5, 0.5), patient)
    assert is_over(log_of(0.1, 0.5, 0.5, 0.4), patient)
    assert not is_over(log_of(0.1, 0.5, 0.4, 0.6), patient)


def test_time_budget_and_last_weights(tmp_path):
    config = changed(CONFIG, {"training.minutes": 1e-6, "training.keep": "last", "training.average_momentum": 0})
    told: list[tuple[int, float]] = []
    fit(TRAIN, NOBODY, config, tmp_path / "run", lambda *epoch: told.append(epoch))
    assert [epoch for epoch, _ in told] == [1]
    assert np.isnan(told[0][1])
    assert (tmp_path / "run/best.weights.h5").is_file()


@pytest.mark.parametrize("keep", ["best", "last"])
def test_best_or_last_weights_are_kept(tmp_path, monkeypatch, keep):
    accuracy, seen = Judge.accuracy, []

    def told(judge, learner):
        accuracy(judge, learner)
        seen.append(judge.network.get_weights())
        return (0.2, 0.9, 0.1)[len(seen) - 1]

    monkeypatch.setattr(Judge, "accuracy", told)
    config = changed(CONFIG, {"training.epochs": 3, "training.keep": keep})
    model = fit(TRAIN, VALIDATION, config, tmp_path / "run")
    assert same(weights(model), seen[1 if keep == "best" else 2])
    assert not same(seen[1], seen[2])


def test_without_faces_to_choose_on_the_last_weights_must_do(tmp_path):
    with pytest.raises(DataError, match=r"training\.keep last"):
        fit(TRAIN, NOBODY, CONFIG, tmp_path / "run")


def test_log_and_curves_are_those_of_the_checkpoint(stopped, tmp_path):
    # Killed between checkpoint and log, or between the log's lines.
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = shutil.copytree(stopped, tmp_path / "run")
    expected = judged(run)
    (run / "log.jsonl").write_text(json.dumps(expected[0]) + "\n{")
    with pytest.raises(Stopped):
        fit(TRAIN, VALIDATION, CONFIG, run, stop_after(3))
    assert judged(run)[:2] == expected
    curves = EventAccumulator(str(run / "tensorboard"))
    curves.Reload()
    assert [event.step for event in curves.Scalars("loss")] == [1, 2, 3]


@pytest.mark.parametrize("switch", [True, False])
def test_an_epoch_goes_on_from_the_average_of_the_one_before_or_from_its_end(switch, tmp_path):
    config = changed(CONFIG, {"training.average_switch": switch, "training.keep": "last"})
    with pytest.raises(Stopped):
        fit(TRAIN, VALIDATION, config, tmp_path, stop_after(2))
    state = load(tmp_path / "checkpoint.npz")
    kernels, averages = ([values for values in part if values.ndim == 4] for part in (state.model, state.optimizer))
    assert kernels
    for kernel in kernels:
        assert any(np.array_equal(kernel, average) for average in averages) == switch
    for kept in (values for values in state.kept if values.ndim == 4):
        assert any(np.array_equal(kept, average) for average in averages), "what is judged and kept is the average"


def test_run_of_other_faces_is_left_alone(stopped, straight, tmp_path):
    for number, begun in enumerate((stopped, straight("float32")[0])):
        run = shutil.copytree(begun, tmp_path / f"{number}" / "run")
        before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
        moved = replace(VALIDATION, landmarks=np.zeros_like(VALIDATION.landmarks))
        for train, validation in (
            (TRAIN.first(len(TRAIN) - 1), VALIDATION),
            (TRAIN, VALIDATION.first(3)),
            (TRAIN, moved),
        ):
            with pytest.raises(CheckpointError, match=r"run: was trained with other faces, labels or landmarks"):
                fit(train, validation, CONFIG, run)
        assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_run_of_another_configuration_is_left_alone(stopped, tmp_path):
    run = shutil.copytree(stopped, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with pytest.raises(CheckpointError, match=r"run: was trained with another configuration"):
        fit(TRAIN, VALIDATION, changed(CONFIG, {"seed": 99}), run)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
