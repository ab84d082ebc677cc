"""The progress bar of a training run: steps, loss, time per step and time left. It is silent if stderr is not a terminal."""

import sys
import time
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING

from ssmspec.errors import printable
from ssmspec.report.quiet import quiet

if TYPE_CHECKING:
    from rich.progress import Progress

PERIOD = 0.1  # seconds between two updates of the terminal


class TrainingProgress:
    """Context manager and callback (steps done, loss, mean seconds per step)."""

    def __init__(self, title: str, done: int, total: int) -> None:
        self.title, self.first, self.total = title, done, total
        self.shown = 0.0
        self.bar: Progress | None = None

    def __enter__(self) -> "TrainingProgress":
        if sys.stderr.isatty() and not quiet():
            self.bar = self._bar()
            self.bar.start()
            self.bar.add_task(printable(self.title), completed=self.first, total=self.total, loss="", step="", left="")
        return self

    def _bar(self) -> "Progress":
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}", markup=False),
            TextColumn("{task.fields[step]}", markup=False),
            TextColumn("{task.fields[left]}", markup=False),
        )
        return Progress(*columns, console=Console(stderr=True), transient=True)

    def __call__(self, done: int, loss: float, seconds: float) -> None:
        now = time.monotonic()
        if self.bar is None or (now - self.shown < PERIOD and done < self.total):
            return
        self.shown = now
        left = f"{timedelta(seconds=round(seconds * (self.total - done)))} left"
        self.bar.update(self.bar.task_ids[0], completed=done, loss=f"loss {loss:.4g}", step=f"{1000 * seconds:.4g} ms/step", left=left)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.stop()
