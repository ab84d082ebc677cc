"""What happens to workers: a death, and a Ctrl-C that is not for them."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class WorkerDied(Exception):  # noqa: N818  (an event: the task may be run again)
    """The process of a task ended in the middle of it, of itself or from outside."""


@contextmanager
def without_interrupts() -> Iterator[None]:
    """A block whose new processes and threads leave Ctrl-C to this thread, even before they have set themselves up."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
