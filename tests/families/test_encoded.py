"""Layers whose tensors are stored as something else: the analysis of what they stand for, and what is said where they are needed or not."""

import json
from pathlib import Path

import mixers
import numpy as np
import pytest
import quantizing
import sharded_files
import torch
from program import Type
from safetensors.torch import save_file

from ssmspec.checkpoint import open_checkpoint
from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.errors import LayerError
from ssmspec.families import FAMILIES, LayerTensors, OperatingPoint, ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.families.template import Held
from ssmspec.statistics import CheckpointAnalysis
from ssmspec.systems.statespace import StateSpace

LAYER = "backbone.layers.0.mixer"
Tensors = dict[str, torch.Tensor]


def read(path: Path, residues: str = "rms") -> CheckpointAnalysis:
    return analyze(path, AnalysisOptions(read=ReadOptions(residues=residues), points=16))  # type: ignore[arg-type]


def save(path: Path, tensors: Tensors) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def quantized(tensors: Tensors, scheme: str, projections: tuple[str, ...], rng: np.random.Generator) -> tuple[Tensors, Tensors]:
    """The tensors with some projections quantized, and with the values of their codes instead."""
    codes, plain = dict(tensors), dict(tensors)
    for name in projections:
        shape = codes.pop(f"{LAYER}.{name}.weight").shape
        made, values = quantizing.SCHEMES[scheme](rng, *shape)
        codes |= {f"{LAYER}.{name}.{own}": tensor for own, tensor in made.items()}
        plain[f"{LAYER}.{name}.weight"] = torch.from_numpy(values.astype(np.float32))
    return codes, plain


def moments(path: Path, residues: str = "rms") -> tuple[np.ndarray, StateSpace]:
    """C^T C of every copy of the only layer, which is all that rms residues mean, and its system."""
    system = load_system(path, "0", ReadOptions(residues=residues))  # type: ignore[arg-type]
    return np.einsum("kon,kom->knm", system.C.conj(), system.C).real, system


@pytest.mark.parametrize("scheme", quantizing.SCHEMES)
def test_rms_of_quantized_projections_is_that_of_their_values(tmp_path, rng, scheme):
    codes, plain = quantized(mixers.mamba1(rng, f"{LAYER}.", rank=24), scheme, ("x_proj", "in_proj", "out_proj"), rng)
    found, system = moments(save(tmp_path / "codes.safetensors", codes))
    expected, _ = moments(save(tmp_path / "plain.safetensors", plain))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * expected.max())
    assert any(text.startswith("x_proj.weight: read as ") for text in system.assumptions)
    found, system = moments(tmp_path / "codes.safetensors", "unit")
    assert any(text.startswith("x_proj.weight: ") and text.endswith("; not needed here") for text in system.assumptions)
    assert np.array_equal(found, moments(tmp_path / "plain.safetensors", "unit")[0])


@pytest.mark.parametrize("scheme", ["fp8", "nf4", "GPTQ 8 bit", "AWQ"])
def test_rms_of_a_quantized_mamba2_reads_the_rows_of_b_and_c(tmp_path, rng, scheme):
    mixer = mixers.mamba2(rng, f"{LAYER}.", heads=16, width=32)  # 160 rows
    codes, plain = quantized(mixer, scheme, ("in_proj", "out_proj"), rng)
    found, _ = moments(save(tmp_path / "codes.safetensors", codes))
    np.testing.assert_allclose(found, moments(save(tmp_path / "plain.safetensors", plain))[0], rtol=1e-5)


def test_fp8_of_a_weight_is_within_a_hundredth_of_it(tmp_path, rng):
    plain = mixers.mamba2(rng, f"{LAYER}.")
    weight = plain[f"{LAYER}.in_proj.weight"]
    scale = weight.abs().max() / 448
    codes = {f"{LAYER}.in_proj.weight": (weight / scale).to(torch.float8_e4m3fn), f"{LAYER}.in_proj.weight_scale": scale}
    found = read(save(tmp_path / "codes.safetensors", plain | codes)).layers[0].statistics["peak_gain"]
    assert found.median == pytest.approx(
        read(save(tmp_path / "plain.safetensors", plain)).layers[0].statistics["peak_gain"].median, rel=0.01
    )


def undecodable(make, rng: np.random.Generator, projection: str) -> Tensors:
    tensors = make(rng, f"{LAYER}.", **({"rank": 24} if make is mixers.mamba1 else {"heads": 16}))
    codes, _ = quantized(tensors, "nf4", (projection,), rng)
    codes[f"{LAYER}.{projection}.weight.quant_state.bitsandbytes__nf4"] = torch.zeros(80, dtype=torch.uint8)
    return codes


@pytest.mark.parametrize(("make", "projection"), [(mixers.mamba1, "x_proj"), (mixers.mamba2, "in_proj")])
def test_the_bias_point_needs_no_projection_and_rms_names_the_one_that_cannot_be_read(tmp_path, rng, make, projection):
    path = save(tmp_path / "x.safetensors", undecodable(make, rng, projection))
    (layer,) = read(path, "unit").layers
    words = f"{projection}.weight: bitsandbytes nf4, which cannot be dequantized: its quant_state cannot be decoded"
    assert any(text.startswith(words) and text.endswith("; not needed here") for text in layer.assumptions)
    (unread,) = read(path).skipped
    assert f"tensor {LAYER}.{words}" in unread.reason
    assert "give a checkpoint with plain values" in unread.reason


def test_given_b_and_c_need_the_rows_of_the_projection(tmp_path, rng):
    path = save(tmp_path / "x.safetensors", undecodable(mixers.mamba2, rng, "in_proj"))
    point = OperatingPoint(B=np.ones(8), C=np.ones(8))
    (unread,) = analyze(path, AnalysisOptions(read=ReadOptions(operating_point=point))).skipped
    assert "in_proj.weight: bitsandbytes nf4, which cannot be dequantized" in unread.reason


def test_an_adapter_is_added_where_its_weight_is_needed(tmp_path, rng):
    plain = mixers.mamba1(rng, f"{LAYER}.")
    A, B = (torch.from_numpy(rng.standard_normal(shape).astype(np.float32)) for shape in ((2, 32), (16, 2)))
    base = plain.pop(f"{LAYER}.x_proj.weight")
    unmerged = plain | {f"{LAYER}.x_proj.base_layer.weight": base, f"{LAYER}.x_proj.lora_A.default.weight": A}
    unmerged[f"{LAYER}.x_proj.lora_B.default.weight"] = B
    path = save(tmp_path / "x.safetensors", unmerged)
    for config, scaling in ((None, 1), ({"r": 2, "lora_alpha": 4}, 2)):
        if config is not None:
            (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        expected, _ = moments(save(tmp_path / "y.safetensors", plain | {f"{LAYER}.x_proj.weight": base + scaling * (B @ A)}))
        np.testing.assert_allclose(moments(path)[0], expected, rtol=1e-5, atol=1e-6 * expected.max())


def test_layers_with_the_same_codes_are_one(tmp_path, rng):
    codes, _ = quantized(mixers.mamba1(rng, f"{LAYER}.", rank=24), "nf4", ("x_proj",), rng)
    twice = codes | {name.replace("layers.0", "layers.1"): tensor.clone() for name, tensor in codes.items()}
    found = read(save(tmp_path / "x.safetensors", twice))
    assert [item.reason for item in found.skipped] == [f"the same tensors as {LAYER} (shared module)"]
    twice["backbone.layers.1.mixer.x_proj.weight"] = twice["backbone.layers.1.mixer.x_proj.weight"] ^ 1  # other codes: another layer
    assert len(read(save(tmp_path / "y.safetensors", twice)).layers) == 2


def test_integers_of_a_matrix_are_no_values():
    tensors = {"x_proj": Held(np.ones((4, 4), np.int8), "int8"), "l": Held(np.array([7], np.int32), "int32")}
    layer = LayerTensors("a", "mamba-1", tensors, {"x_proj": "a.x_proj.weight", "l": "a.l"}, {})
    with pytest.raises(LayerError, match=r"tensor a.x_proj.weight has dtype int8: codes of a quantization"):
        layer.rows("x_proj", 0, 2)
    assert layer.array("l").tolist() == [7]


# --- whole commands ---


def test_ranks_and_the_whole_are_analyzed_alike(tmp_path, rng):
    whole = mixers.mamba2(rng, groups=2)
    torch.save({"model": {f"{LAYER}.{name}": tensor for name, tensor in whole.items()}}, tmp_path / "whole.pt")
    for rank in range(2):
        place = tmp_path / "run" / f"mp_rank_0{rank}"
        place.mkdir(parents=True)
        share = mixers.share_of_mamba2(whole, rank, 2, groups=2)
        torch.save({"model": {f"{LAYER}.{name}": tensor for name, tensor in share.items()}}, place / "model_optim_rng.pt")
    for residues in ("unit", "rms"):
        joined, expected = read(tmp_path / "run", residues), read(tmp_path / "whole.pt", residues)
        assert joined.layers[0].copies == 8
        for name, values in expected.layers[0].values.items():
            np.testing.assert_array_equal(joined.layers[0].values[name], values, name)
    alone = read(tmp_path / "run" / "mp_rank_01", "unit")
    assert alone.layers[0].copies == 4
    assert "tensor-parallel rank 1 of 2 alone: a part of the model's layer" in alone.layers[0].assumptions


def test_a_distributed_folder_is_analyzed_compared_and_retuned(typed: Type, tmp_path, rng):
    whole = mixers.mamba1(rng, f"{LAYER}.") | {f"{LAYER.replace('0', '1')}.{n}": t for n, t in mixers.mamba1(rng).items()}
    save(tmp_path / "plain.safetensors", whole)
    sharded_files.save_pieces(tmp_path / "pieces", whole, {name: sharded_files.halves(tensor.shape) for name, tensor in whole.items()})
    for expected, found in zip(read(tmp_path / "plain.safetensors").layers, read(tmp_path / "pieces").layers, strict=True):
        assert np.array_equal(found.values["peak_gain"], expected.values["peak_gain"])
    refused = typed("retune", "pieces", "--step-scale", "2")
    assert refused.code == 2
    assert "pieces (torch distributed) is for reading only; write a new file with -o NAME.safetensors" in refused.err
    assert typed("retune", "pieces", "--step-scale", "2", "-o", "new.safetensors").code == 0
    assert typed("retune", "plain.safetensors", "--step-scale", "2", "-o", "other.safetensors").code == 0
    new, other = open_checkpoint(tmp_path / "new.safetensors").tensors, open_checkpoint(tmp_path / "other.safetensors").tensors
    assert all(np.array_equal(new[name].read(), tensor.read()) for name, tensor in other.items())
    digests = json.loads((tmp_path / "new.safetensors.ssmspec.json").read_text())["input"]["sha256"]
    assert sorted(digests) == [".metadata", "__0_0.distcp", "__1_0.distcp"]
    for step in ("iter_0000002", "iter_0000010"):
        sharded_files.save_pieces(tmp_path / "run" / step, whole, {})
    history = json.loads(typed("compare", "run", "--json").out)
    assert [Path(path).name for path in history["checkpoints"]] == ["iter_0000002", "iter_0000010"]
    assert "pieces is one checkpoint; give two to compare" in typed("compare", "pieces").err
    document = json.loads(typed("compare", "pieces", "plain.safetensors", "--json").out)
    assert {layer["distances"]["pole_movement"]["median"] for layer in document["layers"]} == {0}


def test_averaged_copies_are_marked_and_counted_apart(typed: Type, tmp_path, rng):
    own, average = mixers.mamba1(rng, "layers.0.mixer."), mixers.mamba1(rng, "layers.0.mixer.")
    torch.save({"model": own, "model_ema": average}, tmp_path / "timm.pth")
    lightning = {f"model.{name}": t for name, t in own.items()} | {f"ema_model.module.{name}": t for name, t in average.items()}
    torch.save({"state_dict": lightning}, tmp_path / "lightning.ckpt")
    torch.save({f"_fsdp_wrapped_module._orig_mod.{name}": tensor for name, tensor in own.items()}, tmp_path / "wrapped.pt")
    table = typed("analyze", "timm.pth").out
    assert "model_ema.layers.0.mixer (EMA)" in table
    assert "averages of weights over training are counted apart: 1 layer and 1 of an EMA copy (model_ema)" in table
    assert table.count("memory of 32 heads or channels") == 2
    layers = json.loads(typed("analyze", "timm.pth", "--json").out)["layers"]
    assert [layer["average"] for layer in layers] == [None, "model_ema"]
    assert "1 SSM layer and 1 of an EMA copy (model_ema)" in typed("inspect", "timm.pth").out
    checked = typed("check", "lightning.ckpt")
    assert "in 1 layer and 1 of an EMA copy (ema_model): passed" in checked.out
    assert [layer["average"] for layer in json.loads(typed("check", "timm.pth", "--format", "json").out)["checkpoints"][0]["layers"]] == [
        None,
        "model_ema",
    ]
    for pair in (("timm.pth", "lightning.ckpt"), ("lightning.ckpt", "timm.pth")):
        document = json.loads(typed("compare", *pair, "--json").out)
        assert {(layer["name"], layer["name_after"]) for layer in document["layers"]} in (PAIRS, {(b, a) for a, b in PAIRS})
        assert document["only_before"] == document["only_after"] == []
    document = json.loads(typed("compare", "wrapped.pt", "timm.pth", "--json").out)
    assert [layer["name_after"] for layer in document["layers"]] == ["layers.0.mixer"]
    assert document["only_after"] == ["model_ema.layers.0.mixer"]


PAIRS = {("layers.0.mixer", "model.layers.0.mixer"), ("model_ema.layers.0.mixer", "ema_model.module.layers.0.mixer")}


def test_there_is_no_verdict_between_layers_of_different_sizes(typed: Type, tmp_path, rng):
    whole = mixers.mamba2(rng)
    save(tmp_path / "a.safetensors", {f"l.{name}": tensor for name, tensor in whole.items()})
    save(tmp_path / "b.safetensors", {f"l.{name}": tensor for name, tensor in mixers.share_of_mamba2(whole, 0, 2).items()})
    out = typed("compare", "a.safetensors", "b.safetensors").out
    assert "verdict: none: l has 8 copies before and 4 after, so the two are not versions of one layer" in out


def test_notes_of_reading_are_in_a_check(typed: Type, tmp_path, rng):
    save(tmp_path / "x.safetensors", undecodable(mixers.mamba1, rng, "x_proj"))
    out = typed("check", "x.safetensors").out
    assert f"note: {LAYER}.x_proj.weight: bitsandbytes nf4, which cannot be dequantized" in out
    (note,) = json.loads(typed("check", "x.safetensors", "--format", "json").out)["checkpoints"][0]["notes"]
    assert "bitsandbytes nf4" in note


def test_inspect_shows_what_tensors_are_stored_as(typed: Type, tmp_path, rng):
    codes, _ = quantized(mixers.mamba1(rng, f"{LAYER}.", rank=24), "GPTQ 4 bit", ("x_proj",), rng)
    save(tmp_path / "x.safetensors", codes | undecodable(mixers.mamba2, rng, "in_proj") | codes)
    document = json.loads(typed("inspect", "x.safetensors", "--json").out)
    tensors = {name: tensor for layer in document["layers"] for name, tensor in layer["tensors"].items()}
    assert tensors[f"{LAYER}.x_proj.weight"]["stored_as"].startswith("GPTQ 4 bit")
    assert tensors[f"{LAYER}.x_proj.weight"]["shape"] == [32, 32]
    assert "float32 from GPTQ 4 bit" in typed("inspect", "x.safetensors").out


def test_mamba2_of_megatron_may_have_its_convolution_under_a_plain_name():
    (template,) = FAMILIES["mamba-2"].templates
    assert template["conv"].suffixes() == ["conv1d.weight", "conv1d_weight"]
