"""Read arrays of samples from common file formats: NumPy arrays, sound, and text tables."""

import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import SsmspecError
from ssmspec.files.reading import exists, numpy_reason, one_line, require_regular

MOST_BYTES = 2 * 2**30  # limit for a file, or an array in an archive, that must be kept in memory; .npy files are mapped
PREFERRED = ("x", "data")  # arrays of an .npz file that are chosen by default


@dataclass(frozen=True, slots=True)
class RawArray:
    """The content of a file, before its axes are interpreted.

    Args:
        values: any shape and type; memory-mapped if it comes from a .npy file.
        layout: meaning of two axes if the format defines one: "LC" for sound and tables; None for NumPy arrays.
        sample_rate: [Hz], for sound.
        notes: what was chosen or assumed.
    """

    values: npt.NDArray[Any]
    layout: str | None = None
    sample_rate: float | None = None
    notes: tuple[str, ...] = ()


def read_array(path: str | Path, name: str | None = None) -> RawArray:
    """Read the array of a file.

    Args:
        path: .npy, .npz, .wav, .csv, .tsv or .txt; "file.npz:name" names an array, "file.csv:name" a column.
        name: the same name, as a separate argument.
    Raises:
        SsmspecError: the file is missing, unreadable, damaged, too large or of another format; an array or column must be named or does not
            exist.
    """
    path, name = split_name(path, name)
    require_regular(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise SsmspecError(f"{path}: format {path.suffix or 'without suffix'!r} is unknown; choose one of {', '.join(READERS)}")
    if name is not None and reader in (_npy, _wav):
        raise SsmspecError(f"{path}: has only one array, but {name!r} was requested; remove the name")
    try:
        with np.errstate(all="ignore"):  # sizes in headers that overflow integers
            return reader(path, name)
    except SsmspecError:
        raise
    except Exception as error:  # damaged files must never cause a traceback, whatever NumPy and SciPy raise
        raise SsmspecError(f"{path}: cannot be read as {path.suffix.lower()} ({one_line(numpy_reason(error), 200)})") from error


def split_name(path: str | Path, name: str | None = None) -> tuple[Path, str | None]:
    """The file, and the name of an array or column: the given name, or the part after the last colon, unless a file has that full name."""
    file, colon, behind = str(path).rpartition(":")
    if name is None and colon and behind and not exists(Path(path)) and exists(Path(file)):
        return Path(file), behind
    return Path(path), name


def check_bytes(size: int, where: str) -> None:
    """Refuse data that are too large for memory.

    Raises:
        SsmspecError: there are more than MOST_BYTES.
    """
    if size > MOST_BYTES:
        raise SsmspecError(
            f"{where}: {size / 2**30:.3g} GiB; expected at most {MOST_BYTES / 2**30:g} GiB; save it as .npy, which is memory-mapped"
        )


def _npy(path: Path, name: str | None) -> RawArray:
    with path.open("rb") as stream:
        if stream.read(6) != b"\x93NUMPY":
            raise SsmspecError(f"{path}: not a .npy file despite its name; save the array with numpy.save")
    return RawArray(np.load(path, mmap_mode="r", allow_pickle=False))


def _npz(path: Path, name: str | None) -> RawArray:
    with zipfile.ZipFile(path) as archive:
        sizes = {member.filename.removesuffix(".npy"): member.file_size for member in archive.infolist()}
    chosen = _choose(path, tuple(sizes), name)
    check_bytes(sizes[chosen], f"{path}: array {chosen}")
    with np.load(path, allow_pickle=False) as file:
        values = file[chosen]
    if not isinstance(values, np.ndarray):
        raise SsmspecError(f"{path}: {chosen} is not an array")
    others = len(sizes) - 1
    return RawArray(values, notes=(f"array {chosen}; {others} other{'s' * (others > 1)} ignored",) if others and name is None else ())


def _choose(path: Path, names: tuple[str, ...], name: str | None) -> str:
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    if name is not None:
        if name not in names:
            raise SsmspecError(f"{path}: no array {name!r}; it has {listed or 'none'}")
        return name
    found = [preferred for preferred in PREFERRED if preferred in names][:1] or list(names)
    if len(found) != 1:
        what = f"{len(names)} arrays ({listed}); choose one: {path.name}:{names[0]}" if names else "no arrays"
        raise SsmspecError(f"{path}: {what}")
    return found[0]


def _wav(path: Path, name: str | None) -> RawArray:
    from scipy.io import wavfile

    check_bytes(path.stat().st_size, str(path))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rate, values = wavfile.read(path)
    if any("EOF" in str(warning.message) for warning in caught):
        raise SsmspecError(f"{path}: shorter than its header says: the file is truncated; fetch it again")
    return RawArray(values, "LC", float(rate))


def _table(path: Path, name: str | None) -> RawArray:
    """Rows are samples and columns are channels; a first line with anything but numbers is a header."""
    check_bytes(path.stat().st_size, str(path))
    with path.open(encoding="utf-8-sig") as stream:
        lines = (line for line in stream if line.strip() and not line.startswith("#"))
        first = next(lines, "")
        delimiter = next((sign for sign in "\t;," if sign in first), None)
        header = [cell.strip().strip('"') for cell in first.split(delimiter)]
        has_header = not all(_is_number(cell) for cell in header)
        row = next(lines, "") if has_header else first
        if not row:
            raise SsmspecError(f"{path}: no lines of numbers; expected one row per sample")
        values = np.loadtxt(chain([row], lines), delimiter=delimiter, ndmin=2)
    if not has_header:
        header = [str(number) for number in range(1, values.shape[1] + 1)]
    if len(header) != values.shape[-1]:
        raise SsmspecError(f"{path}: {len(header)} names in the header, but {values.shape[-1]} columns; expected the same number")
    if name is not None:
        if name not in header:
            raise SsmspecError(f"{path}: no column {name!r}; it has {one_line(', '.join(header))}")
        return RawArray(values[:, [header.index(name)]], "LC", notes=(f"column {name}",))
    _refuse_time_axis(path, header, values)
    return RawArray(values, "LC", notes=("first line read as column names",) if has_header else ())


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _refuse_time_axis(path: Path, header: list[str], values: npt.NDArray[np.float64]) -> None:
    """Refuse a first column that rises evenly beside others: it is a time or an index, and its 1/f^2 spectrum would dominate theirs."""
    if values.shape[1] < 2 or len(values) < 3:
        return
    steps = np.diff(values[:, 0])
    if np.isfinite(steps).all() and steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-3, atol=0):
        others = ", ".join(header[1:4])
        raise SsmspecError(
            f"{path}: column {header[0]!r} rises evenly like a time axis; remove it from the file, or choose one column "
            f"({path.name}:{header[1]}); the others are {one_line(others)}"
        )


READERS: dict[str, Callable[[Path, str | None], RawArray]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".wav": _wav,
    ".csv": _table,
    ".tsv": _table,
    ".txt": _table,
}
