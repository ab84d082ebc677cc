"""The middleware of aiohttp through which every answer to a range comes: it checks that it is the range, of the same file, and whole.

fsspec hands on whatever a server sends: the whole file, a login page, a short body, the range of another version. Source: RFC 9110, 10.2.3
(Retry-After), 13.1.5 and 14.4 (Content-Range), 15.3.7 (206).
"""

import asyncio
import re
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from weakref import WeakKeyDictionary

import aiohttp
import yarl

from ssmspec.checkpoint.remote.failures import AnswerError, NoRangesError, refused
from ssmspec.checkpoint.remote.traffic import Traffic

TRIES = 4
WAIT = 0.5  # seconds before the second try; twice that before the next
LONGEST_WAIT = 20.0  # seconds that a Retry-After is obeyed
PATIENCE = 60.0  # seconds for an answer, and
SLOWEST = 10_000.0  # bytes per second of its body
HTML = ("text/html", "application/xhtml+xml")
REDIRECTS = (301, 302, 303, 307, 308)
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
CHANGED = "the file changed while it was read ({what}); start again"
NOT_REPEATED = (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError, aiohttp.ClientConnectorDNSError)


@dataclass(slots=True)
class WebFile:
    """What answers have said of a file.

    Args:
        url: where it is. location: where its ranges come from, after redirects. size: bytes, -1 as long as nothing told.
    """

    name: str
    url: str
    location: str = ""
    size: int = -1
    version: tuple[str, str] | None = None


class RangeChecks:
    """The middleware; `files` by every URL from which they are requested.

    Args:
        authorization: gives the value of the header Authorization for a URL, or "".
    """

    def __init__(self, traffic: Traffic, authorization: Callable[[str], str]) -> None:
        self.traffic, self.authorization = traffic, authorization
        self._files: dict[str, WebFile] = {}
        self._asked: MutableMapping[asyncio.Task[object], str] = WeakKeyDictionary()  # the URL before redirects

    def know(self, url: str, file: WebFile) -> None:
        """Notes that a file is requested from a URL."""
        self._files[_plain(url)] = file

    async def __call__(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        task = asyncio.current_task()
        assert task is not None
        url = str(request.url)
        wanted = request.headers.get("Range")
        file = self._files[_plain(self._asked.setdefault(task, url))] if wanted else None
        header = self.authorization(url)
        if header:
            request.headers["Authorization"] = header
        tries, error = 0, Exception()
        while tries < TRIES:
            wait = WAIT * 2**tries
            self.traffic.requests += 1
            try:
                async with asyncio.timeout(_patience(wanted)):
                    response = await handler(request)
                    if response.status in REDIRECTS:
                        return response
                    if response.status != 429 and response.status < 500:
                        return await self._checked(response, file, wanted)
                wait = min(LONGEST_WAIT, max(wait, retry_after(response.headers.get("Retry-After", ""))))
                response.close()
                error = refused(response.status, response.reason or "")
            except NOT_REPEATED:
                raise
            except TimeoutError as slow:
                error, tries = slow, tries + 2  # a minute each
            except aiohttp.ClientError as broken:
                error = broken
            tries += 1
            if tries < TRIES:
                await asyncio.sleep(wait)
        raise error

    def _moved(self, file: WebFile, found: yarl.URL) -> None:
        """Notes where an answer came from, with the password of the address if it is the same host."""
        if _plain(str(found)) != _plain(file.location or file.url):
            given = yarl.URL(file.url, encoded=True)
            same = found.origin() == given.origin()
            file.location = str(found.with_user(given.user).with_password(given.password) if same and given.user else found)
            self.know(file.location, file)

    async def _checked(self, response: aiohttp.ClientResponse, file: WebFile | None, wanted: str | None) -> aiohttp.ClientResponse:
        """The answer, its body read. Of one that is not what was asked for, the body is not read."""
        try:
            if response.status >= 400:
                raise refused(response.status, response.reason or "")
            if wanted is None:
                return response
            first, last = _limits(wanted)
            expected = _expected(response, file, first, last)
            if file is not None:
                _same_version(response, file)
                self._moved(file, response.url)
        except AnswerError:
            response.close()
            raise
        data = await response.read()
        if len(data) != expected:
            raise aiohttp.ClientPayloadError(f"{len(data)} of {expected} bytes")
        self.traffic.add(file.name if file else "", len(data))
        return response


def _plain(url: str) -> str:
    """A URL as answers have it, without a password."""
    return str(yarl.URL(url, encoded=True).with_user(None).with_fragment(None))


def _limits(wanted: str) -> tuple[int, int]:
    """The first and last byte of a range."""
    first, last = wanted.removeprefix("bytes=").split("-")
    return int(first), int(last)


def _patience(wanted: str | None) -> float | None:
    """Seconds for a request and its body; nothing limits a whole file."""
    if wanted is None:
        return None
    first, last = _limits(wanted)
    return PATIENCE + (last - first) / SLOWEST


def _expected(response: aiohttp.ClientResponse, file: WebFile | None, first: int, last: int) -> int:
    """How many bytes the body must have; also notes the size of the file.

    Raises:
        AnswerError: not the range.
    """
    said = response.headers.get("Content-Range", "")
    length = response.headers.get("Content-Length")
    if response.status == 200:
        if response.content_type in HTML:
            raise AnswerError("a web page came in place of the file, perhaps a login page; check the address and the access")
        size = f" of {int(length):,} bytes" if length else ""
        raise NoRangesError(f"the server sends no parts of the file{size} but the whole: --download fetches it", 200)
    match = CONTENT_RANGE.fullmatch(said)
    if response.status != 206 or match is None:
        raise AnswerError(f"status {response.status} with Content-Range {said!r} came, expected 206 and a range; use --download")
    start, end, whole = map(int, match.groups())
    if (start, end) != (first, min(last, whole - 1)):
        raise AnswerError(f"bytes {start} to {end} came, asked for were {first} to {min(last, whole - 1)}; use --download")
    if length is None or int(length) != end - start + 1 or response.headers.get("Content-Encoding", "identity") != "identity":
        raise AnswerError(f"an answer of {length or 'unknown'} bytes came for {end - start + 1}; use --download")
    _sized(file, whole)
    return end - start + 1


def _sized(file: WebFile | None, size: int) -> None:
    if file is not None:
        if file.size not in (-1, size):
            raise AnswerError(CHANGED.format(what=f"it had {file.size} bytes and has {size}"))
        file.size = size


def _same_version(response: aiohttp.ClientResponse, file: WebFile) -> None:
    found = (response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""))
    if file.version is not None and found != file.version:
        raise AnswerError(CHANGED.format(what=f"its {'ETag' if found[0] != file.version[0] else 'date'} is another one"))
    file.version = found


def retry_after(text: str) -> float:
    """Seconds that a server asks to wait by Retry-After; 0 where it does not say."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except (TypeError, ValueError):
        return 0.0
