"""gs:// with gcsfs against a stand-in of Google Cloud Storage on the loopback."""

import json

import pytest
import range_server as server
from container_files import CONTAINERS
from gcs_server import gcs

from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.errors import CheckpointError
from ssmspec.statistics import HEADLINES

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of Google's packages about themselves
OPTIONS = AnalysisOptions(points=64, statistics=HEADLINES)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """The folder of a bucket, and what its server was asked."""
    pytest.importorskip("gcsfs")
    folder = tmp_path / "models"
    folder.mkdir()
    with gcs(tmp_path) as rules:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", rules.url)
        yield folder, rules


def downloads(rules):
    return [asked for asked in rules.asked if asked.range]


@pytest.mark.parametrize("kind", ["safetensors", "torch zip", "npz", "flax msgpack", "sharded", "torch distributed"])
def test_containers_in_a_bucket(bucket, kind):
    folder, rules = bucket
    path = CONTAINERS[kind](folder)
    remote = analyze(f"gs://models/{path.relative_to(folder).as_posix()}", OPTIONS)
    local = analyze(path, OPTIONS)
    assert [layer.statistics for layer in remote.layers] == [layer.statistics for layer in local.layers]
    assert remote.transfer.bytes == sum(min(asked.range[1] + 1, 10**9) - asked.range[0] for asked in downloads(rules))
    assert remote.transfer.bytes < 200_000
    assert rules.most <= 8


def test_a_folder_and_what_is_not_there(bucket):
    folder, rules = bucket
    CONTAINERS["safetensors"](folder)
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    assert analyze("gs://models", OPTIONS).container == "safetensors"
    assert not any("pytorch_model.bin" in asked.path for asked in downloads(rules))
    with pytest.raises(CheckpointError, match=r"^gs://models/other: no such file"):
        analyze("gs://models/other", OPTIONS)


def test_an_object_that_changes(bucket):
    folder, rules = bucket
    path = CONTAINERS["safetensors"](folder)

    def replaced(handler, asked):
        path.write_bytes(b"x" + path.read_bytes()[1:])
        return False

    rules.faults["/download/storage/v1/b/models/o/model.safetensors"] = [lambda handler, asked: False, replaced]
    with pytest.raises(CheckpointError, match="changed while it was read"):
        analyze("gs://models/model.safetensors", OPTIONS)


@pytest.mark.parametrize(
    ("fault", "words"),
    [(server.status(401), "access refused"), (server.status(403), "access refused"), (server.whole, "bytes came for")],
)
def test_faults_are_one_line(bucket, fault, words):
    folder, rules = bucket
    CONTAINERS["safetensors"](folder)
    rules.always["/download/storage/v1/b/models/o/model.safetensors"] = fault
    with pytest.raises(CheckpointError) as error:
        analyze("gs://models/model.safetensors", OPTIONS)
    assert words in str(error.value), error.value
    assert str(error.value).startswith("gs://models/model.safetensors: ")
    assert str(error.value).isprintable()


def test_what_passes_is_tried_again(bucket):
    folder, rules = bucket
    path = CONTAINERS["safetensors"](folder)
    rules.faults["/download/storage/v1/b/models/o/model.safetensors"] = [server.status(503), server.reset]
    found = analyze("gs://models/model.safetensors", OPTIONS)
    assert [layer.statistics for layer in found.layers] == [layer.statistics for layer in analyze(path, OPTIONS).layers]


def test_nothing_but_the_result_is_printed(bucket, typed, cache):
    folder, _ = bucket
    path = CONTAINERS["safetensors"](folder)
    shown = typed("analyze", "gs://models/model.safetensors", "--json", "--points", 64)
    assert (shown.code, shown.err) == (0, "")
    assert 0 < json.loads(shown.out)["checkpoint"]["read"]["bytes"] < path.stat().st_size
    assert typed("analyze", "gs://models/model.safetensors", "--download", "--points", 64).code == 0
    (copy,) = cache.rglob("model.safetensors")
    assert copy.read_bytes() == path.read_bytes()
