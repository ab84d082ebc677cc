"""|H| of every layer of a minimal S4D checkpoint by NumPy broadcasting: the code that one would write without ssmspec.

The benchmark runs it as a separate process (`python -m ssmspec.benchmarks.responses FILE`), so it imports only what it needs.
"""

import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

Arrays = dict[str, npt.NDArray[np.float32]]

POINTS = 1024


def grid() -> npt.NDArray[np.float64]:
    """(F,) theta in rad/sample: the default grid of `ssmspec analyze`."""
    values = np.geomspace(np.pi / 1024, np.pi, POINTS)
    values[-1] = np.pi
    return values


def layers_of(path: str) -> Iterator[tuple[npt.NDArray[np.complex128], npt.NDArray[np.complex128]]]:
    """Discrete poles and residues (H, N) of every layer in model order, with zero-order hold."""
    tensors = load_file(path)
    count = sum(name.endswith(".kernel.log_dt") for name in tensors)
    for layer in range(count):
        yield _discrete(tensors, f"s4_layers.{layer}.kernel.")


def _discrete(tensors: Arrays, prefix: str) -> tuple[npt.NDArray[np.complex128], npt.NDArray[np.complex128]]:
    log_real, imag, log_step = (tensors[prefix + name].astype(float) for name in ("log_A_real", "A_imag", "log_dt"))
    poles = -np.exp(log_real) + 1j * imag
    z = np.exp(poles * np.exp(log_step)[:, None])
    C = tensors[prefix + "C"].astype(float)
    return z, (C[..., 0] + 1j * C[..., 1]) * (z - 1) / poles


def magnitudes(path: str) -> list[npt.NDArray[np.float64]]:
    """|H| (H, F) of every layer, complex128 throughout."""
    w = np.exp(-1j * grid())
    found = []
    for z, g in layers_of(path):
        upper = (g[..., None] / (1 - z[..., None] * w)).sum(axis=1)
        found.append(np.abs(upper + (g.conj()[..., None] / (1 - z.conj()[..., None] * w)).sum(axis=1)))
    return found


if __name__ == "__main__":
    magnitudes(sys.argv[1])
