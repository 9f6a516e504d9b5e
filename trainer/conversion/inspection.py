"""What a model file is made of: metadata, tensors, operators, size, cost. Needs no TensorFlow."""

from __future__ import annotations

import io
import struct
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ai_edge_litert import schema_py_generated as schema
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from edge.bundle import MODEL_JSON, BundleError, ModelInfo, read_bundle
from edge.litert import Network
from trainer import TrainerError, first_line
from trainer.conversion.complexity import multiply_adds

#: Operators with a kernel, which is their second input.
WITH_KERNEL = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
#: What parsing raises where LiteRT was content with a damaged file.
PARSE_ERRORS = (struct.error, IndexError, TypeError, ValueError, AttributeError)
COLUMNS = ("shape", "dtype", "scale", "zero point")
DTYPES: dict[int, str] = {
    value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)
}
OPERATORS: dict[int, str] = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)
}


class InspectionError(TrainerError):
    """A file cannot be read as a model; the message names it."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a `.tflite`; float value = scale · (integer - zero point), per channel if there are several."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "scale": list(self.scale),
            "zero_point": list(self.zero_point),
        }


@dataclass(frozen=True)
class Inspection:
    """What a model file is made of.

    Attributes:
        path: the file.
        size: bytes of the whole file.
        info: its metadata; None if it is a `.tflite` without ours.
        tensors: all of them, constants included, in the order of the file.
        inputs: names of the network's inputs.
        outputs: likewise.
        operators: operator → how often.
        multiply_adds: of convolutions and dense layers, for one picture.
    """

    path: Path
    size: int
    info: ModelInfo | None
    tensors: list[Tensor]
    inputs: list[str]
    outputs: list[str]
    operators: dict[str, int]
    multiply_adds: int

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {
            "file": str(self.path),
            "bytes": self.size,
            "multiply_adds": self.multiply_adds,
            "metadata": self.info and self.info.model_dump(mode="json", by_alias=True),
            "inputs": self.inputs,
            "outputs": self.outputs,
            "operators": self.operators,
            "tensors": [tensor.as_json() for tensor in self.tensors],
        }


def inspect(path: Path) -> Inspection:
    """Read a model file, or any other `.tflite`.

    Raises:
        BundleError: it has our metadata and does not agree with them, or cannot be read.
        InspectionError: it holds no network.
    """
    try:
        info: ModelInfo | None = read_bundle(path).info
    except BundleError:
        if not path.is_file() or has_metadata(path):
            raise
        info = None
    content = path.read_bytes()
    if not content:
        raise InspectionError(f"{path}: is empty; name a .tflite file, or write it again")
    try:
        if info is None:
            Network(content)  # LiteRT checks the file before anything is parsed
        graph = schema.ModelT.InitFromPackedBuf(content, 0)
        return _inspection(path, len(content), info, graph)
    except RuntimeError as error:
        raise InspectionError(
            f"{path}: LiteRT cannot run it ({first_line(error)}); inspect a .tflite of its own"
        ) from None
    except PARSE_ERRORS as error:
        raise InspectionError(
            f"{path}: no TFLite network, or a damaged one ({first_line(error)}); name a .tflite file, or write it again"
        ) from None


def has_metadata(path: Path) -> bool:
    """Tell whether a file carries our metadata, good or bad."""
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            return MODEL_JSON in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError):
        return False


def _inspection(path: Path, size: int, info: ModelInfo | None, model: Any) -> Inspection:
    (graph, *_) = model.subgraphs
    tensors = [_tensor(each) for each in graph.tensors]
    operators: Counter[str] = Counter()
    cost = 0
    for each in graph.operators:
        name = _operator(model.operatorCodes[each.opcodeIndex])
        operators[name] += 1
        if name in WITH_KERNEL:
            cost += multiply_adds(tensors[each.inputs[1]].shape, tensors[each.outputs[0]].shape)
    inputs, outputs = ([tensors[i].name for i in ends] for ends in (graph.inputs, graph.outputs))
    return Inspection(path, size, info, tensors, inputs, outputs, dict(operators.most_common()), cost)


def _tensor(tensor: Any) -> Tensor:
    shape = () if tensor.shape is None else tuple(map(int, tensor.shape))
    levels = tensor.quantization
    scale = () if levels is None or levels.scale is None else tuple(map(float, levels.scale))
    zero = () if levels is None or levels.zeroPoint is None else tuple(map(int, levels.zeroPoint))
    return Tensor(
        (tensor.name or b"").decode(errors="replace"),
        shape,
        DTYPES.get(tensor.type, f"type {tensor.type}"),
        scale,
        zero,
    )


def _operator(code: Any) -> str:
    # Files from before 2020 hold the code in one byte only.
    if code.customCode:
        return str(code.customCode, errors="replace")
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return OPERATORS.get(number, f"operator {number}")


def show(found: Inspection, console: Console) -> None:
    """Print what a model file is made of."""
    lines = [f"{found.path}: {found.size:,} bytes, {found.multiply_adds:,} multiply-adds a face"]
    if found.info:
        lines += ["", yaml.safe_dump(found.info.model_dump(mode="json", by_alias=True), sort_keys=False, width=1000)]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    operators = Table("operator", Column("count", justify="right"))
    for name, count in found.operators.items():
        operators.add_row(name, str(count))
    console.print(operators)
    tensors = Table(Column("tensor", overflow="fold"), *(Column(name, no_wrap=True) for name in COLUMNS))
    for each in found.tensors:
        end = " (input)" if each.name in found.inputs else " (output)" if each.name in found.outputs else ""
        shape = "×".join(map(str, each.shape)) or "scalar"
        tensors.add_row(Text(each.name + end), shape, each.dtype, _range(each.scale), _range(each.zero_point))
    console.print(tensors)


def _range(values: tuple[float, ...]) -> str:
    """Show one number, or the least and the largest of many."""
    ends = dict.fromkeys((min(values), max(values))) if values else {}
    return " … ".join(f"{value:.3g}" for value in ends)
