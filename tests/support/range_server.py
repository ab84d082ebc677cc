"""A web server on the loopback that serves real files by ranges, counts what it is asked, and misbehaves as told."""

import io
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(frozen=True)
class Asked:
    """One request: its path, the range (first byte, last byte) or None, and its headers."""

    path: str
    range: tuple[int, int] | None
    headers: dict[str, str]
    method: str


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet
    disable_nagle_algorithm = True
    server: "_Server"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        rule = self.server.rules
        path = unquote(urlsplit(self.path).path)
        match = RANGE.fullmatch(self.headers.get("Range", ""))
        asked = Asked(self.path, (int(match[1]), int(match[2])) if match else None, dict(self.headers), self.command)
        with rule.lock:
            rule.asked.append(asked)
            rule.now += 1
            rule.most = max(rule.most, rule.now)
            waiting = rule.faults.get(path)
            fault = waiting.pop(0) if waiting else rule.always.get(path)
        try:
            if fault is None or not fault(self, asked):
                self.answer(asked)
            self.wfile.flush()
        except OSError:
            self.close_connection = True
        finally:
            with rule.lock:
                rule.now -= 1

    def answer(self, asked: Asked, *, ranges: bool = True, etag: str | None = None) -> None:
        """What a good server answers."""
        path = self.server.rules.folder / unquote(urlsplit(asked.path).path).lstrip("/")
        if path.is_dir():
            names = "".join(f'<a href="{entry.name}{"/" * entry.is_dir()}">x</a>\n' for entry in sorted(path.iterdir()))
            self.reply(200, names.encode(), {"Content-Type": "text/html"})
            return
        if not path.is_file():
            self.reply(404, b"<html>not found</html>", {"Content-Type": "text/html"})
            return
        size = path.stat().st_size
        headers = {"ETag": etag or f'"{path.stat().st_mtime_ns:x}-{size:x}"', "Accept-Ranges": "bytes" if ranges else "none"}
        if asked.range is None or not ranges:
            self.reply(200, path.read_bytes() if asked.method == "GET" else b"", headers, length=size)
            return
        first, last = asked.range[0], min(asked.range[1], size - 1)
        if first >= size:
            self.reply(416, b"", {**headers, "Content-Range": f"bytes */{size}"})
            return
        with path.open("rb") as file:
            file.seek(first)
            data = file.read(last - first + 1)
        self.reply(206, data, {**headers, "Content-Range": f"bytes {first}-{last}/{size}"})

    def reply(self, status: int, body: bytes, headers: dict[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.server.rules.sent += len(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""


Fault = Callable[[Handler, Asked], bool]
"""Answers in place of the server; False: the server answers."""


@dataclass
class Rules:
    """What a server serves and has seen; `faults` are used up one by one, `always` holds for the rest."""

    folder: Path
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    always: dict[str, Fault] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    sent: int = 0
    now: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def of(self, name: str) -> list[Asked]:
        """The requests for a file."""
        return [each for each in self.asked if urlsplit(each.path).path.rpartition("/")[2] == name]


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    rules: Rules

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


def self_signed(folder: Path) -> ssl.SSLContext:
    """A certificate for the loopback that no authority has signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    signed = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "cert.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *plain) + signed.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem")
    return context


@contextmanager
def serving(folder: Path, handler: type[Handler] = Handler, tls: ssl.SSLContext | None = None) -> Iterator[Rules]:
    """A server of the files in a folder."""
    server = _Server(("127.0.0.1", 0), handler)
    server.rules = Rules(folder)
    server.rules.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.rules
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def status(code: int, **headers: str) -> Fault:
    """Answers with a status."""

    def fault(handler: Handler, asked: Asked) -> bool:
        handler.reply(code, b"busy" * 1000, {name.replace("_", "-"): value for name, value in headers.items()})
        return True

    return fault


def reset(handler: Handler, asked: Asked) -> bool:
    """Closes the connection without an answer."""
    handler.close_connection = True
    handler.connection.shutdown(2)
    return True


def cut(handler: Handler, asked: Asked) -> bool:
    """Sends half of what was announced and closes."""
    whole = io.BytesIO()
    kept, handler.wfile = handler.wfile, whole  # type: ignore[assignment]
    handler.answer(asked)
    handler.wfile = kept
    data = whole.getvalue()
    handler.wfile.write(data[: len(data) - max(1, (len(data) - data.index(b"\r\n\r\n") - 4) // 2)])
    handler.close_connection = True
    return True


def whole(handler: Handler, asked: Asked) -> bool:
    """Ignores ranges."""
    handler.answer(asked, ranges=False)
    return True


def login(handler: Handler, asked: Asked) -> bool:
    """A login page in place of the file."""
    handler.reply(200, b"<html><form>password</form></html>" * 100, {"Content-Type": "text/html; charset=utf-8"})
    return True


def shifted(handler: Handler, asked: Asked) -> bool:
    """The range one byte behind the one that was asked for."""
    assert asked.range is not None
    handler.answer(Asked(asked.path, (asked.range[0] + 1, asked.range[1] + 1), asked.headers, asked.method))
    return True


def garbage(handler: Handler, asked: Asked) -> bool:
    """No HTTP."""
    handler.wfile.write(b"\x00\x01\x02 garbage\r\n\r\n" * 10)
    handler.close_connection = True
    return True


def other_version(handler: Handler, asked: Asked) -> bool:
    """Another ETag."""
    handler.answer(asked, etag='"another"')
    return True


def moved(target: str) -> Fault:
    """Redirects."""

    def fault(handler: Handler, asked: Asked) -> bool:
        handler.reply(302, b"", {"Location": target})
        return True

    return fault


def slow(seconds: float) -> Fault:
    """Answers late."""

    def fault(handler: Handler, asked: Asked) -> bool:
        time.sleep(seconds)
        return False

    return fault
