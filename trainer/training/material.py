"""The faces of a run: what is learned from, and what is chosen on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainer.config import Config
from trainer.data.datasets import DataError, Samples
from trainer.data.prepare import Prepared, prepare


@dataclass(frozen=True)
class Material:
    """The faces of a run.

    Attributes:
        prepared: the whole data set.
        train: the training faces from which something can be learned, no more than the configuration's `limit`.
        chosen: all validation faces.
        validation: those of them that have a label.
    """

    prepared: Prepared
    train: Samples
    chosen: Samples
    validation: Samples


def material_of(config: Config, data: Path, cache: Path) -> Material:
    """Prepare the faces of a run.

    Args:
        config: of the run.
        data: folder of the data sets.
        cache: folder for prepared pictures.

    Raises:
        DataError: the data are missing or broken, or there is nothing to choose on.
    """
    prepared = prepare(config, data, cache)
    train = prepared.samples.of("train").labelled().first(config.limit)
    chosen = prepared.samples.of("validation")
    material = Material(prepared, train, chosen, chosen.labelled())
    if not len(material.validation):
        raise DataError(f"{prepared.report.location}: no faces to choose on; raise data.validation")
    return material
