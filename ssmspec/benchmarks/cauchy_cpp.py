"""The Cauchy sum of the engine `cpu` against the fastest loop in C++, compiled here with -O3 -march=native -ffast-math.

With these flags, gcc replaces a division in float32 by an estimate and a Newton step, which some processors execute faster, others slower.
Both are compiled, and the faster one is the peer.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.backends.threads import thread_count
from ssmspec.benchmarks.cauchy import DOUBLE, SINGLE, CauchyProblem, Precision, cauchy_problem
from ssmspec.benchmarks.contest import Contest, PeerMissing
from ssmspec.benchmarks.pairs import median_seconds
from ssmspec.benchmarks.sizes import Sizes

FLAGS = ("-O3", "-march=native", "-ffast-math")
DIVIDING = "-mno-recip"
COMPILERS = ("c++", "g++", "clang++")


@contextmanager
def versus_cpp(sizes: Sizes, *, precision: Precision) -> Iterator[Contest]:
    """Both sides in the same precision and with all cores; the compiler is $CXX or one of `COMPILERS`."""
    problem = cauchy_problem(sizes.K, sizes.N, sizes.F, precision)
    with tempfile.TemporaryDirectory(prefix="ssmspec-bench-", ignore_cleanup_errors=True) as folder:
        compiler = _compiler()
        found: dict[tuple[str, ...], Callable[[], npt.NDArray[Any]]] = {}
        choices: tuple[tuple[str, ...], ...] = (FLAGS, (*FLAGS, DIVIDING))
        for flags in choices:
            with suppress(PeerMissing) if found else nullcontext():  # not every compiler knows the other flag
                function = getattr(_build(compiler, flags, Path(folder, f"cauchy{len(found)}")), f"cauchy_{precision}")
                found[flags] = partial(_call, function, problem)
        flags = min(found, key=lambda each: median_seconds(found[each], rounds=3))
        peer = found[flags]
        yield Contest(
            ours=problem.ours,
            peer=peer,
            values=lambda: ([problem.ours()], [peer()]),
            tolerance=DOUBLE if precision == "float64" else SINGLE,
            size=problem.size,
            facts={"compiler": _version(compiler), "flags": " ".join(flags), "threads": thread_count()},
        )


def _call(function: Any, problem: CauchyProblem) -> npt.NDArray[Any]:
    sums = np.empty((len(problem.poles), problem.y.shape[1]), problem.poles.dtype)
    arrays = (problem.residues, problem.poles, problem.x, problem.y, sums)
    function(*(ctypes.c_long(n) for n in (thread_count(), *problem.size.values())), *(ctypes.c_void_p(a.ctypes.data) for a in arrays))
    return sums


def _compiler() -> str:
    found = next((found for name in (os.environ.get("CXX"), *COMPILERS) if name and (found := shutil.which(name))), None)
    if found is None:
        raise PeerMissing(f"no C++ compiler was found (looked for $CXX, {', '.join(COMPILERS)})")
    return found


def _build(compiler: str, flags: Sequence[str], path: Path) -> ctypes.CDLL:
    """The compiled library; `path` is that of its files without suffix.

    Linking is a separate step without -ffast-math, because with it gcc adds code that makes the whole process flush subnormals to zero.
    """
    library, unlinked = path.with_suffix(".so"), path.with_suffix(".o")
    with as_file(files("ssmspec.benchmarks") / "cauchy.cpp") as source:
        _run(compiler, *flags, "-fPIC", "-pthread", "-c", str(source), "-o", str(unlinked))
    _run(compiler, "-shared", "-pthread", str(unlinked), "-o", str(library))
    try:
        return ctypes.CDLL(str(library))
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
