"""Whole files or none: everything that ssmspec writes goes to a temporary file beside its target, then takes its place."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ssmspec.errors import SsmspecError


@contextmanager
def whole_file(target: Path) -> Iterator[IO[bytes]]:
    """A binary file that becomes `target` when the block ends well, and leaves nothing behind when it does not.

    Raises:
        SsmspecError: the folder does not exist or cannot be written, the target is a folder, or the disk is full.
    """
    target = Path(os.path.realpath(target))
    if target.is_dir():
        raise SsmspecError(f"cannot write {target}: it is a folder; name a file")
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial")
    except OSError as error:
        raise SsmspecError(f"cannot write {target}: {error.strerror or error}; choose a folder that exists and can be written") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(_usual_mode(target))
        temporary.replace(target)
    except OSError as error:
        raise SsmspecError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _usual_mode(target: Path) -> int:
    """The mode of the file that is replaced, else what the umask leaves of 0666."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
