"""The spectrum of the data, and the spectrum of a layer before and after it was matched."""

import numpy as np

from ssmspec.report.figures.panels import Drawn, Given, panels
from ssmspec.report.figures.style import BAND, LINE, MARK, THETA, FrequencyAxis, light_grid, short_name
from ssmspec.tuning.spectra.matching import Match


def matching_figure(match: Match, source: str, *, ax: Given = None) -> Drawn:
    """Power over theta in dB, each curve with mean 1: the estimate with its standard error, and the layer before and after.

    The bins of the band are shaded.
    """
    shown = panels(ax, width=8, height=4.4)
    (axes,) = shown.axes
    light_grid(axes)
    decibel = [10 * np.log10(np.maximum(values, 1e-12)) for values in (match.target, match.start, match.fitted)]
    half = (match.theta[-1] - match.theta[-2]) / 2
    bins = [(theta - half, 2 * half) for theta in match.theta[match.band]]
    across = axes.get_xaxis_transform()  # data across, axes up
    axes.broken_barh(bins, (0, 1), color="0.94", linewidth=0, transform=across, label="band with 95 % of the power")
    spread = (decibel[0] - match.error, decibel[0] + match.error)
    axes.fill_between(match.theta, *spread, color=BAND, linewidth=0, label="spread of the estimate")
    axes.plot(match.theta, decibel[0], color="0.25", linewidth=1, label=f"data: {short_name(source, 50)}")
    axes.plot(match.theta, decibel[1], color=MARK, linestyle="--", linewidth=1.3, label=f"layer before: {match.before.band:.3g} dB away")
    after = "unchanged" if match.declined else f"after: {match.after.band:.3g} dB away"
    axes.plot(match.theta, decibel[2], color=LINE, linewidth=1.5, label=f"layer {after}")
    axes.set_xscale("log")
    axes.set_ylim(max(decibel[0].min() - 20, -80), max(values.max() for values in decibel) + 5)
    axes.set_xlabel(FrequencyAxis().label)
    axes.set_ylabel(f"power, mean over {THETA} = 1 [dB]")
    axes.legend(loc="best")
    shown.head(match.system.name, f"{match.system.family}: mean |H|^2 over copies against the data")
    return shown.drawn
