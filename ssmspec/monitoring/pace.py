"""When to measure: every N steps, but rarely enough that the time spent stays within a share of the training time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Clock = Callable[[], float]


@dataclass(slots=True)
class Account:
    """Seconds spent on one kind of work, which may take `share` of the seconds of training. None means no limit."""

    share: float | None
    spent: float = 0.0
    last: float = 0.0

    def affords(self, training: float) -> bool:
        """Whether one more, at the cost of the last one, stays within the share."""
        return self.share is None or self.spent + self.last <= self.share * training

    def book(self, seconds: float, *, free: bool) -> None:
        """Record the cost of one measurement. A free one only predicts the cost of the next."""
        self.spent, self.last = self.spent + seconds * (not free), seconds


@dataclass(slots=True)
class Lap:
    """The time of one measurement, part of which is spent on drawing."""

    clock: Clock
    start: float
    drawing: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the start of the measurement."""
        return self.clock() - self.start

    @contextmanager
    def draw(self) -> Iterator[None]:
        """A block that draws and writes pictures."""
        start = self.clock()
        try:
            yield
        finally:
            self.drawing += self.clock() - start


@dataclass(slots=True)
class Pace:
    """Decides which steps of a run are measured.

    A step is measured if it is a multiple of `every`, and if the seconds spent so far plus those of the last measurement are within the
    budget. The interval therefore grows by itself. Half of the budget is reserved for pictures, which would otherwise leave no time for
    the numbers. The first measurement shows what one costs and counts as setup: it is made at once, and the budget is for later ones.

    Args:
        every: least number of steps between measurements.
        images: least number of measurements between pictures; 0 for none.
        budget: share of training time that measuring may take; None measures at every multiple of `every` at any cost.
        clock: a monotonic clock in seconds.
    """

    every: int
    images: int
    budget: float | None
    clock: Clock = time.perf_counter
    statistics: Account = field(init=False)
    drawing: Account = field(init=False)
    first: int | None = None
    setup: float = 0.0
    _started: float = 0.0
    _block: int | None = None
    _lap: Lap | None = None

    def __post_init__(self) -> None:
        half = None if self.budget is None else self.budget / 2
        self.statistics, self.drawing = Account(half if self.images else self.budget), Account(half)

    def start(self, step: int) -> None:
        """Note the first step of a new or resumed run. The pictures of a resumed run continue as if it had never stopped."""
        self.first, self._started = step, self.clock()
        self._block = None if step <= self.every or not self.images else self._block_of(step - 1)

    @property
    def spent(self) -> float:
        """Seconds spent on measuring."""
        return self.statistics.spent + self.drawing.spent

    @property
    def training(self) -> float:
        """Seconds since the start that were not spent on measuring. They do not advance during a measurement."""
        now = self.clock() if self._lap is None else self._lap.start
        return now - self._started - self.spent

    def due(self, step: int) -> bool:
        """Whether to measure after this many steps."""
        return step % self.every == 0 and self.statistics.affords(self.training)

    def draws(self, step: int) -> bool:
        """Whether the measurement after this many steps includes pictures."""
        if not self.images or self._block_of(step) == self._block or not self.drawing.affords(self.training):
            return False
        self._block = self._block_of(step)
        return True

    def _block_of(self, step: int) -> int:
        return step // (self.every * self.images)

    @contextmanager
    def set_up(self) -> Iterator[None]:
        """A block for work done once per run, which counts as `setup` and neither as training nor as measuring."""
        start = self.clock()
        try:
            yield
        finally:
            self._set_up(self.clock() - start)

    def _set_up(self, seconds: float) -> None:
        self.setup += seconds
        self._started += seconds

    @contextmanager
    def measure(self, *, free: bool = False) -> Iterator[Lap]:
        """A block for one measurement, whose time is recorded at its end. A free one counts as setup."""
        self._lap = lap = Lap(self.clock, self.clock())
        try:
            yield lap
        finally:
            seconds, self._lap = lap.seconds, None
            if lap.drawing:
                self.drawing.book(lap.drawing, free=free)
            self.statistics.book(seconds - lap.drawing, free=free)
            if free:
                self._set_up(seconds)
