"""What a search found: the table, the record of all trials, the configuration to train with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from trainer.config import Config, changed
from trainer.files import replace_file
from trainer.search.space import SearchError, SearchSpace, value_of

STATES = {TrialState.COMPLETE: "done", TrialState.PRUNED: "given up", TrialState.FAIL: "failed"}
HEADER = "# Found by emotion-trainer tune: "
#: Fewer trials say nothing about which parameter matters.
IMPORTANCE_TRIALS = 10


def ended(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that have ended, in the order of their numbers."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state in STATES]


def value(trial: FrozenTrial) -> float | None:
    """Return a trial's validation accuracy: of its end, or its best until it was given up; None if it failed."""
    if trial.state == TrialState.COMPLETE:
        return trial.value
    return max(trial.intermediate_values.values(), default=None) if trial.state == TrialState.PRUNED else None


def best(study: optuna.Study) -> FrozenTrial:
    """Return the best of the trials that ran to their end; the first of equals.

    Raises:
        SearchError: there is none yet.
    """
    complete = [trial for trial in ended(study) if trial.state == TrialState.COMPLETE]
    if not complete:
        raise SearchError("no trial has run to its end; raise --trials")
    return max(complete, key=lambda trial: trial.value or 0.0)


def record(study: optuna.Study, path: Path) -> None:
    """Write a line of JSON a trial: number, state, value, epochs, seconds, parameters.

    Raises:
        WriteError: it cannot be written.
    """
    replace_file(path, "".join(json.dumps(_line(trial)) + "\n" for trial in ended(study)).encode())


def check_output(path: Path) -> None:
    """Check that no file is lost when the best configuration is written to `path`.

    Raises:
        SearchError: there is one that no search wrote.
    """
    if path.exists() and not (path.is_file() and path.read_bytes().startswith(HEADER.encode())):
        raise SearchError(f"{path}: exists and was not written by tune; choose another --output")
    record = path.with_suffix(".jsonl")
    if record.exists() and not path.exists():
        raise SearchError(f"{record}: exists, and the record of the trials would replace it; choose another --output")


def write_best(study: optuna.Study, config: Config, space: SearchSpace, path: Path) -> None:
    """Write the configuration with the best trial's values, complete, and with the budget of `config` again.

    Raises:
        SearchError: no trial has run to its end.
        WriteError: it cannot be written.
    """
    found, first = best(study), study.get_trials(deepcopy=False)[0]
    name = f"{config.name[: 64 - len('-tuned')]}-tuned"
    content = changed(config, {**found.params, "name": name}).model_dump(mode="json")
    budget = ", ".join(f"{key} {number}" for key, number in space.budget.items()) or "the whole training"
    text = (
        f"{HEADER}trial {found.number}, the best of {len(ended(study))}.\n"
        f"# Validation accuracy {found.value:.4f}; {first.value or 0:.4f} before the search (trials: {budget}).\n"
    )
    replace_file(path, (text + yaml.safe_dump(content, sort_keys=False)).encode())


def show(study: optuna.Study, config: Config, console: Console) -> None:
    """Print all trials, then the best beside the configuration that the search began with.

    Raises:
        SearchError: no trial has run to its end.
    """
    trials, found = ended(study), best(study)
    table = Table("trial", "state", "validation", "epochs", "seconds", "parameters", title="trials")
    for trial in trials:
        parameters = " ".join(f"{_short(key)}={_text(number)}" for key, number in trial.params.items())
        accuracy = value(trial)
        table.add_row(
            str(trial.number),
            STATES[trial.state],
            "" if accuracy is None else f"{accuracy:.4f}",
            str(trial.user_attrs.get("epochs", "")),
            f"{trial.user_attrs.get('seconds', 0):.0f}",
            parameters,
            style="bold" if trial.number == found.number else "",
        )
    console.print(table)
    console.print(_comparison(study, config, found))
    gain = (found.value or 0) - (trials[0].value or 0)
    console.print(
        f"trial {found.number} is the best of {len(trials)}: {found.value:.4f} on validation, "
        + (f"{100 * gain:.1f} points above the default" if found.number else "and it is the default")
    )


def _comparison(study: optuna.Study, config: Config, found: FrozenTrial) -> Table:
    importances = _importances(study)
    title = f"trial {found.number} against the default" if found.number else "trial 0, the default"
    table = Table("parameter", "default", "best", title=title)
    if importances:
        table.add_column("importance", justify="right")
    for key in sorted(found.params, key=lambda key: -importances.get(key, 0)):
        row = [key, _text(value_of(config, key)), _text(found.params[key])]
        table.add_row(*row, *([f"{importances.get(key, 0):.2f}"] if importances else []))
    return table


def _importances(study: optuna.Study) -> dict[str, float]:
    """Return each parameter's share of the differences between trials (fANOVA, Hutter et al. 2014)."""
    complete = [trial for trial in ended(study) if trial.state == TrialState.COMPLETE]
    if len(complete) < IMPORTANCE_TRIALS:
        return {}
    return optuna.importance.get_param_importances(study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))


def _line(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": STATES[trial.state],
        "value": value(trial),
        "epochs": trial.user_attrs.get("epochs"),
        "seconds": trial.user_attrs.get("seconds"),
        "parameters": trial.params,
    }


def _short(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def _text(found: Any) -> str:
    return f"{found:.4g}" if isinstance(found, float) else str(found)
