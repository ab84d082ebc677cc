"""A function applied to many items: order, deaths of workers, errors, threads, Ctrl-C."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import worker_tasks
from locations import HANG, TESTS

from ssmspec.errors import SsmspecError
from ssmspec.parallel import workplace as places
from ssmspec.parallel.in_order import Lost, _Waiting, each_in_order
from ssmspec.parallel.workplace import Cluster, Workplace, thread_environment, workplace

TWO = Workplace(2, 1)


def test_results_come_in_order_even_if_the_first_is_the_last(tmp_path: Path) -> None:
    items = [(number, str(tmp_path)) for number in range(6)]
    assert list(each_in_order(worker_tasks.first_is_last, items, TWO)) == list(range(6))


def test_whatever_finishes_first_waits_for_its_turn() -> None:
    order = list(range(50))
    random.Random(0).shuffle(order)
    found = []
    with _Waiting() as waiting:
        for number in order:
            waiting.put(number, {"number": number})
            found += list(waiting.next_ones())
    assert found == [{"number": number} for number in range(50)]


def test_alone_means_in_this_process() -> None:
    assert list(each_in_order(lambda number: (os.getpid(), number), [1, 2], Workplace())) == [(os.getpid(), 1), (os.getpid(), 2)]


def test_after_a_death_the_unfinished_are_run_again_one_by_one(tmp_path: Path) -> None:
    items = [(number, str(tmp_path)) for number in range(9)]
    found = list(each_in_order(worker_tasks.deadly, items, TWO))
    assert found == [Lost(item, 2) if item[0] == 5 else item[0] for item in items]
    assert (tmp_path / "killed").exists()


def test_an_error_ends_everything() -> None:
    before = set(multiprocessing.active_children())
    with pytest.raises(SsmspecError, match="three is refused"):
        list(each_in_order(worker_tasks.refused, range(100), TWO))
    assert set(multiprocessing.active_children()) <= before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_tasks_have_their_threads_and_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    [found, other] = each_in_order(worker_tasks.threads, [0, 1], Workplace(2, 3))
    assert found == other
    assert found == {
        "OMP_NUM_THREADS": "3",
        "NUMBA_NUM_THREADS": "3",
        "OPENBLAS_NUM_THREADS": "3",
        "MKL_NUM_THREADS": "1",
        "VECLIB_MAXIMUM_THREADS": "1",
        "engine": "3",
        "folder": str(tmp_path),
    }


@pytest.mark.parametrize(
    ("cores", "jobs", "threads", "expected"),
    [
        (8, None, None, (1, 8)),
        (8, 2, None, (2, 4)),
        (8, 3, None, (3, 2)),
        (8, 4, 4, (4, 2)),
        (8, 20, None, (8, 1)),
        (1, 2, None, (1, 1)),
        (8, 2, 1, (2, 1)),
    ],
)
def test_jobs_times_threads_never_exceed_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, jobs: int | None, threads: int | None, expected: tuple[int, int]
) -> None:
    monkeypatch.setattr(places, "cores", lambda: cores)
    found = workplace(jobs, threads)
    assert (found.jobs, found.threads) == expected
    assert found.jobs * found.threads <= cores
    assert bool(found.notes) == ((jobs or 1) > found.jobs or (threads or 0) > found.threads)


def test_blas_keeps_the_number_of_the_user_if_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, expected in (("2", "2"), ("9", "4"), ("x", "1"), ("0", "1")):
        monkeypatch.setenv("MKL_NUM_THREADS", given)
        assert thread_environment(4)["MKL_NUM_THREADS"] == expected


def test_clusters_are_named_by_kind_and_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "cores", lambda: 4)
    assert Cluster.of("ray") == Cluster("ray", None)
    assert Cluster.of("dask://login-1:8786") == Cluster("dask", "login-1:8786")
    for wrong in ("spark", "ray://", "ray://host", "dask://:1", "dask://host:port", "rayy://a:1", ""):
        with pytest.raises(SsmspecError, match="not a cluster; give ray or dask"):
            Cluster.of(wrong)
    assert workplace(None, None, "dask").jobs == 4
    assert workplace(None, 2, "ray").jobs == 2
    assert workplace(None, None, "ray://a:1") == Workplace(1, 1, Cluster("ray", "a:1"))
    with pytest.raises(SsmspecError, match="leave --jobs out"):
        workplace(2, None, "ray://a:1")


INTERRUPTED = """
import sys
sys.path[:0] = [sys.argv[1]]
import worker_tasks
from ssmspec.parallel.in_order import each_in_order
from ssmspec.parallel.workplace import Workplace
try:
    list(each_in_order(worker_tasks.unfinished, [(number, sys.argv[2]) for number in range(9)], Workplace(2, 1)))
except KeyboardInterrupt:
    print("ended")
"""


def running_in(group: int) -> list[str]:
    """The processes of a group that have not ended."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = place.read_text().rpartition(") ")
            state, _, its_group, *_ = rest.split()
            if int(its_group) == group and state != "Z":
                found.append(name)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_ctrl_c_ends_all_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(TESTS / "support"), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while len(list(tmp_path.glob("*.begun"))) < 2:
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        out, err = process.communicate(timeout=HANG)
    assert (out, err, process.returncode) == ("ended\n", "", 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.begun", "1.begun"]
    while running_in(process.pid):  # joblib's own process that watches over semaphores ends a moment later
        time.sleep(0.01)
