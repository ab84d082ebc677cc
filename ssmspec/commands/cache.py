"""Results of files that were analyzed before: looked up by what was read of the file, its size, the options and the version."""

import hashlib
import json
import os
import pickle
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ssmspec.checkpoint.remote.path import Location, RemotePath, without_secrets
from ssmspec.checkpoint.remote.places import location_of
from ssmspec.checkpoint.remote.traffic import Transfer
from ssmspec.checkpoint.tensors import Checkpoint, Stamp
from ssmspec.checkpoint.watched import Looked, seen_again, watching
from ssmspec.commands.analyze import AnalysisOptions
from ssmspec.commands.chosen_layers import ChosenLayers
from ssmspec.errors import SsmspecError
from ssmspec.files.writing import made_folder
from ssmspec.version import __version__

ELSEWHERE = ("orbax", "hdf5")  # containers that a process of their own reads, so that nobody sees which bytes
Kept = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ResultCache:
    """A folder of results.

    A result that this run stored is not used by it: otherwise copies of a file would be computed or looked up as processes happen to run.

    Args:
        options: what stands for the options and the version. run: a name of this run.
    """

    folder: Path
    options: str
    run: str

    @classmethod
    def at(cls, folder: Path, options: AnalysisOptions, *more: object) -> "ResultCache":
        """The cache in a folder, which is made if it is missing, for results with these options.

        Args:
            more: what else a result depends on.
        Raises:
            SsmspecError: the folder cannot be made, or the options name a file whose content may change.
        """
        if options.read.calibration is not None:
            raise SsmspecError("--cache with --calibration: results may be those of an earlier content of that file; leave one out")
        made_folder(folder)
        told = pickle.dumps((__version__, replace(options, threads=None, files=1), more), protocol=5)
        return cls(folder, hashlib.sha256(told).hexdigest(), uuid.uuid4().hex)

    def result(self, path: str, choose: Callable[[Location], ChosenLayers], make: Callable[[ChosenLayers], Kept]) -> tuple[Kept, bool]:
        """What `make` makes of the layers that `choose` reads, or made before; and whether it comes from the cache.

        Raises whatever they raise; that is not kept.
        """
        location = location_of(path)
        if isinstance(location, RemotePath):
            return self._remote(location, choose, make)
        place = self._place("looks", str(location.absolute()))
        looked = self._load(place)
        if looked is not None:
            with suppress(OSError, KeyError, TypeError, ValueError):
                found = self._find(seen_again(location, looked["looked"]))
                if found is not None:
                    return _with_path(found, location), True
        with watching(location) as watch:
            chosen = choose(watch.path)
        key = _key(location, watch.looked, chosen.checkpoint)
        found = None if key is None else self._find(key)
        kept = make(chosen) if found is None else found
        if key is not None:
            self._store(place, {"looked": watch.looked})
            if found is None:
                self._store(self._place("results", key), kept)
        return _with_path(kept, location), found is not None

    def _remote(
        self, location: RemotePath, choose: Callable[[Location], ChosenLayers], make: Callable[[ChosenLayers], Kept]
    ) -> tuple[Kept, bool]:
        store = location.store
        state = store.revision or (store.version(location.key)[0] if location.is_file() else "")
        key = f"{without_secrets(str(location))} {state}"
        found = self._find(key) if state else None
        if found is not None:
            found["document"]["checkpoint"]["read"] = asdict(Transfer(store.traffic.bytes, store.traffic.requests, store.revision))
            return found, True
        kept = make(choose(location))
        if state:
            self._store(self._place("results", key), kept)
        return kept, False

    def _place(self, kind: str, name: str) -> Path:
        digest = hashlib.sha256(f"{self.options} {name}".encode(errors="surrogateescape")).hexdigest()
        return self.folder / kind / digest[:2] / f"{digest}.json"

    def _find(self, key: str) -> Kept | None:
        entry = self._load(self._place("results", key))
        return None if entry is None or entry.get("run") == self.run else entry

    def _load(self, place: Path) -> Kept | None:
        """What a file of the cache holds; None where there is none, or none that is whole."""
        try:
            entry = json.loads(place.read_bytes())
        except (OSError, ValueError):
            return None
        return entry if isinstance(entry, dict) else None

    def _store(self, place: Path, entry: Kept) -> None:
        """Write a file of the cache, whole or not at all. It is not forced to the disk; one that a loss of power spoils is not used.

        Raises:
            SsmspecError: the disk is full, or the folder is not writable.
        """
        part = place.with_name(f".{place.name}.{os.getpid()}.partial")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(json.dumps(entry | {"run": self.run}, allow_nan=False).encode())
            part.replace(place)
        except OSError as error:
            raise SsmspecError(f"--cache {self.folder}: cannot be written: {error.strerror or error}; choose another folder") from error
        finally:
            with suppress(OSError):
                part.unlink()


def _with_path(kept: Kept, location: Path) -> Kept:
    """The document of another file with the same content is that of this one."""
    kept["document"]["checkpoint"]["path"] = str(location)
    return kept


def _key(location: Path, looked: Looked, checkpoint: Checkpoint) -> str | None:
    """What was read of a checkpoint; None where nobody saw that, or where a file changed meanwhile."""
    if checkpoint.container.startswith(ELSEWHERE):
        return None
    try:
        key = seen_again(location, looked)
        now = {file: Stamp.of(file.stat()) for file in checkpoint.files}
    except OSError:
        return None
    return key if now == dict(checkpoint.files) else None
