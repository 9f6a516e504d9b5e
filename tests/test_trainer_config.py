"""Configurations: keys overridden on the command line, and the record of the shipped model's training."""

import json
from pathlib import Path

import pytest

from trainer.config import Config, ConfigError, changed, load_config, with_teachers
from trainer.training.run_folder import CheckpointError, check, is_recorded, read_result, record, write_result

ROOT = Path(__file__).parents[1]
FERPLUS = ROOT / "configs/trainer/ferplus.yaml"


def test_keys_are_overridden_with_yaml_values():
    plain = load_config(FERPLUS)
    config = load_config(
        FERPLUS,
        ["training.epochs=3", "architecture.stages=[8, 16]", "limit=500", "training.distillation.share=0.5"],
    )
    assert (config.training.epochs, config.architecture.stages, config.limit) == (3, (8, 16), 500)
    assert config.training.distillation is not None
    assert config.training.distillation.share == 0.5
    assert config.training.learning_rate == plain.training.learning_rate
    assert config.augmentation == plain.augmentation


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("training.epoch=3", "training.epoch: no such key"),
        ("training.epochs=many", "training.epochs: Input should be a valid integer"),
        ("training.epochs.last=3", "there is no such key"),
        ("training.epochs", "no KEY=VALUE"),
        ("=3", "no KEY=VALUE"),
        ("training.epochs=[", "no YAML value"),
        ("seed=-1", "seed: Input should be greater than or equal to 0"),
        ("seed=4294967296", "seed: Input should be less than 4294967296"),
    ],
)
def test_wrong_override_is_one_line(override, what):
    with pytest.raises(ConfigError, match=f"--set {override}".replace("[", r"\[")) as error:
        load_config(FERPLUS, [override])
    assert what in str(error.value)
    assert "\n" not in str(error.value)


def test_changes_are_checked_like_a_file():
    config = changed(load_config(FERPLUS), {"training.learning_rate": 0.1, "architecture.width": 0.5})
    assert (config.training.learning_rate, config.architecture.width) == (0.1, 0.5)
    with pytest.raises(ConfigError, match=r"training\.learning_rate=-1: training\.learning_rate: .*greater"):
        changed(config, {"training.learning_rate": -1})


def test_teachers_of_the_command_line_and_stored_soft_labels_exclude_each_other():
    config = load_config(FERPLUS, ["training.distillation.temperature=2"])
    assert with_teachers(config) == config
    assert with_teachers(load_config(FERPLUS)).training.distillation is not None
    with pytest.raises(ConfigError, match="--teacher"):
        with_teachers(changed(config, {"training.distillation.soft_labels": "soft.npz"}))


@pytest.mark.parametrize(
    "name",
    [
        *("ferplus", "distilled", "ferplus-56", "ferplus-refined", "ferplus-faceres", "faceres-refined"),
        *("ferplus-taught", "ferplus-patient"),
        *("teacher-longest", "teacher-refined"),
    ],
)
def test_recorded_run_is_that_of_its_configuration(name):
    config = load_config(ROOT / f"configs/trainer/{name}.yaml")
    assert is_recorded(ROOT / "trainer/runs" / config.name, config)


def test_only_what_changes_no_weights_may_differ(tmp_path):
    config = Config(name="one")
    record(tmp_path, changed(config, {"seed": 7}))
    record(tmp_path, config)  # nothing has been trained yet
    (tmp_path / "checkpoint.npz").touch()
    for allowed in ({"quantisation.faces": 9}, {"folds": 3}, {"training.device": "cpu"}):
        check(tmp_path, changed(config, allowed))
    for other in ({"training.epochs": 9}, {"variant": "raw"}, {"seed": 9}, {"data.source": "ck48"}):
        with pytest.raises(CheckpointError, match=r"another configuration \(.*\); choose another --run"):
            check(tmp_path, changed(config, other))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"training.epochs": 9}, "(training.epochs: 50 there, 9 here)"),
        ({"architecture.stages": [8, 16]}, "(architecture.stages: null there, [8, 16] here)"),
        (
            {"training.distillation": {"share": 0.5}},
            "(training.distillation: null there, "
            '{"soft_labels": null, "teachers": null, "calibrated": true, "share": 0.5, "temperature": 1.0} here)',
        ),
        (
            {"seed": 2, "name": "two", "data.source": "ck48", "crop.size": 40},
            '(crop.size: 48 there, 40 here, data.source: "ferplus" there, "ck48" here, name: "one" there, "two" here '
            "and 1 more)",
        ),
    ],
)
def test_refusal_names_the_keys_that_differ(tmp_path, change, named):
    config = Config(name="one")
    record(tmp_path, config)
    (tmp_path / "checkpoint.npz").touch()
    with pytest.raises(CheckpointError) as refused:
        check(tmp_path, changed(config, change))
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_record_may_lack_keys_added_since(tmp_path):
    config = Config(name="one")
    record(tmp_path, config)
    (tmp_path / "checkpoint.npz").touch()
    recorded = json.loads((tmp_path / "config.json").read_text())
    del recorded["data"], recorded["crop"]["colour"], recorded["training"]["optimizer"]
    (tmp_path / "config.json").write_text(json.dumps(recorded))
    check(tmp_path, config)


def test_result_is_of_just_this_configuration_or_none(tmp_path):
    config = Config(name="one")
    record(tmp_path, config)
    (tmp_path / "best.weights.h5").touch()
    assert read_result(tmp_path, "result.json", config) is None
    write_result(tmp_path, "result.json", {"right": 3})
    assert read_result(tmp_path, "result.json", config) == {"right": 3}
    with pytest.raises(CheckpointError, match="another configuration"):
        read_result(tmp_path, "result.json", changed(config, {"seed": 9}))
    (tmp_path / "result.json").write_text('{"rig')
    with pytest.raises(CheckpointError, match=r"result\.json: unreadable"):
        read_result(tmp_path, "result.json", config)
    write_result(tmp_path, "result.json", {"right": 3})
    other = changed(config, {"quantisation.faces": 9})  # the same weights, another int8 network
    assert read_result(tmp_path, "result.json", other) is None
    record(tmp_path, other)
    assert read_result(tmp_path, "result.json", other) is None
