"""The objects that the inert unpickler builds: plain containers, tensors that know their storage, and placeholders for everything else."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import ITEMSIZE, Flag, Span, StoredTensor, extent

MODULE_PARTS = ("_parameters", "_buffers", "_modules")  # torch.nn.Module.__dict__; the order of its state_dict()


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle refers to. It is never imported."""

    name: str


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a dict that is not a plain name: `text` is its part of a tensor's name.

    It hashes as a text does, which no file can foresee: numbers and tuples of numbers can be chosen to collide all.
    """

    identity: str
    text: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class StorageRef:
    """A torch storage: `numel` elements of `dtype`, starting at element `first` of the stored bytes named `key`."""

    key: str
    dtype: str
    numel: int
    first: int = 0


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A torch tensor as described by its pickle, not checked yet; strides in elements of `dtype`."""

    storage: StorageRef
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    flags: frozenset[Flag]


class NumpyArray:
    """A numpy array in a pickle, including its bytes; `dtype` is "" until its state was read and consists of plain numbers."""

    __slots__ = ("big_endian", "data", "dtype", "fortran", "shape")

    def __init__(self) -> None:
        self.dtype = ""
        self.shape: tuple[int, ...] = ()
        self.data: bytes | bytearray = b""
        self.fortran = self.big_endian = False

    def stored(self, name: str, path: Location) -> StoredTensor:
        strides = fortran_strides(self.shape) if self.fortran and len(self.shape) > 1 else None
        flags: frozenset[Flag] = frozenset({"big-endian"} if self.big_endian else ())
        nbytes = extent(self.shape, strides or ()) * ITEMSIZE[self.dtype] if strides else len(self.data)
        return StoredTensor(name, self.shape, self.dtype, Span(path, 0, nbytes, strides, flags, data=self.data))


def fortran_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Element strides of a contiguous array in Fortran order."""
    strides = [1]
    for n in shape[:-1]:
        strides.append(strides[-1] * n)
    return tuple(strides[: len(shape)])


class Placeholder:
    """Stands for an instance of any class that is not a plain container. It records its arguments and does nothing."""

    __slots__ = ("args", "cls", "items", "pairs", "state")

    def __init__(self, cls: str, args: tuple[object, ...] = ()) -> None:
        self.cls, self.args = cls, args
        self.state: object = None
        self.items: list[object] = []
        self.pairs: dict[object, object] = {}

    def build(self, state: object) -> None:
        """Records a state; the pair (dict, slots dict) from object.__reduce_ex__ becomes one dict."""
        if isinstance(state, tuple) and len(state) == 2 and all(part is None or isinstance(part, dict) for part in state):
            state = {key: value for part in state if isinstance(part, dict) for key, value in part.items()}
        self.state = state

    @property
    def is_module(self) -> bool:
        return isinstance(self.state, dict) and any(isinstance(self.state.get(part), dict) for part in MODULE_PARTS)

    def children(self) -> Iterator[tuple[object, object]]:
        """(key, value) pairs below this object: for a module those of state_dict(), otherwise its state, items and pairs."""
        if isinstance(self.state, dict):
            if not self.is_module:
                yield from self.state.items()
                return
            hidden = self.state.get("_non_persistent_buffers_set")
            for part in MODULE_PARTS:
                entries = self.state.get(part)
                for key, value in entries.items() if isinstance(entries, dict) else ():
                    if not (part == "_buffers" and isinstance(hidden, list) and key in hidden):
                        yield key, value
            return
        yield from enumerate(self.items)
        yield from self.pairs.items()


def put_leaf(root: dict[str, object], path: tuple[str, ...], leaf: object) -> bool:
    """Puts a leaf at a path; False where a leaf is in the way, or a dict in its place."""
    place = root
    for key in path[:-1]:
        inner = place.setdefault(key, {})
        if not isinstance(inner, dict):
            return False
        place = inner
    if path[-1] in place:
        return False
    place[path[-1]] = leaf
    return True
