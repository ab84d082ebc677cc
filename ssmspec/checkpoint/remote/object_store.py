"""Everything else that fsspec knows: object stores such as s3:// and gs://, and more.

What identifies a version of an object is compared before and after every read, since these clients do not.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fsspec.callbacks import Callback
from fsspec.core import url_to_fs

from ssmspec.checkpoint.remote.failures import AnswerError, explained
from ssmspec.checkpoint.remote.store import AT_ONCE, FIRST, Kind, Store, Wanted, ranges_of

TALKATIVE = ("gcsfs", "google.auth", "s3fs", "aiobotocore", "botocore")
VERSION = ("ETag", "etag", "generation", "LastModified", "mtime", "last_modified", "size")  # what tells versions of a file apart


class ObjectStore(Store):
    """A bucket, or whatever a filesystem has below its protocol."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._scheme = address.partition("://")[0]
        for client in TALKATIVE:
            logging.getLogger(client).setLevel(logging.CRITICAL)  # what goes wrong is told once, in one line
        self.fs, start = url_to_fs(address, skip_instance_cache=True, use_listings_cache=False)
        self._slash = "/" if start.startswith("/") else ""
        self.start = start.strip("/")
        self.root_name = self._scheme
        self._infos: dict[str, Mapping[str, Any] | None] = {}

    def shown(self, key: str) -> str:
        return f"{self._scheme}://{self._slash}{key}"

    def kind(self, key: str) -> Kind | None:
        info = self._info(key)
        return None if info is None else "folder" if info["type"] == "directory" else "file"

    def _info(self, key: str) -> Mapping[str, Any] | None:
        if key not in self._infos:
            try:
                self._infos[key] = self._ask(key)
            except FileNotFoundError:
                self._infos[key] = None
            except Exception as error:
                raise explained(self.shown(key), error) from error
        return self._infos[key]

    def _ask(self, key: str) -> Mapping[str, Any]:
        self.traffic.requests += 1
        self.fs.invalidate_cache()
        found: Mapping[str, Any] = self.fs.info(self._slash + key)
        return found

    def names(self, key: str) -> list[str]:
        try:
            self.traffic.requests += 1
            found = self.fs.ls(self._slash + key, detail=True)
        except Exception as error:
            raise explained(self.shown(key), error) from error
        names = {str(entry["name"]).rstrip("/").rpartition("/")[2]: entry for entry in found if str(entry["name"]).strip("/") != key}
        self._infos |= {f"{key}/{name}": entry for name, entry in names.items()}
        return sorted(names)

    def size(self, key: str) -> int:
        info = self._info(key)
        if info is None:
            raise explained(self.shown(key), FileNotFoundError())
        if info.get("size") is None:
            raise explained(self.shown(key), AnswerError("its store does not tell its size; use --download"))
        return int(info["size"])

    def begin(self, keys: Sequence[str]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self.size, keys))
        self.prefetch([(key, 0, FIRST) for key in keys])

    def _get(self, wanted: Sequence[Wanted]) -> list[bytes]:
        keys = [self._slash + key for key, _, _ in wanted]
        starts, stops = [start for _, start, _ in wanted], [stop for _, _, stop in wanted]
        self.traffic.requests += len(wanted)
        data = ranges_of(self.fs, keys, starts, stops)
        for (key, _, _), part in zip(wanted, data, strict=True):
            self.traffic.add(key.rpartition("/")[2], len(part))
        touched = sorted({key for key, _, _ in wanted})
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for key, now in zip(touched, pool.map(self._ask, touched), strict=True):
                before = self._infos[key] or {}
                if any(before.get(name) != now.get(name) for name in VERSION if name in before and name in now):
                    raise AnswerError(f"{self.shown(key)} changed while it was read; start again")
        return data

    def version(self, key: str) -> tuple[str, int | None]:
        info = self._ask(key)
        return str(info.get("ETag") or info.get("etag") or info.get("mtime") or ""), info.get("size")

    def _copy(self, key: str, target: str, callback: Callback) -> None:
        self.fs.get_file(self._slash + key, target, callback=callback)
