"""A stand-in of the Hub's endpoints on the loopback: what a model is, where its files are, and the files at locations that expire."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from range_server import Asked, Handler, Rules, serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GATED = "secret/gated"
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"


class HubHandler(Handler):
    """Folders `organization/name` are repositories; their files are served below /cdn/, a redirect away."""

    def answer(self, asked: Asked, *, ranges: bool = True, etag: str | None = None) -> None:
        parts = urlsplit(asked.path)
        path = unquote(parts.path).strip("/")
        folder = self.server.rules.folder
        if path.startswith("api/models/"):
            self._model("/".join(path.split("/")[2:4]), path.partition("/revision/")[2], folder)
        elif "/resolve/" in path:
            repository, _, rest = path.partition("/resolve/")
            name = rest.partition("/")[2]
            file = folder / repository / name
            if not file.is_file():
                self.reply(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
                return
            signed = f"/cdn/{repository}/{name}?expires={time.monotonic() + float(self.lifetime())}"
            linked = {"X-Linked-Size": str(file.stat().st_size), "X-Linked-Etag": '"linked"', "X-Repo-Commit": COMMIT}
            self.reply(302, b"", {"Location": f"http://localhost:{self.server.server_address[1]}{signed}", **linked})
        elif path.startswith("cdn/"):
            if time.monotonic() > float(parse_qs(parts.query)["expires"][0]):
                self.reply(403, b"<Error>expired</Error>", {})
                return
            super().answer(Asked(path.removeprefix("cdn/"), asked.range, asked.headers, asked.method), ranges=ranges, etag=etag)
        else:
            self.reply(404, b"", {})

    def lifetime(self) -> str:
        file = self.server.rules.folder / "lifetime"
        return file.read_text() if file.exists() else "1000"

    def _model(self, repository: str, revision: str, folder: Path) -> None:
        if repository == GATED and self.headers.get("authorization") != f"Bearer {TOKEN}":
            self.reply(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model is restricted."})
        elif not (folder / repository).is_dir():
            self.reply(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("", "main", COMMIT):
            self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            files = sorted(path for path in (folder / repository).rglob("*") if path.is_file())
            siblings = [{"rfilename": path.relative_to(folder / repository).as_posix()} for path in files]
            body = json.dumps({"id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings}).encode()
            self.reply(200, body, {"Content-Type": "application/json"})


@contextmanager
def hub(folder: Path) -> Iterator[Rules]:
    """The endpoint; requests with ranges go to another host name of it."""
    with serving(folder, HubHandler) as rules:
        yield rules
