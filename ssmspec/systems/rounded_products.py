"""What rounding takes from a product, and functions of products that keep it."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def circle(frequency: FloatArray, half_step: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Cosine and sine of the product, corrected for its rounding, which matters for angles of many turns or close to pi/2."""
    (a, p), (b, q) = np.frexp(frequency), np.frexp(half_step)
    angle, lost = (np.ldexp(part, p + q) for part in (a * b, _product_error(a, b)))
    c, s = np.cos(angle), np.sin(angle)
    return c * np.cos(lost) - s * np.sin(lost), s * np.cos(lost) + c * np.sin(lost)


def _product_error(a: FloatArray, b: FloatArray) -> FloatArray:
    """The exact difference of a b and its rounded value, for numbers of moderate size. Source: Dekker 1971."""
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    return ((a_high * b_high - a * b) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(value: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Two numbers of at most 26 bits whose sum is the value. Source: Veltkamp 1968."""
    scaled = value * (2.0**27 + 1)
    high = scaled - (scaled - value)
    return high, value - high


def squared_modulus_less_one(x: FloatArray, y: FloatArray) -> FloatArray:
    """x^2 + y^2 - 1, accurate near 0, where rounding the squares would lose digits."""
    larger, smaller = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
    return ((larger * larger - 1) + smaller * smaller) + (_product_error(larger, larger) + _product_error(smaller, smaller))
