"""Where tasks run: how many at once, with how many threads each, and on which cluster."""

import os
from dataclasses import dataclass
from typing import Literal

from ssmspec.backends.threads import cores
from ssmspec.errors import SsmspecError

KINDS: tuple[Literal["ray", "dask"], ...] = ("ray", "dask")
EXPECTED = "give ray or dask, which start a cluster on this machine, or ray://HOST:PORT or dask://HOST:PORT"
BLAS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster of one of the kinds; without an address it is started on this machine."""

    kind: Literal["ray", "dask"]
    address: str | None

    @classmethod
    def of(cls, text: str) -> "Cluster":
        """The cluster that a text names.

        Raises:
            SsmspecError: it names none.
        """
        scheme, separator, place = text.partition("://")
        host, colon, port = place.rpartition(":")
        for kind in KINDS:
            if text == kind:
                return cls(kind, None)
            if scheme == kind and separator and host and colon and port.isdigit():
                return cls(kind, place)
        raise SsmspecError(f"--cluster {text}: not a cluster; {EXPECTED}")


@dataclass(frozen=True, slots=True)
class Workplace:
    """How many tasks run at once, each with so many threads, and on which cluster (None: this machine).

    Jobs times threads is never more than the cores of this machine; `notes` say what was reduced.
    """

    jobs: int = 1
    threads: int = 1
    cluster: Cluster | None = None
    notes: tuple[str, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether everything is done in this process, one item after the other."""
        return self.jobs == 1 and self.cluster is None


def workplace(jobs: int | None, threads: int | None, cluster: str | None = None) -> Workplace:
    """The workplace that a user asks for.

    Args:
        jobs: tasks at once; None is one, on a cluster of this machine as many as there are cores.
        threads: of each task; None shares the cores out.
        cluster: as typed.
    Raises:
        SsmspecError: an unknown cluster, or jobs for one that is already running.
    """
    found = None if cluster is None else Cluster.of(cluster)
    if found is not None and found.address is not None:
        if jobs is not None:
            raise SsmspecError(f"--jobs {jobs} with --cluster {cluster}: that cluster has its own number of workers; leave --jobs out")
        return Workplace(1, threads or 1, found)
    available, notes = cores(), []
    wanted = jobs or (1 if found is None else max(1, available // (threads or 1)))
    used = min(wanted, available)
    if used < wanted:
        notes.append(f"--jobs {wanted}: {used} at a time, because there are {available} cores")
    share = max(1, available // used)
    each = min(threads or (share if found is None else 1), share)
    if threads is not None and each < threads:
        notes.append(f"--threads {threads} with {used} jobs: {each} each, because there are {available} cores")
    return Workplace(used, each, found, tuple(notes))


def fitting_jobs(jobs: int, threads: int) -> Workplace:
    """So many jobs, or as many as fit where each has so many threads: for work whose last bits depend on the number of threads."""
    fitting = max(1, min(jobs, cores() // threads))
    note = f"--jobs {jobs}: {fitting} at a time with --threads {threads}, because there are {cores()} cores"
    return Workplace(fitting, threads, None, (note,) if fitting < jobs else ())


def thread_environment(threads: int) -> dict[str, str]:
    """Variables that give OpenMP (and torch), OpenBLAS, MKL, Accelerate and Numba at most so many threads.

    BLAS gets one unless the user set a number, as in a process without jobs, so that the last bits of its results are the same.
    """
    numbers = {name: os.environ.get(name, "1") for name in BLAS}
    blas = {name: str(min(int(text), threads)) if text.isdigit() and int(text) > 0 else "1" for name, text in numbers.items()}
    return {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads), **blas}
