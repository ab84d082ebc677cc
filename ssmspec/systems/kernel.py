"""The second canonical object beside `StateSpace`: a layer that stores or generates its convolution kernel, which has no poles.

    y[t] = D u[t] + sum_j k[j] u[t - first_lag - j],   j = 0..L-1          first_lag < 0: outputs depend on later inputs

A kernel may be large, so it is never held whole: it is handed out in blocks of copies, which are read or generated when they are asked for.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from ssmspec.backends import CauchySum
from ssmspec.errors import LayerError
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.response import MOST_BYTES, FrequencyResponse
from ssmspec.systems.statespace import Assumed, FloatArray, StateSpace
from ssmspec.systems.trigonometric import SampledSums

MOST_SAMPLES = 1 << 26  # of one copy, which is handed out as a whole: 512 MB
NUMBERS_AT_ONCE = 1 << 22  # samples of one block: 32 MB
NO_POLES = "the layer is an explicit kernel, which has no poles"
GENERATED_AT_ONCE = 1 << 25  # samples that a source generates together where work is shared by all copies: 256 MB

Numbers = npt.NDArray[np.intp]


class KernelSource(Protocol):
    """Where the samples of a kernel come from.

    Attributes:
        shared: whether every call repeats work that does not depend on the copies, so that calls should ask for many copies.
        known_finite: whether all samples are known to be finite without a look at them.
    """

    @property
    def shared(self) -> bool: ...
    @property
    def known_finite(self) -> bool: ...

    def samples(self, start: int, stop: int) -> FloatArray:
        """k of the copies start..stop-1, (stop - start, O, I, L)."""
        ...


@dataclass(frozen=True, slots=True)
class HeldKernel:
    """A kernel in memory, (K, O, I, L)."""

    values: FloatArray
    shared: bool = False
    known_finite: bool = False

    def samples(self, start: int, stop: int) -> FloatArray:
        """As `KernelSource`."""
        return self.values[start:stop]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSystem:
    """K independent copies of a linear layer with O outputs and I inputs, each with a kernel of L samples.

    Args:
        name, family, operating_point, assumptions, assumed: as for `StateSpace`.
        shape: (K, O, I, L).
        source: hands out the samples.
        D: (K, O, I) float64, the skip connection.
        first_lag: the lag of the first sample; negative for kernels that look ahead.
        chosen: numbers of the copies in the source; None for all.
        no_poles: why statistics of poles have no value.

    Raises:
        LayerError: the shapes of the arrays contradict each other, an axis is empty, or one copy has more than MOST_SAMPLES.
    """

    name: str
    family: str
    shape: tuple[int, int, int, int]
    source: KernelSource
    D: FloatArray
    first_lag: int = 0
    operating_point: str | None = None
    assumptions: tuple[str, ...] = field(default=())
    assumed: tuple[Assumed, ...] = field(default=())
    chosen: Numbers | None = None
    no_poles: str = NO_POLES
    modes: ClassVar[int] = 0
    rank: ClassVar[int] = 0
    has_step: ClassVar[bool] = False
    sobolev: ClassVar[None] = None
    decay_gate: ClassVar[bool] = False
    sized_in: ClassVar[str] = "samples"
    zeros: ClassVar[str] = "a kernel of zeros"

    def __post_init__(self) -> None:
        if not all(self.shape):
            raise LayerError(f"layer {self.name}: a kernel of shape {self.shape}; expected at least one copy, output, input and sample")
        if math.prod(self.shape[1:]) > MOST_SAMPLES:
            raise LayerError(
                f"layer {self.name}: {self.shape[1:]} outputs, inputs and samples; expected at most {MOST_SAMPLES} of one copy"
            )
        if self.D.shape != self.shape[:3]:
            raise LayerError(f"layer {self.name}: D has shape {self.D.shape}, expected {self.shape[:3]} to fit a kernel of {self.shape}")

    @property
    def copies(self) -> int:
        return self.shape[0]

    @property
    def outputs(self) -> int:
        return self.shape[1]

    @property
    def inputs(self) -> int:
        return self.shape[2]

    @property
    def length(self) -> int:
        """L, samples of one kernel."""
        return self.shape[3]

    @property
    def earliest_lag(self) -> int:
        return min(0, self.first_lag)

    @property
    def step(self) -> FloatArray:
        return np.ones((self.copies, 1))

    @property
    def shape_text(self) -> str:
        return f"{self.copies} x {self.length} samples"

    @property
    def form(self) -> dict[str, Any]:
        return {"length": self.length, "first_lag": self.first_lag}

    @property
    def lags(self) -> Numbers:
        """The lag of every sample, (L,)."""
        return np.arange(self.first_lag, self.first_lag + self.length)

    # these methods are those of `ssmspec.systems.system.System`

    def copy_slice(self, start: int, stop: int) -> "KernelSystem":
        return self.pick(slice(start, stop))

    def pick(self, copies: Any) -> "KernelSystem":
        own = np.arange(self.copies) if self.chosen is None else self.chosen
        return replace(self, chosen=own[copies], D=self.D[copies], shape=(len(own[copies]), *self.shape[1:]))

    def blocks(self) -> Iterator[tuple[slice, FloatArray]]:
        """All kernels, a few copies at a time: their place and their samples (k, O, I, L)."""
        own = np.arange(self.copies) if self.chosen is None else self.chosen
        each = max(1, self.outputs * self.inputs * self.length)
        together = max(1, (GENERATED_AT_ONCE if self.source.shared else NUMBERS_AT_ONCE) // each)
        count = max(1, NUMBERS_AT_ONCE // each)
        for first, last in _runs(own, together):
            samples = self.source.samples(int(own[first]), int(own[last - 1]) + 1)
            for start in range(first, last, count):
                stop = min(start + count, last)
                yield slice(start, stop), samples[start - first : stop - first]

    def response(self, grid: FrequencyGrid, cauchy_sum: CauchySum | None = None, *, with_beta: bool = True) -> FrequencyResponse:
        """H(theta) = D + sum_j k[j] e^(-i theta (first_lag + j)) of every copy on a grid of theta; it needs no engine and has no beta.

        Raises:
            LayerError: the axis omega, which needs continuous time; or a result of more than MOST_BYTES.
        """
        if grid.axis == "omega":
            raise LayerError(f"layer {self.name} ({self.family}) exists only in discrete time; use the axis theta")
        self._check_size(grid.values.size, 16, "frequencies")
        dynamic = np.empty((*self.shape[:3], grid.values.size), complex)
        turn = np.exp(-1j * np.abs(grid.values) * self.first_lag)
        for place, samples in self.blocks():
            sums = SampledSums(samples.reshape(-1, self.length)).at(np.abs(grid.values)) * turn
            dynamic[place] = np.where(grid.values < 0, sums.conj(), sums).reshape(dynamic[place].shape)
        return FrequencyResponse(dynamic, self.D, grid)

    def impulse(self, length: int) -> FloatArray:
        """The kernel, (K, O, I, length), without D: from lag 0, or from `first_lag` where that is negative; zero where it has ended.

        Raises:
            LayerError: the length is below 1, or the kernel would take more than MOST_BYTES.
        """
        if length < 1:
            raise LayerError(f"a kernel of length {length} was requested; expected at least 1")
        self._check_size(length, 8, "samples")
        kernel = np.zeros((*self.shape[:3], length))
        start = max(0, self.first_lag)
        kept = min(self.length, max(0, length - start))
        for place, samples in self.blocks() if kept else ():
            kernel[place][..., start : start + kept] = samples[..., :kept]
        return kernel

    def acting(self) -> npt.NDArray[np.bool_]:
        return np.concatenate([samples.any(axis=3) for _, samples in self.blocks()])

    def not_finite(self) -> dict[str, tuple[npt.NDArray[np.intp], int]]:
        found = np.zeros(self.copies, np.intp)
        for place, samples in () if self.source.known_finite else self.blocks():
            found[place] = (~np.isfinite(samples)).sum(axis=(1, 2, 3))
        return {"the kernel": (found, math.prod(self.shape)), "D": ((~np.isfinite(self.D)).sum(axis=(1, 2)), self.D.size)}

    def state_space(self) -> StateSpace:
        raise LayerError(f"layer {self.name} ({self.family}) cannot be used here: {self.no_poles}; choose another layer")

    def export(self) -> tuple[dict[str, FloatArray], dict[str, Any], list[str]]:
        kernel = self.impulse(self.length + max(0, self.first_lag))
        notes = [f"{self.no_poles}, so the file has its samples instead of state matrices"]
        return {"kernel": kernel, "D": self.D}, {"first_lag": self.earliest_lag}, notes

    def detached(self, copy: int) -> "KernelSystem":
        part = self.pick([copy])
        return replace(part, source=HeldKernel(np.concatenate([samples.copy() for _, samples in part.blocks()])), chosen=None)

    def energy(self) -> FloatArray:
        """sum_j |k[j]|^2 of every copy (Frobenius norm), (K,): the mean of |H|^2 over the circle, without D."""
        found = np.empty(self.copies)
        for place, samples in self.blocks():
            found[place] = (samples**2).sum(axis=(1, 2, 3))
        return found

    def _check_size(self, count: int, itemsize: int, what: str) -> None:
        each = self.copies * self.outputs * self.inputs * itemsize
        if each * count > MOST_BYTES:
            raise LayerError(
                f"layer {self.name}: {count} {what} of {self.copies} x {self.outputs} x {self.inputs} systems take "
                f"{each * count / 2**30:.4g} GiB; ask for at most {MOST_BYTES // each} ({MOST_BYTES / 2**30:g} GiB)"
            )


def _runs(numbers: Numbers, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of positions whose numbers follow one another, at most so many in one."""
    first = 0
    for last in range(1, len(numbers) + 1):
        if last == len(numbers) or last - first == most or numbers[last] != numbers[last - 1] + 1:
            yield first, last
            first = last
