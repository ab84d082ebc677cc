"""Whole copies of remote checkpoints: in the cache of huggingface_hub for hf://, in one of our own for everything else."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ssmspec.checkpoint.formats.folders import BESIDE, is_index, shards_of
from ssmspec.checkpoint.reader import place_of
from ssmspec.checkpoint.remote.failures import AnswerError, explained
from ssmspec.checkpoint.remote.path import RemotePath
from ssmspec.checkpoint.remote.places import location_of
from ssmspec.checkpoint.tensors import problem, short
from ssmspec.errors import CheckpointError

if TYPE_CHECKING:
    from ssmspec.checkpoint.remote.hub_store import HubStore

VARIABLE = "SSMSPEC_CACHE"
MOST_FILES = 20_000
MOST_DEPTH = 8


def download(given: str) -> Path:
    """A local copy of a checkpoint: of the files that would be opened, and the configuration beside them.

    A copy that is there already is used if the server says that the file is still the same.

    Raises:
        CheckpointError: it cannot be fetched, or did not come whole.
    """
    path = location_of(given)
    if isinstance(path, Path):
        return path
    try:
        root, opened, files = _files(path)
        if path.store.revision is not None:
            return _from_hub(path, opened, files)
        folder = cache_folder() / hashlib.sha256(str(root).encode()).hexdigest()[:32] / _safe(root, root.name)
        for file in files:
            _fetched(file, folder / _inside(root, file))
        return folder if opened == root else folder / _inside(root, opened)
    except CheckpointError:
        raise
    except Exception as error:  # whatever a client raises is one line to the user
        raise explained(str(path), error) from error


def _files(path: RemotePath) -> tuple[RemotePath, RemotePath, list[RemotePath]]:
    """The folder that is copied, what would be opened in it, and all files that this needs."""
    if not path.store.is_folder(path.key):
        parent = path.parent
        beside = [there for name in BESIDE if (there := parent / name).is_file()]
        return parent, path, _once([path, *_shards(path), *beside])
    place, _ = place_of(path)
    assert isinstance(place, RemotePath)
    if place.is_dir():
        return path, place, list(_below(place, 0))
    beside = [entry for entry in place.parent.iterdir() if entry.suffix == ".json"]
    return path, place, _once([place, *_shards(place), *beside])


def _shards(path: RemotePath) -> list[RemotePath]:
    return [path.parent / name for name in shards_of(path)] if is_index(path) else []


def _once(files: list[RemotePath]) -> list[RemotePath]:
    return list({file.key: file for file in files}.values())


def _below(folder: RemotePath, depth: int) -> Iterator[RemotePath]:
    """All files in a folder and in those below."""
    found = list(folder.iterdir())
    if depth > MOST_DEPTH or len(found) > MOST_FILES:
        raise problem(folder, f"{len(found)} entries in a folder at depth {depth}; expected at most {MOST_FILES}, and depth {MOST_DEPTH}")
    for entry in found:
        if entry.is_dir():
            yield from _below(entry, depth + 1)
        else:
            yield entry


def _inside(root: RemotePath, path: RemotePath) -> Path:
    """Where a file is below the local copy of a folder."""
    return Path(*(_safe(path, part) for part in path.relative_to(root).split("/")))


def _safe(path: RemotePath, name: str) -> str:
    """A name that a store told, as a local one, which must lead nowhere else.

    Raises:
        AnswerError: it would.
    """
    plain = path.store.plain_name(name)
    if plain in ("", ".", "..") or Path(plain).name != plain or "\\" in plain or not plain.isprintable():
        raise AnswerError(f"a file is called {short(plain, 60)!r}, which is no plain name here; it was not fetched")
    return plain


def _from_hub(path: RemotePath, opened: RemotePath, files: list[RemotePath]) -> Path:
    from huggingface_hub import hf_hub_download

    hub: HubStore = path.store  # type: ignore[assignment]
    copies = {file.key: Path(hf_hub_download(hub.repository, file.key, revision=hub.revision)) for file in files}
    if opened.key in copies:
        return copies[opened.key]
    first, copy = next(iter(copies.items()))
    return copy.parents[first.removeprefix(f"{opened.key}/" if opened.key else "").count("/")]


def _fetched(path: RemotePath, target: Path) -> None:
    """Makes a local copy of one file, unless there is one of the same version."""
    version, size = path.store.version(path.key)
    digest = hashlib.sha256(f"{path} {version} {size}".encode()).hexdigest()[:32]
    mark = target.with_name(f".{target.name}.{digest}")
    if version and target.is_file() and mark.exists() and target.stat().st_size == size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, suffix=".partial")
    os.close(handle)
    try:
        path.store.fetch_whole(path.key, temporary, size)
        found = Path(temporary).stat().st_size
        if size is not None and found != size:
            raise AnswerError(f"{found} of {size} bytes came; try again")
        os.replace(temporary, target)  # noqa: PTH105
        mark.touch()
    finally:
        Path(temporary).unlink(missing_ok=True)


def cache_folder() -> Path:
    """Where copies are kept: $SSMSPEC_CACHE, or the platform's folder for caches."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ssmspec"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "ssmspec" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ssmspec"
