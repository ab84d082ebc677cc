"""Orbax folders as orbax-checkpoint writes them, and damaged ones."""

import json
import shutil
from contextlib import suppress
from importlib.util import find_spec

import numpy as np
import orbax_files
import pytest
from locations import HANG
from program import s4d_tensors
from range_server import serving
from safetensors.numpy import save_file

from ssmspec.checkpoint import open_checkpoint
from ssmspec.checkpoint.formats import native
from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.errors import CheckpointError
from ssmspec.statistics import HEADLINES

if not (find_spec("tensorstore") and find_spec("orbax")):  # other processes import them, which takes seconds
    pytest.skip("tensorstore and orbax-checkpoint are not installed", allow_module_level=True)
OPTIONS = AnalysisOptions(points=64, statistics=HEADLINES)
STEPS = ("manager", "composite", "no default")
FLAT = ("folders", "zarr3 folders")
HALF = "head.weight"  # stored as bfloat16


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The same model in every layout, and its values."""
    folder = tmp_path_factory.mktemp("orbax")
    values = s4d_tensors(layers=2, H=4, N=8)
    plain = {**values, "count": np.int32(5), HALF: np.arange(64, dtype=np.float32).reshape(16, 4)}
    bits = {**plain, HALF: (plain[HALF].view(np.uint32) >> 16).astype(np.uint16)}
    np.savez(folder / "arrays.npz", **bits)
    orbax_files.write(folder / "arrays.npz", folder)
    save_file(values, folder / "model.safetensors")
    return folder, plain


@pytest.fixture
def copied(written, tmp_path):
    def copy(layout):
        return shutil.copytree(written[0] / layout, tmp_path / "ckpt")

    return copy


def read_all(path):
    return {name: tensor.read() for name, tensor in open_checkpoint(path).tensors.items()}


def refused(path) -> str:
    with pytest.raises(CheckpointError) as error:
        read_all(path)
    text = str(error.value)
    assert text.startswith(str(path))
    assert text.isprintable()
    return text


@pytest.mark.parametrize("layout", orbax_files.LAYOUTS)
def test_every_layout_gives_the_values_that_were_saved(written, layout):
    folder, values = written
    path = folder / layout / ("20" if layout in STEPS else "")
    found = open_checkpoint(path)
    assert found.container == "orbax"
    assert found.size == sum(file.stat().st_size for file in (next(path.rglob("_METADATA")).parent).rglob("*") if file.is_file())
    assert any(note.startswith("optimizer state skipped: opt_state") for note in found.notes)
    assert set(found.tensors) == {*values, "step"}
    for name, value in values.items():
        tensor = found.tensors[name]
        assert tensor.dtype == ("bfloat16" if name == HALF else str(value.dtype))
        assert tensor.shape == value.shape
        assert np.asarray(tensor.read()).astype(value.dtype).tobytes() == value.tobytes()
    rows = found.tensors[HALF]
    assert rows.read(slice(5, 9)).astype(np.float32).tolist() == values[HALF][5:9].tolist()
    assert rows.read(slice(None, None, -3)).astype(np.float32).tolist() == values[HALF][::-3].tolist()
    local = analyze(folder / "model.safetensors", OPTIONS)
    assert [layer.statistics for layer in analyze(path, OPTIONS).layers] == [layer.statistics for layer in local.layers]


def test_the_steps_of_a_run(written, typed):
    folder, _ = written
    assert "a folder with 2 steps of Orbax (10, 20); name one of them" in refused(folder / "manager")
    assert "the item model_x of the step" in open_checkpoint(folder / "no default" / "10").notes
    history = typed("compare", folder / "manager")
    assert history.code == 0, history.err


def test_the_only_step_is_opened(copied):
    folder = copied("composite")
    shutil.rmtree(folder / "10")
    assert open_checkpoint(folder).notes[:2] == ("the checkpoint in 20", "the item state of the step")


def test_several_items_are_not_guessed(copied):
    folder = copied("no default") / "10"
    shutil.copytree(folder / "model_x", folder / "model_y")
    assert "2 items (model_x, model_y); name one of them" in refused(folder)
    assert open_checkpoint(folder / "model_y").tensors


@pytest.mark.parametrize("layout", FLAT)
def test_no_value_is_read_until_it_is_asked_for(copied, monkeypatch, layout):
    folder = copied(layout)
    for file in folder.glob("params.*/*"):
        if file.name not in (".zarray", "zarr.json"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    monkeypatch.setattr(native.NativeProcess, "ask", lambda *_, **__: pytest.fail("a process was asked"))
    assert len(open_checkpoint(folder).tensors) > 3
    monkeypatch.undo()
    assert "cannot be read" in refused(folder)  # no block of zeros in place of a lost file


def test_blocks_of_zeros_of_an_older_version(copied):
    folder = copied("folders")
    metadata = json.loads((folder / "_METADATA").read_text())
    del metadata["store_array_data_equal_to_fill_value"]
    (folder / "_METADATA").write_text(json.dumps(metadata))
    (folder / f"params.{HALF}" / "0.0").unlink()
    found = open_checkpoint(folder)
    assert not found.tensors[HALF].read().any()
    assert any("a block without a file is read as zeros" in note for note in found.notes)


def test_without_metadata_names_are_those_of_the_folders(copied, written):
    folder = copied("folders")
    for name in ("_METADATA", "_CHECKPOINT_METADATA"):
        (folder / name).unlink()
    assert "in zarr" in refused(folder)
    (folder / "checkpoint").write_bytes(b"\x80")  # of Flax, before Orbax had metadata
    found = open_checkpoint(folder)
    assert set(written[1]) < set(found.tensors)
    assert "the small values in its file checkpoint were skipped" in found.notes


def test_databases_of_processes_that_were_not_merged(copied):
    folder = copied("ocdbt")
    (folder / "manifest.ocdbt").unlink()
    assert open_checkpoint(folder).tensors  # that of the only process
    shutil.copytree(folder / "ocdbt.process_0", folder / "ocdbt.process_1")
    assert "saving was not finished" in refused(folder)


HOSTILE = {
    "shape": [[2**40], "more than"],
    "chunks": [[2**40, 1], "blocks of"],
    "dtype": ["<f99", None],
    "filters": [[{"id": "delta"}], "without filters"],
    "compressor": [{"id": "lz77"}, "compressor 'lz77'"],
    "zarr_format": [9, "zarr 9"],
    "order": ["Z", "without filters"],
}


@pytest.mark.parametrize("key", HOSTILE)
def test_descriptions_are_checked_before_the_library_sees_them(copied, monkeypatch, key):
    folder = copied("folders")
    value, words = HOSTILE[key]
    place = folder / f"params.{HALF}" / ".zarray"
    place.write_text(json.dumps({**json.loads(place.read_text()), key: value}))
    monkeypatch.setattr(native.NativeProcess, "ask", lambda *_, **__: pytest.fail("a process was asked"))
    if words is None:
        assert any("arrays of other dtypes were skipped: 1" in note for note in open_checkpoint(folder).notes)
        return
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"zarr_format": 2}', '{"zarr_format": 2, "shape": [-1], "chunks": [1], "dtype": "<f4"}', "[" * 5000, '"' * 70000],
)
@pytest.mark.parametrize("ending", [".zarray", "zarr.json"])
def test_damaged_descriptions_are_one_line(copied, text, ending):
    folder = copied("folders" if ending == ".zarray" else "zarr3 folders")
    (folder / f"params.{HALF}" / ending).write_text(text)
    assert "description" in refused(folder) or "at most" in refused(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: found["codecs"][0]["configuration"].update(chunk_shape=[2**40, 1]), "blocks of"),
        (lambda found: found["codecs"].append({"name": "spell"}), "unknown codec 'spell'"),
        (lambda found: found["chunk_grid"].update(name="odd"), "regular blocks"),
        (lambda found: found["chunk_grid"]["configuration"].update(chunk_shape=[0, 1]), "blocks of shape"),
    ],
)
def test_descriptions_of_zarr_3(copied, change, words):
    folder = copied("zarr3 folders")
    place = folder / f"params.{HALF}" / "zarr.json"
    found = json.loads(place.read_text())
    change(found)
    place.write_text(json.dumps(found))
    assert words in refused(folder)


def test_a_damaged_database_is_one_line_or_harmless(copied, written, rng):
    folder = copied("ocdbt")
    files = [file for file in folder.rglob("*") if file.is_file() and "ocdbt" in str(file.relative_to(folder))]
    for file in files:
        data = file.read_bytes()
        for damaged in (b"", data[: len(data) // 2], bytes([*data[:-5], *(byte ^ 0x55 for byte in data[-5:])])):
            file.write_bytes(damaged)
            values = None
            with suppress(CheckpointError):
                values = read_all(folder)
            for name, value in written[1].items() if values else ():
                assert np.array_equal(values[name].astype(value.dtype), value)
        file.write_bytes(data)


def test_a_part_of_a_folder_is_named(written, refusal):
    folder, _ = written
    assert "a part of an Orbax checkpoint" in refusal(folder / "ocdbt" / "manifest.ocdbt")


def test_a_process_reads_the_next_checkpoint_unless_it_told_an_error(written, copied, monkeypatch):
    starts = []
    start = native._start
    monkeypatch.setattr(native, "_start", lambda: starts.append(1) or start())
    read_all(written[0] / "ocdbt")
    count = len(starts)  # none where a test before left one
    for layout in ("ocdbt", "folders", "zarr3 folders"):
        read_all(written[0] / layout)
    assert len(starts) == count
    damaged = copied("ocdbt")
    (damaged / "manifest.ocdbt").write_bytes(b"")
    refused(damaged)
    assert len(starts) == count
    values = read_all(written[0] / "folders")
    assert len(starts) == count + 1
    assert {name: value.tobytes() for name, value in values.items()} == {
        name: tensor.read().tobytes() for name, tensor in open_checkpoint(written[0] / "ocdbt").tensors.items()
    }


WORKERS = {
    "import os; os.abort()": "ended with signal 6",
    "import sys; sys.exit(3)": "ended with exit code 3",
    "import sys; sys.stdin.readline(); print('no JSON', flush=True); input()": "ended with",
    'import sys; sys.stdin.readline(); print(\'{"answer": {}, "bytes": 3}\', flush=True); input()': "ended with",
    "import time; time.sleep(1000)": "ended with signal 9",
}


@pytest.mark.parametrize("program", WORKERS)
def test_the_end_of_the_process_is_one_line_and_the_next_one_reads_on(written, tmp_path, monkeypatch, program):
    folder = written[0] / "folders"
    (tmp_path / "worker.py").write_text(program)
    found = open_checkpoint(folder).tensors["layers.0.D"]
    with monkeypatch.context() as changed:
        changed.setattr(native, "WORKER", tmp_path / "worker.py")
        changed.setattr(native, "PATIENCE", 1.0 if "sleep" in program else HANG)
        with pytest.raises(CheckpointError) as error:
            found.read()
    assert WORKERS[program] in str(error.value)
    assert "\n" not in str(error.value)
    assert found.read().shape == found.shape


def test_a_missing_package_is_named_with_its_extra(written, tmp_path, monkeypatch):
    (tmp_path / "tensorstore.py").write_text("raise ModuleNotFoundError('no', name='tensorstore')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"\(tensorstore\): pip install 'ssmspec\[orbax\]'"):
        open_checkpoint(written[0] / "ocdbt")


def test_retune_writes_safetensors(written, typed, tmp_path):
    folder, _ = written
    plain = typed("retune", folder / "ocdbt", "--alpha", 2)
    assert plain.code == 2
    assert "for reading only; write a new file with -o NAME.safetensors" in plain.err
    done = typed("retune", folder / "ocdbt", "--alpha", 2, "-o", tmp_path / "new.safetensors")
    assert done.code == 0, done.err
    assert typed("retune", folder / "model.safetensors", "--alpha", 2, "-o", tmp_path / "other.safetensors").code == 0
    new, other = (open_checkpoint(tmp_path / f"{name}.safetensors").tensors for name in ("new", "other"))
    assert all(new[name].read().tobytes() == tensor.read().tobytes() for name, tensor in other.items())


@pytest.mark.parametrize("layout", ["composite", "folders"])
def test_over_the_network_it_is_downloaded(written, typed, tmp_path, monkeypatch, layout):
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("SSMSPEC_CACHE", str(tmp_path / "cache"))
    folder, _ = written
    with serving(folder) as rules:
        address = f"{rules.url}/{layout.replace(' ', '%20')}/{'20/' if layout in STEPS else ''}"
        plain = typed("analyze", address)
        assert plain.code == 2
        assert "--download fetches it" in plain.err
        done = typed("analyze", address, "--download", "--json", "--points", 64, "--statistics", "bias_slope")
    assert done.code == 0, done.err
    local = typed("analyze", folder / "model.safetensors", "--json", "--points", 64, "--statistics", "bias_slope")
    found, ours = json.loads(done.out)["layers"], json.loads(local.out)["layers"]
    assert [layer["statistics"] for layer in found] == [layer["statistics"] for layer in ours]
