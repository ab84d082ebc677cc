"""The program, in this process or in a separate one, and small checkpoints for it."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import typer.main
from locations import HANG, SAMPLES
from safetensors.numpy import save_file

from ssmspec.cli import main, whole_app

S4D = SAMPLES / "s4d_trained.safetensors"


@dataclass(frozen=True)
class Result:
    """What a command leaves behind: exit code, stdout and stderr."""

    code: int
    out: str
    err: str


Type = Callable[..., Result]
"""What the fixture `typed` is."""


class Captured(io.TextIOWrapper):
    """A stream with a buffer below it, as a pipe has, that keeps everything."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", newline="", write_through=True)

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode()


@cache
def command() -> Any:
    """What the app makes of its functions on every call. That takes longer than most commands, and a process needs it once."""
    return typer.main.get_command(whole_app())


def ssmspec(*arguments: object, cwd: Path = SAMPLES) -> Result:
    """`ssmspec ...` in this process: another one costs seconds, and few tests are about it."""
    code: object = 0
    with (
        chdir(cwd),
        patch.object(sys, "argv", ["ssmspec", *map(str, arguments)]),
        patch("ssmspec.cli.app.app", command()),
        redirect_stdout(Captured()) as out,
        redirect_stderr(Captured()) as err,
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    assert isinstance(code, int)
    return Result(code, out.text(), err.text())


def process(*arguments: object, cwd: Path = SAMPLES, **environment: str) -> Result:
    """`ssmspec ...` as a process of its own, for what a process has: descriptors, an environment, an end."""
    command = [sys.executable, "-m", "ssmspec", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, cwd=cwd, env=os.environ | environment, timeout=HANG)
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


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
