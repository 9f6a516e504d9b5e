"""Cross-validation with persons never shared between folds: one model a fold, each exported to int8."""

from __future__ import annotations

import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from sklearn.model_selection import StratifiedGroupKFold

from trainer.config import Config, ConfigError
from trainer.conversion.delivery import exported
from trainer.conversion.export import write
from trainer.data.augment import judged_crops
from trainer.data.datasets import DataError, Samples
from trainer.measuring.metrics import Figures, figures
from trainer.measuring.networks import float_network, int8_network
from trainer.pages.tables import class_table, confusion_table
from trainer.training.fit import fit
from trainer.training.run_folder import check_faces, read_result, write_result

RESULT = "fold.json"
NETWORKS = ("int8", "float32")


@dataclass(frozen=True)
class Fold:
    """What one fold's model answered about the persons it had not seen.

    Attributes:
        number: of the fold, from 1.
        subjects: how many persons were asked about.
        truth: classes of the faces asked about.
        int8: answers of the int8 file.
        float32: answers of the float network behind it.
    """

    number: int
    subjects: int
    truth: tuple[int, ...]
    int8: tuple[int, ...]
    float32: tuple[int, ...]

    def accuracy(self, network: str) -> float:
        """Return the share of right answers of `int8` or `float32`."""
        return float(np.mean(np.array(getattr(self, network)) == np.array(self.truth)))


def assign(samples: Samples, folds: int, seed: int) -> npt.NDArray[np.intp]:
    """Give each face (n,) the fold, from 0, that its person is asked about in; classes are spread evenly.

    Raises:
        DataError: persons are unknown, or there are too few of them or of each class for the folds.
    """
    subjects = np.array(samples.faces.subjects)
    if not all(samples.faces.subjects):
        raise DataError("folds need to know who is who, and this data set names no subjects; use train instead")
    if len(set(samples.faces.subjects)) < folds:
        raise DataError(f"{len(set(samples.faces.subjects))} subjects are too few for {folds} folds; lower folds")
    most = int(np.bincount(samples.faces.truth()).max())
    if most < folds:
        raise DataError(f"no class has more than {most} faces, too few for {folds} folds; lower folds")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    assigned = np.empty(len(subjects), np.intp)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # as even as it can be is enough
        for number, (_, rows) in enumerate(splitter.split(subjects, samples.faces.truth(), subjects)):
            assigned[rows] = number
    return assigned


def parts_of(samples: Samples, assigned: npt.NDArray[np.intp], number: int, config: Config) -> tuple[Samples, ...]:
    """Return the faces that a fold trains on, chooses on and asks about; `number` counts from 0.

    With `keep: last` nothing is chosen: all other folds train, and one of them only shows the progress. With
    `keep: best` the next fold is held back to choose the epoch.
    """
    folds = int(assigned.max()) + 1
    asked, chosen = assigned == number, assigned == (number + 1) % folds
    trained = ~asked if config.training.keep == "last" else ~asked & ~chosen
    return samples.subset(trained), samples.subset(chosen), samples.subset(asked)


def read_fold(run: Path, config: Config) -> Fold | None:
    """Return the fold that `run` has finished with this configuration, None if it has not."""
    found = read_result(run, RESULT, config)
    if found is None:
        return None
    answers = (tuple(found[key]) for key in ("truth", *NETWORKS))
    return Fold(found["number"], found["subjects"], *answers)


def run_folds(samples: Samples, config: Config, run: Path) -> list[Fold]:
    """Train, export and ask one model a fold, below `run`; folds that are finished there are not trained again.

    Args:
        samples: every labelled face of the data set, whatever its split.
        config: of each fold's training; `folds` says how many.
        run: gets a folder a fold, with log, weights, `.tflite` and answers.

    Raises:
        ConfigError: there are too few folds to train on some.
        DataError: persons are unknown, or there are too few of them or of each class for the folds.
        CheckpointError: what lies in `run` belongs to another configuration or other faces.
        WriteError: an answer cannot be written.
    """
    if config.folds == 2 and config.training.keep == "best":
        raise ConfigError(
            "folds: 2, of which one is asked about and one chooses the epoch, leave none to train on; raise folds, or "
            "set training.keep to last"
        )
    samples = samples.labelled()
    assigned = assign(samples, config.folds, config.seed)
    done = []
    for number in range(config.folds):
        # Of three folds, the first trains on other faces than of ten.
        folder = run / f"fold-{number + 1:02d}-of-{config.folds:02d}"
        parts = parts_of(samples, assigned, number, config)
        fold = read_fold(folder, config)
        check_faces(folder, *parts[:2])
        if fold is None:
            fold = _one_fold(number, parts, config, folder)
            write_result(folder, RESULT, asdict(fold))
        line = f"fold {fold.number}: {len(fold.truth)} faces of {fold.subjects} subjects, {fold.accuracy('int8'):.1%}"
        print(line, file=sys.stderr)
        done.append(fold)
    return done


def _one_fold(number: int, parts: tuple[Samples, ...], config: Config, folder: Path) -> Fold:
    trained, chosen, asked = parts
    model = fit(trained, chosen, config, folder)
    bundle = exported(model, trained, config)
    write(bundle, folder / f"{config.name}.tflite")
    crops = judged_crops(asked, config)
    answers = (int8_network(bundle)(crops).argmax(axis=1), float_network(model)(crops).argmax(axis=1))
    truth, int8, float32 = (tuple(int(i) for i in each) for each in (asked.faces.truth(), *answers))
    return Fold(number + 1, len(set(asked.faces.subjects)), truth, int8, float32)


def pooled(folds: list[Fold], network: str, labels: tuple[str, ...]) -> Figures:
    """Judge the answers of all folds together."""
    answers = np.concatenate([getattr(fold, network) for fold in folds])
    return figures(answers, np.concatenate([fold.truth for fold in folds]), labels)


def as_json(folds: list[Fold], labels: tuple[str, ...]) -> dict[str, Any]:
    """Return each fold's accuracy, their mean and standard deviation (n - 1), and the pooled figures."""
    result: dict[str, Any] = {
        "folds": [
            {
                "fold": fold.number,
                "subjects": fold.subjects,
                "n": len(fold.truth),
                **{name: round(fold.accuracy(name), 6) for name in NETWORKS},
            }
            for fold in folds
        ]
    }
    for name in NETWORKS:
        accuracies = [fold.accuracy(name) for fold in folds]
        result[name] = {
            "mean": round(float(np.mean(accuracies)), 6),
            "deviation": round(float(np.std(accuracies, ddof=1)), 6),
            "pooled": pooled(folds, name, labels).as_json(),
        }
    return result


def show(folds: list[Fold], labels: tuple[str, ...], console: Console) -> None:
    """Print each fold, mean and deviation, and the pooled classes and confusions."""
    table = Table("fold", title="accuracy in per cent on persons that the fold's model has not seen")
    for column in ("subjects", "faces", *NETWORKS):
        table.add_column(column, justify="right")
    for fold in folds:
        accuracies = [f"{100 * fold.accuracy(name):.1f}" for name in NETWORKS]
        table.add_row(str(fold.number), str(fold.subjects), str(len(fold.truth)), *accuracies)
    found = as_json(folds, labels)
    table.add_section()
    spread = [f"{100 * found[name]['mean']:.1f} ± {100 * found[name]['deviation']:.1f}" for name in NETWORKS]
    table.add_row("mean ± deviation", "", "", *spread)
    both = {name: pooled(folds, name, labels) for name in NETWORKS}
    faces = sum(len(fold.truth) for fold in folds)
    table.add_row("pooled", "", str(faces), *(f"{100 * both[name].accuracy:.1f}" for name in NETWORKS))
    console.print(table)
    console.print(class_table("pooled", both))
    console.print(confusion_table("pooled, int8: rows are the truth", both["int8"]))
