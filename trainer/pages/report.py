"""The report of an evaluation: one page for the browser."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from trainer.measuring.evaluation import INT8, Answers, Evaluation
from trainer.measuring.questions import Variant
from trainer.pages import page, plots
from trainer.pages.page import Section
from trainer.pages.tables import PARTS, percent, points, signed, speeds
from trainer.training.run_folder import LOG, RECORD, CheckpointError, read_log

CARD = "MODEL_CARD.md"
#: So many mistakes are shown, those that the network was surest of.
MISTAKES = 48
FIGURES = (("accuracy", "Accuracy"), ("macro_f1", "Macro-F1"))


@dataclass(frozen=True)
class Training:
    """What is known of the training behind a model.

    Attributes:
        epochs: as `trainer.training.run_folder.read_log` returns them.
        configuration: the recorded one, as it is written; empty if there is none.
    """

    epochs: list[dict[str, Any]]
    configuration: str


def trained_in(run: Path | None, model: Path) -> Training | None:
    """Read the log of the folder `run`, or else of the one that the model file lies in; None if there is none.

    Raises:
        CheckpointError: `run` has no log, or the log is damaged.
    """
    folder = run or model.parent
    entries = read_log(folder)
    if not entries:
        if run:
            raise CheckpointError(f"{run / LOG}: no epochs there; name the folder of a training with --run")
        return None
    record = folder / RECORD
    return Training(entries, record.read_text() if record.is_file() else "")


def write_report(
    path: Path, found: Evaluation, training: Training | None, command: str, with_faces: bool = False
) -> None:
    """Write the page, one file that loads nothing from elsewhere, in one step.

    Args:
        path: of the page.
        found: what was measured.
        training: of the model; None leaves the curves out.
        command: that measured it.
        with_faces: show the faces of the mistakes; the terms of the data set must allow it.

    Raises:
        WriteError: it cannot be written; what was there is as it was.
    """
    lead = f"{found.model.name} on {found.split} data, faces {found.variant}. SHA-256 {found.sha256}"
    sections = [
        Section("Summary", _summary(found, command)),
        Section("Protocols", _protocols(found)),
        *([Section("Peers", _peers(found))] if found.rivals else []),
        *([Section("Training", _curves(training))] if training else []),
        Section("Classes", _classes(found)),
        Section("Confusion", _confusion(found)),
        *([Section("Calibration", _calibration(found, found.leading))] if found.leading else []),
        *([Section("Mistakes", _mistakes(found.leading, with_faces))] if found.leading else []),
        Section("Model", _model(found)),
    ]
    page.write_page(path, f"{found.info.name} {found.info.version}", lead, sections)


def _main(found: Evaluation) -> str:
    """Return the protocol whose figures stand first."""
    return found.leading.protocol if found.leading else next(iter(found.own[INT8]))


def _summary(found: Evaluation, command: str) -> list[Markup]:
    judged = found.own[INT8][_main(found)]
    figures, intervals = judged.figures, judged.intervals
    spans = {
        name: f"95 % interval {100 * interval.low:.1f}–{100 * interval.high:.1f}"
        for name, interval in intervals.items()
    }
    items = [
        (f"Accuracy, {_main(found)}", f"{percent(figures.accuracy)} %", spans["accuracy"]),
        (f"Macro-F1, {_main(found)}", f"{percent(figures.macro_f1)} %", spans["macro_f1"]),
        ("Right among the two best", f"{percent(figures.top2 or 0.0)} %", f"{figures.n:,} faces"),
    ]
    if found.calibration_error is not None:
        items.append(("Calibration error", f"{found.calibration_error:.3f}", "expected, 15 bins"))
    if found.agreement is not None and found.drop is not None:
        items.append(
            ("int8 answers as float", f"{100 * found.agreement:.1f} %", f"accuracy {signed(-found.drop)} points")
        )
    times = "".join(f"{found.ratio(name):.2f} × {name}" for name in list(found.rivals)[:1])
    items.append(("Time a face", f"{found.latency[INT8].median:.2f} ms", times or "one thread, this machine"))
    items.append(("File", f"{found.size / 1000:,.0f} KB", "full int8"))
    return [page.cards(items), page.text("The command behind this page:"), page.code(command)]


def _protocols(found: Evaluation) -> list[Markup]:
    parts = [_table(found, key, title) for key, title in FIGURES]
    parts.append(page.plots([(title, _dots(found, key, title)) for key, title in FIGURES]))
    others = [variant for variant in found.networks if variant != found.variant]
    parts += [page.folded(f"The same faces {variant}", _other(found, variant)) for variant in others]
    missed = ", ".join(f"{count} of {name}" for name, count in found.faces_not_found.items())
    return [*parts, page.text(f"Faces that the detector did not find, taken whole: {missed}.")]


def _table(found: Evaluation, key: str, title: str) -> Markup:
    rows = []
    for protocol, judged in found.own[INT8].items():
        columns = [by[protocol] for by in found.columns.values()]
        cells = [percent(getattr(each.figures, key), each.intervals[key]) for each in columns]
        rows.append([protocol, f"{judged.figures.n:,}", *cells])
    peers = ", peers by their own preparation" if found.rivals else ""
    caption = f"{title} in per cent, 95 % bootstrap intervals; ours {found.variant}{peers}"
    return page.table(["protocol", "n", *found.columns], rows, caption)


def _other(found: Evaluation, variant: Variant) -> Markup:
    networks = found.networks[variant]
    rows = []
    for protocol in networks[INT8]:
        columns = [by[protocol].figures for by in networks.values()]
        rows.append([protocol, *(f"{percent(each.accuracy)} / {percent(each.macro_f1)}" for each in columns)])
    return page.table(["protocol", *networks], rows, "Accuracy / macro-F1 in per cent")


def _peers(found: Evaluation) -> list[Markup]:
    parts = []
    for name, rival in found.rivals.items():
        rows = [[p, points(by["accuracy"]), points(by["macro_f1"])] for p, by in rival.differences.items()]
        caption = f"int8 less {name} in points, paired bootstrap; better or worse only if the interval excludes 0"
        parts.append(page.table(["protocol", "accuracy", "macro-F1"], rows, caption))
    rows = [
        ["int8", f"{found.size:,}", _known(found.calibration_error), ""],
        *(
            [name, f"{rival.size:,}", _known(rival.calibration_error), rival.source]
            for name, rival in found.rivals.items()
        ),
    ]
    parts.append(page.table(["file", "bytes", "calibration error", "source"], rows))
    times = page.text("; ".join(f"{name}: {line}" for name, line in speeds(found).items()) + ". One thread, in turns.")
    return [*parts, times]


def _dots(found: Evaluation, key: str, title: str) -> Markup:
    protocols = list(found.own[INT8])
    values = {
        name: [(getattr(by[protocol].figures, key), by[protocol].intervals[key]) for protocol in protocols]
        for name, by in found.columns.items()
    }
    return plots.interval_bars(protocols, values, title)


def _curves(training: Training) -> list[Markup]:
    epochs = [entry["epoch"] for entry in training.epochs]
    right = [100 * entry["validation_accuracy"] for entry in training.epochs]
    best = int(np.argmax(right))
    drawn = [
        ("Loss on the augmented training faces", plots.curve(epochs, [e["loss"] for e in training.epochs], "loss")),
        (
            "Accuracy on validation faces after each epoch",
            plots.curve(epochs, right, "validation, per cent", " %", best),
        ),
    ]
    parts = [page.plots(drawn)]
    if training.configuration:
        parts.append(page.folded("Configuration of the training", page.code(training.configuration)))
    return parts


def _classes(found: Evaluation) -> list[Markup]:
    protocol = _main(found)
    columns = {name: by[protocol].figures for name, by in found.columns.items()}
    labels = [label for label, row in columns[INT8].per_class().items() if row["support"]]
    drawn = []
    for key, title in (("f1", "F1"), ("recall", "Recall")):
        values = {name: [figures.per_class()[label][key] for label in labels] for name, figures in columns.items()}
        drawn.append((f"{title} of each class, {protocol}", plots.class_bars(labels, values, title)))
    parts = [page.plots(drawn)]
    for protocol, judged in found.own[INT8].items():
        figures = judged.figures
        rows = [
            [label, str(row["support"]), *(percent(row[key]) for key in PARTS)]
            for label, row in figures.per_class().items()
        ]
        rows.append(["macro", str(figures.n), *(percent(figures.macro(key)) for key in PARTS)])
        rows.append(["weighted", str(figures.n), *(percent(figures.weighted(key)) for key in PARTS)])
        caption = f"{protocol}, int8, in per cent; right among the two best: {percent(figures.top2 or 0.0)}"
        shown = page.table(["class", "faces", *PARTS], rows, caption)
        parts.append(shown if protocol == _main(found) else page.folded(protocol, shown))
    return parts


def _confusion(found: Evaluation) -> list[Markup]:
    parts = [page.text("Rows are the truth, columns the answer; the shade is the share of the row.")]
    for protocol in found.own[INT8]:
        shown = page.matrices(
            [page.confusion(by[protocol].figures, f"{protocol}, {name}") for name, by in found.columns.items()]
        )
        parts.append(shown if protocol == _main(found) else page.folded(protocol, shown))
    return parts


def _calibration(found: Evaluation, answers: Answers) -> list[Markup]:
    caption = (
        f"{answers.protocol}, int8, temperature {found.info.temperature:.4g}: expected calibration error "
        f"{_known(found.calibration_error)} over 15 bins"
    )
    return [page.plots([(caption, plots.reliability(answers.reliability()))])]


def _mistakes(answers: Answers, with_faces: bool) -> list[Markup]:
    answered = answers.probabilities.argmax(axis=1)
    wrong = np.flatnonzero(answered != answers.truth)
    surest = wrong[np.argsort(-answers.probabilities[wrong].max(axis=1), kind="stable")][:MISTAKES]
    labels, faces = answers.faces.labels, answers.faces
    count = f"{len(wrong):,} of {len(faces):,} answers to {answers.protocol} are wrong"
    parts = [page.text(f"{count}; the {len(surest)} that the network was surest of:" if len(surest) else f"{count}.")]
    if not len(surest):
        return parts
    rows = [
        (faces.names[row], labels[answers.truth[row]], labels[answered[row]], answers.probabilities[row].max())
        for row in surest
    ]
    if with_faces:
        shown = [
            (faces.images[row], name, f"{given}, not {truth}", f"{100 * probability:.0f} %")
            for row, (name, truth, given, probability) in zip(surest, rows, strict=True)
        ]
        return [*parts, page.gallery(shown)]
    cells = [[name, truth, given, f"{100 * probability:.0f} %"] for name, truth, given, probability in rows]
    return [*parts, page.table(["picture", "truth", "answer", "probability"], cells)]


def _model(found: Evaluation) -> list[Markup]:
    info = found.info.model_dump(mode="json", by_alias=True, exclude={"accuracies"})
    said = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in info.items()]
    parts = [page.facts(said, "What the model file says of itself")]
    card = found.model.parent / CARD
    content = card.read_text() if card.is_file() else ""
    # A card lies beside one model and must not speak for another.
    if found.sha256 in content:
        parts.append(page.markdown(content))
    elif content:
        parts.append(page.text(f"{CARD} beside the file does not name its SHA-256 and is left out."))
    return parts


def _known(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"
