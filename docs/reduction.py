"""The tables of reduction.md.

python docs/reduction.py spectra CHECKPOINT[,NAME=VALUE]...    # errors against modes kept, for three methods
python docs/reduction.py sample FOLDER     # the loss of sample_checkpoints/s4d_trained.safetensors, reduced
python docs/reduction.py tasks FOLDER      # two small tasks: reduced, trained again, and small from the start
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssmspec.commands.reduce import reduce
from ssmspec.commands.retune import ChangeOptions
from ssmspec.errors import SsmspecError
from ssmspec.families import ReadOptions
from ssmspec.nn.from_checkpoint import load_sequence_model

HERE = Path(__file__).parent.parent
SHARES = (0.75, 0.5, 0.25)
METHODS = ("balanced", "h2", "modal")
WHOLE, SIZES = 16, (8, 4, 2)  # modes of the models below
LENGTH, SEQUENCES = 128, 400
OPTIONS = ("--set", "d_model=8", "--set", "batch=16")


def spectra(paths: Sequence[str]) -> Iterator[str]:
    """Errors of all layers of a checkpoint: largest and median over copies, relative to the norm of the layer."""
    yield "| checkpoint | modes | method | H-inf, largest | H-inf, median | H2, largest | bound |"
    yield "|---|---|---|---|---|---|---|"
    for given in paths:
        path, *assumed = given.split(",")
        read = ReadOptions(assume=dict(pair.split("=", 1) for pair in assumed))
        for share in SHARES:
            for method in METHODS:
                try:
                    plan = reduce(path, keep=share, method=method, options=ChangeOptions(read=read))
                except SsmspecError as error:
                    yield f"| {Path(path).name} | {share:g} | {method} | {error} | | | |"
                    continue
                found = [layer.certificate for layer in plan.layers]
                bound = max(c.bound.max() / c.norm_without_weight for c in found) if method == "balanced" else None
                assert all(c.holds in (True, None) for c in found)
                numbers = (
                    max(float(c.relative.max()) for c in found),
                    float(np.median(np.concatenate([c.relative for c in found]))),
                    max(float(c.relative_energy.max()) for c in found),
                )
                before, after = plan.layers[0].stored
                cells = " | ".join(f"{number:.2g}" for number in numbers)
                yield f"| {Path(path).name} | {before} -> {after} | {method} | {cells} | {'' if bound is None else f'{bound:.2g}'} |"


def sample(folder: Path) -> Iterator[str]:
    """Held-out loss of the sample S4D on its own task, as it is and reduced, without training again."""
    sys.path.insert(0, str(HERE / "sample_checkpoints"))
    from training import waves

    source = HERE / "sample_checkpoints/s4d_trained.safetensors"
    inputs, targets = waves(256, torch.Generator().manual_seed(1))

    def loss(path: Path) -> float:
        model = load_sequence_model(path)[0]
        with torch.no_grad():
            return float(torch.nn.functional.mse_loss(model(inputs.float()), targets.float()))

    yield "| modes | " + " | ".join(METHODS) + " |"
    yield "|---|" + "---|" * len(METHODS)
    yield f"| 16 | {loss(source):.2g} | | |"
    for count in (14, 12, 10, 8, 4):
        cells = []
        for method in METHODS:
            target = folder / f"{method}-{count}.safetensors"
            reduce(source, target, modes=count, method=method, replace_output=True)
            cells.append(f"{loss(target):.2g}")
        yield f"| {count} | {' | '.join(cells)} |"


def tones(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The amplitudes of four tones in noise, from 128 samples."""
    amplitudes = rng.uniform(0, 1, (SEQUENCES, 4))
    theta = np.pi * np.array([1 / 64, 1 / 16, 1 / 4, 3 / 4])
    phases = rng.uniform(0, 2 * np.pi, (SEQUENCES, 4, 1))
    waves = (amplitudes[:, :, None] * np.cos(theta[:, None] * np.arange(LENGTH) + phases)).sum(axis=1)
    return (waves + 0.3 * rng.standard_normal(waves.shape))[..., None], amplitudes


def echoes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """With which of four delays white noise is repeated, at 0.9 of its size: 8, 16, 24 or 32 samples."""
    labels = rng.integers(0, 4, SEQUENCES)
    signals = rng.standard_normal((SEQUENCES, LENGTH))
    for row, label in enumerate(labels):
        delay = 8 * (label + 1)
        signals[row, delay:] += 0.9 * signals[row, :-delay]
    return signals[..., None], labels


TASKS = {"regress": tones, "classify": echoes}


def run(*words: object) -> None:
    """A command of ssmspec, in one thread; what it says goes to stderr."""
    command = [sys.executable, "-m", "ssmspec", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


def measures(folder: Path) -> tuple[float, float]:
    """The first measure of a run before its first step and after its last."""
    lines = [json.loads(line) for line in (folder / "measures.jsonl").read_text().splitlines()]
    return tuple(float(next(iter(_values(line)))) for line in (lines[0], lines[-1]))  # type: ignore[return-value]


def _values(line: dict[str, Any]) -> list[float]:
    measured = line["measures"]
    return [entry["value"] for entry in measured] if isinstance(measured, list) else list(measured.values())


def tasks(folder: Path, steps: int = 300, again: int = 100) -> Iterator[str]:
    """For each task: a model of 16 modes, reduced without and with training again, and models trained with fewer modes from the start."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, make in TASKS.items():
        inputs, targets = make(np.random.default_rng(0))
        np.save(folder / f"{task}-x.npy", inputs.astype(np.float32))
        np.save(folder / f"{task}-y.npy", targets if task == "classify" else targets.astype(np.float32))
        data = ("--data", folder / f"{task}-x.npy", "--target", folder / f"{task}-y.npy")
        for size in (WHOLE, *SIZES):
            if not (folder / f"{task}-{size}/results.json").exists():
                run(
                    "train",
                    task,
                    *data,
                    *OPTIONS,
                    "--steps",
                    steps,
                    "--set",
                    f"d_state={2 * size}",
                    "--out",
                    folder / f"{task}-{size}",
                    "--force",
                )
        yield f"\n{task}: {WHOLE} modes {measures(folder / f'{task}-{WHOLE}')[1]:.3g}\n"
        heads = [f"{method}, {when}" for method in METHODS for when in ("as it is", "trained again")]
        yield "| modes | " + " | ".join(heads) + " | from the start |"
        yield "|---|" + "---|" * (len(heads) + 1)
        for size in SIZES:
            cells = []
            for method in METHODS:
                place = folder / f"{task}-{method}-{size}"
                if not (place / "results.json").exists():
                    request = (
                        "reduce",
                        folder / f"{task}-{WHOLE}/final.safetensors",
                        "--modes",
                        size,
                        "--method",
                        method,
                        "--no-timing",
                        "--force",
                    )
                    target = ("-o", folder / f"{task}-{method}-{size}.safetensors")
                    run(*request, *target, "--retrain", task, *data, "--steps", again, "--set", "batch=16", "--out", place)
                cells += [f"{value:.3g}" for value in measures(place)]
            cells.append(f"{measures(folder / f'{task}-{size}')[1]:.3g}")
            yield f"| {size} | {' | '.join(cells)} |"


if __name__ == "__main__":
    kind, rest = sys.argv[1], sys.argv[2:]
    lines = spectra(rest) if kind == "spectra" else tasks(Path(rest[0])) if kind == "tasks" else sample(Path(rest[0]))
    for line in lines:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
