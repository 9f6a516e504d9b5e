"""`emotion-trainer inspect`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer.commands.options import FILE, FOLDER, one_line

if TYPE_CHECKING:
    from trainer.conversion.layer_errors import LayerError


@click.command()
@click.argument("model", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Only JSON on stdout.")
@click.option(
    "--layers", "faces", type=FOLDER, help="Also say what int8 costs each layer, on the pictures of faces in FOLDER."
)
@click.option(
    "--float",
    "twin",
    type=FILE,
    help="For --layers: its float network.  [default: beside MODEL, or trainer/models/NAME.keras]",
)
def inspect(model: Path, as_json: bool, faces: Path | None, twin: Path | None) -> None:
    """Show what MODEL is made of: metadata, operators, tensors, size. It may be any .tflite.

    --layers quantises the float network anew, with the ranges found on those pictures, and lists its layers, worst
    first, by the share of the signal that is lost in each, whatever was lost before it.
    """
    with one_line():
        from rich.console import Console

        from trainer.conversion import inspection

        found = inspection.inspect(model)
        if found.info is None:
            click.echo(f"{model}: no emotion-edge model file: no metadata inside; only the network is shown", err=True)
        losses = _layers(model, faces, twin) if faces else None
        if as_json:
            layers = {} if losses is None else {"layers": [asdict(each) for each in losses]}
            click.echo(json.dumps(found.as_json() | layers, indent=2))
            return
        console = Console()
        inspection.show(found, console)
        for each in losses or ():
            console.print(f"{each.lost:7.2%} lost in {each.name} ({each.operator})", highlight=False)


def _layers(model: Path, faces: Path, twin: Path | None) -> list[LayerError]:
    from edge.bundle import read_bundle
    from trainer.data.face_crops import face_crops
    from trainer.quiet import load_keras

    bundle = read_bundle(model)
    crops = face_crops(faces, bundle.info)
    load_keras()
    from trainer.conversion.layer_errors import layer_errors
    from trainer.measuring.networks import NetworkError, load_twin

    network = load_twin(bundle, model, twin)
    if network is None:
        raise NetworkError(
            f"{model}: --layers needs the float network of this model; name its .keras file with --float"
        )
    return layer_errors(network, crops)
