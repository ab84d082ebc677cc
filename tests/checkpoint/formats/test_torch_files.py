import argparse
import collections
import enum
import io
import os
import pickle
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ssmspec.checkpoint import open_checkpoint

REAL = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
WHOLE = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool]
COMPLEX = [torch.complex64, torch.complex128]


def numpy_bytes(tensor: torch.Tensor) -> bytes:
    plain = tensor.resolve_conj().resolve_neg().contiguous()
    return bytes(plain.reshape(-1).view(torch.uint8).tolist()) if plain.numel() else b""


def save(obj: object, path: Path, **options) -> Path:
    torch.save(obj, path, **options)
    return path


@pytest.fixture(params=["zip", "legacy"])
def options(request) -> dict[str, bool]:
    return {"_use_new_zipfile_serialization": request.param == "zip"}


@pytest.mark.parametrize("dtype", REAL + WHOLE + COMPLEX, ids=str)
def test_every_dtype_comes_back_bit_for_bit(tmp_path, options, dtype):
    values = torch.arange(12).reshape(3, 4).to(dtype)
    checkpoint = open_checkpoint(save({"x": values}, tmp_path / "x.pt", **options))
    tensor = checkpoint.tensors["x"]
    assert str(tensor.read().dtype) == tensor.dtype == str(dtype).removeprefix("torch.")
    assert tensor.read().tobytes() == numpy_bytes(values)
    assert checkpoint.container == ("torch zip" if options["_use_new_zipfile_serialization"] else "torch legacy")
    assert (tmp_path / "x.pt").read_bytes()[tensor.span.offset :][: tensor.span.nbytes] == numpy_bytes(values)


def views() -> dict[str, torch.Tensor]:
    base = torch.arange(60.0).reshape(3, 4, 5)
    waves = torch.randn(4, 3, dtype=torch.complex64)
    return {
        "transposed": base.transpose(0, 2),
        "sliced": base[1:, ::2, 1:4],
        "diagonal": base[0].diagonal(),
        "tied": base,
        "tied again": base,
        "expanded": torch.ones(1).expand(7, 1),
        "conjugate": waves.conj(),
        "negative": waves.conj().imag,
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 256),
        "parameter": torch.nn.Parameter(base[0].clone()),
    }


@pytest.mark.parametrize("name", views())
@pytest.mark.parametrize("rows", [None, slice(1, None), slice(None, None, -2)])
def test_views_keep_their_values(tmp_path, options, name, rows):
    values = views()[name]
    tensor = open_checkpoint(save({name: values}, tmp_path / "x.pt", **options)).tensors[name]
    if values.ndim or rows is None:
        expected = values.detach().resolve_conj().resolve_neg().numpy()
        assert np.array_equal(tensor.read(rows), expected if rows is None else expected[rows])


def test_tied_tensors_share_their_bytes(tmp_path, options):
    values = torch.randn(4)
    tensors = open_checkpoint(save({"a": values, "b": values[1:]}, tmp_path / "x.pt", **options)).tensors
    assert tensors["b"].span.offset == tensors["a"].span.offset + 4


def test_rows_of_a_torch_file_read_only_their_bytes(tmp_path, options, bytes_read):
    tensor = open_checkpoint(save({"x": torch.zeros(1000, 1000)}, tmp_path / "x.pt", **options)).tensors["x"]
    before = bytes_read()
    tensor.read(slice(500, 510))
    assert 40_000 <= bytes_read() - before < 45_000


class Color(enum.Enum):
    RED = 1


class Inner(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.D = torch.nn.Parameter(torch.randn(3))
        self.register_buffer("kept", torch.randn(2))
        self.register_buffer("dropped", torch.randn(2), persistent=False)
        self.register_parameter("absent", None)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = torch.nn.Sequential(Inner(), torch.nn.Linear(3, 2))
        self.scheduler = Inner()
        self.color = Color.RED


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_pickled_module_has_the_names_of_its_state_dict(tmp_path, options, arrays):
    net = Net()
    found = arrays(save(net, tmp_path / "x.pt", **options))
    assert set(found) == set(net.state_dict())
    assert all(np.array_equal(found[name], values.numpy()) for name, values in net.state_dict().items())


def test_torchscript_parameters_are_found(tmp_path, arrays):
    script = zipfile.ZipFile(tmp_path / "script.pt", "w")
    torch.save({"weight": torch.ones(2)}, buffer := io.BytesIO())
    with script, zipfile.ZipFile(buffer) as plain:
        for name in plain.namelist():
            script.writestr("script/" + name.split("/", 1)[1], plain.read(name))
        script.writestr("script/constants.pkl", b"\x80\x02).")
    checkpoint = open_checkpoint(tmp_path / "script.pt")
    assert list(checkpoint.tensors) == ["weight"]
    assert "TorchScript" in checkpoint.notes[0]


class Canary:
    """Pickles to a call that would write a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class CanaryClass:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return eval, (f"open({str(self.path)!r}, 'w')",), {"a": 1}, iter([1, 2]), iter([("k", 1)])


@pytest.mark.parametrize("make", [Canary, CanaryClass])
def test_nothing_in_a_file_is_executed(tmp_path, options, make):
    path = save({"state_dict": {"x": torch.ones(2)}, "bad": make(tmp_path / "canary")}, tmp_path / "x.pt", **options)
    checkpoint = open_checkpoint(path)
    assert checkpoint.tensors["x"].read().tolist() == [1, 1]
    assert not (tmp_path / "canary").exists()
    assert checkpoint.notes == ("1 entry is not a tensor: bad",)


def test_a_lightning_checkpoint_gives_weights_and_hyperparameters(tmp_path, options):
    namespace = argparse.Namespace(lr=np.float64(1e-3), n=np.int64(4), name="s4", nested={"a": [1, 2]}, kind=Color.RED, dtype=torch.float32)
    content = {
        "epoch": 3,
        "pytorch-lightning_version": "2.0",
        "state_dict": collections.OrderedDict({"model.D": torch.ones(3)}),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1}]}],
        "lr_schedulers": [{"last": torch.ones(1)}],
        "loops": {"fit_loop": {}},
        "callbacks": {},
        "hyper_parameters": namespace,
        "device": torch.device("cpu"),
        "defaults": collections.defaultdict(list, a=[1]),
    }
    checkpoint = open_checkpoint(save(content, tmp_path / "x.ckpt", **options))
    assert list(checkpoint.tensors) == ["model.D"]
    assert checkpoint.config == {"lr": 1e-3, "n": 4, "name": "s4", "nested": {"a": [1, 2]}, "dtype": "torch.float32"}
    assert "optimizer state skipped: optimizer_states (1 tensor)" in checkpoint.notes
    assert "4 entries are not tensors: epoch, pytorch-lightning_version, device, defaults" in checkpoint.notes


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numpy_arrays_inside_a_torch_file_are_tensors(tmp_path, protocol, arrays):
    content = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "c": np.ones(2, ">f4"),
        "o": np.array([{}]),
    }
    found = arrays(save(content, tmp_path / "x.pt", pickle_protocol=protocol))
    assert set(found) == {"a", "b", "c"}
    assert all(np.array_equal(found[name], content[name]) for name in found)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_bare_pickle_of_arrays_is_read(tmp_path, protocol):
    content = {"params": {"layer": {"D": np.arange(3.0), "bf": np.ones(2).astype("bfloat16")}}, "set": {1, 2}, "f": frozenset([1]), "z": 1j}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol))
    checkpoint = open_checkpoint(tmp_path / "x.pkl")
    assert checkpoint.container == "pickle"
    assert list(checkpoint.tensors) == ["layer.D", "layer.bf"]
    assert checkpoint.tensors["layer.D"].read(slice(1, 3)).tolist() == [1, 2]
    assert checkpoint.tensors["layer.bf"].dtype == "bfloat16"


def test_a_pickled_jax_array_is_read(tmp_path, monkeypatch, arrays):
    def _reconstruct_array(function, args, state, aval_state):
        raise AssertionError("must not be called")

    class Array:
        def __reduce__(self):
            function, args, state = np.arange(3.0).__reduce__()
            return _reconstruct_array, (function, args, state, {"weak_type": False})

    _reconstruct_array.__module__ = "jax._src.array"
    _reconstruct_array.__qualname__ = "_reconstruct_array"
    for name in ("jax", "jax._src", "jax._src.array"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["jax._src.array"]._reconstruct_array = _reconstruct_array
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"D": Array()}))
    assert arrays(tmp_path / "x.pkl")["D"].tolist() == [0, 1, 2]


def test_a_transformed_tensor_subclass_is_read(tmp_path, arrays):
    class Tagged(torch.Tensor):
        pass

    globals()["Tagged"] = Tagged
    Tagged.__qualname__ = "Tagged"
    values = torch.arange(3.0).as_subclass(Tagged)
    assert arrays(save({"x": values}, tmp_path / "x.pt"))["x"].tolist() == [0, 1, 2]


def test_sparse_and_quantized_tensors_are_noted_not_guessed(tmp_path):
    content = {"x": torch.ones(2), "sparse": torch.eye(3).to_sparse()}
    checkpoint = open_checkpoint(save(content, tmp_path / "x.pt"))
    assert list(checkpoint.tensors) == ["x"]
    assert checkpoint.notes == ("1 entry is not a tensor: sparse",)


def test_torch_is_not_imported(tmp_path):
    path = save({"x": torch.ones(2)}, tmp_path / "x.pt")
    code = (
        "import sys; from ssmspec.checkpoint import open_checkpoint as o; "
        f"print(o({str(path)!r}).tensors['x'].read(), [m for m in ('torch', 'msgpack', 'ml_dtypes') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert done.stdout.strip() == "[1. 1.] []"


def rewrite(path: Path, *, compression=zipfile.ZIP_STORED, change=None, extra=()) -> Path:
    """The same archive with members changed (None: dropped), added or compressed."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    members.update(change or {})
    target = path.with_name("changed.pt")
    with zipfile.ZipFile(target, "w", compression) as new:
        for name, data in [*members.items(), *extra]:
            if data is not None:
                new.writestr(name, data)
    return target


@pytest.fixture
def saved(tmp_path) -> Path:
    return save({"x": torch.arange(1000.0).reshape(10, 100)}, tmp_path / "x.pt")


def test_deflated_storages_are_read(saved):
    tensor = open_checkpoint(rewrite(saved, compression=zipfile.ZIP_DEFLATED)).tensors["x"]
    assert not tensor.span.patchable
    assert np.array_equal(tensor.read(slice(2, 5)), np.arange(1000.0, dtype="f4").reshape(10, 100)[2:5])


def test_big_endian_storages_are_swapped(saved):
    swapped = np.arange(1000, dtype=">f4").tobytes()
    tensor = open_checkpoint(rewrite(saved, change={"x/data/0": swapped, "x/byteorder": b"big"})).tensors["x"]
    assert np.array_equal(tensor.read().ravel(), np.arange(1000.0))


def test_a_zip_bomb_is_refused(tmp_path, refusal):
    path = save({"x": torch.zeros(70 * 2**18)}, tmp_path / "x.pt")
    assert "zip bomb" in refusal(rewrite(path, compression=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x/data/0": None}, "'x/data/0' is missing"),
        ({"x/data/0": b"1234"}, "should have 4000 bytes, but the file has 4"),
        ({"x/data.pkl": b""}, "pickle inside is damaged"),
        ({"x/data.pkl": b"\x80\x02]q\x00."}, "without tensors"),
        ({"x/byteorder": b"middle"}, "byte order"),
        ({"x/data.pkl": None}, "expected data.pkl"),
    ],
)
def test_a_damaged_archive_is_one_clear_line(saved, refusal, change, words):
    assert words in refusal(rewrite(saved, change=change))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(saved, refusal):
    assert "same name" in refusal(rewrite(saved, extra=[("x/data/0", b"other")]))


def test_encrypted_members_are_refused(saved, refusal):
    data = bytearray(saved.read_bytes())
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"x/data/0"))
    data[entry + 8] |= 1
    saved.write_bytes(data)
    assert "encrypted" in refusal(saved)


@pytest.mark.parametrize("keep", [10, 200, 1500, -1, -200])
def test_truncated_files_are_refused(saved, refusal, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    assert "zip" in refusal(saved)


@pytest.mark.parametrize("drop", [1, 100, 3990, 4005, 4100])
def test_truncated_legacy_files_are_refused(tmp_path, refusal, drop):
    path = save({"x": torch.arange(1000.0)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-drop])
    refusal(path)


def pickled_tensor(**changes) -> bytes:
    """data.pkl of {"x": tensor} whose description is made up."""
    given = {"numel": 1000, "offset": 0, "size": (10, 100), "stride": (100, 1), "location": "cpu", **changes}

    class Storage:
        pass

    class Tensor:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Storage(), given["offset"], given["size"], given["stride"], False, {})

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return ("storage", torch.FloatStorage, "0", given["location"], given["numel"]) if isinstance(obj, Storage) else None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump({"x": Tensor()})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"offset": 1}, "reaches byte 4004"),
        ({"offset": -1}, "expected non-negative"),
        ({"stride": (-100, 1)}, "expected non-negative"),
        ({"stride": (2**62, 2**62)}, "reaches byte"),
        ({"stride": (100,)}, "expected non-negative values"),
        ({"size": (11, 100)}, "reaches byte 4400"),
        ({"size": (-1, 100)}, "expected non-negative"),
        ({"size": (2**40, 2**40), "stride": (0, 0)}, "repeats 4 stored bytes"),
        ({"size": (1,) * 40, "stride": (1,) * 40}, "expected non-negative values"),
        ({"size": 5}, "pickle inside is damaged"),
        ({"size": (1.5, 2)}, "pickle inside is damaged"),
        ({"numel": 1001}, "should have 4004 bytes"),
        ({"numel": -5}, "pickle inside is damaged"),
        ({"numel": "many"}, "pickle inside is damaged"),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(saved, refusal, changes, words):
    assert words in refusal(rewrite(saved, change={"x/data.pkl": pickled_tensor(**changes)}))


@pytest.mark.parametrize("location", ["cuda:0", "xla:1", "mps"])
def test_storages_of_any_device_are_bytes(saved, location, arrays):
    assert arrays(rewrite(saved, change={"x/data.pkl": pickled_tensor(location=location)}))["x"][9, 99] == 999


def billion_laughs(levels: int, leaf: object) -> object:
    for _ in range(levels):
        leaf = [leaf] * 10
    return leaf


def test_shared_containers_do_not_unfold_without_end(tmp_path, refusal):
    path = save({"a": billion_laughs(12, [1]), "x": torch.ones(2)}, tmp_path / "fine.pt")
    assert list(open_checkpoint(path).tensors) == ["x"]
    assert "more than" in refusal(save({"a": billion_laughs(12, torch.ones(2))}, tmp_path / "x.pt"))


def test_cycles_end(tmp_path, arrays):
    content = {"x": torch.ones(2)}
    content["self"] = content
    content["list"] = [content]
    assert list(arrays(save(content, tmp_path / "x.pt"))) == ["x"]


def deep(levels: int) -> bytes:
    return b"\x80\x02" + b"]" * levels + b"a" * (levels - 1) + b"."


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (deep(100_000), "deep"),
        (b"\x80\x02]r\xff\xff\xff\xff.", "without tensors"),  # a memo index of 4 billion must not allocate
        (b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".", "damaged"),
        (b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b".", "damaged"),
        (b"\x80\x02c__builtin__\neval\n(U\x011tR.", "without tensors"),
        (b"\x80\x02}U\x01aPx\n.", "damaged"),
        (b"\x80\x02\x82\x01.", "no place in a checkpoint"),
        (b"\x80\x02(.", "damaged"),
        (b"\x80\x02h\x05.", "damaged"),
        (b"\x80\x02}(U\x01ats.", "damaged"),
        (b"\x80\x02(((lp0\nI1\n", "damaged"),
        (b"\x80\x02ccollections\nOrderedDict\n}(U\x01aK\x01u}\x86b.", "without tensors"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "damaged"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe8\x03.", "protocol 1000"),
        (pickle.dumps({"x": torch.ones(2)}), "load it in torch and save it with torch.save"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} bytes",  # a pickled tensor differs from process to process
)
def test_hostile_pickles_are_one_clear_line(tmp_path, refusal, data, words):
    (tmp_path / "x.pkl").write_bytes(data)
    assert words in refusal(tmp_path / "x.pkl")


def test_a_text_copied_a_million_times_is_refused(tmp_path, refusal):
    call = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    body = b"\x80\x02(X" + (2**20).to_bytes(4, "little") + b"a" * 2**20 + b"q\x00" + call * 3000 + b"t."
    (tmp_path / "x.pkl").write_bytes(body)
    assert "builds too many objects" in refusal(tmp_path / "x.pkl")


def test_bytes_after_a_legacy_file_are_noted(tmp_path):
    path = save({"x": torch.ones(2)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes() + b"more")
    assert open_checkpoint(path).notes == ("4 bytes after the first saved object were not read",)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_legacy_files_of_every_pickle_protocol_are_read(tmp_path, protocol, arrays):
    path = save({"x": torch.ones(2)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    assert arrays(path)["x"].tolist() == [1, 1]
