"""Sums of k[l] e^(-i theta l) at any frequencies, for the cost of about one FFT of the samples.

The samples are divided by the Fourier transform of a window and padded to OVERSAMPLED times their number; one FFT then gives the sums on a
uniform grid, and every other frequency is the window's weighted mean of WIDTH neighbors. The window is that of Kaiser and Bessel, cut at
WIDTH/2 grid points: its error is below 1e-13 of sum |k|. Few samples are summed directly.

Source: Fessler & Sutton 2003 (nonuniform FFT by min-max interpolation); Potts & Steidl 2003 (Kaiser-Bessel window, its transform).
"""

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

ComplexArray = npt.NDArray[np.complex128]
FloatArray = npt.NDArray[np.float64]

OVERSAMPLED = 1.5
WIDTH = 18  # neighbors per frequency
SHAPE = np.pi * WIDTH * (1 - 1 / (2 * OVERSAMPLED))
DIRECT = 1 << 9  # samples up to which the sums are formed as they are written
TURN = Fraction("6.28318530717958647692528676655900577")  # 2 pi
PART = 26  # bits: a grid point times a part of the spacing is exact
VALUES_AT_ONCE = 1 << 19  # neighbors in memory at once


def smooth_size(least: int) -> int:
    """The smallest product of powers of 2, 3 and 5 that is at least so large: a length for which an FFT is fast."""
    best = 1 << max(0, (least - 1).bit_length())
    five = 1
    while five < best:
        three = five
        while three < best:
            two = three << max(0, (-(-least // three) - 1).bit_length())
            best = min(best, two)
            three *= 3
        five *= 5
    return best


class SampledSums:
    """The sums of several real sequences of one length.

    Args:
        samples: (K, L) float64.
    """

    def __init__(self, samples: FloatArray) -> None:
        self._count = samples.shape[1]
        self._samples = samples if self._count <= DIRECT else None
        if self._samples is None:
            self._size = smooth_size(int(np.ceil(OVERSAMPLED * self._count)) + WIDTH)
            self._half = self._count // 2
            self._uniform = np.fft.rfft(samples * _correction(self._count, self._half, self._size), self._size, axis=1)

    def at(self, theta: FloatArray) -> ComplexArray:
        """sum_l k[l] e^(-i theta l), (K, F), for theta (F,) common to all sequences or (K, F), in [0, pi] [rad/sample]."""
        theta = np.atleast_2d(theta)
        if self._samples is not None:
            return _direct(self._samples, theta)
        result = np.empty((len(self._uniform), theta.shape[1]), complex)
        width = max(1, VALUES_AT_ONCE // (WIDTH * max(1, len(theta))))
        for start in range(0, theta.shape[1], width):
            part = slice(start, start + width)
            result[:, part] = self._interpolated(theta[:, part])
        return result

    def _interpolated(self, theta: FloatArray) -> ComplexArray:
        nearest, beyond = self._nearest(theta)
        offsets = np.arange(1 - WIDTH // 2, WIDTH // 2 + 1)
        neighbors = nearest[..., None] + offsets  # (1|K, F, WIDTH)
        weights = _window((beyond * self._size / (2 * np.pi))[..., None] - offsets)
        # the middle sample turns by theta half: whole turns are dropped while the numbers are still integers
        turned = weights * np.exp((2j * np.pi / self._size) * ((self._half * offsets) % self._size))
        turned *= np.exp(-1j * self._half * beyond)[..., None]
        below, above = neighbors < 0, neighbors > self._size // 2
        index = np.where(below, -neighbors, np.where(above, self._size - neighbors, neighbors))
        mirrored = below | above
        result = np.empty((len(self._uniform), theta.shape[1]), complex)
        for row, values in enumerate(self._uniform):
            own = min(row, len(theta) - 1)
            found = values[index[own]]
            if mirrored[own].any():
                found = np.where(mirrored[own], found.conj(), found)
            result[row] = np.einsum("fw,fw->f", found, turned[own])
        return result

    def _nearest(self, theta: FloatArray) -> tuple[npt.NDArray[np.intp], FloatArray]:
        """The grid point just below every theta, and the distance to it [rad/sample], by the spacing in parts (Cody & Waite 1980)."""
        nearest = np.floor(theta * (self._size / (2 * np.pi)))
        beyond = theta
        for part in _parts(TURN / self._size):
            beyond = beyond - nearest * part
        return nearest.astype(np.intp), np.asarray(beyond)


def _parts(number: Fraction) -> list[float]:
    """Three numbers that add up to a small positive one beyond double precision; the first two have PART bits."""
    found = []
    for _ in range(2):
        exponent = math.frexp(float(number))[1]
        found.append(math.ldexp(math.floor(number * Fraction(2) ** (PART - exponent)), exponent - PART))
        number -= Fraction(found[-1])
    return [*found, float(number)]


def _direct(samples: FloatArray, theta: FloatArray) -> ComplexArray:
    lags = np.arange(samples.shape[1])
    if len(theta) == 1:
        return np.asarray(samples @ np.exp(-1j * np.outer(lags, theta[0])))
    return np.stack([row @ np.exp(-1j * np.outer(lags, own)) for row, own in zip(samples, theta, strict=True)])


def _window(distance: FloatArray) -> FloatArray:
    """The window at a distance in grid points, at most WIDTH/2."""
    inside = np.maximum(1 - (2 * distance / WIDTH) ** 2, 0)
    return np.asarray(np.i0(SHAPE * np.sqrt(inside)))


def _correction(count: int, half: int, size: int) -> FloatArray:
    """One over the window's Fourier transform at the samples, (count,); they are counted from the one in the middle."""
    argument = np.pi * WIDTH / size * np.arange(-half, count - half)
    root = np.sqrt(SHAPE**2 - argument**2)
    return np.asarray(root / (WIDTH * np.sinh(root)))
