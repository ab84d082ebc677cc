import gzip
import json
import os
import socket
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ssmspec.checkpoint import open_checkpoint

EQUINOX = b'{"n": 4}\n'


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("x.pt", b"", "empty file"),
        ("x.txt", b"hello world\nmore", "a text file ('hello world')"),
        ("x.pt", b"<!DOCTYPE html><html>", "failed download"),
        ("x.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("x.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        ("x.gguf", b"GGUF\x03" + bytes(100), "GGUF"),
        ("x.onnx", b"\x08\x07\x12\x07pytorch", "ONNX"),
        ("x.gz", gzip.compress(b"data", mtime=0), "unpack it first"),
        ("x.bin", b"\x00\x01\x02\x03" * 10, "an unknown container (starts with 00 01 02 03"),
        ("x.json", b'{"a": 1}', "JSON text"),
        ("x.json", b'{"a": ' + b"1" * 9000, "JSON text"),
        ("x.eqx", EQUINOX + b"\x93NUMPY\x01\x00", "Equinox"),
        ("x.model", b"null\n\x93NUMPY\x01\x00", "Equinox"),
        ("x.bin", b"\x80", "an unknown container"),
    ],
)
def test_what_is_no_checkpoint_is_one_clear_line(tmp_path, refusal, name, data, words):
    (tmp_path / name).write_bytes(data)
    assert words in refusal(tmp_path / name)


def test_tar_files_have_their_own_words(tmp_path, refusal):
    (tmp_path / "storages").write_bytes(b"1")
    with tarfile.open(tmp_path / "old.pt", "w") as archive:
        archive.add(tmp_path / "storages", "storages")
    assert "save it with torch.save" in refusal(tmp_path / "old.pt")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "storages", "weights/x.pt")
    assert "a tar archive" in refusal(tmp_path / "x.tar")


def test_a_missing_file_is_named(tmp_path, refusal):
    assert "no such file" in refusal(tmp_path / "absent.pt")


def test_a_file_that_may_not_be_read_is_named(tmp_path, refusal, monkeypatch):
    def deny(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "x.pt").write_bytes(b"x")
    monkeypatch.setattr(Path, "open", deny)
    assert "cannot be read: Permission denied" in refusal(tmp_path / "x.pt")


def test_pipes_and_sockets_are_not_waited_for(tmp_path, refusal):
    os.mkfifo(tmp_path / "pipe")
    assert "a socket, pipe or device" in refusal(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "s"))
        assert "a socket, pipe or device" in refusal(tmp_path / "s")


def test_a_name_with_a_newline_stays_one_line(tmp_path):
    with pytest.raises(Exception, match="no such file") as caught:
        open_checkpoint(tmp_path / "a\nb\x1b[31m")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("path", ["a\0b", "\udcff", "x" * 5000])
def test_impossible_paths_are_one_line(path):
    with pytest.raises(Exception, match=r".") as caught:
        open_checkpoint(path)
    assert type(caught.value).__name__ == "CheckpointError"
    assert str(caught.value).isprintable()


def test_the_extension_does_not_matter(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones(2))
    (tmp_path / "x.npz").rename(tmp_path / "x.safetensors")
    torch.save({"a": torch.ones(2)}, tmp_path / "x.npz")
    save_file({"a": torch.ones(2)}, tmp_path / "x")
    assert [open_checkpoint(tmp_path / name).container for name in ("x.safetensors", "x.npz", "x")] == ["npz", "torch zip", "safetensors"]


def shards(folder: Path, kind: str) -> Path:
    """Two shards with an index, as transformers writes them, and config.json."""
    folder.mkdir(exist_ok=True)
    stem, suffix, write = ("model", "safetensors", save_file) if kind == "safetensors" else ("pytorch_model", "bin", torch.save)
    content = [{"layers.10.D": torch.ones(2), "layers.2.D": torch.zeros(2)}, {"head": torch.ones(3)}]
    weight_map = {}
    for number, tensors in enumerate(content, 1):
        name = f"{stem}-0000{number}-of-00002.{suffix}"
        write(tensors, folder / name)
        weight_map |= dict.fromkeys(tensors, name)
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {"total_size": 28}, "weight_map": weight_map}))
    (folder / "config.json").write_text('{"model_type": "mamba", "state_size": 16}')
    return folder / f"{stem}.{suffix}.index.json"


@pytest.mark.parametrize(("kind", "container"), [("safetensors", "safetensors (sharded)"), ("bin", "torch zip (sharded)")])
@pytest.mark.parametrize("given", ["folder", "index"])
def test_sharded_folders_are_one_checkpoint(tmp_path, arrays, kind, container, given):
    index = shards(tmp_path / "model", kind)
    path = index if given == "index" else index.parent
    checkpoint = open_checkpoint(path)
    assert checkpoint.container == container
    assert list(checkpoint.tensors) == ["head", "layers.2.D", "layers.10.D"]
    assert checkpoint.config["state_size"] == 16
    assert checkpoint.size == sum(shard.stat().st_size for shard in index.parent.glob("*-of-*"))
    assert arrays(path)["head"].tolist() == [1, 1, 1]


def edit(index: Path, change) -> Path:
    data = json.loads(index.read_text())
    change(data["weight_map"])
    index.write_text(json.dumps(data))
    return index


FIRST = "model-00001-of-00002.safetensors"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda names: names.update(head="../model.safetensors"), "not a plain file name"),
        (lambda names: names.update(head="/etc/passwd"), "not a plain file name"),
        (lambda names: names.update(head="sub/x.safetensors"), "not a plain file name"),
        (lambda names: names.update(head=".."), "not a plain file name"),
        (lambda names: names.update(head="model.safetensors.index.json"), "an index itself"),
        (lambda names: names.update(head="model-00003.safetensors"), "'model-00003.safetensors' is missing"),
        (lambda names: names.update(extra=FIRST), "lacks 'extra'"),
        (lambda names: names.update(head=FIRST), f"'{FIRST}' lacks 'head'"),
        (lambda names: names.pop("layers.2.D"), "holds 'layers.2.D', which the index does not assign to it"),
        (lambda names: names.update(head=5), 'without a "weight_map"'),
        (lambda names: names.clear(), 'without a "weight_map"'),
    ],
)
def test_an_index_that_disagrees_with_its_shards_is_refused(tmp_path, refusal, change, words):
    assert words in refusal(edit(shards(tmp_path, "safetensors"), change))


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": ', '{"weight_map": []}', "[" * 100_000, "\ud800"])
def test_an_index_that_is_no_index_is_refused(tmp_path, refusal, text):
    index = shards(tmp_path, "safetensors")
    index.write_bytes(text.encode("utf-8", "surrogatepass"))
    refusal(index)


def test_folders_prefer_safetensors(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    assert open_checkpoint(tmp_path).container == "torch zip"
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path).container == "safetensors"
    shards(tmp_path, "bin")
    assert open_checkpoint(tmp_path).container == "safetensors"
    shards(tmp_path, "safetensors")
    assert open_checkpoint(tmp_path).container == "safetensors (sharded)"


def test_the_only_checkpoint_of_a_folder_is_opened(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "best.ckpt")
    assert open_checkpoint(tmp_path).notes[0] == "the folder's only checkpoint: best.ckpt"
    torch.save({"a": torch.ones(1)}, tmp_path / "training_args.bin")
    (tmp_path / "config.json").write_text("not json")
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.notes[0] == "the folder's only checkpoint: best.ckpt"
    assert checkpoint.notes[1].startswith("config.json ignored: ")
    assert checkpoint.config == {}
    assert checkpoint.path == tmp_path


def test_a_folder_without_or_with_several_checkpoints_is_refused(tmp_path, refusal):
    assert "a folder without weights: looked for model.safetensors.index.json" in refusal(tmp_path)
    (tmp_path / "b.pt").write_bytes(b"x")
    (tmp_path / "a.ckpt").write_bytes(b"x")
    assert "2 checkpoints (a.ckpt, b.pt); name one" in refusal(tmp_path)
