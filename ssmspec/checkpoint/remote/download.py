"""Whole copies of remote checkpoints: in the cache of huggingface_hub for hf://, in one of our own for everything else."""

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ssmspec.checkpoint.formats.folders import is_index, shards_of
from ssmspec.checkpoint.reader import place_of
from ssmspec.checkpoint.remote.failures import AnswerError, explained
from ssmspec.checkpoint.remote.path import RemotePath
from ssmspec.checkpoint.remote.places import location_of
from ssmspec.errors import CheckpointError

if TYPE_CHECKING:
    from ssmspec.checkpoint.remote.hub_store import HubStore

VARIABLE = "SSMSPEC_CACHE"


def download(given: str) -> Path:
    """A local copy of a checkpoint: of a file itself, of a folder the files that would be opened, and the JSON files beside them.

    A copy that is there already is used if the server says that the file is still the same.

    Raises:
        CheckpointError: it cannot be fetched, or did not come whole.
    """
    path = location_of(given)
    if isinstance(path, Path):
        return path
    try:
        if path.store.revision is not None:
            return _from_hub(path)
        if path.store.is_folder(path.key):
            place, files = _files(path)
            return {file.key: _fetched(file, _folder(path)) for file in files}.get(place.key, _folder(path))
        return _fetched(path, None)
    except CheckpointError:
        raise
    except Exception as error:  # whatever a client raises is one line to the user
        raise explained(given, error) from error


def _files(path: RemotePath) -> tuple[RemotePath, list[RemotePath]]:
    """What would be opened for a path, and all files that this needs."""
    place, _ = place_of(path)
    assert isinstance(place, RemotePath)
    if place.is_dir():
        return place, [entry for entry in place.iterdir() if entry.is_file()]
    beside = [entry for entry in place.parent.iterdir() if entry.suffix == ".json"] if path.is_dir() else []
    shards = [place.parent / name for name in shards_of(place)] if is_index(place) else []
    return place, list({file.key: file for file in (place, *shards, *beside)}.values())


def _from_hub(path: RemotePath) -> Path:
    from huggingface_hub import hf_hub_download

    hub: HubStore = path.store  # type: ignore[assignment]
    place, files = _files(path)
    copies = {file.key: Path(hf_hub_download(hub.repository, file.key, revision=hub.revision)) for file in files}
    return copies[place.key] if place.key in copies else next(iter(copies.values())).parent


def _folder(path: RemotePath) -> Path:
    return cache_folder() / hashlib.sha256(str(path).encode()).hexdigest()[:32] / path.name


def _fetched(path: RemotePath, folder: Path | None) -> Path:
    """A local copy of one file, in a folder that is named after its version if none is given."""
    version, size = path.store.version(path.key)
    digest = hashlib.sha256(f"{path} {version} {size}".encode()).hexdigest()[:32]
    target = (folder or cache_folder() / digest) / path.name
    mark = target.with_name(f".{path.name}.{digest}")
    if version and target.is_file() and mark.exists() and target.stat().st_size == size:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, suffix=".partial")
    os.close(handle)
    try:
        path.store.fetch_whole(path.key, temporary)
        found = Path(temporary).stat().st_size
        if size is not None and found != size:
            raise AnswerError(f"{found} of {size} bytes came; try again")
        path.store.traffic.add(path.name, found)
        os.replace(temporary, target)  # noqa: PTH105
        mark.touch()
    finally:
        Path(temporary).unlink(missing_ok=True)
    return target


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
