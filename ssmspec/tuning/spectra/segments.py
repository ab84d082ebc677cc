"""Windowed segments of the user's data and their Fourier sums, the input of Welch's method.

Segments of n samples, each with its mean removed and multiplied by a Hann window, overlap by half. Sums are kept in groups of complete
sequences, or of neighboring segments if there are few sequences. A jackknife over the groups gives the spread.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ssmspec.errors import SsmspecError
from ssmspec.systems.statespace import ComplexArray, FloatArray
from ssmspec.tuning.spectra.signals import Signals

FIRST_BIN = 2  # removing the mean empties bin 0 and, through the window, a part of bin 1
SHORTEST_SEGMENT, LONGEST_SEGMENT = 16, 1024  # samples; the longest applies only to the default
FEWEST, ENOUGH, MOST_GROUPS = 8, 32, 32  # required segments, desired segments; groups of the jackknife
CHUNK = 2**21  # values transformed at once
ROUNDING = 1e-24  # share of the mean square below which power consists only of rounding errors
OVERLAP_CORRELATION = 1 / 36  # squared correlation of periodograms of white noise, Hann windows that overlap by half


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over the segments of a group, as densities: white noise of variance 1 adds 1 per segment and channel.

    Args:
        count: number of segments. level: sum of squares of all samples, in the same unit.
        power: (F,) |X|^2, over channels. target_power: (F,) |Y|^2; zero without a target.
        cross: (I O, F) conj(X_i) Y_o; no rows without a target.
    """

    count: int
    level: float
    power: FloatArray
    target_power: FloatArray
    cross: ComplexArray

    def __add__(self, other: "Sums") -> "Sums":
        return self._combine(other, 1)

    def __sub__(self, other: "Sums") -> "Sums":
        return self._combine(other, -1)

    def _combine(self, other: "Sums", sign: int) -> "Sums":
        return Sums(
            self.count + sign * other.count,
            self.level + sign * other.level,
            self.power + sign * other.power,
            self.target_power + sign * other.target_power,
            self.cross + sign * other.cross,
        )


@dataclass(frozen=True, slots=True)
class Segments:
    """How the data are divided into segments.

    Args:
        signals, target: the data, and the values that belong to them sample by sample, or None.
        size: n, samples of a segment. per_sequence: segments per sequence.
    """

    signals: Signals
    target: Signals | None
    size: int
    per_sequence: int

    @classmethod
    def cut(cls, signals: Signals, target: Signals | None, size: int | None) -> "Segments":
        """Segments of the given size, or of the largest power of two up to LONGEST_SEGMENT that gives ENOUGH segments.

        Raises:
            SsmspecError: the size is odd, too small or does not fit, or there are fewer than FEWEST segments.
        """
        size = _default_size(signals) if size is None else size
        if size < SHORTEST_SEGMENT or size % 2 or size > signals.length:
            raise SsmspecError(
                f"segments of {size} samples; expected an even number from {SHORTEST_SEGMENT} to {signals.length}, the length of a sequence"
            )
        result = cls(signals, target, size, _per_sequence(signals, size))
        if result.count < FEWEST:
            raise SsmspecError(
                f"{signals.source}: {result.count} segments of {size} samples in {signals.batch} x {signals.length}; expected at least "
                f"{FEWEST}, to know the spread; give more or longer sequences, or shorter segments (at least {SHORTEST_SEGMENT})"
            )
        return result

    @property
    def count(self) -> int:
        return self.signals.batch * self.per_sequence

    @property
    def theta(self) -> FloatArray:
        """(F,) [rad/sample]: bins FIRST_BIN..n/2."""
        theta: FloatArray = 2 * np.pi / self.size * np.arange(FIRST_BIN, self.size // 2 + 1, dtype=np.float64)
        theta[-1] = np.pi
        return theta

    def independent(self, count: int) -> float:
        """The number of independent segments equivalent to `count` of these, for Gaussian data. Source: Welch 1967."""
        return count / (1 + 2 * (1 - 1 / self.per_sequence) * OVERLAP_CORRELATION)

    def groups(self) -> list[Sums]:
        """Sums over 8 to 32 groups.

        Raises:
            SsmspecError: there is no power except in the dropped bins.
        """
        groups = min(MOST_GROUPS, self.signals.batch if self.signals.batch >= FEWEST else self.count)
        unit = self.per_sequence if self.signals.batch >= FEWEST else 1
        bounds = np.linspace(0, self.count // unit, groups + 1).astype(int) * unit
        sums = [self._sum(first, last) for first, last in pairwise(bounds)]
        self._require_power(sum(part.power.mean() for part in sums), sum(part.level for part in sums), self.signals.source)
        return sums

    def _require_power(self, power: float, level: float, source: str) -> None:
        if power <= ROUNDING * level:
            lowest = 2 * np.pi * FIRST_BIN / self.size
            raise SsmspecError(
                f"{source}: no power above {lowest:.3g} rad/sample in segments of {self.size} samples; expected values that vary over time"
            )

    def _sum(self, first: int, last: int) -> Sums:
        """The sum over segments first..last-1, numbered across all sequences."""
        channels = self.signals.channels + (self.target.channels if self.target else 0)
        step = max(1, CHUNK // (self.size * channels))
        parts = [self._block(np.arange(start, min(start + step, last))) for start in range(first, last, step)]
        return sum(parts[1:], parts[0])

    def _block(self, index: np.ndarray) -> Sums:
        X, level = self._transform(self.signals, index)
        power = _squares(X)
        if self.target is None:
            return Sums(len(index), level, power, np.zeros_like(power), np.zeros((0, len(power)), complex))
        Y, _ = self._transform(self.target, index)
        cross = np.einsum("sif,sof->iof", X.conj(), Y).reshape(-1, len(power))
        return Sums(len(index), level, power, _squares(Y), cross)

    def _transform(self, signals: Signals, index: np.ndarray) -> tuple[ComplexArray, float]:
        """Fourier transforms (segments, channels, F) and the sum of squares."""
        windows = np.lib.stride_tricks.sliding_window_view(signals.values, self.size, axis=1)[:, :: self.size // 2]
        x = windows[index // self.per_sequence, index % self.per_sequence].astype(np.float64)
        window = np.sin(np.pi * np.arange(self.size) / self.size) ** 2
        level = float((x**2).sum()) / self.size
        x = (x - x.mean(axis=2, keepdims=True)) * (window / np.sqrt((window**2).sum()))
        return np.fft.rfft(x)[:, :, FIRST_BIN:], level


def _squares(X: ComplexArray) -> FloatArray:
    result: FloatArray = (X.real**2 + X.imag**2).sum(axis=(0, 1))
    return result


def _per_sequence(signals: Signals, size: int) -> int:
    return (signals.length - size) // (size // 2) + 1


def _default_size(signals: Signals) -> int:
    size = 1 << (min(LONGEST_SEGMENT, signals.length).bit_length() - 1)
    while size > SHORTEST_SEGMENT and signals.batch * _per_sequence(signals, size) < ENOUGH:
        size //= 2
    return size
