"""Changed members in zip files of every layout: checksums, sizes and offsets stay right wherever they stand."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ssmspec.checkpoint import open_checkpoint
from ssmspec.checkpoint.write.write_changed import write_changed
from ssmspec.errors import CheckpointError

ARRAYS = {name: np.arange(start, start + 400.0) for start, name in enumerate("abcd")}
NEW = {"b": np.random.default_rng(1).normal(size=400), "c": np.zeros(400)}  # one deflates worse than before, one better


class Stream(io.RawIOBase):
    """A file that cannot seek, as a pipe: zipfile then writes data descriptors behind the members."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.data += bytes(data)
        return len(data)


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def archive(methods: str, *, stream: bool = False, zip64: bool = False) -> bytes:
    """An npz; one letter per member: s stored, d deflated."""
    buffer = Stream() if stream else io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.comment = b"a comment of the archive"
        for (name, values), method in zip(ARRAYS.items(), methods, strict=True):
            info = zipfile.ZipInfo(f"{name}.npy", (2001, 2, 3, 4, 5, 6))
            info.comment, info.extra = b"of a member", b"\xfe\xca\x02\x00xy"
            info.compress_type = zipfile.ZIP_DEFLATED if method == "d" else zipfile.ZIP_STORED
            with file.open(info, "w", force_zip64=zip64) as member:
                member.write(npy(values))
    return bytes(buffer.data) if isinstance(buffer, Stream) else buffer.getvalue()


@pytest.fixture(params=["ssss", "dddd", "sdsd", "dsds"])
def methods(request) -> str:
    return request.param


def assert_changed(path: Path, new: dict[str, np.ndarray]) -> None:
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        assert file.comment == b"a comment of the archive"
    with np.load(path) as found:
        for name, values in (ARRAYS | new).items():
            assert np.array_equal(found[name], values)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("zip64", [False, True])
def test_every_layout_is_whole_after_a_change(tmp_path, methods, stream, zip64):
    (tmp_path / "x.npz").write_bytes(archive(methods, stream=stream, zip64=zip64))
    for new in ({"b": NEW["b"]}, NEW):
        write_changed(open_checkpoint(tmp_path / "x.npz"), tmp_path / "y.npz", new, replace=True)
        assert_changed(tmp_path / "y.npz", new)
        assert_streamable(tmp_path / "y.npz")


def assert_streamable(path: Path) -> None:
    """Check that headers and descriptors, which a sequential reader uses, agree with the directory."""
    data = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        infos = file.infolist()
    for info, following in zip(infos, [*infos[1:], None], strict=True):
        header = data[info.header_offset :]
        start = 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        tail = header[start + info.compress_size :]
        crc = info.CRC.to_bytes(4, "little")
        size = header[18:22] if header[18:22] != b"\xff" * 4 else header[start - 8 : start]  # zipfile puts the ZIP64 field last
        assert int.from_bytes(size, "little") == info.compress_size or (info.flag_bits & 8 and not any(size))
        assert header[14:18] == crc or (info.flag_bits & 8 and tail[4:8] == crc)
        if info.flag_bits & 8:
            wide = 8 if tail[8:].startswith(info.compress_size.to_bytes(8, "little") + info.file_size.to_bytes(8, "little")) else 4
            assert tail[8 : 8 + 2 * wide] == info.compress_size.to_bytes(wide, "little") + info.file_size.to_bytes(wide, "little")
            tail = tail[8 + 2 * wide :]
        assert tail[:4] == (b"PK\x01\x02" if following is None else b"PK\x03\x04")


@pytest.mark.parametrize("stream", [False, True])
def test_zip64_directories_are_kept(tmp_path, methods, stream, monkeypatch):
    """zipfile writes the long forms of sizes, offsets and end records beyond ZIP64_LIMIT."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    (tmp_path / "x.npz").write_bytes(archive(methods, stream=stream, zip64=True))
    monkeypatch.undo()
    assert b"PK\x06\x06" in (tmp_path / "x.npz").read_bytes()
    write_changed(open_checkpoint(tmp_path / "x.npz"), tmp_path / "y.npz", NEW)
    assert_changed(tmp_path / "y.npz", NEW)
    data = (tmp_path / "y.npz").read_bytes()
    locator = data.index(b"PK\x06\x07")
    assert int.from_bytes(data[locator + 8 : locator + 16], "little") == data.index(b"PK\x06\x06")


def test_unchanged_members_are_not_compressed_again(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, values in ARRAYS.items():
            file.writestr(f"{name}.npy", npy(values))
    (tmp_path / "x.npz").write_bytes(buffer.getvalue())
    write_changed(open_checkpoint(tmp_path / "x.npz"), tmp_path / "y.npz", {"b": NEW["b"]})
    with zipfile.ZipFile(tmp_path / "x.npz") as old, zipfile.ZipFile(tmp_path / "y.npz") as new:
        pairs = list(zip(old.infolist(), new.infolist(), strict=True))
    assert [one.compress_size == other.compress_size for one, other in pairs] == [True, False, True, True]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_members_longer_than_one_chunk_are_whole(tmp_path, save):
    values = np.random.default_rng(2).normal(size=(700, 1000))
    save(tmp_path / "x.npz", a=values, b=np.ones(3))
    new = values * 2
    write_changed(open_checkpoint(tmp_path / "x.npz"), tmp_path / "y.npz", {"a": new})
    with np.load(tmp_path / "y.npz") as found:
        assert np.array_equal(found["a"], new)
        assert np.array_equal(found["b"], np.ones(3))
    assert zipfile.ZipFile(tmp_path / "y.npz").testzip() is None


def damage(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def test_a_damaged_compressed_member_is_refused(tmp_path):
    """Its tensor cannot be read, but replacing all of its values does not read it."""
    np.savez_compressed(tmp_path / "x.npz", a=np.random.default_rng(0).normal(size=100_000))
    data = (tmp_path / "x.npz").read_bytes()
    for place in (len(data) // 2, len(data) - 150):
        (tmp_path / "x.npz").write_bytes(damage(data, place))
        checkpoint = open_checkpoint(tmp_path / "x.npz")
        with pytest.raises(CheckpointError, match=r"x\.npz: .*damaged"):
            write_changed(checkpoint, tmp_path / "y.npz", {"a": np.zeros(100_000)})
    assert not (tmp_path / "y.npz").exists()


def test_a_missing_data_descriptor_is_refused(tmp_path):
    data = archive("ssss", stream=True)
    (tmp_path / "x.npz").write_bytes(data.replace(b"PK\x07\x08", b"PK\x07\x09"))
    with pytest.raises(CheckpointError, match=r"no data descriptor follows zip member 'b\.npy'"):
        write_changed(open_checkpoint(tmp_path / "x.npz"), tmp_path / "y.npz", NEW)


def test_descriptors_without_signature_are_found(tmp_path):
    """The signature is optional; without it, four bytes less."""
    data = archive("s" * 4, stream=True)
    start = data.index(b"PK\x07\x08")
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert start == file.infolist()[1].header_offset - 16
    # the padding that takes the place of the signature stands in front of the next header, where readers do not look
    (tmp_path / "x.npz").write_bytes(data[:start] + data[start + 4 : start + 16] + bytes(4) + data[start + 16 :])
    write_changed(open_checkpoint(tmp_path / "x.npz"), tmp_path / "y.npz", {"a": NEW["b"]})
    assert_changed(tmp_path / "y.npz", {"a": NEW["b"]})
    with zipfile.ZipFile(tmp_path / "y.npz") as file:
        assert (tmp_path / "y.npz").read_bytes()[start : start + 4] == file.infolist()[0].CRC.to_bytes(4, "little")
