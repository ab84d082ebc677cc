"""Integers of the configuration inside a pickle of torch.save, such as hyper_parameters of Lightning, with other values.

The pickle has such a value directly behind its key. That alone does not make it one: the pickle with the other value is decoded, as a
checkpoint is read, and only if nothing but a value of the configuration then differs is it a setting.
"""

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ssmspec.checkpoint.formats.tree import Placeholder
from ssmspec.checkpoint.formats.unpickler import BoundedReader, unpickle
from ssmspec.checkpoint.naming import CONFIGS
from ssmspec.checkpoint.write.torch_pickle import GETS, INTEGERS, PUTS, TEXTS, Token, tokens_of, with_numbers

MOST_TRIED = 64  # a configuration has few such keys; each is decoded on its own
MOST_DEPTH = 40
New = Callable[[str, int], int]


@dataclass(frozen=True, slots=True)
class TorchSetting:
    """One value: its dotted key, the value before and after, and where the pickle has it."""

    key: str
    before: int
    after: int
    token: Token


def torch_settings(pickle: bytes, new: New) -> list[TorchSetting]:
    """The integers of the configuration for which another value is wanted.

    Args:
        new: of a key and its value, the value that it must have.
    """
    wanted = [(token, value, after) for key, token in _behind_keys(pickle) if (after := new(key, value := int(str(token.value)))) != value]
    if not wanted or len(wanted) > MOST_TRIED:
        return []
    before, found = _decoded(pickle), []
    for token, value, after in wanted:
        keys = [_key(path) for path in _differences(before, _decoded(with_numbers(pickle, {token: after})), ())]
        if keys and all(key and new(key.rpartition(".")[2], value) == after for key in keys):  # a shared dict has several
            found.append(TorchSetting(keys[0], value, after, token))
    return found


def _decoded(pickle: bytes) -> object:
    return unpickle(BoundedReader(io.BytesIO(pickle), len(pickle)))


def _behind_keys(pickle: bytes) -> Iterator[tuple[str, Token]]:
    """Integers, each with the text directly before it."""
    memo: dict[int, object] = {}
    last: object = None
    for token in tokens_of(pickle):
        if token.name in PUTS:
            memo[len(memo) if token.name == "MEMOIZE" else int(str(token.value))] = last
            continue
        if token.name in INTEGERS and isinstance(last, str):
            yield last, token
        last = token.value if token.name in TEXTS else memo.get(int(str(token.value))) if token.name in GETS else None


def _key(path: tuple[object, ...]) -> str:
    """The dotted key of a value inside the configuration, without the word that marks it as such; empty for any other place."""
    words = [str(part) for part in path if isinstance(part, str)]
    if not words or words[0] not in CONFIGS:
        return ""
    return ".".join(words[1:])


def _differences(one: object, other: object, path: tuple[object, ...]) -> Iterator[tuple[object, ...]]:
    """Where two trees of one shape differ in an integer."""
    if len(path) > MOST_DEPTH:
        return
    if type(one) is int and type(other) is int:
        if one != other:
            yield path
    elif isinstance(one, Mapping) and isinstance(other, Mapping):
        for (key, value), new in zip(one.items(), other.values(), strict=True):
            yield from _differences(value, new, (*path, key))
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        for place, (value, new) in enumerate(zip(one, other, strict=True)):
            yield from _differences(value, new, (*path, place))
    elif isinstance(one, Placeholder) and isinstance(other, Placeholder):
        for part in ("args", "state", "items", "pairs"):
            yield from _differences(getattr(one, part), getattr(other, part), path)
