"""`emotion-trainer evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from trainer.commands.options import CACHE, DATA_OPTION, FILE, FOLDER, SET_OPTION, command_line, fail, one_line


@click.command()
@click.argument("model", type=FILE, required=False)
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="validation",
    show_default=True,
    help="The faces to measure on; each look at test faces is recorded.",
)
@click.option(
    "--float", "twin", type=FILE, help="Its float network.  [default: beside MODEL, or trainer/models/NAME.keras]"
)
@click.option("--peer", "peers", type=FILE, multiple=True, help="A .tflite of others to measure beside it; repeatable.")
@click.option(
    "--peer-description", "descriptions", type=FILE, multiple=True, help="How a peer wants its pictures, as peers.yaml."
)
@click.option("--config", type=FILE, help="Measure on this configuration's data set, not on FER+ and CK+.")
@SET_OPTION
@click.option("--json", "as_json", is_flag=True, help="Only JSON on stdout; accuracies are fractions.")
@click.option("--report", type=FILE, help="Write a page for the browser too, one file.")
@click.option("--run", type=FOLDER, help="Folder of the training, for the report's curves.  [default: MODEL's folder]")
@click.option("--with-faces", is_flag=True, help="Show faces in the report, if the terms of the data set allow it.")
@click.option(
    "--looks",
    type=FILE,
    help="Record of looks at test data.  [default: trainer/test_looks.jsonl, with --config beside MODEL]",
)
@DATA_OPTION
def evaluate(
    model: Path | None,
    split: str,
    twin: Path | None,
    peers: tuple[Path, ...],
    descriptions: tuple[Path, ...],
    config: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
    report: Path | None,
    run: Path | None,
    with_faces: bool,
    looks: Path | None,
    data: Path | None,
) -> None:
    """Measure MODEL, int8 and float, under every protocol that the data allow, and models of others beside it.

    MODEL is the one that ships unless it is named; with --config, the one that `train` wrote. With --split test one
    line with the figures is appended to the record of looks.
    """
    if report is None and (run or with_faces):
        fail("--run and --with-faces are for the report; name its file with --report")
    if config is None and overrides:
        fail("--set changes a configuration; name one with --config")
    with one_line():
        from edge.bundle import DEFAULT_MODEL
        from trainer.config import load_config
        from trainer.data.datasets import data_folder
        from trainer.files import check_writable
        from trainer.quiet import load_keras

        settings = load_config(config, overrides) if config else None
        folder = data_folder(data)
        load_keras()
        from rich.console import Console

        from trainer.measuring import evaluate as measuring
        from trainer.measuring.looks import TEST_LOOKS, record_look
        from trainer.measuring.peers import read_peers
        from trainer.measuring.questions import Split, official_questions, own_questions
        from trainer.pages.report import trained_in, write_report
        from trainer.pages.tables import show

        if model is None:
            model = Path("trainer/runs") / settings.name / f"{settings.name}.tflite" if settings else DEFAULT_MODEL
        others = read_peers(peers, descriptions)
        training = trained_in(run, model) if report else None
        if report:
            check_writable(report)
        asked: Split = "test" if split == "test" else "validation"
        sets = own_questions(settings, folder, asked, CACHE) if settings else official_questions(folder, asked, CACHE)
        found = measuring.evaluate(model, twin, sets, asked, others)
        if asked == "test":
            record_look(found, looks or (model.parent / TEST_LOOKS.name if settings else TEST_LOOKS))
        if as_json:
            click.echo(json.dumps(found.as_json(), indent=2))
        else:
            show(found, Console())
        if report:
            write_report(report, found, training, command_line(), with_faces)
            click.echo(f"report: {report}", err=True)
