"""A stand-in of Google Cloud Storage on the loopback: the parts of its JSON API that describe objects, list them and serve their bytes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from range_server import Asked, Handler, Rules, serving

DOWNLOAD, OBJECTS = "/download/storage/v1/b/", "/storage/v1/b/"


class GcsHandler(Handler):
    """Folders are buckets. `/storage/v1/b/BUCKET/o/NAME` describes, with `/download` in front it serves."""

    def answer(self, asked: Asked, *, ranges: bool = True, etag: str | None = None) -> None:
        parts = urlsplit(asked.path)
        query = parse_qs(parts.query)
        start = DOWNLOAD if parts.path.startswith(DOWNLOAD) else OBJECTS
        bucket, _, name = parts.path.removeprefix(start).partition("/o")
        folder, name = self.server.rules.folder / bucket, unquote(name.removeprefix("/"))
        if start == DOWNLOAD or query.get("alt") == ["media"]:
            super().answer(Asked(f"/{bucket}/{name}", asked.range, asked.headers, asked.method), ranges=ranges, etag=etag)
        elif name and (folder / name).is_file():
            self._json(200, described(bucket, folder, folder / name))
        elif name or not folder.is_dir():
            self._json(404, {"error": {"code": 404, "message": "No such object"}})
        else:
            self._json(200, listed(bucket, folder, query.get("prefix", [""])[0]))

    def _json(self, status: int, content: Any) -> None:
        self.reply(status, json.dumps(content).encode(), {"Content-Type": "application/json"})


def described(bucket: str, folder: Path, path: Path) -> dict[str, str]:
    """An object as the API describes it."""
    name, status = path.relative_to(folder).as_posix(), path.stat()
    told = {"size": str(status.st_size), "generation": str(status.st_mtime_ns), "etag": f"etag{status.st_mtime_ns}"}
    times = dict.fromkeys(("updated", "timeCreated"), "2026-11-30T12:00:00.000Z")
    return {"kind": "storage#object", "bucket": bucket, "name": name, "id": f"{bucket}/{name}", **told, **times}


def listed(bucket: str, folder: Path, prefix: str) -> dict[str, Any]:
    """What is directly below a prefix."""
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    below = [name for name in names if name.startswith(prefix)]
    items = [described(bucket, folder, folder / name) for name in below if "/" not in name[len(prefix) :]]
    prefixes = sorted({f"{prefix}{name[len(prefix) :].partition('/')[0]}/" for name in below if "/" in name[len(prefix) :]})
    return {"kind": "storage#objects", "items": items, "prefixes": prefixes}


@contextmanager
def gcs(folder: Path) -> Iterator[Rules]:
    """A server whose buckets are the folders in a folder."""
    with serving(folder, GcsHandler) as rules:
        yield rules
