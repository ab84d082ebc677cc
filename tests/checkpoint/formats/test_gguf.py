"""GGUF as the gguf package writes it, and damaged."""

import struct

import numpy as np
import pytest
from range_server import serving
from safetensors.numpy import save_file

from ssmspec.checkpoint import open_checkpoint
from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.errors import CheckpointError
from ssmspec.statistics import HEADLINES

gguf = pytest.importorskip("gguf")
OPTIONS = AnalysisOptions(points=64, statistics=HEADLINES)
ONE = {"mamba": "backbone.layers.{}.mixer", "jamba": "model.layers.{}.mamba"}
TWO = {
    "mamba2": "backbone.layers.{}.mixer",
    "falcon-h1": "model.layers.{}.mamba",
    "granitehybrid": "model.layers.{}.mamba",
    "nemotron_h": "backbone.layers.{}.mixer",
}
INNER, STATES, RANK, WIDTH, HEADS, GROUPS = 64, 8, 4, 32, 8, 2


def single(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def mamba_1(rng, layer: int, start: str):
    """Names in safetensors and in GGUF, with the values of each."""
    A_log, conv = rng.uniform(-1, 3, (INNER, STATES)).astype(np.float32), single(rng, INNER, 4)
    D, bias = single(rng, INNER), rng.uniform(-6, -2, INNER).astype(np.float32)
    projection, rates = single(rng, RANK + 2 * STATES, INNER), single(rng, INNER, RANK)
    wide, out, shift = single(rng, 2 * INNER, WIDTH), single(rng, WIDTH, INNER), single(rng, INNER)
    plain = {"A_log": A_log, "D": D, "conv1d.weight": conv[:, None], "conv1d.bias": shift, "in_proj.weight": wide}
    plain |= {"x_proj.weight": projection, "dt_proj.weight": rates, "dt_proj.bias": bias, "out_proj.weight": out}
    stored = {"ssm_a": -np.exp(A_log), "ssm_d": D, "ssm_conv1d.weight": conv, "ssm_conv1d.bias": shift, "ssm_in.weight": wide}
    stored |= {"ssm_x.weight": projection, "ssm_dt.weight": rates, "ssm_dt.bias": bias, "ssm_out.weight": out}
    return {f"{start}.{name}": value for name, value in plain.items()}, {f"blk.{layer}.{name}": value for name, value in stored.items()}


def mamba_2(rng, layer: int, start: str):
    channels = INNER + 2 * GROUPS * STATES
    A_log, D = rng.uniform(0, 3, HEADS).astype(np.float32), single(rng, HEADS)
    bias, conv, shift = rng.uniform(-6, -2, HEADS).astype(np.float32), single(rng, channels, 4), single(rng, channels)
    wide, norm, out = single(rng, INNER + channels + HEADS, WIDTH), single(rng, INNER), single(rng, WIDTH, INNER)
    plain = {"A_log": A_log, "D": D, "dt_bias": bias, "conv1d.weight": conv[:, None], "conv1d.bias": shift}
    plain |= {"in_proj.weight": wide, "norm.weight": norm, "out_proj.weight": out}
    stored = {
        "ssm_a": -np.exp(A_log)[:, None],
        "ssm_d": D[:, None],
        "ssm_dt.bias": bias,
        "ssm_conv1d.weight": conv,
        "ssm_conv1d.bias": shift,
    }
    stored |= {"ssm_in.weight": wide, "ssm_norm.weight": norm.reshape(GROUPS, -1), "ssm_out.weight": out}
    return {f"{start}.{name}": value for name, value in plain.items()}, {f"blk.{layer}.{name}": value for name, value in stored.items()}


def write(path, architecture, tensors, *, quantized=False, vocabulary=100):
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_array("tokenizer.ggml.tokens", [f"token{number}" for number in range(vocabulary)])
    writer.add_array("tokenizer.ggml.scores", [0.5] * vocabulary)
    writer.add_uint32(f"{architecture}.ssm.group_count", GROUPS)
    writer.add_uint32(f"{architecture}.ssm.time_step_rank", HEADS)
    for name, value in tensors.items():
        if quantized and name.endswith(("ssm_in.weight", "ssm_out.weight")):
            blocks = gguf.quantize(value, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def model(tmp_path, rng):
    def made(architecture, **options):
        plain, stored = {}, {"token_embd.weight": single(rng, 100, WIDTH)}
        for layer in (0, 2):
            layer_of, start = (mamba_1, ONE[architecture]) if architecture in ONE else (mamba_2, TWO[architecture])
            ours, theirs = layer_of(rng, layer, start.format(layer))
            plain |= ours
            stored |= theirs
        save_file({name: np.ascontiguousarray(value) for name, value in plain.items()}, tmp_path / "model.safetensors")
        return tmp_path / "model.safetensors", write(tmp_path / "model.gguf", architecture, stored, **options)

    return made


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("architecture", [*ONE, *TWO])
def test_the_same_model_as_in_safetensors(model, architecture, quantized):
    safetensors, path = model(architecture, quantized=quantized)
    ours, found = analyze(safetensors, OPTIONS), analyze(path, OPTIONS)
    assert found.container == "gguf"
    assert [(layer.name, layer.family) for layer in found.layers] == [(layer.name, layer.family) for layer in ours.layers]
    for mine, theirs in zip(ours.layers, found.layers, strict=True):
        np.testing.assert_allclose(theirs.poles, mine.poles, rtol=1e-6)
        assert theirs.step_range == mine.step_range
        for name, value in mine.statistics.items():
            np.testing.assert_allclose(theirs.statistics[name].median, value.median, rtol=1e-6)
    assert any("Q8_0" in note for note in found.notes) == quantized
    tensors = open_checkpoint(path).tensors
    for name, tensor in open_checkpoint(safetensors).tensors.items():
        assert tensors[name].shape == tensor.shape
        if not (quantized and name.endswith(("in_proj.weight", "out_proj.weight"))):
            np.testing.assert_allclose(tensors[name].read(), tensor.read(), rtol=1e-6, atol=2e-7)


def test_ssm_a_of_other_architectures_is_no_layer(tmp_path, rng, typed):
    _, stored = mamba_2(rng, 0, "x")
    path = write(tmp_path / "delta.gguf", "qwen3next", stored)
    shown = typed("analyze", path)
    assert shown.code == 3
    assert "qwen3next" in typed("inspect", path).out


def test_rms_residues_need_the_projections(model, typed):
    _, path = model("mamba2", quantized=True)
    refused = typed("analyze", path, "--residues", "rms")
    assert refused.code == 2
    assert "Q8_0" in refused.err


def test_retune_writes_safetensors(model, typed, tmp_path):
    safetensors, path = model("mamba2")
    refused = typed("retune", path, "--step-scale", 2)
    assert refused.code == 2
    assert "for reading only; write a new file with -o NAME.safetensors" in refused.err
    new = tmp_path / "new.safetensors"
    done = typed("retune", path, "--step-scale", 2, "-o", new)
    assert done.code == 0, done.err
    assert typed("retune", safetensors, "--step-scale", 2, "-o", tmp_path / "other.safetensors").code == 0
    ours, found = analyze(tmp_path / "other.safetensors", OPTIONS), analyze(new, OPTIONS)
    for mine, theirs in zip(ours.layers, found.layers, strict=True):
        np.testing.assert_allclose(theirs.poles, mine.poles, rtol=1e-6)


def test_retune_refuses_quantized_weights(model, typed, tmp_path):
    _, path = model("mamba2", quantized=True)
    refused = typed("retune", path, "--step-scale", 2, "-o", tmp_path / "new.safetensors")
    assert refused.code == 2
    assert "are quantized in a form that is not dequantized" in refused.err


def test_over_the_network(model, tmp_path):
    pytest.importorskip("aiohttp")
    _, path = model("falcon-h1", vocabulary=30_000)
    with serving(tmp_path) as rules:
        remote = analyze(f"{rules.url}/model.gguf", OPTIONS)
        ours = analyze(path, OPTIONS)
        assert [layer.statistics for layer in remote.layers] == [layer.statistics for layer in ours.layers]
        header = sum(8 + len(f"token{number}") + 4 for number in range(30_000))
        assert rules.sent < header + 250_000


def packed(*, tensors=0, pairs=b"", count=0, version=3, rest=b""):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, count) + pairs + rest + bytes(64)


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def tensor(name: bytes, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (packed(tensors=2**62), "more than fit"),
        (packed(count=2**60), "more than fit"),
        (packed(count=1, pairs=struct.pack("<Q", 2**63)), "are left"),
        (packed(count=1, pairs=key(b"a", 9, struct.pack("<IQ", 8, 2**61))), "an array of"),
        (packed(count=1, pairs=key(b"a", 9, struct.pack("<IQ", 6, 2**61))), "are left"),
        (packed(count=1, pairs=key(b"a", 9, struct.pack("<IQ", 9, 1) * 6)), "nested too deeply"),
        (packed(count=1, pairs=key(b"a", 99, b"")), "unknown type 99"),
        (packed(count=1, pairs=key(b"general.alignment", 4, struct.pack("<I", 3))), "power of two"),
        (packed(count=1, pairs=key(b"general.alignment", 4, struct.pack("<I", 0))), "power of two"),
        (packed(tensors=1, rest=tensor(b"x", (2, 2, 2, 2, 2), 0, 0)), "5 dimensions"),
        (packed(tensors=1, rest=tensor(b"x", (2**62, 2**62), 0, 0)), "ends behind the file"),
        (packed(tensors=1, rest=tensor(b"x", (2,), 0, 1)), "not aligned"),
        (packed(tensors=1, rest=tensor(b"x", (2,), 77, 0)), "unknown type 77"),
        (packed(tensors=1, rest=tensor(b"x", (33,), 8, 0)), "no blocks of 32"),
        (packed(tensors=2, rest=tensor(b"x", (2,), 0, 0) * 2), "one name"),
        (packed(version=1), "version 1"),
        (packed(version=0x03000000), "version"),
        (b"GGUF\x03\0\0", "are left"),
    ],
)
def test_damaged_files_are_one_line(tmp_path, data, words):
    (tmp_path / "x.gguf").write_bytes(data)
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(tmp_path / "x.gguf")
    assert words in str(error.value), error.value
    assert "\n" not in str(error.value)


def test_every_truncation_is_one_line(model, tmp_path):
    _, path = model("mamba2")
    data = path.read_bytes()
    for length in [*range(8, 1200, 37), len(data) - 1000]:
        (tmp_path / "cut.gguf").write_bytes(data[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            open_checkpoint(tmp_path / "cut.gguf")


def test_block_sizes_are_those_of_the_package():
    from ssmspec.checkpoint.formats.gguf import PLAIN, QUANTIZED, SIZES

    for kind, (values, size) in gguf.GGML_QUANT_SIZES.items():
        if int(kind) in PLAIN:
            assert SIZES[int(kind)] == size
        else:
            assert QUANTIZED[int(kind)] == (kind.name, values, size)
