"""The trials of a search, one after the other in this process: train, report to the pruner, and tell the value."""

import math
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ssmspec.errors import SsmspecError, needed
from ssmspec.training.engine.loop import Stopped
from ssmspec.training.engine.run import final_measures
from ssmspec.training.engine.run_folder import STATE, RunConfig
from ssmspec.training.engine.step import NotFiniteError
from ssmspec.training.engine.sweep import Pair, prepare_folder
from ssmspec.training.search.study import (
    ORIGIN,
    OWNER,
    PARTS,
    PROBLEM,
    RELEASED,
    STEPS,
    Search,
    load_study,
    next_trial,
    storage_errors,
    trial_folder,
)
from ssmspec.training.task import Problem, changed


class _Pruned(Exception):  # noqa: N818  (not an error)
    """The pruner stopped the trial."""


def with_pair(config: RunConfig, pair: Pair, seed: int) -> RunConfig:
    """The config with this alpha, beta and seed."""
    alpha, beta = pair
    return replace(config, settings=changed(config.settings, {"alpha": alpha, "beta": beta, "seed": seed}))


def do_trials(search: Search, note: Callable[[str], None], parent: int | None = None) -> None:
    """Do trials until there are as many as the search has.

    Args:
        note: receives a line about each trial after its end. parent: a process with which this one ends, if any.
    Raises:
        SsmspecError: a trial failed for a reason that others would have, too, such as a full disk. Stopped: a signal ended a run, after
            saving. The trial can then be continued.
    """
    study = load_study(search)
    while (trial := next_trial(search, study)) is not None:
        note(_OneTrial(search, study, trial, parent).do())


@dataclass(slots=True)
class _OneTrial:
    """One trial.

    Args:
        parent: as for `do_trials`.
    """

    search: Search
    study: Any
    trial: Any
    parent: int | None
    known: set[int] = field(default_factory=set)
    step: int = 0

    def do(self) -> str:
        """Train and tell the value, and return a line about it."""
        states = needed("optuna", "--search", "search").trial.TrialState
        search, trial = self.search, self.trial
        pair = search.space.pair(trial.params)
        place = trial_folder(search, trial.number)
        goal, steps = search.base.kind.goal, search.base.settings.steps
        head = f"trial {trial.number} ({trial.number + 1} of {search.trials}), alpha {pair[0]:.4g}, beta {pair[1]:.4g}"
        try:
            value = self._value(pair)
            told, text = {"values": value}, f"{goal.name} {value:.4g}"
        except _Pruned:
            told, text = {"state": states.PRUNED}, f"stopped early, after {self.step} of {steps} steps"
        except NotFiniteError as error:  # a drawn one ranks last for the sampler, which ignores failed ones
            self._note(PROBLEM, str(error))
            told, text = {"state": states.FAIL if trial.user_attrs.get(ORIGIN) else states.PRUNED}, str(error)
        except BaseException as error:
            self._note(OWNER, RELEASED)
            if isinstance(error, SsmspecError) and not isinstance(error, Stopped):
                raise SsmspecError(f"{place.name}: {error}") from error
            raise
        self._note(STEPS, self.step)
        with storage_errors(search):
            self.study.tell(trial, **told)
        for path in (*place.glob("*.safetensors"), place / STATE):  # trials are many; the settings that are run again keep theirs
            with suppress(OSError):
                path.unlink()
        return f"{head}: {text}"

    def _note(self, name: str, value: object) -> None:
        with storage_errors(self.search):
            self.trial.set_user_attr(name, value)

    def _value(self, pair: Pair) -> float:
        search = self.search
        config = with_pair(search.base, pair, search.base.settings.seed)
        place = trial_folder(search, self.trial.number)
        prepare_folder(config, place)
        with storage_errors(search):
            self.known = set(self.study.get_trials(deepcopy=False)[self.trial.number].intermediate_values)
        value = search.base.kind.goal.value(final_measures(config, place, self._watch))
        self.step = config.settings.steps
        return self._finite(value)

    def _finite(self, value: float) -> float:
        if not math.isfinite(value):
            raise NotFiniteError(f"{self.search.base.kind.goal.name} is {value} after {self.step} steps")
        return value

    def _watch(self, done: int, problem: Problem) -> None:
        """At the end of each part of the run, tell the pruner the value, and ask it about trials that were drawn."""
        self.step, steps = done, self.search.base.settings.steps
        if self.parent is not None and os.getppid() != self.parent:
            signal.raise_signal(signal.SIGTERM)
        if done not in {steps * part // PARTS for part in range(1, PARTS)}:
            return
        if done not in self.known:  # after a resume, it may be
            value = self._finite(self.search.base.kind.goal.value(problem.measures()))
            with storage_errors(self.search):
                self.trial.report(value, done)
        with storage_errors(self.search):
            if not self.trial.user_attrs.get(ORIGIN) and self.trial.should_prune():
                raise _Pruned
