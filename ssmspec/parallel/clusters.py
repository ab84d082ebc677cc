"""Tasks on Ray and Dask. Either repeats a task whose worker died by itself, so only that task is lost."""

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from multiprocessing import resource_tracker
from typing import Any

from ssmspec.errors import SsmspecError, needed
from ssmspec.parallel.events import WorkerDied, without_interrupts
from ssmspec.parallel.worker import carry_out
from ssmspec.parallel.workplace import Workplace

STARTING = 30  # seconds to wait for the workers of a cluster
RETRIES = 2  # of a task whose worker died, on Ray
OBJECTS = 100 << 20  # bytes of shared memory of a Ray that is started here; results are text and a few numbers


class Ray:
    """Tasks of Ray, one per item. `ray.util.joblib` would lose all of them with one dead worker."""

    largest = 1
    deaths = RETRIES + 1

    def __init__(self, task: bytes, place: Workplace) -> None:
        assert place.cluster is not None
        self._ray: Any = needed("ray", "--cluster ray", "ray")
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        address, quiet = place.cluster.address, {"log_to_driver": False, "logging_level": logging.CRITICAL}
        try:
            if address is not None:
                self._ray.init(f"ray://{address}", **quiet)
            else:
                own = {"num_cpus": place.jobs * place.threads, "include_dashboard": False, "object_store_memory": OBJECTS}
                with without_interrupts():
                    self._ray.init("local", **own, **quiet)
            cores = self._ray.cluster_resources().get("CPU", 0)
            self._task = self._ray.put(task)
        except Exception as error:  # whatever a client raises for a cluster that is not there
            raise _unreachable("ray", address, error) from error
        self.slots = max(1, int(cores // place.threads))
        self._run = self._ray.remote(max_retries=RETRIES, num_cpus=place.threads)(carry_out)

    def submit(self, items: Sequence[Any]) -> Any:
        return self._run.remote(self._task, items)

    def finished(self, handles: Collection[Any]) -> Collection[Any]:
        return self._ray.wait(list(handles), num_returns=1)[0]

    def result(self, handle: Any) -> tuple[float, list[Any]]:
        try:
            return self._ray.get(handle)
        except (self._ray.exceptions.WorkerCrashedError, self._ray.exceptions.OutOfMemoryError) as error:
            raise WorkerDied from error
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error

    def close(self) -> None:
        self._ray.shutdown()

    def abort(self, running: Collection[Any]) -> None:
        for handle in running:
            self._ray.cancel(handle, force=True)
        self._ray.shutdown()


class Dask:
    """Tasks of Dask, one per item, by its own client.

    joblib's backend for Dask waits forever for a task whose worker died too often (`KilledWorker`): it is told of results only.
    """

    largest = 1

    def __init__(self, task: bytes, place: Workplace) -> None:
        assert place.cluster is not None
        distributed: Any = needed("distributed", "--cluster dask", "dask")
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        address, self._cluster = place.cluster.address, None
        self._distributed = distributed
        try:
            if address is None:
                # or a worker that takes 15 s to start again is given up, and a cluster without workers waits forever
                needed("dask", "--cluster dask", "dask").config.set({"distributed.deploy.lost-worker-timeout": "1 hour"})
                options = {"processes": True, "dashboard_address": ":0", "silence_logs": logging.CRITICAL}
                resource_tracker.ensure_running()  # which would let interrupts through again
                with without_interrupts():
                    self._cluster = distributed.LocalCluster(n_workers=place.jobs, threads_per_worker=1, **options)
            self._client = distributed.Client(self._cluster or f"tcp://{address}", timeout=STARTING)
            self._client.wait_for_workers(1, timeout=STARTING)
        except Exception as error:  # as above
            raise _unreachable("dask", address, error) from error
        self.deaths = 1 + int(self._client.run_on_scheduler(_allowed_failures))
        self.slots = max(1, sum(self._client.nthreads().values()))
        self._task = task

    def submit(self, items: Sequence[Any]) -> Any:
        return self._client.submit(carry_out, self._task, items, pure=False)

    def finished(self, handles: Collection[Any]) -> Collection[Any]:
        return self._distributed.wait(list(handles), return_when="FIRST_COMPLETED").done

    def result(self, handle: Any) -> tuple[float, list[Any]]:
        try:
            return handle.result()
        except self._distributed.KilledWorker as error:
            raise WorkerDied from error

    def close(self) -> None:
        self._client.close()
        if self._cluster is not None:
            with suppress(Exception):  # it raises if a worker is just starting again; its processes end with this one
                self._cluster.close()

    def abort(self, running: Collection[Any]) -> None:
        self._client.cancel(list(running), force=True)
        self.close()


def _allowed_failures(dask_scheduler: Any) -> int:
    return int(dask_scheduler.allowed_failures)


def _unreachable(kind: str, address: str | None, error: Exception) -> SsmspecError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    where = f"{kind}://{address}" if address else kind
    advice = "check that it runs and that its version is the one here" if address else "see the message"
    return SsmspecError(f"--cluster {where}: cannot be used ({reason}); {advice}")
