"""Searches without training: a run takes no time, and its value is a formula of alpha, beta and the seed."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ssmspec.report.documents.train import Measure
from ssmspec.training.engine.run_folder import RunConfig
from ssmspec.training.engine.step import NotFiniteError
from ssmspec.training.search import confirmation, trials

Formula = Callable[[Any, float], float]  # settings and the share of the steps that are done -> value, smaller is better
SPACE = "alpha=log:0.1..100 beta=-2..2"
WAVES = ["train", "waves", "--steps", 24, "--set", "length=64", "--set", "step=0.09", "--set", "tones=[1, 8]", "--set", "batch=4"]


def valley(settings: Any, done: float) -> float:
    """Least at alpha 10, beta 1. It falls while the model is trained."""
    return (math.log10(settings.alpha) - 1) ** 2 + (settings.beta - 1) ** 2 + 1 - done


@dataclass
class Simulated:
    """What the runs of a search do instead of training.

    Args:
        formula: of trials. fresh: of runs with fresh seeds. calls: alpha, beta and seed of every run in order.
        interrupt_at: number of the trial, counted from 0 over this process, that Ctrl-C ends in its middle.
    """

    formula: Formula = valley
    fresh: Formula = valley
    interrupt_at: int | None = None
    calls: list[tuple[float, float, int]] = field(default_factory=list)

    def trial(self, config: RunConfig, folder: Path, watch: Callable[[int, Any], None]) -> list[Measure]:
        settings = config.settings
        self.calls.append((settings.alpha, settings.beta, settings.seed))
        for done in range(1, settings.steps + 1):
            watch(done, _Problem(_checked(self.formula(settings, done / settings.steps))))
            if self.interrupt_at == len(self.calls) - 1 and done == settings.steps // 4:
                raise KeyboardInterrupt
        return _Problem(_checked(self.formula(settings, 1.0))).measures()

    def run(self, config: RunConfig, place: Path) -> None:
        settings = config.settings
        self.calls.append((settings.alpha, settings.beta, settings.seed))
        place.mkdir()
        value = _checked(self.fresh(settings, 1.0))
        line = {"step": settings.steps, "measures": [{"name": "error_1", "value": value, "unit": "", "meaning": ""}]}
        (place / "measures.jsonl").write_text(json.dumps(line) + "\n")
        (place / "results.json").write_text("{}")


@dataclass
class _Problem:
    value: float

    def measures(self) -> list[Measure]:
        return [Measure("error_1", self.value, "", "")]


def _checked(value: float) -> float:
    if not math.isfinite(value):
        raise NotFiniteError(f"the loss is {value} in step 3")
    return value


def simulate(monkeypatch: pytest.MonkeyPatch, formula: Formula = valley, fresh: Formula = valley) -> Simulated:
    """Let searches of this process train nothing."""
    made = Simulated(formula, fresh)
    monkeypatch.setattr(trials, "final_measures", made.trial)
    monkeypatch.setattr(confirmation, "one_run", made.run)
    monkeypatch.setattr("ssmspec.report.figures.style._lay_out", lambda figure, dpi: None)  # of the blank picture of every search
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # of the journal, which takes most of the time
    return made
