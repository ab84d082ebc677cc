"""The spectrum of a layer of any kind, from which statistics and figures are computed."""

from collections.abc import Callable

from ssmspec.backends import CauchySum
from ssmspec.statistics.explicit import KernelSpectrum
from ssmspec.statistics.spectrum import LayerSpectrum
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.system import System

Spectrum = LayerSpectrum | KernelSpectrum
"""What both answer is all that statistics, tables and pictures use: `magnitude` (the response on the grid), `band` and `energy_shares` (its
energy), `extent` (when the kernel acts), `hankel`, `hankel_missing`, `shaken` and `moved` (whose digits are lost), `notes` and `silent`;
`modal`, the poles, raises where `system.no_poles` says why."""


def spectrum_of(system: System, grid: FrequencyGrid, cauchy_sum: CauchySum, *, with_skip: bool = False) -> Spectrum:
    """See `LayerSpectrum`; an explicit kernel needs no engine."""
    made: Callable[..., Spectrum] = KernelSpectrum if system.no_poles else LayerSpectrum
    return made(system, grid, cauchy_sum, with_skip=with_skip)
