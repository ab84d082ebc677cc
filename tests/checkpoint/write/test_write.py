"""write_changed, container by container: the changed values arrive bit for bit, and no other byte moves."""

import argparse
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import msgpack
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ssmspec.checkpoint import Checkpoint, open_checkpoint
from ssmspec.checkpoint.write.write_changed import write_changed
from ssmspec.errors import CheckpointError

RNG = np.random.default_rng(7)
VALUES = {  # "target" is changed, the others surround it
    "before": RNG.normal(size=(5,)).astype("f4"),
    "layer.target": RNG.normal(size=(3, 4)).astype("f4"),
    "layer.wave": (RNG.normal(size=3) + 1j * RNG.normal(size=3)).astype("c8"),
    "layer.steps": np.arange(7),
}
MOMENT = torch.full((3, 4), 0.25)


def tensors() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values.copy()) for name, values in VALUES.items()}


def lightning() -> dict[str, object]:
    """Weights, the optimizer's state, and objects that only their own program could load."""
    return {
        "state_dict": tensors(),
        "optimizer_states": [{"state": {0: {"exp_avg": MOMENT}}, "param_groups": [{"lr": 1e-3}]}],
        "hyper_parameters": argparse.Namespace(lr=np.float64(1e-3)),
        "epoch": 3,
    }


def nested(names: dict[str, np.ndarray]) -> dict[str, object]:
    return {"before": names["before"], "layer": {key.removeprefix("layer."): v for key, v in names.items() if "." in key}}


def extension(value: object) -> object:
    assert isinstance(value, np.ndarray)
    return msgpack.ExtType(1, msgpack.packb((value.shape, value.dtype.name, value.tobytes())))


def save_flax(path: Path) -> None:
    tree = {"params": nested(VALUES), "opt_state": {"0": {"mu": nested(VALUES)}}, "step": 5}
    path.write_bytes(msgpack.packb(tree, default=extension))


def save_chunked(path: Path) -> None:
    """As flax splits long arrays; the chunks stand in the wrong order."""
    flat = VALUES["layer.target"].ravel()
    chunks = {"2": flat[10:], "0": flat[:5], "1": flat[5:10]}
    joined = {"__msgpack_chunked_array__": True, "shape": {"0": 3, "1": 4}, "chunks": chunks}
    rest = {name: values for name, values in VALUES.items() if name != "layer.target"}
    path.write_bytes(msgpack.packb({"layer.target": joined, **rest}, default=extension))


def save_equinox(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b'{"depth": 2}\n')
        for values in VALUES.values():
            np.save(file, values)


def save_deflated(path: Path) -> None:
    """A torch file whose members are compressed, which torch itself never writes but reads."""
    save_zip(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def save_zip(path: Path) -> None:
    torch.save(lightning(), path)


def save_legacy(path: Path) -> None:
    torch.save(lightning(), path, _use_new_zipfile_serialization=False)


WRITERS: dict[str, Callable[[Path], object]] = {
    "x.safetensors": lambda path: save_file(tensors(), path, metadata={"format": "pt"}),
    "x.ckpt": save_zip,
    "legacy.pt": save_legacy,
    "deflated.pth": save_deflated,
    "stored.npz": lambda path: np.savez(path, **VALUES),
    "deflated.npz": lambda path: np.savez_compressed(path, **VALUES),
    "checkpoint_25": save_flax,
    "chunked.msgpack": save_chunked,
    "x.eqx": save_equinox,
}
KEPT_LENGTH = [name for name in WRITERS if not name.startswith("deflated")]


def target_name(checkpoint: Checkpoint) -> str:
    """Equinox has no names."""
    return "1" if checkpoint.container == "equinox" else "layer.target"


@pytest.fixture(params=WRITERS)
def source(request, tmp_path) -> Path:
    WRITERS[request.param](tmp_path / request.param)
    return tmp_path / request.param


def changed_copy(source: Path, values: np.ndarray) -> Path:
    checkpoint, out = open_checkpoint(source), source.with_name("new-" + source.name)
    assert write_changed(checkpoint, out, {target_name(checkpoint): values}) == ()
    return out


NEW = RNG.normal(size=(3, 4))


def test_changed_values_arrive_and_all_others_stay(source, arrays):
    before = source.read_bytes()
    found = arrays(changed_copy(source, NEW))
    expected = arrays(source)
    expected[target_name(open_checkpoint(source))] = NEW.astype("f4")
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        assert found[name].tobytes() == values.tobytes()
    assert source.read_bytes() == before
    assert sorted(path.name for path in source.parent.iterdir()) == sorted([source.name, "new-" + source.name])


def crc_places(path: Path, data: bytes) -> dict[int, bytes]:
    """Offset -> bytes, of every place where the checksum of a member of a zip file may stand."""
    if not data.startswith(b"PK"):
        return {}
    with zipfile.ZipFile(path) as archive:
        sums = [info.CRC.to_bytes(4, "little") for info in archive.infolist()]
    return {match.start(): crc for crc in sums for match in re.finditer(re.escape(crc), data)}


@pytest.mark.parametrize("name", KEPT_LENGTH)
def test_no_byte_differs_but_those_of_the_tensor_and_its_checksums(tmp_path, name):
    WRITERS[name](tmp_path / name)
    old = (tmp_path / name).read_bytes()
    checkpoint = open_checkpoint(tmp_path / name)
    span = checkpoint.tensors[target_name(checkpoint)].span
    new = changed_copy(tmp_path / name, NEW).read_bytes()
    allowed = {place for offset, size in span.chunks or ((span.offset, span.nbytes),) for place in range(offset, offset + size)}
    sums = {place + byte for place in crc_places(tmp_path / name, old) for byte in range(4)}
    differing = {place for place, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1]}
    assert len(differing & allowed) > 30
    assert differing <= allowed | sums
    assert len(differing - allowed) <= 12


@pytest.mark.parametrize("name", [name for name in WRITERS if name.endswith((".ckpt", ".pt", ".pth"))])
def test_torch_loads_the_result_and_the_optimizer_survives(tmp_path, name):
    WRITERS[name](tmp_path / name)
    out = changed_copy(tmp_path / name, NEW)
    with torch.serialization.safe_globals([argparse.Namespace, np.float64(0).__reduce__()[0], np.dtype, np.dtypes.Float64DType]):
        loaded = torch.load(out, weights_only=True)
    assert np.array_equal(loaded["state_dict"]["layer.target"].numpy(), NEW.astype("f4"))
    assert torch.equal(loaded["optimizer_states"][0]["state"][0]["exp_avg"], MOMENT)
    assert loaded["optimizer_states"][0]["param_groups"] == [{"lr": 1e-3}]
    assert loaded["hyper_parameters"].lr == 1e-3


@pytest.mark.parametrize("name", [name for name in WRITERS if name.endswith((".ckpt", ".pth", ".npz"))])
def test_zip_files_keep_the_order_names_and_compression_of_their_members(tmp_path, name):
    WRITERS[name](tmp_path / name)
    old, new = zipfile.ZipFile(tmp_path / name), zipfile.ZipFile(changed_copy(tmp_path / name, NEW))
    with old, new:
        assert new.testzip() is None
        kept = ("filename", "compress_type", "file_size", "flag_bits", "date_time", "extra", "external_attr")
        for one, other in zip(old.infolist(), new.infolist(), strict=True):
            assert [getattr(one, key) for key in kept] == [getattr(other, key) for key in kept]
            if one.CRC == other.CRC:
                assert old.read(one) == new.read(other)
        assert sum(one.CRC != other.CRC for one, other in zip(old.infolist(), new.infolist(), strict=True)) == 1


def test_numpy_safetensors_and_msgpack_load_the_result(tmp_path):
    for name in ("x.safetensors", "stored.npz", "deflated.npz", "checkpoint_25"):
        WRITERS[name](tmp_path / name)
    new = NEW.astype("f4")
    assert np.array_equal(load_file(changed_copy(tmp_path / "x.safetensors", NEW))["layer.target"].numpy(), new)
    for name in ("stored.npz", "deflated.npz"):
        with np.load(changed_copy(tmp_path / name, NEW)) as archive:
            assert np.array_equal(archive["layer.target"], new)
            assert np.array_equal(archive["layer.steps"], np.arange(7))
    tree = msgpack.unpackb(changed_copy(tmp_path / "checkpoint_25", NEW).read_bytes(), strict_map_key=False)
    data = msgpack.unpackb(tree["params"]["layer"]["target"].data)[2]
    moment = msgpack.unpackb(tree["opt_state"]["0"]["mu"]["layer"]["target"].data)[2]
    assert (data, moment) == (new.tobytes(), VALUES["layer.target"].tobytes())


def test_alignment_of_storages_stays(tmp_path):
    torch.save(tensors(), tmp_path / "x.pt")
    out = changed_copy(tmp_path / "x.pt", NEW)
    spans = [open_checkpoint(path).tensors["layer.target"].span for path in (tmp_path / "x.pt", out)]
    assert spans[0].offset == spans[1].offset
    assert torch.equal(torch.load(out, mmap=True)["layer.target"], torch.from_numpy(NEW.astype("f4")))


def test_no_changes_are_a_copy(source):
    out = source.with_name("copy")
    write_changed(open_checkpoint(source), out, {})
    assert out.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64", "complex64", "complex128", "float8_e4m3fn"])
@pytest.mark.parametrize("legacy", [False, True])
def test_values_are_cast_to_the_stored_dtype(tmp_path, dtype, legacy):
    stored = torch.zeros(50, dtype=getattr(torch, dtype))
    legacy = legacy and not dtype.startswith("float8")  # which torch writes so, but cannot load
    torch.save({"x": stored}, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
    values = RNG.normal(size=50) + (1j * RNG.normal(size=50) if stored.is_complex() else 0)
    write_changed(open_checkpoint(tmp_path / "x.pt"), tmp_path / "y.pt", {"x": values})
    loaded = torch.load(tmp_path / "y.pt", weights_only=True)["x"]
    assert loaded.dtype == stored.dtype
    expected = values.astype(getattr(ml_dtypes, dtype) if dtype.startswith(("b", "float8")) else dtype)
    assert torch.equal(loaded, torch.from_numpy(expected.view(np.uint8)).view(stored.dtype))


def test_values_in_the_stored_dtype_keep_every_bit(tmp_path):
    """Signalling NaNs and negative zeros too."""
    bits = np.array([0x7F800001, 0xFFC12345, 0x80000000, 0x00000001], np.uint32)
    np.savez(tmp_path / "x.npz", x=np.zeros(4, "f4"))
    write_changed(open_checkpoint(tmp_path / "x.npz"), tmp_path / "y.npz", {"x": bits.view("f4")})
    assert open_checkpoint(tmp_path / "y.npz").tensors["x"].read().view(np.uint32).tolist() == bits.tolist()


@pytest.mark.parametrize(
    ("dtype", "value", "words"),
    [
        ("float16", 1e5, "float16, which cannot hold the new value 100000.0"),
        ("float32", -1e39, "cannot hold the new value -1e+39"),
        ("complex64", 1e39 + 0j, "cannot hold the new value"),
        ("int64", 2.5, "int64, which cannot hold the new value 2.5"),
        ("int8", 300, "int8, which cannot hold the new value 300"),
        ("int32", np.nan, "int32, which cannot hold the new value nan"),
        ("uint8", -1, "uint8, which cannot hold"),
        ("bool", 2, "bool, which cannot hold"),
        ("float32", 1j, "its new values are complex"),
        ("float32", "text", "expected numbers"),
        ("float32", None, "expected numbers"),
    ],
)
def test_values_that_do_not_fit_are_refused_in_one_line(tmp_path, dtype, value, words):
    np.savez(tmp_path / "x.npz", x=np.zeros((), dtype))
    with pytest.raises(CheckpointError, match="tensor 'x'") as caught:
        write_changed(open_checkpoint(tmp_path / "x.npz"), tmp_path / "y.npz", {"x": np.array(value)})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def test_bfloat16_overflows_above_its_largest_number(tmp_path):
    save_file({"x": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "x.safetensors")
    checkpoint = open_checkpoint(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="bfloat16, which cannot hold"):
        write_changed(checkpoint, tmp_path / "y", {"x": np.array([1.0, 3.4e38])})
    write_changed(checkpoint, tmp_path / "y", {"x": np.array([np.inf, 3.38e38])})
    assert np.isfinite(open_checkpoint(tmp_path / "y").tensors["x"].read().astype(float)).tolist() == [False, True]


def test_whole_numbers_in_float_become_integers(tmp_path):
    np.savez(tmp_path / "x.npz", length=np.array(64), flag=np.array([True, False]))
    changes = {"length": np.array(2.0**53), "flag": np.array([0.0, 1.0])}
    write_changed(open_checkpoint(tmp_path / "x.npz"), tmp_path / "y.npz", changes)
    with np.load(tmp_path / "y.npz") as found:
        assert found["length"] == 2**53
        assert found["flag"].tolist() == [False, True]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layer.taget": np.zeros((3, 4))}, "no tensor is named 'layer.taget'; there are layer.target"),
        ({"layer.target": np.zeros((4, 3))}, r"has shape \(3, 4\), but its new values have \(4, 3\)"),
        ({"layer.target": np.zeros(12)}, "give values of the same shape"),
    ],
)
def test_unknown_names_and_other_shapes_are_refused(source, changes, words):
    if source.suffix == ".eqx":
        changes = {name.replace("layer.target", "1"): values for name, values in changes.items()}
        words = words.replace("; there are layer.target", "")
    before = sorted(source.parent.iterdir())
    with pytest.raises(CheckpointError, match=words):
        write_changed(open_checkpoint(source), source.with_name("out"), changes)
    assert sorted(source.parent.iterdir()) == before


def views() -> dict[str, torch.Tensor]:
    base = torch.arange(60.0).reshape(3, 4, 5)
    waves = torch.randn(4, 3, dtype=torch.complex64)
    return {
        "transposed": base.transpose(0, 2),
        "sliced": base[1:, ::2, 1:4],
        "diagonal": base[0].diagonal(),
        "conjugate": waves.conj(),
        "conjugate transposed": waves.mH,
        "negative": waves.conj().imag,
        "real part": waves.real,
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 256),
        "half": base.to(torch.bfloat16)[:, 1],
    }


@pytest.mark.parametrize("name", views())
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("deflate", [False, True])
def test_views_are_changed_element_by_element(tmp_path, name, legacy, deflate):
    """The elements of the storage that the view skips stay."""
    if legacy and deflate:
        return
    path, out, old = tmp_path / "x.pt", tmp_path / "y.pt", views()[name]
    base = old._base if old._base is not None else old
    content = {"view": old, "base": base if base.dtype == old.dtype else torch.view_as_real(base)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    if deflate:
        with zipfile.ZipFile(path) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in members.items():
                archive.writestr(member, data)
    new = torch.randn(old.shape, dtype=old.dtype)
    values = new.to(torch.float64 if not old.is_complex() else torch.complex128).numpy()
    notes = write_changed(open_checkpoint(path), out, {"view": values})
    loaded = torch.load(out, weights_only=True)
    assert torch.equal(loaded["view"], new)
    expected = torch.load(path, weights_only=True)
    expected["view"].copy_(new)
    assert torch.equal(loaded["base"], expected["base"])
    assert notes == (("'base' shares stored bytes with 'view': where they overlap, it changes too",) if old.numel() else ())


def test_fortran_order_and_big_endian_arrays_are_changed_in_their_order(tmp_path):
    old = {
        "fortran": np.asfortranarray(np.zeros((2, 3, 4))),
        "big": np.zeros((2, 3), ">f8"),
        "both": np.asfortranarray(np.zeros((2, 3), ">c8")),
    }
    new = {name: RNG.normal(size=values.shape).astype(values.dtype.newbyteorder("=")) for name, values in old.items()}
    new["both"] = new["both"] + np.complex64(1j) * np.arange(6, dtype="f4").reshape(2, 3)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **old)
        write_changed(open_checkpoint(tmp_path / "x.npz"), tmp_path / "y.npz", new, replace=True)
        with np.load(tmp_path / "y.npz") as found:
            for name, values in new.items():
                assert found[name].dtype == old[name].dtype
                assert found[name].flags.f_contiguous == old[name].flags.f_contiguous
                assert np.array_equal(found[name], values)


def test_big_endian_torch_storages_stay_big_endian(tmp_path):
    torch.save({"x": torch.zeros(3)}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["x/byteorder"] = b"big"
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    write_changed(open_checkpoint(tmp_path / "x.pt"), tmp_path / "y.pt", {"x": np.array([1.0, 2.0, 3.0])})
    assert zipfile.ZipFile(tmp_path / "y.pt").read("x/data/0") == np.array([1, 2, 3], ">f4").tobytes()


@pytest.fixture
def tied(tmp_path) -> Checkpoint:
    weight = torch.arange(6.0)
    torch.save({"a": weight, "b": weight, "tail": weight[4:], "other": torch.ones(2)}, tmp_path / "x.pt")
    return open_checkpoint(tmp_path / "x.pt")


def test_tied_tensors_change_together_and_a_note_says_so(tied, tmp_path, arrays):
    notes = write_changed(tied, tmp_path / "y.pt", {"a": np.arange(6) * 10.0})
    found = arrays(tmp_path / "y.pt")
    assert [found[name].tolist() for name in ("b", "tail", "other")] == [[0, 10, 20, 30, 40, 50], [40, 50], [1, 1]]
    assert notes == tuple(f"'{name}' shares stored bytes with 'a': where they overlap, it changes too" for name in ("b", "tail"))


def test_tied_tensors_with_the_same_values_are_written(tied, tmp_path, arrays):
    new = np.arange(6) * 10.0
    assert write_changed(tied, tmp_path / "y.pt", {"tail": new[4:], "a": new, "b": new}) == ()
    assert arrays(tmp_path / "y.pt")["b"].tolist() == new.tolist()


@pytest.mark.parametrize("changes", [{"a": np.zeros(6), "b": np.ones(6)}, {"a": np.zeros(6), "tail": np.array([0.0, 1.0])}])
def test_contradictory_values_of_tied_tensors_are_refused(tied, tmp_path, changes):
    with pytest.raises(CheckpointError, match=r"'a' and '.*' contradict each other"):
        write_changed(tied, tmp_path / "y.pt", changes)
    assert not (tmp_path / "y.pt").exists()


def test_expanded_tensors_take_one_value_for_all_that_repeat_it(tmp_path, arrays):
    torch.save({"x": torch.ones(1).expand(7, 1)}, tmp_path / "x.pt")
    checkpoint = open_checkpoint(tmp_path / "x.pt")
    write_changed(checkpoint, tmp_path / "y.pt", {"x": np.full((7, 1), 2.5)})
    assert arrays(tmp_path / "y.pt")["x"].tolist() == [[2.5]] * 7
    with pytest.raises(CheckpointError, match="elements of 'x' share stored bytes"):
        write_changed(checkpoint, tmp_path / "z.pt", {"x": np.arange(7.0)[:, None]})


def test_arrays_inside_a_pickle_are_refused(tmp_path):
    torch.save({"x": np.arange(3.0), "y": torch.ones(2)}, tmp_path / "x.pt")
    checkpoint = open_checkpoint(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"'x' is a NumPy array inside a pickle.*savez"):
        write_changed(checkpoint, tmp_path / "y.pt", {"x": np.zeros(3)})
    write_changed(checkpoint, tmp_path / "y.pt", {"y": np.zeros(2)})
    assert open_checkpoint(tmp_path / "y.pt").tensors["x"].read().tolist() == [0, 1, 2]


def test_metadata_and_tensors_are_added_to_safetensors(tmp_path):
    dtypes = (torch.float64, torch.bfloat16, torch.int8, torch.float32)
    old = {str(dtype): torch.arange(3 + number).to(dtype) for number, dtype in enumerate(dtypes)}
    save_file(old, tmp_path / "x.safetensors", metadata={"format": "pt", "kept": "é"})
    added = {
        "new.f32": np.arange(5, dtype="f4"),
        "new.f64": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "new.bf16": np.array([1.5, 2], ml_dtypes.bfloat16),
        "new.u8": np.arange(3, dtype="u1"),
        "new.c64": np.array(1 + 2j, "c8"),
        "new.big": np.array([1.0], ">f8"),
        "new.none": np.zeros((0, 4)),
    }
    new = {"torch.bfloat16": np.array([4.0, 5, 6, 7])}
    out = tmp_path / "y.safetensors"
    checkpoint = open_checkpoint(tmp_path / "x.safetensors")
    write_changed(checkpoint, out, new, added=added, metadata={"ssmspec": '{"a": 1}', "path": "m\udcff"})
    loaded = load_file(out)
    assert loaded.keys() == old.keys() | added.keys()
    for name, values in {**old, **{name: torch.tensor(v) for name, v in new.items()}}.items():
        assert torch.equal(loaded[name].double(), values.double())
        assert loaded[name].dtype == old[name].dtype
    for name, values in added.items():
        assert loaded[name].shape == values.shape
        assert np.array_equal(open_checkpoint(out).tensors[name].read(), values)
    with safe_open(out, "pt") as file:
        assert file.metadata() == {"format": "pt", "kept": "é", "ssmspec": '{"a": 1}', "path": "m\\udcff"}
    for tensor in open_checkpoint(out).tensors.values():
        assert tensor.span.offset % (tensor.nbytes // max(1, int(np.prod(tensor.shape))) or 1) == 0


def test_metadata_alone_leaves_the_tensor_bytes(tmp_path):
    save_file(tensors(), tmp_path / "x.safetensors")
    old = (tmp_path / "x.safetensors").read_bytes()
    write_changed(open_checkpoint(tmp_path / "x.safetensors"), tmp_path / "y", {}, metadata={"a": "b"})
    new = (tmp_path / "y").read_bytes()
    tail = [data[8 + int.from_bytes(data[:8], "little") :] for data in (old, new)]
    assert tail[0] == tail[1]
    assert json.loads(new[8 : len(new) - len(tail[1])])["__metadata__"] == {"a": "b"}


@pytest.mark.parametrize(
    ("added", "words"),
    [
        ({"layer.target": np.zeros(2)}, "this tensor already exists; change it"),
        ({"z": np.zeros(2, "c16")}, "dtype complex128 cannot be added"),
    ],
)
def test_tensors_that_cannot_be_added_are_refused(tmp_path, added, words):
    save_file(tensors(), tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=words):
        write_changed(open_checkpoint(tmp_path / "x.safetensors"), tmp_path / "y", {}, added=added)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "x.safetensors"])
def test_other_containers_take_no_tensors_and_leave_metadata_out(tmp_path, name):
    WRITERS[name](tmp_path / name)
    checkpoint, out = open_checkpoint(tmp_path / name), tmp_path / "out"
    with pytest.raises(CheckpointError, match=r"'beta' cannot be added to a .* save it as safetensors first"):
        write_changed(checkpoint, out, {}, added={"beta": np.zeros(2)})
    write_changed(checkpoint, out, {}, metadata={"a": "b"})
    assert out.read_bytes() == (tmp_path / name).read_bytes()


def test_nothing_is_unpickled(tmp_path):
    class Canary:
        def __reduce__(self):
            return open, (str(tmp_path / "canary"), "w")

    torch.save({"x": torch.ones(2), "bad": Canary()}, tmp_path / "x.pt")
    write_changed(open_checkpoint(tmp_path / "x.pt"), tmp_path / "y.pt", {"x": np.zeros(2)})
    assert not (tmp_path / "canary").exists()
    with zipfile.ZipFile(tmp_path / "x.pt") as old, zipfile.ZipFile(tmp_path / "y.pt") as new:
        assert old.read("x/data.pkl") == new.read("x/data.pkl")
