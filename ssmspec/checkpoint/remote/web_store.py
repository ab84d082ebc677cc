"""Files of the web: ranges through fsspec's http filesystem, whose answers are all checked by a middleware of its client."""

import asyncio
from collections.abc import Sequence
from html.parser import HTMLParser
from urllib.parse import quote, unquote, urlsplit

import aiohttp
import yarl
from fsspec.asyn import sync
from fsspec.callbacks import Callback
from fsspec.implementations.http import HTTPFileSystem

from ssmspec.checkpoint.remote.checks import HTML, PATIENCE, RangeChecks, WebFile
from ssmspec.checkpoint.remote.failures import DENIED, GONE, UNSATISFIABLE, AnswerError, explained
from ssmspec.checkpoint.remote.store import FIRST, Kind, RangedFile, Store, Wanted, ranges_of

TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
EXPIRED = (*DENIED, *GONE)
LARGEST_PAGE = 1 << 24  # bytes


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def links_of(page: str) -> list[str]:
    """Where the links of a page lead."""
    parser = _Links()
    parser.feed(page)
    return parser.found


def _below(folder: yarl.URL, link: str) -> str:
    """The name directly in a folder that a link leads to, with a slash at its end for a folder; "" if it leads elsewhere."""
    try:
        target = folder.join(yarl.URL(link))
    except ValueError:
        return ""
    name = target.raw_path.removeprefix(folder.raw_path)
    inside = target.host == folder.host and target.raw_path.startswith(folder.raw_path) and not target.query_string
    return name if inside and name.rstrip("/") and "/" not in name.rstrip("/") else ""


class WebStore(Store):
    """Everything under one host.

    Args:
        address: of a file, or with a slash at its end of a folder whose page lists links.
    """

    def __init__(self, address: str) -> None:
        super().__init__()
        parts = urlsplit(str(yarl.URL(address)))
        self.base = f"{parts.scheme}://{parts.netloc}"
        self.shown_base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self.start = parts.path.strip("/")
        self.root_name = parts.netloc.rpartition("@")[2]
        self._query = parts.query
        self._listed: dict[str, dict[str, Kind]] = {}
        self._folder = parts.path.endswith("/") or not self.start
        self._web: dict[str, WebFile] = {}
        self._absent: set[str] = set()
        self.checks = RangeChecks(self.traffic, self._authorization)
        self.fs = HTTPFileSystem(
            skip_instance_cache=True,
            encoded=True,
            client_kwargs={"middlewares": (self.checks,), "timeout": TIMEOUT, "trust_env": True},
            headers={"Accept-Encoding": "identity"},
        )

    def _authorization(self, url: str) -> str:
        return ""  # .netrc and passwords in addresses are handled by aiohttp

    def shown(self, key: str) -> str:
        return f"{self.shown_base}/{key}"

    def url(self, key: str) -> str:
        """The address of a key as it is requested."""
        query = f"?{self._query}" if self._query and key == self.start else ""
        return f"{self.base}/{quote(key, safe='/%~:@!$&()*+,;=')}{query}"

    def kind(self, key: str) -> Kind | None:
        if key == self.start and self._folder:
            return "folder"
        parent, _, name = key.rpartition("/")
        if parent in self._listed:
            return self._listed[parent].get(name)
        if key not in self._web and key not in self._absent:
            try:
                self._begin([key])
            except AnswerError as error:
                if error.status not in GONE and (error.status not in DENIED or key == self.start):
                    raise explained(self.shown(key), error) from error
                self._absent.add(key)
            except Exception as error:  # whatever the client raises is one line to the user
                raise explained(self.shown(key), error) from error
        return None if key in self._absent else "file"

    def names(self, key: str) -> list[str]:
        if key not in self._listed:
            url = yarl.URL(f"{self.url(key).rstrip('/')}/", encoded=True)
            try:
                page: str = sync(self.fs.loop, self._page, url)
            except Exception as error:
                raise explained(self.shown(key), error) from error
            found = [name for link in links_of(page) if (name := _below(url, link))]
            self._listed[key] = {name.rstrip("/"): "folder" if name.endswith("/") else "file" for name in found}
        return sorted(self._listed[key])

    async def _page(self, url: yarl.URL) -> str:
        """The page of a folder."""
        session = await self.fs.set_session()
        async with asyncio.timeout(PATIENCE), session.get(url, **self.fs.kwargs) as answer:
            data = bytearray()
            async for piece in answer.content.iter_any():
                data += piece
                if len(data) > LARGEST_PAGE:
                    raise AnswerError(f"its page has more than {LARGEST_PAGE:,} bytes, so it is none that lists a folder")
            return data.decode("utf-8", "replace") if answer.content_type in HTML else ""

    def plain_name(self, name: str) -> str:
        return unquote(name)

    def size(self, key: str) -> int:
        if key not in self._web:
            self.begin([key])
        return self._web[key].size

    def begin(self, keys: Sequence[str]) -> None:
        try:
            self._begin([key for key in keys if key not in self._web])
        except Exception as error:
            raise explained(self.shown(keys[0]), error) from error

    def _begin(self, keys: Sequence[str]) -> None:
        """The first bytes of files, which also tell their sizes."""
        if not keys:
            return
        found = {key: self._known(key) for key in keys}
        for file in found.values():
            self.checks.know(file.url, file)
        try:
            data = self._ranges([(file, 0, FIRST) for file in found.values()])
        except AnswerError as error:
            if error.status != UNSATISFIABLE or len(keys) > 1:
                raise
            data, found[keys[0]].size = [b""], 0  # an empty file has no first byte
        for (key, file), head in zip(found.items(), data, strict=True):
            self._web[key] = file
            self._files[key] = RangedFile(self, key, file.size)
            self._files[key].held.add(0, head[: file.size])

    def _known(self, key: str) -> WebFile:
        """A file of which no byte was read yet."""
        return WebFile(key.rpartition("/")[2], self.url(key))

    def _get(self, wanted: Sequence[Wanted]) -> list[bytes]:
        return self._ranges([(self._web[key], start, stop) for key, start, stop in wanted])

    def _ranges(self, wanted: Sequence[tuple[WebFile, int, int]]) -> list[bytes]:
        try:
            return self._request(wanted)
        except AnswerError as error:
            expired = {id(file): file for file, _, _ in wanted if file.location not in ("", file.url)}
            if error.status not in EXPIRED or not expired:
                raise
        for file in expired.values():  # addresses that are signed for some minutes: once more from the beginning
            self._resolve(file)
        return self._request(wanted)

    def _resolve(self, file: WebFile) -> None:
        file.location = ""

    def _request(self, wanted: Sequence[tuple[WebFile, int, int]]) -> list[bytes]:
        urls = [file.location or file.url for file, _, _ in wanted]
        starts, stops = [start for _, start, _ in wanted], [stop for _, _, stop in wanted]
        return ranges_of(self.fs, urls, starts, stops)

    def is_folder(self, key: str) -> bool:
        return key == self.start and self._folder

    def version(self, key: str) -> tuple[str, int | None]:
        info = self.fs.info(self.url(key))
        size = info.get("size")
        return str(info.get("ETag") or ""), None if size is None else int(size)

    def _copy(self, key: str, target: str, callback: Callback) -> None:
        self.fs.get_file(self.url(key), target, callback=callback)
