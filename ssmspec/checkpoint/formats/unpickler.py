"""An inert pickle machine: it decodes opcodes, but never imports, looks up or calls what they name.

It does not use pickle.Unpickler, where a damaged or hostile memo index (LONG_BINPUT) or length (BYTEARRAY8) can allocate up to 68 GB
before any check, and BUILD can set attributes. Here pickletools reads the arguments, never more than the file has. Each opcode takes a few
lines, and the operations and objects of a pickle are limited. Source: pickletools (opcode semantics).
"""

import pickletools
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import BinaryIO

from ssmspec.checkpoint.formats.rebuild import build, call, dict_key, global_name, storage
from ssmspec.checkpoint.formats.tree import Placeholder, StorageRef

MAX_PICKLE = 512 * 2**20  # bytes; the pickle of a checkpoint holds names and shapes, so 1 MB is already a lot
MAX_TEXT = 64 * 2**20  # bytes of one text, which may take four times as many in memory
MAX_BUILT = 600 * 2**20  # bytes that the objects of a pickle may take, including copies of shared values by calls such as list
MAX_OPERATIONS = 10_000_000  # a tensor needs about 30
MAX_MEMO = 2**32  # the limit of LONG_BINPUT; PUT accepts any number, and large ones collide as keys
CONTAINER_ITEM = 64  # bytes; a reference and its share of a container's table
BUILT = {"REDUCE": 600, "NEWOBJ": 600, "NEWOBJ_EX": 600, "INST": 600, "OBJ": 600, "GLOBAL": 200, "STACK_GLOBAL": 200, "BINPERSID": 200}
"""Bytes that an opcode may build: a tensor or a placeholder, a name, a storage; USUAL for all others, such as an entry of the memo."""
USUAL = 100

LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
TEXTS = frozenset(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"))
OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
FIXED: Mapping[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
IGNORED = frozenset(("PROTO", "FRAME", "READONLY_BUFFER"))


class BoundedReader:
    """The read interface of a file for pickletools: at most `limit` bytes in total, and at most `most` at once."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file, self._limit = file, min(limit, MAX_PICKLE)
        self._left = self._limit
        self.most = MAX_PICKLE

    def read(self, count: int) -> bytes:
        if count > self.most:
            raise ValueError(f"a text of {count} bytes, expected at most {self.most}")
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


def unpickle(reader: BoundedReader, storages: dict[str, str] | None = None) -> object:
    """Decodes one pickle up to its STOP opcode.

    Args:
        reader: the pickle.
        storages: receives key -> dtype of every torch storage that the pickle refers to.
    Returns:
        plain scalars, str, bytes, list (also for sets), tuple, dict; TensorRef, NumpyArray; Placeholder and Global for everything else.
    Raises:
        ValueError, IndexError, KeyError, TypeError and similar errors: the pickle is damaged; the caller must report this.
    """
    with warnings.catch_warnings(action="ignore"):  # Python warns about oddly escaped text
        return _Machine({} if storages is None else storages).run(reader)


def _argument(opcode: pickletools.OpcodeInfo, reader: BoundedReader) -> object:
    if opcode.arg is None:
        return None
    reader.most = MAX_TEXT if opcode.name in TEXTS else MAX_PICKLE
    try:
        return opcode.arg.reader(reader)  # type: ignore[arg-type]  # it uses only read and readline
    finally:
        reader.most = MAX_PICKLE


class _Machine:
    def __init__(self, storages: dict[str, str]) -> None:
        self.storages = storages
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[object, object] = {}
        self.built = 0

    def run(self, reader: BoundedReader) -> object:
        for _ in range(MAX_OPERATIONS):
            code = reader.read(1)
            opcode = OPCODES.get(code)
            if opcode is None:
                raise ValueError(f"unknown opcode {code!r}" if code else "it ends before its STOP")
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            self.step(name, _argument(opcode, reader))
        raise ValueError(f"more than {MAX_OPERATIONS} operations")

    def step(self, name: str, arg: object) -> None:
        if name in LITERALS:
            self.spend(sys.getsizeof(arg))
            self.stack.append(arg)
        elif name in FIXED:
            self.spend(USUAL)
            self.stack.append(FIXED[name]())
        elif name not in IGNORED:
            handler = OPERATIONS.get(name)
            if handler is None:
                raise ValueError(f"pickle opcode {name} has no place in a checkpoint")
            self.spend(BUILT.get(name, USUAL))
            handler(self, arg)

    def spend(self, count: int) -> None:
        """Counts the bytes that an operation may allocate."""
        self.built += count
        if self.built > MAX_BUILT:
            raise ValueError("the pickle builds too many objects (shared data copied again and again, or a bomb)")

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
        """Counts what a rebuild copies; otherwise a short pickle could copy a long shared value a million times."""
        if isinstance(value, str | bytes | bytearray | list | tuple | dict):
            self.spend(len(value) * (1 if isinstance(value, str | bytes | bytearray) else CONTAINER_ITEM))

    def set_items(self, pairs: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, Placeholder):
            target = target.pairs
        if not isinstance(target, dict) or len(pairs) % 2:
            raise ValueError("items set on an object that is not a dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            target[dict_key(key)] = value

    def extend(self, items: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, Placeholder):
            target = target.items
        if not isinstance(target, list):
            raise ValueError("items appended to an object that is not a list")
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
    if not isinstance(index, int) or not 0 <= index < MAX_MEMO:
        raise ValueError(f"an entry of the memo beyond {MAX_MEMO}")
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
        machine.charge(state[4])  # the bytes of a numpy array, written as text by Python 2
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
