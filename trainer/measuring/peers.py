"""Models of others, each with its own preparation of the stored picture, to be measured beside ours."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, TypeAdapter, ValidationError

from edge.litert import Network
from edge.section import Section
from edge.strict_yaml import StrictYamlError, read
from trainer import TrainerError, first_line
from trainer.config import reason

Floats = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]
KNOWN = Path(__file__).with_name("peers.yaml")
RESIZE = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "cubic": cv2.INTER_CUBIC,
}
#: Least probability whose logarithm is taken.
TINIEST = 1e-12
Channels = tuple[float, float, float]


class PeerError(TrainerError):
    """A peer cannot be measured; the message names the file and the remedy."""


class Description(Section):
    """How a model wants its pictures and what it answers; `peers.yaml` explains the keys."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    source: str = ""
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    colour: Literal["grey", "rgb", "bgr"] = "grey"
    resize: Literal["nearest", "linear", "area", "cubic"] = "linear"
    scale: float | Channels
    offset: float | Channels = 0.0
    output: Literal["logits", "probabilities"] = "logits"


class Peer:
    """A foreign `.tflite`, float32 or quantised, that takes stored pictures. One per thread.

    Args:
        path: the file.
        description: of its preparation.

    Raises:
        PeerError: it is no network of one picture in and one score a class out.
    """

    def __init__(self, path: Path, content: bytes, description: Description) -> None:
        self.path, self.content, self.description = path, content, description
        try:
            self._network = Network(content)
        except (ValueError, RuntimeError) as error:
            raise PeerError(f"{path}: no TFLite network ({first_line(error)}); name a .tflite file") from None
        self._size, self._channels = self._checked()

    @property
    def name(self) -> str:
        """Name in tables and JSON."""
        return self.description.name

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes in the order of the output."""
        return self.description.labels

    def logits(self, picture: Image) -> Floats:
        """Return float32 (classes,) for a stored picture, uint8 grey (side, side) or RGB (side, side, 3)."""
        (output,) = self._network(self._input(picture))
        scores = _dequantised(output[0], self._network.outputs[0])
        return np.log(np.maximum(scores, TINIEST)) if self.description.output == "probabilities" else scores

    def _input(self, picture: Image) -> npt.NDArray[Any]:
        """Prepare a stored picture: colour, size, range, and the type of the input."""
        wanted = self.description
        seen = _in_colour(picture, wanted.colour)
        if seen.shape[:2] != self._size:
            seen = cv2.resize(seen, self._size[::-1], interpolation=RESIZE[wanted.resize]).astype(np.uint8)
        if seen.ndim == 2:
            seen = np.repeat(seen[..., None], self._channels, axis=2)
        values = seen * np.asarray(wanted.scale, np.float32) + np.asarray(wanted.offset, np.float32)
        return _quantised(values.astype(np.float32), self._network.inputs[0])[None]

    def _checked(self) -> tuple[tuple[int, int], int]:
        """Return size and channels of the input, after checking that it and the output are as described."""
        inputs, outputs, wanted = self._network.inputs, self._network.outputs, self.description
        if len(inputs) != 1 or len(outputs) != 1:
            raise PeerError(f"{self.path}: {len(inputs)} inputs and {len(outputs)} outputs, expected 1 and 1")
        shape = tuple(int(n) for n in inputs[0]["shape"])
        if len(shape) != 4 or shape[0] != 1 or shape[3] not in (1, 3):
            raise PeerError(f"{self.path}: input {shape}, expected (1, height, width, 1 or 3)")
        if shape[3] == 1 and wanted.colour != "grey":
            raise PeerError(f"{self.path}: takes one channel, its description says {wanted.colour}; set colour: grey")
        if shape[3] == 1 and (isinstance(wanted.scale, tuple) or isinstance(wanted.offset, tuple)):
            raise PeerError(f"{self.path}: takes one channel, its description has three of scale or offset; leave one")
        answered = tuple(int(n) for n in outputs[0]["shape"])
        if answered != (1, len(wanted.labels)):
            raise PeerError(f"{self.path}: answers {answered}, its description has {len(wanted.labels)} labels")
        return (shape[1], shape[2]), shape[3]


def read_peers(paths: Sequence[Path], descriptions: Sequence[Path] = ()) -> list[Peer]:
    """Read models of others, each described in one of `descriptions` or in `trainer/measuring/peers.yaml`.

    Raises:
        PeerError: a file is missing, unknown or not as its description says; or two have one name.
    """
    known = {each.sha256: each for path in (KNOWN, *descriptions) for each in read_descriptions(path)}
    peers = [_read_peer(path, known) for path in paths]
    names = [peer.name for peer in peers]
    for name in names:
        if names.count(name) > 1 or name in ("int8", "float"):
            raise PeerError(f"two columns would be called {name}; give each peer a name of its own in its description")
    return peers


def read_descriptions(path: Path) -> list[Description]:
    """Read a file in the form of `peers.yaml`.

    Raises:
        PeerError: it is missing, no YAML, or has a wrong key or value.
    """
    try:
        content = read(path)
    except OSError as error:
        raise PeerError(f"{path}: {error.strerror}; name a file in the form of {KNOWN.name}") from None
    except UnicodeDecodeError:
        raise PeerError(f"{path}: no text file; name one in the form of {KNOWN.name}") from None
    except StrictYamlError as error:
        raise PeerError(str(error)) from None
    try:
        return TypeAdapter(list[Description]).validate_python(content)
    except ValidationError as error:
        mistakes = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {reason(e)}" for e in error.errors())
        raise PeerError(f"{path}: {mistakes}; trainer/measuring/{KNOWN.name} explains every key") from None


def _read_peer(path: Path, known: dict[str, Description]) -> Peer:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PeerError(f"{path}: {error.strerror}; name an existing .tflite with --peer") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest not in known:
        raise PeerError(
            f"{path}: no description of SHA-256 {digest}; write one as in trainer/measuring/{KNOWN.name} and name it "
            "with --peer-description"
        )
    return Peer(path, content, known[digest])


def _in_colour(picture: Image, colour: str) -> Image:
    """Turn a stored picture into grey (side, side), or into three colours (side, side, 3) in the order asked for."""
    if picture.ndim == 2:
        return picture
    if colour == "grey":
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
    return picture if colour == "rgb" else picture[..., ::-1]


def _quantised(values: Floats, tensor: dict[str, Any]) -> npt.NDArray[Any]:
    """Turn floats into the type of an input tensor."""
    if tensor["dtype"] == np.float32:
        return values
    scale, zero = tensor["quantization"]
    limits = np.iinfo(tensor["dtype"])
    return np.asarray(np.clip(np.round(values / scale) + zero, limits.min, limits.max), tensor["dtype"])


def _dequantised(values: npt.NDArray[Any], tensor: dict[str, Any]) -> Floats:
    """Turn an output tensor's values into floats."""
    if tensor["dtype"] == np.float32:
        return np.asarray(values, np.float32)
    scale, zero = tensor["quantization"]
    return np.asarray((values.astype(np.float32) - zero) * scale, np.float32)
