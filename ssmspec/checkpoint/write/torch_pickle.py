"""Tensors of other shapes in the pickle of a torch zip: sizes of storages, offsets, shapes and strides are replaced, and nothing else.

torch.save writes a tensor as a call of _rebuild_tensor_v2 with a persistent id and its numbers,

    ... (, "storage", FloatStorage, key, location, numel, TUPLE, BINPERSID, offset, (shape), (strides), ...

so that every persistent id is followed by these literals. Source: torch/_tensor.py, Tensor._reduce_ex_internal; torch/serialization.py.
"""

import pickletools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
GETS = ("GET", "BINGET", "LONG_BINGET")
INTEGERS = ("BININT", "BININT1", "BININT2", "LONG1", "INT")
TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE")


@dataclass(frozen=True, slots=True)
class Token:
    """One opcode, its argument, and its bytes."""

    name: str
    value: object
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Reference:
    """A tensor of the pickle: the key of its storage, and the literals of its numbers; each of the last two is one per axis."""

    key: str
    numel: Token
    offset: Token
    shape: tuple[Token, ...]
    strides: tuple[Token, ...]

    @property
    def place(self) -> tuple[int, tuple[int, ...]]:
        """Offset and shape, which tell tensors of one storage apart."""
        return int(str(self.offset.value)), tuple(int(str(token.value)) for token in self.shape)


def references(data: bytes) -> Iterator[Reference]:
    """All tensors of a pickle.

    Raises:
        ValueError: a tensor is not written as torch.save does it.
    """
    tokens = tokens_of(data)
    memo: dict[int, object] = {}
    kept: list[Token] = []  # tokens without those that only fill the memo
    for token in tokens:
        if token.name in PUTS:
            index = len(memo) if token.name == "MEMOIZE" else int(str(token.value))
            memo[index] = kept[-1].value if kept and kept[-1].name in TEXTS else None
        else:
            kept.append(token)
    for place, token in enumerate(kept):
        if token.name == "BINPERSID":
            yield _reference(kept, place, memo)


def tokens_of(data: bytes) -> list[Token]:
    """The opcodes of a pickle, each with its bytes."""
    found = [(opcode.name, value, int(position or 0)) for opcode, value, position in pickletools.genops(data)]
    ends = [*(position for _, _, position in found[1:]), len(data)]
    return [Token(name, value, start, stop) for (name, value, start), stop in zip(found, ends, strict=True)]


def _reference(tokens: list[Token], place: int, memo: Mapping[int, object]) -> Reference:
    numel, key = tokens[place - 2], tokens[place - 4]
    if place < 4 or tokens[place - 1].name != "TUPLE" or numel.name not in INTEGERS:
        raise ValueError("a storage that is not (type, key, location, size)")
    name = memo.get(int(str(key.value))) if key.name in GETS else key.value
    offset = tokens[place + 1]
    shape, after = _integers(tokens, place + 2)
    strides, _ = _integers(tokens, after)
    if not isinstance(name, str) or offset.name not in INTEGERS or len(shape) != len(strides):
        raise ValueError("a tensor that is not (storage, offset, shape, strides)")
    return Reference(name, numel, offset, shape, strides)


def _integers(tokens: list[Token], place: int) -> tuple[tuple[Token, ...], int]:
    """The literals of a tuple of integers that begins at a place, and the place after it."""
    if tokens[place].name == "EMPTY_TUPLE":
        return (), place + 1
    place += tokens[place].name == "MARK"
    found = []
    while tokens[place].name in INTEGERS:
        found.append(tokens[place])
        place += 1
    if not tokens[place].name.startswith("TUPLE"):
        raise ValueError("a shape that is not a tuple of integers")
    return tuple(found), place + 1


def with_numbers(data: bytes, numbers: Mapping[Token, int]) -> bytes:
    """The pickle with other integers in place of some literals; frames, which would have other lengths, are left out."""
    edits = {token.start: (token.stop, _literal(value)) for token, value in numbers.items()}
    edits |= {token.start: (token.stop, b"") for token in tokens_of(data) if token.name == "FRAME"}
    pieces, at = [], 0
    for start, (stop, new) in sorted(edits.items()):
        pieces += [data[at:start], new]
        at = stop
    return b"".join([*pieces, data[at:]])


def _literal(value: int) -> bytes:
    if value < 1 << 8:
        return b"K" + value.to_bytes(1, "little")
    if value < 1 << 16:
        return b"M" + value.to_bytes(2, "little")
    if value < 1 << 31:
        return b"J" + value.to_bytes(4, "little")
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)
