import json
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ssmspec.checkpoint import open_checkpoint
from ssmspec.errors import CheckpointError

TENSORS = {
    "f64": torch.randn(3, 4, dtype=torch.float64),
    "f32": torch.randn(2, 3, 4),
    "f16": torch.randn(5).half(),
    "bf16": torch.randn(7).bfloat16(),
    "c64": torch.randn(2, 2, dtype=torch.complex64),
    "f8_e4m3": torch.randn(6).to(torch.float8_e4m3fn),
    "f8_e5m2": torch.randn(6).to(torch.float8_e5m2),
    **{f"i{bits}": torch.arange(-3, 3).to(getattr(torch, f"int{bits}")) for bits in (8, 16, 32, 64)},
    **{f"u{bits}": torch.arange(6).to(getattr(torch, f"uint{bits}")) for bits in (8, 16, 32, 64)},
    "bool": torch.tensor([True, False, True]),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 256),
}


def raw(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist()) if tensor.numel() else b""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "x.safetensors", metadata={"format": "pt"})
    return tmp_path / "x.safetensors"


@pytest.mark.parametrize("name", TENSORS)
def test_every_dtype_comes_back_bit_for_bit(path, name):
    tensor = open_checkpoint(path).tensors[name]
    array = tensor.read()
    assert tensor.dtype == str(TENSORS[name].dtype).removeprefix("torch.") == str(array.dtype)
    assert array.shape == tensor.shape == tuple(TENSORS[name].shape)
    assert array.tobytes() == raw(TENSORS[name])
    assert tensor.nbytes == array.nbytes


def test_special_dtypes_are_those_of_ml_dtypes(path):
    tensors = open_checkpoint(path).tensors
    assert tensors["bf16"].read().dtype == ml_dtypes.bfloat16
    assert np.allclose(tensors["bf16"].read().astype(np.float64), TENSORS["bf16"].double().numpy())
    assert tensors["f8_e5m2"].read().dtype == ml_dtypes.float8_e5m2


def test_offsets_are_absolute(path):
    tensor = open_checkpoint(path).tensors["f64"]
    assert path.read_bytes()[tensor.span.offset :][: tensor.span.nbytes] == raw(TENSORS["f64"])
    assert tensor.span.patchable


def test_metadata_is_part_of_the_configuration(path):
    checkpoint = open_checkpoint(path)
    assert checkpoint.config == {"__metadata__": {"format": "pt"}}
    assert checkpoint.container == "safetensors"
    assert checkpoint.size == path.stat().st_size


@pytest.mark.parametrize("rows", [slice(1, 3), slice(None, None, 2), slice(None, None, -1), slice(-1, None), slice(5, 2), slice(8, 1, -3)])
def test_rows_slice_the_first_axis(tmp_path, rows):
    values = torch.arange(40.0).reshape(10, 4)
    save_file({"x": values}, tmp_path / "x.safetensors")
    assert np.array_equal(open_checkpoint(tmp_path / "x.safetensors").tensors["x"].read(rows), values.numpy()[rows])


def test_rows_of_a_scalar_are_refused(path):
    tensor = open_checkpoint(path).tensors["scalar"]
    with pytest.raises(CheckpointError, match="no rows"):
        tensor.read(slice(0, 1))


def test_only_the_bytes_of_the_asked_rows_are_read(tmp_path, bytes_read):
    save_file({"big": torch.zeros(1000, 1000), "small": torch.zeros(3)}, tmp_path / "x.safetensors")
    before = bytes_read()
    tensors = open_checkpoint(tmp_path / "x.safetensors").tensors
    opened = bytes_read()
    assert opened - before < 20_000
    tensors["big"].read(slice(500, 510))
    assert 40_000 <= bytes_read() - opened < 45_000


def test_a_file_cut_after_it_was_opened_is_an_error(path):
    tensors = open_checkpoint(path).tensors
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match=r"x\.safetensors.*cut or changed"):
        [tensor.read() for tensor in tensors.values()]


def test_a_file_removed_after_it_was_opened_is_an_error(path):
    tensor = open_checkpoint(path).tensors["f64"]
    path.unlink()
    with pytest.raises(CheckpointError, match="'f64' cannot be read: No such file"):
        tensor.read()


def write(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ({"a": entry()}, bytes(7), "truncated"),
        ({"a": entry()}, bytes(9), "overlong"),
        ({"a": entry(offsets=(0, 80))}, bytes(8), "truncated"),
        ({"a": entry(shape=(3,))}, bytes(8), "has 8 bytes"),
        ({"a": entry(shape=(2**40, 2**40))}, bytes(8), "has 8 bytes"),
        ({"a": entry(shape=(-2,))}, bytes(8), "non-negative"),
        ({"a": entry(shape=(2.0,))}, bytes(8), "non-negative"),
        ({"a": entry(shape=(True, 2))}, bytes(8), "non-negative"),
        ({"a": entry(offsets=(8, 0))}, bytes(8), "begin <= end"),
        ({"a": entry(offsets=(-8, 0))}, bytes(8), "begin <= end"),
        ({"a": entry(offsets=(0, 8, 9))}, bytes(8), "begin <= end"),
        ({"a": entry(dtype="F99")}, bytes(8), "expected one of F64"),
        ({"a": entry(dtype=5)}, bytes(8), "expected one of F64"),
        ({"a": entry(dtype=["F32"])}, bytes(8), "expected one of F64"),
        ({"a": {"dtype": "F32"}}, bytes(8), "needs dtype"),
        ({"a": 3}, bytes(8), "needs dtype"),
        ({"a": entry(), "b": entry()}, bytes(8), "overlaps"),
        ({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12), "overlaps"),
        ({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20), "unclaimed bytes"),
        ({"__metadata__": {"a": 1}, "a": entry()}, bytes(8), "__metadata__"),
        ({"__metadata__": [], "a": entry()}, bytes(8), "__metadata__"),
        (b'{"a": ', bytes(8), "not valid JSON"),
        (b'{"a\xff": 1}', bytes(8), "not valid JSON"),
        (b'{"a": 1, "a": 2}', bytes(8), "occurs twice"),
        (b'{"a": ' + b"[" * 100_000, bytes(8), "not valid JSON"),
        ([], b"", "expected an object"),
        ({}, b"", "without tensors"),
    ],
)
def test_a_damaged_header_is_one_clear_line(tmp_path, refusal, header, data, words):
    assert words in refusal(write(tmp_path / "bad.safetensors", header, data))


@pytest.mark.parametrize(
    ("length", "words"), [(10_000, "truncated safetensors: the header"), (2**40, "not a safetensors"), (2**64 - 1, "not a safetensors")]
)
def test_a_header_beyond_the_file_or_the_limit_is_refused(tmp_path, refusal, length, words):
    assert words in refusal(write(tmp_path / "bad.safetensors", {"a": entry()}, bytes(8), length))


def test_a_file_shorter_than_its_length_field_is_refused(tmp_path, refusal):
    (tmp_path / "bad.safetensors").write_bytes(b"\x01\x02")
    assert "not a safetensors" in refusal(tmp_path / "bad.safetensors")


def test_terminal_escapes_in_names_do_not_reach_the_message(tmp_path, refusal):
    refusal(write(tmp_path / "bad.safetensors", {"a\n\x1b[31m": entry(dtype="?")}, bytes(8)))
