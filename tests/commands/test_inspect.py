"""`inspect`: which layers there are, which of them are copies or unusable, and where every other tensor of the file belongs."""

import json
from pathlib import Path

import numpy as np
from factories import Tensors, make
from program import Type
from safetensors.numpy import save_file


def layer(name: str, seed: float = 0) -> Tensors:
    tensors = {f"{name}.{suffix}": values.copy() for suffix, values in make("s4d").tensors.items()}
    tensors[f"{name}.kernel.log_dt"] += np.float32(seed)
    return tensors


def written(folder: Path, tensors: Tensors) -> Path:
    save_file(tensors, folder / "m.safetensors")
    return folder / "m.safetensors"


def test_copies_are_counted_apart_and_say_of_what_they_are_copies(typed: Type, tmp_path: Path) -> None:
    """An averaged copy comes first in natural order, and is a copy of the model all the same."""
    layers = {f"{place}.{i}": layer(f"{place}.{i}", i / 10) for place in ("enc", "ema", "tied") for i in range(3)}
    path = written(tmp_path, {name: values for tensors in layers.values() for name, values in tensors.items()})
    document = json.loads(typed("inspect", path, "--json").out)
    assert [(entry["name"], entry["copy_of"]) for entry in document["layers"]] == [
        *((f"ema.{i}", f"enc.{i}") for i in range(3)),
        *((f"enc.{i}", None) for i in range(3)),
        *((f"tied.{i}", f"enc.{i}") for i in range(3)),
    ]
    text = typed("inspect", path).out
    assert "3 SSM layers, 6 copies of them under other names" in text
    assert "of enc.2" in text
    assert "--layer takes the name of that one" in text
    refused = typed("analyze", path, "--layer", "tied.1")
    assert refused.code == 2
    assert "--layer tied.1 matches no layer that is read, but tied.1: the same tensors as enc.1 (shared module)" in refused.err
    assert [entry["name"] for entry in json.loads(typed("analyze", path, "--json").out)["layers"]] == ["enc.0", "enc.1", "enc.2"]


def test_a_layer_that_cannot_be_used_is_said_to_be(typed: Type, tmp_path: Path) -> None:
    tensors = layer("a") | layer("b", 0.1) | layer("c", 0.2) | {f"d.{name}": values for name, values in make("dss-softmax").tensors.items()}
    tensors["a.kernel.C"][...] = np.nan
    tensors["b.kernel.log_A_real"][2, 1] = -800
    path = written(tmp_path, tensors)
    text = typed("inspect", path).out
    assert "4 SSM layers, 2 unusable" in text
    assert "unusable (a): 24 of 24 values of C are NaN or infinite".replace("24 of 24", "12 of 12") in text
    assert "unusable (d): layer d: the softmax of DSS" in text
    assert "note (b): 1 of 4 copies has a growing pole" in text
    found = {entry["name"]: entry for entry in json.loads(typed("inspect", path, "--json").out)["layers"]}
    assert [name for name, entry in found.items() if entry["problem"]] == ["a", "d"]
    assert found["b"]["faults"][0].startswith("1 of 4 copies has a growing pole")


def test_groups_of_other_tensors_have_one_shape(typed: Type, tmp_path: Path) -> None:
    others = {f"head.{i}.weight": np.zeros((32, 16) if i else (1, 32), np.float32) for i in range(3)}
    document = json.loads(typed("inspect", written(tmp_path, layer("a") | others), "--json").out)
    assert [(item["name"], item["count"], item["shape"]) for item in document["other"]] == [
        ("head.*.weight", 1, [1, 32]),
        ("head.*.weight", 2, [32, 16]),
    ]
    assert sum(item["count"] for item in document["other"]) == 3


def test_tensors_under_a_layer_that_are_not_read_are_listed(typed: Type, tmp_path: Path) -> None:
    rest = {f"a.{name}": np.zeros(2, np.float32) for name in ("norm.weight", "norm.bias", "output_linear.0.bias")}
    path = written(tmp_path, layer("a") | rest | {"head.bias": np.zeros(2, np.float32)})
    document = json.loads(typed("inspect", path, "--json").out)
    (found,) = document["layers"]
    assert list(found["unread"]) == ["a.norm.bias", "a.norm.weight", "a.output_linear.0.bias"]
    assert all(tensor["read"] for tensor in found["tensors"].values())
    assert len(found["tensors"]) + len(found["unread"]) + sum(item["count"] for item in document["other"]) == 9
    text = typed("inspect", path).out
    assert "1 SSM layer\n" in text
    assert "not read (a): norm.bias, norm.weight, output_linear.0.bias" in text


def test_a_projection_that_the_bias_point_does_not_need_is_not_read(typed: Type, tmp_path: Path) -> None:
    tensors = {f"m.{name}": values for name, values in make("mamba-1").tensors.items()}
    (found,) = json.loads(typed("inspect", written(tmp_path, tensors), "--json").out)["layers"]
    unread = {tensor["role"] for tensor in found["tensors"].values() if not tensor["read"]}
    assert {"x_proj", "dt_proj"} <= unread
    assert not {"A_log", "dt_bias"} & unread


def test_a_long_configuration_is_broken_into_lines(typed: Type, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    save_file(layer("a"), tmp_path / "model" / "model.safetensors")
    (tmp_path / "model" / "config.json").write_text(json.dumps({f"setting_number_{i}": "x" * 20 for i in range(60)}))
    lines = [line for line in typed("inspect", "model").out.splitlines() if "setting_number" in line]
    assert len(lines) > 10
    assert max(map(len, lines)) <= 110
    assert sum(line.count("setting_number") for line in lines) == 60


def test_many_skipped_layers_are_folded(typed: Type, tmp_path: Path) -> None:
    layers = [layer(f"{place}.{i}", i / 50) for place in ("a", "b") for i in range(12)]
    path = written(tmp_path, {name: values for tensors in layers for name, values in tensors.items()})
    lines = [line for line in typed("analyze", path).out.splitlines() if line.startswith("skipped")]
    assert len(lines) == 6
    assert lines[-1] == "skipped: and 7 more; --json lists them all"
    assert len(json.loads(typed("analyze", path, "--json").out)["skipped"]) == 12
