"""A progress bar on stderr that appears only when the work takes longer than a second."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from ssmspec.checkpoint.remote.traffic import told_of_bytes
from ssmspec.errors import printable
from ssmspec.report.quiet import quiet

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE = 1.0  # seconds


class LayerProgress:
    """Context manager and callback (layer name, work done, total work). It is silent if stderr is not a terminal."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.start = time.monotonic()
        self.bar: Progress | None = None
        self.receiving = False

    def __enter__(self) -> "LayerProgress":
        self._bytes = told_of_bytes(self._received)
        self._bytes.__enter__()
        return self

    def _received(self, name: str, count: int) -> None:
        """Bytes of a remote checkpoint that came: shown until there is other work to show."""
        if self.bar is None or self.receiving:
            self.receiving = True
            self(f"{name}: {count / 1e6:.2f} MB read", 0, 0)

    def __call__(self, name: str, done: int, total: int) -> None:
        self.receiving = self.receiving and not total
        if quiet() or not sys.stderr.isatty() or time.monotonic() - self.start < PATIENCE:
            return
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import Progress

        if self.bar is None:
            self.bar = Progress(console=Console(stderr=True), transient=True)
            self.bar.start()
            self.bar.add_task(escape(printable(self.title)), total=total or None)
        self.bar.update(self.bar.task_ids[0], completed=done, total=total or None, description=escape(printable(name)))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bytes.__exit__(kind, error, trace)
        if self.bar is not None:
            self.bar.stop()
