"""Trained on JAX where there is no TensorFlow, made a model file on TensorFlow, read by the daemon."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge.bundle import read_bundle
from edge.emotions import Classifier
from tests.parts.child import Child
from tests.parts.trainer_faces import draw, draw_ferplus, write_config
from trainer.cli import main

# `emotion-trainer` on a machine without TensorFlow; whoever looks for it is named.
WITHOUT_TENSORFLOW = """
import sys, traceback

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow":
            looked_for.append("".join(traceback.format_stack(limit=12)))
            raise ModuleNotFoundError(name)

looked_for = []
sys.meta_path.insert(0, Nowhere())

import trainer.training.fit

learn = trainer.training.fit.fit

def fit(*arguments):
    model = learn(*arguments)
    assert not looked_for, looked_for[0]
    return model

trainer.training.fit.fit = fit
from trainer.cli import main
main()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with data, `tiny.yaml` and a run that was trained on JAX."""
    folder: Path = tmp_path_factory.mktemp("jax")
    draw_ferplus(folder / "data", each=(20, 8, 2))
    config = write_config(folder / "tiny.yaml", architecture={"dropout": 0.2}, training={"epochs": 9, "mixup": 0.1})
    arguments = ["train", "--config", str(config), "--data", "data", "--run", "run"]
    environment = {"PYTHONPATH": str(Path(__file__).parents[1]), "KERAS_BACKEND": "jax"}
    child = Child([sys.executable, "-c", WITHOUT_TENSORFLOW, *arguments], folder, environment)
    with child:
        assert child.wait(200) == 0, child.tail()
    (said,) = [line for line in child.lines() if "trained on jax" in line]
    assert said.startswith("run/tiny.keras: ")
    assert "emotion-trainer export run/tiny.keras" in said
    assert not (folder / "run/tiny.tflite").exists()
    return folder


def run(folder: Path, *arguments: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(os.environ, "KERAS_BACKEND", "tensorflow")
        result = CliRunner().invoke(main, [*arguments, "--config", "tiny.yaml", "--data", "data"])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_network_of_jax_becomes_a_model_file_that_the_daemon_reads(trained):
    said = run(trained, "export", "run/tiny.keras")
    log = [json.loads(line) for line in (trained / "run/log.jsonl").read_text().splitlines()]
    best = max(entry["validation_accuracy"] for entry in log)
    assert best > 0.8
    assert f"float {best:.1%}" in said  # TensorFlow answers as JAX did
    bundle = read_bundle(trained / "run/tiny.tflite")
    assert bundle.info.agreement >= 0.97
    classifier, rng = Classifier(bundle), np.random.default_rng(7)
    crops = [draw(label, rng)[8:40, 8:40] for label in range(8)]
    assert sum(int(classifier(crop).argmax()) == label for label, crop in enumerate(crops)) >= 5


def test_train_goes_on_from_a_run_of_jax(trained):
    # Nothing is left to train: the same command on TensorFlow makes the same model file.
    run(trained, "export", "run/tiny.keras", "--output", "exported.tflite")
    run(trained, "train", "--run", "run", "--output", "trained.tflite")
    assert (trained / "trained.tflite").read_bytes() == (trained / "exported.tflite").read_bytes()


def test_export_refuses_what_does_not_fit(trained):
    model = trained / "kept.tflite"
    model.write_text("the model of yesterday")
    (trained / "bad.keras").write_text("nothing")
    for network, change, what in (
        ("run/tiny.keras", "architecture.stages=[32]", "run/tiny.keras: layer "),
        ("run/tiny.keras", "crop.size=40", "run/tiny.keras: sees (32, 32, 1), and crop says (40, 40, 1)"),
        ("bad.keras", "seed=5", "bad.keras: no Keras model"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(trained)
            arguments = ["export", network, "--config", "tiny.yaml", "--data", "data", "--output", "kept.tflite"]
            result = CliRunner().invoke(main, [*arguments, "--set", change])
        assert result.exit_code == 2, result.output
        assert what in result.stderr
    assert model.read_text() == "the model of yesterday"
