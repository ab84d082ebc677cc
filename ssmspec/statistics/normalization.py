"""The same system in a range where squares and products of its numbers neither overflow nor vanish.

Only powers of two are moved, so no digit changes: each mode has its share of them in B and C made equal, and each copy is divided by about
its largest response.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.systems.grid import FloatArray
from ssmspec.systems.statespace import ComplexArray, StateSpace, cayley_poles, homogeneous_scale

Exponents = npt.NDArray[np.intp]
ABSENT = -(1 << 20)  # exponent of zero: below every other


def normalized(system: StateSpace, *, with_skip: bool = False) -> tuple[StateSpace, Exponents]:
    """A system whose largest response is about 1, and the power of two, (K,), by which that of the given one is larger.

    Args:
        system: K copies; modes that a low-rank part couples are scaled together.
        with_skip: D is the response of a copy without any other.
    """
    inputs, outputs = largest_exponent(system.B, 2), largest_exponent(system.C, 1)
    if system.rank:
        inputs, outputs = (np.broadcast_to(part.max(axis=1, keepdims=True), part.shape) for part in (inputs, outputs))
    sigma = cayley_poles(system)
    with np.errstate(divide="ignore"):
        peaks = np.log2(np.abs(homogeneous_scale(system, sigma))) - np.log2(np.abs(sigma.real))
    rises = np.where(np.isfinite(peaks), np.clip(peaks, -(1 << 16), 1 << 16), 0).astype(int)
    largest = (inputs + outputs + (0 if system.rank else rises)).max(axis=1)
    silent = largest <= ABSENT // 2
    largest = np.where(silent, largest_exponent(system.D.reshape(system.copies, -1), 1) if with_skip else 0, largest)
    largest = np.where(largest == ABSENT, 0, largest)
    rest = inputs + outputs - largest[:, None]
    half = rest // 2
    alive = rest > ABSENT // 2  # a mode without a response keeps no side of it, which might be huge beside the others
    B = times_power_of_two(system.B, np.where(alive, half - inputs, 0)[:, :, None]) * alive[:, :, None]
    C = times_power_of_two(system.C, np.where(alive, rest - half - outputs, 0)[:, None, :]) * alive[:, None, :]
    return replace(system, B=B, C=C, D=np.ldexp(system.D, -largest[:, None, None])), largest


def largest_exponent(array: npt.NDArray[Any], axis: int) -> Exponents:
    """Of the largest real or imaginary part along an axis: 2^(e - 1) <= it < 2^e; `ABSENT` where all are zero."""
    largest = np.maximum(np.abs(array.real), np.abs(array.imag)).max(axis=axis)
    return np.where(largest > 0, np.frexp(largest)[1].astype(int), ABSENT)


def times_power_of_two(array: ComplexArray, exponents: Exponents) -> ComplexArray:
    """The array, each part of it times 2 to the power."""
    result = np.empty_like(array)
    result.real, result.imag = np.ldexp(array.real, exponents), np.ldexp(array.imag, exponents)
    return result


def restored(values: FloatArray, exponents: Exponents) -> FloatArray:
    """Values (K, ...) of the normalized system as those of the given one; NaN where they leave the range of normal numbers."""
    with np.errstate(over="ignore", under="ignore"):
        result = np.ldexp(values, exponents.reshape(-1, *[1] * (values.ndim - 1)))
    lost = (np.abs(result) < np.finfo(float).tiny) & (values != 0)
    return np.where(np.isfinite(result) & ~lost, result, np.nan)
