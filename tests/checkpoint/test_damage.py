"""Whatever happens to the bytes of a file, the answer is its tensors or one CheckpointError."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from ssmspec.checkpoint import open_checkpoint
from ssmspec.errors import CheckpointError


def torch_bytes(content: object, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def deflated(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return buffer.getvalue()


def npz_bytes(write) -> bytes:
    buffer = io.BytesIO()
    write(buffer, a=np.arange(4.0), b=np.asfortranarray(np.ones((2, 3), ">f4")))
    return buffer.getvalue()


def flax_bytes() -> bytes:
    def array(values):
        return msgpack.ExtType(1, msgpack.packb((values.shape, values.dtype.name, values.tobytes())))

    chunks = {"__msgpack_chunked_array__": True, "shape": {"0": 2}, "chunks": {"0": array(np.ones(1)), "1": array(np.ones(1))}}
    return msgpack.packb({"params": {"D": array(np.arange(3.0))}, "opt_state": {"0": array(np.ones(2))}, "big": chunks, "n": [1, 2.5, "x"]})


def equinox_bytes() -> bytes:
    """A LinOSS layer between two other leaves."""
    buffer = io.BytesIO(b"{}\n")
    buffer.seek(0, io.SEEK_END)
    shapes = ((2, 3), (4,), (4, 3, 2), (3, 4, 2), (3,), (4,), ())
    for shape in shapes:
        np.save(buffer, np.asfortranarray(np.ones(shape, np.float32)))
    return buffer.getvalue()


STATE = {
    "state_dict": {"D": torch.arange(4.0).reshape(2, 2).T, "c": torch.ones(2, dtype=torch.complex64).conj()},
    "args": {"n": np.float64(1)},
}
FILES = {
    "safetensors": save({"D": torch.arange(4.0), "b": torch.ones(2).bfloat16()}, {"format": "pt"}),
    "torch zip": torch_bytes(STATE),
    "torch zip deflated": deflated(torch_bytes(STATE)),
    "torch legacy": torch_bytes(STATE, _use_new_zipfile_serialization=False),
    "pickle 2": pickle.dumps({"D": np.arange(3.0), "o": {1, 2}}, 2),
    "pickle 5": pickle.dumps({"D": np.arange(3.0), "o": {1, 2}, "b": bytearray(b"x")}, 5),
    "npz": npz_bytes(np.savez),
    "npz deflated": npz_bytes(np.savez_compressed),
    "flax": flax_bytes(),
    "equinox": equinox_bytes(),
}


def outcome(action: Callable[[], object]) -> object:
    """What an action gives, or the text of its CheckpointError; any other error ends the test."""
    try:
        return action()
    except CheckpointError as error:
        return str(error)


def survive(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    checkpoint = outcome(lambda: open_checkpoint(path))
    if isinstance(checkpoint, str):
        assert checkpoint.isprintable()
        assert path.name in checkpoint
        return
    for tensor in checkpoint.tensors.values():
        for rows in (None, slice(1, 2)):
            array = outcome(partial(tensor.read, rows))
            if isinstance(array, str):
                assert array.isprintable()
            else:
                assert array.dtype.name == tensor.dtype
                assert rows is not None or array.shape == tensor.shape


@pytest.mark.parametrize("kind", FILES)
def test_changed_bytes_never_escape_as_another_error(tmp_path, kind):
    generator = np.random.default_rng(20)
    original = np.frombuffer(FILES[kind], np.uint8)
    for _ in range(300):
        data = original.copy()
        places = generator.integers(0, len(data), generator.integers(1, 4))
        data[places] = generator.choice([*generator.integers(0, 256, 3), 0, 255, 127, *b"qrjh\x96\x8e\x8b"], len(places))
        survive(tmp_path / "x", data.tobytes())


@pytest.mark.parametrize("kind", FILES)
def test_cut_and_prolonged_files_never_escape_as_another_error(tmp_path, kind):
    data = FILES[kind]
    for keep in {*range(min(len(data), 60)), *range(0, len(data), max(1, len(data) // 150))}:
        survive(tmp_path / "x", data[:keep])
        survive(tmp_path / "x", data[:keep] + data[keep + 1 :])
    survive(tmp_path / "x", data + data)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x95", b"\x82", b"\x93NUMPY", FILES["torch legacy"][:120]]),
    rest=st.binary(max_size=200),
)
def test_random_bytes_never_escape_as_another_error(tmp_path, start, rest):
    survive(tmp_path / "x", start + rest)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "a", "__metadata__"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=JSON)
def test_any_json_header_never_escapes_as_another_error(tmp_path, header):
    text = json.dumps(header).encode()
    survive(tmp_path / "x.safetensors", struct.pack("<Q", len(text)) + text + bytes(8))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=JSON)
def test_any_msgpack_never_escapes_as_another_error(tmp_path, tree):
    try:
        data = msgpack.packb({"x": tree})
    except OverflowError:
        return
    survive(tmp_path / "x", data)
