"""Tiny files in the layouts in which the data sets are published."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssmspec.errors import SsmspecError
from ssmspec.training.datasets.characters import END, UNKNOWN, Vocabulary, pad, read_pairs, read_reviews
from ssmspec.training.datasets.cifar import read_cifar
from ssmspec.training.datasets.pathfinder import read_gray, read_pathfinder

RECORDS = 4


def batch(rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    return rng.integers(0, 256, (RECORDS, 3072), dtype=np.uint8), rng.integers(0, 10, RECORDS).tolist()


def text(value: str) -> bytes:
    return b"U" + bytes([len(value)]) + value.encode()  # SHORT_BINSTRING


def old_pickle(data: np.ndarray, labels: list[int]) -> bytes:
    """The opcodes that Python 2 with protocol 2 wrote for {'labels': [...], 'data': uint8 array}."""
    array = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\x00\x85" + text("b") + b"\x87R"
    kind = b"cnumpy\ndtype\n" + text("u1") + b"K\x00K\x01\x87R" + b"(K\x03" + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    content = b"T" + struct.pack("<i", data.nbytes) + data.tobytes()  # BINSTRING
    state = b"(K\x01" + b"K" + bytes([len(data)]) + b"M\x00\x0c\x86" + kind + b"\x89" + content + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text("labels") + numbers + text("data") + array + state + b"u."


@pytest.fixture
def cifar(tmp_path: Path, rng: np.random.Generator) -> dict[str, tuple[np.ndarray, list[int]]]:
    """Both layouts of the same six batches."""
    batches = {name: batch(rng) for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")}
    for folder in ("py/cifar-10-batches-py", "bin/cifar-10-batches-bin"):
        (tmp_path / folder).mkdir(parents=True)
    for name, (data, labels) in batches.items():
        (tmp_path / "py/cifar-10-batches-py" / name).write_bytes(old_pickle(data, labels))
        records = np.concatenate([np.array(labels, np.uint8)[:, None], data], axis=1)
        (tmp_path / "bin/cifar-10-batches-bin" / f"{name}.bin").write_bytes(records.tobytes())
    return batches


@pytest.mark.parametrize("folder", ["py", "bin", "py/cifar-10-batches-py", "bin/cifar-10-batches-bin"])
def test_both_layouts_of_cifar_give_the_gray_pictures_of_pillow(cifar, folder: str, tmp_path: Path) -> None:
    training, test = read_cifar(str(tmp_path / folder))
    names = [f"data_batch_{i}" for i in range(1, 6)]
    for found, wanted in ((training, names), (test, ["test_batch"])):
        data = np.concatenate([cifar[name][0] for name in wanted])
        gray = [np.asarray(Image.fromarray(row.reshape(3, 32, 32).transpose(1, 2, 0)).convert("L")) for row in data]
        assert np.array_equal(found.gray, gray)
        assert found.classes.tolist() == [label for name in wanted for label in cifar[name][1]]


def test_a_pickle_of_cifar_runs_nothing(cifar, tmp_path: Path) -> None:
    target = tmp_path / "executed"
    hostile = b"\x80\x02cos\nsystem\n" + text(f"touch {target}") + b"\x85R."
    (tmp_path / "py/cifar-10-batches-py/data_batch_3").write_bytes(hostile)
    with pytest.raises(SsmspecError, match="data_batch_3 is not a batch of CIFAR-10"):
        read_cifar(str(tmp_path / "py"))
    assert not target.exists()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _wild(path: Path) -> None:
    path.write_bytes(bytes([77]) + path.read_bytes()[1:])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut, _wild, _empty])
@pytest.mark.parametrize("name", ["py/cifar-10-batches-py/data_batch_2", "bin/cifar-10-batches-bin/data_batch_2.bin"])
def test_damaged_batches_are_one_line(cifar, damage: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    damage(tmp_path / name)
    with pytest.raises(SsmspecError, match=r"data_batch_2.*fetch it again"):
        read_cifar(str(tmp_path / name.split("/")[0]))


def test_reviews_are_read_from_their_four_folders(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for kind in ("neg", "pos"):
            (tmp_path / "aclImdb" / part / kind).mkdir(parents=True)
            (tmp_path / "aclImdb" / part / kind / "0_3.txt").write_text(f"{part} {kind} é<br />", encoding="utf-8")
    training, test = read_reviews(str(tmp_path))
    assert training == [("train neg é<br />", 0), ("train pos é<br />", 1)]
    assert test == [("test neg é<br />", 0), ("test pos é<br />", 1)]


def test_pairs_are_read_from_their_three_tables(tmp_path: Path) -> None:
    for part in ("train", "eval", "test"):
        (tmp_path / f"new_aan_pairs.{part}.tsv").write_text(f"1.0\tA1\tB2\tfirst {part}\tsecond\n0.0\tA1\tB3\tx\ty\n")
    parts = read_pairs(str(tmp_path))
    assert [part[0] for part in parts] == [(f"first {name}", "second", 1) for name in ("train", "eval", "test")]
    assert parts[0][1] == ("x", "y", 0)
    (tmp_path / "new_aan_pairs.eval.tsv").write_text("1.0\tA1\tB2\tonly\n")
    with pytest.raises(SsmspecError, match=r"new_aan_pairs.eval.tsv, line 1: expected five cells"):
        read_pairs(str(tmp_path))


def test_pathfinder_is_read_from_its_lists(tmp_path: Path, rng: np.random.Generator) -> None:
    inside = tmp_path / "pathfinder32/curv_contour_length_14"
    (inside / "metadata").mkdir(parents=True)
    (inside / "imgs/0").mkdir(parents=True)
    pictures = rng.integers(0, 256, (3, 32, 32), dtype=np.uint8)
    lines = [f"imgs/0 sample_{i}.png {i} {i % 2} 1 2 3" for i in range(3)]
    (inside / "metadata/10.npy").write_text(f"{lines[2]}\n")
    (inside / "metadata/2.npy").write_text("\n".join(lines[:2]) + "\n")
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(inside / f"imgs/0/sample_{number}.png")
    paths, labels = read_pathfinder(str(tmp_path), 32)
    assert labels.tolist() == [0, 1, 0]
    assert np.array_equal(read_gray(paths, 32), pictures)
    with pytest.raises(SsmspecError, match="32 x 32 pixels; expected 128 x 128"):
        read_gray(paths, 128)
    paths[1].write_bytes(b"")
    with pytest.raises(SsmspecError, match=r"sample_1.png cannot be read as a picture"):
        read_gray(paths, 32)


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (read_cifar, "cifar-10-batches-py/data_batch_1"),
        (read_reviews, "aclImdb/train/neg"),
        (read_pairs, "new_aan_pairs.train.tsv"),
        (lambda folder: read_pathfinder(folder, 128), "pathfinder128/curv_contour_length_14/metadata"),
    ],
)
def test_absent_files_are_named_with_the_paths_that_are_expected(read, expected: str, tmp_path: Path) -> None:
    with pytest.raises(SsmspecError, match=f"expected it to contain.*{expected}.*--data"):
        read(str(tmp_path))


def test_texts_become_numbers_with_an_end() -> None:
    vocabulary = Vocabulary(["aab", "abc", "d"], fewest=2)
    assert vocabulary.numbers == {"a": 3, "b": 4}
    assert len(vocabulary) == 5
    assert vocabulary.encode("abz", 10).tolist() == [3, 4, UNKNOWN, END]
    assert vocabulary.encode("ababab", 4).tolist() == [3, 4, 3, END]
    table, lengths = pad([vocabulary.encode("a", 9), vocabulary.encode("abab", 9)])
    assert table.tolist() == [[3, END, 0, 0, 0], [3, 4, 3, 4, END]]
    assert lengths.tolist() == [2, 5]
