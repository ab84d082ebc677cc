"""Folders of torch.distributed.checkpoint, made by torch itself, against the tensors that were saved and against torch's own reader."""

import dataclasses
import json
import pickle
import shutil
from argparse import Namespace

import numpy as np
import pytest
import sharded_files
import torch
from safetensors.torch import save_file

from ssmspec.checkpoint import open_checkpoint
from ssmspec.checkpoint.write.write_changed import write_changed
from ssmspec.errors import CheckpointError, SsmspecError

WEIGHTS = {
    "layers.0.mixer.A_log": torch.arange(32.0).reshape(8, 4),
    "layers.0.mixer.D": torch.arange(8.0),
    "layers.0.mixer.in_proj.weight": torch.arange(48.0).reshape(16, 3).bfloat16(),
    "layers.0.mixer.codes": torch.arange(6, dtype=torch.int64).reshape(2, 3),
    "layers.0.mixer.B": torch.randn(4, 3, dtype=torch.complex64, generator=torch.Generator().manual_seed(1)),
    "step": torch.tensor(7),
    "empty": torch.zeros(0, 5),
}


def expected(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: (t.float() if t.dtype == torch.bfloat16 else t).numpy() for name, t in tensors.items()}


def assert_holds(folder, tensors: dict[str, torch.Tensor]) -> None:
    found = open_checkpoint(folder).tensors
    assert sorted(found) == sorted(tensors)
    for name, values in expected(tensors).items():
        assert found[name].shape == values.shape
        assert found[name].dtype == str(tensors[name].dtype).removeprefix("torch.")
        read = found[name].read()
        assert np.array_equal(read.astype(values.dtype), values), name
        for rows in (slice(1, 3), slice(None, None, -2)) if values.ndim else ():
            assert np.array_equal(found[name].read(rows).astype(values.dtype), values[rows]), name


@pytest.mark.parametrize("safetensors", [False, True], ids=["torch", "safetensors"])
def test_what_torch_saves_comes_back(tmp_path, safetensors):
    weights = {name: tensor for name, tensor in WEIGHTS.items() if not (safetensors and tensor.is_complex())}
    folder = sharded_files.save(tmp_path / "ckpt", {"model": weights}, safetensors=safetensors)
    assert_holds(folder, weights)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.container == "torch distributed"
    assert checkpoint.size == (folder / "__0_0.distcp").stat().st_size
    assert {path.name for path in checkpoint.files} == {".metadata", "__0_0.distcp"}


def test_pieces_are_put_together(tmp_path):
    four = [((a, b), (s, t)) for a, s in ((0, 5), (5, 3)) for b, t in ((0, 1), (1, 3))]
    boxes = {
        "layers.0.mixer.A_log": four,
        "layers.0.mixer.D": [((0,), (3,)), ((3,), (3,)), ((6,), (2,))],
        "layers.0.mixer.in_proj.weight": sharded_files.halves((16, 3), axis=1),
        "layers.0.mixer.codes": [((0, 0), (2, 3)), ((2, 0), (0, 3))],  # a process without a share
    }
    folder = sharded_files.save_pieces(tmp_path / "ckpt", WEIGHTS, boxes)
    theirs = sharded_files.load(folder, WEIGHTS)
    assert all(torch.equal(theirs[name], tensor) for name, tensor in WEIGHTS.items())
    assert_holds(folder, WEIGHTS)


def test_only_the_pieces_of_the_rows_that_are_asked_for_are_read(tmp_path, bytes_read):
    large = {"a": torch.randn(4096, 64), "b": torch.randn(4096, 64)}
    folder = sharded_files.save_pieces(tmp_path / "ckpt", large, {name: sharded_files.halves((4096, 64)) for name in large})
    before = bytes_read()
    checkpoint = open_checkpoint(folder)
    values = checkpoint.tensors["a"].read(slice(3000, 3004))
    assert bytes_read() - before < 20_000
    assert np.array_equal(values, large["a"][3000:3004].numpy())
    (folder / "__0_0.distcp").unlink()  # the other half is not needed
    assert np.array_equal(checkpoint.tensors["a"].read(slice(3000, 3004)), values)


def test_a_file_of_the_folder_leads_to_it(tmp_path, refusal):
    folder = sharded_files.save(tmp_path / "ckpt", {"model": WEIGHTS})
    assert_holds(folder / ".metadata", WEIGHTS)
    assert "a part of a checkpoint of torch.distributed: give the folder that it is in" in refusal(folder / "__0_0.distcp")


def test_optimizer_state_and_settings_are_skipped_with_a_note(tmp_path):
    state = {"state": {0: {"exp_avg": torch.ones(8)}}, "param_groups": [{"lr": 0.1}]}
    folder = sharded_files.save(tmp_path / "ckpt", {"model": {"D": torch.ones(8)}, "optimizer": state, "epoch": 3})
    checkpoint = open_checkpoint(folder)
    assert list(checkpoint.tensors) == ["D"]
    assert "optimizer state skipped: optimizer (1 tensor)" in checkpoint.notes
    assert any("epoch" in note for note in checkpoint.notes)


def test_names_without_a_plan_keep_their_keys(tmp_path):
    folder = sharded_files.save_pieces(tmp_path / "ckpt", {"model.layers.0.D": torch.ones(2)}, {})
    assert list(open_checkpoint(folder).tensors) == ["model.layers.0.D"]


def test_old_metadata_without_version_and_storage_meta(tmp_path):
    folder = sharded_files.save(tmp_path / "ckpt", {"model": WEIGHTS})
    sharded_files.change_metadata(folder, lambda m: (m.__dict__.pop("version"), m.__dict__.pop("storage_meta")))
    assert_holds(folder, WEIGHTS)


def test_metadata_of_single_ranks_are_put_together(tmp_path):
    folder = sharded_files.save_pieces(tmp_path / "ckpt", WEIGHTS, {"layers.0.mixer.D": sharded_files.halves((8,))})
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    for rank in range(2):
        mine = {index: place for index, place in metadata.storage_data.items() if place.relative_path == f"__{rank}_0.distcp"}
        entries = {}
        for name in {index.fqn for index in mine}:
            entry = metadata.state_dict_metadata[name]
            offsets = {index.offset for index in mine if index.fqn == name}
            entries[name] = dataclasses.replace(entry, chunks=[chunk for chunk in entry.chunks if chunk.offsets in offsets])
        part = dataclasses.replace(metadata, state_dict_metadata=entries, storage_data=mine)
        (folder / f"__{rank}.metadata").write_bytes(pickle.dumps(part))
    (folder / ".metadata").unlink()
    assert_holds(folder, WEIGHTS)


def test_safetensors_shards_say_themselves_where_they_belong(tmp_path):
    whole = torch.arange(24.0).reshape(6, 4)
    for number, rows in enumerate((slice(0, 4), slice(4, 6))):
        info = {"D": {"saved_offsets": [rows.start, 0]}}
        name = f"shard-0000{number + 1}-model-00001-of-00001.safetensors"
        save_file({"D": whole[rows].clone()}, tmp_path / name, metadata={"DCP_SHARDING_INFO": json.dumps(info)})
    assert_holds(tmp_path, {"D": whole})
    save_file({"D": whole[:2].clone()}, tmp_path / "shard-00002-model-00001-of-00001.safetensors")
    with pytest.raises(CheckpointError, match="DCP_SHARDING_INFO in its metadata says not where tensor 'D' belongs"):
        open_checkpoint(tmp_path)


def test_settings_beside_the_tensors_are_the_configuration(tmp_path):
    folder = sharded_files.save(tmp_path / "ckpt", {"model": WEIGHTS})
    torch.save({"args": Namespace(mamba_num_groups=2), "iteration": 5}, folder / "common.pt")
    assert open_checkpoint(folder).config["mamba_num_groups"] == 2


@pytest.mark.parametrize("place", ["weights", "pytorch_model_fsdp_0"])
def test_a_folder_around_it_will_do(tmp_path, place):
    sharded_files.save(tmp_path / "run" / place, {"model": WEIGHTS})
    sharded_files.save(tmp_path / "run" / "optimizer_0", {"a": torch.ones(1)})
    checkpoint = open_checkpoint(tmp_path / "run")
    assert sorted(checkpoint.tensors) == sorted(WEIGHTS)
    assert checkpoint.notes[0] == f"the checkpoint in {place}"
    sharded_files.save(tmp_path / "run" / "other", {"a": torch.ones(1)})
    with pytest.raises(CheckpointError, match="a folder with 2 checkpoints of"):
        open_checkpoint(tmp_path / "run")


def test_weights_beside_other_folders_are_the_checkpoint(tmp_path):
    """As the Trainer of transformers leaves it with DeepSpeed, or with anything called `.metadata`."""
    sharded_files.save(tmp_path / "run" / "global_step5", {"model": {"other": torch.ones(1)}})
    (tmp_path / "run" / ".metadata").write_text("of a file manager")
    torch.save({"rng": 1}, tmp_path / "run" / "rng_state_0.pth")
    save_file({"D": torch.ones(2)}, tmp_path / "run" / "model.safetensors")
    assert_holds(tmp_path / "run", {"D": torch.ones(2)})
    (tmp_path / "run" / "model.safetensors").unlink()
    (tmp_path / "run" / ".metadata").unlink()
    assert_holds(tmp_path / "run", {"other": torch.ones(1)})


def test_parts_of_a_projection_are_joined(tmp_path):
    parts = {
        name: torch.full((rows, 3), float(number)) for number, (name, rows) in enumerate({"z": 4, "x": 4, "B": 2, "C": 2, "dt": 1}.items())
    }
    prefix = "decoder.layers.0.mixer."
    tensors = {f"{prefix}in_proj.weight.{name}": part for name, part in parts.items()}
    tensors |= {f"{prefix}conv1d.bias.{name}": parts[name][:, 0].clone() for name in ("x", "B", "C")}
    tensors |= {f"{prefix}D.x": torch.ones(2), "B": torch.ones(1), "x": torch.ones(1)}  # no parts of anything
    found = open_checkpoint(sharded_files.save_pieces(tmp_path / "ckpt", tensors, {})).tensors
    assert sorted(found) == sorted(["B", f"{prefix}D.x", f"{prefix}conv1d.bias", f"{prefix}in_proj.weight", "x"])
    assert np.array_equal(found[f"{prefix}in_proj.weight"].read(slice(3, 12)), torch.cat(list(parts.values()))[3:12].numpy())
    assert found[f"{prefix}conv1d.bias"].read().tolist() == [1.0] * 4 + [2.0] * 2 + [3.0] * 2


# --- a new file of the tensors ---


def test_it_is_written_as_safetensors(tmp_path):
    folder = sharded_files.save_pieces(tmp_path / "ckpt", WEIGHTS, {"layers.0.mixer.D": sharded_files.halves((8,))})
    checkpoint = open_checkpoint(folder)
    new = np.arange(8, 16, dtype=np.float32)
    notes = write_changed(
        checkpoint, tmp_path / "x.safetensors", {"layers.0.mixer.D": new}, added={"s": np.ones((2, 2), np.float32)}, metadata={"k": "v"}
    )
    assert "written as one safetensors file" in notes[0]
    assert_holds(tmp_path / "x.safetensors", WEIGHTS | {"layers.0.mixer.D": torch.from_numpy(new), "s": torch.ones(2, 2)})
    from safetensors import safe_open

    with safe_open(tmp_path / "x.safetensors", "pt") as file:  # what the library makes of it
        assert file.metadata() == {"format": "pt", "k": "v"}
        assert torch.equal(file.get_tensor("layers.0.mixer.in_proj.weight"), WEIGHTS["layers.0.mixer.in_proj.weight"])
        assert torch.equal(file.get_tensor("layers.0.mixer.B"), WEIGHTS["layers.0.mixer.B"])


def test_large_tensors_are_written_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("ssmspec.checkpoint.write.new_safetensors.AT_ONCE", 100)
    folder = sharded_files.save_pieces(tmp_path / "ckpt", WEIGHTS, {"layers.0.mixer.A_log": sharded_files.halves((8, 4), axis=1)})
    write_changed(open_checkpoint(folder), tmp_path / "x.safetensors", {})
    assert_holds(tmp_path / "x.safetensors", WEIGHTS)


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("ckpt2", {}, "is for reading only; write a new file with -o NAME.safetensors"),
        ("x.pt", {}, "is for reading only; write a new file with -o NAME.safetensors"),
        ("ckpt", {"in_place": True}, "is for reading only"),
        ("there.safetensors", {}, "it exists; name another, or use --force to replace it"),
        ("folder.safetensors", {}, "it is not a regular file"),
    ],
)
def test_other_targets_are_refused(tmp_path, target, options, words):
    folder = sharded_files.save(tmp_path / "ckpt", {"model": WEIGHTS})
    (tmp_path / "there.safetensors").write_text("something")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(SsmspecError, match=words):
        write_changed(open_checkpoint(folder), tmp_path / target, {}, **options)


def test_replacing_needs_a_word_and_changed_pieces_are_noticed(tmp_path):
    folder = sharded_files.save(tmp_path / "ckpt", {"model": WEIGHTS})
    (tmp_path / "x.safetensors").write_text("something")
    checkpoint = open_checkpoint(folder)
    write_changed(checkpoint, tmp_path / "x.safetensors", {}, replace=True)
    assert_holds(tmp_path / "x.safetensors", WEIGHTS)
    with (folder / "__0_0.distcp").open("ab") as file:
        file.write(b"more")
    with pytest.raises(CheckpointError, match="was changed"):
        write_changed(checkpoint, tmp_path / "y.safetensors", {})
    assert not (tmp_path / "y.safetensors").exists()


# --- damage ---


def replaced(index: int, **fields: object):
    def change(metadata) -> None:
        key = list(metadata.storage_data)[index]
        metadata.storage_data[key] = dataclasses.replace(metadata.storage_data[key], **fields)

    return change


def entry_of(metadata, name: str = "model.layers.0.mixer.A_log"):
    return metadata.state_dict_metadata[name]


DAMAGE = {
    "no places": (lambda m: m.storage_data.clear(), "no file is named for the piece of tensor"),
    "places that are no dict": (lambda m: setattr(m, "storage_data", None), "it lacks state_dict_metadata or storage_data"),
    "no entries": (lambda m: m.state_dict_metadata.clear(), "without tensors"),
    "a file elsewhere": (replaced(0, relative_path="../x"), "file '../x' is not a plain name in the folder; not opened"),
    "an absolute file": (replaced(0, relative_path="/etc/passwd"), "not a plain name"),
    "a file that is not there": (replaced(0, relative_path="__9_0.distcp"), "file '__9_0.distcp' is missing"),
    "an offset beyond the end": (replaced(0, offset=10**9), "truncated: it should have"),
    "a negative offset": (replaced(0, offset=-1), "a place of a tensor without name, file, offset and length"),
    "an offset of text": (replaced(0, offset="0"), "a place of a tensor without name, file, offset and length"),
    "compressed": (replaced(0, transform_descriptors=["stream.zstd"]), "is stored through ['stream.zstd']"),
    "a size that pieces do not fill": (
        lambda m: setattr(entry_of(m), "size", torch.Size((9, 4))),
        "hold 32 values, its size (9, 4) needs 36",
    ),
    "a piece outside": (lambda m: setattr(entry_of(m).chunks[0], "offsets", torch.Size((1, 0))), "outside of (8, 4)"),
    "a piece twice": (lambda m: entry_of(m).chunks.append(entry_of(m).chunks[0]), None),
    "sizes of text": (lambda m: setattr(entry_of(m), "size", "ab"), "has no size of non-negative integers"),
    "a negative size": (lambda m: setattr(entry_of(m), "size", (-8, -4)), "has no size of non-negative integers"),
    "a huge size": (lambda m: setattr(entry_of(m), "size", (2**61, 2**61)), "needs"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_metadata_is_one_clear_line(tmp_path, refusal, case):
    change, words = DAMAGE[case]
    folder = sharded_files.save(tmp_path / "ckpt", {"model": WEIGHTS})
    sharded_files.change_metadata(folder, change)
    if words is None:
        assert_holds(folder, WEIGHTS)
    else:
        assert words in refusal(folder)


@pytest.mark.parametrize(("index", "fields"), [(0, {"offset": 100}), (0, {"length": 50}), (1, {"offset": 0})])
def test_places_that_are_wrong_are_seen_when_the_tensor_is_read(tmp_path, index, fields):
    folder = sharded_files.save(tmp_path / "ckpt", {"model": WEIGHTS})
    sharded_files.change_metadata(folder, replaced(index, **fields))
    checkpoint = open_checkpoint(folder)
    lines = []
    for tensor in checkpoint.tensors.values():
        try:
            tensor.read()
        except CheckpointError as error:
            lines.append(str(error))
    assert len(lines) == 1
    assert lines[0].isprintable()


def test_overlapping_pieces_are_seen_when_the_tensor_is_read(tmp_path):
    whole = {"a": torch.arange(8.0)}
    folder = sharded_files.save_pieces(tmp_path / "ckpt", whole, {"a": [((0,), (4,)), ((2,), (4,))]})
    with pytest.raises(CheckpointError, match="its pieces overlap"):
        open_checkpoint(folder).tensors["a"].read()
    assert open_checkpoint(folder).tensors["a"].read(slice(0, 2)).tolist() == [0, 1]


def test_metadata_cut_anywhere_is_one_clear_line(tmp_path, refusal):
    folder = sharded_files.save(tmp_path / "ckpt", {"model": WEIGHTS})
    data = (folder / ".metadata").read_bytes()
    for length in range(0, len(data), max(1, len(data) // 60)):
        (folder / ".metadata").write_bytes(data[:length])
        assert "ckpt" in refusal(folder)
    (folder / ".metadata").write_bytes(pickle.dumps({"a": torch.ones(2)}))
    assert "it lacks state_dict_metadata or storage_data" in refusal(folder)


def test_nothing_in_metadata_is_run(tmp_path, refusal):
    class Canary:
        def __reduce__(self):
            return (shutil.rmtree, (str(tmp_path / "victim"),))

    (tmp_path / "victim").mkdir()
    folder = sharded_files.save(tmp_path / "ckpt", {"model": WEIGHTS})
    content = pickle.loads((folder / ".metadata").read_bytes())
    content.planner_data = Canary()
    (folder / ".metadata").write_bytes(pickle.dumps(content))
    assert len(open_checkpoint(folder).tensors) == len(WEIGHTS)
    assert (tmp_path / "victim").exists()
