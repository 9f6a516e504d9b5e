"""On the real data sets: the protocols' known sizes, and that trainer and daemon cut the same crop."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.detector import Detector
from edge.faces import CropRule, crop, crop_transform
from trainer.config import load_config
from trainer.data.augment import plain_crops
from trainer.data.datasets import Faces, copies, data_folder, without_leaks
from trainer.data.photographs import photograph
from trainer.data.readers.ck48 import read_ck48
from trainer.data.readers.ferplus import read_ferplus
from trainer.measuring.on_photographs import face_of
from trainer.measuring.peers import read_peers
from trainer.measuring.protocols import ck_protocols, ferplus_protocols, most_voted
from trainer.training.distil import lookup, read

RULE = CropRule(48, 2.7, 0.37)
ROOT = Path(__file__).parents[1]
SHIPPED_RUN = ROOT / "configs/trainer/ferplus-refined.yaml"


@pytest.fixture(scope="module")
def ferplus() -> dict[str, Faces]:
    return read_ferplus(data_folder())


def test_ferplus_protocols_have_their_known_sizes(ferplus):
    test = ferplus["test"]
    sizes = {p.name: len(p.rows) for p in ferplus_protocols(test, ferplus["train"])}
    assert (sizes["FER+ 8"], sizes["FER+ 7"], sizes["FER+ strict"]) == (3545, 3517, 3137)
    assert sizes["FER+ 8"] - sizes["FER+ 8 clean"] == 286
    assert sizes["FER+ strict"] - sizes["FER+ strict clean"] == 244
    highest = np.sort(test.all_votes()[most_voted(test).rows], axis=1)
    assert (highest[:, -1] == highest[:, -2]).sum() == 174  # ties


def test_ck_protocols_have_their_known_sizes():
    b, c = ck_protocols(read_ck48(data_folder()))
    assert (len(b.rows), len(c.rows)) == (927, 981)


def test_committed_soft_labels_are_of_every_training_face(ferplus):
    learned = without_leaks(ferplus).train
    learned = learned.subset(learned.distributions.any(axis=1))
    config = load_config(SHIPPED_RUN)
    for path in config.training.distillation.files():
        found = lookup(read(ROOT / path), learned, path)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=0.01)
        # They are of teachers and not of the votes, but of good ones.
        assert 0.8 < (found.argmax(axis=1) == learned.truth()).mean() < 0.95


def test_ck48_has_its_known_persons():
    faces = read_ck48(data_folder())
    assert len(set(faces.subjects)) == 118


def test_leaks_are_gone(ferplus):
    assert copies(ferplus["test"], ferplus["train"]).sum() == 288
    assert copies(ferplus["validation"], ferplus["train"]).sum() == 279
    splits = without_leaks(ferplus)
    assert len(splits.dropped_train) + len(splits.train) == len(ferplus["train"])
    assert (len(splits.dropped_train), len(splits.dropped_validation)) == (692, 46)
    for faces, others in (
        (splits.train, splits.validation),
        (splits.train, splits.test),
        (splits.validation, splits.test),
    ):
        assert not copies(faces, others).any()


def test_daemon_and_trainer_cut_the_same_crop(ferplus):
    faces = ferplus["validation"]
    rng = np.random.default_rng(7)
    detector = Detector()
    same_warp, same_face, found = [], [], 0
    for row in most_voted(faces).rows[:40]:
        scene = photograph(faces.images[row], rng)
        face = face_of(scene, detector(scene.picture))
        if face is None:
            continue
        found += 1
        ours = crop(scene.picture, face.landmarks, RULE).astype(float)
        # The trainer's warp, of the same picture without the daemon's shrinking …
        transform = crop_transform(face.landmarks, RULE)
        grey = cv2.cvtColor(scene.picture, cv2.COLOR_BGR2GRAY)
        warped = cv2.warpAffine(grey, transform, (48, 48), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
        same_warp.append(np.abs(ours - warped).mean())
        # … and of the stored face, with the landmarks taken back to its pixels. Its middle: the rim is background.
        back = cv2.invertAffineTransform(scene.to_picture)
        stored = (face.landmarks @ back[:, :2].T + back[:, 2]).astype(np.float32)
        (theirs,) = plain_crops(faces.images[[row]], stored[None], RULE)
        same_face.append(np.abs(ours - theirs)[12:-12, 12:-12].mean())
    assert found >= 30
    assert np.median(same_warp) < 3
    assert np.median(same_face) < 6
    assert max(same_face) < 15


def test_the_peer_is_prepared_as_it_was_trained(ferplus):
    # Its published accuracy on the test faces is 83.6; swapped labels or another range of pixels cost twenty points.
    (peer,) = read_peers([data_folder().parent / "peers" / "vicksam_ferplus_pd.tflite"])
    faces = ferplus["validation"]
    rows = most_voted(faces).rows[:600]
    answers = np.array([peer.logits(picture).argmax() for picture in faces.images[rows]])
    assert (answers == faces.all_votes()[rows].argmax(axis=1)).mean() > 0.8
