"""A progress bar on stderr that appears only when the work takes longer than a second."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from ssmspec.checkpoint.remote.traffic import Opened, told_of_bytes
from ssmspec.errors import printable
from ssmspec.report.quiet import quiet

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE = 1.0  # seconds


class LayerProgress:
    """Context manager and callback (layer name, work done, total work). It is silent if stderr is not a terminal.

    `opened`: the remote checkpoints that were opened within the block, with what was read of them.
    """

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.bar: Progress | None = None
        self.working = False
        self.opened: list[Opened] = []

    def __enter__(self) -> "LayerProgress":
        self._bytes = told_of_bytes(self._received)
        self.opened = self._bytes.__enter__()
        return self

    def _received(self, name: str, count: int, total: int) -> None:
        """Bytes of a remote checkpoint that came, of those asked for: shown until there is other work to show."""
        if not self.working:
            self._show(f"{name}: {count / 1e6:.2f} of {total / 1e6:.2f} MB read", count, total)

    def __call__(self, name: str, done: int, total: int) -> None:
        self.working = True
        self._show(name, done, total)

    def _show(self, name: str, done: int, total: int) -> None:
        if quiet() or not sys.stderr.isatty() or time.monotonic() - self.start < PATIENCE:
            return
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import Progress

        if self.bar is None:
            self.bar = Progress(console=Console(stderr=True), transient=True)
            self.bar.add_task(escape(printable(name)), completed=done, total=total or None)
            self.bar.start()
        self.bar.update(self.bar.task_ids[0], completed=done, total=total or None, description=escape(printable(name)))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bytes.__exit__(kind, error, trace)
        if self.bar is not None:
            self.bar.stop()
