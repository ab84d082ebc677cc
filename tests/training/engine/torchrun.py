"""`torchrun ...`, whose processes are forks, so that none has to load torch: python torchrun.py COUNT ARGUMENTS of torchrun.

They begin to wait for what they are to do before torchrun starts threads, after which a process should not fork.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

from preloaded import leave_with
from torch.distributed import run
from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler


class Waiting:
    """A process that waits for what it is to do; then torchrun uses it like a `subprocess.Popen`."""

    def __init__(self) -> None:
        reader, self.writer = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            gc.disable()
            os.setsid()
            os.close(self.writer)
            with os.fdopen(reader) as told:
                words, environment = json.loads(told.readline())  # the next process holds the other end, too
            os.environ.clear()
            os.environ.update(environment)
            leave_with(words)
        os.close(reader)

    def begin(self, words: tuple[str, ...], environment: dict[str, str]) -> "Waiting":
        """Lets it do what `python WORDS` does."""
        with os.fdopen(self.writer, "w") as tell:
            tell.write(json.dumps([words, environment]) + "\n")
        return self

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired([], timeout)
            time.sleep(0.01)
        return code


def main() -> None:
    """Run torchrun."""
    count, *arguments = sys.argv[1:]
    waiting = [Waiting() for _ in range(int(count))]

    def popen(self: SubprocessHandler, words: tuple[str, ...], environment: dict[str, str]) -> Any:
        python, unbuffered, *rest = words
        assert (python, unbuffered) == (sys.executable, "-u")
        return waiting.pop(0).begin(tuple(rest), environment)

    SubprocessHandler._popen = popen  # type: ignore[assignment, method-assign]
    try:
        run.main(arguments)
    finally:
        for each in waiting:
            os.kill(each.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
