"""Teachers that are asked about each face as it is drawn for training."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import trainer.training.fit
from edge.bundle import DEFAULT_MODEL, Bundle, read_bundle
from edge.emotions import Classifier, softmax
from tests.parts.trainer_faces import TINY, drawn_samples
from tests.parts.trainer_models import write_model
from trainer.config import Config, ConfigError, Crop, changed, with_teachers
from trainer.conversion.export import write
from trainer.data.inputs import normalise, pixels
from trainer.training.batches import Batches
from trainer.training.distil import DistillationError, taught
from trainer.training.fit import fit
from trainer.training.run_folder import CheckpointError
from trainer.training.view_teachers import ViewTeachers

SAMPLES = drawn_samples(2)
LABELS = SAMPLES.faces.labels
RULE = read_bundle(DEFAULT_MODEL).info.crop
#: Of students who see the same part of a face as the model that ships.
CROP = Crop(size=RULE.size, margin=RULE.margin, eye_line=RULE.eye_line)
SMALL = CROP.model_copy(update={"size": 32})
CONFIG = changed(
    Config.model_validate(TINY),
    {
        "crop": SMALL.model_dump(),
        "training.distillation": {"teachers": [str(DEFAULT_MODEL)], "share": 0.75},
        "training.epochs": 2,
    },
)


def faces(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, size, size), np.uint8)


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(5), st.just(5))))
def test_pixels_are_what_was_normalised(crops):
    np.testing.assert_array_equal(pixels(normalise(crops)), crops)
    coloured = np.stack([crops, crops, crops], axis=3)
    np.testing.assert_array_equal(pixels(normalise(coloured)), coloured)


def test_answer_is_the_mean_over_teachers_and_mirror_images():
    classifier = Classifier(read_bundle(DEFAULT_MODEL))
    crops = faces(3, RULE.size)
    expected = [(classifier(crop) + classifier(np.ascontiguousarray(crop[:, ::-1]))) / 2 for crop in crops]
    for paths in ([DEFAULT_MODEL], [DEFAULT_MODEL, DEFAULT_MODEL]):
        np.testing.assert_allclose(ViewTeachers(paths, LABELS, CROP)(crops), expected, rtol=1e-5)


def test_what_is_not_calibrated_is_as_it_was_learned():
    classifier = Classifier(read_bundle(DEFAULT_MODEL))
    (crop,) = crops = faces(1, RULE.size)
    both = (crop, np.ascontiguousarray(crop[:, ::-1]))
    expected = sum(softmax(classifier.logits(each)) for each in both) / 2
    found = ViewTeachers([DEFAULT_MODEL], LABELS, CROP, calibrated=False)(crops)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    assert found.max() < ViewTeachers([DEFAULT_MODEL], LABELS, CROP)(crops).max()


@pytest.mark.parametrize(("size", "way"), [(32, cv2.INTER_CUBIC), (96, cv2.INTER_AREA)])
def test_a_teacher_sees_as_many_pixels_as_it_wants(size, way):
    crops = faces(2, size)
    brought = np.stack([cv2.resize(crop, (RULE.size, RULE.size), interpolation=way) for crop in crops])
    found = ViewTeachers([DEFAULT_MODEL], LABELS, CROP.model_copy(update={"size": size}))(crops)
    np.testing.assert_allclose(found, ViewTeachers([DEFAULT_MODEL], LABELS, CROP)(brought), rtol=1e-5)


def test_a_teacher_of_colours_sees_them_as_the_student_does(tmp_path):
    model = write_model(tmp_path, colour="rgb").model
    classifier = Classifier(read_bundle(model))
    crops = np.random.default_rng(3).integers(0, 256, (3, 32, 32, 3), np.uint8)
    expected = [(classifier(crop) + classifier(np.ascontiguousarray(crop[:, ::-1]))) / 2 for crop in crops]
    found = ViewTeachers([model], LABELS, Crop(size=32, colour="rgb"))(pixels(normalise(crops)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.allclose(found, ViewTeachers([model], LABELS, Crop(size=32, colour="rgb"))(crops[..., ::-1]))


def test_threads_have_networks_of_their_own():
    teachers = ViewTeachers([DEFAULT_MODEL], LABELS, CROP)
    crops = faces(40, RULE.size)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(teachers, [crops] * 8):
            np.testing.assert_array_equal(found, teachers(crops))


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_what_is_asked_about_is_what_the_student_sees(mixup):
    asked = []

    def told(crops):
        asked.append(crops)
        return np.full((len(crops), len(LABELS)), 0.75 / len(LABELS), np.float32)

    config = changed(CONFIG, {"training.mixup": mixup})
    targets, weights = 0.25 * SAMPLES.faces.distributions, np.ones(len(SAMPLES), np.float32)
    batches = Batches(SAMPLES, targets, weights, config, 0)
    inputs, expected, counts = batches.taught_by(told)[0]
    np.testing.assert_array_equal(asked[0], pixels(inputs))
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)
    _, alone, _ = batches[0]
    np.testing.assert_allclose(expected - alone, 0.75 / len(LABELS), rtol=1e-4)
    assert counts.shape == (8,)
    assert batches.taught_by(None) is batches


def test_network_learns_what_its_teacher_says_of_each_picture(tmp_path, monkeypatch):
    """Bright pictures are happy, dark ones neutral, the teacher says, and the labels say nothing of it."""

    def answer(_self, crops):
        bright = crops.mean(axis=(1, 2)) > 127
        return np.eye(len(LABELS), dtype=np.float32)[bright.astype(int)]

    monkeypatch.setattr(ViewTeachers, "__call__", answer)
    config = changed(
        CONFIG, {"training.epochs": 12, "training.keep": "last", "training.distillation.share": 1, "crop.size": 48}
    )
    model = fit(SAMPLES, SAMPLES, config, tmp_path / "run")
    images = SAMPLES.faces.images
    answers = model(normalise(images)).numpy().argmax(axis=1)
    assert (answers == (images.mean(axis=(1, 2)) > 127)).mean() > 0.8


def test_teachers_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(DistillationError, match=r"emotions\.tflite: knows the classes .* and the data have happy, sad"):
        ViewTeachers([DEFAULT_MODEL], ("happy", "sad"), CROP)
    for change in ({"margin": 2.0}, {"eye_line": 0.5}, {"colour": "rgb"}):
        with pytest.raises(DistillationError, match=r"emotions\.tflite: sees faces with .* and crop says"):
            ViewTeachers([DEFAULT_MODEL], LABELS, CROP.model_copy(update=change))
    missing = changed(CONFIG, {"training.distillation.teachers": [str(tmp_path / "none.tflite")]})
    with pytest.raises(DistillationError, match=r"none\.tflite: "):
        fit(SAMPLES, SAMPLES, missing, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_the_same_teachers_only(tmp_path):
    class StoppedError(Exception):
        pass

    def stop(epoch, _accuracy):
        if epoch == 1:
            raise StoppedError

    teacher = tmp_path / "teacher.tflite"
    teacher.write_bytes(DEFAULT_MODEL.read_bytes())
    config = changed(CONFIG, {"training.distillation.teachers": [str(teacher)]})
    whole = fit(SAMPLES, SAMPLES, config, tmp_path / "whole").get_weights()
    run = tmp_path / "run"
    with pytest.raises(StoppedError):
        fit(SAMPLES, SAMPLES, config, run, stop)
    other = write_model(tmp_path).model
    info = read_bundle(DEFAULT_MODEL).info
    named = Bundle(
        read_bundle(other).info.model_copy(update={"crop": info.crop.model_copy(update={"size": 32})}),
        read_bundle(other).content,
    )
    write(named, teacher)
    with pytest.raises(CheckpointError, match="run: was trained with other teachers"):
        fit(SAMPLES, SAMPLES, config, run)
    teacher.write_bytes(DEFAULT_MODEL.read_bytes())
    for one, two in zip(fit(SAMPLES, SAMPLES, config, run).get_weights(), whole, strict=True):
        np.testing.assert_array_equal(one, two)


def test_soft_labels_beside_teachers_are_looked_for(tmp_path):
    config = changed(CONFIG, {"training.distillation.soft_labels": str(tmp_path / "none.npz")})
    with pytest.raises(DistillationError, match=r"none\.npz: no such file"):
        fit(SAMPLES, SAMPLES, config, tmp_path / "run")


def test_those_who_answered_once_and_those_who_are_asked_make_a_whole(monkeypatch):
    settings = {"soft_labels": "soft.npz", "teachers": [str(DEFAULT_MODEL), str(DEFAULT_MODEL)], "share": 0.9}
    config = changed(CONFIG, {"training.distillation": settings})
    even = np.full((len(SAMPLES), len(LABELS)), 1 / len(LABELS), np.float32)
    monkeypatch.setattr("trainer.training.distil.lookup", lambda *_: even)
    monkeypatch.setattr("trainer.training.distil.read", lambda _: None)
    distillation = config.training.distillation
    stored = taught(SAMPLES.faces.distributions, SAMPLES.faces, distillation, distillation.files())
    asked = trainer.training.fit._asked(lambda crops: even[: len(crops)], config)
    np.testing.assert_allclose(stored.sum(axis=1) + asked(faces(len(SAMPLES), 32)).sum(axis=1), 1, rtol=1e-5)


def test_teachers_of_the_command_line_and_others_exclude_each_other():
    with pytest.raises(ConfigError, match=r"training\.distillation\.teachers: .*leave out the key or --teacher"):
        with_teachers(CONFIG)
