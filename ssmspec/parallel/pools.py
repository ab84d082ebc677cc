"""What runs tasks elsewhere: processes of this machine through joblib's loky, Ray, or Dask. All of them have the same few methods."""

import multiprocessing
import time
from collections.abc import Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from typing import Any, Protocol

from ssmspec.parallel.events import WorkerDied, without_interrupts
from ssmspec.parallel.worker import begin, carry_out
from ssmspec.parallel.workplace import Workplace, thread_environment

GRACE = 0.5  # seconds that tasks have to clean up after Ctrl-C


class Pool(Protocol):
    """Workers. A task is some items; its handle stands for its result.

    `slots`: tasks that run at the same time. `largest`: items of a task, at most. `deaths`: how often the worker of a task dies before
    the pool gives up; more than 1 where it runs the task again by itself.
    """

    slots: int
    largest: int
    deaths: int

    def submit(self, items: Sequence[Any]) -> Any:
        """Hand a task over; returns its handle."""

    def finished(self, handles: Collection[Any]) -> Collection[Any]:
        """Waits until one or more of these are done, and returns them."""

    def result(self, handle: Any) -> tuple[float, list[Any]]:
        """Seconds and results of a task that is done.

        Raises:
            WorkerDied: its worker died. Exception: whatever the function raised.
        """

    def close(self) -> None:
        """End the workers, which have nothing to do."""

    def abort(self, running: Collection[Any]) -> None:
        """End the workers now, whatever they do. `running`: the handles of tasks whose results nobody took."""


def open_pool(place: Workplace, task: bytes) -> Pool:
    """The pool of a workplace that is not this process.

    Args:
        task: as made by `packed`.
    Raises:
        SsmspecError: a package is missing, or the cluster cannot be reached.
    """
    if place.cluster is None:
        return Loky(task, place.jobs, place.threads)
    from ssmspec.parallel import clusters  # whose packages are extras

    return clusters.Ray(task, place) if place.cluster.kind == "ray" else clusters.Dask(task, place)


class Loky:
    """Processes of this machine. One that dies takes the others along."""

    largest = 64
    deaths = 1

    def __init__(self, task: bytes, jobs: int, threads: int) -> None:
        from joblib.externals.loky import ProcessPoolExecutor

        self.slots, self._task = jobs, task
        before = set(multiprocessing.active_children())
        with without_interrupts():
            self._executor = ProcessPoolExecutor(jobs, timeout=None, initializer=begin, env=thread_environment(threads))
        self._before = before

    def submit(self, items: Sequence[Any]) -> Any:
        with without_interrupts():  # the first one starts the processes, which inherit this
            return self._executor.submit(carry_out, self._task, items)

    def finished(self, handles: Collection[Any]) -> Collection[Any]:
        return wait(handles, return_when=FIRST_COMPLETED).done

    def result(self, handle: Any) -> tuple[float, list[Any]]:
        from joblib.externals.loky.process_executor import BrokenProcessPool  # TerminatedWorkerError is one

        try:
            return handle.result()
        except BrokenProcessPool as error:
            raise WorkerDied from error

    def close(self) -> None:
        self._executor.shutdown(wait=True, kill_workers=True)

    def abort(self, running: Collection[Any]) -> None:
        with without_interrupts():
            ours = [process for process in multiprocessing.active_children() if process not in self._before]
            for process in ours:
                process.terminate()
            until = time.monotonic() + GRACE
            for process in ours:
                process.join(max(0.0, until - time.monotonic()))
            self._executor.shutdown(wait=True, kill_workers=True)
