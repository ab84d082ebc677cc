"""Statistics of the kernel of a finite length, for layers whose poles do not decay: what the model computes on a sequence of L samples."""

from collections.abc import Callable

import numpy as np

from ssmspec.statistics.bias import center_of, log_slope
from ssmspec.statistics.values import Values
from ssmspec.systems.grid import FloatArray, FrequencyGrid
from ssmspec.systems.horizon import TruncatedEnergy, truncated_energy, truncated_response
from ssmspec.systems.statespace import StateSpace

CORNER = np.pi / 4
OUT_OF_RANGE = "the kernel leaves the range of double precision within the horizon"


class HorizonSpectrum:
    """The first L samples of a layer, on a grid.

    Args:
        system: a diagonal system with finite values; its poles may grow. length: L samples. with_skip: include D in |H|.
    """

    def __init__(self, system: StateSpace, grid: FrequencyGrid, length: int, *, with_skip: bool = False) -> None:
        self.system, self.grid, self.length = system, grid, length
        with np.errstate(all="ignore"):
            response = truncated_response(system, grid.values, length)
            if with_skip:
                response = response + system.D[..., None]
            magnitude = np.sqrt((response.real**2 + response.imag**2).sum(axis=(1, 2)))
        self.magnitude: FloatArray = np.where(np.isfinite(magnitude), magnitude, np.nan)
        self.energy: TruncatedEnergy = truncated_energy(system, length, CORNER)

    def statistic(self, name: str) -> Values:
        """The values of one statistic; none where it is not one of a finite kernel."""
        found = COMPUTED.get(name)
        if found is None:
            reason = f"poles that do not decay, so not a number of the kernel of {self.length} samples that is computed here (--horizon)"
            return Values(np.full(self.system.copies, np.nan), reason)
        with np.errstate(all="ignore"):
            return Values(found(self), OUT_OF_RANGE)

    def note(self, count: int) -> str:
        """What was cut, and the energy of what is left."""
        total = self.energy.total[np.isfinite(self.energy.total)]
        energy = f"; its energy has median {np.median(total):.3g}, {total.min():.3g}..{total.max():.3g}" if total.size else ""
        have = "copies has" if count == 1 else "copies have"
        return (
            f"{count} of {self.system.copies} {have} poles that do not decay: all numbers are those of the kernel of {self.length} "
            f"samples, as asked with --horizon, and energies are without D{energy}"
        )


COMPUTED: dict[str, Callable[[HorizonSpectrum], FloatArray]] = {
    "center_frequency": lambda spectrum: center_of(spectrum.grid.values, spectrum.magnitude),
    "low_frequency_share": lambda spectrum: spectrum.energy.low_share,
    "centroid": lambda spectrum: spectrum.energy.centroid,
    "spectral_slope": lambda spectrum: 2 * log_slope(spectrum.grid.values, spectrum.magnitude),
}
