"""Arrays of one layer as .npz files."""

from pathlib import Path
from typing import Any

import numpy as np

from ssmspec.errors import SsmspecError
from ssmspec.grid import LOWEST_THETA, Axis, FloatArray, FrequencyGrid
from ssmspec.writing import whole_file


def frequency_grid(step: FloatArray, axis: Axis, points: int, values: Path | None) -> FrequencyGrid:
    """Frequencies from a file, or log-spaced: theta over [pi/1024, pi], omega over what that is for the steps (K, 1|N) of a layer.

    Raises:
        SsmspecError: a file that is not a .npy vector of real numbers, or frequencies that do not fit the axis.
    """
    if values is not None:
        return FrequencyGrid(_vector(values), axis)
    if axis == "theta":
        return FrequencyGrid.default(points)
    return FrequencyGrid(np.geomspace(LOWEST_THETA / step.max(), np.pi / step.min(), points), axis)


def _vector(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SsmspecError(f"cannot read frequencies from {path}: {error}; expected a .npy file with a vector") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise SsmspecError(f"cannot read frequencies from {path}: expected a .npy file with a vector of real numbers")
    return array.astype(np.float64)


def write_arrays(target: Path, source: Path, arrays: dict[str, Any]) -> None:
    """Write an .npz file whole or not at all, and never over the checkpoint that it came from.

    Raises:
        SsmspecError: the target is the checkpoint, or cannot be written.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise SsmspecError(f"{target} is the checkpoint itself; name another output file")
    with whole_file(target) as file:
        np.savez(file, **arrays)
