"""What quantized weights stand for, against loops over their codes; and how those are refused that cannot be told."""

from collections.abc import Callable

import numpy as np
import pytest
import quantizing
import torch
from safetensors.torch import save_file

from ssmspec.checkpoint import open_checkpoint
from ssmspec.checkpoint.derived import DerivedTensor
from ssmspec.checkpoint.write.write_changed import write_changed
from ssmspec.errors import CheckpointError

MODULE = "layers.0.mixer.in_proj."
NAME = f"{MODULE}weight"


def stored(path, tensors: dict[str, torch.Tensor], config: dict[str, object] | None = None):
    """A file, or with a configuration a folder, of one module."""
    named = {MODULE + name: tensor.contiguous() for name, tensor in tensors.items()} | {"layers.0.mixer.D": torch.ones(3)}
    if config is None:
        save_file(named, path / "x.safetensors")
        return path / "x.safetensors"
    import json

    save_file(named, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"quantization_config": config}))
    return path


def weight(path) -> DerivedTensor:
    found = open_checkpoint(path).tensors[NAME]
    assert isinstance(found, DerivedTensor)
    return found


@pytest.mark.parametrize("scheme", quantizing.SCHEMES)
def test_every_scheme_gives_the_values_of_its_codes(tmp_path, rng, scheme):
    tensors, values = quantizing.SCHEMES[scheme](rng, 96, 64)
    found = weight(stored(tmp_path, tensors))
    assert found.shape == values.shape
    assert found.dtype == "float32"
    assert np.abs(found.read() - values).max() <= 3e-7 * np.abs(values).max()
    for rows in (slice(5, 43), slice(90, None), slice(None, None, -3), slice(7, 7)):
        assert np.array_equal(found.read(rows), found.read()[rows])


@pytest.mark.parametrize("scheme", quantizing.SCHEMES)
def test_codes_are_not_among_the_tensors_and_a_note_says_so(tmp_path, rng, scheme):
    tensors, _ = quantizing.SCHEMES[scheme](rng, 32, 32)
    checkpoint = open_checkpoint(stored(tmp_path, tensors))
    assert list(checkpoint.tensors) == ["layers.0.mixer.D", NAME]
    (note,) = checkpoint.notes
    assert note.startswith(f"{NAME}: ")
    assert note.endswith("dequantized where values are needed")


@pytest.mark.parametrize("inputs", [1, 3, 50])
def test_nf4_of_odd_sizes(tmp_path, rng, inputs):
    tensors, values = quantizing.bitsandbytes(rng, 7, inputs)
    found = weight(stored(tmp_path, tensors))
    assert np.allclose(found.read(), values, rtol=1e-6, atol=0)
    assert np.allclose(found.read(slice(3, 6)), values[3:6], rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nf4_codes_may_be_stored_as_floats(tmp_path, rng, dtype):
    tensors, values = quantizing.bitsandbytes(rng, 32, 16)  # quant_storage of QLoRA with FSDP: the same bytes under another dtype
    tensors["weight"] = tensors["weight"].reshape(-1).view(dtype)[:, None]
    assert np.allclose(weight(stored(tmp_path, tensors)).read(slice(2, 9)), values[2:9], rtol=1e-6, atol=0)


def test_gptq_version_2_stores_zeros_as_they_are(tmp_path, rng):
    tensors, values = quantizing.gptq(rng, 32, 32, less=0)
    found = weight(stored(tmp_path, tensors, {"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"}))
    assert np.allclose(found.read(), values, rtol=1e-6, atol=1e-12)
    assert "v2" in found.origin


def test_gptq_without_g_idx_counts_groups_in_order(tmp_path, rng):
    tensors, values = quantizing.gptq(rng, 32, 64)
    del tensors["g_idx"]
    assert np.allclose(weight(stored(tmp_path, tensors)).read(), values, rtol=1e-6, atol=1e-12)


def test_a_configured_block_size_goes_before_what_shapes_suggest(tmp_path, rng):
    tensors, values = quantizing.fp8(rng, 40, 24, scale="16x20", name="weight_scale_inv")  # 3 x 2 scales: 40 / 3 and 24 / 2 would not do
    assert np.allclose(weight(stored(tmp_path, tensors, {"weight_block_size": [16, 20]})).read(), values, rtol=1e-6, atol=0)


def test_blocks_of_128_that_do_not_divide_the_weight(tmp_path, rng):
    tensors, values = quantizing.fp8(rng, 160, 136, scale="128x128", name="weight_scale_inv")
    assert np.allclose(weight(stored(tmp_path, tensors)).read(slice(120, 140)), values[120:140], rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["scale_weight", "qscale_weight", "scale"])
def test_scales_under_other_published_names(tmp_path, rng, name):
    tensors, values = quantizing.fp8(rng, 8, 8, name=name)
    assert np.allclose(weight(stored(tmp_path, tensors)).read(), values, rtol=1e-6, atol=0)


def test_float8_without_a_scale_is_what_it_says(tmp_path):
    values = torch.tensor([[0.5, -1.5], [2.0, 448.0]])
    path = stored(tmp_path, {"weight": values.to(torch.float8_e4m3fn)})
    found = open_checkpoint(path)
    assert found.tensors[NAME].read().astype(np.float32).tolist() == values.tolist()
    assert found.notes == ()


def test_scales_of_activations_are_no_scales_of_the_weight(tmp_path, rng):
    tensors, values = quantizing.fp8(rng, 8, 8)
    path = stored(tmp_path, tensors | {"input_scale": torch.tensor(0.5), "output_scale": torch.tensor(0.25)})
    assert np.allclose(weight(path).read(), values, rtol=1e-6, atol=0)


def test_exponents_as_scales_of_bytes(tmp_path, rng):
    codes = torch.from_numpy(rng.standard_normal((4, 40))).to(torch.float8_e4m3fn)
    exponents = torch.tensor([[120, 121], [122, 123], [124, 125], [126, 127]], dtype=torch.uint8)  # MXFP8: blocks of 32, the last one short
    values = codes.double() * torch.exp2(exponents.double() - 127).repeat_interleave(32, dim=1)[:, :40]
    assert np.allclose(weight(stored(tmp_path, {"weight": codes, "weight_scale": exponents})).read(), values, rtol=1e-6, atol=0)


@pytest.mark.parametrize("quantized", ["x_proj_weight"])
def test_a_parameter_of_another_name_has_its_scale_behind_it(tmp_path, quantized):
    codes = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).to(torch.float8_e4m3fn)
    save_file({quantized: codes, f"{quantized}_scale": torch.tensor(0.5)}, tmp_path / "x.safetensors")
    assert open_checkpoint(tmp_path / "x.safetensors").tensors[quantized].read().tolist() == [[0.5, 1.0], [1.5, 2.0]]


# --- what is refused, and how ---


def without(*names: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors):
        for name in names:
            del tensors[name]

    return change


def put(**entries: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.update({name.replace("__", "."): tensor for name, tensor in entries.items()})


def state(**entries: object) -> Callable[[dict[str, torch.Tensor]], None]:
    full = {"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": [32, 32]} | entries
    return lambda tensors: tensors.update({STATE: quantizing.state_text(**full)})


STATE = "weight.quant_state.bitsandbytes__nf4"
DAMAGED = {
    "quant_state of zeros": (
        "nf4",
        lambda t: t.update({STATE: torch.zeros(80, dtype=torch.uint8)}),
        "bitsandbytes nf4, which cannot be dequ",
    ),
    "no quant_state": ("nf4", without(STATE), "it lacks quant_state, which holds its shape"),
    "quant_state of another type": ("nf4", state(quant_type="fp4"), "expected a JSON object of quant_type nf4"),
    "quant_state that is a list": ("nf4", lambda t: t.update({STATE: torch.tensor(list(b"[1]"), dtype=torch.uint8)}), "cannot be decoded"),
    "quant_state of floats": ("nf4", lambda t: t.update({STATE: torch.zeros(80)}), "cannot be decoded (shape (80,), dtype float32"),
    "a shape that is too large": ("nf4", state(shape=[32, 64]), "absmax has shape (16,), expected (32,)"),
    "a shape without end": ("nf4", state(shape=[2**50, 2]), "expected a positive integer"),
    "a shape of no numbers": ("nf4", state(shape=["a", 2]), "expected a positive integer"),
    "a negative shape": ("nf4", state(shape=[-32, -32]), "expected a positive integer"),
    "no shape": ("nf4", state(shape=None), "its shape reads None"),
    "a block of 0": ("nf4", state(blocksize=0), "blocksize in its quant_state reads 0"),
    "too few codes": ("nf4", put(weight=torch.zeros(3, 1, dtype=torch.uint8)), "holds 3 bytes, a weight of shape (32, 32) needs 512"),
    "a table of 15": ("nf4", put(weight__quant_map=torch.zeros(15)), "quant_map has shape (15,), expected (16,)"),
    "no absmax": ("nf4", without("weight.absmax"), "it lacks absmax"),
    "absmax of bytes": ("nf4", put(weight__absmax=torch.zeros(16, dtype=torch.uint8)), "absmax has dtype uint8, expected floats"),
    "nested without its table": ("nf4 nested", without("weight.nested_quant_map"), "it lacks nested_quant_map"),
    "nested of floats": ("nf4 nested", put(weight__absmax=torch.zeros(16)), "absmax has dtype float32, expected uint8"),
    "nested of few scales": ("nf4 nested", put(weight__nested_absmax=torch.zeros(2)), "nested_absmax has shape (2,), expected (4,)"),
    "8 bit of odd blocks": ("bitsandbytes 8 bit in blocks", put(weight__absmax=torch.zeros(5)), "fits no usual block of 1024 codes"),
    "SCB of columns": ("LLM.int8", put(SCB=torch.zeros(31)), "SCB has shape (31,), expected (32,)"),
    "int8 for one GPU": ("LLM.int8", put(weight_format=torch.tensor(2, dtype=torch.uint8)), "weight_format is not that of rows"),
    "int8 without SCB": ("LLM.int8", without("SCB", "weight_format"), "int8, which cannot be dequantized: it has no scale"),
    "int8 with two scales": ("LLM.int8", put(weight_scale=torch.zeros(32)), "no known scheme has SCB, weight_format, weight_scale"),
    "EETQ": (
        "LLM.int8",
        lambda t: (without("SCB", "weight_format")(t), t.update(weight_scales=torch.zeros(32)))[0],
        "has weight_scales beside",
    ),
    "two scales": ("fp8", put(weight_scale_inv=torch.ones(())), "no known scheme has the scales weight_scale_inv, weight_scale"),
    "a second scale": ("fp8", put(weight_scale_2=torch.ones(())), "no known scheme has the scales weight_scale, weight_scale_2"),
    "a scale of no shape": (
        "fp8",
        put(weight_scale=torch.ones(5)),
        "weight_scale has shape (5,), which does not fit codes of shape (32, 32)",
    ),
    "a scale of no blocks": ("fp8", put(weight_scale=torch.ones(7, 5)), "does not fit codes of shape (32, 32)"),
    "a scale of integers": ("fp8", put(weight_scale=torch.ones(32, 1, dtype=torch.int32)), "dtype int32, expected floats"),
    "NVFP4 without its second scale": ("NVFP4 of Model Optimizer", without("weight_scale_2"), "NVFP4, which cannot be dequantized"),
    "NVFP4 without scales": (
        "NVFP4 of Model Optimizer",
        without("weight_scale_2", "weight_scale"),
        "uint8 codes, which cannot be dequantized",
    ),
    "NVFP4 of few scales": (
        "NVFP4 of Model Optimizer",
        lambda t: t.update(weight_scale=t["weight_scale"][:5]),
        "has shape (5, 2), expected (32, 2)",
    ),
    "zeros that are too few": ("GPTQ 4 bit", put(qzeros=torch.zeros(4, 1, dtype=torch.int32)), "qzeros has shape (4, 1), expected (4, 4)"),
    "GPTQ without zeros": ("GPTQ 4 bit", without("qzeros"), "GPTQ, which cannot be dequantized: it lacks qzeros"),
    "GPTQ without scales": ("GPTQ 4 bit", without("scales"), "it lacks scales"),
    "GPTQ of floats": ("GPTQ 4 bit", put(qweight=torch.zeros(4, 32)), "qweight has dtype float32, expected int32 or uint32"),
    "g_idx of another length": ("GPTQ 4 bit", put(g_idx=torch.zeros(20, dtype=torch.int32)), "its codes have 6 bits, expected 2, 4 or 8"),
    "a group that is not there": ("GPTQ 4 bit", put(g_idx=torch.full((32,), 9, dtype=torch.int32)), "g_idx names a group beyond 4"),
    "AWQ of another width": ("AWQ", put(scales=torch.ones(4, 31).half()), "expected 8 outputs in a word"),
    "AWQ zeros": ("AWQ", put(qzeros=torch.zeros(3, 4, dtype=torch.int32)), "qzeros has shape (3, 4), expected (4, 4)"),
    "packed without a shape": ("pack-quantized 4 bit", without("weight_shape"), "it lacks weight_shape"),
    "packed of another shape": ("pack-quantized 4 bit", put(weight_shape=torch.tensor([32, 99])), "holds no 32 x 99 codes"),
    "packed of a negative shape": ("pack-quantized 4 bit", put(weight_shape=torch.tensor([-1, -1])), "expected a positive integer"),
    "unknown words": ("pack-quantized 4 bit", without("weight_scale"), "compressed-tensors pack-quantized, which cannot be dequantized"),
    "marlin": ("GPTQ 4 bit", put(), "checkpoint_format is marlin"),
    "AWQ for vectors": ("AWQ", put(), "version gemv of 4 bits"),
}
CONFIGS = {"marlin": {"checkpoint_format": "marlin"}, "AWQ for vectors": {"quant_method": "awq", "version": "gemv"}}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_cannot_be_dequantized_is_refused_by_name_and_scheme(tmp_path, rng, case):
    scheme, change, words = DAMAGED[case]
    tensors, _ = quantizing.SCHEMES[scheme](rng, 32, 32)
    change(tensors)
    path = stored(tmp_path, tensors, CONFIGS.get(case))
    checkpoint = open_checkpoint(path)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.tensors[NAME].read(slice(0, 4))
    line = str(caught.value)
    assert line.isprintable()
    assert f"tensor '{NAME}'" in line
    assert words in line
    if "g_idx names a group" not in words:  # which is seen when it is read
        assert any(NAME in note and words in note for note in checkpoint.notes)


@pytest.mark.parametrize(
    ("names", "scheme"),
    [
        (("W_q",), "HQQ"),
        (("q_weight", "q_scale"), "EXL2"),
        (("codes", "codebooks"), "AQLM"),
        (("weight._data", "weight._scale"), "quanto"),
        (("weight_blocks", "weight_scales"), "MXFP4 in blocks"),
        (("Qidxs",), "QuIP#"),
    ],
)
def test_schemes_that_are_not_read_are_named(tmp_path, names, scheme):
    path = stored(tmp_path, {name: torch.zeros(4, 4, dtype=torch.uint8) for name in names})
    with pytest.raises(CheckpointError, match=f"{scheme}, which cannot be dequantized: its layout is not known here"):
        open_checkpoint(path).tensors[NAME].read()


def test_integers_that_are_no_weights_stay_what_they_are(tmp_path):
    content = {"embedding.ids": torch.zeros(3, 2, dtype=torch.int32), "codes": torch.zeros(2, 2, dtype=torch.int64), "B": torch.ones(2, 2)}
    save_file(content | {"s": torch.ones(2), "scale": torch.ones(2), "norm.weight": torch.ones(2)}, tmp_path / "x.safetensors")
    checkpoint = open_checkpoint(tmp_path / "x.safetensors")
    assert not any(isinstance(tensor, DerivedTensor) for tensor in checkpoint.tensors.values())
    assert checkpoint.notes == ()


def test_a_weight_beside_its_codes_is_the_weight(tmp_path, rng):
    tensors, _ = quantizing.gptq(rng, 32, 32)
    path = stored(tmp_path, tensors | {"weight": torch.ones(32, 32)})
    assert open_checkpoint(path).tensors[NAME].read().tolist() == np.ones((32, 32)).tolist()


def test_only_the_rows_that_are_asked_for_are_read(tmp_path, rng, bytes_read):
    for scheme in ("fp8", "nf4", "LLM.int8", "int8"):
        tensors, _ = quantizing.SCHEMES[scheme](rng, 256, 256) if scheme != "fp8" else quantizing.fp8(rng, 256, 256)
        found = weight(stored(tmp_path, tensors))
        before = bytes_read()
        found.read(slice(10, 14))
        assert bytes_read() - before < 20_000  # of 65 536 or 32 768


def test_writing_leaves_codes_as_they_are_and_refuses_to_replace_them(tmp_path, rng):
    tensors, values = quantizing.bitsandbytes(rng, 32, 32)
    path = stored(tmp_path, tensors)
    checkpoint = open_checkpoint(path)
    write_changed(checkpoint, tmp_path / "new.safetensors", {"layers.0.mixer.D": np.array([1, 2, 3], np.float32)})
    again = open_checkpoint(tmp_path / "new.safetensors")
    assert again.tensors["layers.0.mixer.D"].read().tolist() == [1, 2, 3]
    assert np.array_equal(again.tensors[NAME].read(), checkpoint.tensors[NAME].read())
    with pytest.raises(CheckpointError, match=r"is bitsandbytes nf4 \(blocks of 64\), and cannot be replaced there"):
        write_changed(checkpoint, tmp_path / "other.safetensors", {NAME: values})
