"""Readers: what each data set's layout gives, and what is listed or refused when it is not as it should be."""

import shutil
import tarfile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from tests.parts.trainer_faces import draw, draw_fer2013, draw_folders, draw_sequence, pixels
from trainer.config import Data
from trainer.data.datasets import LABELS, DataError
from trainer.data.readers import CREDITS, READERS, read
from trainer.data.readers.archive import listing
from trainer.data.readers.reading import Reading

FACE = pixels(draw(3, np.random.default_rng(0)))


def shown(reading: Reading) -> dict[str, str]:
    """The class of each picture."""
    return {item.name: reading.labels[int(np.argmax(item.shares))] for item in reading.items}


def test_every_source_has_a_reader_and_a_credit():
    assert set(READERS) == set(CREDITS) == set(get_args(Data.model_fields["source"].annotation))


@pytest.fixture
def ckplus(tmp_path: Path) -> Path:
    """CK+ as it comes: some sequences labelled, most things wrong that can be."""
    draw_sequence(tmp_path, "S005")
    draw_sequence(tmp_path, "S010", "002", label=None)
    draw_sequence(tmp_path, "S010", "004", frames=2, label="   7.0000000e+00\n")
    draw_sequence(tmp_path, "S011", "001", label=None)
    (tmp_path / "ckplus/Emotion/S011/001").mkdir(parents=True)  # as many in the distribution: empty
    for number, label in enumerate(("", "happy", "   9.0000000e+00\n", "  -1.0000000e+00\n", "nan"), start=1):
        draw_sequence(tmp_path, "S022", f"00{number}", frames=1, label=label)
    draw_sequence(tmp_path, "S026", "001", label="   2.0000000e+00\n")
    shutil.rmtree(tmp_path / "ckplus/cohn-kanade-images/S026")
    draw_sequence(tmp_path, "S032", "001", frames=1, label="   0.0000000e+00\n")
    (tmp_path / "ckplus/cohn-kanade-images/S005/001/.DS_Store").write_bytes(b"\0")
    (tmp_path / "ckplus/cohn-kanade-images/S005/001/._S005_001_00000001.png").write_bytes(b"\0")
    return tmp_path


def test_ckplus_labels_peak_and_first_frames_and_lists_what_has_no_label(ckplus):
    reading = read(Data(source="ckplus"), ckplus)
    assert reading.labels == LABELS
    assert shown(reading) == {
        "S005/001/S005_001_00000001.png": "neutral",
        "S005/001/S005_001_00000003.png": "disgust",
        "S005/001/S005_001_00000004.png": "disgust",
        "S005/001/S005_001_00000005.png": "disgust",
        "S010/004/S010_004_00000001.png": "neutral",
        "S010/004/S010_004_00000002.png": "surprise",
        "S032/001/S032_001_00000001.png": "neutral",
    }
    assert [item.subject for item in reading.items] == ["S005"] * 4 + ["S010"] * 2 + ["S032"]
    assert {item.split for item in reading.items} == {""}
    assert reading.skipped == {
        "S010/002": "no label",
        "S011/001": "no label",
        **{f"S022/00{number}": "its label is no number from 0 to 7" for number in range(1, 6)},
        "S026/001": "a label, but no pictures",
    }


def test_ckplus_takes_the_frames_asked_for(ckplus):
    one = shown(read(Data(source="ckplus", frames=1, neutral=False), ckplus))
    assert list(one) == [
        f"{s}/{s.replace('/', '_')}_0000000{n}.png" for s, n in (("S005/001", 5), ("S010/004", 2), ("S032/001", 1))
    ]
    # However many are asked for: the first frame shows nothing yet.
    assert list(shown(read(Data(source="ckplus", frames=9, neutral=False), ckplus)))[:2] == [
        "S005/001/S005_001_00000002.png",
        "S005/001/S005_001_00000003.png",
    ]


def test_ckplus_reads_alike_from_an_archive(ckplus):
    from_folder = read(Data(source="ckplus"), ckplus)
    with tarfile.open(ckplus / "ckplus.tar", "w") as tar:
        tar.add(ckplus / "ckplus", arcname="CK+")
    shutil.rmtree(ckplus / "ckplus")
    from_archive = read(Data(source="ckplus"), ckplus)
    assert shown(from_archive) == shown(from_folder)
    assert from_archive.skipped == from_folder.skipped
    for one, other in zip(from_folder.items, from_archive.items, strict=True):
        assert one.content != other.content
    with pytest.raises(FileNotFoundError):
        from_folder.items[0].content.read()
    assert from_archive.items[0].content.read().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("missing", "what"),
    [
        ("Emotion", "holds no Emotion/S###/###/*_emotion.txt"),
        ("cohn-kanade-images", "holds no cohn-kanade-images/S###/###/*.png"),
        ("", "no such file"),
    ],
)
def test_half_of_ckplus_is_refused(ckplus, missing, what):
    shutil.rmtree(ckplus / "ckplus" / missing)
    with pytest.raises(DataError) as error:
        read(Data(source="ckplus"), ckplus)
    assert what in str(error.value)
    assert str(ckplus / "ckplus") in str(error.value)


def test_ckplus_without_any_labelled_sequence_is_refused(tmp_path):
    draw_sequence(tmp_path, "S005", label="none")
    with pytest.raises(DataError, match="no sequence has both"):
        read(Data(source="ckplus"), tmp_path)


def test_fer2013_has_its_own_splits_and_order(tmp_path):
    usages = ("Training", "PublicTest", "PrivateTest")
    draw_fer2013(tmp_path, [(code, FACE, usages[code % 3]) for code in range(7)])
    reading = read(Data(source="fer2013"), tmp_path)
    assert reading.labels == LABELS[:7]
    assert list(shown(reading).values()) == ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
    splits = [item.split for item in reading.items]
    assert splits == ["train", "validation", "test", "train", "validation", "test", "train"]
    for item in reading.items:
        np.testing.assert_array_equal(reading.decode(item.content.read()), draw(3, np.random.default_rng(0)))


def test_fer2013_reads_other_columns_orders_and_places(tmp_path):
    draw_fer2013(tmp_path, [(0, "PublicTest", f'"{FACE}"'), (6, "Training", FACE)], "emotion, Usage, pixels")
    reading = read(Data(source="fer2013"), tmp_path)
    assert [(item.name, item.split) for item in reading.items] == [
        ("fer2013.csv:2", "validation"),
        ("fer2013.csv:3", "train"),
    ]
    with tarfile.open(tmp_path / "fer2013.tar", "w") as tar:
        tar.add(tmp_path / "fer2013.csv", arcname="fer2013/fer2013.csv")
    (tmp_path / "fer2013.csv").unlink()
    archived = read(Data(source="fer2013"), tmp_path)
    assert shown(archived) == shown(reading)
    for item in archived.items:
        np.testing.assert_array_equal(archived.decode(item.content.read()), draw(3, np.random.default_rng(0)))


def test_fer2013_reads_the_last_row_of_an_archive_and_quoted_cells(tmp_path):
    rows = [f'"{code}","{FACE}","Training"' for code in (0, 6)]
    (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *rows]))
    with tarfile.open(tmp_path / "fer2013.tar", "w") as tar:
        tar.add(tmp_path / "fer2013.csv", arcname="fer2013.csv")
    plain = read(Data(source="fer2013"), tmp_path)
    (tmp_path / "fer2013.csv").unlink()
    archived = read(Data(source="fer2013"), tmp_path)
    assert list(shown(plain).values()) == ["anger", "neutral"]
    assert (shown(archived), archived.skipped) == (shown(plain), {})


def test_fer2013_lists_broken_rows(tmp_path):
    rows = [
        (7, FACE, "Training"),
        (-1, FACE, "Training"),
        ("x", FACE, "Test"),
        (1, FACE, "Final"),
        (2, FACE, "Training"),
    ]
    draw_fer2013(tmp_path, [*rows, (3, "1 2 3", "Training"), (3, "1 2 3 256", "Training"), (3, "", "Training")])
    with (tmp_path / "fer2013.csv").open("a") as file:
        file.write("\n4\n")
    reading = read(Data(source="fer2013"), tmp_path)
    assert sorted(reading.skipped) == [f"fer2013.csv:{line}" for line in (11, 2, 3, 4, 5)]
    assert [reading.decode(item.content.read()) is None for item in reading.items] == [False, True, True, True]


@pytest.mark.parametrize(
    ("content", "what"), [("1,2,3\n", "no header"), ("emotion,pixels,Usage\n", "no rows"), ("", "no rows")]
)
def test_other_csv_files_are_refused(tmp_path, content, what):
    (tmp_path / "fer2013.csv").write_text(content)
    with pytest.raises(DataError, match=what):
        read(Data(source="fer2013"), tmp_path)
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match=r"holds no fer2013\.csv"):
        read(Data(source="fer2013", path=Path("other")), tmp_path)


def test_folders_of_known_emotions_take_their_order(tmp_path):
    draw_folders(tmp_path, {"Sad": 1, "happy": 2, "NEUTRAL": 1, "happiness": 1})
    reading = read(Data(source="folders"), tmp_path)
    assert reading.labels == ("neutral", "happiness", "sadness")
    assert sorted(shown(reading).values()) == ["happiness"] * 3 + ["neutral", "sadness"]
    assert {(item.subject, item.split) for item in reading.items} == {("", "")}


def test_other_folders_are_classes_by_name(tmp_path):
    draw_folders(tmp_path / "mine", {"yawning": 1, "happy": 1, "asleep": 1})
    (tmp_path / "mine/yawning/notes.txt").write_text("no picture")
    (tmp_path / "mine/left.png").write_bytes(b"")
    reading = read(Data(source="folders", path=Path("mine")), tmp_path)
    assert reading.labels == ("asleep", "happy", "yawning")
    assert shown(reading) == {f"{name}/000.png": name for name in reading.labels}
    assert reading.skipped == {"left.png": "lies in no folder"}


def test_folders_keep_splits_and_subjects(tmp_path):
    draw_folders(tmp_path, {"Training/fear": 1, "val/fear": 1, "test/fear": 1, "test/anger": 1})
    (tmp_path / "test/anger/000.png").rename(tmp_path / "test/anger/S010_004_17.png")
    reading = read(Data(source="folders"), tmp_path)
    found = {item.name: (item.split, item.subject) for item in reading.items}
    assert found == {
        "Training/fear/000.png": ("train", ""),
        "val/fear/000.png": ("validation", ""),
        "test/fear/000.png": ("test", ""),
        "test/anger/S010_004_17.png": ("test", "S010"),
    }


def test_empty_class_half_a_split_and_no_pictures_are_refused(tmp_path):
    draw_folders(tmp_path / "a", {"happy": 1, "train/sad": 1})
    with pytest.raises(DataError, match=r"happy/000\.png lies in no split but others do"):
        read(Data(source="folders"), tmp_path / "a")
    draw_folders(tmp_path / "b", {"happy": 1, "sad": 0})
    with pytest.raises(DataError, match="class 'sad' is empty"):
        read(Data(source="folders"), tmp_path / "b")
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="holds no pictures in folders"):
        read(Data(source="folders"), tmp_path / "c")
    with pytest.raises(DataError, match="no such file"):
        read(Data(source="folders", path=Path("nowhere")), tmp_path)


def test_archive_that_is_compressed_or_none_is_refused(tmp_path):
    draw_folders(tmp_path / "a", {"happy": 1, "sad": 1})
    with tarfile.open(tmp_path / "zipped.tar", "w:gz") as tar:
        tar.add(tmp_path / "a", arcname=".")
    (tmp_path / "none.tar").write_bytes(b"no archive" * 100)
    for name in ("zipped", "none", "none.tar"):
        with pytest.raises(DataError, match=r"\.tar: unreadable .* or unpack it"):
            listing(tmp_path / name)
