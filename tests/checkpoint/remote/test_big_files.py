"""A Mamba-2 of 2.7 billion parameters over HTTP: a fraction of a megabyte in at most two requests a layer."""

import json

import numpy as np
import pytest
from big_models import LAYERS, all_shapes, layer_shapes, sparse_safetensors, sparse_torch_zip, vectors

from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.statistics import HEADLINES

MOST = 250_000  # bytes
OPTIONS = AnalysisOptions(statistics=HEADLINES)


@pytest.fixture
def values(rng):
    return vectors(all_shapes(), rng)


def compared(local, remote) -> None:
    assert len(local.layers) == LAYERS
    assert [layer.statistics for layer in local.layers] == [layer.statistics for layer in remote.layers]


@pytest.mark.parametrize(
    ("name", "write", "a_layer"), [("model.safetensors", sparse_safetensors, 2), ("pytorch_model.bin", sparse_torch_zip, 1)]
)
def test_a_file_of_five_gigabytes(tmp_path, web, values, name, write, a_layer):
    write(tmp_path / name, all_shapes(), values)
    (tmp_path / "config.json").write_text(json.dumps({"d_model": 2560}))
    remote = analyze(f"{web.url}/{name}", OPTIONS)
    assert remote.size == (tmp_path / name).stat().st_size > 5.4e9
    assert len(web.asked) == remote.transfer.requests <= a_layer * LAYERS + 6
    assert web.sent <= MOST
    assert web.most <= 8
    compared(analyze(tmp_path / name, OPTIONS), remote)


def test_of_many_shards_only_those_with_layers_are_opened(tmp_path, web, values):
    weight_map = {}
    others = {"backbone.embedding.weight": (50288, 2560), "lm_head.weight": (50288, 2560)}
    parts = [*(layer_shapes(layer) for layer in range(LAYERS)), *({name: shape} for name, shape in others.items())]
    for number, shapes in enumerate(parts):
        file = f"model-{number:05}.safetensors"
        sparse_safetensors(tmp_path / file, shapes, {name: values[name] for name in shapes if name in values})
        weight_map |= dict.fromkeys(shapes, file)
    total = sum(2 * int(np.prod(shape)) for shapes in parts for shape in shapes.values())
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
    remote = analyze(f"{web.url}/model.safetensors.index.json", OPTIONS)
    for number in range(LAYERS):
        asked = web.of(f"model-{number:05}.safetensors")
        assert 1 <= len(asked) <= 4
        assert asked[0].range == (0, 32767)
    assert not web.of(f"model-{LAYERS:05}.safetensors")
    assert not web.of(f"model-{LAYERS + 1:05}.safetensors")
    assert remote.size == total
    assert any(note.startswith("2 of 66 shards (2 tensors) were not opened") for note in remote.notes)
    compared(analyze(tmp_path / "model.safetensors.index.json", OPTIONS), remote)
