"""Servers and addresses at their worst: nothing hangs or takes unbounded memory, and no password reaches another host or a message."""

import base64
import json
import time
from urllib.parse import unquote

import pytest
import range_server as server
from container_files import CONTAINERS
from range_server import Asked, Handler, serving
from safetensors.numpy import save_file

from ssmspec.checkpoint import open_checkpoint
from ssmspec.checkpoint.remote import checks, web_store
from ssmspec.checkpoint.remote.path import without_secrets
from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.errors import CheckpointError
from ssmspec.statistics import HEADLINES

OPTIONS = AnalysisOptions(points=64, statistics=HEADLINES)
PATH = "/model.safetensors"
BASIC = f"Basic {base64.b64encode(b'user:secret').decode()}"


@pytest.fixture
def address(tmp_path, web):
    CONTAINERS["safetensors"](tmp_path)
    return f"{web.url}{PATH}"


def refused(address: str) -> str:
    with pytest.raises(CheckpointError) as error:
        analyze(address, OPTIONS)
    return str(error.value)


def authorization(asked: Asked) -> str | None:
    return {name.lower(): value for name, value in asked.headers.items()}.get("authorization")


def locked(handler: Handler, asked: Asked) -> bool:
    """Answers only with the password."""
    if authorization(asked) == BASIC:
        return False
    handler.reply(401, b"", {"WWW-Authenticate": "Basic"})
    return True


def with_password(address: str) -> str:
    return address.replace("http://", "http://user:secret@")


def test_a_password_in_the_address_is_used_for_every_range_and_never_shown(tmp_path, web, address, typed):
    web.always[PATH] = locked
    web.always["/config.json"] = locked
    found = analyze(with_password(address), OPTIONS)
    assert all(authorization(asked) == BASIC for asked in web.asked)
    assert found.transfer.requests == len(web.asked)
    assert found.transfer.bytes > 0
    assert found.path == address
    assert "access refused (401" in refused(address)
    shown = [typed("analyze", with_password(address)), typed("compare", with_password(address), with_password(address))]
    shown += [typed("inspect", with_password(address)), typed("check", with_password(address), "--format", "json")]
    shown += [typed("check", with_password(address), f"{with_password(address)}x", "--format", "json")]
    shown += [typed("retune", with_password(address), "--alpha", 2), typed("analyze", f"{with_password(address)}x?signature=secret")]
    assert not any("secret" in result.out + result.err for result in shown)


def test_a_changed_file_behind_a_password_is_noticed(web, address):
    web.faults[PATH] = [locked]
    web.always[PATH] = server.other_version
    assert "the file changed while it was read" in refused(with_password(address))


def test_a_redirect_on_the_same_host_keeps_the_password_and_one_to_another_drops_it(tmp_path, web, address):
    web.always["/alias"] = server.moved(PATH)
    web.always[PATH] = locked
    assert analyze(with_password(f"{web.url}/alias"), OPTIONS).layers
    assert all(authorization(asked) == BASIC for asked in web.asked)
    assert len(web.of("alias")) == 1
    with serving(tmp_path) as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        web.always["/away"] = server.moved(f"{elsewhere}{PATH}")
        assert analyze(with_password(f"{web.url}/away"), OPTIONS).layers
        assert other.asked
        assert not any(authorization(asked) for asked in other.asked)


@pytest.mark.parametrize("fault", [server.garbage, server.moved("/model.safetensors?again=secret"), server.reset, server.login])
def test_signatures_are_in_no_message(web, address, fault):
    web.always[PATH] = fault
    text = refused(f"{address}?X-Signature=secret")
    assert "secret" not in text
    assert text.startswith(address)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://a:b@host/x?y=z", "https://host/x"),
        ("at https://a@host:8/x, and s3://bucket/k?v=1", "at https://host:8/x, and s3://bucket/k"),
        ("hf://org/name@main/x", "hf://org/name@main/x"),
        ("url='http://u:p@h/a?b'", "url='http://h/a'"),
        ("no address: a?b@c", "no address: a?b@c"),
    ],
)
def test_addresses_without_secrets(text, shown):
    assert without_secrets(text) == shown


def trickle(handler: Handler, asked: Asked) -> bool:
    """A byte now and then, for ever."""
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes {asked.range[0]}-{asked.range[1]}/1000000000")
    handler.send_header("Content-Length", str(asked.range[1] - asked.range[0] + 1))
    handler.end_headers()
    for _ in range(100_000):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.02)
    return True


def test_a_server_that_sends_a_byte_now_and_then(web, address, monkeypatch):
    monkeypatch.setattr(checks, "PATIENCE", 0.2)
    monkeypatch.setattr(checks, "SLOWEST", 1e9)
    web.always[PATH] = trickle
    assert "too slow" in refused(address)
    assert len(web.asked) == 2


def endless(handler: Handler, asked: Asked) -> bool:
    """A page without an end."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    for _ in range(100_000):
        handler.wfile.write(b"<a href='x'>" * 1000)
    return True


def test_a_page_without_an_end(web, address, monkeypatch):
    monkeypatch.setattr(web_store, "LARGEST_PAGE", 100_000)
    web.always["/run/"] = endless
    assert "more than 100,000 bytes" in refused(f"{web.url}/run/")


def page(*links: str):
    body = "".join(f"<a href='{link}'>x</a>" for link in links).encode()

    def fault(handler: Handler, asked: Asked) -> bool:
        handler.reply(200, body, {"Content-Type": "text/html"})
        return True

    return fault


def test_links_that_lead_elsewhere_are_no_entries(web):
    links = [
        "../",
        "..",
        ".",
        "/",
        "/etc/passwd",
        "http://other.org/run/a.npz",
        "?sort=name",
        "#top",
        "a.npz",
        "b/",
        "c/d.npz",
        "/run/e.npz",
    ]
    links += [f"{web.url}/run/f.npz", "javascript:alert(1)", "%2e%2e/g.npz", "h i.npz", "http://[bad", "run"]
    web.always["/run/"] = page(*links)
    store = web_store.WebStore(f"{web.url}/run/")
    assert store.names("run") == ["a.npz", "b", "e.npz", "f.npz", "h%20i.npz", "run"]
    assert store.kind("run/b") == "folder"


@pytest.mark.parametrize("name", ["..%2f..%2fescaped.safetensors", "..%5cescaped.safetensors", "escaped%0a.safetensors"])
def test_names_that_lead_out_of_the_cache_are_not_fetched(web, typed, cache, name):
    web.always["/run/"] = page(name)
    for path in (f"/run/{name}", f"/run/{unquote(name)}"):
        web.always[path] = lambda handler, asked: handler.reply(200, b"x", {"ETag": "1"}) or True
    shown = typed("analyze", f"{web.url}/run/", "--download")
    assert shown.code == 2
    assert "no plain name" in shown.err
    assert not list(cache.parent.rglob("*escaped*"))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_configuration_that_is_not_there_or_not_for_us(web, address, status):
    web.always["/config.json"] = server.status(status)
    assert analyze(address, OPTIONS).layers


def test_a_page_in_place_of_a_configuration_is_said(web, address):
    web.always["/config.json"] = server.login
    found = analyze(address, OPTIONS)
    assert any(note.startswith("config.json ignored: a web page came") for note in found.notes)


@pytest.mark.parametrize(
    "text", ["²", "-5", "1e99", "9" * 5000, "nan", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2999 07:28:00 GMT", "\x00"]
)
def test_any_retry_after_is_a_number_of_seconds(text):
    assert checks.retry_after(text) >= 0


@pytest.mark.parametrize("said", ["bytes 0-32767/" + "9" * 400, "bytes 0-32767/*", "bytes */5", "items 0-1/2", "", "bytes 0-32767/10"])
def test_any_content_range_is_one_line(web, address, said):
    def fault(handler: Handler, asked: Asked) -> bool:
        handler.reply(206, b"\x00" * (asked.range[1] - asked.range[0] + 1), {"Content-Range": said})
        return True

    web.always[PATH] = fault
    text = refused(address)
    assert text.isprintable()
    assert text.startswith(address)


def test_the_file_of_an_index_is_downloaded_with_its_shards_and_configuration(tmp_path, web, typed, cache):
    path = CONTAINERS["sharded"](tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "s4d"}')
    (tmp_path / "other.bin").write_bytes(b"x")
    arguments = ["--json", "--points", 64, "--statistics", "bias_slope"]
    done = typed("analyze", f"{web.url}/{path.name}", "--download", *arguments)
    assert done.code == 0, done.err
    local = json.loads(typed("analyze", path, *arguments).out)
    assert json.loads(done.out)["layers"] == local["layers"]
    names = {file.name for file in cache.rglob("*") if not file.name.startswith(".") and file.is_file()}
    assert names == {"model.safetensors.index.json", "config.json", *(f"model-{number}.safetensors" for number in range(4))}


def test_a_copy_is_fetched_again_when_the_file_has_changed(tmp_path, web, address, typed):
    values = []
    for _ in range(2):
        done = typed("analyze", address, "--download", "--json", "--points", 64, "--statistics", "bias_slope")
        assert done.code == 0, done.err
        values.append(json.loads(done.out)["layers"])
        tensors = {name: tensor.read() * 0.5 for name, tensor in open_checkpoint(tmp_path / "model.safetensors").tensors.items()}
        save_file(tensors, tmp_path / "model.safetensors")
    assert values[0] != values[1]
