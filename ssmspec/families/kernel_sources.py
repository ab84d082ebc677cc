"""What families of explicit kernels share: sources that read stored samples in blocks, and two-sided kernels.

A two-sided kernel is stored as two causal ones: sample l of the first acts at lag l, sample j of the second at lag -(1 + j).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ssmspec.families.configuration import NESTED, number_of, places
from ssmspec.families.template import LayerTensors
from ssmspec.systems.kernel import KernelSource, KernelSystem
from ssmspec.systems.statespace import FloatArray

FIXED = "it is an explicit kernel, without poles, steps or residues that could be changed"
PLACES = (*NESTED, "model", "layer", "mixer", "kernel", "hyena", "filter", "filter_args", "kernel_args", "long_conv", "long_conv_args")
"""Tables of a configuration that may describe the layers of a model with long convolutions."""


@dataclass(frozen=True, slots=True)
class StoredKernel:
    """Samples that a tensor holds, (..., L) with one row per channel or group.

    Args:
        layer, role: the tensor. length: L.
        repeated: channels that share one row, one after the other.
        reversed: whether the last sample comes first, as in a convolution of torch.
        change: applied to the stored numbers.
        first: number of the first row.
    """

    layer: LayerTensors
    role: str
    length: int
    repeated: int = 1
    reversed: bool = False
    change: Callable[[FloatArray], FloatArray] | None = None
    first: int = 0
    shared: bool = False
    known_finite: bool = False

    def samples(self, start: int, stop: int) -> FloatArray:
        """As `KernelSource`: (stop - start, 1, 1, L)."""
        low, high = start // self.repeated, (stop - 1) // self.repeated + 1
        begin = self.first * self.length
        values = self.layer.flat(self.role, begin + low * self.length, begin + high * self.length).reshape(high - low, self.length)
        values = values if self.change is None else self.change(values)
        rows = np.arange(start, stop) // self.repeated - low
        return (values[:, ::-1] if self.reversed else values)[rows, None, None, :]


@dataclass(frozen=True, slots=True)
class TwoSidedKernel:
    """A kernel that looks ahead, from two causal ones of L samples each; the first of its 2 L samples has lag -L."""

    ahead: KernelSource
    causal: KernelSource

    @property
    def shared(self) -> bool:
        return self.causal.shared

    @property
    def known_finite(self) -> bool:
        return self.causal.known_finite and self.ahead.known_finite

    def samples(self, start: int, stop: int) -> FloatArray:
        """As `KernelSource`."""
        return np.concatenate([self.ahead.samples(start, stop)[..., ::-1], self.causal.samples(start, stop)], axis=-1)


@dataclass(frozen=True, slots=True)
class Combined:
    """The product or the sum of two kernels of the same shape."""

    first: KernelSource
    second: KernelSource
    combine: Callable[[FloatArray, FloatArray], FloatArray]

    @property
    def shared(self) -> bool:
        return self.first.shared or self.second.shared

    @property
    def known_finite(self) -> bool:
        return False

    def samples(self, start: int, stop: int) -> FloatArray:
        """As `KernelSource`."""
        return self.combine(self.first.samples(start, stop), self.second.samples(start, stop))


@dataclass(frozen=True, slots=True)
class Cut:
    """The first samples of a kernel."""

    source: KernelSource
    length: int

    @property
    def shared(self) -> bool:
        return self.source.shared

    @property
    def known_finite(self) -> bool:
        return self.source.known_finite

    def samples(self, start: int, stop: int) -> FloatArray:
        """As `KernelSource`."""
        return self.source.samples(start, stop)[..., : self.length]


def explicit(
    layer: LayerTensors, source: KernelSource, length: int, D: FloatArray, *said: str, ahead: KernelSource | None = None
) -> list[KernelSystem]:
    """The one system of a layer: L samples, D with one value per copy or (K, O, I), and what is assumed; `ahead` acts on later inputs."""
    D = D if D.ndim == 3 else D.reshape(-1, 1, 1)
    if ahead is not None:
        source, said = TwoSidedKernel(ahead, source), (*said, "two directions: the kernel looks ahead")
    return [
        KernelSystem(
            name=layer.name,
            family=layer.family,
            shape=(D.shape[0], D.shape[1], D.shape[2], length if ahead is None else 2 * length),
            source=source,
            D=D,
            first_lag=0 if ahead is None else -length,
            assumptions=said,
        )
    ]


def number_in(config: Mapping[str, object], *keys: str) -> tuple[float, str] | None:
    """The first finite number under one of these keys in a table that may describe layers, and where it was found."""
    for prefix, place in places(config, PLACES):
        for key in keys:
            found = number_of(place.get(key))
            if found is not None and np.isfinite(found):
                return found, f"{prefix}{key} of the configuration"
    return None


def truth_in(config: Mapping[str, object], key: str) -> tuple[bool, str] | None:
    """The same for true and false."""
    for prefix, place in places(config, PLACES):
        found = place.get(key)
        if isinstance(found, bool):
            return found, f"{prefix}{key} of the configuration"
    return None
