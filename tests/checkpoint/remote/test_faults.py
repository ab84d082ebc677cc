"""Servers that misbehave: one line each, and never a number from something else than the bytes that were asked for."""

import pytest
import range_server as server
from container_files import CONTAINERS

from ssmspec.checkpoint import open_checkpoint
from ssmspec.commands.analyze import AnalysisOptions
from ssmspec.commands.analyze import analyze as analyzed
from ssmspec.errors import CheckpointError
from ssmspec.statistics import HEADLINES, CheckpointAnalysis


@pytest.fixture
def address(tmp_path, web):
    path = CONTAINERS["safetensors"](tmp_path)
    return f"{web.url}/{path.name}"


PATH = "/model.safetensors"


def read(given: object) -> CheckpointAnalysis:
    return analyzed(str(given), AnalysisOptions(points=64, statistics=HEADLINES))


def refused(address: str) -> str:
    with pytest.raises(CheckpointError) as error:
        read(address)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(address.partition("?")[0])
    return text


@pytest.mark.parametrize("when", [0, 1])
@pytest.mark.parametrize(
    ("fault", "words", "tries"),
    [
        (server.status(401), "access refused (401", 1),
        (server.status(403), "accept its terms", 1),
        (server.status(404), "", 1),
        (server.status(429), "too many requests (429)", 4),
        (server.status(503), "503", 4),
        (server.status(418), "418", 1),
        (server.reset, "broke off", 8),
        (server.cut, "broke off", 4),
        (server.whole, "--download", 1),
        (server.login, "a web page came in place of the file", 1),
        (server.shifted, "asked for were", 1),
        (server.garbage, "no HTTP", 4),
        (server.moved("/model.safetensors"), "redirects in circles", 10),
        (server.moved("ftp://127.0.0.1/x"), "redirects", 1),
    ],
)
def test_a_server_that_misbehaves_is_one_line(web, address, fault, words, tries, when):
    good = [lambda handler, asked: False] * when
    web.faults[PATH] = good
    web.always[PATH] = fault
    text = refused(address)
    assert words in text, text
    count = len(web.of("model.safetensors")) - when
    assert count == tries or (fault is server.reset and count >= 4)  # aiohttp, too, repeats a request whose connection broke


@pytest.mark.parametrize("fault", [server.status(429, Retry_After="0"), server.status(503, Retry_After="99999"), server.reset, server.cut])
def test_what_passes_is_tried_again(tmp_path, web, address, fault):
    web.faults[PATH] = [fault, fault, fault, lambda handler, asked: False, fault]
    found = read(address)
    local = read(tmp_path / "model.safetensors")
    assert [layer.statistics for layer in found.layers] == [layer.statistics for layer in local.layers]
    assert found.transfer.requests == len(web.asked)


def test_retry_after_is_obeyed(web, address, monkeypatch):
    import asyncio

    from ssmspec.checkpoint.remote import checks

    waited = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        waited.append(seconds)
        await sleep(0)

    monkeypatch.setattr(checks, "LONGEST_WAIT", 20.0)
    monkeypatch.setattr(checks.asyncio, "sleep", noted)
    web.faults[PATH] = [server.status(429, Retry_After="7"), server.status(503, Retry_After="1000")]
    read(address)
    assert [seconds for seconds in waited if seconds >= 1] == [7, 20]


def test_a_file_that_changes_between_two_ranges(web, address):
    web.faults[PATH] = [lambda handler, asked: False]
    web.always[PATH] = server.other_version
    assert "the file changed while it was read (its ETag" in refused(address)


def test_a_file_that_grows_between_two_ranges(tmp_path, web, address):
    def grow(handler, asked) -> bool:
        with (tmp_path / "model.safetensors").open("ab") as file:
            file.write(b"x" * 100)
        return False

    web.faults[PATH] = [lambda handler, asked: False, grow]
    assert "the file changed while it was read" in refused(address)


def test_a_slow_server(web, address, monkeypatch):
    import aiohttp

    from ssmspec.checkpoint.remote import web_store

    monkeypatch.setattr(web_store, "TIMEOUT", aiohttp.ClientTimeout(total=None, sock_read=0.05))
    web.always[PATH] = server.slow(0.5)
    assert "too slow" in refused(address)


def test_nothing_listens(web, address):
    assert "cannot be reached" in refused("http://127.0.0.1:9/model.safetensors")


def test_no_secure_connection(web, address):
    text = refused(address.replace("http:", "https:"))
    assert "TLS" in text or "broke off" in text


def test_a_redirect_is_followed_once_and_expired_locations_are_resolved_again(tmp_path, web, address):
    web.always["/alias"] = server.moved(f"{web.url}{PATH}")
    found = read(f"{web.url}/alias")
    assert len(web.of("alias")) == 1
    assert found.transfer.requests == len(web.asked)
    web.asked.clear()
    web.faults[PATH] = [lambda handler, asked: False, server.status(403)]
    again = read(f"{web.url}/alias")
    assert len(web.of("alias")) == 2
    assert [layer.statistics for layer in again.layers] == [layer.statistics for layer in found.layers]


def test_the_whole_body_of_a_server_without_ranges_is_not_read(web, address):
    web.always[PATH] = server.whole
    assert "sends no parts of the file of" in refused(address)
    assert len(web.of("model.safetensors")) == 1


def test_errors_that_come_in_the_place_of_bytes_are_raised():
    """As older versions of fsspec return them, whatever they are told."""
    from ssmspec.checkpoint.remote.failures import refused as error_for
    from ssmspec.checkpoint.remote.store import ranges_of

    class Old:
        async_impl = True

        def cat_ranges(self, paths, starts, stops, on_error, batch_size):
            assert (on_error, batch_size) == ("raise", 8)
            return [b"xyz", error_for(403), b"xyz"]

    with pytest.raises(Exception, match="access refused"):
        ranges_of(Old(), ["a"] * 3, [0] * 3, [3] * 3)


def test_a_certificate_that_nobody_signed(tmp_path, address):
    from range_server import self_signed

    with server.serving(tmp_path, tls=self_signed(tmp_path)) as rules:
        assert "no secure connection (TLS)" in refused(f"{rules.url}{PATH}")
        assert not rules.asked


def test_an_address_from_python(web, address, tmp_path):
    import ssmspec

    remote, local = ssmspec.analyze(address), ssmspec.analyze(tmp_path / "model.safetensors")
    assert [layer.poles.tobytes() for layer in remote] == [layer.poles.tobytes() for layer in local]
    assert remote.transfer.requests == len(web.asked)


def test_passwords_and_signatures_are_not_shown(web, address):
    web.always[PATH] = server.status(500)
    given = address.replace("http://", "http://user:secret@") + "?signature=abc"
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(given)
    assert "secret" not in str(error.value)
    assert "abc" not in str(error.value)


def test_damaged_files_are_the_same_error_as_local_ones(tmp_path, web):
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError) as local:
        open_checkpoint(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError) as remote:
        open_checkpoint(f"{web.url}/x.safetensors")
    assert str(remote.value) == str(local.value).replace(str(tmp_path), web.url)


def test_an_empty_file(tmp_path, web):
    (tmp_path / "x.safetensors").touch()
    with pytest.raises(CheckpointError, match="an empty file"):
        open_checkpoint(f"{web.url}/x.safetensors")
