"""When to measure: every N steps, and seldom enough that the time spent stays within a share of the time of training."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Clock = Callable[[], float]


@dataclass(slots=True)
class Account:
    """Seconds spent on one kind of work, which may take `share` of the seconds of training; None for as much as it needs."""

    share: float | None
    spent: float = 0.0
    last: float = 0.0

    def affords(self, training: float) -> bool:
        """Whether once more, at the last cost, stays within the share."""
        return self.share is None or self.spent + self.last <= self.share * training

    def book(self, seconds: float, *, free: bool) -> None:
        """The cost of one measurement; a free one only says what the next will cost."""
        self.spent, self.last = self.spent + seconds * (not free), seconds


@dataclass(slots=True)
class Lap:
    """One measurement, of whose seconds some are for drawing."""

    clock: Clock
    start: float
    drawing: float = 0.0

    @property
    def seconds(self) -> float:
        """Since its start."""
        return self.clock() - self.start

    @contextmanager
    def draw(self) -> Iterator[None]:
        """The block within which pictures are drawn and written."""
        start = self.clock()
        try:
            yield
        finally:
            self.drawing += self.clock() - start


@dataclass(slots=True)
class Pace:
    """The measured steps of a run.

    A step is measured if it is a multiple of `every` and the seconds spent so far plus those that the last measurement took are within
    the budget; so the interval grows by itself. Pictures have half of the budget for themselves, or they would starve the numbers. The
    first measurement, which says what one costs, is part of setting up: it is made at once, and the budget is for those that follow.

    Args:
        every: steps between measurements, at least.
        images: measurements between pictures, at least; 0 for none.
        budget: share of the seconds of training that measuring may take; None measures at every multiple of `every` whatever it costs.
        clock: seconds, monotonic.
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
        """The first step that was seen, of a new run or of a resumed one, whose pictures then go on as if it had not stopped."""
        self.first, self._started = step, self.clock()
        self._block = None if step <= self.every or not self.images else self._block_of(step - 1)

    @property
    def spent(self) -> float:
        """Seconds spent on measuring."""
        return self.statistics.spent + self.drawing.spent

    @property
    def training(self) -> float:
        """Seconds since the start that were not spent on measuring; they stand still during a measurement."""
        now = self.clock() if self._lap is None else self._lap.start
        return now - self._started - self.spent

    def due(self, step: int) -> bool:
        """Whether to measure after so many steps."""
        return step % self.every == 0 and self.statistics.affords(self.training)

    def draws(self, step: int) -> bool:
        """Whether the measurement after so many steps comes with pictures."""
        if not self.images or self._block_of(step) == self._block or not self.drawing.affords(self.training):
            return False
        self._block = self._block_of(step)
        return True

    def _block_of(self, step: int) -> int:
        return step // (self.every * self.images)

    @contextmanager
    def set_up(self) -> Iterator[None]:
        """A block that counts neither as training nor as measuring, but as `setup`: what is done once per run."""
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
        """One measurement, booked when the block ends; a free one as part of setting up."""
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
