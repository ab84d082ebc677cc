"""Processes that are forks of one that has loaded torch and the program, since loading them takes longer than what most of them do.

`start("-m", "ssmspec", ...)` does what `python -m ssmspec ...` does, and `start("script.py", ...)` what `python script.py ...` does.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from locations import HANG


@dataclass
class Forked:
    """A process that was started: its number, and the folder of what it prints."""

    pid: int
    printed: TemporaryDirectory[str]
    ended: subprocess.CompletedProcess[str] | None = None

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def poll(self) -> int | None:
        """Its exit code, minus the signal that ended it, or None while it runs."""
        code = None if self.ended else _asked({"poll": self.pid})
        if code is not None:
            out, err = (Path(self.printed.name, name).read_text(encoding="utf-8") for name in ("out", "err"))
            self.printed.cleanup()
            self.ended = subprocess.CompletedProcess([], code, out, err)
        return self.ended.returncode if self.ended else None

    def wait(self) -> subprocess.CompletedProcess[str]:
        """How it ended, and what it printed.

        Raises:
            subprocess.TimeoutExpired: it hangs. It is killed.
        """
        end = time.monotonic() + HANG
        while self.poll() is None:
            if time.monotonic() > end:
                self.send_signal(signal.SIGKILL)
                raise subprocess.TimeoutExpired([], HANG)
            time.sleep(0.01)
        assert self.ended is not None
        return self.ended


def start(*words: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> Forked:
    """A process that does what `python WORDS` does."""
    printed = TemporaryDirectory()
    asked = {"words": list(map(str, words)), "cwd": str(cwd or Path.cwd()), "printed": printed.name}
    return Forked(_asked(asked | {"environment": dict(environment or os.environ)}), printed)


def run(*words: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Like `start`; waits for its end."""
    return start(*words, cwd=cwd, environment=environment).wait()


def _asked(question: dict[str, Any]) -> Any:
    parent = _parent()
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write(json.dumps(question) + "\n")
    parent.stdin.flush()
    return json.loads(parent.stdout.readline())


@cache
def _parent() -> subprocess.Popen[str]:
    """The process that forks."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )

    @atexit.register
    def end() -> None:
        parent.communicate()

    return parent


# --- in the process that forks ---


def serve() -> None:
    """Fork and tell how forks ended, as the lines on standard input ask, until there are no more."""
    load()
    gc.collect()
    gc.freeze()
    gc.disable()  # in the forks it would copy all that has been loaded
    answers = os.dup(1)
    for line in sys.stdin:
        asked = json.loads(line)
        if "poll" in asked:
            pid, status = os.waitpid(asked["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if not answer:
                os.close(answers)
                _become(asked)
        os.write(answers, f"{json.dumps(answer)}\n".encode())


def load() -> None:
    """What these processes load, with what two steps of training load."""
    import torch._dynamo
    import torch.distributed.run
    from program import command
    from quick_runs import QUICK, finished, replace

    command()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        finished(Path(folder, "run"), replace(QUICK, steps=2))


def _become(asked: dict[str, Any]) -> None:
    """The process that was asked for. Never returns."""
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["cwd"])
    for descriptor, name in enumerate((os.devnull, f"{asked['printed']}/out", f"{asked['printed']}/err")):
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, descriptor)
        os.close(file)
    leave_with(asked["words"])


def leave_with(words: Sequence[str]) -> None:
    """Do what `python WORDS` does, and end with its exit code."""
    code: object = 1
    try:
        if words[0] == "-m":
            sys.argv = list(words[1:])
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(words)
            sys.path.insert(0, str(Path(words[0]).parent))
            runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    serve()
    os._exit(0)  # at a regular end, libraries complain about what was not taken down
