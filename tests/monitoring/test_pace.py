"""When SpectralMonitor measures: with a clock of our own, so that nothing depends on the machine."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmspec.monitoring.pace import Pace


@dataclass
class Run:
    """Training with `step_seconds` per step, where the costs of measurements are given in turn. Records what was done when."""

    pace: Pace
    step_seconds: float
    now: float = 0.0
    measured: list[int] = field(default_factory=list)
    drawn: list[int] = field(default_factory=list)
    overspent: dict[str, list[float]] = field(default_factory=lambda: {"statistics": [], "drawing": []})

    def __post_init__(self) -> None:
        self.pace.clock = lambda: self.now

    def go(self, first: int, last: int, cost: float, drawing: float = 0.0) -> "Run":
        self.pace.start(first)
        for step in range(first, last + 1):
            if self.pace.due(step):
                with self.pace.measure(free=not self.measured) as lap:
                    self.now += cost
                    if self.pace.draws(step):
                        with lap.draw():
                            self.now += drawing
                        self.drawn.append(step)
                self.measured.append(step)
                for name, excess in self.overspent.items():
                    account = getattr(self.pace, name)
                    if account.share and (name == "statistics" or step in self.drawn):
                        excess.append(account.spent - account.share * self.pace.training)
            self.now += self.step_seconds
        return self


def test_without_a_budget_every_multiple_is_measured() -> None:
    run = Run(Pace(10, 3, None), 1e-3).go(0, 100, cost=100.0, drawing=100.0)
    assert run.measured == list(range(0, 101, 10))
    assert run.drawn == [0, 30, 60, 90]


def test_resumed_run_measures_and_draws_the_steps_of_one_that_did_not_stop() -> None:
    whole = Run(Pace(10, 3, None), 1.0).go(1, 200, cost=0.0)
    for stop in range(11, 190):
        parts = [Run(Pace(10, 3, None), 1.0).go(*limits, cost=0.0) for limits in ((1, stop), (stop + 1, 200))]
        assert parts[0].measured + parts[1].measured == whole.measured
        assert parts[0].drawn + parts[1].drawn == whole.drawn


def test_cheap_measurements_keep_the_interval() -> None:
    run = Run(Pace(10, 0, 0.02), step_seconds=1.0).go(0, 1000, cost=0.19)
    assert run.measured == list(range(0, 1001, 10))
    assert run.pace.setup == 0.19
    assert run.pace.spent == pytest.approx(19.0)


def test_interval_stretches_to_the_budget() -> None:
    """5 s of measuring at 2 % need 250 s of training, of which ten steps have 10: every 25th multiple of ten is measured."""
    run = Run(Pace(10, 0, 0.02), step_seconds=1.0).go(0, 2000, cost=5.0)
    assert run.measured == [0, *range(250, 2001, 250)]
    assert run.pace.spent / run.pace.training <= 0.02


def test_pictures_do_not_starve_the_numbers() -> None:
    """Half of 2 % is 1 s per 100 steps: numbers, at 1 s, come with every 100; pictures, at 10 s, with every 1000."""
    run = Run(Pace(10, 1, 0.02), step_seconds=1.0).go(0, 4000, cost=1.0, drawing=10.0)
    assert run.measured == list(range(0, 4001, 100))
    assert run.drawn == [0, 1000, 2000, 3000, 4000]


def test_what_is_done_once_counts_as_neither() -> None:
    run = Run(Pace(1, 0, 0.5), step_seconds=1.0)
    run.pace.start(0)
    with run.pace.set_up():
        run.now += 1000.0
    assert run.pace.training == 0
    assert run.pace.spent == 0
    assert run.pace.setup == 1000.0


@settings(max_examples=60, deadline=None)
@given(
    every=st.integers(1, 20),
    images=st.integers(0, 5),
    budget=st.floats(0.001, 0.5),
    cost=st.floats(1e-4, 10.0),
    drawing=st.floats(1e-4, 10.0),
    step_seconds=st.floats(1e-3, 10.0),
)
def test_neither_kind_of_work_ever_leaves_its_part_of_the_budget(
    every: int, images: int, budget: float, cost: float, drawing: float, step_seconds: float
) -> None:
    run = Run(Pace(every, images, budget), step_seconds).go(0, 400, cost, drawing)
    assert run.measured[0] == 0
    assert all(step % every == 0 for step in run.measured)
    assert bool(run.drawn) == bool(images)
    for excess in run.overspent.values():
        assert all(each <= 1e-9 for each in excess)


def test_measurement_that_grew_dearer_is_made_good_for() -> None:
    run = Run(Pace(10, 0, 0.02), step_seconds=1.0).go(0, 500, cost=0.1)
    run.pace.statistics.book(5.0, free=False)
    run.now += 100.0
    assert not run.pace.due(600)
    while not run.pace.due(600):
        run.now += 1.0
    assert run.pace.spent + 5.0 == pytest.approx(0.02 * run.pace.training, rel=1e-2)
