"""Runs that are killed repeatedly: a fork resumes each run and is killed by SIGKILL at a random moment. In the end the run may finish.

python kill_and_resume.py MOST KILLS FOLDER KILLS FOLDER...: a fork does at most MOST steps before it is killed. Prints how many forks of
every folder were killed, and after how many of the kills metrics and state did not agree.
"""

import gc
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ssmspec.report.training_progress import TrainingProgress
from ssmspec.training.engine.record import read_metrics
from ssmspec.training.engine.run import run
from ssmspec.training.engine.run_folder import read_config

MOMENT = 0.02  # seconds until a kill: longer than a step with its saving takes
AT_MOST = 20  # steps in that time, so that a run on a fast machine is not done before the last kill


def main() -> None:
    most, *rest = sys.argv[1:]
    for kills, folder in zip(map(int, rest[::2]), map(Path, rest[1::2]), strict=True):
        chance, killed, disagreements = random.Random(folder.name), 0, 0
        while killed < kills and attempt(folder, chance, int(most)):
            killed += 1
            disagreements += not agree(folder)
        run(read_config(folder), folder, pictures=False)
        sys.stdout.write(f"{killed} {disagreements}\n")


def attempt(folder: Path, chance: random.Random, most: int) -> bool:
    """Resume the run in a fork and kill it. Returns False if the run finished first."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        gc.disable()  # it would copy all that has been loaded
        TrainingProgress.__call__ = lambda self, done, loss, seconds: os.write(writer, b"x")  # type: ignore[assignment, method-assign]
        run(read_config(folder), folder, pictures=False)
        os._exit(0)
    os.close(writer)
    steps, start = chance.randint(0, most), time.monotonic()
    for _ in range(steps):
        os.read(reader, 1)
    step = (time.monotonic() - start) / max(1, steps)
    time.sleep(chance.uniform(0, min(MOMENT, AT_MOST * step)))
    os.kill(child, signal.SIGKILL)
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def agree(folder: Path) -> bool:
    """Whether every step up to the step of the state has exactly one line."""
    path = folder / "resume.state"
    found: dict[str, Any] = torch.load(path, weights_only=True) if path.exists() else {"step": 0}
    steps = [line["step"] for line in read_metrics(folder / "metrics.jsonl") if line["step"] <= found["step"]]
    return steps == list(range(1, found["step"] + 1))


if __name__ == "__main__":
    main()
