"""The best settings of a search again, with fresh seeds. Only these runs count, since the value of a winning trial is too good."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssmspec.report.documents.search_results import BASELINE, SUGGEST, Confirmed, SuggestedSetting, TrialRow
from ssmspec.training.engine.record import read_measures
from ssmspec.training.engine.run_folder import MEASURES, RESULTS, RunConfig
from ssmspec.training.engine.step import NotFiniteError
from ssmspec.training.engine.sweep import Pair, one_run
from ssmspec.training.search.study import BASE, Search, starts
from ssmspec.training.search.trials import with_pair

BEST = 5  # trials that are run again, besides the baseline and `suggest`


@dataclass(frozen=True, slots=True)
class Fresh:
    """One run with a fresh seed: its name, its settings and its folder."""

    name: str
    config: RunConfig
    place: Path


def chosen(trials: Sequence[TrialRow], suggested: SuggestedSetting, *, larger: bool) -> dict[str, Pair]:
    """The settings that are run again, by name: the baseline, what `suggest` says, and the best trials that differ from both.

    Args:
        larger: whether larger values are better.
    """
    found = {BASELINE: BASE, **{name: pair for name, pair in starts(suggested).items() if name == SUGGEST}}
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    for trial in sorted(complete, key=lambda each: (-1 if larger else 1) * (each.value or 0.0)):
        pair = (trial.alpha, trial.beta)
        if pair not in found.values() and sum(name not in (BASELINE, SUGGEST) for name in found) < BEST:
            found[f"trial {trial.number}"] = pair
    return found


def fresh_seeds(search: Search, count: int) -> list[int]:
    """The seeds that follow that of the trials."""
    return [search.base.settings.seed + place for place in range(1, count + 1)]


def fresh_runs(search: Search, pairs: Mapping[str, Pair], seeds: Sequence[int]) -> list[Fresh]:
    """All runs of the settings with fresh seeds."""
    runs = []
    for name, pair in pairs.items():
        for seed in seeds:
            config = with_pair(search.base, pair, seed)
            runs.append(Fresh(f"{name}, seed {seed}", config, search.folder / f"{name.replace(' ', '-')}-seed{seed}"))
    return runs


def do_fresh(runs: Sequence[Fresh], note: Callable[[str], None]) -> None:
    """Do the runs that are not done.

    Args:
        note: receives a line about each run after its end.
    Raises:
        SsmspecError, Stopped: as `one_run`, except for a loss that is not finite, which is a result.
    """
    for run in runs:
        if not (run.place / RESULTS).exists():
            try:
                one_run(run.config, run.place)
                note(f"{run.name}: {run.config.kind.goal.name} {value_of(run):.4g}")
            except NotFiniteError as error:
                note(f"{run.name}: {error}")


def value_of(run: Fresh) -> float:
    """The value of a run that was done; NaN if its loss was not finite."""
    steps = 0 if run.config.closed_form else run.config.settings.steps
    measures = read_measures(run.place / MEASURES).get(steps)
    return math.nan if measures is None else run.config.kind.goal.value(measures)


def confirmed(pairs: Mapping[str, Pair], runs: Sequence[Fresh], trials: Sequence[TrialRow]) -> list[Confirmed]:
    """The settings with their values, in the order of the pairs."""
    count = len(runs) // len(pairs)
    searched = {(trial.alpha, trial.beta): trial.value for trial in trials if trial.state == "complete"}
    found = []
    for place, (name, pair) in enumerate(pairs.items()):
        values = tuple(map(value_of, runs[place * count : (place + 1) * count]))
        found.append(Confirmed(name, *pair, searched.get(pair), values))
    return found
