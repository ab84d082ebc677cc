"""How the processor time of `ssmspec analyze` grows with copies, modes, grid points, layers and files.

    python tests/benchmarks/growth.py [--repeat 3] [--only copies modes ...] [--json FILE]    # on an idle machine; ten minutes

Every figure is the median processor time (user and system, one BLAS thread) of whole processes, less that of a file of one copy with one
mode: the start. An exponent is the slope of the least-squares line through all sizes on log axes; the last column is the slope between the
two largest sizes, where a term that is small at first shows.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent))
from cases import REPOSITORY, Tensors, processor_seconds, s4d, s5

Made = tuple[list[Tensors], list[str]]  # checkpoints and further arguments
DIMENSIONS: dict[str, tuple[tuple[int, ...], Callable[[int], Made]]] = {
    "copies": ((64, 128, 256, 512, 1024), lambda size: ([s4d(8, size, 16)], [])),
    "modes": ((16, 32, 64, 128, 256), lambda size: ([s4d(8, 64, size)], [])),
    "modes of S5": ((32, 64, 128, 256, 512), lambda size: ([s5(2, size, 32)], [])),
    "points": ((1024, 2048, 4096, 8192, 16384), lambda size: ([s4d(8, 64, 16)], ["--points", str(size)])),
    "layers": ((16, 32, 64, 128, 256), lambda size: ([s4d(size, 64, 16)], [])),
    "files": ((16, 32, 64, 128, 256), lambda size: ([s4d(2, 16, 16, seed=seed) for seed in range(size)], [])),
}
WAYS = {"table": [], "json": ["--json"]}


def exponents(sizes: list[int], seconds: list[float]) -> tuple[float, float]:
    """Slope of log seconds over log size through all sizes, and between the two largest."""
    x, y = np.log(sizes), np.log(seconds)
    return float(np.polyfit(x, y, 1)[0]), float((y[-1] - y[-2]) / (x[-1] - x[-2]))


def seconds_of(folder: Path, made: Made, way: list[str], repeat: int) -> float:
    """Median processor seconds of one command about all checkpoints."""
    paths = [folder / f"{number:05}.safetensors" for number in range(len(made[0]))]
    for path, tensors in zip(paths, made[0], strict=True):
        save_file(tensors, path)
    arguments = ["ssmspec", "analyze", *map(str, paths), "--threads", "1", *made[1], *way]
    return median(processor_seconds(REPOSITORY, arguments) for _ in range(repeat))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(DIMENSIONS), default=list(DIMENSIONS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as name:
        for way, arguments in WAYS.items():
            start = seconds_of(Path(name), ([s4d(1, 1, 1)], []), arguments, options.repeat)
            sys.stdout.write(f"{way}: the start takes {start:.2f} s\n")
            for dimension in options.only:
                sizes, make = DIMENSIONS[dimension]
                seconds = [seconds_of(Path(name), make(size), arguments, options.repeat) - start for size in sizes]
                overall, last = exponents(list(sizes), seconds)
                found[f"{way}, {dimension}"] = {"sizes": sizes, "seconds": seconds, "exponent": overall, "last": last}
                shown = ", ".join(f"{size}: {each:.2f}" for size, each in zip(sizes, seconds, strict=True))
                sys.stdout.write(f"{way}, {dimension}: {overall:.2f}, at the end {last:.2f}   ({shown} s)\n")
                sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
