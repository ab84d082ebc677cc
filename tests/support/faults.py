"""A file system on which the n-th operation fails."""

import fcntl
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ssmspec.files import replacing

OPERATIONS = ("open", "fsync", "replace", "rename", "unlink", "rmdir", "mkdir", "chmod", "link", "symlink", "scandir", "copy_file_range")


class Faults:
    """Counts the operations of a block, and raises at number `at` (from 0), if there are that many."""

    def __init__(self, at: int | None = None, error: BaseException | None = None) -> None:
        self.at, self.error = at, error
        self.seen: list[str] = []

    def meet(self, name: str) -> None:
        """Count one more operation."""
        self.seen.append(name)
        if self.at is not None and len(self.seen) == self.at + 1 and self.error is not None:
            raise self.error

    def counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, as one operation."""

        def call(*arguments: Any, **options: Any) -> Any:
            self.meet(name)
            return function(*arguments, **options)

        return call


class _File(io.FileIO):
    """A file whose writes are operations."""

    faults: Faults

    def write(self, data: Any) -> int:
        self.faults.meet("write")
        return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        self.faults.meet("truncate")
        return super().truncate(size)


@contextmanager
def faulty(faults: Faults) -> Iterator[None]:
    """A block on such a file system."""
    raw = type("File", (_File,), {"faults": faults})
    plain = io.open

    def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not set("wxa+") & set(mode):
            return plain(file, mode, *arguments, **options)
        faults.meet("open")
        binary = raw(file, mode.replace("b", ""))
        buffered = io.BufferedRandom(binary) if "+" in mode else io.BufferedWriter(binary)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, options.get("encoding"))

    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            if hasattr(os, name):
                patch.setattr(os, name, faults.counted(name, getattr(os, name)))
        patch.setattr(os, "fdopen", opened)
        patch.setattr(io, "open", opened)
        patch.setattr(fcntl, "flock", faults.counted("flock", fcntl.flock))
        patch.setattr(replacing, "_rename_with", faults.counted("renameat2", replacing._rename_with))
        yield
