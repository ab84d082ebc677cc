"""Runs with several processes, as torchrun would start them, but as forks of a process that has loaded torch already.

python together.py FILE, with a list of jobs in it as JSON:
    {"folder": a run folder, "count": processes, "timeout": seconds, "event": {"rank": who, "step": when, "kind": "TERM", .. or "error"}}
Prints the outcome of every process of every job: "finished", "quiet", the text of an error, or minus the signal that ended it.
"""

import gc
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from ssmspec.errors import SsmspecError
from ssmspec.training.engine import processes
from ssmspec.training.engine.run import run_together
from ssmspec.training.engine.run_folder import read_config
from ssmspec.training.engine.step import Stepper

LONGEST = 600.0  # seconds of a job; then what is left of it is killed


def main() -> None:
    jobs = json.loads(Path(sys.argv[1]).read_text())
    sys.stdout.write(json.dumps([together(job) for job in jobs]))


def together(job: dict[str, Any]) -> list[Any]:
    """A job."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    readers, children = [], []
    for rank in range(job["count"]):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            gc.disable()  # it would copy all that has been loaded
            environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": job["count"], "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            os.environ.update({key: str(value) for key, value in environment.items()})
            os.write(writer, json.dumps(outcome(job, rank)).encode())
            os._exit(0)
        os.close(writer)
        readers.append(reader)
        children.append(child)
    answers: list[Any] = [None] * job["count"]
    end = time.monotonic() + LONGEST
    while None in answers and time.monotonic() < end:
        time.sleep(0.01)
        for rank, (child, reader) in enumerate(zip(children, readers, strict=True)):
            if answers[rank] is None and (status := os.waitpid(child, os.WNOHANG))[0]:
                code = os.waitstatus_to_exitcode(status[1])
                answers[rank] = json.loads(os.read(reader, 10_000)) if code == 0 else code
        if None in answers and job["count"] - answers.count(None) and job.get("event", {}).get("kind") == "STOP":
            os.kill(children[job["event"]["rank"]], signal.SIGKILL)
    for rank, child in enumerate(children):
        if answers[rank] is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            answers[rank] = "hangs"
    return answers


def outcome(job: dict[str, Any], rank: int) -> str:
    """The outcome of one process."""
    processes.TIMEOUT = job.get("timeout", processes.TIMEOUT)
    folder, event = Path(job["folder"]), job.get("event", {})
    if event.get("rank") == rank:
        interrupt(event)
    try:
        finished = run_together(lambda: read_config(folder), folder, pictures=False)
    except SsmspecError as error:
        return f"{error} [{error.exit_code}]"
    return "quiet" if finished is None else "finished"


def interrupt(event: dict[str, Any]) -> None:
    """Let something happen to this process before a step, counted from 1."""
    step = Stepper.__call__

    def interrupted(self: Stepper, stop: int = 0) -> tuple[float, int]:
        if self.state.step + 1 == event["step"]:
            if event["kind"] == "error":
                raise SsmspecError("something is wrong here")
            os.kill(os.getpid(), getattr(signal, f"SIG{event['kind']}"))
        return step(self, stop)

    Stepper.__call__ = interrupted  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
