"""`ssmspec analyze` as a complete process, against the same |H| by NumPy broadcasting (also a process) and by python-control."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from ssmspec.backends import choose_backend, load_backend
from ssmspec.benchmarks import responses
from ssmspec.benchmarks.cauchy import DOUBLE, real_state_space
from ssmspec.benchmarks.contest import Contest, Facts, PeerMissing
from ssmspec.benchmarks.pairs import Timing
from ssmspec.benchmarks.sizes import CheckpointSize, Sizes
from ssmspec.checkpoint import open_checkpoint
from ssmspec.commands.analyze import analyze_layer, pairs_of
from ssmspec.errors import SsmspecError
from ssmspec.families import ReadOptions
from ssmspec.families.layers import find_layers, read_systems
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.response import frequency_response
from ssmspec.systems.statespace import StateSpace


@contextmanager
def versus_numpy(sizes: Sizes) -> Iterator[Contest]:
    """Two processes on the same file. Ours computes every statistic and prints JSON; the peer only computes |H| on the same grid."""
    with _checkpoint(sizes.checkpoint) as path:
        yield Contest(
            ours=_process("ssmspec", "analyze", path, "--json"),
            peer=_process("ssmspec.benchmarks.responses", path),
            values=lambda: (_our_magnitudes(path), responses.magnitudes(path)),
            tolerance=DOUBLE,
            size=_size(sizes.checkpoint),
            facts={"backend": _backend(_systems(path))},
            observe=lambda timing: _cauchy_share(path, timing),
        )


@contextmanager
def responses_versus_numpy(sizes: Sizes) -> Iterator[Contest]:
    """Only |H| of all layers, from the file, with both sides in this process."""
    with _checkpoint(sizes.checkpoint) as path:
        yield Contest(
            ours=lambda: _our_magnitudes(path),
            peer=lambda: responses.magnitudes(path),
            values=lambda: (_our_magnitudes(path), responses.magnitudes(path)),
            tolerance=DOUBLE,
            size=_size(sizes.checkpoint),
            facts={"backend": _backend(_systems(path))},
        )


@contextmanager
def versus_control(sizes: Sizes) -> Iterator[Contest]:
    """Our complete process against python-control's time for only the responses, one channel at a time, extrapolated from a few."""
    try:
        control = import_module("control")
    except ImportError:
        raise PeerMissing("python-control is not installed (pip install control)") from None
    size = sizes.checkpoint
    with _checkpoint(size) as path:
        z, g = next(responses.layers_of(path))
        systems = [control.StateSpace(*real_state_space(g[k], z[k]), 1) for k in range(sizes.channels)]

        def peer() -> npt.NDArray[Any]:
            return np.abs(np.stack([system(np.exp(1j * responses.grid())) for system in systems]))

        yield Contest(
            ours=_process("ssmspec", "analyze", path, "--json"),
            peer=peer,
            values=lambda: (_our_magnitudes(path)[:1], [peer()]),
            tolerance=DOUBLE,
            size=_size(size),
            peer_share=sizes.channels / (size.layers * size.H),
            facts={"channels_timed": sizes.channels, "control_version": str(control.__version__)},
        )


@contextmanager
def _checkpoint(size: CheckpointSize) -> Iterator[str]:
    """A file of minimal S4D layers with their usual initialization and slightly scattered A."""
    rng = np.random.default_rng(2410)
    tensors: dict[str, npt.NDArray[Any]] = {}
    H, N = size.H, size.N
    for layer in range(size.layers):
        kernel = f"s4_layers.{layer}.kernel."
        tensors[kernel + "C"] = rng.normal(size=(H, N, 2)).astype("f4")
        tensors[kernel + "log_dt"] = rng.uniform(np.log(1e-3), np.log(1e-1), H).astype("f4")
        tensors[kernel + "log_A_real"] = np.log(0.5 * rng.uniform(0.5, 2, (H, N))).astype("f4")
        tensors[kernel + "A_imag"] = (np.pi * np.arange(N) * rng.uniform(0.9, 1.1, (H, N))).astype("f4")
        tensors[f"s4_layers.{layer}.D"] = rng.normal(size=H).astype("f4")
    with tempfile.TemporaryDirectory(prefix="ssmspec-bench-", ignore_cleanup_errors=True) as folder:
        path = str(Path(folder, "model.safetensors"))
        save_file(tensors, path)
        yield path


def _size(size: CheckpointSize) -> dict[str, int]:
    return {"layers": size.layers, "H": size.H, "N": size.N, "F": responses.POINTS}


def _process(*arguments: str) -> Callable[[], None]:
    def run() -> None:
        done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise SsmspecError(f"{' '.join(arguments)} ended with exit code {done.returncode}: {done.stderr.strip()[-300:]}")

    return run


def _systems(path: str) -> list[StateSpace]:
    checkpoint = open_checkpoint(path)
    return [system.state_space() for system in read_systems(checkpoint, find_layers(checkpoint), ReadOptions())[0]]


def _backend(systems: list[StateSpace]) -> str:
    return choose_backend(sum(pairs_of(system, responses.POINTS) for system in systems))


def _our_magnitudes(path: str) -> list[npt.NDArray[Any]]:
    systems, grid = _systems(path), FrequencyGrid.default(responses.POINTS)
    engine = load_backend(_backend(systems))
    return [np.abs(frequency_response(system, grid, engine).dynamic[:, 0, 0]) for system in systems]


def _cauchy_share(path: str, timing: Timing) -> Facts:
    """The fraction of our process that is not spent in the Cauchy sum, measured by an analysis in this process."""
    systems, grid, spent = _systems(path), FrequencyGrid.default(responses.POINTS), 0.0
    engine = load_backend(_backend(systems))

    def timed(*arguments: Any) -> npt.NDArray[Any]:
        nonlocal spent
        start = time.perf_counter()
        sums = engine(*arguments)
        spent += time.perf_counter() - start
        return sums

    for system in systems:
        analyze_layer(system, grid, timed)
    return {"cauchy_seconds": spent, "share_outside_cauchy_sum": max(0.0, 1 - spent / timing.ours_seconds)}
