"""write_changed on folders: shards, their index, and everything beside them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ssmspec.checkpoint import open_checkpoint
from ssmspec.checkpoint.write.write_changed import write_changed
from ssmspec.errors import CheckpointError, SsmspecError
from ssmspec.files import replacing

SHARDS = [{"layers.0.D": torch.ones(2), "layers.1.D": torch.zeros(2)}, {"head": torch.ones(3)}, {"tail": torch.ones(4)}]
NEW = {"head": np.array([1.0, 2, 3])}
SIZE = sum(tensor.nbytes for shard in SHARDS for tensor in shard.values())


def shard_name(number: int, suffix: str = "safetensors") -> str:
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    return f"{stem}-{number + 1:05}-of-00003.{suffix}"


def write_model(folder: Path, suffix: str = "safetensors") -> Path:
    """What transformers saves, and some files beside it."""
    (folder / "original" / "deep").mkdir(parents=True)
    weight_map = {}
    for number, tensors in enumerate(SHARDS):
        name = shard_name(number, suffix)
        (save_file if suffix == "safetensors" else torch.save)(tensors, folder / name)
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": SIZE}, "weight_map": weight_map}
    (folder / f"{'model' if suffix == 'safetensors' else 'pytorch_model'}.{suffix}.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text('{"model_type": "mamba"}')
    (folder / "original" / "deep" / "params.json").write_text("{}")
    torch.save({"state": {0: torch.ones(2)}}, folder / "optimizer.pt")
    (folder / "run.sh").write_text("echo")
    (folder / "run.sh").chmod(0o750)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def model(tmp_path) -> Path:
    return write_model(tmp_path / "model")


def test_files_that_keep_the_old_weights_are_noted(tmp_path, model):
    torch.save(SHARDS[0], model / "pytorch_model.bin")
    (note,) = write_changed(open_checkpoint(model), tmp_path / "out", NEW)
    assert note == "'pytorch_model.bin' in the folder was not changed; if it holds the same weights, it still has the old values"


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_only_the_shard_with_the_change_differs(tmp_path, suffix, arrays):
    model = write_model(tmp_path / "model", suffix)
    before = contents(model)
    assert write_changed(open_checkpoint(model), tmp_path / "out", NEW) == ()
    after = contents(tmp_path / "out")
    assert contents(model) == before
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == {shard_name(1, suffix)}
    assert arrays(tmp_path / "out")["head"].tolist() == [1, 2, 3]
    assert (tmp_path / "out" / "run.sh").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "out").stat().st_mode == model.stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def test_a_folder_with_one_file_of_weights_is_copied(tmp_path, arrays):
    (tmp_path / "model").mkdir()
    save_file({"a": torch.ones(2)}, tmp_path / "model" / "model.safetensors")
    (tmp_path / "model" / "config.json").write_text("{}")
    write_changed(open_checkpoint(tmp_path / "model"), tmp_path / "out", {"a": np.zeros(2)}, metadata={"by": "me"})
    assert arrays(tmp_path / "out")["a"].tolist() == [0, 0]
    assert open_checkpoint(tmp_path / "out").config == {"__metadata__": {"by": "me"}}
    assert sorted(contents(tmp_path / "out")) == ["config.json", "model.safetensors"]


def test_added_tensors_go_to_the_first_changed_shard_and_the_index(tmp_path, model):
    added = {"beta": np.ones(5, "f4"), "gamma": np.ones((2, 2))}
    write_changed(open_checkpoint(model), tmp_path / "out", {**NEW, "tail": np.zeros(4)}, added=added, metadata={"by": "me"})
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["weight_map"]["beta"] == index["weight_map"]["gamma"] == shard_name(1)
    assert index["metadata"]["total_size"] == SIZE + 20 + 32
    loaded = load_file(tmp_path / "out" / shard_name(1))
    assert loaded.keys() == {"head", "beta", "gamma"}
    assert loaded["head"].tolist() == [1, 2, 3]
    assert open_checkpoint(tmp_path / "out").tensors["beta"].read().tolist() == [1] * 5
    old, new = contents(model), contents(tmp_path / "out")
    shards = {shard_name(number) for number in range(3)}  # the first one has the metadata
    assert {name for name in old if old[name] != new[name]} == {*shards, "model.safetensors.index.json"}


def test_metadata_of_shards_is_that_of_the_first_whatever_changes(tmp_path, model):
    write_changed(open_checkpoint(model), tmp_path / "one", {"tail": np.zeros(4)}, metadata={"by": "me"})
    assert open_checkpoint(tmp_path / "one").config["__metadata__"]["by"] == "me"
    write_changed(open_checkpoint(tmp_path / "one"), tmp_path / "two", NEW, metadata={"by": "you"})
    with safe_open(tmp_path / "two" / shard_name(0), "np") as file:
        assert file.metadata()["by"] == "you"
    assert open_checkpoint(tmp_path / "two").config["__metadata__"]["by"] == "you"


def test_added_tensors_without_changes_go_to_the_first_shard(tmp_path, model):
    write_changed(open_checkpoint(model), tmp_path / "out", {}, added={"beta": np.ones(5)})
    assert "beta" in load_file(tmp_path / "out" / shard_name(0))
    assert open_checkpoint(tmp_path / "out").tensors["beta"].read().tolist() == [1] * 5


@pytest.mark.parametrize("changes", [NEW, {**NEW, "tail": np.zeros(4)}])
def test_in_place_changes_the_folder_and_keeps_what_is_beside_the_shards(model, changes, arrays):
    before = contents(model)
    inode = (model / "optimizer.pt").stat().st_ino
    write_changed(open_checkpoint(model), model, changes, in_place=True)
    after = contents(model)
    assert len({name for name in before if before[name] != after[name]}) == len(changes)
    assert arrays(model)["head"].tolist() == [1, 2, 3]
    assert [path.name for path in model.parent.iterdir()] == ["model"]
    assert (model / "optimizer.pt").stat().st_ino == inode  # linked, not copied
    assert (model / "optimizer.pt").stat().st_nlink == 1


def test_an_index_stands_for_its_folder(tmp_path, model, arrays):
    index = model / "model.safetensors.index.json"
    write_changed(open_checkpoint(index), tmp_path / "out", NEW)
    assert arrays(tmp_path / "out")["head"].tolist() == [1, 2, 3]
    write_changed(open_checkpoint(index), index, {**NEW, "tail": np.zeros(4)}, in_place=True)
    assert arrays(index)["tail"].tolist() == [0] * 4


@pytest.mark.parametrize("change", ["none", "one shard", "two shards"])
def test_a_cache_of_links_is_copied_as_files_and_its_blobs_stay(tmp_path, change, arrays):
    """The layout of the cache of huggingface_hub: a snapshot is a folder of links to blobs, which other snapshots share."""
    blobs, snapshot = write_model(tmp_path / "blobs"), tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", path.name))
    before = contents(blobs)
    changes = {"none": {}, "one shard": NEW, "two shards": {**NEW, "tail": np.zeros(4)}}[change]
    write_changed(open_checkpoint(snapshot), tmp_path / "out", changes)
    assert not (tmp_path / "out" / "config.json").is_symlink()
    assert (tmp_path / "out" / "original" / "deep" / "params.json").read_text() == "{}"
    assert arrays(tmp_path / "out")["head"].tolist() == changes.get("head", np.ones(3)).tolist()
    write_changed(open_checkpoint(snapshot), snapshot, changes, in_place=True)
    assert (snapshot / "config.json").is_symlink()
    assert (snapshot / shard_name(1)).is_symlink() == (change == "none")
    assert arrays(snapshot)["head"].tolist() == changes.get("head", np.ones(3)).tolist()
    assert contents(blobs) == before


def test_another_folder_is_replaced_only_on_demand_and_only_if_nothing_else_is_lost(tmp_path, model, arrays):
    other = write_model(tmp_path / "other")
    checkpoint = open_checkpoint(model)
    with pytest.raises(SsmspecError, match="it exists; name another, or use --force"):
        write_changed(checkpoint, other, NEW)
    (other / "notes.txt").write_text("years of work")
    with pytest.raises(SsmspecError, match=r"holds notes\.txt, which would be lost"):
        write_changed(checkpoint, other, NEW, replace=True)
    assert (other / "notes.txt").read_text() == "years of work"
    (other / "notes.txt").unlink()
    write_changed(checkpoint, other, NEW, replace=True)
    assert arrays(other)["head"].tolist() == [1, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "other"]


def test_an_empty_folder_is_filled(tmp_path, model, arrays):
    (tmp_path / "out").mkdir()
    write_changed(open_checkpoint(model), tmp_path / "out", NEW)
    assert arrays(tmp_path / "out")["head"].tolist() == [1, 2, 3]


def test_a_link_to_a_folder_is_followed(tmp_path, model, arrays):
    (tmp_path / "link").symlink_to(write_model(tmp_path / "real"))
    write_changed(open_checkpoint(model), tmp_path / "link", NEW, replace=True)
    assert (tmp_path / "link").is_symlink()
    assert arrays(tmp_path / "real")["head"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("model", "the checkpoint itself; name another, or use --in-place"),
        ("model/sub", "inside the checkpoint's own folder"),
        (".", "the checkpoint's own folder is inside it"),
        ("file", "a file; name a folder, because the checkpoint is one"),
        ("new.safetensors", "a folder and must be written as one"),
        ("missing/out", "No such file or directory"),
        ("model/model.safetensors.index.json", "inside the checkpoint's own folder"),
    ],
)
def test_targets_that_cannot_be_meant_are_refused(tmp_path, model, target, words):
    (tmp_path / "file").write_text("x")
    before = contents(tmp_path)
    with pytest.raises(SsmspecError, match=words):
        write_changed(open_checkpoint(model), tmp_path / target, NEW, replace=True)
    assert contents(tmp_path) == before


def test_what_is_neither_file_nor_folder_is_refused(tmp_path, model):
    os.mkfifo(model / "pipe")
    with pytest.raises(CheckpointError, match="neither a file nor a folder"):
        write_changed(open_checkpoint(model), tmp_path / "out", NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", [shard_name(0), shard_name(1), "model.safetensors.index.json"])
def test_a_folder_that_changed_since_it_was_opened_is_refused(tmp_path, model, name):
    checkpoint = open_checkpoint(model)
    os.utime(model / name, ns=(1, 1))
    with pytest.raises(CheckpointError, match="was changed while ssmspec was working on it"):
        write_changed(checkpoint, tmp_path / "out", NEW)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("new", ["checkpoint-7", "config.json"])
def test_a_folder_that_changes_while_it_is_copied_is_refused(tmp_path, model, new, monkeypatch):
    """Another program saves into it just before the swap: nothing of that is lost."""
    from ssmspec.checkpoint.write import whole_folder as module

    fill = module._fill

    def fill_and_save(source, *arguments, **options):
        fill(source, *arguments, **options)
        (model / new).write_text("{'saved': 'meanwhile'}")

    monkeypatch.setattr(module, "_fill", fill_and_save)
    with pytest.raises(CheckpointError, match="was changed while ssmspec was working on it"):
        write_changed(open_checkpoint(model), model, {**NEW, "tail": np.zeros(4)}, in_place=True)
    assert (model / new).read_text() == "{'saved': 'meanwhile'}"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_without_exchange_two_renamings_do_it(tmp_path, model, monkeypatch, arrays):
    monkeypatch.setattr(replacing, "_rename_with", lambda *arguments: False)
    two = {**NEW, "tail": np.zeros(4)}
    write_changed(open_checkpoint(model), model, two, in_place=True)
    write_changed(open_checkpoint(model), tmp_path / "out", two)
    assert arrays(model)["tail"].tolist() == arrays(tmp_path / "out")["tail"].tolist() == [0] * 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def test_a_second_renaming_that_fails_puts_the_old_folder_back(tmp_path, model, monkeypatch):
    before, rename = contents(model), Path.rename
    monkeypatch.setattr(replacing, "_rename_with", lambda *arguments: False)

    def fail_once(self, target):
        if self.suffix == ".partial":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(SsmspecError, match=r"cannot write .*model: Input/output error"):
        write_changed(open_checkpoint(model), model, {**NEW, "tail": np.zeros(4)}, in_place=True)
    assert contents(model) == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
