"""Write a folder beside its target, then move it into place, so that any reader of the target finds the complete old or new folder."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import Stamp, problem
from ssmspec.checkpoint.write.splice import Splice, unchanged
from ssmspec.errors import SsmspecError
from ssmspec.files.replacing import (
    claim,
    exchange,
    is_temporary,
    new_file,
    remove_leftovers,
    sync_folder,
    take_place,
    temporary_prefix,
)

Job = Callable[[IO[bytes]], None]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a file or folder is written: its real path, its permissions, and whether it is new (nothing existed there before)."""

    path: Path
    mode: int
    is_new: bool


def write_folder(source: Path, destination: Destination, jobs: Mapping[Location, Job]) -> None:
    """Writes a copy of a folder in which some files have new content; the target may be the folder itself.

    Links to files become files; links to folders point to the same folders. If the target is the folder itself, unchanged files are linked
    instead of copied.

    Args:
        source: the folder to copy, with its subfolders.
        destination: an existing folder there is replaced.
        jobs: files of the folder -> functions that write their new content.
    Raises:
        CheckpointError: the folder was changed meanwhile, or holds something that cannot be copied.
        SsmspecError: the target has files that the folder does not have, the target is not writable, or the disk is full.
    """
    target = destination.path
    in_place = target.exists() and target.samefile(source)
    if in_place and len(jobs) <= 1:
        for path, job in jobs.items():
            with new_file(target / path.name, path.stat().st_mode & 0o777) as out:
                job(out)
        return
    try:
        remove_leftovers(target)
        with _temporary_folder(target) as temporary:
            before = _listing(source)
            _refuse_losses(target, before)
            _fill(source, temporary, jobs, link=in_place)
            if _listing(source) != before:
                raise problem(source, "it was changed while ssmspec was working on it; run again when nothing writes to it")
            _refuse_losses(target, before)
            temporary.chmod(destination.mode | 0o700)
            _swap(temporary, destination)
        sync_folder(target.parent)
    except OSError as error:
        raise SsmspecError(f"cannot write {target}: {error.strerror or error}; choose a writable location") from error


@contextmanager
def _temporary_folder(target: Path) -> Iterator[Path]:
    """An empty, locked folder beside the target; whatever remains of it at the end is removed."""
    claimed = False
    while not claimed:
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=temporary_prefix(target), suffix=".partial"))
        try:
            with _opened(temporary) as handle:
                claimed = handle is not None and claim(handle, temporary)
                if claimed:
                    yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _opened(folder: Path) -> Iterator[int | None]:
    """A folder's handle; None if the folder no longer exists."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def _listing(folder: Path) -> dict[str, Stamp | None]:
    """Relative path -> stamp of every file in a folder; None for subfolders and broken links."""
    found: dict[str, Stamp | None] = {}

    def fail(error: OSError) -> None:
        raise problem(error.filename, f"cannot be read: {error.strerror or error}") from error

    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not is_temporary(name)]
        for name in (*folders, *files):
            path = Path(parent, name)
            if not is_temporary(name):
                found[str(path.relative_to(folder))] = Stamp.of(path.stat()) if path.is_file() else None
    return found


def _refuse_losses(target: Path, names: Collection[str]) -> None:
    lost = sorted(_listing(target).keys() - set(names)) if target.exists() else []
    if lost:
        more = ", ..." if len(lost) > 3 else ""
        text = f"it holds {', '.join(lost[:3])}{more}, which would be lost; name another folder, or remove it first"
        raise SsmspecError(f"cannot write {target}: {text}")


def _fill(source: Path, folder: Path, jobs: Mapping[Location, Job], *, link: bool) -> None:
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        path, copy = source / entry.name, folder / entry.name
        if is_temporary(entry.name):
            continue
        if path in jobs:
            _write(copy, path.stat().st_mode, jobs[path])
        elif entry.is_symlink() and (link or not path.is_file()):
            copy.symlink_to(path.readlink() if link or not path.exists() else path.resolve())
        elif entry.is_dir():
            copy.mkdir(0o700)
            _fill(path, copy, jobs, link=link)
            copy.chmod(path.stat().st_mode & 0o777 | 0o700)
        elif not path.is_file():
            raise problem(path, "neither a file nor a folder, so the folder cannot be copied; move it elsewhere first")
        elif not (link and _linked(path, copy)):
            status = path.stat()
            _write(copy, status.st_mode, partial(_copy, path, Stamp.of(status)))
    sync_folder(folder)


def _linked(path: Path, copy: Path) -> bool:
    try:
        copy.hardlink_to(path)
    except OSError:
        return False
    return True


def _copy(path: Path, stamp: Stamp, out: IO[bytes]) -> None:
    with unchanged(path, stamp) as source:
        Splice(path, source, out).through(stamp.size)


def _write(path: Path, mode: int, job: Job) -> None:
    with path.open("x+b") as out:
        job(out)
        out.flush()
        path.chmod(mode & 0o777)
        os.fsync(out.fileno())


def _swap(temporary: Path, destination: Destination) -> None:
    """Puts the new folder in the place of the old one; the old one then is where the new one was, or is removed."""
    target = destination.path
    if destination.is_new:
        take_place(temporary, target, exclusive=True)
    elif not exchange(temporary, target):
        previous = temporary.with_suffix(".previous")
        target.rename(previous)
        try:
            temporary.rename(target)
        except OSError:
            previous.rename(target)
            raise
        shutil.rmtree(previous, ignore_errors=True)


def restore_previous(target: Path) -> None:
    """Restores or removes the old folder that remained when a process was killed between the two renames of a swap."""
    pattern = re.compile(re.escape(temporary_prefix(target)) + r"[a-z0-9_]{8}\.previous")
    entries = list(os.scandir(target.parent)) if target.parent.is_dir() else []
    for entry in [entry for entry in entries if pattern.fullmatch(entry.name)]:
        if target.exists():
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            Path(entry.path).rename(target)
