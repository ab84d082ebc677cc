"""Statistics of a layer. A new one is a function of `LayerSpectrum` and one line here; table, JSON, CSV and comparisons follow."""

from collections.abc import Callable
from dataclasses import dataclass

from ssmspec.statistics.bands import centroid, low_frequency_share, peak_frequency, peak_gain, rolloff_95
from ssmspec.statistics.bias import bias_slope, center_frequency, spectral_slope
from ssmspec.statistics.poles import aliased_share, alpha_hat, alpha_residual, half_life, time_constant
from ssmspec.statistics.results import CheckpointAnalysis, Curve, LayerAnalysis, Skipped
from ssmspec.statistics.spectrum import LayerSpectrum
from ssmspec.statistics.values import Summary, Values, summarize, unavailable


@dataclass(frozen=True, slots=True)
class Statistic:
    """A scalar per copy.

    Args:
        name: key in table, JSON and CSV.
        unit: of the value; "" for a pure number.
        source: paper and section, or the reason for the definition.
        function: the definition itself, with its formula in the docstring.
        headline: shown in the table.
    """

    name: str
    unit: str
    source: str
    function: Callable[[LayerSpectrum], Values]
    headline: bool = False


_TUNING = "arXiv 2410.02035 (Tuning Frequency Bias of SSMs)"
_AUDIO = "standard spectral feature, on |H|^2"

STATISTICS: dict[str, Statistic] = {
    statistic.name: statistic
    for statistic in (
        Statistic("bias_slope", "decades/decade", f"{_TUNING}, section 3: size of dG/da", bias_slope, headline=True),
        Statistic("center_frequency", "rad/sample", "median of |H| on a log axis", center_frequency, headline=True),
        Statistic("low_frequency_share", "", "energy below pi/4 rad/sample over all energy", low_frequency_share),
        Statistic("centroid", "rad/sample", _AUDIO, centroid),
        Statistic("rolloff_95", "rad/sample", _AUDIO, rolloff_95),
        Statistic("spectral_slope", "decades/decade", "log-log least squares on |H|^2", spectral_slope),
        Statistic("peak_gain", "", "H-infinity norm", peak_gain),
        Statistic("peak_frequency", "rad/sample", "where the H-infinity norm is reached", peak_frequency),
        Statistic("aliased_share", "", f"{_TUNING}, section 4.1: poles beyond Nyquist", aliased_share),
        Statistic("time_constant", "samples", "slowest pole, -1/log|z|", time_constant),
        Statistic("half_life", "samples", "ln 2 times the time constant", half_life),
        Statistic("alpha_hat", "", f"{_TUNING}, section 4.1, fitted to S4D-Lin (arXiv 2206.11893)", alpha_hat),
        Statistic("alpha_residual", "", "relative residual of the fit of alpha_hat", alpha_residual),
    )
}

__all__ = [
    "STATISTICS",
    "CheckpointAnalysis",
    "Curve",
    "LayerAnalysis",
    "LayerSpectrum",
    "Skipped",
    "Statistic",
    "Summary",
    "Values",
    "summarize",
    "unavailable",
]
