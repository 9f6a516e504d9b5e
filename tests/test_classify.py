"""Single pictures: reading, finding, drawing, writing."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from edge.bundle import DEFAULT_MODEL, read_bundle
from edge.classify import ImageError, PictureClassifier, Portrait, annotate, read_image, write_image
from edge.draw import COLOURS, draw_face
from tests.parts.samples import LABELS, portrait

PROBABILITIES = {label: 0.72 if label == "anger" else 0.04 for label in LABELS}


@pytest.fixture(scope="module")
def find():
    return PictureClassifier(read_bundle(DEFAULT_MODEL), 0.5)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge_png():
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_picture_written_is_read_again(tmp_path, suffix):
    write_image(tmp_path / f"a{suffix}", portrait())
    picture = read_image(tmp_path / f"a{suffix}")
    assert picture.shape == portrait().shape
    assert np.abs(picture.astype(int) - portrait()).mean() < 4


def test_grey_and_transparent_pictures_are_read_as_colour(tmp_path):
    for channels in (0, 4):
        shape = (6, 5, channels) if channels else (6, 5)
        cv2.imwrite(str(tmp_path / "a.png"), np.full(shape, 200, np.uint8))
        assert read_image(tmp_path / "a.png").shape == (6, 5, 3)


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0" + b"x" * 50, huge_png()], ids=len
)
def test_what_is_no_picture_is_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "a.png")
    assert str(caught.value) == f"{tmp_path / 'a.png'}: not a picture that can be read; use JPEG, PNG or WebP"


@pytest.mark.parametrize(("name", "says"), [("missing.png", "No such file"), (".", "directory")])
def test_unreadable_picture_is_named(tmp_path, name, says):
    with pytest.raises(ImageError, match=says):
        read_image(tmp_path / name)


@pytest.mark.parametrize(("name", "says"), [("a.nonsense", "end the name in"), ("none/a.png", "No such file")])
def test_picture_that_cannot_be_written_is_named(tmp_path, name, says):
    with pytest.raises(ImageError, match=says) as caught:
        write_image(tmp_path / name, portrait())
    assert str(tmp_path / name) in str(caught.value)
    assert not (tmp_path / name).exists()


def test_faces_come_with_probabilities_largest_first(find):
    canvas = np.full((600, 1200, 3), 96, np.uint8)
    canvas[:300, :300] = cv2.resize(portrait()[:, 80:560], (300, 300), interpolation=cv2.INTER_AREA)
    canvas[:, 600:] = cv2.resize(portrait()[:, 80:560], (600, 600), interpolation=cv2.INTER_CUBIC)
    faces = find(canvas)
    assert len(faces) == 2
    assert faces[0].box[2] > faces[1].box[2]
    for face in faces:
        assert tuple(face.probabilities) == LABELS
        assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert face.probabilities[face.emotion] == max(face.probabilities.values())


def test_nobody_is_an_empty_list(find):
    assert find(np.zeros((100, 100, 3), np.uint8)) == []


def test_portrait_as_printed():
    document = Portrait((1.26, -2.04, 30.0, 40.06), 0.912345, PROBABILITIES).as_dict()
    assert document["box"] == {"x": 1.3, "y": -2.0, "width": 30.0, "height": 40.1}
    assert (document["confidence"], document["emotion"], document["probability"]) == (0.9123, "anger", 0.72)
    assert document["probabilities"] == PROBABILITIES


def test_annotation_draws_around_the_face_and_leaves_the_picture_alone():
    picture = np.full((400, 400, 3), 50, np.uint8)
    drawn = annotate(picture, [Portrait((100, 150, 120, 130), 0.9, PROBABILITIES)])
    assert (picture == 50).all()
    assert tuple(drawn[215, 100]) == COLOURS["anger"]
    assert tuple(drawn[150, 160]) == COLOURS["anger"]
    assert (drawn[170:260, 110:210] == 50).all()
    assert (drawn[:, :95] == 50).all()
    assert (annotate(picture, []) == 50).all()


@pytest.mark.parametrize(
    "box", [(-50, -80, 100, 100), (380, 390, 100, 100), (0, 0, 400, 400), (10, 10, 0, 0), (9e3,) * 4]
)
@pytest.mark.parametrize("shape", [(400, 400, 3), (1, 1, 3), (20, 3000, 3)])
def test_drawing_beyond_the_picture_is_harmless(box, shape):
    picture = np.zeros(shape, np.uint8)
    draw_face(picture, box, "an emotion nobody knows", {"one": 0.3, "two": 0.7}.items())
    assert picture.shape == shape


def test_every_bar_has_its_name():
    def drawn(label):
        picture = np.zeros((400, 400, 3), np.uint8)
        draw_face(picture, (10, 50, 200, 200), "joy", {"anger": 0.9, label: 0.3}.items())
        return picture[253:, 14:60]  # where names are

    assert drawn("fear").max() > 200
    assert (drawn("fear") != drawn("awe")).any()


def test_more_probable_emotions_have_longer_bars():
    picture = np.zeros((400, 400, 3), np.uint8)
    draw_face(picture, (100, 50, 200, 200), "anger", {"anger": 0.9, "fear": 0.3, "disgust": 0.05}.items())
    widths = [
        int((picture[253:] == COLOURS[label]).all(axis=2).sum(axis=1).max()) for label in ("anger", "fear", "disgust")
    ]
    assert widths == [pytest.approx(181, abs=2), pytest.approx(61, abs=2), pytest.approx(11, abs=2)]
