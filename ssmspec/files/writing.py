"""Atomic writing: everything that ssmspec writes first goes to a temporary file beside the target, which then replaces the target.

An existing file is replaced only by a file of the same kind, so that a typing mistake never overwrites a checkpoint.
"""

import io
import os
import stat
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import IO

from ssmspec.errors import SsmspecError
from ssmspec.files.replacing import new_file

MARK_OF_PAGE = "ssmspec report"  # what a page says that it was made by


class Kind(Enum):
    """The kind of file being written, and the suffixes of the files that it may replace."""

    table = (".csv", ".tsv", ".txt")
    arrays = (".npz",)
    matlab = (".mat",)
    picture = (".png", ".svg", ".pdf")
    rules = (".toml",)
    provenance = (".ssmspec.json",)
    lines = (".jsonl",)
    document = (".json",)
    page = (".html", ".htm")
    parquet = (".parquet",)


def refuse_precious(target: Path, kind: Kind) -> None:
    """Refuse to overwrite a file of another kind. Devices, pipes and empty files contain nothing that could be lost.

    Raises:
        SsmspecError: the target is a folder, "-", a file of another kind, a block device, or a name that cannot be looked up; for a
            sidecar, whose name nobody chose, a device or a pipe, too.
    """
    if str(target) == "-":
        raise SsmspecError("cannot write '-': it is not a file name; give a file name or /dev/stdout")
    status = look_up(target)
    if status is None or (is_stream(status) and kind is not Kind.provenance):
        return
    if stat.S_ISDIR(status.st_mode):
        raise SsmspecError(f"cannot write {target}: it is a folder; name a file")
    if not stat.S_ISREG(status.st_mode):
        text = "it is a device or a pipe; remove it first" if kind is Kind.provenance else "it is a device; name a file"
        raise SsmspecError(f"cannot write {target}: {text}")
    if status.st_size and not _replaceable(Path(os.path.realpath(target)), kind):
        raise SsmspecError(
            f"cannot write {target}: it exists and is not {_ARTICLES[kind]} ({', '.join(kind.value)}) as ssmspec writes it; "
            "name another file, or remove it first"
        )


_ARTICLES = {
    Kind.table: "a table",
    Kind.arrays: "a file of arrays",
    Kind.matlab: "a MATLAB file of matrices",
    Kind.picture: "a picture",
    Kind.rules: "a rules file",
    Kind.provenance: "a sidecar",
    Kind.lines: "a log",
    Kind.page: "a report",
    Kind.parquet: "a Parquet table",
}


def made_folder(folder: Path) -> Path:
    """The folder for files to be written, created if missing.

    Raises:
        SsmspecError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SsmspecError(f"cannot create the folder {folder}: {error.strerror or error}") from error
    return folder


def make_folder_of(target: Path) -> None:
    """Create the folder of a file to be written, if it is missing.

    Raises:
        SsmspecError: it cannot be created.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SsmspecError(f"cannot write {target}: its folder cannot be created: {error.strerror or error}") from error


@contextmanager
def whole_file(target: Path, kind: Kind) -> Iterator[IO[bytes]]:
    """A binary file that becomes `target` if the block ends without an error, and leaves nothing behind otherwise.

    Devices and pipes are written to directly, all at once; they are never replaced.

    Raises:
        SsmspecError: the same errors as `refuse_precious`; also if the folder does not exist or is not writable, or the disk is full.
    """
    refuse_precious(target, kind)
    status = look_up(target)
    if status is not None and is_stream(status):
        buffer = io.BytesIO()
        yield buffer
        _write_through(target, status, buffer.getvalue())
        return
    target = Path(os.path.realpath(target))
    with new_file(target, _usual_mode(target)) as file:
        yield file


def look_up(target: Path) -> os.stat_result | None:
    """The status of the file that a path points to; None if there is none.

    Raises:
        SsmspecError: the name cannot be looked up.
    """
    try:
        return target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise SsmspecError(f"cannot write {_shortened(target)}: {getattr(error, 'strerror', None) or error}; name another file") from error


def _shortened(target: Path) -> str:
    return str(target) if len(str(target)) <= 120 else f"{str(target)[:117]}..."


def is_stream(status: os.stat_result) -> bool:
    """Whether this is a character device, pipe or socket, or standard output (whatever it is connected to)."""
    if stat.S_ISCHR(status.st_mode) or stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode):
        return True
    return _is_standard_output(status)


def _is_standard_output(status: os.stat_result) -> bool:
    try:
        return os.path.samestat(status, os.fstat(1))
    except OSError:  # closed
        return False


def _write_through(target: Path, status: os.stat_result, content: bytes) -> None:
    try:
        if _is_standard_output(status):
            sys.stdout.flush()
            handle = os.dup(1)
        else:
            handle = os.open(target, os.O_WRONLY)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SsmspecError(f"cannot write {target}: {error.strerror or error}") from error


def _replaceable(existing: Path, kind: Kind) -> bool:
    """Whether a file is of the given kind, judged by its suffix, and also by its content if weights may have that suffix."""
    if not existing.name.lower().endswith(kind.value):
        return False
    try:
        if kind is Kind.arrays:
            with zipfile.ZipFile(existing) as archive:
                names = set(archive.namelist())
                return {"name.npy", "family.npy"} <= names or "provenance.npy" in names
        if kind is Kind.matlab:
            from scipy.io import whosmat  # rarely needed

            return {"name", "family"} <= {name for name, *_ in whosmat(existing)}
        if kind is Kind.page:
            with existing.open("rb") as file:
                return MARK_OF_PAGE.encode() in file.read(4096)
        if kind is Kind.parquet:
            with existing.open("rb") as file:
                return file.read(4) == b"PAR1"
        if kind is Kind.table:
            with existing.open("rb") as file:
                return b"\0" not in file.read(4096)
    except Exception:  # whatever zipfile and SciPy raise for damaged files
        return False
    return True


def _usual_mode(target: Path) -> int:
    """The mode of the replaced file, or else 0666 reduced by the umask."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
