"""HDF5 files as Keras lays them out, and hostile ones."""

import json
from contextlib import suppress

import numpy as np
import pytest
from locations import HANG
from range_server import serving
from safetensors.numpy import save_file

from ssmspec.checkpoint import open_checkpoint
from ssmspec.checkpoint.formats import native
from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.errors import CheckpointError
from ssmspec.statistics import HEADLINES

h5py = pytest.importorskip("h5py")
OPTIONS = AnalysisOptions(points=64, statistics=HEADLINES)
WIDTH, INNER, STATES, RANK, TAPS = 6, 12, 4, 2, 4
LAYERS = ("blocks.0.mamba", "blocks.1.mamba")


def mamba(rng):
    """A layer with the names and axes of PyTorch."""
    return {
        "A_log": rng.uniform(-1, 2, (INNER, STATES)),
        "D": rng.normal(size=INNER),
        "in_proj.weight": rng.normal(size=(2 * INNER, WIDTH)),
        "conv1d.weight": rng.normal(size=(INNER, 1, TAPS)),
        "conv1d.bias": rng.normal(size=INNER),
        "x_proj.weight": rng.normal(size=(RANK + 2 * STATES, INNER)),
        "dt_proj.weight": rng.normal(size=(INNER, RANK)),
        "dt_proj.bias": rng.uniform(-6, -2, INNER),
        "out_proj.weight": rng.normal(size=(WIDTH, INNER)),
    }


KERAS_2 = {"weight": "kernel:0", "bias": "bias:0", "A_log": "A_log:0", "D": "D:0"}
KERAS_3 = {"weight": "vars/0", "bias": "vars/1", "A_log": "vars/0", "D": "vars/1"}


@pytest.fixture
def model(tmp_path, rng):
    """The same layers in safetensors and in both layouts of Keras."""
    layers = {name: {key: value.astype(np.float32) for key, value in mamba(rng).items()} for name in LAYERS}
    plain = {f"{name}.{key}": value for name, layer in layers.items() for key, value in layer.items()}
    save_file({name: np.ascontiguousarray(value) for name, value in plain.items()}, tmp_path / "model.safetensors")
    for file, start, words in (("keras2.h5", "model_weights/", KERAS_2), ("keras3.weights.h5", "layers/", KERAS_3)):
        with h5py.File(tmp_path / file, "w") as out:
            for name, value in plain.items():
                *path, last = name.split(".")
                out.create_dataset(f"{start}{'/'.join([*path, words[last]])}", data=value.T if last == "weight" else value)
            out.create_dataset("optimizer_weights/adam/m:0" if "2" in file else "optimizer/vars/0", data=np.ones(3))
            out.create_dataset(f"{start}embedding/{'embeddings:0' if '2' in file else 'vars/0'}", data=np.ones((3, 2)), compression="gzip")
            out.create_dataset(f"{start}seed/vars/0", data=np.uint32([1, 2]))
    return plain


def refused(path) -> str:
    with pytest.raises(CheckpointError) as error:
        read_all(path)
    text = str(error.value)
    assert text.startswith(str(path))
    assert text.isprintable()
    return text


def read_all(path):
    return {name: tensor.read() for name, tensor in open_checkpoint(path).tensors.items()}


@pytest.mark.parametrize(("file", "start"), [("keras2.h5", ""), ("keras3.weights.h5", "layers.")])
def test_layers_of_keras_have_the_names_and_values_of_pytorch(model, tmp_path, file, start):
    found = open_checkpoint(tmp_path / file)
    assert found.container == "hdf5"
    assert any(note.startswith("HDF5 of Keras: 18 tensors") for note in found.notes)
    assert any(note.startswith("optimizer state skipped") for note in found.notes)
    for name, value in model.items():
        tensor = found.tensors[start + name]
        assert tensor.shape == value.shape
        assert tensor.read().tobytes() == value.tobytes()
        assert tensor.read(slice(1, 5, 2)).tobytes() == value[1:5:2].tobytes()
    local = analyze(tmp_path / "model.safetensors", OPTIONS)
    layers = analyze(tmp_path / file, OPTIONS).layers
    assert [(layer.name, layer.family, layer.statistics) for layer in layers] == [
        (start + layer.name, layer.family, layer.statistics) for layer in local.layers
    ]


def test_rms_residues_from_kernels(model, tmp_path, typed):
    arguments = ["--residues", "rms", "--json", "--points", 64, "--statistics", "bias_slope"]
    ours, found = (typed("analyze", tmp_path / file, *arguments) for file in ("model.safetensors", "keras2.h5"))
    assert (ours.code, found.code) == (0, 0), found.err
    assert json.loads(found.out)["layers"] == json.loads(ours.out)["layers"]


MAPPING = """\
[[layer]]
match = "cell"
kind = "siso"
discretization = "zoh"
output = "Re"
[layer.pole_real]
tensor = "decay_log"
transform = "-exp"
[layer.step]
tensor = "step"
transform = "exp"
[layer.C]
tensor = "C"
"""


def test_other_layouts_are_read_with_a_mapping(tmp_path, rng, typed):
    decays = rng.uniform(0.1, 3, (4, 8))
    with h5py.File(tmp_path / "x.h5", "w") as out:
        out["cell/decay_log"] = np.log(decays).astype(">f4")
        out["cell/step"] = np.full(4, -3.0)
        out["cell/C"] = rng.normal(size=(4, 8))
    (tmp_path / "map.toml").write_text(MAPPING)
    done = typed("export", tmp_path / "x.h5", "--map", tmp_path / "map.toml", "--layer", 0, "--copy", 2, "-o", tmp_path / "x.npz")
    assert done.code == 0, done.err
    with np.load(tmp_path / "x.npz") as found:
        np.testing.assert_allclose(np.sort(np.linalg.eigvals(found["A"])), np.sort(np.exp(-decays[2] * np.exp(-3.0))), rtol=1e-6)


def test_dtypes(tmp_path):
    import ml_dtypes

    half = np.arange(6, dtype=np.float32).astype(ml_dtypes.bfloat16).reshape(2, 3)
    values = {"c": np.array([1 + 2j], np.complex64), "b": np.array([True, False]), "big": np.arange(3, dtype=">f8"), "s": np.float32(2)}
    with h5py.File(tmp_path / "x.h5", "w") as out:
        for name, value in values.items():
            out[name] = value
        out.create_dataset("half", data=half.view("V2")).attrs["dtype"] = "bfloat16"  # as Keras 3 does
        out["text"] = "words"
        out["opaque"] = np.zeros(2, "V2")
        out["none"] = h5py.Empty("f4")
        out.create_dataset("zero", (0, 4), "f4")
    found = open_checkpoint(tmp_path / "x.h5")
    assert any("datasets were skipped: 3" in note for note in found.notes)
    for name, value in values.items():
        assert found.tensors[name].read().tobytes() == np.asarray(value).astype(np.asarray(value).dtype.newbyteorder("<")).tobytes()
    assert found.tensors["half"].dtype == "bfloat16"
    assert found.tensors["half"].read().tobytes() == half.tobytes()
    assert found.tensors["zero"].read().shape == (0, 4)


def test_links_to_other_files_are_not_followed(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as out:
        out["key"] = np.ones(3)
    (tmp_path / "raw").write_bytes(bytes(24))
    with h5py.File(tmp_path / "x.h5", "w") as out:
        out["D"] = np.ones(2)
        out["far"] = h5py.ExternalLink("secret.h5", "/key")
        out["soft"] = h5py.SoftLink("/D")
        out["loop/up"] = out["/"]
        out.create_dataset("outside", (3,), "f8", external=[(str(tmp_path / "raw"), 0, 24)])
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "key", (3,))
        out.create_virtual_dataset("virtual", layout)
    found = open_checkpoint(tmp_path / "x.h5")
    assert list(found.tensors) == ["D"]
    assert any("datasets were skipped: 4" in note for note in found.notes)


def test_values_that_were_never_written_are_no_zeros(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as out:
        out["D"] = np.ones(2)
        out.create_dataset("never", (1000, 1000), "f4")
        out.create_dataset("partly", (1000, 1000), "f4", chunks=(100, 1000))[:500] = 1
        out.create_dataset("huge", (2**40,), "f4", chunks=(2**20,), compression="gzip")[:1] = 1
    assert list(open_checkpoint(tmp_path / "x.h5").tensors) == ["D"]


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    from ssmspec.checkpoint.formats import hdf5

    with h5py.File(tmp_path / "x.h5", "w") as out:
        out.create_dataset("zeros", data=np.zeros(10**6, np.float32), compression="gzip")
    assert not open_checkpoint(tmp_path / "x.h5").tensors["zeros"].read().any()
    monkeypatch.setattr(hdf5, "MOST_RATIO", 100)
    assert "tells 4000000 bytes of values" in refused(tmp_path / "x.h5")


def test_damaged_files_are_one_line_or_harmless(model, tmp_path, rng):
    data = bytearray((tmp_path / "keras2.h5").read_bytes())
    for number in range(12):
        changed = bytearray(data)
        for place in rng.integers(8, 3000, 20):
            changed[place] ^= int(rng.integers(1, 256))
        path = tmp_path / f"damaged{number}.h5"
        path.write_bytes(changed if number % 3 else data[: int(rng.integers(9, len(data)))])
        with suppress(CheckpointError):  # and nothing else
            open_checkpoint(path)


def test_a_process_that_ends_is_one_line(model, tmp_path, monkeypatch):
    (tmp_path / "worker.py").write_text("import os; os.abort()")
    monkeypatch.setattr(native, "WORKER", tmp_path / "worker.py")
    monkeypatch.setattr(native, "PATIENCE", HANG)
    assert "the process that reads the list of the datasets of the HDF5 file ended with signal 6" in refused(tmp_path / "keras2.h5")


def test_retune_writes_safetensors(model, tmp_path, typed):
    plain = typed("retune", tmp_path / "keras2.h5", "--step-scale", 2)
    assert plain.code == 2
    assert "for reading only; write a new file with -o NAME.safetensors" in plain.err
    new, other = tmp_path / "new.safetensors", tmp_path / "other.safetensors"
    assert typed("retune", tmp_path / "keras2.h5", "--step-scale", 2, "-o", new).code == 0
    assert typed("retune", tmp_path / "model.safetensors", "--step-scale", 2, "-o", other).code == 0
    assert all(read_all(new)[name].tobytes() == value.tobytes() for name, value in read_all(other).items())


def test_over_the_network_it_is_downloaded(model, tmp_path, typed, monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("SSMSPEC_CACHE", str(tmp_path / "cache"))
    with serving(tmp_path) as rules:
        plain = typed("analyze", f"{rules.url}/keras2.h5")
        assert plain.code == 2
        assert "--download fetches it" in plain.err
        assert typed("analyze", f"{rules.url}/keras2.h5", "--download", "--points", 64).code == 0
