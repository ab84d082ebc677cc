"""Every container and every sample over HTTP: the same numbers, bit for bit, from a part of the bytes."""

import json

import numpy as np
import pytest
from container_files import CONTAINERS
from jsonschema import validate
from locations import SAMPLES
from range_server import serving

from ssmspec.checkpoint import open_checkpoint
from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.report.documents.document import schema
from ssmspec.statistics import HEADLINES

SUFFIXES = (".safetensors", ".pt", ".npz", ".msgpack")
FILES = sorted(path.relative_to(SAMPLES).as_posix() for path in SAMPLES.rglob("*") if path.suffix in SUFFIXES)
OPTIONS = AnalysisOptions(points=64, statistics=HEADLINES)


def same(local, remote) -> None:
    assert [(layer.name, layer.statistics) for layer in remote.layers] == [(layer.name, layer.statistics) for layer in local.layers]
    for ours, theirs in zip(local.layers, remote.layers, strict=True):
        assert ours.poles.tobytes() == theirs.poles.tobytes()
        for name, values in ours.values.items():
            assert values.tobytes() == theirs.values[name].tobytes()


@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_container_gives_the_same_numbers(tmp_path, web, kind):
    path = CONTAINERS[kind](tmp_path)
    local = analyze(path, OPTIONS)
    remote = analyze(f"{web.url}/{path.relative_to(tmp_path).as_posix()}{'/' * path.is_dir()}", OPTIONS)
    assert (remote.container, remote.tensors) == (local.container, local.tensors - ("sharded" in kind))
    same(local, remote)
    assert remote.transfer.requests == len(web.asked)
    assert remote.transfer.bytes <= web.sent  # what is no range, such as the page of a folder or that of a 404, is sent, too
    assert web.most <= 8


@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_tensor_has_the_same_bytes(tmp_path, web, kind):
    path = CONTAINERS[kind](tmp_path)
    local = open_checkpoint(path).tensors
    remote = open_checkpoint(f"{web.url}/{path.relative_to(tmp_path).as_posix()}{'/' * path.is_dir()}").tensors
    assert list(local) == list(remote)
    for name, tensor in local.items():
        assert np.asarray(tensor.read()).tobytes() == np.asarray(remote[name].read()).tobytes()
        if tensor.shape and tensor.shape[0] > 2:
            assert tensor.read(slice(1, 3)).tobytes() == remote[name].read(slice(1, 3)).tobytes()


@pytest.mark.parametrize("name", FILES)
def test_every_sample_gives_the_same_numbers(name):
    with serving(SAMPLES) as rules:
        same(analyze(SAMPLES / name, OPTIONS), analyze(f"{rules.url}/{name}", OPTIONS))


def test_the_table_and_the_document_say_what_was_read(tmp_path, web, typed):
    path = CONTAINERS["safetensors"](tmp_path)
    address = f"{web.url}/{path.name}"
    shown = typed("analyze", address)
    assert shown.code == 0
    count = len(web.asked)
    first = shown.out.splitlines()[0]
    assert first.startswith(f"{address}  (safetensors, ")
    assert f" of it read in {count} requests; backend" in " ".join(shown.out.split())
    web.asked.clear()
    document = json.loads(typed("analyze", address, "--json", "--statistics", "bias_slope").out)["checkpoint"]
    assert document["path"] == address
    assert document["bytes"] == path.stat().st_size
    assert document["read"]["requests"] == len(web.asked)
    assert 0 < document["read"]["bytes"] < document["bytes"]
    assert document["read"]["revision"] is None


def without_read(text: str) -> str:
    """The output of a command without what it says of the network."""
    if not text.startswith("{"):
        return "".join(line for line in text.splitlines(keepends=True) if " of it read in " not in line)
    document = json.loads(text)
    holders = [document, document.get("checkpoint", {}), *document.get("checkpoints", ())]
    found = [holder.pop("read") for holder in holders if "read" in holder]
    for entry in found[0] if found and isinstance(found[0], list) else found:
        assert entry["bytes"] > 0
        assert entry["requests"] > 0
    return f"{json.dumps(document, indent=2, ensure_ascii=False)}\n"


@pytest.mark.parametrize("command", ["inspect", "check", "compare", "plot", "response", "impulse", "export", "suggest"])
def test_every_command_takes_an_address(tmp_path, web, typed, command):
    path = CONTAINERS["safetensors"](tmp_path)
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(4, 256, 1)))

    def arguments(given: object, out: str) -> list[object]:
        out = str(tmp_path / out)
        return {
            "inspect": ["inspect", given, "--json"],
            "check": ["check", given, "--format", "json", "--shallow"],
            "compare": ["compare", given, given],
            "plot": ["plot", "poles", given, "-o", f"{out}.png"],
            "response": ["response", given, "--layer", "0", "-o", f"{out}.npz"],
            "impulse": ["impulse", given, "--layer", "0", "--length", 64, "-o", f"{out}.npz"],
            "export": ["export", given, "--layer", "0", "-o", f"{out}.npz"],
            "suggest": ["suggest", tmp_path / "data.npy", "--checkpoint", given, "--json"],
        }[command]

    local = typed(*arguments(path, "local"))
    remote = typed(*arguments(f"{web.url}/{path.name}", "remote"))
    assert (local.code, remote.code) == (0, 0), remote.err
    assert (remote.out != without_read(remote.out)) != (" of it read in " in remote.err)  # once, where there is a place for it
    hidden = without_read(remote.out).replace(f"{web.url}/{path.name}", str(path))
    hidden = hidden.replace(f"{web.url}/", f"{tmp_path}/")
    assert hidden == local.out
    if (tmp_path / "local.npz").exists():
        with np.load(tmp_path / "local.npz") as ours, np.load(tmp_path / "remote.npz") as theirs:
            assert sorted(ours) == sorted(theirs)
            assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def test_check_is_shallow_and_says_so(tmp_path, web, typed):
    path = CONTAINERS["safetensors"](tmp_path)
    shown = typed("check", f"{web.url}/{path.name}")
    assert shown.code == 0
    assert "only the tensors that analysis needs were looked at" in " ".join(shown.out.split())


def test_retune_asks_for_the_whole_file(tmp_path, web, typed):
    path = CONTAINERS["safetensors"](tmp_path)
    address = f"{web.url}/{path.name}"
    refused = typed("retune", address, "--alpha", 2, "-o", tmp_path / "new.safetensors")
    assert refused.code == 2
    assert "--download" in refused.err
    assert "kB" in refused.err
    assert not (tmp_path / "new.safetensors").exists()
    assert typed("retune", address, "--alpha", 2, "--dry-run").code == 0
    done = typed("retune", address, "--alpha", 2, "-o", tmp_path / "new.safetensors", "--download")
    assert done.code == 0, done.err
    assert typed("retune", path, "--alpha", 2, "-o", tmp_path / "local.safetensors").code == 0
    assert open_checkpoint(tmp_path / "new.safetensors").tensors.keys() == open_checkpoint(path).tensors.keys()
    for name, tensor in open_checkpoint(tmp_path / "new.safetensors").tensors.items():
        assert tensor.read().tobytes() == open_checkpoint(tmp_path / "local.safetensors").tensors[name].read().tobytes()


@pytest.mark.parametrize("command", ["inspect", "check", "compare", "history", "dry run"])
def test_every_table_says_what_was_read(tmp_path, web, typed, command):
    path = CONTAINERS["safetensors"](tmp_path)
    given = f"{web.url}/{path.name}"
    arguments = {
        "inspect": ["inspect", given],
        "check": ["check", given],
        "compare": ["compare", given, path],
        "history": ["compare", given, path, path],
        "dry run": ["retune", given, "--alpha", 2, "--dry-run"],
    }[command]
    shown = typed(*arguments)
    assert shown.code == 0, shown.err
    (line,) = [line for line in " ".join(shown.out.split()).split("; ") if " of it read in " in line]
    assert f" of it read in {len(web.asked)} requests" in line
    if command in ("compare", "history", "dry run"):
        document = json.loads(typed(*arguments, "--json").out)
        validate(document, schema({"dry run": "retune"}.get(command, command) + "-1"))
        (entry,) = document["read"]
        assert (entry["path"], entry["size"], entry["revision"]) == (given, path.stat().st_size, None)
        assert 0 < entry["bytes"] < entry["size"]


def test_documents_with_what_was_read_fit_their_schemas(tmp_path, web, typed):
    path = CONTAINERS["safetensors"](tmp_path)
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(4, 256, 1)))
    given = f"{web.url}/{path.name}"
    commands = {
        "analyze": ["analyze", given, "--json", "--points", 64],
        "check": ["check", given, "--format", "json"],
        "suggest": ["suggest", tmp_path / "data.npy", "--checkpoint", given, "--json"],
    }
    for name, arguments in commands.items():
        text = typed(*arguments).out
        assert '"read"' in text
        validate(json.loads(text), schema(f"{name}-1"))
