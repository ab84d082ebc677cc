"""hf:// with the real huggingface_hub client against a stand-in of the Hub's endpoints."""

import json
import shutil

import pytest
from container_files import CONTAINERS
from hub_client import with_hub
from hub_server import COMMIT, GATED, TOKEN, hub

pytest.importorskip("huggingface_hub")
ANALYZE = ("--json", "--statistics", "bias_slope", "--points", "64")


@pytest.fixture
def repositories(tmp_path):
    """A model with safetensors and torch weights, one with shards below a folder, a gated one."""
    plain = tmp_path / "org" / "plain"
    plain.mkdir(parents=True)
    path = CONTAINERS["safetensors"](plain)
    (plain / "pytorch_model.bin").write_bytes(b"never opened")
    (plain / "config.json").write_text('{"model_type": "s4d"}')
    (plain / "README.md").write_text("text")
    sharded = tmp_path / "org" / "sharded" / "deep"
    sharded.mkdir(parents=True)
    CONTAINERS["sharded"](sharded)
    gated = tmp_path / GATED
    gated.mkdir(parents=True)
    shutil.copy(path, gated / "model.safetensors")
    return tmp_path


def documents(results):
    for result in results:
        assert result.code == 0, result.err
    return [json.loads(result.out) for result in results]


def without_path(document):
    return {key: value for key, value in document.items() if key not in ("checkpoint", "notes")}


def test_repositories_files_and_revisions(repositories, typed, tmp_path):
    local = repositories / "org" / "plain"
    commands = [
        ("analyze", "hf://org/plain", *ANALYZE),
        ("analyze", "hf://org/plain@main/model.safetensors", *ANALYZE),
        ("analyze", f"hf://org/sharded@{COMMIT}/deep", *ANALYZE),
        ("analyze", local, *ANALYZE),
        ("analyze", repositories / "org" / "sharded" / "deep", *ANALYZE),
        ("compare", "hf://org/plain", "hf://org/plain@main/model.safetensors", "--json"),
        ("check", "hf://org/plain", "--format", "json"),
    ]
    with hub(repositories) as rules:
        found = documents(with_hub(rules.url, [list(map(str, command)) for command in commands], {"HF_TOKEN": TOKEN}))
    for remote, ours in zip(found, (found[3], found[3], found[4]), strict=False):
        assert without_path(remote) == without_path(ours)
        assert remote["checkpoint"]["read"]["revision"] == COMMIT
        assert remote["checkpoint"]["container"] == ours["checkpoint"]["container"]
    assert found[0]["checkpoint"]["path"] == "hf://org/plain"
    assert sum(each.path.startswith("/api/models/org/plain") for each in rules.asked) == 5  # one for each checkpoint
    assert {change for layer in found[5]["layers"] for change in (entry["change"] for entry in layer["statistics"].values())} <= {0.0, None}
    assert found[6]["checkpoints"][0]["shallow"]
    assert not rules.of("pytorch_model.bin")
    for each in rules.asked:
        sent = {name.lower(): value for name, value in each.headers.items()}
        assert sent["host"].startswith("localhost") == each.path.startswith("/cdn/")
        assert (sent.get("authorization") == f"Bearer {TOKEN}") == (not each.path.startswith("/cdn/"))
        assert "authorization" not in sent or not each.path.startswith("/cdn/")
    ranges = [each for each in rules.asked if each.range]
    assert ranges
    assert all(each.path.startswith("/cdn/") for each in ranges)


def test_faults_of_the_hub_are_one_line_each(repositories):
    commands = {
        "hf://org/missing": "no such repository",
        "hf://org/plain@other": "no such revision",
        f"hf://{GATED}": "accept its terms",
        "hf://org/plain/missing.safetensors": "no such file",
        "hf://org": "expected hf://organization/name",
        "org/plain": "did you mean hf://org/plain?",
    }
    with hub(repositories) as rules:
        results = with_hub(rules.url, [["analyze", given] for given in commands], {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"})
        opened = with_hub(rules.url, [["analyze", f"hf://{GATED}", *ANALYZE]], {"HF_TOKEN": TOKEN})
    for (given, words), result in zip(commands.items(), results, strict=True):
        assert result.code == 2
        assert words in result.err, (given, result.err)
        assert len(result.err.strip().splitlines()) == 1
    documents(opened)


def test_expired_locations_are_resolved_again(repositories):
    (repositories / "lifetime").write_text("0.0")
    with hub(repositories) as rules:
        (failed,) = with_hub(rules.url, [["analyze", "hf://org/plain"]], {})
    assert failed.code == 2
    assert "403" in failed.err
    assert sum("/resolve/" in each.path and "model.safetensors" in each.path for each in rules.asked) == 2  # again once


def test_download_uses_the_cache_of_the_hub(repositories, tmp_path):
    home = tmp_path / "home"
    target = tmp_path / "new.safetensors"
    commands = [
        ["analyze", "hf://org/plain", *ANALYZE, "--download"],
        ["analyze", "hf://org/plain", *ANALYZE, "--download"],
        ["retune", "hf://org/plain", "--alpha", "2", "-o", str(target), "--download"],
    ]
    with hub(repositories) as rules:
        results = with_hub(rules.url, commands, {"HF_HOME": str(home)})
    documents(results[:2])
    assert results[2].code == 0, results[2].err
    assert target.exists()
    whole = [each for each in rules.asked if each.method == "GET" and "/cdn/" in each.path and each.path.endswith("safetensors")]
    assert len(whole) <= 1
    assert list(home.rglob("model.safetensors"))
