"""The model file: a full-int8 `.tflite` with a ZIP appended that says what it is (TFLite ignores the ZIP)."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.faces import Colour, CropRule
from edge.litert import Network, RuntimeMissingError, load_runtime
from edge.regular import read_regular
from edge.trial import why_not

MODEL_JSON = "model.json"
LABELS_TXT = "labels.txt"
SCHEMA = "emotion-edge/model/1"
CHANNELS: dict[Colour, int] = {"grey": 1, "rgb": 3}
#: Where the models that ship lie; exactly one of them is an emotion model.
SHIPPED = Path(__file__).parent / "models"
DEFAULT_MODEL = SHIPPED / "emotions.tflite"
#: What `zipfile` raises at a damaged file; RuntimeError stands for an encrypted entry.
ZIP_ERRORS = (zipfile.BadZipFile, KeyError, ValueError, RuntimeError, EOFError, OSError, struct.error, zlib.error)
#: Checksums of networks that have run.
_tried: set[str] = set()
REMEDY = "take the model that ships, or write the file again with emotion-trainer train"


class BundleError(ValueError):
    """A model file cannot be used; the message names the file, what is wrong and the remedy."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class CropInfo(_Section):
    """How the face was cut out in training, see `edge.faces.CropRule`."""

    size: int = Field(gt=0)
    margin: float = Field(gt=1, lt=100)
    eye_line: float = Field(gt=0, lt=1)

    def rule(self) -> CropRule:
        """Return it as the type that `edge.faces.crop` takes."""
        return CropRule(self.size, self.margin, self.eye_line)


class InputInfo(_Section):
    """Shape (height, width, channels), colour, and how pixels 0–255 become floats: (pixel - mean) / deviation."""

    shape: tuple[int, int, Literal[1, 3]]
    colour: Colour
    mean: float
    deviation: float = Field(gt=0)


class ModelInfo(_Section):
    """`model.json`: what a model file says of itself.

    Attributes:
        labels: the classes in the order of the output.
        variant: the preparation that its figures are for: `aligned` by the eyes, or `raw`, the stored picture whole.
        temperature: divides the logits before the softmax (Guo et al., arXiv:1706.04599).
        accuracies: protocol → figures measured with the int8 network, fractions.
        agreement: share of validation faces that float and int8 give the same class.
        sha256: of the bytes before the ZIP.
    """

    schema_: Literal["emotion-edge/model/1"] = Field(alias="schema")
    name: str = Field(pattern=r"^[a-z0-9_-]{1,64}$")
    version: str = Field(min_length=1, max_length=64)
    labels: tuple[str, ...] = Field(min_length=2)
    input: InputInfo
    crop: CropInfo
    variant: Literal["raw", "aligned"] = "aligned"
    temperature: float = Field(gt=0)
    training_data: str
    accuracies: dict[str, dict[str, Any]]
    agreement: float = Field(ge=0, le=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


@dataclass(frozen=True)
class Bundle:
    """A model file that passed every check.

    Attributes:
        info: what it says of itself.
        content: the bytes of the `.tflite`.
    """

    info: ModelInfo
    content: bytes


def read_bundle(path: Path) -> Bundle:
    """Read a model file and check that its metadata, checksum and tensors agree.

    Raises:
        BundleError: it cannot be used; says why in one line.
    """
    try:
        content = read_regular(path)
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}; {REMEDY}") from None
    try:
        info, start = _read_zip(content)
        body = content[:start]
        _check_sum(body, info)
        _try(body, info, trusted=path == DEFAULT_MODEL)
        _check_tensors(body, info)
    except BundleError as error:
        raise BundleError(f"{path}: {error}; {REMEDY}") from None
    return Bundle(info, body)


def _read_zip(content: bytes) -> tuple[ModelInfo, int]:
    """Return the metadata and where the ZIP begins."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            start = min(entry.header_offset for entry in archive.infolist())
            document = archive.read(MODEL_JSON)
            labels = archive.read(LABELS_TXT).decode().splitlines()
    except ZIP_ERRORS as error:
        raise BundleError(f"no model metadata inside ({error})") from None
    try:
        info = ModelInfo.model_validate_json(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise BundleError(f"{MODEL_JSON}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if tuple(labels) != info.labels:
        raise BundleError(f"{LABELS_TXT} says {labels}, {MODEL_JSON} says {list(info.labels)}")
    if len(set(labels)) != len(labels):
        raise BundleError(f"{LABELS_TXT} names a label twice: {labels}")
    return info, start


def _check_sum(body: bytes, info: ModelInfo) -> None:
    found = hashlib.sha256(body).hexdigest()
    if found != info.sha256:
        raise BundleError(f"the file is damaged: SHA-256 of the network is {found[:12]}…, not {info.sha256[:12]}…")


def _try(body: bytes, info: ModelInfo, trusted: bool) -> None:
    """Let a network run where it can do no harm, once a process, before it is loaded here."""
    if not trusted and info.sha256 not in _tried:
        load_runtime()
        refusal = why_not(body)
        if refusal:
            raise BundleError(refusal)
    _tried.add(info.sha256)


def _check_tensors(body: bytes, info: ModelInfo) -> None:
    if info.input.shape[:2] != (info.crop.size, info.crop.size):
        raise BundleError(f"crop size {info.crop.size} does not fit the input {info.input.shape}")
    if info.input.shape[2] != CHANNELS[info.input.colour]:
        raise BundleError(f"colour {info.input.colour} does not fit the input {info.input.shape}")
    try:
        network = Network(body)
    except RuntimeMissingError:
        raise
    except (ValueError, RuntimeError) as error:
        raise BundleError(f"no TFLite network ({str(error).splitlines()[0]})") from None
    expected = (("input", network.inputs, (1, *info.input.shape)), ("output", network.outputs, (1, len(info.labels))))
    for what, tensors, shape in expected:
        if len(tensors) != 1:
            raise BundleError(f"the network has {len(tensors)} {what}s, expected 1")
        found, dtype = tuple(int(n) for n in tensors[0]["shape"]), tensors[0]["dtype"]
        if found != shape or dtype != np.int8:
            name = np.dtype(dtype).name
            raise BundleError(f"the {what} is {name} {found}, {MODEL_JSON} says int8 {shape}")
        if not tensors[0]["quantization"][0] > 0:
            raise BundleError(f"the {what} has no quantisation scale")
