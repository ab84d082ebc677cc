"""Files of MNIST, intact and damaged."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssmspec.errors import SsmspecError
from ssmspec.training.datasets.idx import read_mnist, read_pictures


def idx(pictures: np.ndarray, magic: int = 0x803) -> bytes:
    return struct.pack(">4I", magic, *pictures.shape) + pictures.astype(np.uint8).tobytes()


def pictures(rng: np.random.Generator, count: int = 5) -> np.ndarray:
    return rng.integers(0, 256, (count, 4, 4), dtype=np.uint8)


@pytest.mark.parametrize("folder", ["", "MNIST/raw"])
@pytest.mark.parametrize("name", ["images-idx3-ubyte", "images-idx3-ubyte.gz"])
def test_both_parts_are_found_under_all_their_names(folder: str, name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    training, held_out = pictures(rng), pictures(rng, 3)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for part, content in (("train", training), ("t10k", held_out)):
        data = idx(content)
        (tmp_path / folder / f"{part}-{name}").write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    found = read_mnist(str(tmp_path))
    assert np.array_equal(found[0], training)
    assert np.array_equal(found[1], held_out)


def test_a_folder_without_the_files_is_told_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(SsmspecError, match="expected it to contain train-images-idx3-ubyte, t10k-images-idx3-ubyte") as caught:
        read_mnist(str(tmp_path))
    assert "\n" not in str(caught.value)


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "begins with nothing; expected 00 00 08 03"),
    "header cut off": (lambda data: data[:9], "begins with 00 00 08 03"),
    "labels": (lambda data: struct.pack(">2I", 0x801, 20) + bytes(20), "begins with 00 00 08 01; expected 00 00 08 03"),
    "cut off": (lambda data: data[:-7], "should have 80 bytes of pictures, but has only 73"),
    "too long": (lambda data: data + b"x", "should have 80 bytes of pictures, but has more"),
    "no pictures": (lambda data: struct.pack(">4I", 0x803, 0, 4, 4), "0 pictures of 4 x 4"),
    "not square": (lambda data: struct.pack(">4I", 0x803, 2, 2, 4) + bytes(16), "2 pictures of 2 x 4"),
    "absurd sizes": (lambda data: struct.pack(">4I", 0x803, *[2**32 - 1] * 3), "4294967295 pictures"),
}


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_line_that_says_what_is_wrong(kind: str, zipped: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    damage, words = DAMAGE[kind]
    path = tmp_path / f"train-images-idx3-ubyte{'.gz' if zipped else ''}"
    data = damage(idx(pictures(rng)))
    path.write_bytes(gzip.compress(data) if zipped else data)
    with pytest.raises(SsmspecError, match=words) as caught:
        read_pictures(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [3, 12, -4])
def test_a_gzip_file_that_is_cut_off_or_none_is_said_to_be_so(keep: int, tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    whole = gzip.compress(idx(pictures(rng)))
    path.write_bytes(whole[:keep])
    with pytest.raises(SsmspecError, match="fetch it again"):
        read_pictures(path)
    path.write_bytes(idx(pictures(rng)))
    with pytest.raises(SsmspecError, match="cannot be read"):
        read_pictures(path)
    middle = bytearray(whole)
    middle[len(middle) // 2] ^= 0xFF
    path.write_bytes(bytes(middle))
    with pytest.raises(SsmspecError, match="fetch it again"):
        read_pictures(path)
