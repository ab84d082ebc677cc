"""Change bytes of some members of a zip archive: stored members in place, deflated ones by deflating again; checksums and sizes follow.

All other bytes equal those of the source, in the same order: headers, padding, alignment (unless an earlier deflated member grew or
shrank), compressed data, comments. Source: PKWARE APPNOTE 6.3, 4.3.7 (local header), 4.3.9 (data descriptor), 4.3.12 (directory),
4.3.14-16 (end records), 4.5.3 (ZIP64 extra field).
"""

import struct
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import LOCAL_HEADER, problem, short
from ssmspec.checkpoint.write.patches import Patch
from ssmspec.checkpoint.write.splice import CHUNK, Splice

ENTRY = 46  # bytes of a directory entry before its name
FULL = 0xFFFFFFFF  # marks a size or offset that is stored in the ZIP64 extra field instead
HAS_DESCRIPTOR = 0x8
ENDING = 1 << 17  # largest number of bytes after the directory: end records and a comment of up to 65 535


@dataclass(frozen=True, slots=True)
class Member:
    """Where a member is in the source: its entry in the directory, its header, its bytes."""

    info: zipfile.ZipInfo
    entry: int
    data: int

    @property
    def stop(self) -> int:
        """The byte after its data, where a data descriptor may follow."""
        return self.data + self.info.compress_size


def write_zip(splice: Splice, size: int, patches: Sequence[Patch]) -> None:
    """Copies an archive of `size` bytes with patches applied.

    Raises:
        CheckpointError: its records contradict each other, or a number no longer fits in its field.
        OSError: for example, the disk is full.
    """
    try:
        _write_zip(splice, size, patches)
    except (zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise problem(splice.path, f"damaged zip file ({error}); fetch it again") from error


def _write_zip(splice: Splice, size: int, patches: Sequence[Patch]) -> None:
    members, end = _read_members(splice.path, splice.source)
    work = _assign(splice.path, members, patches)
    compressed = {}
    for member in sorted((m for m in work if m.info.compress_type == zipfile.ZIP_DEFLATED), key=lambda m: m.data):
        splice.through(member.data)
        compressed[member.entry] = _deflate_again(splice, member, work[member])
        splice.skip(member.stop)
    splice.through(size)
    for member, of_member in work.items():
        if member.entry in compressed:
            length, checksum = compressed[member.entry]
        else:
            length, checksum = member.info.compress_size, _patch_stored(splice, member, of_member)
        _fix_header(splice, member, checksum, length)
        _fix_descriptor(splice, member, checksum, length)
        _fix_entry(splice, member, checksum, length)
    if compressed:
        _fix_offsets(splice, members, end, size)


def _read_members(path: Location, file: BinaryIO) -> tuple[list[Member], int]:
    """The members in the order of the directory, and where the directory ends."""
    archive = zipfile.ZipFile(file)
    members, at = [], archive.start_dir
    for info in archive.infolist():
        file.seek(at)
        entry = file.read(ENTRY)
        if entry[:4] != b"PK\x01\x02" or struct.unpack_from("<L", entry, 16)[0] != info.CRC:
            raise problem(path, "the directory of this zip file is not where it should be; write the file again")
        file.seek(info.header_offset + 26)
        lengths = struct.unpack("<HH", file.read(4))
        members.append(Member(info, at, info.header_offset + LOCAL_HEADER + sum(lengths)))
        at += ENTRY + sum(struct.unpack_from("<HHH", entry, 28))
    return members, at


def _assign(path: Location, members: Sequence[Member], patches: Sequence[Patch]) -> dict[Member, list[Patch]]:
    ordered = sorted(members, key=lambda member: member.data)
    starts, names = [member.data for member in ordered], {member.info.filename: member for member in members}
    work: dict[int, tuple[Member, list[Patch]]] = {}
    for patch in sorted(patches, key=lambda patch: patch.offset):
        member = names[patch.member] if patch.member is not None else ordered[bisect_right(starts, patch.offset) - 1]
        if patch.member is None and not member.data <= patch.offset <= patch.stop <= member.stop:
            raise problem(path, f"the bytes of '{short(patch.name)}' are not in any member of this zip file; write the file again")
        work.setdefault(member.entry, (member, []))[1].append(patch)
    return dict(work.values())


def _patch_stored(splice: Splice, member: Member, patches: Sequence[Patch]) -> int:
    for patch in patches:
        splice.patch(patch.offset, patch.data.data)
    checksum = 0
    for start in range(member.data, member.stop, CHUNK):
        checksum = zlib.crc32(splice.copied(start, min(CHUNK, member.stop - start)), checksum)
    return checksum


def _deflate_again(splice: Splice, member: Member, patches: Sequence[Patch]) -> tuple[int, int]:
    """Appends the patched bytes, deflated; returns their compressed size and their checksum."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    position = length = before = after = 0
    for block in _inflated(splice.source, member):
        before = zlib.crc32(block, before)
        for patch in patches:
            first, last = max(patch.offset, position), min(patch.stop, position + len(block))
            if first < last:
                block[first - position : last - position] = patch.data[first - patch.offset : last - patch.offset].data
        after = zlib.crc32(block, after)
        position += len(block)
        length += _appended(splice, compressor.compress(block))
    if position != member.info.file_size or before != member.info.CRC:
        raise problem(splice.path, f"zip member '{short(member.info.filename)}' does not match its checksum: it is damaged; fetch it again")
    return length + _appended(splice, compressor.flush()), after


def _appended(splice: Splice, data: bytes) -> int:
    splice.append(data)
    return len(data)


def _inflated(file: BinaryIO, member: Member) -> Iterator[bytearray]:
    """The bytes of a deflated member, in blocks; never more than the directory declares."""
    machine, at, left = zlib.decompressobj(-zlib.MAX_WBITS), member.data, member.info.file_size
    data = b""
    while left and not machine.eof:
        if not data:
            file.seek(at)
            data = file.read(min(CHUNK, member.stop - at))
            at += len(data)
        block = bytearray(machine.decompress(data, min(CHUNK, left)))
        if not data and not block:
            return
        data = machine.unconsumed_tail
        left -= len(block)
        yield block


def _fix_header(splice: Splice, member: Member, checksum: int, length: int) -> None:
    at = member.info.header_offset
    header = splice.copied(at, LOCAL_HEADER)
    (flags,), (crc, size, name) = struct.unpack_from("<H", header, 6), struct.unpack_from("<L4xLH", header, 14)
    behind = bool(flags & HAS_DESCRIPTOR)  # then the header usually contains 0
    if crc or not behind:
        splice.patch(at + 14, struct.pack("<L", checksum))
    extra = range(at + LOCAL_HEADER + name, member.data)
    _shift(splice, at + 18, extra, int(size == FULL), length - member.info.compress_size, keep_zero=behind)


def _fix_descriptor(splice: Splice, member: Member, checksum: int, length: int) -> None:
    info, at = member.info, member.stop
    if not info.flag_bits & HAS_DESCRIPTOR:
        return
    tail = splice.copied(at, 24)
    start = 4 if tail[:4] == b"PK\x07\x08" else 0
    for code in ("<L", "<Q"):
        if info.file_size <= FULL or code == "<Q":
            sizes = struct.pack(code, info.compress_size) + struct.pack(code, info.file_size)
            if tail[start:].startswith(struct.pack("<L", info.CRC) + sizes):
                splice.patch(at + start, struct.pack("<L", checksum) + struct.pack(code, length))
                return
    raise problem(splice.path, f"no data descriptor follows zip member '{short(info.filename)}': it is damaged; fetch it again")


def _fix_entry(splice: Splice, member: Member, checksum: int, length: int) -> None:
    splice.patch(member.entry + 16, struct.pack("<L", checksum))
    fields, extra = _entry_fields(splice, member)
    _shift(splice, member.entry + 20, extra, fields[1:].count(FULL), length - member.info.compress_size)


def _entry_fields(splice: Splice, member: Member) -> tuple[tuple[int, int], range]:
    """Positions of the compressed and the full size in a directory entry, and of its extra field."""
    entry = splice.copied(member.entry, ENTRY)
    name, extra = struct.unpack_from("<HH", entry, 28)
    start = member.entry + ENTRY + name
    return struct.unpack_from("<LL", entry, 20), range(start, start + extra)


def _fix_offsets(splice: Splice, members: Sequence[Member], end: int, size: int) -> None:
    """Adjusts the positions of members and of the directory that the directory and the end records store."""
    for member in members:
        fields, extra = _entry_fields(splice, member)
        at = member.info.header_offset
        _shift(splice, member.entry + 42, extra, fields.count(FULL), splice.moved(at) - at)
    by, at = splice.moved(end) - end, end
    tail = splice.copied(end, min(size - end, ENDING))
    if tail[:4] == b"PK\x06\x06":
        at += 12 + int(struct.unpack_from("<Q", tail, 4)[0])
        for field in (end + 48, at + 8):  # in the ZIP64 end record and in its locator
            splice.patch(field, struct.pack("<Q", struct.unpack("<Q", splice.copied(field, 8))[0] + by))
        at += 20
    if tail[at - end :][:4] != b"PK\x05\x06":
        raise problem(splice.path, "no end record follows the directory of this zip file; write the file again")
    _shift(splice, at + 16, range(0), 0, by)


def _shift(splice: Splice, at: int, extra: range, index: int, by: int, *, keep_zero: bool = False) -> None:
    """Adds to a size or offset of 4 bytes or, if that is FULL, to number `index` of the ZIP64 extra field (if there is one)."""
    code, limit = "<L", FULL
    if splice.copied(at, 4) == struct.pack("<L", FULL):
        if not extra:
            return
        code, limit, at = "<Q", 1 << 64, _zip64(splice, extra) + 8 * index
    old = struct.unpack(code, splice.copied(at, struct.calcsize(code)))[0]
    value = 0 if keep_zero and not old else old + by
    if not 0 <= value < limit:
        raise problem(
            splice.path, "this zip file would exceed 4 GiB, which its format does not allow; save the checkpoint again uncompressed"
        )
    splice.patch(at, struct.pack(code, value))


def _zip64(splice: Splice, extra: range) -> int:
    """The position where the numbers of the ZIP64 extra field begin."""
    at = extra.start
    while at < extra.stop:
        kind, length = struct.unpack("<HH", splice.copied(at, 4))
        at += 4
        if kind == 1:
            return at
        at += int(length)
    raise problem(splice.path, "a zip member lacks the ZIP64 field that its header announces: it is damaged; fetch it again")
