"""Searches hyperparameters with Optuna: asks it for trials, has them trained, gives up the hopeless, tells it the rest.

Only this process writes the study, an SQLite file, so that no kill of any process harms it. A trial whose process is
gone is begun again under its own number, now or by the next start of the search; every number ends exactly once.
"""

from __future__ import annotations

import fcntl
import shutil
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import optuna
import sqlalchemy.exc
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from pydantic import ValidationError

from trainer import first_line
from trainer.config import Config, changed
from trainer.search.space import SearchError, SearchSpace
from trainer.search.trial import Died, Done, Epoch, Event, Outcome, Refused, Workers

STUDY = "emotion-trainer"
SEARCH = "search"
#: So often a trial is begun again when its process dies; then it counts as failed.
LIVES = 3


@contextmanager
def opened_study(path: Path, config: Config, space: SearchSpace) -> Iterator[optuna.Study]:
    """Open the study in the SQLite file `path`, or begin one; it is this process's alone until the end of the block.

    Raises:
        SearchError: the file is no study, is one of another search, or is in use.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    path.parent.mkdir(parents=True, exist_ok=True)
    pruner = optuna.pruners.MedianPruner(space.pruning.trials, n_warmup_steps=space.pruning.epochs)
    with _locked(path):
        try:
            study = optuna.create_study(
                storage=f"sqlite:///{path}",
                study_name=STUDY,
                load_if_exists=True,
                direction="maximize",
                pruner=pruner,
            )
            _check_search(study, path, config, space)
            yield study
        except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.DatabaseError) as error:
            reason = error.__cause__ or error
            raise SearchError(f"{path}: {first_line(reason)}; make room there, or choose another --storage") from None


class Search:
    """Has the trials of a study trained until there are as many as asked for.

    Args:
        study: as `opened_study` gives it.
        config: what is varied.
        space: how.
        folder: of the trials' run folders; each is there only until its trial has ended.
        say: is given a line on whatever happens.
        on_end: called when a trial has ended.
    """

    def __init__(
        self,
        study: optuna.Study,
        config: Config,
        space: SearchSpace,
        folder: Path,
        say: Callable[[str], None],
        on_end: Callable[[], None],
    ) -> None:
        self._study, self._config, self._space = study, config, space
        self._folder, self._say, self._on_end = folder, say, on_end
        self._distributions = space.distributions(config)
        self._running: dict[int, optuna.Trial] = {}
        self._deaths: Counter[int] = Counter()
        # Trials that an earlier process left behind: the number and what was drawn for it stay.
        left = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self._left = deque(optuna.Trial(study, trial._trial_id) for trial in left)

    def run(self, trials: int, workers: Workers) -> None:
        """Go on until `trials` trials have ended, those of earlier starts included.

        Raises:
            SearchError: not even the configuration itself can be trained.
            TrainerError: a trial met something to be put right; the search can be gone on with afterwards.
        """
        self._study.enqueue_trial(self._space.own(self._config), skip_if_exists=True)
        while True:
            while len(self._running) < workers.slots() and (trial := self._next(trials)):
                self._running[trial.number] = trial
                self._start(trial, workers)
            if not self._running:
                return
            for event in workers.wait():
                self._handle(event, workers)

    def _next(self, trials: int) -> optuna.Trial | None:
        if self._left:
            trial = self._left.popleft()
            self._say(f"trial {trial.number}: was cut off; goes on")
        else:
            begun = [t for t in self._study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]
            if len(begun) >= trials:
                return None
            # One generator a trial: what is drawn does not depend on how often the search was cut off.
            seed = int(np.random.SeedSequence([self._config.seed, len(begun)]).generate_state(1)[0])
            self._study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
            trial = self._study.ask()
        for key, distribution in self._distributions.items():
            _draw(trial, key, distribution)
        return trial

    def _start(self, trial: optuna.Trial, workers: Workers) -> None:
        config = changed(self._config, {**self._space.budget, **trial.params})
        workers.start(trial.number, config, self._run_folder(trial.number))

    def _handle(self, event: Event, workers: Workers) -> None:
        trial = self._running.get(event.number)
        if trial is None:  # of a process that was given up for dead
            if isinstance(event, Epoch):
                event.answer(False)
        elif isinstance(event, Epoch):
            event.answer(self._go_on(trial, event.epoch, event.accuracy))
        elif isinstance(event, Done):
            self._tell(trial, event.outcome)
        elif isinstance(event, Died):
            self._again(trial, event.reason, workers)
        elif isinstance(event, Refused):
            raise event.error

    def _go_on(self, trial: optuna.Trial, epoch: int, accuracy: float) -> bool:
        reported = self._study.get_trials(deepcopy=False)[trial.number].intermediate_values
        if epoch not in reported:
            trial.report(accuracy, epoch)
        # The configuration itself, with which the others are compared, runs to its end.
        return trial.number == 0 or not trial.should_prune()

    def _tell(self, trial: optuna.Trial, outcome: Outcome) -> None:
        accuracies = outcome.accuracies
        trial.set_user_attr("epochs", len(accuracies))
        trial.set_user_attr("seconds", round(outcome.seconds, 1))
        if outcome.given_up:
            if trial.number == 0:
                raise SearchError(f"the configuration itself cannot be trained: {outcome.given_up}")
            self._study.tell(trial, state=TrialState.PRUNED)
            self._ended(trial, f"given up after epoch {len(accuracies)}: {outcome.given_up}")
        else:
            value = max(accuracies) if self._config.training.keep == "best" else accuracies[-1]
            self._study.tell(trial, value)
            self._ended(trial, f"{value:.4f} on validation")

    def _again(self, trial: optuna.Trial, reason: str, workers: Workers) -> None:
        self._deaths[trial.number] += 1
        if self._deaths[trial.number] < LIVES:
            self._say(f"trial {trial.number}: {reason}; begun again")
            self._start(trial, workers)
        elif trial.number == 0:
            raise SearchError(f"the configuration itself cannot be trained: {reason}")
        else:
            trial.set_user_attr("reason", reason)
            self._study.tell(trial, state=TrialState.FAIL)
            self._ended(trial, f"{reason}; failed, having died {LIVES} times")

    def _ended(self, trial: optuna.Trial, text: str) -> None:
        del self._running[trial.number]
        shutil.rmtree(self._run_folder(trial.number), ignore_errors=True)
        self._say(f"trial {trial.number}: {text}")
        self._on_end()

    def _run_folder(self, number: int) -> Path:
        return self._folder / f"{number:04d}"


def _draw(trial: optuna.Trial, key: str, distribution: BaseDistribution) -> None:
    """Draw a value for a key, unless one has been drawn or is given."""
    if isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(key, distribution.choices)
    elif isinstance(distribution, IntDistribution):
        trial.suggest_int(key, distribution.low, distribution.high, log=distribution.log)
    elif isinstance(distribution, FloatDistribution):
        trial.suggest_float(key, distribution.low, distribution.high, log=distribution.log)


def _check_search(study: optuna.Study, path: Path, config: Config, space: SearchSpace) -> None:
    """Record what is searched, or check that it is what is recorded."""
    recorded = study.user_attrs.get(SEARCH)
    if recorded is None:
        study.set_user_attr(SEARCH, {"config": config.model_dump(mode="json"), "space": space.model_dump(mode="json")})
        return
    try:
        same = Config.model_validate(recorded["config"]) == config
        same = same and SearchSpace.model_validate(recorded["space"]) == space
    except ValidationError:
        same = False
    if not same:
        raise SearchError(f"{path}: is of another configuration or search space; choose another --storage or remove it")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock beside `path` that ends with this process, however it ends."""
    lock = path.with_name(path.name + ".lock")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SearchError(f"{path}: another search is using it; wait for it or choose another --storage") from None
        yield
