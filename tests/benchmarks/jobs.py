"""`ssmspec analyze --jobs` on many small checkpoints, worker start included, against one job; with --clusters also Ray and Dask.

    python tests/benchmarks/jobs.py [--files 2000] [--repeat 3] [--clusters] [--json FILE]   # on an idle machine; some minutes

Every figure is the median over the repetitions of the wall time of a whole command with --threads 1, as typed, and of the processor time of
all its processes. The commands take turns, so that a slow minute of the machine slows all of them.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from program import checkpoint, s4d_tensors

Figures = dict[str, dict[str, float]]


def write_files(folder: Path, count: int) -> None:
    """Distinct checkpoints of two layers of 16 copies with 16 modes, as small trained models have them."""
    tensors = s4d_tensors(layers=2, H=16, N=16)
    for number in range(count):
        tensors["layers.0.D"] = np.full(16, number, np.float32)
        checkpoint(folder, tensors, f"m{number:05}.safetensors")


def timed(arguments: list[str]) -> tuple[float, float, bytes]:
    """Seconds of wall time, seconds of all processes, and the output of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "ssmspec", *arguments], capture_output=True, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def measure(files: int, repeat: int, *, clusters: bool) -> Figures:
    """The figures of every way to do it. All of them print the same bytes."""
    ways = {"1 job": ["--jobs", "1"], "2 jobs": ["--jobs", "2"]}
    if clusters:
        ways |= {"ray": ["--cluster", "ray", "--jobs", "2"], "dask": ["--cluster", "dask", "--jobs", "2"]}
    with tempfile.TemporaryDirectory() as place:
        write_files(Path(place), files)
        command = ["analyze", place, "--threads", "1"]
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        outputs = set()
        for _ in range(repeat):
            for name, options in ways.items():
                wall, cpu, out = timed([*command, *options])
                found[name].append((wall, cpu))
                outputs.add(out)
        assert len(outputs) == 1
        cached = [*command, "--cache", str(Path(place) / "cache")]
        first, second = timed(cached), timed(cached)
    figures = {name: {"wall_s": median(w for w, _ in runs), "cpu_s": median(c for _, c in runs)} for name, runs in found.items()}
    return figures | {name: {"wall_s": run[0], "cpu_s": run[1]} for name, run in (("cache, first", first), ("cache, second", second))}


def row(name: str, figures: Figures) -> str:
    """A line of the table."""
    own, base = figures[name], figures["1 job"]
    return f"| {name} | {own['wall_s']:.1f} | {own['cpu_s']:.1f} | {base['wall_s'] / own['wall_s']:.2f} |"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--clusters", action="store_true", help="also a Ray and a Dask that are started for each command")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    figures = measure(arguments.files, arguments.repeat, clusters=arguments.clusters)
    sys.stdout.write(f"{arguments.files} checkpoints, {os.cpu_count()} cores, median of {arguments.repeat}\n\n")
    sys.stdout.write("| | wall [s] | all processes [s] | times as fast |\n| --- | --- | --- | --- |\n")
    sys.stdout.write("".join(f"{row(name, figures)}\n" for name in figures))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"files": arguments.files, **figures}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
