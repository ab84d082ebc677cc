"""What was looked at to read a checkpoint, and whether it still looks the same."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from program import checkpoint, s4d_tensors

from ssmspec.checkpoint.watched import seen_again, watching
from ssmspec.commands.chosen_layers import choose_layers
from ssmspec.families import ReadOptions


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A checkpoint most of which is no SSM layer."""
    return checkpoint(tmp_path, {"embedding": np.zeros((1000, 100), np.float32), **s4d_tensors()}, "a.safetensors")


def looked_at(path: Path):
    with watching(path) as watch:
        choose_layers(watch.path, (), None, ReadOptions())
    return watch.looked


def test_the_bytes_of_other_tensors_are_not_among_them(model: Path) -> None:
    [ranges] = looked_at(model)["read"].values()
    assert 0 < sum(stop - start for start, stop in ranges) < 60_000  # of 400 kB; the reader takes a few blocks of its own size
    assert all(a[1] < b[0] for a, b in pairwise(ranges))


def test_every_byte_that_was_read_counts_and_no_other(model: Path) -> None:
    looked = looked_at(model)
    before = seen_again(model, looked)
    assert seen_again(model, looked) == before
    content = model.read_bytes()
    [ranges] = looked["read"].values()
    inside = {place for start, stop in ranges for place in (start, (start + stop) // 2, stop - 1)}
    outside = next(place for place in range(len(content)) if not any(start <= place < stop for start, stop in ranges))
    for place in (*inside, outside):
        changed = bytearray(content)
        changed[place] ^= 1
        model.write_bytes(changed)
        assert (seen_again(model, looked) == before) == (place == outside)
    model.write_bytes(content + b"0")
    assert seen_again(model, looked) != before


def test_a_file_beside_it_counts_if_it_was_looked_for(model: Path) -> None:
    looked = looked_at(model)
    before = seen_again(model, looked)
    (model.parent / "unrelated").touch()
    assert seen_again(model, looked) == before
    (model.parent / f"{model.name}.ssmspec.json").write_text("{}")  # could hold a beta of the layers
    assert seen_again(model, looked) != before


def test_files_of_a_folder_and_its_names_count(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    checkpoint(folder, s4d_tensors())
    (folder / "config.json").write_text('{"a": 1}')
    looked = looked_at(folder)
    before = seen_again(folder, looked)
    (folder / "config.json").write_text('{"a": 2}')
    assert seen_again(folder, looked) != before
    (folder / "config.json").write_text('{"a": 1}')
    assert seen_again(folder, looked) == before
    (folder / "pytorch_model.bin").touch()
    assert seen_again(folder, looked) != before


def test_a_copy_elsewhere_looks_the_same_and_a_missing_file_is_an_error(model: Path, tmp_path: Path) -> None:
    looked = looked_at(model)
    before = seen_again(model, looked)
    other = tmp_path / "elsewhere" / "copy.safetensors"
    other.parent.mkdir()
    other.write_bytes(model.read_bytes())
    assert seen_again(other, looked_at(other)) == before
    model.unlink()
    with pytest.raises(FileNotFoundError):
        seen_again(model, looked)
