"""The spectrum of a layer of any kind, from which statistics and figures are computed."""

from ssmspec.backends import CauchySum
from ssmspec.statistics.explicit import KernelSpectrum
from ssmspec.statistics.spectrum import LayerSpectrum
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.kernel import KernelSystem
from ssmspec.systems.system import System

Spectrum = LayerSpectrum | KernelSpectrum


def spectrum_of(system: System, grid: FrequencyGrid, cauchy_sum: CauchySum, *, with_skip: bool = False) -> Spectrum:
    """See `LayerSpectrum`; an explicit kernel needs no engine."""
    if isinstance(system, KernelSystem):
        return KernelSpectrum(system, grid, cauchy_sum, with_skip=with_skip)
    return LayerSpectrum(system, grid, cauchy_sum, with_skip=with_skip)
