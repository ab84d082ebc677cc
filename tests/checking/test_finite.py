"""Every tensor under the name of a layer is looked at, or listed as unread: in every container, in bounded memory."""

import json
import tracemalloc
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from factories import Tensors, make
from ml_dtypes import bfloat16, float8_e4m3fn
from program import Type
from safetensors.numpy import save_file

from ssmspec.checking.finite import owned_tensors
from ssmspec.checkpoint import open_checkpoint
from ssmspec.checkpoint.blocks import in_blocks
from ssmspec.commands.check import check
from ssmspec.errors import CheckpointError
from ssmspec.families import FAMILIES, detect
from ssmspec.report.documents.document import schema

LAYER = "backbone.layers.0.mixer."
OTHERS = {"in_proj.weight": (16, 4), "conv1d.weight": (8, 1, 4), "conv1d.bias": (8,), "out_proj.weight": (4, 8)}


def mamba(layer: str = LAYER, seed: int = 0) -> Tensors:
    """A Mamba-1 mixer with everything around its state, and a tensor outside of it."""
    rng = np.random.default_rng(seed)
    shapes = {"x_proj.weight": (10, 8), "dt_proj.weight": (8, 2), **OTHERS}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    tensors |= {"A_log": np.tile(np.log(np.arange(1, 5, dtype=np.float32)), (8, 1)), "D": np.ones(8, np.float32)}
    tensors["dt_proj.bias"] = rng.uniform(-6, -3, 8).astype(np.float32)
    return {layer + name: values for name, values in tensors.items()}


def spoiled(tensors: Tensors, name: str, value: float = np.nan) -> Tensors:
    values = tensors[name].copy()
    values.reshape(-1)[-1] = value
    return tensors | {name: values}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["x_proj.weight", "dt_proj.weight", *OTHERS])
def test_a_value_that_is_not_finite_anywhere_in_a_layer_fails_with_the_name_of_its_tensor(name: str, value: float, tmp_path: Path) -> None:
    tensors = spoiled(mamba() | mamba("backbone.layers.1.mixer.", 1), LAYER + name, value)
    save_file(tensors, tmp_path / "m.safetensors")
    found = check(tmp_path / "m.safetensors")
    (finding,) = found.findings
    size = tensors[LAYER + name].size
    assert (finding.rule, finding.severity, finding.layer) == ("not-finite", "error", "backbone.layers.0.mixer")
    assert finding.message == f"NaN or infinite values are stored in {LAYER}{name} (1 of {size} values)"
    assert (found.looked_at, found.unread, found.outside) == (18, (), 0)


@pytest.mark.parametrize("name", ["A_log", "D", "dt_proj.bias"])
def test_an_infinite_parameter_is_not_finite_and_nothing_else(name: str, tmp_path: Path) -> None:
    """exp(-inf) is 0 and its pole would not decay; a bias of -inf would make a step of 0."""
    save_file(spoiled(mamba(), LAYER + name, -np.inf), tmp_path / "m.safetensors")
    (finding,) = check(tmp_path / "m.safetensors").findings
    assert finding.rule == "not-finite"
    assert f"{LAYER}{name} (1 of " in finding.message


def test_a_shallow_check_reads_what_analysis_needs_and_lists_the_rest(typed: Type, tmp_path: Path) -> None:
    tensors = spoiled(mamba(), LAYER + "in_proj.weight") | {"lm_head.weight": np.ones((3, 4), np.float32)}
    save_file(tensors, tmp_path / "m.safetensors")
    result = typed("check", "m.safetensors", "--shallow")
    assert result.code == 0
    assert "looked at 3 of 9 tensors of SSM layers (--shallow; --format json lists the others)" in result.out
    assert "1 tensor outside SSM layers was not looked at" in result.out
    document = json.loads(typed("check", "m.safetensors", "--shallow", "--format", "json").out)
    jsonschema.validate(document, schema("check-1"))
    (found,) = document["checkpoints"]
    assert (found["looked_at"], found["outside"], found["shallow"]) == (3, 1, True)
    assert sorted(found["unread_tensors"]) == sorted(LAYER + name for name in ("x_proj.weight", "dt_proj.weight", *OTHERS))
    deep = typed("check", "m.safetensors")
    assert deep.code == 1
    assert "looked at every value of the 9 tensors of SSM layers; 1 tensor outside SSM layers was not looked at" in deep.out


def test_rms_residues_of_a_spoiled_row_of_b_name_the_tensor(typed: Type, tmp_path: Path) -> None:
    tensors = mamba()
    tensors[LAYER + "x_proj.weight"][3, 1] = np.nan  # rows 2..5 are B
    save_file(tensors, tmp_path / "m.safetensors")
    result = typed("analyze", "m.safetensors", "--residues", "rms")
    assert result.code == 2
    assert f"1 of 64 values in rows 2..9 of {LAYER}x_proj.weight are NaN or infinite" in result.err
    assert typed("analyze", "m.safetensors").code == 0


def test_a_direction_that_shows_it_tells_of_a_spoiled_tensor_and_no_other_does(tmp_path: Path) -> None:
    tensors = {f"layers.0.{name}": values for name, values in make("vim").tensors.items()}
    name = next(name for name in tensors if name.endswith(("A_b_log", "A_log_b")))
    save_file(spoiled(tensors, name), tmp_path / "vim.safetensors")
    (finding,) = check(tmp_path / "vim.safetensors").findings
    assert (finding.rule, finding.layer) == ("not-finite", "layers.0:backward")
    assert name in finding.message
    tensors |= {"layers.0.out_proj.weight": np.full((2, 3), np.nan, np.float32)}
    save_file(tensors, tmp_path / "vim.safetensors")
    (finding,) = check(tmp_path / "vim.safetensors").findings
    assert (finding.rule, finding.layer) == ("not-finite", "layers.0:forward")


def test_twins_and_layers_that_cannot_be_read_are_looked_at_too(tmp_path: Path) -> None:
    first = {f"a.{name}": values for name, values in make("s4d").tensors.items()}
    twin = {name.replace("a.", "b.", 1): values.copy() for name, values in first.items()} | {
        "b.norm.weight": np.full(4, np.nan, np.float32)
    }
    unread = {f"c.{name}": values for name, values in make("dss-softmax").tensors.items()}
    save_file(first | twin | spoiled(unread, "c.kernel.W"), tmp_path / "m.safetensors")
    found = check(tmp_path / "m.safetensors")
    told = [(finding.rule, finding.layer) for finding in found.findings if finding.rule != "beyond-nyquist"]
    assert told == [("not-finite", "b"), ("not-finite", "c"), ("unread-layer", "c")]
    assert found.unread == ()


def test_only_the_chosen_layers_are_looked_at_and_the_others_are_unread(tmp_path: Path) -> None:
    from ssmspec.commands.analyze import AnalysisOptions

    save_file(spoiled(mamba() | mamba("backbone.layers.1.mixer.", 1), LAYER + "conv1d.bias"), tmp_path / "m.safetensors")
    found = check(tmp_path / "m.safetensors", options=AnalysisOptions(layers=("1",)))
    assert found.findings == ()
    assert (found.looked_at, len(found.unread)) == (9, 9)


def test_a_tensor_below_two_layers_belongs_to_the_inner_one(tmp_path: Path) -> None:
    outer = {f"block.{name}": values for name, values in make("s4d").tensors.items()}
    inner = {f"block.inner.{name}": values + 1 for name, values in make("s4d").tensors.items()} | {
        "block.inner.gate": np.ones(2, np.float32)
    }
    save_file(outer | inner | {"block.gate": np.ones(2, np.float32)}, tmp_path / "m.safetensors")
    owned = owned_tensors(detect(open_checkpoint(tmp_path / "m.safetensors").tensors, FAMILIES.values()).layers)
    assert "block.inner.gate" in owned["block.inner", "s4d"]
    assert "block.inner.gate" not in owned["block", "s4d"]
    assert set(owned["block", "s4d"]) == {*outer, "block.gate"}
    assert sum(map(len, owned.values())) == len(outer) + len(inner) + 1


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.complex64, bfloat16, float8_e4m3fn, np.int32, bool])
def test_blocks_hold_every_value_once_whatever_the_dtype(dtype: type, tmp_path: Path) -> None:
    values = np.arange(7 * 5).reshape(7, 5).astype(dtype)
    np.savez(tmp_path / "plain.npz", x=values.view(np.uint8) if dtype in (bfloat16, float8_e4m3fn) else values)
    np.savez_compressed(tmp_path / "deflated.npz", x=values.view(np.uint8) if dtype in (bfloat16, float8_e4m3fn) else values)
    for name in ("plain", "deflated"):
        found = np.concatenate(list(in_blocks(open_checkpoint(tmp_path / f"{name}.npz").tensors["x"])))
        np.testing.assert_array_equal(found.view(np.uint8), values.reshape(-1).view(np.uint8))


def test_blocks_of_views_hold_what_the_view_shows(tmp_path: Path) -> None:
    """Transposed, with gaps, repeated, conjugated: as torch stores views of one storage."""
    storage = torch.arange(24.0).reshape(4, 6)
    views = {"transposed": storage.T, "gaps": storage[:, 1:4], "repeated": storage[0, 2].expand(1 << 10), "row": storage[2]}
    torch.save(views, tmp_path / "views.pt")
    tensors = open_checkpoint(tmp_path / "views.pt").tensors
    found = {name: np.concatenate(list(in_blocks(tensors[name]))) for name in views}
    assert sorted(found["transposed"]) == list(range(24))
    assert sorted(found["gaps"]) == [1, 2, 3, 7, 8, 9, 13, 14, 15, 19, 20, 21]
    assert found["repeated"].tolist() == [2.0]
    assert found["row"].tolist() == [12, 13, 14, 15, 16, 17]
    torch.save({"conjugated": torch.complex(storage, storage).conj()}, tmp_path / "complex.pt")
    (conjugated,) = in_blocks(open_checkpoint(tmp_path / "complex.pt").tensors["conjugated"])
    assert (conjugated.imag == -conjugated.real).all()


def test_a_tensor_larger_than_the_blocks_is_read_in_bounded_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    block = 1 << 18
    monkeypatch.setattr("ssmspec.checkpoint.blocks.BLOCK", block)
    values = np.random.default_rng(0).integers(0, 256, (1, 4 * block)).astype(np.float32)  # one row of 16 blocks
    values[0, -1] = np.nan
    np.savez_compressed(tmp_path / "big.npz", x=values)
    del values
    tensor = open_checkpoint(tmp_path / "big.npz").tensors["x"]
    tracemalloc.start()
    bad = sum(int((~np.isfinite(part)).sum()) for part in in_blocks(tensor))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bad == 1
    assert peak < 5 * block


def test_a_member_that_ends_early_is_one_line(tmp_path: Path) -> None:
    save_file({"x": np.ones(4096, np.float32)}, tmp_path / "m.safetensors")
    tensor = open_checkpoint(tmp_path / "m.safetensors").tensors["x"]
    (tmp_path / "m.safetensors").write_bytes((tmp_path / "m.safetensors").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="ends inside a tensor"):
        list(in_blocks(tensor))
