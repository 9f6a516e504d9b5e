"""Measures a model file, its float twin and models of others under every protocol that the data allow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.bundle import Bundle, ModelInfo, read_bundle
from edge.emotions import Classifier, softmax
from edge.faces import CropRule
from trainer.data.datasets import DataError, Faces
from trainer.measuring.bootstrap import Difference, differences, intervals
from trainer.measuring.evaluation import FLOAT, INT8, Answers, Evaluation, Judged, Rival
from trainer.measuring.latency import Latency, race
from trainer.measuring.metrics import Figures, figures, in_best_two, predictions
from trainer.measuring.networks import Network, float_network, int8_network, load_twin
from trainer.measuring.peers import Peer
from trainer.measuring.protocols import Protocol
from trainer.measuring.questions import CK, VARIANTS, Questions, Split, Variant, spread

Floats = npt.NDArray[np.float32]


def evaluate(
    path: Path, twin: Path | None, sets: Sequence[Questions], split: Split, peers: Sequence[Peer] = ()
) -> Evaluation:
    """Measure the model file `path`, its float twin and `peers` on the same faces.

    Args:
        path: the model file.
        twin: its float network; None looks beside the model file, and for that of the shipped model of its name.
        sets: what is asked.
        split: that the faces are of.
        peers: models of others.

    Raises:
        BundleError: the model file cannot be used.
        NetworkError: the float network cannot be used.
        DataError: model or peer and data have less than two classes in common.
    """
    bundle = read_bundle(path)
    info = bundle.info
    for each in sets:
        _check_labels(str(path), info.labels, each)
        for peer in peers:
            _check_labels(str(peer.path), peer.labels, each)
    own = [each.coloured(info.input.colour) for each in sets]
    networks = {INT8: int8_network(bundle)}
    model = load_twin(bundle, path, twin)
    if model is not None:
        networks[FLOAT] = float_network(model)
    logits = {
        variant: {name: _logits(own, variant, info, network) for name, network in networks.items()}
        for variant in VARIANTS
    }
    first = next((each for each in sets if _leads(each)), None)
    content = path.read_bytes()
    return Evaluation(
        model=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        info=info,
        split=split,
        networks={v: {name: _judge_all(sets, found) for name, found in by.items()} for v, by in logits.items()},
        leading=None if first is None else _answers(first, logits[info.variant][INT8], info.temperature),
        agreement=None if first is None else _agreement(first, logits[info.variant]),
        faces_not_found={each.name: each.not_found() for each in sets},
        rivals={peer.name: _rival(peer, sets, logits[info.variant][INT8]) for peer in peers},
        latency=_latency(bundle, own[0], sets[0], peers),
    )


def ask_all(
    sets: Sequence[Questions], variant: Variant, rule: CropRule, network: Network
) -> tuple[dict[str, Figures], dict[str, Floats]]:
    """Put every question to a network whose classes are those of the data.

    Returns:
        protocol → figures, and data set → logits.
    """
    logits = {each.name: network(each.crops(variant, rule)) for each in sets}
    return {p.name: ask(p, logits[s.name], s.faces.labels) for s in sets for p in s.protocols if len(p.rows)}, logits


def ask(protocol: Protocol, logits: Floats, labels: tuple[str, ...]) -> Figures:
    """Judge the logits (n, classes) of all faces of a data set under one protocol."""
    asked = logits[protocol.rows]
    among_two = in_best_two(asked, protocol.truth, protocol.allowed)
    return figures(predictions(asked, protocol.allowed), protocol.truth, labels, among_two)


def _check_labels(path: str, labels: tuple[str, ...], asked: Questions) -> None:
    common = [label for label in labels if label in asked.faces.labels]
    if len(common) < 2:
        raise DataError(
            f"{path}: of its classes {', '.join(labels)} only {len(common)} are in {asked.name}; "
            "measure it on its own data set with --config"
        )


def _leads(asked: Questions) -> bool:
    """Tell whether agreement and calibration are measured on the first protocol of a data set."""
    return asked.name != CK and len(asked.protocols[0].rows) > 0


def _logits(sets: Sequence[Questions], variant: Variant, info: ModelInfo, network: Network) -> dict[str, Floats]:
    """Return data set → logits (n, classes of the data)."""
    rule = info.crop.rule()
    return {each.name: spread(network(each.crops(variant, rule)), info.labels, each.faces.labels) for each in sets}


def _judge_all(sets: Sequence[Questions], logits: dict[str, Floats]) -> dict[str, Judged]:
    return {p.name: _judge(p, logits[each.name], each.faces) for each in sets for p in each.protocols if len(p.rows)}


def _judge(protocol: Protocol, logits: Floats, faces: Faces) -> Judged:
    predicted = predictions(logits[protocol.rows], protocol.allowed)
    chance = intervals(predicted, protocol.truth, len(faces.labels), _subjects(faces, protocol))
    return Judged(ask(protocol, logits, faces.labels), chance)


def _subjects(faces: Faces, protocol: Protocol) -> list[str]:
    return [faces.subjects[row] for row in protocol.rows]


def _rival(peer: Peer, sets: Sequence[Questions], ours: dict[str, Floats]) -> Rival:
    """Measure a peer, and by how much the logits `ours` (by data set) are better."""
    logits = {
        each.name: spread(
            np.stack([peer.logits(picture) for picture in each.faces.images]), peer.labels, each.faces.labels
        )
        for each in sets
    }
    first = next((each for each in sets if _leads(each)), None)
    return Rival(
        path=peer.path,
        sha256=peer.description.sha256,
        size=len(peer.content),
        source=peer.description.source,
        judged=_judge_all(sets, logits),
        differences={
            p.name: _differences(p, ours[each.name], logits[each.name], each.faces)
            for each in sets
            for p in each.protocols
            if len(p.rows)
        },
        calibration_error=None if first is None else _answers(first, logits, 1.0).reliability().error,
    )


def _differences(protocol: Protocol, ours: Floats, theirs: Floats, faces: Faces) -> dict[str, Difference]:
    mine, other = (predictions(logits[protocol.rows], protocol.allowed) for logits in (ours, theirs))
    return differences(mine, other, protocol.truth, len(faces.labels), _subjects(faces, protocol))


def _answers(asked: Questions, logits: dict[str, Floats], temperature: float) -> Answers:
    first = asked.protocols[0]
    probabilities = softmax(logits[asked.name][first.rows] / np.float32(temperature))
    return Answers(first.name, asked.faces.subset(first.rows), first.truth, probabilities)


def _agreement(asked: Questions, logits: dict[str, dict[str, Floats]]) -> float | None:
    if FLOAT not in logits:
        return None
    rows = asked.protocols[0].rows
    int8, twin = (logits[name][asked.name][rows].argmax(axis=1) for name in (INT8, FLOAT))
    return float((int8 == twin).mean())


def _latency(bundle: Bundle, own: Questions, stored: Questions, peers: Sequence[Peer]) -> dict[str, Latency]:
    """Time ours from its crop on, and each peer from the stored picture on, with all that it does to it."""
    crop = own.crops("raw", bundle.info.crop.rule())[0]
    picture = stored.faces.images[0]
    networks: dict[str, Callable[[], object]] = {INT8: partial(Classifier(bundle).logits, crop)}
    networks |= {peer.name: partial(peer.logits, picture) for peer in peers}
    return race(networks)
