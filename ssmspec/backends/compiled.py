"""Compiled kernels without the wait for a compiler: machine code that Numba made once is loaded by llvmlite alone, in a tenth of the time.

A kernel is a function of pointers, kernel(first, last, sizes, *arrays), that allocates nothing and raises nothing. Its code is kept in a
file per kernel and float type, named by everything it depends on, and sealed with a checksum. Where no folder can be written, or a file is
damaged, the kernel is compiled again. Calls release the interpreter lock.
"""

import ctypes
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import llvmlite
import numpy.typing as npt
from llvmlite import binding

FASTMATH = {"contract", "arcp", "reassoc", "nsz"}
BLOCK = 512  # frequencies processed at once: a dozen rows of float64 fit in the first-level cache
SEAL = 32  # bytes of the checksum before the code

_owners: list[Any] = []  # of the memory of the code
_stub = ctypes.CFUNCTYPE(None)(lambda: None)  # stands for what only a failing kernel would call


class Kernel:
    """A function kernel(first, last, sizes, *arrays) that Numba can compile.

    Args:
        module, name: where it is; imported only to compile it. sizes points to int64, arrays to floats of one type.
        arrays: their number.
    """

    def __init__(self, module: str, name: str, arrays: int) -> None:
        self.module, self.name, self.arrays = module, name, arrays
        self._ready: dict[str, Callable[..., None]] = {}
        self._lock = Lock()

    def __call__(self, first: int, last: int, sizes: Sequence[int], *arrays: npt.NDArray[Any]) -> None:
        """Run it on contiguous arrays that all have one float type."""
        assert all(array.flags.c_contiguous and array.dtype == arrays[0].dtype for array in arrays)
        run = self.loaded(arrays[0].dtype.str[1:])
        numbers = (ctypes.c_int64 * len(sizes))(*sizes)
        run(first, last, numbers, *(array.ctypes.data for array in arrays))

    def loaded(self, kind: str) -> Callable[..., None]:
        """The machine code for floats of a kind, `f4` or `f8`; a process that forks after this has it for all."""
        run = self._ready.get(kind)
        if run is None:
            with self._lock:  # the threads of one call all come here first, and one of them compiles
                run = self._ready.get(kind) or self._ready.setdefault(kind, self._loaded(kind))
        return run

    def _loaded(self, kind: str) -> Callable[..., None]:
        key = self._key(kind)
        for folder in _folders():
            with suppress(OSError, ValueError):
                return self._prepared(_opened((folder / key).read_bytes()))
        made = self._compiled(kind)
        found = _code_of(made)
        if found is None:
            _owners.append(made)
            return self._callable(made.address)
        sealed = sha256(found).digest() + found
        for folder in _folders():
            with suppress(OSError):
                _keep(folder / key, sealed)
                break
        return self._prepared(found)

    def _key(self, kind: str) -> str:
        chosen = tuple(os.environ.get(name) for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"))
        machine = (sys.platform, *_processor(), chosen, llvmlite.__version__)
        return f"{self.name}-{kind}-{sha256(_source(self.module) + repr(machine).encode()).hexdigest()[:24]}.code"

    def _compiled(self, kind: str) -> Any:
        """What Numba makes of the function."""
        import numba

        types: Any = numba.types
        number = {"f4": types.float32, "f8": types.float64}[kind]
        pointers = [types.CPointer(types.int64), *[types.CPointer(number)] * self.arrays]
        signature = types.void(types.intp, types.intp, *pointers)
        return numba.cfunc(signature, error_model="numpy", fastmath=FASTMATH)(getattr(import_module(self.module), self.name))

    def _prepared(self, found: bytes) -> Callable[..., None]:
        head, _, code = found.partition(b"\n\n")
        entry, *outside = head.decode().split("\n")
        for name in outside:
            if binding.address_of_symbol(name) is None:
                binding.add_symbol(name, ctypes.cast(_stub, ctypes.c_void_p).value)
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        engine = binding.create_mcjit_compiler(binding.parse_assembly(""), binding.Target.from_default_triple().create_target_machine())
        engine.add_object_file(binding.ObjectFileRef.from_data(code))
        engine.finalize_object()
        _owners.append(engine)
        return self._callable(engine.get_function_address(entry))

    def _callable(self, address: int) -> Callable[..., None]:
        types: list[Any] = [ctypes.c_ssize_t, ctypes.c_ssize_t, ctypes.POINTER(ctypes.c_int64), *[ctypes.c_void_p] * self.arrays]
        return ctypes.CFUNCTYPE(None, *types)(address)


@cache
def _processor() -> tuple[str, str]:
    """Name and features of the processor of this machine."""
    return binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()


@cache
def _source(module: str) -> bytes:
    """The texts of this module and of one that need not be imported, since that would import Numba."""
    found = find_spec(module)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).read_bytes() + Path(__file__).read_bytes()


def _code_of(made: Any) -> bytes | None:
    """Entry of a compiled function and names of what its code refers to, in a line each, an empty line, and the code.

    None where Numba keeps them elsewhere than the versions that this was written for: then every process compiles.
    """
    try:
        library = made._library
        module = library._final_module
        code = library.serialize_using_object_code()[2][0]
        entry = made._wrapper_name
    except (AttributeError, IndexError, TypeError):
        return None
    outside = [each.name for each in (*module.functions, *module.global_variables) if each.is_declaration]
    return "\n".join([entry, *(name for name in outside if not name.startswith("llvm."))]).encode() + b"\n\n" + bytes(code)


def _folders() -> Iterator[Path]:
    """Where code may be kept: the folder that the user set for Numba, beside this file, or the cache of the user."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(chosen)
        return
    yield Path(__file__).parent / "__pycache__"
    if home := os.environ.get("XDG_CACHE_HOME"):
        yield Path(home, "ssmspec")
    elif home := os.environ.get("HOME"):
        yield Path(home, ".cache", "ssmspec")


def _opened(sealed: bytes) -> bytes:
    """The code of a file.

    Raises:
        ValueError: it is not what was written.
    """
    if sha256(sealed[SEAL:]).digest() != sealed[:SEAL]:
        raise ValueError("damaged")
    return sealed[SEAL:]


def _keep(path: Path, sealed: bytes) -> None:
    """Write a file as a whole: other processes find it complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(sealed)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
