"""Spectrum matching against S4D-Lin over sizes of the training set: a table and a picture for reproduction.md.

python docs/reproduction_matching.py FOLDER [--theta 0.8] [--seeds 3]      # draws data, runs ssmspec, resumes if interrupted

Sequences of white noise pass a resonance at theta, and noise with half the deviation is added to the output. A layer has to learn
one band. S4D-Lin of four modes and steps of at most 0.1 has poles up to 0.94 rad/sample.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from ssmspec.report.figures.panels import panels
from ssmspec.report.figures.style import save, styled
from ssmspec.report.tables.train import spread
from ssmspec.training.kinds.own_data import split

SIZES = (4, 64, 1024)  # numbers of training sequences
HELD_OUT = 256
LENGTH = 256
RADIUS = 0.98  # |z| of the resonance
NOISE = 0.5  # relative to the deviation of the target
SETTINGS = ("--set", "pooling=none", "--set", "n_layers=1", "--set", "d_state=8", "--set", "axes=BLC")
WAYS = ("s4d-lin", "matched")


def draw(folder: Path, theta: float, size: int, seed: int) -> None:
    """Write x.npy and y.npy of all sequences, and of the training sequences, which are the only ones to be matched."""
    rng = np.random.default_rng([seed, size])
    x = rng.standard_normal((size + HELD_OUT, LENGTH)).astype(np.float32)
    clean = lfilter([1.0], [1.0, -2 * RADIUS * np.cos(theta), RADIUS**2], x, axis=1)
    y = (clean + NOISE * clean.std() * rng.standard_normal(clean.shape)).astype(np.float32)
    training, _ = split(len(x), share(size), seed, "drawn")
    for name, values in (("x", x), ("y", y), ("x-training", x[training]), ("y-training", y[training])):
        np.save(folder / f"{name}.npy", values[..., None])


def share(size: int) -> float:
    """The share of all sequences that is held out."""
    return HELD_OUT / (size + HELD_OUT)


def ssmspec(folder: Path, *arguments: str) -> None:
    """Run one command in the folder."""
    done = subprocess.run([sys.executable, "-m", "ssmspec", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{folder}: ssmspec {' '.join(arguments)}: {done.stderr}")


def explained(folder: Path) -> float:
    """The share of the held-out variance that a run explains."""
    measures = json.loads((folder / "results.json").read_text())["measures"]
    return float(measures["explained"]["value"])


def both(folder: Path, theta: float, size: int, seed: int) -> tuple[float, float]:
    """The share explained by a model that starts from S4D-Lin, and by the same model after matching. All other tensors are equal."""
    place = folder / f"{size}-{seed}"
    if not (place / "matched/results.json").exists():
        place.mkdir(parents=True, exist_ok=True)
        draw(place, theta, size, seed)
        data = ("--data", "x.npy", "--target", "y.npy", "--seed", str(seed), "--set", f"held_out={share(size)!r}")
        if not (place / "s4d-lin/results.json").exists():
            ssmspec(place, "train", "regress", *data, *SETTINGS, "--out", "s4d-lin", "--force")
        match = ("--match-spectrum", "x-training.npy", "--target", "y-training.npy", "--layout", "BLC", "--seed", str(seed), "--force")
        ssmspec(place, "retune", "s4d-lin/initial.safetensors", *match, "-o", "matched.safetensors")
        ssmspec(place, "retune", "matched.safetensors", "--retrain", "regress", *data, "--out", "matched", "-o", "trained.safetensors")
        for name in ("x", "y", "x-training", "y-training"):
            (place / f"{name}.npy").unlink()
    return explained(place / "s4d-lin"), explained(place / "matched")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--theta", type=float, default=0.8)
    given = parser.parse_args()
    found = {size: np.array([both(given.folder, given.theta, size, seed) for seed in range(given.seeds)]) for size in SIZES}
    sys.stdout.write("| sequences | S4D-Lin | matched | matched - S4D-Lin, pairs |\n| --- | --- | --- | --- |\n")
    for size, values in found.items():
        cells = [spread(list(column)) for column in (*values.T, values[:, 1] - values[:, 0])]
        sys.stdout.write(f"| {size} | {' | '.join(cells)} |\n")
    with styled():
        shown = panels(None, width=4.2, height=3.0)
        (axes,) = shown.axes
        for place, way in enumerate(WAYS):
            values = np.array([column[:, place] for column in found.values()])
            axes.errorbar(SIZES, values.mean(1), values.std(1, ddof=1), marker="o", capsize=3, label=way)
        axes.set_xscale("log")
        axes.set_xlabel("training sequences")
        axes.set_ylabel("share of held-out variance explained")
        axes.axhline(1 / (1 + NOISE**2), color="0.5", linestyle=":", label="noise ceiling")
        axes.legend()
        save(shown.figure, given.folder / "matching.png")


if __name__ == "__main__":
    main()
