"""An inert pickle machine: it decodes opcodes and never imports, looks up or calls what they name.

It does not build on pickle.Unpickler: there, a damaged or hostile memo index (LONG_BINPUT) or length (BYTEARRAY8) allocates up to
68 GB before any check, and BUILD can set attributes. Here the arguments come from pickletools.genops, which reads no more than the
file has, and each opcode is a few lines. Source: pickletools (opcode semantics).
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import BinaryIO

from ssmspec.checkpoint.rebuild import build, call, dict_key, global_name, storage
from ssmspec.checkpoint.tree import Placeholder, StorageRef

MAX_PICKLE = 512 * 2**20  # bytes; the pickle of a checkpoint holds names and shapes: 1 MB is much
MAX_COPIED = 512 * 2**20  # bytes that calls such as _codecs.encode or list may copy out of shared values
CONTAINER_ITEM = 64  # bytes; a reference and its share of a container's table

LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
FIXED: Mapping[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
IGNORED = frozenset(("PROTO", "FRAME", "STOP", "READONLY_BUFFER"))


class BoundedReader:
    """The read side of a file for pickletools: at most `limit` bytes in all, and no tell() per opcode."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file, self._limit = file, min(limit, MAX_PICKLE)
        self._left = self._limit

    def read(self, count: int) -> bytes:
        self._spend(count)
        return self._file.read(count)

    def readline(self) -> bytes:
        data = self._file.readline(self._left + 1)
        self._spend(len(data))
        return data

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise ValueError(f"the pickle does not end within {self._limit} bytes")


def unpickle(reader: BinaryIO | BoundedReader, storages: dict[str, str] | None = None) -> object:
    """Runs one pickle up to its STOP.

    Args:
        reader: the pickle.
        storages: receives key -> dtype of every torch storage that the pickle refers to.
    Returns:
        plain scalars, str, bytes, list (for sets too), tuple, dict; TensorRef, NumpyArray; Placeholder and Global for all else.
    Raises:
        ValueError, IndexError, KeyError, TypeError and the like: the pickle is damaged; to be reported by the caller.
    """
    return _Machine({} if storages is None else storages).run(reader)


class _Machine:
    def __init__(self, storages: dict[str, str]) -> None:
        self.storages = storages
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[object, object] = {}
        self.copied = 0

    def run(self, reader: BinaryIO | BoundedReader) -> object:
        for opcode, arg, _ in pickletools.genops(reader):  # type: ignore[arg-type]  # read and readline are all it uses
            name = opcode.name
            if name in LITERALS:
                self.stack.append(arg)
            elif name in FIXED:
                self.stack.append(FIXED[name]())
            elif name not in IGNORED:
                handler = OPERATIONS.get(name)
                if handler is None:
                    raise ValueError(f"pickle opcode {name} has no place in a checkpoint")
                handler(self, arg)
        return self.stack.pop()

    def pop_mark(self) -> list[object]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def call(self, function: object, args: object) -> None:
        if isinstance(args, tuple) and args:
            self.charge(args[0])
        self.stack.append(call(function, args))

    def charge(self, value: object) -> None:
        """Counts what a rebuild copies; shared by reference, a short pickle could otherwise copy a long value a million times."""
        if isinstance(value, str | bytes | bytearray | list | tuple | dict):
            self.copied += len(value) * (1 if isinstance(value, str | bytes | bytearray) else CONTAINER_ITEM)
            if self.copied > MAX_COPIED:
                raise ValueError("calls in the pickle multiply shared data without bound")

    def set_items(self, pairs: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, Placeholder):
            target = target.pairs
        if not isinstance(target, dict) or len(pairs) % 2:
            raise ValueError("items set on something that is no dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            target[dict_key(key)] = value

    def extend(self, items: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, Placeholder):
            target = target.items
        if not isinstance(target, list):
            raise ValueError("items appended to something that is no list")
        target.extend(items)


def _mark(machine: _Machine, _: object) -> None:
    machine.marks.append(len(machine.stack))


def _pop(machine: _Machine, _: object) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.stack.pop()


def _tuple_of(count: int) -> Callable[[_Machine, object], None]:
    def make(machine: _Machine, _: object) -> None:
        items = machine.stack[-count:]
        if len(items) != count:
            raise IndexError("the stack is empty")
        machine.stack[-count:] = [tuple(items)]

    return make


def _dict(machine: _Machine, _: object) -> None:
    pairs = machine.pop_mark()
    machine.stack.append({})
    machine.set_items(pairs)


def _set_item(machine: _Machine, _: object) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items([key, value])


def _get(machine: _Machine, index: object) -> None:
    machine.stack.append(machine.memo[index])


def _put(machine: _Machine, index: object) -> None:
    machine.memo[index] = machine.stack[-1]


def _global(machine: _Machine, arg: object) -> None:
    module, _, name = str(arg).partition(" ")
    machine.stack.append(global_name(module, name))


def _stack_global(machine: _Machine, _: object) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise ValueError("a global whose name is not text")
    machine.stack.append(global_name(module, name))


def _reduce(machine: _Machine, _: object) -> None:
    args, function = machine.stack.pop(), machine.stack.pop()
    machine.call(function, args)


def _newobj_ex(machine: _Machine, _: object) -> None:
    machine.stack.pop()
    _reduce(machine, _)


def _inst(machine: _Machine, arg: object) -> None:
    items = machine.pop_mark()
    _global(machine, arg)
    machine.call(machine.stack.pop(), tuple(items))


def _obj(machine: _Machine, _: object) -> None:
    cls, *args = machine.pop_mark()
    machine.call(cls, tuple(args))


def _build(machine: _Machine, _: object) -> None:
    state = machine.stack.pop()
    if isinstance(state, tuple) and len(state) == 5:
        machine.charge(state[4])  # the bytes of a numpy array, spelled as text by Python 2
    build(machine.stack[-1], state)


def _persistent(machine: _Machine, _: object) -> None:
    found = storage(machine.stack.pop())
    if isinstance(found, StorageRef):
        machine.storages.setdefault(found.key, found.dtype)
    machine.stack.append(found)


OPERATIONS: Mapping[str, Callable[[_Machine, object], None]] = {
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": lambda machine, _: machine.pop_mark().clear(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_mark())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "LIST": lambda machine, _: machine.stack.append(machine.pop_mark()),
    "FROZENSET": lambda machine, _: machine.stack.append(machine.pop_mark()),
    "DICT": _dict,
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_mark()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.pop_mark()),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_mark()),
    "GET": _get,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "PUT": _put,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "MEMOIZE": lambda machine, _: _put(machine, len(machine.memo)),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _newobj_ex,
    "INST": _inst,
    "OBJ": _obj,
    "BUILD": _build,
    "BINPERSID": _persistent,
}
