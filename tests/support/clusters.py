"""Real clusters of two workers on the loopback, each a process of its own with a home and a temporary folder of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from locations import HANG, TESTS

RAY_PORTS = {"port": 26379, "ray-client-server-port": 26001, "object-manager-port": 26076, "node-manager-port": 26077}


def environment(folder: Path) -> dict[str, str]:
    """Variables for everything that uses a cluster."""
    own = {"HOME": str(folder), "TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    path = os.pathsep.join([str(TESTS / "support"), *filter(None, sys.path)])
    return os.environ | own | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@contextmanager
def started(command: list[str], ready: str, folder: Path) -> Iterator[str]:
    """The first line that matches `ready` of what a program says, which runs within the block and is ended by its process id."""
    log = folder / "cluster.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment(folder), cwd=folder, start_new_session=True)
        try:
            until = time.monotonic() + HANG
            while (found := re.search(ready, log.read_text(errors="replace"))) is None:
                assert process.poll() is None, log.read_text(errors="replace")[-2000:]
                assert time.monotonic() < until
                time.sleep(0.2)
            yield found[0]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=HANG)


@contextmanager
def ray(folder: Path) -> Iterator[str]:
    """The address of a Ray with two cores."""
    script = str(Path(sys.executable).with_name("ray"))
    options = [f"--{name}={port}" for name, port in RAY_PORTS.items()]
    size = f"--object-store-memory={100 << 20}"
    command = [script, "start", "--head", "--block", "--num-cpus=2", "--include-dashboard=false", "--node-ip-address=127.0.0.1", size]
    with started([*command, f"--temp-dir={folder}", *options], "--block", folder):
        yield f"ray://127.0.0.1:{RAY_PORTS['ray-client-server-port']}"


DASK = """
import logging, time
import dask
from distributed import LocalCluster
dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"})
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL) as cluster:
        print(cluster.scheduler_address, flush=True)
        time.sleep(3600)
"""


@contextmanager
def dask(folder: Path) -> Iterator[str]:
    """The address of a Dask with two workers."""
    script = folder / "cluster.py"
    script.write_text(DASK)
    with started([sys.executable, str(script)], r"tcp://\S+:\d+", folder) as address:
        yield address.replace("tcp://", "dask://")


CLUSTERS = {"ray": ray, "dask": dask}
