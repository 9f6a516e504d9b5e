"""Writes the model file: the `.tflite` bytes with a ZIP appended that says what they are."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

from edge.bundle import LABELS_TXT, MODEL_JSON, Bundle, CropInfo, InputInfo, ModelInfo, read_bundle
from trainer.config import Config
from trainer.data.inputs import DEVIATION, MEAN
from trainer.data.readers import CREDITS
from trainer.files import cannot_write, discard

ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def draft(content: bytes, config: Config, labels: tuple[str, ...]) -> Bundle:
    """Return a bundle of an int8 network whose temperature and figures are still to be measured.

    Args:
        content: of the `.tflite`.
        config: that it was trained with.
        labels: its classes, in the order of the output.
    """
    digest = hashlib.sha256(content).hexdigest()
    info = ModelInfo(
        schema="emotion-edge/model/1",
        name=config.name,
        version=digest[:8],
        labels=labels,
        input=InputInfo(shape=config.crop.shape(), colour=config.crop.colour, mean=MEAN, deviation=DEVIATION),
        crop=CropInfo(size=config.crop.size, margin=config.crop.margin, eye_line=config.crop.eye_line),
        variant=config.variant,
        temperature=1.0,
        training_data=f"{CREDITS[config.data.source]}; copies of validation and test dropped",
        accuracies={},
        agreement=0.0,
        sha256=digest,
    )
    return Bundle(info, content)


def encode(bundle: Bundle) -> bytes:
    """Return the bytes of the model file; the same bundle gives the same bytes."""
    document = bundle.info.model_dump(mode="json", by_alias=True)
    entries = {
        LABELS_TXT: "".join(f"{label}\n" for label in bundle.info.labels),
        MODEL_JSON: json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n",
    }
    buffer = io.BytesIO(bundle.content)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, text in entries.items():
            entry = zipfile.ZipInfo(name, ZIP_DATE)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # alike on every system
            archive.writestr(entry, text)
    return buffer.getvalue()


def write(bundle: Bundle, path: Path) -> None:
    """Replace `path` by the model file in one step, after reading it back as the daemon does.

    Raises:
        BundleError: the daemon would refuse the file; `path` is as it was.
        WriteError: the file cannot be written; likewise.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(encode(bundle))
        read_bundle(partial)
        os.replace(partial, path)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        discard(partial)
