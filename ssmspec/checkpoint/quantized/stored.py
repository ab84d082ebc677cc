"""What the schemes share: the tensors of one quantized weight, how they are read, and how one that cannot be dequantized is refused."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmspec.checkpoint.derived import UNKNOWN, DerivedTensor, JoinedTensor
from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import StoredTensor, short

Stored = StoredTensor | JoinedTensor
FloatArray = NDArray[np.float32]
Rows = Callable[[int, int], FloatArray]

UNKNOWN_MATRIX = (UNKNOWN, UNKNOWN)
MAX_SMALL = 1 << 16  # bytes of a tensor that describes another: a shape, a JSON text


class UnknownSchemeError(Exception):
    """Why a weight cannot be dequantized: the text follows its name and scheme."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """One weight and the tensors that hold it.

    Args:
        name: of the weight. module: what stands before its own name and that of its companions.
        path: the file. tensors: all of the checkpoint by name. settings: its `quantization_config`.
    """

    name: str
    path: Location
    tensors: Mapping[str, Stored]
    settings: Mapping[str, Any]

    @property
    def module(self) -> str:
        """The prefix of the module, with its dot."""
        return self.name[: self.name.rfind(".") + 1]

    def beside(self, suffix: str) -> Stored | None:
        """The companion whose name is that of the weight and a suffix: "_scale", ".absmax"."""
        return self.tensors.get(self.name + suffix)

    def inside(self, own: str) -> Stored | None:
        """The companion of a name in the same module: "SCB", "qweight"."""
        return self.tensors.get(self.module + own)

    def made(
        self, origin: str, shape: tuple[int, ...], encoded: tuple[Stored | None, ...], rows: Rows | None = None, refusal: str = ""
    ) -> DerivedTensor:
        """The weight as a tensor; without `rows` one that is refused when it is read."""
        present = tuple(tensor for tensor in encoded if tensor is not None)
        return DerivedTensor(self.name, shape, self.path, origin, present, rows, refusal)

    def refused(
        self, origin: str, reason: str, encoded: tuple[Stored | None, ...], shape: tuple[int, ...] = UNKNOWN_MATRIX
    ) -> DerivedTensor:
        """The weight as one that cannot be read, and why."""
        text = f"{origin}, which cannot be dequantized: {reason}"
        return self.made(origin, shape, encoded, refusal=text)


def numbers(tensor: Stored, rows: slice | None = None) -> FloatArray:
    """Values in float32, whatever float they are stored as."""
    if not tensor.dtype.startswith(("float", "bfloat")):
        raise UnknownSchemeError(f"{tensor.name} has dtype {tensor.dtype}, expected floats")
    values: FloatArray = tensor.read(rows).astype(np.float32)
    return values


def require_shape(tensor: Stored, expected: tuple[int, ...]) -> None:
    """Refuses a companion of another shape.

    Raises:
        UnknownSchemeError: with both shapes.
    """
    if tensor.shape != expected:
        raise UnknownSchemeError(f"{short(tensor.name)} has shape {tensor.shape}, expected {expected}")


def require_dtype(tensor: Stored, *allowed: str) -> None:
    """Refuses a companion of another dtype.

    Raises:
        UnknownSchemeError: with what was expected.
    """
    if tensor.dtype not in allowed:
        raise UnknownSchemeError(f"{short(tensor.name)} has dtype {tensor.dtype}, expected {' or '.join(allowed)}")


def unpack(words: NDArray[Any], bits: int, axis: int) -> NDArray[np.uint8]:
    """Codes of 2, 4 or 8 bits from 32-bit words, the lowest bits first, one after the other along an axis."""
    unsigned = np.ascontiguousarray(words).view(np.uint32)
    codes = [(unsigned >> np.uint32(shift)) & np.uint32(2**bits - 1) for shift in range(0, 32, bits)]
    stacked = np.stack(codes, axis=axis + 1).astype(np.uint8)
    shape = list(unsigned.shape)
    shape[axis] *= 32 // bits
    return stacked.reshape(shape)


def nibbles(data: NDArray[np.uint8], *, high_first: bool) -> NDArray[np.uint8]:
    """The two codes of every byte, along the last axis."""
    pair = (data >> 4, data & 15) if high_first else (data & 15, data >> 4)
    return np.stack(pair, axis=-1).reshape(*data.shape[:-1], 2 * data.shape[-1])


def whole_number(value: object, what: str) -> int:
    """A positive integer of a file.

    Raises:
        UnknownSchemeError: anything else.
    """
    if type(value) is not int or not 0 < value < 2**40:
        raise UnknownSchemeError(f"{what} reads {short(str(value), 40)}, expected a positive integer")
    return value
