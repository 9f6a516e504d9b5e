"""`prepare`: what is stored, how it is split, what is dropped, listed or refused, and that it goes on after a kill."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle import read_bundle
from edge.detector import Detector
from edge.emotions import Classifier
from edge.faces import CropRule, crop
from tests.parts import eventually
from tests.parts.samples import portrait
from tests.parts.trainer_faces import (
    draw,
    draw_ck48,
    draw_fer2013,
    draw_ferplus,
    draw_folders,
    draw_sequence,
    photograph,
    pixels,
    votes_for,
    write_config,
    write_split,
)
from trainer.cli import main
from trainer.config import Augmentation, Config
from trainer.data.alignment import THRESHOLD, eyes_of_chip
from trainer.data.augment import plain_crops, random_crop
from trainer.data.datasets import LABELS, SPLITS, DataError, fingerprint, leaking
from trainer.data.prepare import Prepared, prepare
from trainer.data.readers.ferplus import FOLDERS
from trainer.data.split import split

ROOT = Path(__file__).parents[1]


def config(source: str, data: dict[str, Any] | None = None, **crop: Any) -> Config:
    return Config.model_validate(
        {"name": "tiny", "data": {"source": source, **(data or {})}, "crop": {"size": 40, **crop}}
    )


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refusal(result: Result) -> str:
    """The only line of a command that refused its input."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("emotion-trainer:")]
    return line


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def ckplus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CK+: six persons, a sequence each, and one unlabelled; a picture broken, another without a face."""
    data = tmp_path_factory.mktemp("ckplus")
    for number in range(1, 7):
        draw_sequence(data, f"S{number:03d}", frames=3, label=f"   {1 + 4 * (number % 2)}.0000000e+00\n")
    draw_sequence(data, "S010", label=None)
    images = data / "ckplus/cohn-kanade-images"
    (images / "S001/001/S001_001_00000003.png").write_bytes(b"\x89PNG cut short")
    cv2.imwrite(str(images / "S002/001/S002_001_00000003.png"), np.full((490, 640), 90, np.uint8))
    return data


@pytest.fixture(scope="module")
def photographs(ckplus, tmp_path_factory) -> Prepared:
    return prepare(config("ckplus"), ckplus, tmp_path_factory.mktemp("cache"))


def test_photographs_are_stored_as_patches_around_the_face(photographs, ckplus):
    faces, landmarks = photographs.samples.faces, photographs.samples.landmarks
    assert faces.images.shape[1:] == (80, 80)
    rule = CropRule(40, 2.5, 0.38)
    row = faces.names.index("S003/001/S003_001_00000002.png")
    original = cv2.imread(str(ckplus / "ckplus/cohn-kanade-images" / faces.names[row]))
    (found,) = Detector()(original)
    daemon = crop(original, found.landmarks, rule).astype(float)
    (ours,) = plain_crops(faces.images[[row]], landmarks[[row]], rule)
    assert np.abs(daemon - ours).mean() < 2
    # There is more around it than the crop shows, so that it can be moved and turned without meeting an edge.
    corners = np.array([[0, 0, 1], [40, 0, 1], [0, 40, 1], [40, 40, 1]]) - (0.5, 0.5, 0)
    from trainer.data.augment import base_transform

    inside = corners @ cv2.invertAffineTransform(base_transform(landmarks[row], 80, rule)).T
    assert 10 < inside.min() < 16
    assert 64 < inside.max() < 70


def test_report_lists_what_became_of_every_picture(photographs):
    report = photographs.report
    assert report.broken == {"S001/001/S001_001_00000003.png": "no picture"}
    assert report.skipped == {"S010/001": "no label"}
    assert sum(sum(counts.values()) for counts in report.counts.values()) == 6 * 3 - 1
    assert sum(sum(counts.values()) for counts in report.not_found.values()) == 1
    row = photographs.everyone.faces.names.index("S002/001/S002_001_00000003.png")
    assert np.isnan(photographs.everyone.landmarks[row]).all()
    assert (photographs.everyone.faces.images[row] == 90).all()  # whole
    assert report.not_found[photographs.everyone.faces.splits[row]]["anger"] == 1
    assert report.subjects == 6
    assert "stored 80×80 grey: 17 cut out of photographs" in report.steps
    assert report.notes == (
        "no training faces of surprise, sadness, disgust, fear, contempt: never taught, and still a possible answer",
    )


def test_nobody_is_in_two_splits(photographs):
    faces = photographs.samples.faces
    assert set(faces.splits) == set(SPLITS)
    for subject in set(faces.subjects):
        assert len({s for s, person in zip(faces.splits, faces.subjects, strict=True) if person == subject}) == 1


def test_colour_is_red_green_blue_and_the_daemons(tmp_path):
    for name in ("happy", "sad"):
        (tmp_path / name).mkdir()
        for number in range(4):
            cv2.imwrite(
                str(tmp_path / name / f"{number}.png"), np.roll(portrait(), 3 * number + 20 * (name == "sad"), 1)
            )
    ready = prepare(config("folders", colour="rgb"), tmp_path, tmp_path / "cache")
    faces = ready.everyone.faces
    assert faces.images.shape[1:] == (80, 80, 3)
    rule = CropRule(40, 2.5, 0.38)
    row = faces.names.index("happy/0.png")
    (ours,) = plain_crops(faces.images[[row]], ready.everyone.landmarks[[row]], rule)
    (found,) = Detector()(portrait())
    assert np.abs(crop(portrait(), found.landmarks, rule, "rgb").astype(float) - ours).mean() < 2
    assert ours[..., 0].mean() > ours[..., 2].mean() + 5  # skin
    again = random_crop(
        faces.images[row], ready.everyone.landmarks[row], rule, Augmentation(), np.random.default_rng(1)
    )
    assert again.shape == (40, 40, 3)


def test_small_pictures_are_stored_as_they_are(tmp_path):
    data = draw_ferplus(tmp_path / "data", each=(3, 2, 2))
    ready = prepare(config("ferplus"), data, tmp_path / "cache")
    first = cv2.imread(str(data / "ferplus/FER2013Train/fer0000000.png"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(ready.samples.faces.images[0], first)
    assert ready.samples.faces.all_votes().shape == (8 * 7, 10)
    coloured = prepare(config("ferplus", colour="rgb"), data, tmp_path / "cache")
    np.testing.assert_array_equal(coloured.samples.faces.images[0], np.repeat(first[..., None], 3, axis=2))


def test_real_small_face_gets_its_landmarks(tmp_path):
    (found,) = Detector()(portrait())
    x, y, width, height = (int(value) for value in found.box)
    chip = cv2.resize(
        cv2.cvtColor(portrait()[y - 20 : y + height, x - 10 : x + width + 10], cv2.COLOR_BGR2GRAY), (60, 60)
    )
    for name in ("happy", "sad"):
        (tmp_path / name).mkdir()
        for number in range(4):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), np.roll(chip, number, 0) + 3 * (name == "sad"))
    ready = prepare(config("folders"), tmp_path, tmp_path / "cache")
    eyes = ready.everyone.landmarks[ready.everyone.faces.names.index("happy/0.png")][:2]
    expected = (found.landmarks[:2] - (x - 10, y - 20)) * (60 / (width + 20), 60 / (height + 20))
    assert np.abs(eyes - expected).max() < 3


def test_the_detector_sees_small_colour_pictures_in_the_colours_of_frames(tmp_path):
    picture = cv2.resize(portrait()[:, :], (100, 100), interpolation=cv2.INTER_AREA)
    for name in ("happy", "sad"):
        (tmp_path / name).mkdir()
        for number in range(4):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), np.roll(picture, number, 0) // (1 + (name == "sad")))
    ready = prepare(config("folders", colour="rgb"), tmp_path, tmp_path / "cache")
    row = ready.everyone.faces.names.index("happy/0.png")
    np.testing.assert_array_equal(ready.everyone.faces.images[row], picture[..., ::-1])
    np.testing.assert_array_equal(ready.everyone.landmarks[row], eyes_of_chip(picture, Detector(THRESHOLD)))


def test_pictures_of_mixed_size_come_to_one_and_it_says_so(tmp_path):
    data = draw_folders(tmp_path / "data", {"happy": 6, "sad": 6})
    all_train = config("folders", {"validation": 0, "test": 0})
    cv2.imwrite(str(data / "sad/001.png"), cv2.resize(draw(1, np.random.default_rng(5)), (60, 50)))
    ready = prepare(all_train, data, tmp_path / "cache")
    assert ready.everyone.faces.images.shape == (12, 48, 48)
    assert ready.report.notes == ("1 pictures of 60×50 pixels were resized to 48×48",)
    cv2.imwrite(str(data / "sad/002.png"), photograph(1))
    ready = prepare(all_train, data, tmp_path / "cache")
    assert ready.everyone.faces.images.shape == (12, 80, 80)
    assert ready.report.notes == ("11 pictures from 48×48 to 60×50 pixels were resized to 80×80",)


faces_to_split = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=25, max_size=80)


@given(faces_to_split, st.sampled_from([0.1, 0.15, 0.25, 0.5]), st.sampled_from([0, 0.1, 0.2]), st.integers(0, 3))
def test_split_keeps_persons_together_and_repeats(rows, validation, test, seed):
    truth = np.array([label for label, _ in rows])
    subjects = [f"S{person:03d}" if person else "" for _, person in rows]
    own = [""] * len(rows)
    found = split(truth, subjects, own, (validation, test), seed)
    assert found == split(truth, subjects, own, (validation, test), seed)
    assert set(found) <= set(SPLITS)
    assert "train" in found
    assert ("test" in found) == bool(test)
    assert "validation" in found
    for person in set(subjects) - {""}:
        assert len({each for each, subject in zip(found, subjects, strict=True) if subject == person}) == 1


def test_split_is_stratified_seeded_and_of_the_size_asked_for():
    truth = np.repeat([0, 1, 2], (600, 300, 100))
    nobody = [""] * 1000
    found = split(truth, nobody, nobody, (0.15, 0.2), 1)
    counts = Counter(zip(found, truth.tolist(), strict=True))
    assert [counts["test", label] for label in range(3)] == [120, 60, 20]
    assert [counts["validation", label] for label in range(3)] == pytest.approx([90, 45, 15], abs=2)
    assert found != split(truth, nobody, nobody, (0.15, 0.2), 2)
    persons = [f"S{row % 100:03d}" for row in range(1000)]
    counts = Counter(zip(split(truth, persons, nobody, (0.15, 0.2), 1), truth.tolist(), strict=True))
    assert sum(n for (name, _), n in counts.items() if name == "test") == pytest.approx(200, abs=20)
    assert min(n for (name, label), n in counts.items() if label == 2) > 5
    assert set(split(truth, persons, nobody, (0, 0), 1)) == {"train"}


@pytest.mark.parametrize("share", [0.8, 0.99])
def test_large_share_leaves_somebody_to_train_on(share):
    truth = np.arange(12) % 2
    persons = [f"S{row // 6:03d}" for row in range(12)]
    for subjects in (persons, [""] * 12):
        assert set(split(truth, subjects, [""] * 12, (share, 0), 0)) == {"train", "validation"}


def test_rare_class_is_not_all_held_back():
    truth = np.repeat([0, 1], (200, 3))
    for seed in range(10):
        found = split(truth, [""] * 203, [""] * 203, (0.15, 0.15), seed)
        assert "train" in found[200:]


def test_own_splits_are_kept_and_only_a_missing_validation_is_drawn():
    own = ["train"] * 40 + ["test"] * 10
    truth = np.arange(50) % 2
    found = split(truth, [""] * 50, own, (0.25, 0.25), 1)
    assert Counter(found) == {"train": 30, "validation": 10, "test": 10}
    assert found[40:] == ("test",) * 10
    complete = ["train"] * 30 + ["validation"] * 10 + ["test"] * 10
    assert split(truth, [""] * 50, complete, (0.25, 0.25), 1) == tuple(complete)


def test_person_in_two_splits_is_refused(tmp_path):
    data = draw_folders(
        tmp_path / "data", {f"{name}/{label}": 3 for name in ("train", "val", "test") for label in ("fear", "sad")}
    )
    shutil.copy(data / "train/fear/000.png", data / "train/fear/S010_1.png")
    shutil.copy(data / "train/fear/001.png", data / "test/sad/S010_2.png")
    line = refusal(
        invoke("prepare", "--config", write_config(tmp_path / "c.yaml", data={"source": "folders"}), "--data", data)
    )
    assert f"{data}: subject S010 is in test and train" in line


def test_too_few_to_split_are_refused():
    with pytest.raises(DataError, match="1 faces of 1 persons are too few"):
        split(np.array([0]), ["S1"], [""], (0.2, 0.2), 1)


pictures = st.lists(st.tuples(st.integers(0, 6), st.sampled_from(SPLITS)), max_size=30)


@given(pictures)
def test_leaks_are_dropped_from_the_earlier_split_only(found):
    leaks = leaking([bytes([key]) for key, _ in found], [name for _, name in found])
    for (key, name), leaked in zip(found, leaks, strict=True):
        later = {other for k, other in found if k == key and SPLITS.index(other) > SPLITS.index(name)}
        assert leaked == bool(later)


def test_fingerprint_knows_a_mirror_image_and_nothing_else():
    rng = np.random.default_rng(3)
    one, other = draw(5, rng), draw(5, rng)
    assert fingerprint(one) == fingerprint(one[:, ::-1])
    assert len({fingerprint(one), fingerprint(other), fingerprint(one[::-1]), fingerprint(one.T)}) == 4
    flat = np.zeros((4, 6), np.uint8)
    assert fingerprint(flat) != fingerprint(flat.T)


def test_copies_across_splits_are_dropped_and_reported(tmp_path):
    rng = np.random.default_rng(1)
    faces = [draw(label % 8, rng) for label in range(24)]
    parts = {
        "train": [*faces[:17], faces[20][:, ::-1]],  # one is in validation, one mirrored in test
        "validation": [*faces[16:20], faces[21]],  # one is in test
        "test": faces[20:],
    }
    for number, (name, images) in enumerate(parts.items()):
        votes = [votes_for(row % 8) for row in range(len(images))]
        write_split(tmp_path / "ferplus" / FOLDERS[name], images, votes, 100 * number)
    ready = prepare(config("ferplus"), tmp_path, tmp_path / "cache")
    assert ready.report.dropped == {
        "train": ["fer0000016.png", "fer0000017.png"],
        "validation": ["fer0000104.png"],
        "test": [],
    }
    assert {name: len(ready.samples.of(name)) for name in SPLITS} == {"train": 16, "validation": 4, "test": 4}
    assert len(ready.everyone) == 27
    assert sum(ready.report.counts["train"].values()) == 16


def test_broken_pictures_are_skipped_and_listed(tmp_path):
    data = draw_ferplus(tmp_path / "data", each=(4, 2, 2))
    train = data / "ferplus" / FOLDERS["train"]
    content = (train / "fer0000001.png").read_bytes()
    (train / "fer0000001.png").write_bytes(content[: len(content) // 2])
    (train / "fer0000002.png").write_bytes(b"")
    (train / "fer0000003.png").write_bytes(b"no picture")
    (train / "fer0000004.png").unlink()
    settings = write_config(tmp_path / "tiny.yaml")
    result = invoke("prepare", "--config", settings, "--data", data, "--json")
    shown = invoke("prepare", "--config", settings, "--data", data)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["broken"] == {f"fer000000{number}.png": "no picture" for number in (1, 2, 3)}
    assert report["skipped"] == {"FER2013Train/fer0000004.png": "missing"}
    assert report["counts"]["train"] == {
        label: 4 - 3 * (label == "neutral") - (label == "happiness") for label in LABELS
    }
    for text in ("3 broken pictures, skipped:", "fer0000002.png: no picture", "FER2013Train/fer0000004.png: missing"):
        assert text in shown.stdout


def test_everything_broken_is_refused(tmp_path):
    draw_fer2013(tmp_path, [(code, "1 2 3", "Training") for code in range(7)])
    with pytest.raises(DataError, match="not one of 7 pictures can be read"):
        prepare(config("fer2013"), tmp_path, tmp_path / "cache")


def test_one_class_is_refused(tmp_path):
    data = draw_folders(tmp_path / "data", {"happy": 5})
    settings = write_config(tmp_path / "c.yaml", data={"source": "folders"})
    line = refusal(invoke("prepare", "--config", settings, "--data", data))
    assert "5 faces are all 'happiness'; a classifier needs at least two classes" in line


def test_class_without_a_readable_picture_is_refused(tmp_path):
    draw_folders(tmp_path, {"happy": 3, "sad": 3, "fear": 1})
    (tmp_path / "fear/000.png").write_bytes(b"")
    with pytest.raises(DataError, match="no picture of class 'fear' can be read"):
        prepare(config("folders"), tmp_path, tmp_path / "cache")


def test_class_that_is_only_held_back_is_refused(tmp_path):
    names = {f"{name}/{label}": 3 for name in ("train", "val", "test") for label in ("fear", "sad")}
    draw_folders(tmp_path, {**names, "test/happy": 2})
    with pytest.raises(DataError, match="no face of class 'happiness' is left for training"):
        prepare(config("folders"), tmp_path, tmp_path / "cache")


def test_class_that_a_data_set_only_tests_is_told(tmp_path):
    data = draw_ferplus(tmp_path / "data", each=(2, 1, 1))
    table = data / "ferplus" / FOLDERS["train"] / "label.csv"
    table.write_text(table.read_text().replace(",10,0,0\n", ",0,0,10\n"))
    ready = prepare(config("ferplus"), data, tmp_path / "cache")
    assert ready.report.counts["train"]["contempt"] == 0
    assert ready.report.counts["train"]["-"] == 2
    assert any(note.startswith("no training faces of contempt") for note in ready.report.notes)


def test_fer2013_trains_on_its_own_splits(tmp_path):
    rng = np.random.default_rng(0)
    usages = ["Training"] * 3 + ["PublicTest", "PrivateTest"]
    draw_fer2013(tmp_path, [(code, pixels(draw(code, rng)), usage) for usage in usages for code in range(7)])
    ready = prepare(config("fer2013"), tmp_path, tmp_path / "cache")
    assert {name: len(ready.samples.of(name)) for name in SPLITS} == {"train": 21, "validation": 7, "test": 7}
    assert ready.samples.faces.votes is None
    assert ready.samples.faces.labels == LABELS[:7]


def test_ck48_may_answer_neutral_but_is_never_taught_it(tmp_path):
    draw_ck48(tmp_path)
    ready = prepare(config("ck48", {"validation": 0, "test": 0}), tmp_path, tmp_path / "cache")
    assert ready.samples.faces.labels == LABELS
    assert any(note.startswith("no training faces of neutral") for note in ready.report.notes)


def test_damaged_cache_is_made_anew_and_other_crops_reuse_small_pictures(tmp_path):
    data = draw_ferplus(tmp_path / "data", each=(2, 1, 1))
    cache = tmp_path / "cache"
    first = prepare(config("ferplus"), data, cache)
    (chunk,) = cache.iterdir()
    written = chunk.read_bytes()
    prepare(config("ferplus", size=64, margin=3), data, cache)
    assert [*cache.iterdir()] == [chunk]
    chunk.write_bytes(written[: len(written) // 2])
    second = prepare(config("ferplus"), data, cache)
    assert chunk.read_bytes() == written
    np.testing.assert_array_equal(first.samples.landmarks, second.samples.landmarks)
    prepare(config("ferplus", colour="rgb"), data, cache)
    assert len([*cache.iterdir()]) == 2


def test_other_pictures_and_other_crops_are_not_mixed_up(ckplus, tmp_path):
    small = {"frames": 1, "neutral": False, "validation": 0, "test": 0}
    one = prepare(config("ckplus", small), ckplus, tmp_path)
    other = prepare(config("ckplus", small, margin=3.5), ckplus, tmp_path)
    assert len([*tmp_path.iterdir()]) == 2
    assert not np.allclose(one.samples.landmarks[-1], other.samples.landmarks[-1], atol=1)


SPAWN = "import trainer.data.stored_pictures as p; p.FEW = 0; p.CHUNK = 40\nfrom trainer.cli import main; main()"


def test_killed_preparation_goes_on_where_it_was(tmp_path):
    data = draw_ferplus(tmp_path / "data", each=(26, 2, 2))
    settings = write_config(tmp_path / "tiny.yaml")
    command = [sys.executable, "-c", SPAWN, "prepare", "--config", settings, "--data", data, "--json"]
    folder = tmp_path / "killed"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    cache = folder / ".cache/prepared"
    try:
        eventually(lambda: chunks(cache) or process.poll() is not None, 120, "chunk")
        process.kill()
        process.wait()
        eventually(lambda: not alive(process.pid), 120, "end of the workers, who have noticed")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    interrupted = chunks(cache)
    assert 1 <= len(interrupted) < 6

    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert len(chunks(cache)) == 6
    assert interrupted.items() <= chunks(cache).items()  # not made again
    report = json.loads(done.stdout)
    assert sum(report["counts"]["train"].values()) == 8 * 26
    assert report["broken"] == {}


def chunks(cache: Path) -> dict[str, int]:
    """Name and time of each finished chunk."""
    return {path.name: path.stat().st_mtime_ns for path in cache.glob("faces-*.npz")} if cache.is_dir() else {}


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_full_disk_is_told_in_one_line_and_leaves_no_debris(tmp_path):
    data = draw_ferplus(tmp_path / "data", each=(4, 2, 2))
    settings = write_config(tmp_path / "tiny.yaml")
    done = subprocess.run(
        [sys.executable, "-c", "from trainer.cli import main; main()", "prepare", "--config", settings, "--data", data],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("emotion-trainer:")]
    assert "File too large; choose another folder" in line
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert [*(tmp_path / ".cache/prepared").iterdir()] == []


def test_ckplus_trains_to_a_model_file(tmp_path):
    """Start to end: photographs of persons whose emotion tells in the light."""
    data = tmp_path / "data"
    for number in range(1, 13):
        emotion = number % 2  # anger or happiness
        draw_sequence(
            data, f"S{number:03d}", frames=4, label=f"   {1 + 4 * emotion}.0000000e+00\n", light=(0.4, 1.0)[emotion]
        )
    settings = write_config(
        tmp_path / "tiny.yaml",
        data={"source": "ckplus", "neutral": False, "validation": 0.25},
        training={"epochs": 6, "batch_size": 4},
        augmentation={"aligned_share": 1},
    )
    result = invoke("train", "--config", settings, "--data", data, "--run", tmp_path / "run")
    assert result.exit_code == 0, result.output
    info = read_bundle(tmp_path / "run/tiny.tflite").info
    assert info.labels == LABELS
    assert list(info.accuracies) == ["all faces"]
    assert info.accuracies["all faces"]["n"] == 9
    assert info.accuracies["all faces"]["accuracy"] == 1
    assert info.training_data.startswith("CK+ (Lucey")


def test_own_folders_train_in_colour_to_a_model_file(tmp_path):
    data = draw_folders(tmp_path / "data", {"yes": 24, "no": 24, "perhaps": 24})
    settings = write_config(
        tmp_path / "tiny.yaml",
        data={"source": "folders", "validation": 0.25},
        crop={"size": 32, "colour": "rgb"},
        training={"epochs": 6, "batch_size": 4},
    )
    result = invoke("train", "--config", settings, "--data", data, "--run", tmp_path / "run")
    assert result.exit_code == 0, result.output
    bundle = read_bundle(tmp_path / "run/tiny.tflite")
    assert bundle.info.labels == ("no", "perhaps", "yes")
    assert (bundle.info.input.colour, bundle.info.input.shape) == ("rgb", (32, 32, 3))
    assert bundle.info.training_data.startswith("pictures sorted into a folder a class")
    picture = cv2.resize(cv2.imread(str(data / "no/000.png")), (32, 32))
    assert Classifier(bundle)(picture).shape == (3,)


def test_same_picture_of_two_classes_is_told_in_a_line(tmp_path):
    rng = np.random.default_rng(5)
    data = draw_folders(tmp_path / "data", {"train/happy": 3, "train/sad": 3, "val/happy": 2, "test/sad": 2})
    disputed = draw(1, rng)
    for name, picture in (("train/happy/a.png", disputed), ("val/sad/b.png", disputed[:, ::-1])):
        (data / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(data / name), picture)
    cv2.imwrite(str(data / "val/happy/c.png"), cv2.imread(str(data / "val/happy/000.png")))  # a copy of its own class
    settings = write_config(tmp_path / "tiny.yaml", data={"source": "folders"})
    told = invoke("prepare", "--config", settings, "--data", data)
    assert told.exit_code == 0, told.output
    line = "2 pictures have copies of another class, mirrored or not; for example train/happy/a.png"
    assert told.stdout.count("of another class") == 1
    assert f"{line} (happiness) and val/sad/b.png (sadness)" in told.stdout
    report = json.loads(invoke("prepare", "--config", settings, "--data", data, "--json").stdout)
    assert report["contradictions"] == [{"train/happy/a.png": "happiness", "val/sad/b.png": "sadness"}]
    assert report["dropped"]["train"] == ["train/happy/a.png"]  # as every copy


def test_same_row_of_two_classes_in_a_table_is_told(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(code, pixels(draw(code, rng)), usage) for usage in ("Training", "PublicTest") for code in range(7)]
    draw_fer2013(tmp_path, [*rows, (3, rows[0][1], "Training")])
    found = prepare(config("fer2013"), tmp_path, tmp_path / "cache").report.contradictions
    assert found == [{"fer2013.csv:2": "anger", "fer2013.csv:16": "happiness"}]


def test_missing_and_found_data_are_named_as_they_are(tmp_path):
    settings = write_config(tmp_path / "tiny.yaml", data={"source": "fer2013"})
    line = refusal(invoke("prepare", "--config", settings, "--data", tmp_path))
    assert f"{tmp_path / 'fer2013.csv'}: no such file" in line
    assert ".tar" not in line
    line = refusal(invoke("prepare", "--config", settings, "--data", tmp_path, "--set", "data.path=mine.csv"))
    assert f"{tmp_path / 'mine.csv'}: no such file" in line
    draw_ck48(tmp_path)
    with tarfile.open(tmp_path / "ck48.tar", "w") as tar:
        tar.add(tmp_path / "ck48", "ck48")
    shutil.rmtree(tmp_path / "ck48")
    settings = write_config(tmp_path / "tiny.yaml", data={"source": "ck48", "validation": 0, "test": 0})
    told = invoke("prepare", "--config", settings, "--data", tmp_path)
    assert told.stdout.startswith(f"CK+48 in {tmp_path / 'ck48.tar'}: faces"), told.output
