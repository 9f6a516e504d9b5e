"""Teachers: what they answer is stored, found again by pixels, and becomes part of the target."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle import DEFAULT_MODEL, read_bundle
from edge.emotions import Classifier, softmax
from edge.faces import CropRule
from tests.parts.trainer_faces import TINY, draw_ferplus, drawn_samples, write_config
from trainer.architectures import build
from trainer.cli import main
from trainer.config import Architecture, Config, Distillation, changed
from trainer.data.augment import plain_crops
from trainer.data.inputs import normalise
from trainer.files import digest_of
from trainer.training.adjustment import adjust
from trainer.training.distil import DistillationError, SoftLabels, digests, lookup, read, softened, taught, write
from trainer.training.fit import fit
from trainer.training.run_folder import CheckpointError
from trainer.training.teachers import open_teacher, teach, write_soft_labels

SAMPLES = drawn_samples(2)
LABELS = SAMPLES.faces.labels


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """A teacher that has learned nothing, sees 40×40 pixels, and has its configuration beside it."""
    folder: Path = tmp_path_factory.mktemp("teacher")
    keras.utils.set_random_seed(1)
    build(Architecture(stem=4, stages=(8,), blocks=1), (40, 40, 1), len(LABELS)).save(folder / "big.keras")
    write_config(folder / "big.yaml", crop={"size": 40}, architecture={"stem": 4, "stages": [8]})
    return folder / "big.keras"


def soft_labels(probabilities: np.ndarray) -> SoftLabels:
    return SoftLabels(LABELS, (("a", "0"),), digests(SAMPLES.faces.images), probabilities.astype(np.float16))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def one_line(result: Result) -> str:
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("emotion-trainer:")]
    return line


def test_teachers_are_averaged_as_they_answer_alone(network):
    model_file = read_bundle(DEFAULT_MODEL)
    names = [str(network), str(DEFAULT_MODEL)]
    soft = teach([open_teacher(name, LABELS) for name in names], SAMPLES)
    float_network, classifier = keras.models.load_model(network), Classifier(model_file)

    def mirrored_too(rule, answer):
        crops = plain_crops(SAMPLES.faces.images, SAMPLES.landmarks, rule)
        return (answer(crops) + answer(np.ascontiguousarray(np.flip(crops, 2)))) / 2

    big = mirrored_too(CropRule(40, 2.5, 0.38), lambda crops: softmax(float_network(normalise(crops)).numpy()))
    small = mirrored_too(classifier.rule, lambda crops: np.stack([classifier(crop) for crop in crops]))
    expected = (big + small) / 2
    np.testing.assert_allclose(soft.probabilities, expected, atol=1e-3)
    assert soft.probabilities.dtype == np.float16
    assert soft.teachers == tuple((path.name, digest_of(path)) for path in (network, DEFAULT_MODEL))


def test_soft_labels_are_read_as_written_and_found_by_pixels(tmp_path):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(8), len(SAMPLES))
    write(tmp_path / "soft.npz", soft_labels(probabilities))
    soft = read(tmp_path / "soft.npz")
    rows = np.random.default_rng(1).permutation(len(SAMPLES))[:5]
    found = lookup(soft, SAMPLES.subset(rows).faces, tmp_path / "soft.npz")
    np.testing.assert_array_equal(found, probabilities[rows].astype(np.float16).astype(np.float32))
    assert (soft.labels, soft.teachers) == (LABELS, (("a", "0"),))


def test_digest_tells_shapes_apart():
    flat = np.zeros((1, 4, 9), np.uint8)
    assert not np.array_equal(digests(flat), digests(flat.reshape(1, 6, 6)))


@given(st.floats(0, 1), st.floats(0.5, 10), st.integers(0, 2**32 - 1))
def test_target_is_a_share_of_both(share, temperature, seed):
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(8), len(SAMPLES)).astype(np.float32)
    path = Path("soft.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.training.distil.read", lambda _: soft_labels(probabilities))
        labels = SAMPLES.faces.distributions
        found = taught(labels, SAMPLES.faces, Distillation(share=share, temperature=temperature), [path])
    expected = (1 - share) * labels + share * softened(probabilities, temperature)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-3)


def test_files_count_alike():
    draw = np.random.default_rng(3).dirichlet
    two = [draw(np.ones(8), len(SAMPLES)).astype(np.float32) for _ in range(2)]
    paths = [Path("one.npz"), Path("other.npz")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.training.distil.read", lambda path: soft_labels(two[paths.index(path)]))
        found = taught(SAMPLES.faces.distributions, SAMPLES.faces, Distillation(share=1), paths)
    np.testing.assert_allclose(found, (two[0] + two[1]) / 2, atol=2e-3)


def test_those_who_are_asked_about_each_face_have_their_share_of_what_is_left(monkeypatch):
    said = np.random.default_rng(4).dirichlet(np.ones(8), len(SAMPLES)).astype(np.float32)
    monkeypatch.setattr("trainer.training.distil.read", lambda _: soft_labels(said))
    labels = SAMPLES.faces.distributions
    both = Distillation(soft_labels=Path("soft.npz"), teachers=(Path("a.tflite"), Path("b.tflite")), share=0.9)
    assert both.shares() == pytest.approx((0.3, 0.6))
    found = taught(labels, SAMPLES.faces, both, both.files())
    np.testing.assert_allclose(found, 0.1 * labels + 0.3 * said, atol=2e-3)
    asked = Distillation(teachers=(Path("a.tflite"),), share=0.9)
    np.testing.assert_allclose(taught(labels, SAMPLES.faces, asked, asked.files()), 0.1 * labels, atol=1e-6)


def test_says_how_often_the_teachers_are_right(monkeypatch, capsys):
    right = np.arange(len(SAMPLES)) % 4 > 0
    said = np.where(right, SAMPLES.faces.truth(), (SAMPLES.faces.truth() + 1) % 8)
    monkeypatch.setattr("trainer.training.distil.read", lambda _: soft_labels(np.eye(8, dtype=np.float32)[said]))
    taught(SAMPLES.faces.distributions, SAMPLES.faces, Distillation(), [Path("soft.npz")])
    assert capsys.readouterr().out == f"soft labels: right about {right.mean():.1%} of the faces they teach\n"


def test_softened_is_what_the_logits_give():
    logits = np.random.default_rng(2).normal(0, 2, (4, 8)).astype(np.float32)
    np.testing.assert_allclose(softened(softmax(logits), 3), softmax(logits / np.float32(3)), rtol=1e-4)


def test_network_learns_what_its_teacher_says(tmp_path):
    # The teacher calls every class by the name of the next.
    write(tmp_path / "soft.npz", soft_labels(np.roll(SAMPLES.faces.distributions, 1, axis=1)))
    config = changed(
        Config.model_validate(TINY),
        {
            "training.distillation": {"soft_labels": [str(tmp_path / "soft.npz")], "share": 1},
            "training.epochs": 12,
            "training.keep": "last",
        },
    )
    model = fit(SAMPLES, SAMPLES, config, tmp_path / "run")
    crops = plain_crops(SAMPLES.faces.images, None, config.crop.rule())
    answers = model(normalise(crops)).numpy().argmax(axis=1)
    assert (answers == (SAMPLES.faces.truth() + 1) % 8).mean() > 0.7


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"labels": LABELS[::-1]}, "has the classes contempt, .* and the data neutral, "),
        ({"faces": np.zeros((16, 16), np.uint8)}, r"lacks 16 of 16 training faces, 0\.png for one"),
    ],
)
def test_soft_labels_of_something_else_are_refused(tmp_path, change, what):
    path = tmp_path / "soft.npz"
    write(path, replace(soft_labels(np.full((16, 8), 0.125)), **change))
    config = changed(Config.model_validate(TINY), {"training.distillation.soft_labels": str(path)})
    with pytest.raises(DistillationError, match=rf"soft\.npz: {what}") as error:
        fit(SAMPLES, SAMPLES, config, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert "write it again" in str(error.value)


class StoppedError(Exception):
    """Ends a training after an epoch."""


def stop(_epoch: int, _accuracy: float) -> None:
    raise StoppedError


@pytest.mark.parametrize("key", ["training.distillation.soft_labels", "training.start"])
def test_a_run_does_not_go_on_with_soft_labels_or_a_start_that_were_made_anew(tmp_path, key):
    path, run = tmp_path / "source", tmp_path / "run"
    if key.endswith("soft_labels"):
        write(path, soft_labels(np.full((len(SAMPLES), 8), 0.125)))
    else:
        path = path.with_suffix(".keras")
        network = build(Architecture(stem=4, stages=(8,), blocks=1), (32, 32, 1), len(LABELS))
        network.save(path)
    tiny = {**TINY, "architecture": {"stem": 4, "stages": [8], "blocks": 1}}
    config = changed(Config.model_validate(tiny), {"training.epochs": 2, key: str(path)})
    with pytest.raises(StoppedError):
        fit(SAMPLES, SAMPLES, config, run, stop)
    before = path.read_bytes()
    if key.endswith("soft_labels"):
        path.write_bytes(before + b"\0")
    else:
        adjust(network, np.full(len(LABELS), 1e-3, np.float32))
        network.save(path)
    with pytest.raises(CheckpointError, match="run: was trained with other soft labels, or another network to start"):
        fit(SAMPLES, SAMPLES, config, run)
    path.write_bytes(before)
    weights = fit(SAMPLES, SAMPLES, config, run).get_weights()
    path.unlink()  # finished, it needs it no more
    for one, other in zip(fit(SAMPLES, SAMPLES, config, run).get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_start_that_is_only_saved_again_is_the_same(tmp_path):
    """As `adopt` and `train` do when they are run again: Keras writes the date into the file."""
    network, path = build(Architecture(stem=4, stages=(8,), blocks=1), (32, 32, 1), len(LABELS)), tmp_path / "a.keras"
    network.save(path)
    first, digest = path.read_bytes(), digest_of(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("date", "another one")
    assert path.read_bytes() != first
    assert digest_of(path) == digest
    adjust(network, np.full(len(LABELS), 1e-3, np.float32))
    network.save(path)
    assert digest_of(path) != digest
    path.write_bytes(b"no network")
    assert digest_of(path) == hashlib.sha256(b"no network").hexdigest()


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04", b"text", "other.npz"])
def test_file_that_holds_no_soft_labels_is_refused(tmp_path, content):
    path = tmp_path / "soft.npz"
    if content == "other.npz":
        np.savez(path, weights=np.zeros(3))
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(DistillationError, match=r"soft\.npz: (no such file|no soft labels).*teach"):
        read(path)


def test_teacher_that_does_not_fit_is_refused(network, tmp_path):
    with pytest.raises(DistillationError, match=r"knows the classes .* and the data have happy, sad"):
        open_teacher(str(DEFAULT_MODEL), ("happy", "sad"))
    with pytest.raises(DistillationError, match=r"big\.keras: knows 8 classes, and the data have 2"):
        open_teacher(str(network), ("happy", "sad"))
    other = write_config(tmp_path / "other.yaml")
    with pytest.raises(DistillationError, match=r"sees \(40, 40, 1\), and its configuration says \(32, 32, 1\)"):
        open_teacher(f"{network}={other}", LABELS)
    alone = tmp_path / "alone.keras"
    alone.write_bytes(network.read_bytes())
    with pytest.raises(DistillationError, match=r"no configuration beside it .*--teacher .*alone\.keras=CONFIG"):
        open_teacher(str(alone), LABELS)
    given_elsewhere = open_teacher(f"{alone}={network.with_suffix('.yaml')}", LABELS)
    assert given_elsewhere.rule == CropRule(40, 2.5, 0.38)


def test_soft_labels_of_other_teachers_are_not_overwritten(network, tmp_path):
    path = tmp_path / "soft.npz"
    write_soft_labels(path, [str(network)], SAMPLES)
    before = path.stat().st_mtime_ns
    write_soft_labels(path, [str(network)], SAMPLES)
    for names, faces in (([str(DEFAULT_MODEL)], SAMPLES), ([str(network)], drawn_samples(2, seed=3))):
        with pytest.raises(DistillationError, match="of other teachers or faces"):
            write_soft_labels(path, names, faces)
    assert path.stat().st_mtime_ns == before


def test_colour_teacher_sees_grey_faces_and_a_grey_one_colours(tmp_path):
    keras.utils.set_random_seed(1)
    build(Architecture(stem=4, stages=(8,), blocks=1), (32, 32, 3), len(LABELS)).save(tmp_path / "rgb.keras")
    write_config(tmp_path / "rgb.yaml", crop={"colour": "rgb"})
    coloured = replace(SAMPLES, faces=replace(SAMPLES.faces, images=np.repeat(SAMPLES.faces.images[..., None], 3, 3)))
    for name in (tmp_path / "rgb.keras", DEFAULT_MODEL):
        teacher = open_teacher(str(name), LABELS)
        np.testing.assert_allclose(
            teach([teacher], SAMPLES).probabilities, teach([teacher], coloured).probabilities, atol=2e-3
        )


def test_train_and_teach_ask_the_same_teachers(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, config = draw_ferplus(tmp_path / "data", each=(3, 2, 1)), write_config(tmp_path / "tiny.yaml")
    common = ("--config", config, "--data", data, "--set", "training.epochs=1", "--teacher", network)
    result = invoke("teach", *common, "--teacher", DEFAULT_MODEL, "--output", "soft.npz")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("soft.npz: ")
    invoke("train", *common, "--teacher", DEFAULT_MODEL, "--run", "run")  # after an epoch int8 may not pass
    assert len((tmp_path / "run/log.jsonl").read_text().splitlines()) == 1
    stored, used = read(tmp_path / "soft.npz"), read(tmp_path / "run/soft_labels.npz")
    assert used.teachers == stored.teachers
    assert [name for name, _ in used.teachers] == ["big.keras", DEFAULT_MODEL.name]
    np.testing.assert_array_equal(used.probabilities, stored.probabilities)

    assert "of other teachers" in one_line(invoke("train", *common, "--run", "run"))
    both = ("--set", "training.distillation.soft_labels=soft.npz")
    assert "leave out the key or --teacher" in one_line(invoke("train", *common, *both, "--run", "both"))
    missing = ("--set", "training.distillation.share=0.5", "--run", "without")
    assert "--teacher" in one_line(invoke("train", "--config", config, "--data", data, *missing))
