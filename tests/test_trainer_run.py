"""Real, tiny trainings: train, kill, resume, quantise, write, read back, measure."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge.bundle import read_bundle
from edge.emotions import Classifier
from edge.litert import Network
from tests.parts import eventually
from tests.parts.child import Child
from tests.parts.trainer_faces import draw_ck48, draw_ferplus, votes_for, write_config
from tests.parts.trainer_models import write_model
from trainer.cli import main
from trainer.config import load_config
from trainer.data.datasets import LABELS
from trainer.data.readers.ferplus import read_ferplus
from trainer.training.checkpoints import load_network
from trainer.training.run_folder import occupied, record

COMMAND = [sys.executable, "-c", "from trainer.cli import main; main()"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


@dataclass(frozen=True)
class Finished:
    data: Path
    config: Path
    run: Path

    @property
    def model(self) -> Path:
        return self.run / "tiny.tflite"

    @property
    def twin(self) -> Path:
        return self.run / "tiny.keras"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Finished:
    folder = tmp_path_factory.mktemp("trained")
    data = draw_ck48(draw_ferplus(folder / "data"))
    config = write_config(folder / "tiny.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = invoke("train", "--config", config, "--data", data, "--run", folder / "run")
    assert result.exit_code == 0, result.output
    return Finished(data, config, folder / "run")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def epochs(run: Path) -> list[dict[str, float]]:
    log = run / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []


def one_line(result: Result) -> str:
    """The only line on stderr of a command that refused its input."""
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("emotion-trainer:")]
    assert "Traceback" not in result.output
    return line


def test_model_file_is_full_int8_and_the_daemon_reads_it(finished):
    bundle = read_bundle(finished.model)
    assert bundle.info.labels == LABELS
    assert bundle.info.name == "tiny"
    assert bundle.info.variant == "aligned"
    assert bundle.info.agreement >= 0.97
    assert bundle.info.accuracies["FER+ 8"]["accuracy"] > 0.8
    network = Network(bundle.content)
    assert network.inputs[0]["quantization"] == (1 / 128, 0)  # one step a grey level
    assert {network.inputs[0]["dtype"], network.outputs[0]["dtype"]} == {np.int8}
    with zipfile.ZipFile(finished.model) as archive:
        assert archive.testzip() is None
        assert {(e.date_time, e.compress_type) for e in archive.infolist()} == {((1980, 1, 1, 0, 0, 0), 0)}
        assert archive.read("labels.txt").decode() == "".join(f"{label}\n" for label in LABELS)


def test_classifier_gives_the_logits_that_tensorflow_gives(finished):
    import keras
    import tensorflow as tf

    from trainer.data.augment import plain_crops

    bundle = read_bundle(finished.model)
    classifier = Classifier(bundle)
    crops = plain_crops(read_ferplus(finished.data)["test"].images, None, classifier.rule)
    ours = np.stack([classifier.logits(crop) for crop in crops])
    inputs = ((crops.astype(np.float32) - 128) / 128)[..., None]

    theirs = tf.lite.Interpreter(
        model_content=bundle.content,
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_REF,
    )
    theirs.allocate_tensors()
    (entrance,), (way_out,) = theirs.get_input_details(), theirs.get_output_details()
    scale, zero = way_out["quantization"]
    for crop, logits in zip(crops, ours, strict=True):
        theirs.set_tensor(entrance["index"], (crop.astype(int) - 128).astype(np.int8)[None, ..., None])
        theirs.invoke()
        expected = (theirs.get_tensor(way_out["index"])[0].astype(np.float32) - zero) * scale
        np.testing.assert_allclose(logits, expected, atol=2.01 * scale)

    twin = keras.models.load_model(finished.twin, compile=False)(inputs).numpy()
    assert np.corrcoef(ours.ravel(), twin.ravel())[0, 1] > 0.99
    assert (ours.argmax(axis=1) == twin.argmax(axis=1)).mean() >= 0.9


def test_input_takes_every_grey_level_whatever_it_is_calibrated_on():
    from trainer.architectures import build
    from trainer.config import Architecture
    from trainer.conversion.quantise import quantise

    architecture = Architecture(stem=4, stages=(8,), blocks=1)
    dull = np.random.default_rng(3).integers(100, 150, (4, 32, 32), dtype=np.uint8)
    network = Network(quantise(build(architecture, (32, 32, 1), 8), dull, architecture))
    assert network.inputs[0]["quantization"] == (1 / 128, 0)


#: Trains up to the end of its third epoch and then waits to be killed.
STANDS_STILL = """
import time
from trainer.training import curves
curves.go_on = lambda run, entry: time.sleep(600) if entry["epoch"] == 3 else None
from trainer.cli import main; main()
"""


def test_killed_run_ends_in_the_same_file(finished, parts, tmp_path):
    run = tmp_path / "run"
    arguments = ["train", "--config", str(finished.config), "--data", str(finished.data), "--run", str(run)]
    child = parts.start(Child([sys.executable, "-c", STANDS_STILL, *arguments], tmp_path, ENVIRONMENT))
    eventually(lambda: len(epochs(run)) == 3 or not child.running, 200, "third epoch", child.tail)
    assert child.running, child.tail()
    child.kill()
    interrupted = epochs(run)
    assert len(interrupted) == 3
    command = [*COMMAND, *arguments]
    assert not (run / "tiny.tflite").exists()

    # In a third process, after one that trained it in one go: nothing carries over into the file.
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert epochs(run)[: len(interrupted)] == interrupted  # with their times: what is done is not done again
    assert (run / "tiny.tflite").read_bytes() == finished.model.read_bytes()


def test_checkpoint_of_another_configuration_is_refused(finished, tmp_path):
    run = shutil.copytree(finished.run, tmp_path / "run")
    other = write_config(tmp_path / "other.yaml", architecture={"stem": 12})
    (run / "dropped.json").write_text("of the run that lies here")
    before = (run / "tiny.tflite").read_bytes()
    line = one_line(invoke("train", "--config", other, "--data", finished.data, "--run", run))
    assert str(run) in line
    assert "another configuration" in line
    assert (run / "tiny.tflite").read_bytes() == before
    assert (run / "dropped.json").read_text() == "of the run that lies here"


def test_run_in_which_another_process_trains_is_left_alone(finished, tmp_path):
    run = tmp_path / "run"
    with occupied(run):
        record(run, load_config(finished.config))  # and is still in its first epoch
        before = (run / "config.json").read_bytes()
        result = invoke(
            "train", "--config", finished.config, "--run", run, "--data", finished.data, "--set", "training.epochs=2"
        )
        assert result.exit_code == 2
        assert "another process trains here" in result.stderr
        assert (run / "config.json").read_bytes() == before


def test_limit_is_the_number_of_faces_trained_on(tmp_path):
    data = draw_ferplus(tmp_path / "data", each=(7, 2, 1))
    table = data / "ferplus" / "FER2013Train" / "label.csv"
    rows = [line.rsplit(",", 10) for line in table.read_text().splitlines()]
    nobody = [[row[0], *["0"] * 9, "10"] for row in rows[:6]]  # no face at all, says everybody
    table.write_text("".join(",".join(row) + "\n" for row in [*nobody, *rows[6:]]))
    config = write_config(tmp_path / "tiny.yaml", training={"epochs": 1})
    common = ("train", "--config", config, "--data", data, "--run", tmp_path / "run")
    result = invoke(*common, "--set", "limit=16", "--set", "training.batch_size=16")
    assert "16 faces to train on, 16 to choose on" in result.stdout, result.output


def test_wrong_override_is_refused(finished, tmp_path):
    run = tmp_path / "run"
    common = ("train", "--config", finished.config, "--data", finished.data, "--run", run)
    assert "training.epoch: no such key" in one_line(invoke(*common, "--set", "training.epoch=1"))
    assert not run.exists()


def test_absent_gpu_is_refused(finished, tmp_path, monkeypatch):
    from trainer.config import load_config
    from trainer.training.fit import ready

    monkeypatch.setattr("trainer.training.devices.gpus", lambda: 0)
    run = tmp_path / "run"
    common = ("train", "--config", finished.config, "--data", finished.data, "--set", "training.device=gpu", "--run")
    assert "training.device: gpu is asked for" in one_line(invoke(*common, run))
    assert not run.exists()
    ready(finished.run, load_config(finished.config, ["training.device=gpu"]))  # what is trained needs none


def test_backend_that_cannot_be_used_is_refused(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "abacus")
    common = ("train", "--config", finished.config, "--data", finished.data, "--run", tmp_path / "run")
    assert "KERAS_BACKEND=abacus: choose one of tensorflow, jax" in one_line(invoke(*common))
    assert not (tmp_path / "run").exists()


def test_gate_keeps_what_is_there(tmp_path):
    # Nearly all that is learned from is neutral, and what is chosen on is not: one class takes over.
    data = draw_ferplus(tmp_path / "data", each=(8, 2, 2))
    table = data / "ferplus/FER2013Train/label.csv"
    rows = [line.rsplit(",", 10) for line in table.read_text().splitlines()]
    neutral = [str(vote) for vote in votes_for(0)]
    table.write_text(
        "".join(",".join([row[0], *(row[1:] if n % 8 == 0 else neutral)]) + "\n" for n, row in enumerate(rows))
    )
    config = write_config(tmp_path / "tiny.yaml", training={"epochs": 1, "learning_rate": 0.002})
    output = tmp_path / "kept.tflite"
    output.write_text("the model of yesterday")
    line = one_line(invoke("train", "--config", config, "--data", data, "--run", "run", "--output", output))
    assert "100.0% of the faces get the same class" in line
    assert output.read_text() == "the model of yesterday"
    assert not (tmp_path / "run/tiny.keras").exists()


def test_model_file_says_of_itself_what_is_measured(finished):
    result = invoke("evaluate", finished.model, "--float", finished.twin, "--data", finished.data, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    said = read_bundle(finished.model).info.accuracies["FER+ 8"]
    assert said["accuracy"] == pytest.approx(report["int8"]["FER+ 8"]["accuracy"], abs=1e-6)
    assert report["agreement"] >= 0.97


def test_margins_prints_both_grids(finished):
    result = invoke("margins", finished.model, "--data", finished.data, "--faces", 4)
    assert result.exit_code == 0, result.output
    assert "48 validation faces as stored" in result.stdout
    assert "4 photographs" in result.stdout


def test_margins_are_of_networks_with_the_classes_of_ferplus(finished, tmp_path):
    other = write_model(tmp_path, labels=LABELS[:2], epochs=1)
    line = one_line(invoke("margins", other.model, "--data", finished.data, "--faces", 4))
    assert "knows other classes than FER+" in line


def test_dropped_copies_are_listed(tmp_path, finished):
    data = shutil.copytree(finished.data, tmp_path / "data")
    folder = data / "ferplus"
    shutil.copy(folder / "FER2013Test/fer0020000.png", folder / "FER2013Train/fer0000000.png")
    run = shutil.copytree(finished.run, tmp_path / "run")
    before = (run / "dropped.json").read_bytes()
    arguments = ("train", "--config", finished.config, "--data", data, "--run", run)
    refused = invoke(*arguments)
    assert refused.exit_code == 2
    assert "was trained with other faces, labels or landmarks" in refused.stderr
    assert (run / "dropped.json").read_bytes() == before
    (run / "faces.sha256").unlink()  # as a run from before there was a record
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert "1 train, 0 validation faces dropped" in result.stdout
    assert json.loads((run / "dropped.json").read_text()) == {"train": ["fer0000000.png"], "validation": []}


def test_without_the_extra_the_command_names_it():
    code = "import sys; sys.modules['keras'] = None; from trainer.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate"], capture_output=True, text=True, timeout=200, env=ENVIRONMENT
    )
    assert done.returncode == 2
    assert done.stderr == "emotion-trainer: keras not installed: pip install 'emotion-edge[trainer]'\n"


def test_command_says_nothing_but_its_own(finished, tmp_path):
    done = subprocess.run(
        [*COMMAND, "train", "--config", finished.config, "--data", tmp_path / "nowhere"],
        capture_output=True, text=True, timeout=200, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "nowhere: no such folder" in line


def test_the_twin_lies_beside_the_output(finished, tmp_path):
    """So that several outputs of one run, each adjusted in another way, each have their own."""
    common = ("--config", finished.config, "--run", finished.run, "--data", finished.data)
    before = finished.twin.read_bytes()
    output = tmp_path / "shifted.tflite"
    result = invoke("train", *common, "--output", output, "--set", "training.logit_shifts={fear: 0.5}")
    assert result.exit_code == 0, result.output
    assert finished.twin.read_bytes() == before
    plain, shifted = (load_network(path).get_weights()[-1] for path in (finished.twin, output.with_suffix(".keras")))
    np.testing.assert_allclose(shifted - plain, 0.5 * (np.array(LABELS) == "fear"), atol=1e-6)
    assert "name a .tflite file" in invoke("train", *common, "--output", tmp_path / "x.keras").stderr


def test_ship_writes_model_and_twin_where_evaluate_finds_them(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("edge.bundle.DEFAULT_MODEL", tmp_path / "shipped/emotions.tflite")
    monkeypatch.setattr("trainer.measuring.networks.FLOAT_TWINS", tmp_path / "twins")
    common = ("--data", finished.data)
    result = invoke("train", "--config", finished.config, "--run", finished.run, "--ship", *common)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "shipped/emotions.tflite").read_bytes() == finished.model.read_bytes()
    assert (tmp_path / "twins/tiny.keras").is_file()
    result = invoke("evaluate", "--json", *common)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["agreement"] >= 0.97
