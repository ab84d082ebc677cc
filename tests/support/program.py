"""The program in a separate process, and small checkpoints for it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from locations import SAMPLES
from safetensors.numpy import save_file

S4D = SAMPLES / "s4d_trained.safetensors"


class Result:
    def __init__(self, done: "subprocess.CompletedProcess[bytes]") -> None:
        self.code, self.out, self.err = done.returncode, done.stdout.decode(), done.stderr.decode()


def ssmspec(*arguments: object, cwd: Path = SAMPLES, **environment: str) -> Result:
    command = [sys.executable, "-m", "ssmspec", *map(str, arguments)]
    return Result(subprocess.run(command, capture_output=True, check=False, cwd=cwd, env=os.environ | environment, timeout=120))


def s4d_tensors(*, layers: int = 1, H: int = 4, N: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    tensors = {}
    for layer in range(layers):
        prefix = f"layers.{layer}."
        tensors[prefix + "kernel.log_A_real"] = np.full((H, N), np.log(0.5), np.float32)
        tensors[prefix + "kernel.A_imag"] = np.tile(np.pi * np.arange(N, dtype=np.float32), (H, 1))
        tensors[prefix + "kernel.log_dt"] = rng.uniform(-6, -2, H).astype(np.float32)
        tensors[prefix + "kernel.C"] = rng.normal(size=(H, N, 2)).astype(np.float32)
        tensors[prefix + "D"] = np.ones(H, np.float32)
    return tensors


def checkpoint(folder: Path, tensors: dict[str, np.ndarray], name: str = "model.safetensors") -> Path:
    save_file(tensors, folder / name)
    return folder / name
