"""The Cauchy sum of the engine `cpu` against a plain C++ loop, compiled here with -O3 -march=native -ffast-math."""

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.backends.threads import thread_count
from ssmspec.benchmarks.cauchy import DOUBLE, SINGLE, CauchyProblem, Precision, cauchy_problem
from ssmspec.benchmarks.contest import Contest, PeerMissing
from ssmspec.benchmarks.sizes import Sizes

FLAGS = ("-O3", "-march=native", "-ffast-math")
COMPILERS = ("c++", "g++", "clang++")


@contextmanager
def versus_cpp(sizes: Sizes, *, precision: Precision) -> Iterator[Contest]:
    """Both sides in the same precision and with all cores; the compiler is $CXX or one of `COMPILERS`."""
    problem = cauchy_problem(sizes.K, sizes.N, sizes.F, precision)
    with tempfile.TemporaryDirectory(prefix="ssmspec-bench-", ignore_cleanup_errors=True) as folder:
        compiler, library = _build(Path(folder))
        function = getattr(library, f"cauchy_{precision}")

        def peer() -> npt.NDArray[Any]:
            return _call(function, problem)

        yield Contest(
            ours=problem.ours,
            peer=peer,
            values=lambda: ([problem.ours()], [peer()]),
            tolerance=DOUBLE if precision == "float64" else SINGLE,
            size=problem.size,
            facts={"compiler": compiler, "flags": " ".join(FLAGS), "threads": thread_count()},
        )


def _call(function: Any, problem: CauchyProblem) -> npt.NDArray[Any]:
    sums = np.empty((len(problem.poles), problem.y.shape[1]), problem.poles.dtype)
    arrays = (problem.residues, problem.poles, problem.x, problem.y, sums)
    function(*(ctypes.c_long(n) for n in (thread_count(), *problem.size.values())), *(ctypes.c_void_p(a.ctypes.data) for a in arrays))
    return sums


def _build(folder: Path) -> tuple[str, ctypes.CDLL]:
    """Name of the compiler, and the compiled library.

    Linking is a separate step without -ffast-math, because with it gcc adds code that makes the whole process flush subnormals to zero.
    """
    compiler = next((found for name in (os.environ.get("CXX"), *COMPILERS) if name and (found := shutil.which(name))), None)
    if compiler is None:
        raise PeerMissing(f"no C++ compiler was found (looked for $CXX, {', '.join(COMPILERS)})")
    library, unlinked = folder / "cauchy.so", folder / "cauchy.o"
    with as_file(files("ssmspec.benchmarks") / "cauchy.cpp") as source:
        _run(compiler, *FLAGS, "-fPIC", "-pthread", "-c", str(source), "-o", str(unlinked))
    _run(compiler, "-shared", "-pthread", str(unlinked), "-o", str(library))
    try:
        return _version(compiler), ctypes.CDLL(str(library))
    except OSError as error:
        raise PeerMissing(f"the compiled loop cannot be loaded: {error}") from error


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        first = next(iter(done.stderr.splitlines()), f"exit code {done.returncode}")
        raise PeerMissing(f"{Path(command[0]).name} could not compile the loop: {first}")
    return done.stdout


def _version(compiler: str) -> str:
    return next(iter(_run(compiler, "--version").splitlines()), Path(compiler).name)
