"""Data sets and configurations: what is read, what is dropped, and what is refused in one line."""

import shutil
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edge.faces import CropRule
from tests.parts.trainer_faces import draw, draw_ck48, draw_ferplus, votes_for, write_config, write_split
from trainer.cli import main
from trainer.config import Augmentation, Config, Data, load_config
from trainer.data.alignment import landmarks_of
from trainer.data.augment import judged_crops, plain_crops, random_crop
from trainer.data.datasets import LABELS, DataError, Samples, copies, data_folder, without_leaks
from trainer.data.readers import read
from trainer.data.readers.ck48 import read_ck48
from trainer.data.readers.ferplus import FOLDERS, distribution, read_ferplus, trainable

TRAIN = FOLDERS["train"]
CONFIGS = Path(__file__).parents[1] / "configs/trainer"


@pytest.fixture
def data(tmp_path) -> Path:
    return draw_ferplus(tmp_path / "data", each=(4, 2, 2))


def refusal(tmp_path: Path, data: Path, config: Path | None = None) -> str:
    """What `train` says of bad input: one line, exit code 2, nothing written."""
    config = config or write_config(tmp_path / "tiny.yaml")
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        result = CliRunner().invoke(main, ["train", "--config", str(config), "--data", str(data), "--run", str(run)])
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("emotion-trainer:")]
    assert result.stdout == ""
    assert not run.exists()
    return line


def test_folder_and_archive_read_alike(data):
    from_folder = read_ferplus(data)
    with tarfile.open(data / "ferplus.tar", "w") as tar:
        for folder in FOLDERS.values():
            tar.add(data / "ferplus" / folder, arcname=f"./{folder}")
    shutil.rmtree(data / "ferplus")
    from_archive = read_ferplus(data)
    assert {name: len(faces) for name, faces in from_archive.items()} == {"train": 32, "validation": 16, "test": 16}
    for split, faces in from_folder.items():
        assert faces.names == from_archive[split].names
        np.testing.assert_array_equal(faces.images, from_archive[split].images)
        np.testing.assert_array_equal(faces.all_votes(), from_archive[split].all_votes())


def test_ck48_knows_subjects_and_labels(tmp_path):
    faces = read_ck48(draw_ck48(tmp_path))
    assert len(faces) == 4
    assert set(faces.subjects) == {"S010", "S011"}
    assert sorted(LABELS[i] for i in faces.truth()) == ["anger", "anger", "contempt", "contempt"]


def test_copies_and_mirrored_copies_are_dropped(tmp_path):
    rng = np.random.default_rng(1)
    a, b, c, d, e = (draw(label, rng) for label in (4, 5, 6, 7, 3))
    tie = votes_for(4)
    for split, images in (
        ("train", [a, b, c[:, ::-1], d[:, ::-1], e]),  # b is in test, c mirrored in validation, d mirrored in test
        ("validation", [c, a.copy() // 2, d]),  # d is in test too
        ("test", [b, d]),
    ):
        write_split(tmp_path / "ferplus" / FOLDERS[split], images, [tie] * len(images), 0)
    splits = without_leaks(read_ferplus(tmp_path))
    assert splits.dropped_train == ("fer0000001.png", "fer0000002.png", "fer0000003.png")
    assert splits.dropped_validation == ("fer0000002.png",)
    assert splits.train.names == ("fer0000000.png", "fer0000004.png")
    assert (len(splits.validation), len(splits.test)) == (2, 2)
    assert not copies(splits.train, splits.validation).any()
    assert not copies(splits.validation, splits.test).any()


@given(st.lists(st.lists(st.integers(0, 10), min_size=10, max_size=10), min_size=1, max_size=8))
def test_distribution_is_one_or_nothing(rows):
    votes = np.array(rows, np.float32)
    shares = distribution(votes)
    sums = shares.sum(axis=1)
    assert shares.shape == (len(rows), 8)
    assert np.all(np.isclose(sums, 1, atol=1e-5) | (sums == 0))
    assert np.all(shares[votes[:, :8] <= 1] == 0)
    assert np.all(sums[trainable(votes)] > 0)


def test_one_vote_noise_is_removed():
    votes = np.array([[6, 1, 0, 2, 0, 0, 0, 0, 1, 0]], np.float32)
    np.testing.assert_allclose(distribution(votes), [[0.75, 0, 0, 0.25, 0, 0, 0, 0]])
    assert trainable(votes).all()
    assert not trainable(np.array([[1, 0, 0, 0, 0, 0, 0, 0, 9, 0], [0] * 9 + [10], [1] * 10], np.float32)).any()


def test_landmarks_are_kept_on_disk(data, tmp_path):
    images = read_ferplus(data)["test"].images
    cache = tmp_path / "cache"
    first = landmarks_of(images, cache, "drawn")
    (kept,) = cache.iterdir()
    np.save(kept, np.full_like(first, 7))
    assert (landmarks_of(images, cache, "drawn") == 7).all()  # from the disk
    assert (landmarks_of(images[:5], cache, "others") != 7).any()
    assert len(list(cache.iterdir())) == 2
    for damaged in (b"", b"no array", kept.read_bytes()[:-40]):
        kept.write_bytes(damaged)
        assert np.array_equal(landmarks_of(images, cache, "drawn"), first, equal_nan=True)


def test_without_landmarks_the_whole_picture_is_shown():
    image = np.random.default_rng(2).integers(0, 256, (1, 48, 48), dtype=np.uint8)
    nowhere = np.full((1, 6, 2), np.nan, np.float32)
    np.testing.assert_array_equal(plain_crops(image, nowhere, CropRule(48)), image)
    np.testing.assert_array_equal(plain_crops(image, None, CropRule(48)), image)
    assert plain_crops(image, nowhere, CropRule(64)).shape == (1, 64, 64)


@given(st.integers(0, 2**32 - 1), st.sampled_from([32, 48, 64]))
def test_augmented_crop_depends_only_on_its_random_numbers(seed, size):
    face = draw(5, np.random.default_rng(0))
    nowhere = np.full((6, 2), np.nan, np.float32)
    one, two = (
        random_crop(face, nowhere, CropRule(size), Augmentation(), np.random.default_rng(seed)) for _ in range(2)
    )
    assert one.shape == (size, size)
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, two)


def test_data_folder_is_the_named_one(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    monkeypatch.setenv("EMOTION_DATA", str(tmp_path / "two"))
    assert data_folder(tmp_path / "one") == tmp_path / "one"
    assert data_folder() == tmp_path / "two"


def test_missing_data_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    line = refusal(tmp_path, tmp_path / "empty")
    assert "ferplus.tar: no such file" in line
    assert "no such folder" in refusal(tmp_path, tmp_path / "nowhere")


def test_truncated_archive_is_refused(data, tmp_path):
    archive = data / "ferplus.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(data / "ferplus", arcname=".")
    shutil.rmtree(data / "ferplus")
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) * 2 // 3])
    line = refusal(tmp_path, data)
    assert "ferplus" in line
    assert "again" in line  # copy or unpack it again
    archive.write_bytes(b"no archive at all")
    assert "ferplus.tar: unreadable" in refusal(tmp_path, data)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("fer0000000.png,box,1,2,3", "5 columns, expected 12"),
        ("fer0000000.png,box,1,2,3,4,5,6,7,many,9,10", "'many'"),
        ("fer0000000.png,box,8,0,0,0,0,0,0,0,0,0", "the votes add up to 8, expected 10"),
        ("fer0000000.png,box,11,0,0,0,0,0,0,0,0,-1", "the votes add up to 10, one below 0"),
    ],
)
def test_broken_row_is_refused(data, tmp_path, row, what):
    table = data / "ferplus" / TRAIN / "label.csv"
    table.write_text(table.read_text() + row + "\n")
    line = refusal(tmp_path, data)
    assert what in line
    assert f"{TRAIN}/label.csv:33" in line


def test_a_stray_quote_in_a_table_is_refused(data, tmp_path):
    table = data / "ferplus" / TRAIN / "label.csv"
    table.write_text(table.read_text() + 'x,"' + "x,1\n" * 40_000)
    assert "label.csv: field larger than field limit" in refusal(tmp_path, data)


def test_official_vote_less_is_taken(data):
    table = data / "ferplus" / TRAIN / "label.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([rows[0].replace(",10,", ",9,"), *rows[1:]]) + "\n")
    assert read_ferplus(data)["train"].all_votes()[0].sum() == 9
    assert read(Data(), data).notes[0].startswith("1 face has one vote less than 10")


def test_protocols_are_not_asked_without_every_image(data):
    image = data / "ferplus" / TRAIN / "fer0000003.png"
    cv2.imwrite(str(image), np.zeros((40, 50), np.uint8))
    with pytest.raises(DataError, match=r"fer0000003\.png: 50×40 pixels, the others have 48×48"):
        read_ferplus(data)
    for content in (b"", b"no picture"):
        image.write_bytes(content)
        with pytest.raises(DataError, match=r"fer0000003\.png: not an image"):
            read_ferplus(data)
    image.unlink()
    with pytest.raises(DataError, match=f"{TRAIN}/fer0000003.png: missing"):
        read_ferplus(data)


def test_wrong_ck48_folder_is_refused(tmp_path):
    path = draw_ck48(tmp_path) / "ck48/CK+48/joy"
    path.mkdir()
    cv2.imwrite(str(path / "S001_001_00000001.png"), np.zeros((48, 48), np.uint8))
    with pytest.raises(DataError, match="'joy' is none of neutral"):
        read_ck48(tmp_path)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("name: tiny\nepochs: 3\n", "epochs: no such key"),
        ("name: tiny\ncrop: {sise: 32}\n", "crop.sise: no such key"),
        ("name: tiny\ntraining: {epochs: 0}\n", "training.epochs: Input should be greater"),
        ("name: tiny\narchitecture: {stages: []}\n", "architecture.stages: Tuple should have at least 1 item"),
        ("name: tiny\narchitecture: {stages: [32, 0]}\n", "architecture.stages.1: Input should be greater"),
        ("name: Tiny Model\n", "name: String should match"),
        ("name: tiny\nvariant: rotated\n", "variant: Input should be 'raw' or 'aligned'"),
        ("name: tiny\ndata: {validation: 0.5, test: 0.5}\n", "data: validation and test leave nothing"),
        ("name: [\n", "mend the YAML"),
        ("name: tiny\nname: small\n", "stands here twice"),
        ("[" * 3000, "nested too deeply"),
        ("name: tiny\nseed: " + "9" * 5000 + "\n", "is none"),
        ("name: tiny\ntraining: {adjust_below: true}\n", "must be a number, not true or false"),
        ("name: tiny\naugmentation: {rotation: .inf}\n", "rotation: Input should be a finite number"),
        ("", "file: must be keys and values"),
        ("\udcff", "no text file"),
    ],
)
def test_wrong_configuration_is_refused(data, tmp_path, text, what):
    config = tmp_path / "wrong.yaml"
    config.write_bytes(text.encode(errors="surrogateescape"))
    line = refusal(tmp_path, data, config)
    assert f"{config}:" in line
    assert what in line


def test_missing_configuration_is_refused(data, tmp_path):
    assert "none.yaml: No such file" in refusal(tmp_path, data, tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "path", [each for each in sorted(CONFIGS.glob("*.yaml")) if each.stem != "search"], ids=lambda path: path.stem
)
def test_shipped_configurations_are_valid(path):
    assert load_config(path).variant == "aligned"


def test_one_configuration_shows_every_key():
    shown = yaml.safe_load((CONFIGS / "ckplus.yaml").read_text())
    complete = load_config(CONFIGS / "ckplus.yaml").model_dump()
    for name, value in complete.items():
        assert name in shown
        if isinstance(value, dict):
            assert set(shown[name]) == set(value), name


def samples_of(data, rows=None):
    faces = read_ferplus(data)["train"]
    faces = faces if rows is None else faces.subset(rows)
    landmarks = np.tile(
        np.array([[14, 18], [34, 18], [24, 28], [24, 36], [8, 20], [40, 20]], np.float32), (len(faces), 1, 1)
    )
    return Samples(faces, landmarks)


def test_first_faces_of_sorted_data_hold_every_class(data):
    order = np.argsort(read_ferplus(data)["train"].truth(), kind="stable")
    by_class = samples_of(data, order)
    assert set(by_class.first(16).faces.truth()) == set(range(len(LABELS)))
    assert len(by_class.first(16)) == 16
    mixed = samples_of(data, order.reshape(len(LABELS), -1).T.ravel())
    assert mixed.first(16).faces.names == mixed.faces.names[:16]
    assert mixed.first(None).faces.names == mixed.first(1000).faces.names == mixed.faces.names


def test_a_run_is_judged_by_its_own_variant(data):
    samples = samples_of(data)
    aligned, raw = (judged_crops(samples, Config(name="t", variant=variant)) for variant in ("aligned", "raw"))
    rule = Config(name="t").crop.rule()
    np.testing.assert_array_equal(aligned, plain_crops(samples.faces.images, samples.landmarks, rule))
    np.testing.assert_array_equal(raw, plain_crops(samples.faces.images, None, rule))
    assert (aligned != raw).any()
