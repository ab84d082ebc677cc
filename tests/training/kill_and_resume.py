"""Runs that are killed again and again: a fork goes on with each and dies by SIGKILL after a delay; at last the run may finish.

python kill_and_resume.py DELAY,DELAY,.. FOLDER...: prints how many forks of every folder were killed before they were done.
"""

import os
import signal
import sys
import time
from pathlib import Path

from ssmspec.training.folder import read_config
from ssmspec.training.run import run


def main() -> None:
    delays = [float(text) for text in sys.argv[1].split(",")]
    for folder in map(Path, sys.argv[2:]):
        sys.stdout.write(f"{kills(folder, delays)}\n")


def kills(folder: Path, delays: list[float]) -> int:
    """How many forks died; the run is finished afterwards."""
    config, killed = read_config(folder), 0
    for delay in delays:
        child = os.fork()
        if not child:
            run(config, folder, pictures=False)
            os._exit(0)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    run(config, folder, pictures=False)
    return killed


if __name__ == "__main__":
    main()
