"""Sequence mixers that are recognized and not read: named with the reason, in files of their own and beside layers that are read."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from factories import make, stored
from program import Type
from safetensors.numpy import save_file

from ssmspec.families import FAMILIES, detect
from ssmspec.families.named import NAMED

MODULES = {  # tensors of one layer, by the code named in NAMED
    "min-gru": [{"to_hidden_and_gate.weight": (16, 5), "to_out.weight": (5, 8)}],
    "min-lstm": [{"to_hidden_and_f_i_gate.weight": (24, 5)}, {f"linear_{name}.weight": (8, 5) for name in "fih"}],
    "hgrn-unbounded": [{f"attn.{name}_proj.weight": (8, 6) for name in "fig"}],
    "rwkv-5-early": [{"time_decay": (4,), "time_first": (4,), "ln_x.weight": (16,)}],
    "slstm": [{"slstm_cell._recurrent_kernel_": (4, 8, 32), "slstm_cell._bias_": (4, 4, 8)}],
    "gfnet": [{"filter.complex_weight": (14, 8, 6, 2)}],
    "fno": [{"conv0.weights1": (3, 4, 6, 6, 2), "conv0.weights2": (3, 4, 6, 6, 2)}],
    "afno": [{"w1": (2, 4, 3, 6), "b1": (2, 4, 6), "w2": (2, 4, 6, 3), "b2": (2, 4, 3)}],
    "sru": [{"weight": (5, 24), "weight_c": (16,), "bias": (16,)}],
    "cornn": [{"cell.i2h.weight": (8, 19), "cell.i2h.bias": (8,)}],
    "unicornn": [{"c_": (8,), "weight_hh": (8,), "bias": (8,)}],
    "lmu": [{"e_x": (1, 3), "e_h": (1, 5), "e_m": (1, 4), "A": (4, 4), "B": (4, 1)}],
    "longhorn": [{"dt_head.weight": (8, 2), "dt_head.bias": (8,), "x_proj.weight": (10, 8), "D": (8,), "in_proj.weight": (16, 4)}],
    "ttt": [{"learnable_ttt_lr_weight": (2, 8, 1), "W1": (2, 4, 4), "b1": (2, 1, 4)}],
    "sincnet": [{"low_hz_": (8, 1), "band_hz_": (8, 1)}],
    "leaf": [{"_complex_conv._kernel": (40, 2), "_pooling.weights": (1, 1, 40, 1)}],
}
CASES = [(name, number) for name, modules in MODULES.items() for number in range(len(modules))]


def module(name: str, number: int = 0, layers: int = 2) -> dict[str, np.ndarray]:
    shapes = MODULES[name][number]
    return {f"net.{layer}.{suffix}": np.full(shape, layer + 1, np.float32) for layer in range(layers) for suffix, shape in shapes.items()}


def test_every_named_mixer_is_tried_here() -> None:
    assert set(MODULES) == set(NAMED)
    assert not set(NAMED) & set(FAMILIES)


@pytest.mark.parametrize(("name", "number"), CASES)
def test_mixer_is_recognized_and_is_neither_a_layer_nor_a_near_miss(name: str, number: int) -> None:
    detection = detect(stored(module(name, number)), FAMILIES.values())
    assert detection.layers == ()
    (found,) = detection.named
    assert (found.family, len(found.prefixes)) == (name, 2)
    assert [miss for miss in detection.near_misses if miss.prefix in found.prefixes] == []


@pytest.mark.parametrize("name", [name for name in MODULES if name != "longhorn"])
def test_file_of_nothing_else_is_refused_with_the_reason(typed: Type, tmp_path: Path, name: str) -> None:
    save_file(module(name), tmp_path / "model.safetensors")
    done = typed("analyze", str(tmp_path / "model.safetensors"))
    assert done.code == 3
    assert f"{NAMED[name].title} in 2 layers, recognized and not read: {NAMED[name].fixed}" in done.err


@pytest.fixture
def mixed(tmp_path: Path) -> str:
    save_file(make("s4d").under("layers.0") | module("min-gru"), tmp_path / "mixed.safetensors")
    return str(tmp_path / "mixed.safetensors")


REASON = "minGRU in 2 layers, recognized and not read: its gates have no bias"


@pytest.mark.parametrize("command", ["analyze", "check", "inspect"])
def test_mixer_beside_other_layers_is_named(typed: Type, mixed: str, command: str) -> None:
    done = typed(command, mixed)
    assert done.code == 0
    assert REASON in done.out


def test_mixer_is_one_info_of_check(typed: Type, mixed: str) -> None:
    findings = json.loads(typed("check", mixed, "--format", "json").out)["checkpoints"][0]["findings"]
    assert [(finding["rule"], finding["severity"]) for finding in findings if finding["message"].startswith("minGRU")] == [
        ("recognized-only", "info")
    ]


def test_mixer_is_among_the_skipped_in_json(typed: Type, mixed: str) -> None:
    skipped = json.loads(typed("analyze", mixed, "--json").out)["skipped"]
    assert [(item["name"], item["kind"]) for item in skipped] == [("net.0", "named"), ("net.1", "named")]


def test_layers_of_an_hgrn_with_lower_bounds_are_not_named_again() -> None:
    tensors = make("hgrn").under("model")
    tensors |= {f"model.layers.{layer}.attn.{name}_proj.weight": np.ones((4, 5), np.float32) for layer in (0, 1, 2) for name in "fig"}
    detection = detect(stored(tensors), FAMILIES.values())
    assert [layer.family for layer in detection.layers] == ["hgrn"]
    assert detection.named == ()


def test_families_are_grouped_and_those_named_only_are_listed_with_the_reason(typed: Type) -> None:
    text = typed("families").out
    counts = Counter(family.group for family in FAMILIES.values()) + Counter({"named only": len(NAMED)})
    assert set(counts) == {"time invariant", "at an operating point", "explicit kernels", "named only"}
    groups = [f"{group} ({count})" for group, count in counts.items()]
    assert all(group in text for group in groups)
    document = json.loads(typed("families", "--json").out)
    assert [(item["name"], item["reason"]) for item in document["named_only"]] == [(name, each.fixed) for name, each in NAMED.items()]
    assert {item["name"]: item["group"] for item in document["families"]} == {name: each.group for name, each in FAMILIES.items()}


def test_one_of_them_is_described_with_the_reason(typed: Type) -> None:
    assert f"not read: {NAMED['lmu'].fixed}" in " ".join(typed("families", "lmu").out.split())
    assert f"not written back: {FAMILIES['retnet'].fixed}" in " ".join(typed("families", "retnet").out.split())
