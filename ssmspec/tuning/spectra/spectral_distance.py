"""Distance of a layer's spectrum from an estimate, in dB, with its gradient. Ours, because the loss of arXiv 2509.20789 was not available.

    d_j = 10 log10 (P_j + floor_j)/(S_j + floor_j)  [dB],    P and S both with mean 1 over the bins

P is the mean over copies of |H_k|^2, smoothed by a window as wide as the Hann window of S. The floor keeps values that the estimate cannot
distinguish from zero out of the logarithm.
"""

from dataclasses import dataclass

import numpy as np

from ssmspec.systems.statespace import FloatArray
from ssmspec.tuning.spectra.estimate import Spectrum

BAND_SHARE = 0.95  # share of the power in the band
OUTSIDE = 0.02  # smallest weight of a bin outside the band, relative to 1 inside; ours
DECIBEL = 10 / np.log(10)


@dataclass(frozen=True, slots=True)
class Distance:
    """Log-spectral distances, root mean square over bins [dB].

    Args:
        band: over the fewest bins that contain 95 % of the power of the data. outside: over all other bins; 0 if there are none.
    """

    band: float
    outside: float


@dataclass(frozen=True, slots=True)
class Target:
    """The target that a layer is compared with.

    Args:
        spectrum: the estimate S. band: (F,) bool, the fewest bins that contain 95 % of its power.
    """

    spectrum: Spectrum
    band: np.ndarray

    @classmethod
    def of(cls, spectrum: Spectrum) -> "Target":
        """The target defined by an estimate."""
        order = np.argsort(spectrum.power)[::-1]
        carried = np.cumsum(spectrum.power[order])
        band = np.zeros(len(order), bool)
        band[order[: np.searchsorted(carried, BAND_SHARE * carried[-1]) + 1]] = True
        return cls(spectrum, band)

    @property
    def eta(self) -> float:
        """Width of the window of `layer_power` [rad/sample]: its variance 2 eta^2 is that of a Hann window, a third of a squared bin."""
        return float(2 * np.pi / self.spectrum.segment / np.sqrt(6))

    @property
    def weights(self) -> FloatArray:
        """Weights (F,) of the squares of d in the loss; their sum is 1.

        Outside the band they decrease with the squared power, starting from that of the weakest bin inside. A layer therefore cannot gain
        by hiding power next to the band, and gains little by following a spectrum down to where there is no power.
        """
        power = self.spectrum.power
        weights = np.where(self.band, 1.0, np.maximum((power / power[self.band].min()) ** 2, OUTSIDE))
        return weights / weights.sum()

    def loss(self, power: FloatArray) -> tuple[float, FloatArray, Distance]:
        """Weighted mean of d^2 [dB^2], its gradient (F,) with respect to the power (F,) of a layer, and the distances."""
        level = power.mean()
        P = power / level
        d = self._difference(P)
        of_P = 2 * DECIBEL * self.weights * d / (P + self.spectrum.floor)
        return float((self.weights * d**2).sum()), (of_P - (of_P * P).mean()) / level, self._distance(d)

    def _difference(self, P: FloatArray) -> FloatArray:
        floor = self.spectrum.floor
        return DECIBEL * np.log((P + floor) / (self.spectrum.power + floor))

    def _distance(self, d: FloatArray) -> Distance:
        return Distance(_root_mean_square(d[self.band]), _root_mean_square(d[~self.band]))

    @property
    def spread(self) -> float:
        """The distance [dB] in the band that is expected by chance: root mean square of the standard error."""
        return _root_mean_square(self.spectrum.standard_error_db[self.band])


def _root_mean_square(values: FloatArray) -> float:
    return float(np.sqrt((values**2).mean())) if values.size else 0.0
