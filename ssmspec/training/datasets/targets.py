"""The targets of sequences: numbers, or the names of classes."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ssmspec.errors import SsmspecError
from ssmspec.files.reading import one_line, require_real
from ssmspec.systems.statespace import FloatArray
from ssmspec.tuning.spectra.signal_files import check_bytes, read_array, split_name

TABLES = (".csv", ".tsv", ".txt")


class Labels(NamedTuple):
    """Sorted names of the classes, and the class of every sequence, (B,)."""

    classes: tuple[str, ...]
    codes: npt.NDArray[np.int64]


def read_values(path: str, count: int, source: str) -> FloatArray:
    """Numbers per sequence, (B, K), or per sample, (B, L, K).

    Args:
        path: as for `read_array`. count: B. source: the sequences, for messages.
    Raises:
        SsmspecError: as `read_array`, or there is not one row per sequence, or numbers are not finite.
    """
    values = read_array(path).values
    require_real(values, path)
    _check_rows(values, count, path, source)
    if values.ndim > 3 or not values.size:
        raise SsmspecError(f"{path}: shape {values.shape}; expected (B,), (B, K) or (B, L, K), with K numbers per sequence or sample")
    wide = np.asarray(values, dtype=np.float64)
    bad = ~np.isfinite(wide).reshape(count, -1).all(axis=1)
    if bad.any():
        raise SsmspecError(f"{path}: NaN or infinite values in row {int(np.flatnonzero(bad)[0])}; expected finite values")
    return wide[:, None] if wide.ndim == 1 else wide


def read_labels(path: str, count: int, source: str) -> Labels:
    """A class per sequence, from integers or from texts, which may be in a table.

    Args:
        path, count, source: as for `read_values`.
    Raises:
        SsmspecError: as `read_values`, or numbers are not integers.
    """
    file, column = split_name(path)
    if file.suffix.lower() in TABLES and file.is_file():
        return as_labels(np.array(_cells(file, column, count, source)), path)
    values = read_array(path).values
    _check_rows(values, count, path, source)
    if values.size != count:
        raise SsmspecError(f"{path}: shape {values.shape}; expected one label per sequence, ({count},)")
    return as_labels(values.reshape(-1), path)


def as_labels(values: npt.NDArray[Any], path: str) -> Labels:
    """The classes from (B,) integers or texts.

    Raises:
        SsmspecError: the values are neither, or there is only one class.
    """
    numbers = _numbers(values)
    if numbers is not None:
        if not (np.isfinite(numbers).all() and (numbers == np.round(numbers)).all()):
            raise SsmspecError(f"{path}: the labels are not integers; expected integers or texts; regress takes any numbers")
        unique, codes = np.unique(numbers.astype(np.int64), return_inverse=True)
    elif values.dtype.kind == "U":
        unique, codes = np.unique(values, return_inverse=True)
    else:
        raise SsmspecError(f"{path}: the labels have type {values.dtype}; expected integers or texts")
    if len(unique) < 2:
        raise SsmspecError(f"{path}: all sequences have the class {one_line(str(unique[0]))}; expected at least two classes")
    return Labels(tuple(map(str, unique)), codes.astype(np.int64))


def _numbers(values: npt.NDArray[Any]) -> FloatArray | None:
    """The values as numbers, including those of a table of numbers only; None for texts."""
    if values.dtype.kind not in "fiubU":
        return None
    try:
        return values.astype(np.float64)
    except ValueError:
        return None


def _cells(path: Path, column: str | None, count: int, source: str) -> list[str]:
    """The labels in a table, from its only column or from a named one. If there is one line too many, the first line is a header."""
    check_bytes(path.stat().st_size, str(path))
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise SsmspecError(f"{path}: not valid UTF-8 text ({error.reason} at byte {error.start})") from error
    delimiter = next((sign for sign in "\t;," if lines and sign in lines[0]), None)
    rows = [[cell.strip().strip('"') for cell in line.split(delimiter)] if delimiter else [line.strip().strip('"')] for line in lines]
    header = rows[0] if len(rows) == count + 1 else None
    place = 0
    if column is not None or (rows and len(rows[0]) > 1):
        names = header or []
        if column not in names:
            listed = f"it has {one_line(', '.join(names))}" if names else f"it has no header, {len(rows)} lines for {count} sequences"
            raise SsmspecError(f"{path}: no column {column or 'was named'!r}; {listed}; name one as {path.name}:COLUMN")
        place = names.index(column)
    cells = [row[place] if place < len(row) else "" for row in rows[header is not None :]]
    _check_rows(np.array(cells), count, str(path), source)
    return cells


def _check_rows(values: npt.NDArray[Any], count: int, path: str, source: str) -> None:
    rows = len(values) if values.ndim else 0
    if rows != count:
        raise SsmspecError(f"{path} has {rows} rows, but {source} has {count} sequences; expected one row per sequence")
