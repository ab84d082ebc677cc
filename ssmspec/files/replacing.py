"""How a file or folder takes the place of another, so that whoever looks sees the old or the new one, whole.

A temporary file or folder is called ".<target>.<8 characters>.partial" and is locked (flock) while its writer lives; what a killed writer
left is removed when the same target is written again. Where the file system has no locks, it stays.
"""

import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ssmspec.errors import SsmspecError

if sys.platform != "win32":
    import fcntl


@contextmanager
def new_file(target: Path, mode: int, *, exclusive: bool = False) -> Iterator[IO[bytes]]:
    """A binary file, to be written and read, that becomes `target` when the block ends well.

    Whenever the process is killed, `target` is what it was or the new file, whole; the new one is on the disk when the block is left.

    Args:
        target: a symbolic link is replaced, not followed.
        mode: its permissions.
        exclusive: refuse if there is a `target` by then.
    Raises:
        SsmspecError: the folder does not exist or cannot be written, the disk is full, or the target came to be (`exclusive`).
    """
    remove_leftovers(target)
    try:
        handle, temporary = _temporary_file(target)
    except OSError as error:
        raise SsmspecError(f"cannot write {target}: {error.strerror or error}; choose a folder that exists and can be written") from error
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            temporary.chmod(mode)
            os.fsync(file.fileno())
            if sys.platform == "win32":  # an open file cannot be renamed there
                file.close()
            take_place(temporary, target, exclusive=exclusive)
        sync_folder(target.parent)
    except OSError as error:
        raise SsmspecError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def temporary_prefix(target: Path) -> str:
    """How the names of the temporary files and folders of a target begin; they end in 8 characters and ".partial"."""
    return f".{target.name[:40]}."


_END = re.compile(r"[a-z0-9_]{8}\.partial")  # as the tempfile module makes it


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is a temporary one, of whatever target."""
    return name.startswith(".") and _END.fullmatch(name[-16:]) is not None


def _temporary_file(target: Path) -> tuple[int, Path]:
    while True:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=temporary_prefix(target), suffix=".partial")
        try:
            claimed = claim(handle, Path(name))
        except BaseException:  # an interrupt, too
            os.close(handle)
            Path(name).unlink()
            raise
        if claimed:
            return handle, Path(name)
        os.close(handle)


def claim(handle: int, temporary: Path) -> bool:
    """Locks a temporary file or folder for as long as `handle` is open; False if another process took it for a leftover just before."""
    if _lock(handle) is False:
        return False
    try:
        return os.path.samestat(os.fstat(handle), temporary.lstat())
    except FileNotFoundError:
        return False


def _lock(handle: int) -> bool | None:
    """Whether the lock was free and is ours now; None where there are no locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def remove_leftovers(target: Path) -> None:
    """Removes the temporary files and folders of this target whose writers are dead."""
    prefix = temporary_prefix(target)
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and _END.fullmatch(entry.name.removeprefix(prefix)):
                _remove_if_abandoned(entry)


def remove_abandoned(folder: Path) -> None:
    """Removes the temporary files and folders in a folder, of whatever target, whose writers are dead."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_temporary(entry.name):
                _remove_if_abandoned(entry)


def _remove_if_abandoned(entry: os.DirEntry[str]) -> None:
    folder = entry.is_dir(follow_symlinks=False)
    if not folder and not entry.is_file(follow_symlinks=False):
        return
    with suppress(OSError):
        # NFS gives exclusive locks only to those who may write
        handle = os.open(entry.path, os.O_RDONLY if folder else os.O_RDWR)
        try:
            if _lock(handle):
                shutil.rmtree(entry.path) if folder else Path(entry.path).unlink()
        finally:
            os.close(handle)


def take_place(temporary: Path, target: Path, *, exclusive: bool) -> None:
    """Renames a file or folder onto its target, in one step.

    Raises:
        OSError: the target came to be (`exclusive`), or cannot be replaced.
    """
    if not exclusive:
        temporary.replace(target)
    elif not _rename_with(temporary, target, _NOREPLACE):
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        temporary.rename(target)


def exchange(one: Path, other: Path) -> bool:
    """Swaps two files or folders in one step; False where the system cannot, and nothing was done.

    Raises:
        OSError: one is missing, or may not be renamed.
    """
    return _rename_with(one, other, _EXCHANGE)


_NOREPLACE, _EXCHANGE = 1, 2  # linux/fs.h, RENAME_*


def _rename_with(source: Path, target: Path, flags: int) -> bool:
    """renameat2 of Linux; False where the system or the file system lacks it."""
    import ctypes

    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if function is None:
        return False
    here = ctypes.c_int(-100)  # AT_FDCWD
    if function(here, os.fsencode(source), here, os.fsencode(target), ctypes.c_uint(flags)) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(target))


def sync_folder(folder: Path) -> None:
    """Has the names in a folder written to the disk, where the system can.

    Raises:
        OSError: the disk failed.
    """
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(handle)
