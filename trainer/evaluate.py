"""Measures a model file and its float twin under every protocol that the data allow."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt

from edge.bundle import Bundle, read_bundle
from edge.emotions import Classifier
from edge.faces import CropRule
from trainer import TrainerError
from trainer.alignment import landmarks_of
from trainer.augment import plain_crops
from trainer.calibration import calibration_error
from trainer.datasets import LABELS, DataError, Faces, present, read_ck48, read_ferplus, without_leaks
from trainer.fit import normalise
from trainer.metrics import Figures, figures, predictions
from trainer.protocols import Protocol, ck_protocols, ferplus_protocols, odd_subjects

Floats = npt.NDArray[np.float32]
#: Takes grey uint8 crops (n, size, size), gives logits (n, 8).
Network = Callable[[npt.NDArray[np.uint8]], Floats]
Split = Literal["validation", "test"]
Variant = Literal["raw", "aligned"]
VARIANTS: tuple[Variant, Variant] = ("aligned", "raw")
FERPLUS, CK = "FER+", "CK+"
#: Where the float networks behind the shipped model files lie, as `<name>.keras`.
FLOAT_TWINS = Path(__file__).parent / "models"
#: Who has looked at test data, when, and what was seen: committed.
TEST_LOOKS = Path(__file__).parent / "test_looks.jsonl"


class ModelError(TrainerError):
    """A float network cannot be used; the message names the file and the remedy."""


@dataclass(frozen=True)
class Questions:
    """Faces and what is asked about them.

    Attributes:
        name: `FER+` or `CK+`.
        faces: the faces.
        landmarks: float32 (n, 6, 2), NaN where the detector found none.
        protocols: over the rows of `faces`.
    """

    name: str
    faces: Faces
    landmarks: Floats
    protocols: list[Protocol]

    def crops(self, variant: Variant, rule: CropRule) -> npt.NDArray[np.uint8]:
        """Return the faces as the network sees them, uint8 (n, size, size)."""
        return plain_crops(self.faces.images, self.landmarks if variant == "aligned" else None, rule)


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
        networks: variant → `int8` or `float` → protocol → figures.
        agreement: share of FER+ 8 faces to which int8 and float give the same class; None without a float network.
        calibration_error: of the int8 network's probabilities on FER+ 8; None without FER+.
        faces_not_found: data set → faces that went in whole because the detector found none.
    """

    model: Path
    sha256: str
    size: int
    split: Split
    variant: Variant
    networks: dict[Variant, dict[str, dict[str, Figures]]]
    agreement: float | None
    calibration_error: float | None
    faces_not_found: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types; the figures of the other variant stand under that variant's name."""
        variants: dict[str, dict[str, Any]] = {
            variant: {
                name: {protocol: found.as_json() for protocol, found in by_protocol.items()}
                for name, by_protocol in networks.items()
            }
            for variant, networks in self.networks.items()
        }
        own = variants.pop(self.variant)
        return {
            "model": str(self.model),
            "sha256": self.sha256,
            "bytes": self.size,
            "split": self.split,
            "variant": self.variant,
            "int8": own["int8"],
            "float": own.get("float"),
            "agreement": self.agreement,
            "ece": self.calibration_error,
            "faces_not_found": self.faces_not_found,
            **variants,
        }


def evaluate(path: Path, twin: Path | None, data: Path, split: Split, cache: Path) -> Report:
    """Measure the model file `path` and its float twin on a split.

    Args:
        path: the model file.
        twin: its float network; None looks for the one that belongs to the shipped model of that name.
        data: folder of the data sets.
        split: `validation` (of CK+ the subjects of odd number) or `test` (of CK+ everybody).
        cache: folder for landmarks.

    Raises:
        BundleError: the model file cannot be used.
        ModelError: the float network cannot be used.
        DataError: the data are missing or broken.
    """
    bundle = read_bundle(path)
    networks = {"int8": int8_network(bundle)}
    model = _load_twin(bundle, twin)
    if model is not None:
        networks["float"] = float_network(model)
    sets = questions(data, split, cache)
    variant = bundle.info.variant
    rule = bundle.info.crop.rule()
    measured = {
        each: {name: ask_all(sets, each, rule, network) for name, network in networks.items()} for each in VARIANTS
    }
    content = path.read_bytes()
    logits = {name: found[1].get(FERPLUS) for name, found in measured[variant].items()}
    eight = next((s.protocols[0] for s in sets if s.name == FERPLUS), None)
    return Report(
        model=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        split=split,
        variant=variant,
        networks={each: {name: found[0] for name, found in by_name.items()} for each, by_name in measured.items()},
        agreement=_agreement(logits["int8"], logits.get("float"), eight),
        calibration_error=_calibration(logits["int8"], eight, bundle.info.temperature),
        faces_not_found={s.name: int(np.isnan(s.landmarks).any(axis=(1, 2)).sum()) for s in sets},
    )


def int8_network(bundle: Bundle) -> Network:
    """Return the daemon's own classifier, for many crops."""
    classifier = Classifier(bundle)
    return lambda crops: np.stack([classifier.logits(crop) for crop in crops])


def float_network(model: keras.Model) -> Network:
    """Return a float32 network, for many crops."""
    return lambda crops: np.asarray(model.predict(normalise(crops), batch_size=256, verbose=0), np.float32)


def ask_all(
    sets: list[Questions], variant: Variant, rule: CropRule, network: Network
) -> tuple[dict[str, Figures], dict[str, Floats]]:
    """Put every question to a network; returns protocol → figures, and data set → logits."""
    found: dict[str, Figures] = {}
    logits: dict[str, Floats] = {}
    for each in sets:
        logits[each.name] = network(each.crops(variant, rule))
        found |= {p.name: ask(p, logits[each.name]) for p in each.protocols if len(p.rows)}
    return found, logits


def ask(protocol: Protocol, logits: Floats) -> Figures:
    """Judge the logits (n, 8) of all faces of a data set under one protocol."""
    return figures(predictions(logits[protocol.rows], protocol.allowed), protocol.truth, LABELS)


def questions(data: Path, split: Split, cache: Path) -> list[Questions]:
    """Read the data sets that are there, leave out the others with a line on stderr.

    The validation split is without copies of test images, as in training.

    Raises:
        DataError: none is there, or one is broken.
    """
    sets = []
    if present(data, "ferplus"):
        official = read_ferplus(data)
        faces = without_leaks(official).validation if split == "validation" else official["test"]
        landmarks = landmarks_of(faces.images, cache, f"FER+ {split}")
        sets.append(Questions(FERPLUS, faces, landmarks, ferplus_protocols(faces, official["train"])))
    if present(data, "ck48"):
        everybody = read_ck48(data)
        landmarks = landmarks_of(everybody.images, cache, "CK+")
        faces = odd_subjects(everybody) if split == "validation" else everybody
        known = dict(zip(everybody.names, landmarks, strict=True))
        chosen = np.array([known[name] for name in faces.names], np.float32).reshape(-1, 6, 2)
        sets.append(Questions(CK, faces, chosen, ck_protocols(faces)))
    for name, archive in ((FERPLUS, "ferplus"), (CK, "ck48")):
        if not present(data, archive):
            print(f"{data / archive}.tar: no such file; the {name} protocols are left out", file=sys.stderr)
    if not sets:
        raise DataError(f"{data}: holds neither ferplus.tar nor ck48.tar; name the folder with --data")
    return sets


def record_look(report: Report, looks: Path) -> None:
    """Append one line to the record of looks at test data."""
    line = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "file": report.model.name,
        "sha256": report.sha256,
        "variant": report.variant,
        **{
            name: {protocol: found.summary() for protocol, found in by_protocol.items()}
            for name, by_protocol in report.networks[report.variant].items()
        },
    }
    with looks.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _load_twin(bundle: Bundle, given: Path | None) -> keras.Model | None:
    path = given or FLOAT_TWINS / f"{bundle.info.name}.keras"
    if not path.is_file():
        if given:
            raise ModelError(f"{path}: no such file; name the float network with --float or leave the option out")
        print(f"{path}: no such file; only the int8 network is measured (--float names another)", file=sys.stderr)
        return None
    try:
        model = keras.models.load_model(path, compile=False)
    except (ValueError, OSError, KeyError) as error:
        raise ModelError(f"{path}: no Keras model ({(str(error).splitlines() or ['?'])[0]})") from None
    expected = ((None, *bundle.info.input.shape), (None, len(bundle.info.labels)))
    if (model.input_shape, model.output_shape) != expected:
        raise ModelError(
            f"{path}: {model.input_shape} → {model.output_shape} is not the model file's "
            f"{expected[0]} → {expected[1]}; name its float network with --float"
        )
    return model


def _agreement(int8: Floats | None, twin: Floats | None, eight: Protocol | None) -> float | None:
    if int8 is None or twin is None or eight is None or not len(eight.rows):
        return None
    return float((int8[eight.rows].argmax(axis=1) == twin[eight.rows].argmax(axis=1)).mean())


def _calibration(int8: Floats | None, eight: Protocol | None, temperature: float) -> float | None:
    if int8 is None or eight is None or not len(eight.rows):
        return None
    return calibration_error(int8[eight.rows], eight.truth, temperature)
