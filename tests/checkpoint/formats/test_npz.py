import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ssmspec.checkpoint import open_checkpoint

ARRAYS = {
    **{name: np.arange(6).reshape(2, 3).astype(name) for name in ("f8", "f4", "f2", "c8", "c16", "i8", "i2", "u1", "u8", "?")},
    "fortran": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    "big": np.arange(6, dtype=">f8").reshape(2, 3),
    "complex_big": (np.arange(4) * 1j).astype(">c8"),
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 256)),
}


@pytest.fixture(params=[np.savez, np.savez_compressed], ids=["stored", "deflated"])
def path(tmp_path: Path, request) -> Path:
    request.param(tmp_path / "x.npz", **ARRAYS)
    return tmp_path / "x.npz"


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("rows", [None, slice(1, 2)])
def test_every_array_comes_back(path, name, rows):
    tensor = open_checkpoint(path).tensors[name]
    if ARRAYS[name].ndim or rows is None:
        expected = ARRAYS[name] if rows is None else ARRAYS[name][rows]
        assert np.array_equal(tensor.read(rows), expected)
        assert tensor.read(rows).dtype == expected.dtype.newbyteorder("=")
        assert tensor.dtype == ARRAYS[name].dtype.name


def test_stored_arrays_have_their_offset_in_the_file(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.arange(5.0), b=np.arange(7.0))
    span = open_checkpoint(tmp_path / "x.npz").tensors["b"].span
    assert (tmp_path / "x.npz").read_bytes()[span.offset :][: span.nbytes] == np.arange(7.0).tobytes()
    assert span.patchable


def test_slashes_nest_and_wrappers_are_stripped(tmp_path):
    np.savez(tmp_path / "x.npz", **{"params/layer/D": np.ones(2)})
    assert list(open_checkpoint(tmp_path / "x.npz").tensors) == ["layer.D"]


def test_arrays_that_are_no_numbers_are_left_out_with_a_note(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones(2), text=np.array("hello"), objects=np.array([{}]), record=np.zeros(2, "f4,i4"))
    checkpoint = open_checkpoint(tmp_path / "x.npz")
    assert list(checkpoint.tensors) == ["a"]
    assert checkpoint.notes == ("3 members are not numeric arrays: text.npy, objects.npy, record.npy",)


def npz(path: Path, member: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", member)
    return path


def member(descr="'<f8'", shape="(3,)", data=24, version=1) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(2, "little") + header + bytes(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (member(data=20), "has 20 bytes of data, but shape and dtype need 24"),
        (member(data=30), "has 30 bytes of data"),
        (member(shape="(-3,)"), "non-negative"),
        (member(shape="(True,)", data=8), "non-negative"),
        (member(shape="(2**70,)"), "no valid .npy header"),
        (member(shape=f"({2**62}, {2**62})"), "has 24 bytes"),
        (member(shape="__import__('os')"), "no valid .npy header"),
        (member(descr="'nonsense'"), "no valid .npy header"),
        (member(version=9), "no valid .npy header"),
        (b"\x93NUMPY", "no valid .npy header"),
        (b"", "no valid .npy header"),
    ],
)
def test_a_damaged_member_is_one_clear_line(tmp_path, refusal, data, words):
    assert words in refusal(npz(tmp_path / "x.npz", data))


def test_a_bare_npy_has_no_names(tmp_path, refusal):
    np.save(tmp_path / "x.npy", np.ones(3))
    assert "an array without a name" in refusal(tmp_path / "x.npy")


@pytest.mark.parametrize(("size", "words"), [(1000, "'a.npy' cannot be inflated"), (100_000, "tensor 'a' cannot be read")])
def test_a_damaged_deflated_member_is_refused(tmp_path, refusal, size, words):
    np.savez_compressed(tmp_path / "x.npz", a=np.random.default_rng(0).normal(size=size))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[-400:-360] = bytes(40)
    (tmp_path / "x.npz").write_bytes(data)
    assert words in refusal(tmp_path / "x.npz")


def test_a_zip_without_arrays_says_what_it_holds(tmp_path, refusal):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "a zip file with readme.txt, expected data.pkl" in refusal(tmp_path / "x.zip")


def test_an_empty_zip_is_refused(tmp_path, refusal):
    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    (tmp_path / "x.npz").write_bytes(buffer.getvalue())
    assert "a zip file with nothing" in refusal(tmp_path / "x.npz")
