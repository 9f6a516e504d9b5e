"""Every architecture under one budget on the same faces: accuracy against size, multiply-adds and time."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from edge.bundle import read_bundle
from edge.emotions import Classifier
from trainer.architectures import BUILDERS, TEACHERS
from trainer.config import Architecture, Config, ConfigError
from trainer.conversion.complexity import complexity
from trainer.conversion.delivery import exported
from trainer.conversion.export import write
from trainer.data.augment import judged_crops
from trainer.data.datasets import DataError, Samples
from trainer.data.prepare import prepare
from trainer.measuring.latency import race
from trainer.measuring.networks import Network, float_network, int8_network
from trainer.training.fit import fit
from trainer.training.run_folder import check_faces, read_log, read_result, write_result

RESULT = "result.json"
FROM_NOTHING = tuple(kind for kind in BUILDERS if kind not in TEACHERS)
AXES = {"bytes": "file, KB", "multiply_adds": "multiply-adds, millions", "ms": "ms a face, one thread"}
SCALES = {"bytes": 1e-3, "multiply_adds": 1e-6, "ms": 1.0}


@dataclass(frozen=True)
class Contender:
    """One architecture, trained on one data set.

    Attributes:
        kind: of the architecture.
        config: name of the configuration, which stands for the data set and the budget.
        epochs: trained within the budget.
        faces: how many it trained on, and how many it was asked about.
        accuracy: of the int8 file on the faces asked about.
        float_accuracy: of the float network behind it.
        bytes: size of the file.
        multiply_adds: of one face.
        ms: median time of a face, one thread; all in one run, 0 until it is measured.
    """

    kind: str
    config: str
    epochs: int
    faces: tuple[int, int]
    accuracy: float
    float_accuracy: float
    bytes: int
    parameters: int
    multiply_adds: int
    ms: float = 0.0


def compare(configs: Sequence[Config], kinds: Sequence[str], data: Path, cache: Path, run: Path) -> list[Contender]:
    """Train every kind on every data set, below `run`, and time all of them in turns.

    Args:
        configs: data sets and budgets; their architecture is not used.
        kinds: architectures, none for all that learn from nothing.
        data: folder of the data sets.
        cache: folder for prepared pictures.
        run: what is finished there is not trained again.

    Raises:
        ConfigError: there is no such architecture.
        DataError: the data are missing or broken.
        CheckpointError: what lies in `run` belongs to another budget.
    """
    unknown = set(kinds) - set(BUILDERS)
    if unknown:
        raise ConfigError(f"--kind {', '.join(sorted(unknown))}: no such architecture; use {', '.join(BUILDERS)}")
    found, files = [], []
    for config in configs:
        samples = prepare(config, data, cache).samples
        for kind in kinds or FROM_NOTHING:
            folder = run / f"{config.name}-{kind}"
            found.append(contend(kind, config, samples, folder))
            files.append(model_file(folder))
            print(f"{folder.name}: {found[-1].accuracy:.1%}", file=sys.stderr)
    times = _times(files)
    return [replace(each, ms=ms) for each, ms in zip(found, times, strict=True)]


def _times(files: Sequence[Path]) -> list[float]:
    """Return the median milliseconds a face of each model file, one thread, all in turns."""
    turns = {}
    for file in files:
        bundle = read_bundle(file)
        size, colours = bundle.info.crop.size, (3,) if bundle.info.input.colour == "rgb" else ()
        face = np.full((size, size, *colours), 128, np.uint8)
        turns[str(file)] = partial(Classifier(bundle).logits, face)
    found = race(turns)
    return [round(found[str(file)].median, 4) for file in files]


def contend(kind: str, config: Config, samples: Samples, run: Path) -> Contender:
    """Train one architecture within the budget of `config`, or read what was found when that was done.

    Args:
        kind: one of `trainer.architectures.BUILDERS`.
        config: the data set and the budget, epochs and minutes.
        samples: the prepared data set; asked about are its test faces, of FER+ those of validation.
        run: gets log, weights, `.tflite` and result.
    """
    own = config.model_copy(update={"name": f"{config.name}-{kind}", "architecture": Architecture(kind=kind)})
    train, chosen, others = (samples.of(split).labelled() for split in ("train", "validation", "test"))
    train = train.first(config.limit)
    done = read_result(run, RESULT, own)
    check_faces(run, train, chosen)
    if done:
        return Contender(**{**done, "faces": tuple(done["faces"])})
    if config.data.source == "ferplus":  # its test faces are for the model that ships
        others = chosen
    if not len(others):
        raise DataError(f"{config.name}: no test faces to ask about; raise data.test, or add a folder test")
    model = fit(train, chosen, own, run)
    bundle = exported(model, train, own)
    write(bundle, model_file(run))
    crops = judged_crops(others, own)
    size = complexity(model)
    found = Contender(
        kind=kind,
        config=config.name,
        epochs=len(read_log(run)),
        faces=(len(train), len(others)),
        accuracy=_accuracy(int8_network(bundle), crops, others),
        float_accuracy=_accuracy(float_network(model), crops, others),
        bytes=model_file(run).stat().st_size,
        parameters=size.parameters,
        multiply_adds=size.multiply_adds,
    )
    write_result(run, RESULT, asdict(found))
    return found


def _accuracy(network: Network, crops: npt.NDArray[np.uint8], asked: Samples) -> float:
    return float((network(crops).argmax(axis=1) == asked.faces.truth()).mean())


def model_file(run: Path) -> Path:
    """Return where the model file of a contender lies."""
    return run / "model.tflite"


def show(found: list[Contender], console: Console) -> None:
    """Print a table a data set, the most accurate first."""
    for config in dict.fromkeys(each.config for each in found):
        rows = sorted((each for each in found if each.config == config), key=lambda each: -each.accuracy)
        trained, asked = rows[0].faces
        table = Table("architecture", title=f"{config}: trained on {trained} faces, asked about {asked} others")
        for column in ("int8 %", "float %", "epochs", "KB", "parameters", "M multiply-adds", "ms a face"):
            table.add_column(column, justify="right")
        for each in rows:
            table.add_row(
                each.kind,
                f"{100 * each.accuracy:.1f}",
                f"{100 * each.float_accuracy:.1f}",
                str(each.epochs),
                f"{each.bytes / 1000:.0f}",
                f"{each.parameters:,}",
                f"{each.multiply_adds / 1e6:.1f}",
                f"{each.ms:.3f}",
            )
        console.print(table)


def plot(found: list[Contender], path: Path) -> None:
    """Draw accuracy against size, multiply-adds and time, one line of panels a data set, as SVG or PNG by suffix."""
    configs = list(dict.fromkeys(each.config for each in found))
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "emotion-edge"}):
        _panels(found, configs).savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panels(found: list[Contender], configs: list[str]) -> Figure:
    figure = Figure(figsize=(4 * len(AXES), 3.2 * len(configs)), layout="constrained")
    panels = figure.subplots(len(configs), len(AXES), squeeze=False, sharey="row")
    for config, line in zip(configs, panels, strict=True):
        for (key, title), panel in zip(AXES.items(), line, strict=True):
            for each in (one for one in found if one.config == config):
                x, y = getattr(each, key) * SCALES[key], 100 * each.accuracy
                panel.scatter(x, y)
                panel.annotate(each.kind, (x, y), textcoords="offset points", xytext=(5, 3))
            panel.set_xlabel(title)
            panel.grid(alpha=0.3)
            panel.margins(x=0.3, y=0.15)
        line[0].set_ylabel(f"{config}: int8, % right")
    return figure
