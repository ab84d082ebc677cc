"""ONNX graphs as the onnx package writes them."""

from contextlib import suppress

import numpy as np
import pytest
from container_files import tensors
from range_server import serving
from safetensors.numpy import save_file

from ssmspec.checkpoint import open_checkpoint
from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.errors import CheckpointError
from ssmspec.statistics import HEADLINES

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.filterwarnings("ignore")  # of protobuf about itself
OPTIONS = AnalysisOptions(points=64, statistics=HEADLINES)


def write(path, arrays, *, external=False, raw=True):
    entries = []
    for name, array in arrays.items():
        if raw:
            entries.append(onnx.numpy_helper.from_array(array, name))
        else:
            entries.append(onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, array.shape, array.ravel()))
    graph = onnx.helper.make_graph([], "model", [], [], initializer=entries)
    model = onnx.helper.make_model(graph)
    onnx.save(model, path, save_as_external_data=external, location="model.data", size_threshold=0)
    return path


@pytest.mark.parametrize("form", [{}, {"external": True}, {"raw": False}])
def test_initializers_are_tensors(tmp_path, form):
    arrays = tensors()
    path = write(tmp_path / "model.onnx", arrays, **form)
    found = open_checkpoint(path).tensors
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].shape == array.shape
        assert found[name].read().tobytes() == array.tobytes()


@pytest.mark.parametrize("external", [False, True])
def test_over_the_network(tmp_path, external):
    pytest.importorskip("aiohttp")
    path = write(tmp_path / "model.onnx", tensors(), external=external)
    save_file(tensors(), tmp_path / "model.safetensors")
    with serving(tmp_path) as rules:
        found = analyze(f"{rules.url}/model.onnx", OPTIONS)
        assert rules.sent < 120_000
    ours = analyze(tmp_path / "model.safetensors", OPTIONS)
    assert [layer.statistics for layer in found.layers] == [layer.statistics for layer in ours.layers]
    assert [layer.statistics for layer in analyze(path, OPTIONS).layers] == [layer.statistics for layer in ours.layers]


def test_anonymous_initializers_are_refused_or_skipped(tmp_path, refusal):
    arrays = {"onnx::MatMul_12": np.ones((2, 3), np.float32), "37": np.ones(3, np.float32)}
    text = refusal(write(tmp_path / "model.onnx", arrays))
    assert "2 initializers (onnx::MatMul_12, 37) have no names of tensors" in text
    assert "do_constant_folding=False" in text
    opened = open_checkpoint(write(tmp_path / "some.onnx", {**arrays, **tensors()}))
    assert set(opened.tensors) == set(tensors())
    assert any("initializers without names of tensors were skipped: 2, such as onnx::MatMul_12" in note for note in opened.notes)


def test_retune_writes_safetensors(tmp_path, typed):
    path = write(tmp_path / "model.onnx", tensors())
    assert "write a new file with -o NAME.safetensors" in typed("retune", path, "--alpha", 2).err
    assert typed("retune", path, "--alpha", 2, "-o", tmp_path / "new.safetensors").code == 0
    save_file(tensors(), tmp_path / "model.safetensors")
    assert typed("retune", tmp_path / "model.safetensors", "--alpha", 2, "-o", tmp_path / "other.safetensors").code == 0
    ours, theirs = (open_checkpoint(tmp_path / name).tensors for name in ("other.safetensors", "new.safetensors"))
    assert set(ours) == set(theirs)
    assert all(ours[name].read().tobytes() == theirs[name].read().tobytes() for name in ours)


def test_damaged_graphs_are_one_line(tmp_path, rng):
    data = bytearray(write(tmp_path / "model.onnx", tensors()).read_bytes())
    for length in (1, 2, 5, 50, 1000, len(data) // 2):
        (tmp_path / "cut.onnx").write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            open_checkpoint(tmp_path / "cut.onnx")
    for _ in range(200):
        changed = bytearray(data)
        for place in rng.integers(0, 300, 3):
            changed[place] = rng.integers(0, 256)
        (tmp_path / "changed.onnx").write_bytes(changed)
        with suppress(CheckpointError):  # never another kind of error
            open_checkpoint(tmp_path / "changed.onnx")


@pytest.mark.parametrize("place", ["../secret", "/etc/passwd", "missing.data"])
def test_external_data_is_beside_the_graph(tmp_path, refusal, place):
    entry = onnx.numpy_helper.from_array(np.ones(3, np.float32), "x.weight")
    onnx.external_data_helper.set_external_data(entry, location=place, offset=0, length=12)
    entry.ClearField("raw_data")
    model = onnx.helper.make_model(onnx.helper.make_graph([], "model", [], [], initializer=[entry]))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert place.rpartition("/")[2] in refusal(tmp_path / "model.onnx")
