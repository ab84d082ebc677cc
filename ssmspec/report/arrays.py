"""Arrays of one layer as .npz files."""

from pathlib import Path
from typing import Any

import numpy as np

from ssmspec.checkpoint.remote.path import is_address
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


def write_arrays(target: Path, source: Path | str, arrays: dict[str, Any]) -> tuple[str, ...]:
    """Write an .npz file, or a .mat file if the target is named so, whole or not at all, and never over the checkpoint it came from.

    Returns:
        A note for every array (K, O, I, ...) in which some copies have values that are not finite. The file has NaN in their place.
    Raises:
        SsmspecError: the target is the checkpoint or cannot be written, or no copy of an array has only finite values.
    """
    kind = Kind.matlab if target.suffix.lower() == ".mat" else Kind.arrays
    refuse_precious(target, kind)
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
    if exists(target) and not is_address(source) and exists(Path(source)) and target.samefile(source):
        raise SsmspecError(f"{target} is the checkpoint itself; choose another output file")
    with whole_file(target, kind) as file:
        if kind is Kind.matlab:
            from scipy.io import savemat  # rarely needed

            savemat(file, written)
        else:
            np.savez(file, **written)
    return tuple(notes)


def difference_text(path: Path, kernel: FloatArray, copies: int) -> str:
    """How far a kernel in a .npy file is from that of a layer, in one line.

    Args:
        kernel: (K, O, I, L). The file holds the same shape up to L, with or without axes of size one.
    Raises:
        SsmspecError: the file cannot be read, or its shape does not fit.
    """
    other = read_numbers(path)
    sizes = [size for size in kernel.shape[:-1] if size > 1]
    if other.ndim == 0 or [size for size in other.shape[:-1] if size > 1] != sizes or not other.shape[-1]:
        raise SsmspecError(f"{path} has shape {other.shape}; expected {kernel.shape}, with or without axes of size one, and any length")
    length = min(kernel.shape[-1], other.shape[-1])
    ours, theirs = kernel[..., :length], other.reshape(*kernel.shape[:-1], -1)[..., :length]
    apart = np.abs(ours - theirs)
    if not np.isfinite(apart).any():
        raise SsmspecError(f"{path}: no value of it and of the kernel are both finite, so nothing can be compared")
    copy, output, place, sample = (int(index) for index in np.unravel_index(int(np.nanargmax(apart)), apart.shape))
    size = float(np.nanmax(np.abs(ours)))
    relative = f", {apart[copy, output, place, sample] / size:.3g} of the largest value" if size else ""
    where = f"copy {copy}, output {output}, input {place}, sample {sample}" if copies > 1 or len(sizes) else f"sample {sample}"
    lost = int((~np.isfinite(apart)).sum())
    return f"largest difference to {path}: {apart[copy, output, place, sample]:.3g}{relative}, at {where}; {length} samples compared" + (
        f"; {lost} values are not finite and were not compared" if lost else ""
    )
