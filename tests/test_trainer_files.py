"""Files that cannot be written, and files that are damaged: one clear line, and never a traceback."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from trainer import TrainerError
from trainer.config import Crop
from trainer.data import alignment, stored_pictures
from trainer.data.readers.reading import decode_picture
from trainer.files import WriteError, cannot_write, check_writable, replace_file
from trainer.quiet import load_keras

load_keras(any_backend=True)

from trainer.training import checkpoints, distil  # noqa: E402


def damaged(path: Path, step: int) -> Iterator[int]:
    """Flip one bit of a file after the other, every `step`th, and give it back as it was at the end."""
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), step):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        yield bit
    path.write_bytes(whole)


def refusal(read: Callable[[Path], object], path: Path) -> str:
    """Return the line in which a file is refused; empty if it is read."""
    try:
        read(path)
    except TrainerError as error:
        return str(error)
    return ""


def test_checkpoint_with_any_bit_wrong_is_read_or_refused_in_a_line(tmp_path):
    path = tmp_path / "checkpoint.npz"
    checkpoints.save(path, checkpoints.State([{"epoch": 1}], [np.arange(6.0).reshape(2, 3)]))
    lines = [refusal(checkpoints.load, path) for _ in damaged(path, step=1)]
    assert sum(map(bool, lines)) > 1000
    assert all("\n" not in line and "checkpoint.npz: unreadable (" in line for line in lines if line)


def test_soft_labels_with_any_bit_wrong_are_read_or_refused_in_a_line(tmp_path):
    path = tmp_path / "soft.npz"
    half = np.full((3, 2), 0.5, np.float16)
    soft = distil.SoftLabels(("a", "b"), (("t.keras", "0" * 64),), np.zeros((3, distil.DIGEST), np.uint8), half)
    distil.write(path, soft)
    lines = [refusal(distil.read, path) for _ in damaged(path, step=3)]
    assert sum(map(bool, lines)) > 500
    assert all("\n" not in line and "soft.npz: " in line for line in lines if line)


def test_one_array_alone_is_no_archive(tmp_path):
    for name in ("checkpoint.npz", "soft.npz"):
        with (tmp_path / name).open("wb") as file:
            np.save(file, np.zeros(3))
    with pytest.raises(TrainerError, match=r"checkpoint\.npz: unreadable"):
        checkpoints.load(tmp_path / "checkpoint.npz")
    with pytest.raises(TrainerError, match=r"soft\.npz: no soft labels"):
        distil.read(tmp_path / "soft.npz")


def test_prepared_pictures_with_any_bit_wrong_are_read_or_made_anew(tmp_path):
    chunk = stored_pictures._chunk([], decode_picture, Crop(), tmp_path)
    stored_pictures._make(chunk)
    (path,) = tmp_path.iterdir()
    found = [stored_pictures._load(chunk) for _ in damaged(path, step=7)]
    assert found.count(None) > 500
    assert stored_pictures._load(chunk) == []


def test_landmarks_with_any_bit_wrong_are_read_or_made_anew(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(alignment, "_detect", lambda images: made.append(1) or np.zeros((len(images), 6, 2), "<f4"))
    images = np.zeros((1, 48, 48), np.uint8)
    alignment.landmarks_of(images, tmp_path, "drawn")
    (path,) = tmp_path.iterdir()
    for _ in damaged(path, step=3):
        assert alignment.landmarks_of(images, tmp_path, "drawn").shape == (1, 6, 2)
    assert len(made) > 200


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.ENOTDIR, errno.EFBIG])
def test_room_is_asked_for_only_where_it_is_wanting(number):
    line = str(cannot_write(Path("a/b"), OSError(number, "why")))
    full = number in (errno.ENOSPC, errno.EDQUOT)
    assert line == f"a/b: why; {'make room there, or ' if full else ''}choose another folder"


def test_file_in_the_place_of_a_folder_is_no_want_of_room(tmp_path):
    (tmp_path / "file").write_text("kept")
    for write in (lambda path: replace_file(path, b""), check_writable):
        with pytest.raises(WriteError, match=r"report\.html: Not a directory; choose another folder$"):
            write(tmp_path / "file" / "report.html")
    with pytest.raises(WriteError, match="Is a directory"):
        check_writable(tmp_path)
    check_writable(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
