"""Statistics of a layer. To add one, write a function of `LayerSpectrum` and add one line here; all outputs and comparisons include it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ssmspec.statistics.bands import (
    centroid,
    energy_delay,
    hankel_norm,
    hankel_order,
    length_99,
    low_frequency_share,
    peak_frequency,
    peak_gain,
    rolloff_95,
    variation,
    variation_beyond_nyquist,
)
from ssmspec.statistics.bias import bias_slope, center_frequency, spectral_slope
from ssmspec.statistics.explicit import KernelSpectrum
from ssmspec.statistics.memory import memory_notes
from ssmspec.statistics.poles import aliased_share, alpha_hat, alpha_residual, half_life, memory_shares, time_constant
from ssmspec.statistics.results import CheckpointAnalysis, Curve, LayerAnalysis, Measurement, Skipped, TokenBand
from ssmspec.statistics.rounding import steady, without
from ssmspec.statistics.spectra import Spectrum, spectrum_of
from ssmspec.statistics.spectrum import LayerSpectrum
from ssmspec.statistics.values import Summary, Values, summarize, unavailable

Axis = Literal["theta", "omega", "samples", "modes"]


@dataclass(frozen=True, slots=True)
class Statistic:
    """A scalar per copy.

    Args:
        name: key in table, JSON and CSV.
        unit: unit of the value; "" for a pure number.
        axis: what it is measured on: theta, omega, time in samples, or the modes of the state.
        formula: the definition in one line; H is the dynamic part, E(theta_c) its energy up to theta_c.
        source: paper and section, or the field where the definition is customary.
        function: computes the statistic.
        headline: whether it is shown in the table.
        absolute: whether its error is judged as an absolute error, because it may be zero; otherwise relative (`rounding.ERROR`).
        judged_by: quantities that must not change when the layer changes in its last digits; if empty, the value itself.
        needs_poles: whether its definition needs poles, so that an explicit kernel lacks it.
    """

    name: str
    unit: str
    axis: Axis
    formula: str
    source: str
    function: Callable[[Any], Values]
    headline: bool = False
    absolute: bool = False
    judged_by: tuple[Callable[[Any], Values], ...] = ()
    needs_poles: bool = False

    def of(self, spectrum: Spectrum) -> Values:
        """The values of all copies; NaN also where the value is determined by rounding alone, or where the layer lacks what it needs."""
        if self.needs_poles and spectrum.system.no_poles:
            return Values(np.full(spectrum.system.copies, np.nan), spectrum.system.no_poles)
        values = self.function(spectrum)
        copies, others = spectrum.shaken
        if not others or not np.isfinite(values.values[copies]).any():
            return values
        known = np.ones(len(copies), bool)
        for judge in self.judged_by or (self.function,):
            found = judge(spectrum).values[copies]
            known &= steady(found, [judge(other).values for other in others], absolute=self.absolute)
        return without(values, copies, known)


_TUNING = "arXiv 2410.02035 (Tuning Frequency Bias of SSMs)"
_AUDIO = "customary audio feature, on |H|^2"
_CONTROL = "Zhou, Doyle & Glover, Robust and Optimal Control (1996)"
_SLOPE = "decades/decade"

STATISTICS: dict[str, Statistic] = {
    statistic.name: statistic
    for statistic in (
        Statistic(
            "bias_slope",
            _SLOPE,
            "theta",
            "slope of log10 K over log10 theta",
            f"{_TUNING}, section 3: size of dG/da",
            bias_slope,
            True,
            True,
            needs_poles=True,
        ),
        Statistic(
            "center_frequency",
            "rad/sample",
            "theta",
            "half of sum |H| on the log grid lies below",
            "median of |H|",
            center_frequency,
            True,
        ),
        Statistic("low_frequency_share", "", "theta", "E(pi/4)/E(pi)", "energy in a band", low_frequency_share),
        Statistic("centroid", "rad/sample", "theta", "int theta |H|^2 / int |H|^2", _AUDIO, centroid),
        Statistic("rolloff_95", "rad/sample", "theta", "E(theta) = 0.95 E(pi)", _AUDIO, rolloff_95),
        Statistic(
            "spectral_slope",
            _SLOPE,
            "theta",
            "slope of log10 |H|^2 over log10 theta",
            "log-log least squares",
            spectral_slope,
            absolute=True,
        ),
        Statistic("total_variation", "", "theta", "int_0^pi |dH/d theta| d theta", f"{_TUNING}, section 3", variation),
        Statistic(
            "total_variation_bound",
            "",
            "omega",
            "bound of int_B^inf |dG/d omega| d omega, B = pi/step",
            f"{_TUNING}, section 3",
            variation_beyond_nyquist,
            needs_poles=True,
        ),
        Statistic("peak_gain", "", "theta", "max over theta of the largest singular value of H", f"{_CONTROL}, section 4.3", peak_gain),
        Statistic(
            "peak_frequency",
            "rad/sample",
            "theta",
            "theta of peak_gain",
            f"{_CONTROL}, section 4.3",
            peak_frequency,
            judged_by=(peak_gain,),
        ),
        Statistic(
            "aliased_share", "", "theta", "share of poles with |Im a| step > pi", f"{_TUNING}, section 4.1", aliased_share, needs_poles=True
        ),
        Statistic("time_constant", "samples", "samples", "-1/log|z| of the slowest pole", "customary", time_constant, needs_poles=True),
        Statistic("half_life", "samples", "samples", "ln 2 times time_constant", "customary", half_life, needs_poles=True),
        Statistic(
            "alpha_hat",
            "",
            "omega",
            "least squares of sorted Im a_n = alpha pi n",
            f"{_TUNING}, section 4.1; arXiv 2206.11893",
            alpha_hat,
            needs_poles=True,
        ),
        Statistic(
            "alpha_residual",
            "",
            "omega",
            "relative residual of alpha_hat",
            f"{_TUNING}, section 4.1",
            alpha_residual,
            absolute=True,
            needs_poles=True,
        ),
        Statistic("hankel_norm", "", "modes", "largest Hankel singular value", f"{_CONTROL}, section 8.1", hankel_norm),
        Statistic(
            "effective_order",
            "",
            "modes",
            "Hankel singular values above 1 % of the largest",
            f"{_CONTROL}, section 8.1",
            hankel_order,
            judged_by=(hankel_norm, hankel_order),
        ),
        Statistic(
            "energy_delay",
            "samples",
            "samples",
            "sum_l l |k[l]|^2 / sum_l |k[l]|^2",
            "Cohen, Time-Frequency Analysis (1995), chapter 1: mean time of a signal",
            energy_delay,
            absolute=True,
        ),
        Statistic(
            "length_99",
            "samples",
            "samples",
            "least L with 99 % of sum |k[l]|^2 at l < L",
            "customary, effective length of a filter",
            length_99,
        ),
    )
}


HEADLINES = tuple(name for name, statistic in STATISTICS.items() if statistic.headline)
"""The statistics that tables show."""
HALF_LIFE = "half_life"  # what they show of decay gates, whose poles are real, in place of a bias

__all__ = [
    "HALF_LIFE",
    "HEADLINES",
    "STATISTICS",
    "CheckpointAnalysis",
    "Curve",
    "KernelSpectrum",
    "LayerAnalysis",
    "LayerSpectrum",
    "Measurement",
    "Skipped",
    "Spectrum",
    "Statistic",
    "Summary",
    "TokenBand",
    "Values",
    "memory_notes",
    "memory_shares",
    "spectrum_of",
    "summarize",
    "unavailable",
]
