"""Several processes that work on one search: each does trials, or its share of the runs with fresh seeds, and writes lines for the first.

They start with the numbers of threads in their environment, before they import anything that reads them. They have a session of their own,
so that Ctrl-C reaches only the first process, which asks them to save and end.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO

from ssmspec.errors import INTERRUPTED, SsmspecError
from ssmspec.parallel.workplace import thread_environment
from ssmspec.training.engine.loop import Stopped, stoppable
from ssmspec.training.search.confirmation import Fresh, do_fresh
from ssmspec.training.search.study import Search
from ssmspec.training.search.trials import do_trials

CODE = "from ssmspec.training.search.together import serve; serve()"
FAILED = "failed: "  # what the last line of a process begins with that ends with an error
POLL = 0.05  # seconds


class Asked(KeyboardInterrupt):
    """A signal asked this process to end, and the others have saved and ended. The exit code is what a shell reports for the signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def together(search: Search, fresh: Sequence[Fresh], note: Callable[[str], None]) -> None:
    """Let `search.jobs` processes do the trials that are missing, or the runs with fresh seeds.

    What a process leaves undone that ends without a word remains for this process to do.

    Args:
        fresh: the runs with fresh seeds; if empty, trials are done.
    Raises:
        SsmspecError: a process ended with an error. KeyboardInterrupt: a signal ended this process or another one, after all had saved.
    """
    processes: list[subprocess.Popen[bytes]] = []
    errors: list[str] = []
    try:
        with stoppable(impatient=True) as request:
            for place in range(search.jobs):
                processes.append(_start(search, fresh[place :: search.jobs], again=bool(fresh)))
            readers = [threading.Thread(target=_forward, args=(each.stdout, note, errors), daemon=True) for each in processes]
            for reader in readers:
                reader.start()
            asked = False
            while None in [each.poll() for each in processes]:  # asks all, so that none that has ended seems to live
                if request.number and not asked:
                    asked = True
                    for each in processes:
                        each.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    next(each for each in processes if each.returncode is None).wait(POLL)
            for reader in readers:
                reader.join()
    finally:
        for each in processes:
            each.kill()  # does nothing to one that has ended
            each.wait()
            if each.stdout is not None:
                each.stdout.close()
    if errors:
        raise SsmspecError(errors[0])
    if request.number:
        raise Asked(request.number)
    if any(each.returncode == INTERRUPTED for each in processes):
        raise KeyboardInterrupt
    for each in processes:
        if each.returncode:
            note(f"a process of the search ended without a word (exit code {each.returncode}); what it was doing is done again")


def _start(search: Search, fresh: Sequence[Fresh], *, again: bool) -> "subprocess.Popen[bytes]":
    environment = os.environ | thread_environment(search.base.threads)
    process = subprocess.Popen(
        [sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin:
        pickle.dump((search, list(fresh), again), process.stdin)
    return process


def _forward(lines: IO[bytes], note: Callable[[str], None], errors: list[str]) -> None:
    for line in lines:
        text = line.decode(errors="replace").rstrip("\n")
        if text.startswith(FAILED):
            errors.append(text.removeprefix(FAILED))
        else:
            note(text)


def serve() -> None:
    """What each of the processes does."""
    parent = os.getppid()
    lines, sys.stdout = sys.stdout, sys.stderr

    def note(text: str) -> None:
        lines.write(text + "\n")
        lines.flush()

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        search, fresh, again = pickle.load(sys.stdin.buffer)
        if again:
            do_fresh(fresh, note)
        else:
            do_trials(search, note, parent)
    except (KeyboardInterrupt, Stopped):
        sys.exit(INTERRUPTED)
    except SsmspecError as error:
        note(f"{FAILED}{error}")
        sys.exit(error.exit_code)
