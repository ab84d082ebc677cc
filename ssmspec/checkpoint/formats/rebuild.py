"""The only callables that a pickle can use: pure functions that rebuild containers, torch tensors and numpy arrays.

Sources: torch/_utils.py (_rebuild_*), torch/_tensor.py (_rebuild_from_type_v2), torch/serialization.py (persistent ids);
numpy/_core/multiarray.py and numpy/_core/numeric.py (_reconstruct, scalar, _frombuffer).
"""

import math
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ssmspec.checkpoint.formats.tree import Global, Key, NumpyArray, Placeholder, StorageRef, TensorRef
from ssmspec.checkpoint.tensors import ITEMSIZE, MAX_DIMENSIONS, Flag

Args = tuple[object, ...]

STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "Untyped": "uint8",
    "QInt8": "int8",  # quantized tensors are not rebuilt, but in legacy files their storages must be skipped
    "QUInt8": "uint8",
    "QInt32": "int32",
}
TORCH_DTYPES = {
    **{f"torch.{name}": name for name in ITEMSIZE},
    "torch.double": "float64",
    "torch.float": "float32",
    "torch.half": "float16",
}
MODULUS = sys.hash_info.modulus  # integers below are their own hash, all different; larger ones share hashes
MAX_KEY = 1000  # characters of a key that is no text; bits of an integer
STORAGE_NAME = re.compile(r"torch(?:\.\w+)*\.(\w+)Storage")
ALIASES = {"__builtin__": "builtins", "copy_reg": "copyreg", "numpy.core": "numpy._core"}


def global_name(module: str, name: str) -> Global:
    """The canonical name: spellings of Python 2 and old numpy are replaced by the new ones."""
    for old, new in ALIASES.items():
        if module == old or module.startswith(old + "."):
            module = new + module[len(old) :]
    return Global(f"{module}.{name}")


def call(function: object, args: object) -> object:
    """The effect of REDUCE, NEWOBJ and INST: a pure rebuild for the few known names, a placeholder for all others.

    Raises:
        ValueError: the arguments are not valid for a known name.
    """
    if not isinstance(args, tuple):
        raise ValueError(f"arguments of type {type(args).__name__} instead of tuple")
    if not isinstance(function, Global):
        return Placeholder(f"a call of {function.cls if isinstance(function, Placeholder) else type(function).__name__}", args)
    rebuild = REBUILD.get(function.name)
    return Placeholder(function.name, args) if rebuild is None else rebuild(args)


def storage(pid: object) -> object:
    """The object of a persistent id: ("storage", type, key, location, numel[, view]) or, in old files, ("module", class, ...)."""
    if isinstance(pid, tuple) and len(pid) >= 2 and pid[0] in ("module", b"module"):
        return pid[1]
    if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] not in ("storage", b"storage"):
        raise ValueError("unknown kind of persistent id")
    kind, key, numel, view = pid[1], pid[2], pid[4], pid[5] if len(pid) == 6 else None
    match = STORAGE_NAME.fullmatch(kind.name) if isinstance(kind, Global) else None
    if match is None or match[1] not in STORAGES:
        return Placeholder(kind.name if isinstance(kind, Global) else "unknown storage")
    first = 0
    if isinstance(view, tuple) and len(view) == 3:
        first, numel = view[1], view[2]
    if type(numel) is not int or type(first) is not int or numel < 0 or first < 0:
        raise ValueError("storage sizes must be non-negative integers")
    return StorageRef(str(key), STORAGES[match[1]], numel, first)


def _tensor(args: Args, dtype: object = None, metadata: object = None) -> object:
    owner, offset, shape, strides = args[:4]
    if not isinstance(owner, StorageRef):
        return Placeholder(owner.cls if isinstance(owner, Placeholder) else "tensor without storage", args)
    name = owner.dtype if dtype is None else TORCH_DTYPES.get(dtype.name) if isinstance(dtype, Global) else None
    if name is None:
        return Placeholder("tensor of " + (dtype.name if isinstance(dtype, Global) else "unknown dtype"), args)
    if type(offset) is not int or not isinstance(shape, tuple | list) or not isinstance(strides, tuple | list):
        raise ValueError("a tensor needs an integer offset, a shape and strides")
    if not all(type(value) is int for value in (*shape, *strides)):
        raise ValueError("shape and strides must be integers")
    bits = metadata if isinstance(metadata, dict) else {}
    words: tuple[tuple[str, Flag], ...] = (("conj", "conjugate"), ("neg", "negative"))
    flags: frozenset[Flag] = frozenset(flag for bit, flag in words if bits.get(bit))
    return TensorRef(owner, name, offset, tuple(shape), tuple(strides), flags)


def _tensor_v2(args: Args) -> object:
    return _tensor(args, metadata=args[6] if len(args) > 6 else None)


def _tensor_v3(args: Args) -> object:
    return _tensor(args, args[6], args[7] if len(args) > 7 else None)


def _first(args: Args) -> object:
    return args[0]


def _from_type(args: Args) -> object:
    function, kind, inner = args[:3]
    known = isinstance(function, Global) and function.name in REBUILD
    return call(function, inner) if known else Placeholder(kind.name if isinstance(kind, Global) else "tensor subclass", args)


def _dict(args: Args) -> object:
    if not args or not isinstance(args[0], list | tuple | dict):
        return {}
    if isinstance(args[0], dict):
        return dict(args[0])
    pairs = [pair for pair in args[0] if isinstance(pair, list | tuple) and len(pair) == 2]
    return {dict_key(key): value for key, value in pairs}


def dict_key(key: object) -> object:
    """A key that hashes in constant time and cannot be made to collide with others (30 000 collisions would take ten seconds).

    Large integers, fractions and tuples become a `Key`; all other objects and long keys become opaque.
    """
    if key is None or isinstance(key, str | bytes | Placeholder | Global) or (isinstance(key, int) and abs(key) < MODULUS):
        return key
    if isinstance(key, tuple) and len(key) <= 16 and all(map(_is_short, key)):
        return Key(repr(key), ".".join(map(str, key)))
    if not isinstance(key, tuple) and _is_short(key):
        return Key(repr(key), str(key))
    return Placeholder(f"{type(key).__name__} as a key")


def _is_short(part: object) -> bool:
    """Whether a key, or a part of one, is a text or a number that a few characters can say."""
    if isinstance(part, int):
        return part.bit_length() <= MAX_KEY
    return isinstance(part, float | complex) or (isinstance(part, str) and len(part) <= MAX_KEY)


def _list(args: Args) -> object:
    return list(args[0]) if args and isinstance(args[0], list | tuple) else []


def _tuple(args: Args) -> object:
    return tuple(args[0]) if args and isinstance(args[0], list | tuple) else ()


def _bytes(args: Args) -> object:
    """bytearray(b"..."), or bytes that Python 2 protocols write as _codecs.encode(text, "latin1")."""
    if not args:
        return b""
    return args[0].encode("latin-1") if isinstance(args[0], str) else args[0] if isinstance(args[0], bytes | bytearray) else b""


def _complex(args: Args) -> object:
    parts = [part for part in args if isinstance(part, int | float)]
    return complex(*parts[:2])


class NumpyDtype:
    """A dtype in a pickle: a code such as "f8" or the name of an ml_dtypes type; its byte order is part of the state."""

    __slots__ = ("big_endian", "name")

    def __init__(self, code: object) -> None:
        self.big_endian = False
        self.name = ""
        if isinstance(code, Global):
            self.name = code.name.rpartition(".")[2]
        elif isinstance(code, str) and re.fullmatch(r"[<>|=]?[?a-zA-Z]\d{0,2}", code):
            self.name, self.big_endian = np.dtype(code).name, code[0] == ">"
        if self.name not in ITEMSIZE:
            self.name = ""

    def build(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1:
            self.big_endian = state[1] == ">"


def _numpy_dtype(args: Args) -> object:
    return NumpyDtype(args[0] if args else None)


def _numpy_array(args: Args) -> object:
    return NumpyArray()


def fill_array(array: NumpyArray, dtype: object, shape: object, data: object, fortran: object) -> None:
    """Fills an array if its content is plain numbers (not objects or text); otherwise leaves it empty.

    Raises:
        ValueError: the number of bytes contradicts shape and dtype.
    """
    if isinstance(data, str):
        data = data.encode("latin-1")
    if not isinstance(dtype, NumpyDtype) or not dtype.name or not isinstance(data, bytes | bytearray) or not isinstance(shape, tuple):
        return
    if len(shape) > MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"a numpy array needs a shape of at most {MAX_DIMENSIONS} non-negative integers")
    if len(data) != math.prod(shape) * ITEMSIZE[dtype.name]:
        raise ValueError(f"a numpy array of shape {shape} and dtype {dtype.name} has {len(data)} bytes")
    array.dtype, array.shape, array.data = dtype.name, shape, data
    array.fortran, array.big_endian = bool(fortran), dtype.big_endian


def build(target: object, state: object) -> None:
    """The effect of BUILD. The state of containers and tensors (state_dict()._metadata, hooks) is not needed and is ignored."""
    if isinstance(target, Placeholder | NumpyDtype):
        target.build(state)
    elif isinstance(target, NumpyArray) and isinstance(state, tuple) and len(state) == 5:
        fill_array(target, state[2], state[1], state[4], state[3])


def _numpy_buffer(args: Args) -> object:
    array = NumpyArray()
    fill_array(array, args[1], args[2], args[0], args[3] == "F")
    return array


def _numpy_scalar(args: Args) -> object:
    array = NumpyArray()
    fill_array(array, args[0], (), args[1] if len(args) > 1 else b"", False)
    return array.stored("", Path()).read().item() if array.dtype else Placeholder("numpy.generic", args)


def _jax_array(args: Args) -> object:
    """jax pickles an array as (function, args, state) of the numpy array that holds it (jax/_src/array.py, _reconstruct_array)."""
    array = call(args[0], args[1])
    build(array, args[2])
    return array


def _old_object(args: Args) -> object:
    return Placeholder(args[0].name if isinstance(args[0], Global) else "object")


def _new_object(args: Args) -> object:
    return call(args[0], args[1:])


REBUILD: Mapping[str, Callable[[Args], object]] = MappingProxyType(
    {
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor_v2,
        "torch._utils._rebuild_tensor_v3": _tensor_v3,
        "torch._utils._rebuild_parameter": _first,
        "torch._utils._rebuild_parameter_with_state": _first,
        "torch._utils._rebuild_device_tensor_from_numpy": _first,
        "torch._utils._rebuild_xla_tensor": _first,
        "torch._tensor._rebuild_from_type_v2": _from_type,
        "torch.nn.parameter.Parameter": _first,
        "torch.Size": _tuple,
        "collections.OrderedDict": _dict,
        "collections.defaultdict": lambda args: {},
        "collections.Counter": _dict,
        "builtins.dict": _dict,
        "builtins.list": _list,
        "builtins.set": _list,
        "builtins.frozenset": _list,
        "builtins.tuple": _tuple,
        "builtins.complex": _complex,
        "builtins.bytearray": _bytes,
        "builtins.bytes": _bytes,
        "_codecs.encode": _bytes,
        "copyreg._reconstructor": _old_object,
        "copyreg.__newobj__": _new_object,
        "numpy.dtype": _numpy_dtype,
        "numpy._core.multiarray._reconstruct": _numpy_array,
        "numpy._core.multiarray.scalar": _numpy_scalar,
        "numpy._core.numeric._frombuffer": _numpy_buffer,
        "jax._src.array._reconstruct_array": _jax_array,
        "jax._src.device_array.reconstruct_device_array": _jax_array,
    }
)
