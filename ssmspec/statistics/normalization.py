"""Scale a system to a range where squares and products of its values neither overflow nor underflow.

Only powers of two are moved, so no digit changes. In each mode, B and C get equal powers of two, and each copy is divided by approximately
its largest response.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.systems.grid import FloatArray
from ssmspec.systems.statespace import ComplexArray, StateSpace, cayley_poles, homogeneous_scale

Exponents = npt.NDArray[np.intp]
LARGEST_POWER = 1000  # of two, which double precision holds together with its inverse
ABSENT = -(1 << 20)  # exponent of zero: below every other


def normalized(system: StateSpace, *, with_skip: bool = False) -> tuple[StateSpace, Exponents]:
    """A system whose largest response is about 1, and the power of two, (K,), by which the response of the given system is larger.

    Args:
        system: K copies; modes coupled by a low-rank part are scaled together.
        with_skip: whether D counts as the response of a copy that has no other response.
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
    alive = rest > ABSENT // 2  # a mode without a response loses both B and C, which might be huge compared with the others
    B = times_power_of_two(system.B, np.where(alive, half - inputs, 0)[:, :, None]) * alive[:, :, None]
    C = times_power_of_two(system.C, np.where(alive, rest - half - outputs, 0)[:, None, :]) * alive[:, None, :]
    return replace(system, B=B, C=C, D=np.ldexp(system.D, -largest[:, None, None])), largest


def largest_exponent(array: npt.NDArray[Any], axis: int) -> Exponents:
    """Exponent e of the largest real or imaginary part x along an axis, 2^(e - 1) <= x < 2^e; `ABSENT` if all are zero."""
    largest = np.maximum(np.abs(array.real), np.abs(array.imag)).max(axis=axis)
    return np.where(largest > 0, np.frexp(largest)[1].astype(int), ABSENT)


def times_power_of_two(array: ComplexArray, exponents: Exponents) -> ComplexArray:
    """The array times 2 to the power of the exponents, applied to real and imaginary parts separately."""
    result = np.empty_like(array)
    result.real, result.imag = np.ldexp(array.real, exponents), np.ldexp(array.imag, exponents)
    return result


def restored(values: FloatArray, exponents: Exponents) -> FloatArray:
    """Values (K, ...) of the normalized system as those of the given one; NaN where they leave the range of normal numbers."""
    shape = -1, *[1] * (values.ndim - 1)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if (np.abs(exponents) < LARGEST_POWER).all():  # a product with a power of two is as exact as ldexp, and far faster
            result = values * np.ldexp(1.0, exponents).reshape(shape)
        else:
            result = np.ldexp(values, exponents.reshape(shape))
    tiny = np.finfo(float).tiny
    if values.size and result.min() >= tiny and result.max() < np.inf:
        return result
    lost = (np.abs(result) < tiny) & (values != 0)
    return np.where(np.isfinite(result) & ~lost, result, np.nan)
