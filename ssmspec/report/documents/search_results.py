"""The results of a search for alpha and beta: its trials, the settings that were run again with fresh seeds, and what they say."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

BASELINE, SUGGEST = "baseline", "suggest"

State = Literal["complete", "stopped early", "failed", "running"]


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One trial.

    Args:
        number: counted from 0. alpha, beta: its setting. state: "stopped early" by the pruner, or because the loss was not finite.
        value: its last value; None if none was measured. steps: number of steps at which it was measured.
        origin: "" for a drawn trial; else what it was enqueued for. problem: why it failed, or "".
    """

    number: int
    alpha: float
    beta: float
    state: State
    value: float | None
    steps: int
    origin: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A setting that was run again with fresh seeds.

    Args:
        name: "baseline", "suggest" or the name of a trial. searched: its value in the search, or None.
        values: one per fresh seed; NaN where the loss was not finite.
    """

    name: str
    alpha: float
    beta: float
    searched: float | None
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def spread(self) -> float:
        """Sample standard deviation over the seeds."""
        return stdev(self.values) if all(map(math.isfinite, self.values)) else math.nan

    @property
    def label(self) -> str:
        return f"alpha {self.alpha:.4g}, beta {self.beta:.4g}"


@dataclass(frozen=True, slots=True)
class SuggestedSetting:
    """What `suggest` says for the training data and the first layer.

    Args:
        alpha: its range of alpha. middle: geometric mean of the range, which stands for it. beta: its beta, or 0 if it advises none.
        error: its uncertainty of beta, or None. unadvised: a beta that it gives and does not advise, or None.
        notes: what it says about the values.
        reason: why there are no values, or "". document: all numbers, as `suggest --json` prints them.
    """

    alpha: tuple[float, float] | None = None
    middle: float | None = None
    beta: float | None = None
    error: float | None = None
    unadvised: float | None = None
    notes: tuple[str, ...] = ()
    reason: str = ""
    document: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class SearchSummary:
    """All results of a search.

    Args:
        title: task and preset. command: the command that was typed. goal: what was improved. larger: whether larger is better.
        space: the text of the ranges. seed: seed of the search and of its trials. jobs: number of processes.
        trials: all trials by number. seeds: the fresh seeds. confirmed: the settings that were run with them; the baseline comes first.
        suggested: what `suggest` says. best_command: the command that trains with the best setting. notes: what else to know.
    """

    title: str
    command: str
    goal: str
    larger: bool
    space: str
    seed: int
    jobs: int
    trials: Sequence[TrialRow]
    seeds: Sequence[int]
    confirmed: Sequence[Confirmed]
    suggested: SuggestedSetting
    best_command: str
    notes: Sequence[str]

    @property
    def baseline(self) -> Confirmed:
        return self.confirmed[0]

    @property
    def best(self) -> Confirmed:
        """The setting with the best mean over the fresh seeds, of those whose gain exceeds its spread, if any.

        The baseline if none is finite.
        """
        finite = [each for each in self.confirmed if math.isfinite(each.mean)] or [self.baseline]
        sure = [each for each in finite if each is not self.baseline and self.exceeds(each)]
        return max(sure or finite, key=lambda each: self._sign * each.mean)

    @property
    def _sign(self) -> int:
        return 1 if self.larger else -1

    def gain(self, one: Confirmed, over: Confirmed | None = None) -> float:
        """By how much a setting is better than the baseline, or than another setting. Negative: worse."""
        return self._sign * (one.mean - (over or self.baseline).mean)

    def gain_spread(self, one: Confirmed, over: Confirmed | None = None) -> float:
        """Standard deviation of the difference between a run with one setting and a run with another, from the spreads of both."""
        return math.hypot(one.spread, (over or self.baseline).spread)

    def exceeds(self, one: Confirmed, over: Confirmed | None = None) -> bool:
        """Whether the gain is larger than its spread."""
        return self.gain(one, over) > self.gain_spread(one, over)

    def named(self, name: str) -> Confirmed | None:
        """The confirmed setting with this name, if any."""
        return next((each for each in self.confirmed if each.name == name), None)
