"""Checkpoints of the sizes that `ssmspec analyze` is timed on, and the processor time it takes beside another version of the package.

    python tests/benchmarks/cases.py write FOLDER                        # one file per case, drawn weights
    python tests/benchmarks/cases.py time FOLDER [--base CHECKOUT]       # medians of processor seconds, paired where a base is given

Processor time (user and system, of the whole process, one BLAS thread) is what a busy machine changes least; both versions take turns.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

Tensors = dict[str, npt.NDArray[np.float32]]
REPOSITORY = Path(__file__).resolve().parents[2]


def s4d(layers: int, H: int, N: int, seed: int = 2410) -> Tensors:
    """Minimal S4D at its usual initialization, A scattered a little."""
    rng = np.random.default_rng(seed)
    tensors: Tensors = {}
    for layer in range(layers):
        kernel = f"s4_layers.{layer}.kernel."
        tensors[kernel + "C"] = _single(rng.normal(size=(H, N, 2)))
        tensors[kernel + "log_dt"] = _single(rng.uniform(np.log(1e-3), np.log(1e-1), H))
        tensors[kernel + "log_A_real"] = _single(np.log(0.5 * rng.uniform(0.5, 2, (H, N))))
        tensors[kernel + "A_imag"] = _single(np.pi * np.arange(N) * rng.uniform(0.9, 1.1, (H, N)))
        tensors[f"s4_layers.{layer}.D"] = _single(rng.normal(size=H))
    return tensors


def s5(layers: int, P: int, H: int, seed: int = 2208) -> Tensors:
    """Half of the spectrum of S5 layers; frequencies scattered over [0, pi P], steps over [1e-3, 1e-1]."""
    rng = np.random.default_rng(seed)
    tensors: Tensors = {}
    for layer in range(layers):
        name = f"layers_{layer}.seq."
        tensors[name + "Lambda_re"] = _single(-rng.uniform(0.3, 1.0, P))
        tensors[name + "Lambda_im"] = _single(np.pi * np.arange(P) * rng.uniform(0.9, 1.1, P) + 0.1)
        tensors[name + "B"] = _single(rng.normal(size=(P, H, 2)) / np.sqrt(H))
        tensors[name + "C"] = _single(rng.normal(size=(H, P, 2)) / np.sqrt(P))
        tensors[name + "D"] = _single(rng.normal(size=H))
        tensors[name + "log_step"] = _single(rng.uniform(np.log(1e-3), np.log(1e-1), (P, 1)))
    return tensors


def lru(N: int, H: int, seed: int = 2303) -> Tensors:
    """One LRU layer: poles uniform over the ring 0.9 < |z| < 0.999, any phase."""
    rng = np.random.default_rng(seed)
    radius = np.sqrt(rng.uniform(0.9**2, 0.999**2, N))
    return {
        "lru.nu_log": _single(np.log(-np.log(radius))),
        "lru.theta_log": _single(np.log(rng.uniform(0, 2 * np.pi, N))),
        "lru.gamma_log": _single(np.log(np.sqrt(1 - radius**2))),
        "lru.B_re": _single(rng.normal(size=(N, H)) / np.sqrt(2 * H)),
        "lru.B_im": _single(rng.normal(size=(N, H)) / np.sqrt(2 * H)),
        "lru.C_re": _single(rng.normal(size=(H, N)) / np.sqrt(N)),
        "lru.C_im": _single(rng.normal(size=(H, N)) / np.sqrt(N)),
        "lru.D": _single(rng.normal(size=H)),
    }


def mamba1(layers: int, channels: int = 5120, N: int = 16, seed: int = 2312) -> Tensors:
    """Mamba-1: A near -(1..N) in every channel, steps over [1e-3, 1e-1]; as large as the layers of the model of 2.8 billion parameters."""
    rng = np.random.default_rng(seed)
    tensors: Tensors = {}
    for layer in range(layers):
        name = f"backbone.layers.{layer}.mixer."
        step = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), channels))
        tensors[name + "A_log"] = _single(np.log(np.arange(1, N + 1) * rng.uniform(0.8, 1.2, (channels, N))))
        tensors[name + "D"] = _single(rng.normal(size=channels))
        tensors[name + "dt_proj.bias"] = _single(np.log(np.expm1(step)))
        tensors[name + "dt_proj.weight"] = _single(rng.normal(size=(channels, 4)))
        tensors[name + "x_proj.weight"] = _single(rng.normal(size=(4 + 2 * N, channels)))
    return tensors


CASES: dict[str, tuple[str, Callable[[], Tensors]]] = {
    "a": ("48 S4D layers, H 64, N 32", lambda: s4d(48, 64, 32)),
    "b": ("6 S4D layers, H 256, N 64", lambda: s4d(6, 256, 64)),
    "c": ("4 S4D layers, H 128, N 32", lambda: s4d(4, 128, 32)),
    "e": ("6 S5 layers, P 256, H 128", lambda: s5(6, 256, 128)),
    "f": ("one LRU layer, N 512, H 512", lambda: lru(512, 512)),
    "g2": ("2 Mamba-1 layers of 5120 channels x 16", lambda: mamba1(2)),
    "g": ("64 Mamba-1 layers of 5120 channels x 16", lambda: mamba1(64)),
}


def _single(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(values, np.float32)


def write(folder: Path, names: list[str]) -> None:
    """One file per case; those of 64 layers only when named."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or [name for name in CASES if name != "g"]:
        save_file(CASES[name][1](), folder / f"{name}.safetensors")


def processor_seconds(package: Path, arguments: list[str]) -> float:
    """Of one process `python -m ARGUMENTS` with the package found in a folder."""
    environment = os.environ | {"PYTHONPATH": str(package), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir(), "ssmspec-cases-bytecode"))  # as an installed package has it
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", *arguments], env=environment, stdout=subprocess.DEVNULL, check=True, cwd=package)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def time_files(paths: list[Path], base: Path | None, rounds: int, extra: list[str]) -> dict[str, dict[str, float]]:
    """By file: median seconds of this checkout and of the base, and the median of the paired ratios base/ours."""
    found = {}
    for path in paths:
        arguments = ["ssmspec", "analyze", str(path.resolve()), *extra]
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(processor_seconds(REPOSITORY, arguments))
            if base is not None:
                theirs.append(processor_seconds(base, arguments))
        row = {"ours": statistics.median(ours)}
        if theirs:
            row |= {"base": statistics.median(theirs), "ratio": statistics.median(b / a for a, b in zip(ours, theirs, strict=True))}
        found[path.stem] = row
        sys.stdout.write(f"{path.stem}: {json.dumps({key: round(value, 3) for key, value in row.items()})}\n")
        sys.stdout.flush()
    return found


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("write", "time"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="names of cases")
    parser.add_argument("--base", type=Path, help="a checkout of another version")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="the plain table in place of --json")
    arguments = parser.parse_args()
    if arguments.action == "write":
        write(arguments.folder, arguments.only)
        return
    names = arguments.only or [path.stem for path in sorted(arguments.folder.glob("*.safetensors"))]
    paths = [arguments.folder / f"{name}.safetensors" for name in names]
    time_files(paths, arguments.base, arguments.rounds, [] if arguments.table else ["--json"])


if __name__ == "__main__":
    main()
