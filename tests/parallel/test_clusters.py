"""Real clusters of two workers: the bytes of one job, and what a dead worker costs. Each takes about a minute to start and stop."""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import clusters
import pytest
from locations import HANG
from program import checkpoint, s4d_tensors

pytestmark = pytest.mark.nightly
PACKAGES = {"ray": "ray", "dask": "distributed"}


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder with a short name: sockets of Ray are in it."""
    with tempfile.TemporaryDirectory(prefix="c", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="module", params=PACKAGES)
def cluster(request: pytest.FixtureRequest, place: Path) -> Iterator[str]:
    """The address of a running one."""
    if importlib.util.find_spec(PACKAGES[request.param]) is None:
        pytest.skip(f"{PACKAGES[request.param]} is not installed")
    home = place / request.param
    home.mkdir()
    with clusters.CLUSTERS[request.param](home) as address:
        yield address


def run(place: Path, *command: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, far from the cluster."""
    words = [sys.executable, *map(str, command)]
    environment = clusters.environment(place) | variables
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=place, env=environment, timeout=HANG)


def test_the_bytes_are_those_of_one_job(cluster: str, place: Path) -> None:
    files = [checkpoint(place, s4d_tensors(layers=layers), f"m{layers}.safetensors") for layers in range(1, 7)]
    files[2].write_bytes(files[2].read_bytes()[:90])
    options = ("-m", "ssmspec", "analyze", *files, "--points", "16", "--json")
    alone, together = run(place, *options), run(place, *options, "--cluster", cluster)
    assert together.returncode == alone.returncode == 2
    assert together.stdout == alone.stdout
    assert "m3.safetensors: truncated" in together.stderr
    assert len(json.loads(together.stdout)) == 5


DEADLY = """
import json, sys, worker_tasks
from ssmspec.parallel.in_order import each_in_order
from ssmspec.parallel.workplace import workplace
if __name__ == "__main__":
    items = [(number, sys.argv[2]) for number in range(9)]
    found = list(each_in_order(worker_tasks.deadly, items, workplace(None, None, sys.argv[1])))
    print(json.dumps([one if isinstance(one, int) else ["lost", one.item[0], one.times > 1] for one in found]))
"""


def test_a_dead_worker_costs_its_piece_only(cluster: str, place: Path, tmp_path: Path) -> None:
    """2 kills its worker once and is repeated, 5 every time."""
    done = run(place, "-c", DEADLY, cluster, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0, 1, 2, 3, 4, ["lost", 5, True], 6, 7, 8]
    assert (tmp_path / "killed").exists()


def test_nobody_there_is_one_line(place: Path) -> None:
    file = checkpoint(place, s4d_tensors(), "m.safetensors")
    for kind, package in PACKAGES.items():
        if importlib.util.find_spec(package) is not None:
            done = run(place, "-m", "ssmspec", "check", file, "--cluster", f"{kind}://127.0.0.1:9")
            assert done.returncode == 2
            assert done.stderr.splitlines()[-1].startswith(f"ssmspec: --cluster {kind}://127.0.0.1:9: cannot be used")
