import ml_dtypes
import msgpack
import numpy as np
import pytest
from flax_files import extension, save

from ssmspec.checkpoint import open_checkpoint

DTYPES = ["float64", "float32", "float16", "bfloat16", "complex64", "complex128", "int64", "int32", "int8", "uint32", "uint8", "bool"]


def dtype_of(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 256), (3, 4), (300, 300)])
def test_every_dtype_and_size_comes_back(tmp_path, name, shape):
    values = np.random.default_rng(0).integers(0, 2, shape).astype(dtype_of(name))
    path = save({"layer": {"D": values}}, tmp_path / "checkpoint_25")
    tensor = open_checkpoint(path).tensors["layer.D"]
    assert tensor.dtype == name
    assert tensor.read().dtype == values.dtype
    assert tensor.read().shape == shape
    assert tensor.read().tobytes() == values.tobytes()
    assert path.read_bytes()[tensor.span.offset :][: tensor.span.nbytes] == values.tobytes()


def test_a_train_state_gives_parameters_and_statistics_without_the_optimizer(tmp_path):
    weights = {"encoder": {"layers_0": {"seq": {"B": np.ones((2, 3))}}}}
    state = {
        "step": np.int32(7),
        "params": weights,
        "opt_state": {"0": {"mu": weights, "nu": weights}, "1": None},
        "batch_stats": {"norm": {"mean": np.ones(2)}},
        "config": {"lr": 0.1, "big": 2**40, "small": -300, "text": "s" * 40, "complex": 1j, "list": [True, None, 1.5]},
    }
    checkpoint = open_checkpoint(save(state, tmp_path / "checkpoint_25"))
    assert checkpoint.container == "flax msgpack"
    assert list(checkpoint.tensors) == ["batch_stats.norm.mean", "encoder.layers_0.seq.B"]
    assert checkpoint.notes == ("optimizer state skipped: opt_state (2 tensors)", "1 entry is not a tensor: step")
    assert checkpoint.config == state["config"]


def test_integer_keys_and_lists_become_parts_of_names(tmp_path):
    path = save({0: [np.ones(1), np.zeros(1)], "b": {12: np.ones(1), 2: np.ones(1)}}, tmp_path / "x.msgpack")
    assert list(open_checkpoint(path).tensors) == ["0.0", "0.1", "b.2", "b.12"]


def test_chunked_arrays_are_joined(tmp_path):
    values = np.arange(24.0).reshape(6, 4)
    chunks = {str(i): values.ravel()[start : start + 7] for i, start in enumerate(range(0, 24, 7))}
    tree = {"a": {"__msgpack_chunked_array__": True, "shape": {"0": 6, "1": 4}, "chunks": chunks}}
    tensor = open_checkpoint(save(tree, tmp_path / "x.msgpack")).tensors["a"]
    assert np.array_equal(tensor.read(), values)
    assert np.array_equal(tensor.read(slice(2, 5)), values[2:5])
    assert not tensor.span.patchable


def test_only_keys_and_headers_are_read_when_opening(tmp_path, bytes_read):
    path = save({"a": np.zeros((1000, 1000)), "b": np.zeros((1000, 1000))}, tmp_path / "x.msgpack")
    before = bytes_read()
    tensors = open_checkpoint(path).tensors
    opened = bytes_read()
    assert opened - before < 1_000_000
    tensors["b"].read(slice(1, 3))
    assert 16_000 <= bytes_read() - opened < 20_000


GOOD = msgpack.packb({"a": np.ones(3)}, default=extension)


def array(data: bytes) -> bytes:
    return msgpack.packb({"a": msgpack.ExtType(1, data)})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (GOOD[:-1], "truncated"),
        (GOOD + b"x", "1 bytes follow"),
        (b"\x81\xa1a\xc1", "invalid code 0xc1"),
        (b"\x81\xa1a" + b"\x91" * 5000, "nesting levels"),
        (b"\x81\xa1a\xdd\xff\xff\xff\xff", "truncated"),
        (b"\x81\xc0\xc0", "a key of type NoneType"),
        (array(b"\x93"), "truncated"),
        (array(b"\x92\x90\xa1x"), "not (shape, dtype, bytes)"),
        (array(msgpack.packb(((3,), "float64", bytes(23)))), "with 23 bytes"),
        (array(msgpack.packb(((-3,), "float64", bytes(24)))), "non-negative"),
        (array(msgpack.packb(((2**63, 2**63), "float64", bytes(24)))), "with 24 bytes"),
        (array(msgpack.packb(((3,), "float64", 5))), "not binary"),
        (array(msgpack.packb(((1,), "float99", bytes(24)))), "without tensors"),
        (msgpack.packb({"a": {"__msgpack_chunked_array__": True}}), "without matching chunks"),
        (msgpack.packb({"a": msgpack.ExtType(2, b"\x01")}), "complex number"),
        (msgpack.packb({"a": 1}), "without tensors"),
    ],
)
def test_damaged_msgpack_is_one_clear_line(tmp_path, refusal, data, words):
    (tmp_path / "checkpoint_1").write_bytes(data)
    assert words in refusal(tmp_path / "checkpoint_1")
