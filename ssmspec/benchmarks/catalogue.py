"""All benchmarks by name, and how to run some of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial

from ssmspec.benchmarks import balancing, cauchy, s4d_step, sizes, whole_analysis
from ssmspec.benchmarks import cauchy_cpp as compiled
from ssmspec.benchmarks import cauchy_gpu as gpu
from ssmspec.benchmarks.contest import Benchmark, PeerMissing, Result, measure
from ssmspec.benchmarks.growth import SCALINGS, Scaling, measure_scaling
from ssmspec.benchmarks.hardware import hardware
from ssmspec.errors import SsmspecError

Progress = Callable[[str, int, int], None]

_BIG, _SMALL = "torch complex64 broadcast, chunks of 256 MiB", "torch complex64 broadcast, fastest chunks"
_STATE_SPACE, _MODAL = "python-control, StateSpace per channel", "python-control, N second-order TransferFunction per channel"
_CPP, _NAIVE = "fastest C++ loop", "Vandermonde layer in torch"
_DOUBLE, _SINGLE, _STEP = "Cauchy sum, float64", "Cauchy sum, float32", "S4D, forward and backward, float32"
_ANALYZE, _GPU = "ssmspec analyze, whole process", "Cauchy sum on the GPU, float32"

BENCHMARKS: dict[str, Benchmark] = {
    entry.name: entry
    for entry in (
        Benchmark("cauchy_float64_vs_torch", _DOUBLE, _BIG, partial(cauchy.versus_torch, precision="float64", small_chunks=False)),
        Benchmark("cauchy_float32_vs_torch", _SINGLE, _BIG, partial(cauchy.versus_torch, precision="float32", small_chunks=False)),
        Benchmark(
            "cauchy_float64_vs_torch_small_chunks", _DOUBLE, _SMALL, partial(cauchy.versus_torch, precision="float64", small_chunks=True)
        ),
        Benchmark(
            "cauchy_float32_vs_torch_small_chunks", _SINGLE, _SMALL, partial(cauchy.versus_torch, precision="float32", small_chunks=True)
        ),
        Benchmark("cauchy_float64_vs_cpp", _DOUBLE, _CPP, partial(compiled.versus_cpp, precision="float64")),
        Benchmark("cauchy_float32_vs_cpp", _SINGLE, _CPP, partial(compiled.versus_cpp, precision="float32")),
        Benchmark("cauchy_vs_python_control", _DOUBLE, _STATE_SPACE, partial(cauchy.versus_control, modal=False)),
        Benchmark("cauchy_vs_python_control_modal", _DOUBLE, _MODAL, partial(cauchy.versus_control, modal=True)),
        Benchmark("s4d_step_vs_naive", _STEP, _NAIVE, partial(s4d_step.versus_naive, which="step")),
        Benchmark("s4d_step_vs_naive_long", _STEP, _NAIVE, partial(s4d_step.versus_naive, which="step_long"), full=True),
        Benchmark("s4d_step_vs_naive_n64", _STEP, _NAIVE, partial(s4d_step.versus_naive, which="step_n64"), full=True),
        Benchmark("balance_vs_scipy", "balanced truncation of a layer", "scipy, copy by copy", balancing.versus_scipy, full=True),
        Benchmark("cauchy_gpu_vs_torch", _GPU, "torch complex64 broadcast on the GPU", gpu.versus_torch),
        Benchmark("cauchy_gpu_vs_s4_extension", _GPU, "CUDA extension of state-spaces/s4", gpu.versus_extension),
        Benchmark(
            "response_vs_numpy",
            "|H| of all layers of a file, float64",
            "NumPy complex128 broadcast",
            whole_analysis.responses_versus_numpy,
            full=True,
        ),
        Benchmark(
            "analyze_vs_numpy", _ANALYZE, "|H| alone, NumPy complex128 broadcast, whole process", whole_analysis.versus_numpy, full=True
        ),
        Benchmark("analyze_vs_python_control", _ANALYZE, f"|H| alone, {_STATE_SPACE}", whole_analysis.versus_control, full=True),
    )
}


@dataclass(frozen=True, slots=True)
class BenchReport:
    """One run: what was measured, what was skipped and why (by name), on which hardware, and when (UTC, ISO 8601)."""

    results: tuple[Result, ...]
    scaling: tuple[Scaling, ...]
    skipped: Mapping[str, str]
    hardware: Mapping[str, str | int | None]
    date: str


def choose(patterns: Sequence[str], *, full: bool) -> list[str]:
    """Names of the benchmarks in the default run, in the full run, or matched by a glob.

    Raises:
        SsmspecError: a pattern matches no benchmark; the message lists all of them.
    """
    everything = [*BENCHMARKS, *SCALINGS]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in everything):
            raise SsmspecError(f"no benchmark matches {pattern}; choose from {', '.join(everything)}")
    if patterns:
        return [name for name in everything if any(fnmatchcase(name, pattern) for pattern in patterns)]
    return everything if full else [name for name, entry in BENCHMARKS.items() if not entry.full]


def run_benchmarks(names: Sequence[str], *, rounds: int, at: sizes.Sizes | None = None, progress: Progress | None = None) -> BenchReport:
    """Run benchmarks one after another.

    Args:
        names: keys of BENCHMARKS or SCALINGS.
        rounds: number of interleaved pairs, or of timings for each size of a scaling run.
        at: sizes; None means the usual ones.
        progress: called with (name, number done, total number).
    Raises:
        SsmspecError: the two sides of a benchmark disagree.
    """
    at = at or sizes.USUAL
    results, scaling, skipped = [], [], {}
    for done, name in enumerate(names):
        if progress:
            progress(name, done, len(names))
        try:
            if name in SCALINGS:
                scaling.append(measure_scaling(name, at, rounds=rounds))
            else:
                results.append(measure(BENCHMARKS[name], at, rounds=rounds))
        except PeerMissing as missing:
            skipped[name] = str(missing)
    return BenchReport(tuple(results), tuple(scaling), skipped, hardware(), datetime.now(UTC).isoformat(timespec="seconds"))
