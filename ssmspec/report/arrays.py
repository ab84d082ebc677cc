"""Arrays of one layer as .npz files."""

from pathlib import Path
from typing import Any

import numpy as np

from ssmspec.errors import SsmspecError
from ssmspec.files.reading import exists, read_numbers
from ssmspec.files.writing import Kind, refuse_precious, whole_file
from ssmspec.systems.grid import LOWEST_THETA, Axis, FloatArray, FrequencyGrid, check_points


def frequency_grid(step: FloatArray, axis: Axis, points: int, values: Path | None) -> FrequencyGrid:
    """Frequencies from a file, or a log-spaced grid: theta in [pi/1024, pi], or the same range in omega for the steps (K, 1|N) of a layer.

    Steps that are not finite or not positive are ignored.

    Raises:
        SsmspecError: the file is not a .npy vector of real numbers, or its frequencies do not fit the axis.
    """
    if values is not None:
        frequencies = _vector(values, axis)
        try:
            return FrequencyGrid(frequencies, axis)
        except SsmspecError as error:
            raise SsmspecError(f"{values}: {error}") from error
    if axis == "theta":
        return FrequencyGrid.default(points)
    check_points(points)
    usable = step[np.isfinite(step) & (step > 0)]
    return FrequencyGrid(np.geomspace(LOWEST_THETA / usable.max(), np.pi / usable.min(), points), axis)


def _vector(path: Path, axis: Axis) -> FloatArray:
    """The frequencies in a file. A theta that exceeds pi by no more than float32 rounding becomes pi."""
    try:
        values = read_numbers(path)
    except SsmspecError as error:
        raise SsmspecError(f"cannot read frequencies from {error}; expected a .npy file with a vector of real numbers") from error
    if axis == "theta":
        near = (np.abs(values) > np.pi) & (np.abs(values) <= np.pi * (1 + 1e-6))
        values[near] = np.copysign(np.pi, values[near])
    return values


def write_arrays(target: Path, source: Path, arrays: dict[str, Any]) -> tuple[str, ...]:
    """Write an .npz file whole or not at all, and never over the checkpoint that it came from.

    Returns:
        A note for every array (K, O, I, ...) in which some copies have values that are not finite. The file has NaN in their place.
    Raises:
        SsmspecError: the target is the checkpoint or cannot be written, or no copy of an array has only finite values.
    """
    refuse_precious(target, Kind.arrays)
    notes = []
    written = dict(arrays)
    for name, values in arrays.items():
        if not isinstance(values, np.ndarray) or np.isfinite(values).all():
            continue
        lost = np.asarray(~np.isfinite(values))
        count = f"{int(lost.sum())} of {lost.size} values of {name}"
        copies = np.asarray(lost.any(axis=tuple(range(1, lost.ndim))))
        if values.ndim < 3 or copies.all():
            raise SsmspecError(f"{source}: {count} are not finite; nothing was written")
        written[name] = np.where(lost, np.nan, values)
        which = f"{int(copies.sum())} of {len(copies)} copies, the first of them copy {int(copies.argmax())}"
        notes.append(f"{count} are not finite, in {which}; the file has NaN in their place")
    if exists(target) and exists(source) and target.samefile(source):
        raise SsmspecError(f"{target} is the checkpoint itself; choose another output file")
    with whole_file(target, Kind.arrays) as file:
        np.savez(file, **written)
    return tuple(notes)
