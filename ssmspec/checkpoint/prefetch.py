"""Tensors that will be read soon: of those in a store, the bytes are requested together, close ones in one request."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ssmspec.checkpoint.derived import DerivedTensor, JoinedTensor
from ssmspec.checkpoint.remote.path import RemotePath
from ssmspec.checkpoint.tensors import StoredTensor

if TYPE_CHECKING:
    from ssmspec.checkpoint.remote.store import Store, Wanted

LARGEST = 1 << 22  # bytes; larger tensors are read when they are needed


def prefetch(wanted: Iterable[tuple[object, slice | None]]) -> None:
    """Reads the bytes of rows of tensors from their stores; does nothing for local files.

    Raises:
        CheckpointError: they cannot be read.
    """
    by_store: dict[int, tuple[Store, list[Wanted]]] = {}
    for tensor, rows in wanted:
        for path, first, last in _ranges(tensor, rows):
            if isinstance(path, RemotePath) and last - first <= LARGEST:
                by_store.setdefault(id(path.store), (path.store, []))[1].append((path.key, first, last))
    for store, ranges in by_store.values():
        store.prefetch(ranges)


def _ranges(tensor: object, rows: slice | None) -> list[tuple[object, int, int]]:
    if isinstance(tensor, StoredTensor):
        return list(tensor.ranges(rows))
    if isinstance(tensor, DerivedTensor):
        return [each for part in tensor.encoded for each in _ranges(part, None)]
    if isinstance(tensor, JoinedTensor):
        return [each for piece in tensor.pieces for each in _ranges(piece.tensor, None)]
    whole = getattr(tensor, "whole_range", None)  # a piece of a distributed checkpoint
    if whole is not None:
        return [whole]
    inner = getattr(tensor, "tensor", None)  # a tensor that is watched
    return [] if inner is None else _ranges(inner, rows)
