"""Draws small data sets in the layouts that the trainer reads: textures that tell the class, and one real face."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from tests.parts.samples import portrait
from trainer.data.datasets import LABELS, Faces, Samples
from trainer.data.readers.ferplus import FOLDERS, VOTERS

TINY: dict[str, Any] = {
    "name": "tiny",
    "seed": 5,
    "crop": {"size": 32},
    "architecture": {"stem": 8, "stages": [24], "blocks": 1, "dropout": 0.0},
    "training": {
        "epochs": 8,
        "batch_size": 8,
        "learning_rate": 0.01,
        "warmup_epochs": 0.5,
        "weight_decay": 0.0,
        "average_momentum": 0.5,
    },
    "augmentation": {
        "rotation": 0,
        "scale": 0,
        "shift": 0.02,
        "gamma": 1,
        "contrast": 0,
        "brightness": 0,
        "blur_share": 0,
        "erase_share": 0,
    },
    "quantisation": {"faces": 40},
}


def draw(label: int, rng: np.random.Generator) -> np.ndarray:
    """A 48×48 texture, dark or bright, with rows or columns or neither or both, in noise of its own."""
    wave = 50 * np.sign(np.sin(np.arange(48) * np.pi / 3 + 0.1))
    picture = np.full((48, 48), 170.0 if label & 1 else 85.0)
    picture += wave[:, None] * bool(label & 2) + wave[None, :] * bool(label & 4) + rng.normal(0, 8, (48, 48))
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def votes_for(label: int) -> list[int]:
    return [VOTERS if column == label else 0 for column in range(10)]


def write_split(folder: Path, images: list[np.ndarray], votes: list[list[int]], first: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "label.csv").open("w", newline="") as file:
        table = csv.writer(file)
        for number, (image, row) in enumerate(zip(images, votes, strict=True), start=first):
            name = f"fer{number:07d}.png"
            cv2.imwrite(str(folder / name), image)
            table.writerow([name, "(0, 0, 48, 48)", *row])


def drawn_samples(each: int, seed: int = 0) -> Samples:
    """So many pictures of each class, without eyes."""
    rng = np.random.default_rng(seed)
    classes = [label for label in range(len(LABELS)) for _ in range(each)]
    count = len(classes)
    images = np.stack([draw(label, rng) for label in classes])
    names = tuple(f"{number}.png" for number in range(count))
    faces = Faces(
        LABELS, images, np.eye(len(LABELS), dtype=np.float32)[classes], names, ("",) * count, ("train",) * count
    )
    return Samples(faces, np.full((count, 6, 2), np.nan, np.float32))


def draw_ferplus(data: Path, each: tuple[int, int, int] = (30, 6, 3), labels: int = len(LABELS), seed: int = 0) -> Path:
    """Write `data/ferplus` with so many pictures of each class in train, validation and test."""
    rng = np.random.default_rng(seed)
    for first, (folder, count) in enumerate(zip(FOLDERS.values(), each, strict=True)):
        classes = [label for label in range(labels) for _ in range(count)]
        images = [draw(label, rng) for label in classes]
        write_split(data / "ferplus" / folder, images, [votes_for(label) for label in classes], 10000 * first)
    return data


def draw_ck48(
    data: Path, subjects: Sequence[str] = ("S010", "S011"), labels: Sequence[str] = ("anger", "contempt")
) -> Path:
    """Write `data/ck48`: each subject with each label; there one subject of two has an odd number."""
    rng = np.random.default_rng(9)
    for subject in subjects:
        for label in labels:
            path = data / "ck48" / "CK+48" / label / f"{subject}_001_00000009.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), draw(LABELS.index(label), rng))
    return data


def photograph(seed: int, light: float = 1) -> np.ndarray:
    """A grey 640×480 photograph with one real face, elsewhere and in slightly other light for each seed."""
    shift_x, shift_y = np.random.default_rng(seed).integers(-30, 31, 2)
    moved = np.roll(cv2.cvtColor(portrait(), cv2.COLOR_BGR2GRAY), (shift_y, shift_x), (0, 1))
    return np.asarray(np.clip(moved * light * (0.9 + 0.025 * (seed % 9)), 0, 255), np.uint8)


def draw_sequence(
    data: Path,
    subject: str,
    number: str = "001",
    frames: int = 5,
    label: str | None = "   3.0000000e+00\n",
    light: float = 1,
) -> None:
    """Write a sequence of `data/ckplus` as CK+ has it, the same face in all frames; without a label if it is None."""
    images = data / "ckplus/cohn-kanade-images" / subject / number
    images.mkdir(parents=True)
    for frame in range(1, frames + 1):
        picture = photograph(int(subject[1:]) * 1000 + int(number) * 100 + frame, light)
        cv2.imwrite(str(images / f"{subject}_{number}_{frame:08d}.png"), picture)
    if label is not None:
        emotion = data / "ckplus/Emotion" / subject / number
        emotion.mkdir(parents=True)
        (emotion / f"{subject}_{number}_{frames:08d}_emotion.txt").write_text(label)


def draw_fer2013(data: Path, rows: list[tuple[object, str, str]], header: str = "emotion,pixels,Usage") -> Path:
    """Write `data/fer2013.csv` with rows of emotion, pixels and Usage."""
    data.mkdir(parents=True, exist_ok=True)
    lines = [header, *(f"{code},{pixels},{usage}" for code, pixels, usage in rows)]
    (data / "fer2013.csv").write_text("\n".join(lines) + "\n")
    return data


def pixels(image: np.ndarray) -> str:
    """A picture as FER2013 writes it."""
    return " ".join(str(level) for level in image.ravel())


def draw_folders(data: Path, names: dict[str, int], seed: int = 0) -> Path:
    """Write so many 48×48 pictures into each folder below `data`, for instance `train/happy`."""
    rng = np.random.default_rng(seed)
    for label, (name, count) in enumerate(names.items()):
        (data / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            cv2.imwrite(str(data / name / f"{number:03d}.png"), draw(label % 8, rng))
    return data


def write_config(path: Path, **changes: object) -> Path:
    """Write the tiny configuration; `changes` replace keys, a dict only the keys it names."""
    content = {**TINY, **{k: {**TINY.get(k, {}), **v} if isinstance(v, dict) else v for k, v in changes.items()}}
    path.write_text(yaml.safe_dump(content))
    return path
