"""Damage to the bytes of a file, as disks, downloads and attackers cause it. The same seed causes the same damage."""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Generator = np.random.Generator
Mutation = Callable[[bytearray, Sequence[bytes], Generator], bytearray]

ENDS = 2048  # bytes at either end of a file where headers, directories and pickles are: half of all damage goes there
NUMBER = re.compile(rb"[0-9]{1,20}")
WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_.]{1,30}")
NUMBERS = (b"0", b"1", b"-1", b"7", b"255", b"65536", b"2147483648", b"4294967295", b"9223372036854775807", b"18446744073709551616")
FLOATS = (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-30, 1e30, -1e30, 88.0, -104.0)
ODD_NUMBERS = (b"1e999", b"1.5", b"1" + b"0" * 30, b"null", b"NaN", b"[]", b'""')


def mutate(data: bytes, others: Sequence[bytes], generator: Generator) -> bytes:
    """Do one kind of damage, or rarely up to three.

    Args:
        data: the file. others: files to splice with.
    """
    kinds = list(MUTATIONS.values())
    damaged = bytearray(data)
    for _ in range(int(generator.choice([1, 1, 1, 1, 2, 3]))):
        damaged = kinds[generator.integers(len(kinds))](damaged, others, generator)
    return bytes(damaged)


def _place(size: int, generator: Generator) -> int:
    """An offset, every other one near an end of the file."""
    if not size:
        return 0
    reach = min(size, ENDS)
    return int(
        {
            0: lambda: generator.integers(reach),
            1: lambda: size - 1 - generator.integers(reach),
        }.get(int(generator.integers(4)), lambda: generator.integers(size))()
    )


def _flip(data: bytearray, others: Sequence[bytes], generator: Generator) -> bytearray:
    for _ in range(int(generator.integers(1, 9)) if data else 0):
        data[_place(len(data), generator)] ^= 1 << int(generator.integers(8))
    return data


def _overwrite(data: bytearray, others: Sequence[bytes], generator: Generator) -> bytearray:
    start, count = _place(len(data), generator), int(generator.integers(1, 33))
    fill = int(generator.choice([0, 0xFF, 0x7F, 0x80, 0x20]))
    new = bytes([fill]) * count if generator.integers(2) else generator.bytes(count)
    data[start : start + count] = new[: len(data) - start]
    return data


def _cut(data: bytearray, others: Sequence[bytes], generator: Generator) -> bytearray:
    return data[: _place(len(data), generator)]


def _drop(data: bytearray, others: Sequence[bytes], generator: Generator) -> bytearray:
    start = _place(len(data), generator)
    del data[start : start + int(generator.integers(1, 65))]
    return data


def _insert(data: bytearray, others: Sequence[bytes], generator: Generator) -> bytearray:
    start, count = _place(len(data), generator), int(generator.integers(1, 65))
    new = data[start : start + count] if generator.integers(2) else generator.bytes(count)
    data[start:start] = new
    return data


def _splice(data: bytearray, others: Sequence[bytes], generator: Generator) -> bytearray:
    other = others[generator.integers(len(others))]
    return data[: _place(len(data), generator)] + other[_place(len(other), generator) :]


def _move(data: bytearray, others: Sequence[bytes], generator: Generator) -> bytearray:
    start, to, count = _place(len(data), generator), _place(len(data), generator), int(generator.integers(1, 257))
    piece = data[start : start + count]
    data[to : to + len(piece)] = piece
    return data


def _length_field(data: bytearray, others: Sequence[bytes], generator: Generator) -> bytearray:
    """An integer of 1 to 8 bytes gets a value at a border, or one near its own."""
    width, order = int(generator.choice([1, 2, 4, 8])), str(generator.choice(["little", "big"]))
    start = min(_place(len(data), generator), max(0, len(data) - width))
    top, size = 1 << 8 * width, len(data)
    old = int.from_bytes(data[start : start + width], order)
    border = (0, 1, top - 1, top // 2, top // 2 - 1, size, size - start, old + 1, old - 1, 2 * old, old + int(generator.integers(1, 100)))
    data[start : start + width] = (border[generator.integers(len(border))] % top).to_bytes(width, order)
    return data


def _float(data: bytearray, others: Sequence[bytes], generator: Generator) -> bytearray:
    """Four or eight bytes, aligned or not, become a number that few readers expect."""
    code = "<f4" if generator.integers(2) else "<f8"
    new = np.array(FLOATS[generator.integers(len(FLOATS))], code).tobytes()
    start = _place(len(data), generator) & (-1 if generator.integers(4) == 0 else -4)
    data[start : start + len(new)] = new[: len(data) - start]
    return data


def _number_in_text(data: bytearray, others: Sequence[bytes], generator: Generator) -> bytearray:
    found = list(NUMBER.finditer(data))
    if found:
        match = found[generator.integers(len(found))]
        old = int(match[0])
        near = tuple(str(old + change).encode() for change in (1, -1, old, 8))
        new = (*NUMBERS, *near, *near, *ODD_NUMBERS)
        data[match.start() : match.end()] = new[generator.integers(len(new))]
    return data


def _word(data: bytearray, others: Sequence[bytes], generator: Generator) -> bytearray:
    """A name, dtype or key of the file becomes another one of it."""
    found = list(WORD.finditer(data[: 4 * ENDS])) + list(WORD.finditer(data[-ENDS:]))
    if found:
        match, other = found[generator.integers(len(found))], found[generator.integers(len(found))]
        data[match.start() : match.start() + len(match[0])] = other[0]
    return data


MUTATIONS: Mapping[str, Mutation] = {
    "flip": _flip,
    "overwrite": _overwrite,
    "cut": _cut,
    "drop": _drop,
    "insert": _insert,
    "splice": _splice,
    "move": _move,
    "length field": _length_field,
    "float": _float,
    "number in text": _number_in_text,
    "word": _word,
}
