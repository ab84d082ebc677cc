"""A progress bar on stderr that appears only when the work takes longer than a second."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from ssmspec.errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE = 1.0  # seconds


class LayerProgress:
    """Context manager and callback (layer name, work done, total work). It is silent if stderr is not a terminal."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.start = time.monotonic()
        self.bar: Progress | None = None

    def __enter__(self) -> "LayerProgress":
        return self

    def __call__(self, name: str, done: int, total: int) -> None:
        if not sys.stderr.isatty() or time.monotonic() - self.start < PATIENCE:
            return
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import Progress

        if self.bar is None:
            self.bar = Progress(console=Console(stderr=True), transient=True)
            self.bar.start()
            self.bar.add_task(escape(printable(self.title)), total=total)
        self.bar.update(self.bar.task_ids[0], completed=done, total=total, description=escape(printable(name)))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.stop()
