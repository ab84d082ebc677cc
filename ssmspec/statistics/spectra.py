"""The spectrum of a layer of any kind, from which statistics and figures are computed."""

from collections.abc import Callable

from ssmspec.backends import CauchySum
from ssmspec.statistics.explicit import KernelSpectrum
from ssmspec.statistics.spectrum import LayerSpectrum
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.system import System

Spectrum = LayerSpectrum | KernelSpectrum


def spectrum_of(system: System, grid: FrequencyGrid, cauchy_sum: CauchySum, *, with_skip: bool = False) -> Spectrum:
    """See `LayerSpectrum`; an explicit kernel needs no engine."""
    made: Callable[..., Spectrum] = KernelSpectrum if system.no_poles else LayerSpectrum
    return made(system, grid, cauchy_sum, with_skip=with_skip)
