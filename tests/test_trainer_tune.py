"""Searches: tiny ones for real, on processes and on a Ray cluster of two nodes; killed, gone on with, given up."""

import fcntl
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from tests.parts import eventually, free_port
from tests.parts.child import Child
from tests.parts.ray_node import ENVIRONMENT as RAY
from tests.parts.ray_node import RayNode, alive, descendants
from tests.parts.trainer_faces import TINY, draw_ferplus, drawn_samples, write_config
from trainer.cli import main
from trainer.config import Config, changed, load_config
from trainer.search.local_workers import LocalWorkers, _Worker
from trainer.search.space import SearchError, load_space
from trainer.search.trial import Died

RATE = "training.learning_rate"
EPOCHS = 4
#: Every second rate is hopeless.
SPACE: dict[str, Any] = {
    "budget": {"training.epochs": EPOCHS},
    "pruning": {"trials": 1, "epochs": 2},
    "space": {
        RATE: {"choices": [0.01, 1e-7]},
        "architecture.blocks": {"low": 1, "high": 2},
        "augmentation.shift": {"low": 0, "high": 0.1},
    },
}
LONG_EPOCHS = 6
LONG = {"budget": {"training.epochs": LONG_EPOCHS}, "pruning": {"trials": 9}}
COMMAND = [sys.executable, "-c", "from trainer.cli import main; main()"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """A folder with data sets."""
    return draw_ferplus(tmp_path_factory.mktemp("drawn"), each=(16, 4, 1))


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def arguments(folder: Path, data: Path, trials: int, *more: object, **space: object) -> list[str]:
    """Write configuration and search space into `folder` and return the command that searches there."""
    config = write_config(folder / "tiny.yaml")
    (folder / "search.yaml").write_text(yaml.safe_dump({**SPACE, **space}))
    files = ("--search", folder / "search.yaml", "--storage", folder / "search.sqlite3")
    return [str(each) for each in ("tune", "--config", config, "--data", data, "--trials", trials, *files, *more)]


def invoke(command: list[str]) -> Result:
    return CliRunner().invoke(main, command)


def one_line(result: Result) -> str:
    """The only line on stderr of a command that refused its input."""
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    return line


def recorded(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "best.jsonl").read_text().splitlines()]


def assert_all_done(folder: Path, count: int) -> None:
    """Each trial has run to its end, once."""
    trials = recorded(folder)
    ends = [(trial["number"], trial["state"], trial["epochs"]) for trial in trials]
    assert ends == [(number, "done", LONG_EPOCHS) for number in range(count)]
    assert all(set(trial["parameters"]) == set(SPACE["space"]) for trial in trials)
    assert load_config(folder / "best.yaml").name == "tiny-tuned"


class Tune(Child):
    name = "tune"

    def __init__(self, folder: Path, command: list[str]) -> None:
        super().__init__([*COMMAND, *command], folder, {**RAY, "PYTHONPATH": str(Path(__file__).parents[1])})

    def said(self, *words: str) -> bool:
        """Tell whether it has written a line with all these words."""
        return any(all(word in line for word in words) for line in self.lines())

    def children(self) -> list[int]:
        """Return its processes, without multiprocessing's own."""
        found = []
        for pid in descendants(self.pid):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found


# --- the search space ---


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": {"training.rate": {"low": 1, "high": 2}}}, ["training.rate", "no such key"]),
        ({"space": {"seed": {"low": 1, "high": 2}}}, ["seed cannot be searched", "augmentation"]),
        ({"space": {"training.epochs": {"low": 1, "high": 9}}}, ["training.epochs cannot be searched"]),
        (
            {"space": {"training.logit_adjustment": {"low": 0, "high": 1}}},
            ["training.logit_adjustment cannot be searched", "adjustments"],
        ),
        (
            {"space": {"training.logit_shifts.fear": {"low": 0, "high": 1}}},
            ["training.logit_shifts.fear cannot be searched"],
        ),
        ({"space": {RATE: {"low": 0.1, "high": 0.001}}}, [RATE, "low must be less than high"]),
        ({"space": {RATE: {"low": 0, "high": 0.1, "log": True}}}, [RATE, "above 0"]),
        ({"space": {RATE: {"low": 0.001}}}, [RATE, "either low and high or choices"]),
        ({"space": {RATE: {"choices": [0.01], "log": True}}}, [RATE, "do not go with choices"]),
        ({"space": {RATE: {"low": 0.001, "high": 0.1, "steps": 3}}}, [f"{RATE}.steps", "no such key"]),
        ({"space": {RATE: {"low": -0.001, "high": 0.1}}}, [RATE, "greater than 0"]),
        ({"space": {RATE: {"low": 0.1, "high": 0.2}}}, [RATE, "0.01", "is not in 0.1…0.2", "add it"]),
        ({"space": {"training.optimizer": {"choices": ["adamw", "lion"]}}}, ["lion", "'sgd'"]),
        ({"space": {"architecture.blocks": {"low": 1, "high": 2.5}}}, ["architecture.blocks", "integer"]),
        ({"space": {}}, ["space", "at least 1 item"]),
        ({"budget": {"training.epoch": 3}}, ["budget", "training.epoch"]),
        ({"budget": {RATE: 0.01}}, [RATE, "in budget and in space"]),
        ({"pruning": {"after": 3}}, ["pruning.after", "no such key"]),
    ],
)
def test_wrong_search_space_is_told_in_one_line(tmp_path, drawn, changes, words):
    line = one_line(invoke(arguments(tmp_path, drawn, 2, **changes)))
    for word in [str(tmp_path / "search.yaml"), *words]:
        assert word in line
    assert not (tmp_path / "search.sqlite3").exists()


@pytest.mark.parametrize(
    ("content", "word"), [(None, "No such file"), ("a: [", "mend the YAML"), (b"\xff\xfe", "no text")]
)
def test_unreadable_search_space_is_told_in_one_line(tmp_path, drawn, content, word):
    command = arguments(tmp_path, drawn, 2)
    path = tmp_path / "search.yaml"
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert word in one_line(invoke(command))


ENDS = st.floats(0, 2, width=16) | st.integers(0, 3)


@given(low=ENDS, high=ENDS, log=st.booleans(), key=st.sampled_from([RATE, "architecture.dropout", "training.mixup"]))
def test_a_range_is_refused_or_all_of_it_makes_configurations(tmp_path_factory, low, high, log, key):
    path = tmp_path_factory.getbasetemp() / "range.yaml"
    path.write_text(yaml.safe_dump({"space": {key: {"low": low, "high": high, "log": log}}}))
    # The configuration's own value lies in the range, whichever it is.
    config = Config(name="any")
    try:
        config = changed(config, {key: (low + high) / 2})
        space = load_space(path, config)
    except (SearchError, ValueError):
        return
    drawn = space.distributions(config)[key]
    for value in np.linspace(drawn.low, drawn.high, 7):
        changed(config, {key: float(value)})
    assert space.own(config) == {key: (low + high) / 2}


def test_the_search_space_that_comes_with_the_project_fits_its_configuration():
    config = load_config(Path(__file__).parents[1] / "configs/trainer/ferplus.yaml")
    space = load_space(Path(__file__).parents[1] / "configs/trainer/search.yaml", config)
    assert len(space.distributions(config)) == len(space.space)
    sections = {key.split(".")[0] for key in space.space}
    assert sections == {"architecture", "training", "augmentation"}
    for name in ("learning_rate", "schedule", "batch_size", "optimizer", "weight_decay", "label_smoothing", "mixup"):
        assert f"training.{name}" in space.space
    for name in ("training.average_momentum", "training.class_weights", "architecture.activation"):
        assert name in space.space


# --- searches ---


@pytest.fixture(scope="module")
def searched(tmp_path_factory, drawn) -> SimpleNamespace:
    """A finished search of one process."""
    folder = tmp_path_factory.mktemp("searched")
    command = arguments(folder, drawn, 4)
    return SimpleNamespace(folder=folder, command=command, result=invoke(command))


def test_search_gives_up_the_hopeless_and_begins_with_the_default(searched):
    assert searched.result.exit_code == 0, searched.result.output
    trials = recorded(searched.folder)
    assert [trial["number"] for trial in trials] == list(range(4))
    assert trials[0]["parameters"] == {RATE: 0.01, "architecture.blocks": 1, "augmentation.shift": 0.02}
    hopeless = [trial for trial in trials if trial["parameters"][RATE] == 1e-7]
    assert hopeless
    assert {(trial["state"], trial["epochs"]) for trial in hopeless} == {("given up", 2)}
    assert {trial["epochs"] for trial in trials if trial["state"] == "done"} == {EPOCHS}
    assert trials[0]["state"] == "done"
    # What a trial says it trained is what was trained: a line an epoch in the log of the process.
    epochs = [line for line in (searched.folder / "search.sqlite3.log").read_text().splitlines() if ": loss" in line]
    assert len(epochs) == sum(trial["epochs"] for trial in trials)
    assert not any((searched.folder / "search.sqlite3.trials").iterdir())


def test_best_configuration_is_complete_and_trains(searched):
    best = load_config(searched.folder / "best.yaml")
    trials = [trial for trial in recorded(searched.folder) if trial["state"] == "done"]
    winner = max(trials, key=lambda trial: trial["value"])
    assert best.name == "tiny-tuned"
    assert best.training.learning_rate == winner["parameters"][RATE]
    assert best.augmentation.shift == winner["parameters"]["augmentation.shift"]
    assert best.training.epochs == 8  # the configuration's own again, not the budget's
    assert f"trial {winner['number']} is the best of 4" in searched.result.stdout
    assert f"{winner['value']:.4f}" in searched.result.stdout
    title = f"trial {winner['number']} against the default" if winner["number"] else "trial 0, the default"
    assert title in searched.result.stdout
    for word in ("given up", "default", "blocks=2", "learning_rate=1e-07"):
        assert word in searched.result.stdout
    data = searched.command[searched.command.index("--data") + 1]
    result = invoke(["train", "--config", str(searched.folder / "best.yaml"), "--data", data, "--run", "run"])
    assert result.exit_code == 0, result.output


def test_finished_search_is_shown_again_without_training(searched, monkeypatch):
    monkeypatch.setattr("trainer.search.local_workers.LocalWorkers.start", None)
    again = invoke(searched.command)
    assert again.exit_code == 0, again.output
    assert again.stdout == searched.result.stdout


def test_a_process_that_dies_as_it_loads_is_told_of(tmp_path, monkeypatch):
    """Instead of starting one after the other for ever."""
    monkeypatch.setattr(_Worker, "accepts", lambda *_: False)
    workers = LocalWorkers(1, drawn_samples(1), drawn_samples(1), tmp_path / "log")
    workers.start(7, Config.model_validate(TINY), tmp_path / "run")
    (event,) = workers.wait()
    assert isinstance(event, Died)
    assert event.number == 7
    workers.close()


def test_what_a_search_must_not_do_is_told_in_one_line(searched, tmp_path, drawn, monkeypatch):
    storage = searched.folder / "search.sqlite3"
    other = arguments(tmp_path, drawn, 6)
    line = one_line(invoke([*other, "--storage", str(storage), "--set", "seed=9"]))
    assert str(storage) in line
    assert "another configuration or search space" in line
    with (searched.folder / "search.sqlite3.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another search is using it" in one_line(invoke(searched.command))
    (tmp_path / "search.sqlite3").write_text("no database " * 100)
    line = one_line(invoke(other))
    assert str(tmp_path / "search.sqlite3") in line
    assert "not a database" in line
    mine = tmp_path / "tiny.yaml"
    before = mine.read_text()
    assert "choose another --output" in one_line(invoke([*other, "--output", str(mine)]))
    assert mine.read_text() == before
    (tmp_path / "notes.jsonl").write_text("mine")
    line = one_line(invoke([*other, "--output", str(tmp_path / "notes.yaml")]))
    assert str(tmp_path / "notes.jsonl") in line
    assert (tmp_path / "notes.jsonl").read_text() == "mine"
    (tmp_path / "search.sqlite3").unlink()
    nobody = f"127.0.0.1:{free_port()}"
    result = invoke([*other, "--ray", nobody])
    assert result.exit_code == 2, result.output
    line = result.stderr.splitlines()[-1]
    assert f"--ray {nobody}" in line
    assert "refused" in line
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ray" else object())
    assert "pip install 'emotion-edge[trainer,ray]'" in one_line(invoke([*other, "--ray", "local"]))


@pytest.mark.timeout(900)
def test_killed_search_goes_on_and_no_trial_is_lost_or_counted_twice(parts, tmp_path, drawn):
    # Ctrl-C first, then SIGKILL of the search half-way through a trial, then SIGKILL of one of its processes.
    command = arguments(tmp_path, drawn, 2, **LONG)
    tune = parts.start(Tune(tmp_path, command))
    eventually(lambda: tune.said("faces to train on") and tune.children(), 150, "process", tune.tail)
    os.kill(tune.pid, signal.SIGINT)
    assert tune.wait(100) == 130, tune.tail()
    assert tune.said("interrupted after 0 of 2 trials")
    assert not tune.said("Traceback")

    tune.start()
    log = tmp_path / "search.sqlite3.trials/0000/log.jsonl"
    eventually(log.is_file, 200, "trial half-way", tune.tail)
    (child,) = tune.children()
    tune.kill()
    eventually(lambda: not alive(child), 60, "end of its process")
    assert not (tmp_path / "best.jsonl").exists()

    tune.command += ["--jobs", "2"]
    tune.start()
    eventually((tmp_path / "search.sqlite3.trials/0001").is_dir, 200, "trial in the second process", tune.tail)
    os.kill(tune.children()[1], signal.SIGKILL)
    assert tune.wait(300) == 0, tune.tail()
    assert tune.said("trial 0: was cut off; goes on")
    assert tune.said("was killed by SIGKILL", "begun again")
    assert not tune.said("Traceback")
    assert not tune.said("leaked")
    assert_all_done(tmp_path, 2)
    # Gone on with, not begun anew: no epoch was trained twice. A kill may have come before the line was written.
    epochs = [line for line in (tmp_path / "search.sqlite3.log").read_text().splitlines() if ": loss" in line]
    assert 2 * LONG_EPOCHS - 3 <= len(epochs) <= 2 * LONG_EPOCHS


@pytest.mark.timeout(900)
def test_node_of_a_cluster_is_killed_and_no_trial_is_lost_or_counted_twice(parts, tmp_path, drawn):
    head = parts.start(RayNode(parts.folder("head")))
    other = parts.start(RayNode(parts.folder("other"), head))
    tune = parts.start(Tune(tmp_path, arguments(tmp_path, drawn, 3, "--ray", head.address, **LONG)))
    # The head may be through with its trials before the other node has begun one.
    logs = "emotion-trial-*/log.jsonl"
    eventually(lambda: [*other.temporary.glob(logs)], 200, "trial on the other node", tune.tail)
    other.kill()
    assert tune.wait(300) == 0, tune.tail()
    assert len([line for line in tune.lines() if "begun again" in line]) == 1, tune.tail()
    assert_all_done(tmp_path, 3)
