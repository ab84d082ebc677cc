"""Pictures of a probe: S of models and their blocks, what features carry, robustness by band, and S above the responses of layers."""

from collections.abc import Sequence
from typing import TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from ssmspec.report.figures.panels import Drawn, Given, panels
from ssmspec.report.figures.style import (
    COLOR_MAP,
    NYQUIST,
    THETA,
    FrequencyAxis,
    draw_nyquist,
    frequency_scale,
    light_grid,
    list_height,
    name_rows,
    short_name,
)
from ssmspec.statistics import LayerAnalysis
from ssmspec.statistics.frequency_sensitivity import PER_OCTAVE, FeatureSpectrum, FrequencySensitivity, Probed, Robustness
from ssmspec.systems.grid import FloatArray

T = TypeVar("T")

UNSURE = "0.93"
MOST_CURVES = 12  # places or layers drawn as curves; of more, evenly spaced ones
DEEPEST = 1e-12  # of the largest S: where its axis ends at the latest


def sensitivity_figure(models: Sequence[tuple[str, Probed]], axis: FrequencyAxis, title: str, *, ax: Given = None) -> Drawn:
    """S over theta as means over half-octave bands with their standard errors.

    One model: a curve per place, the input and the blocks. Several: a curve per model, from its input.

    Args:
        models: each with its label. ax: None, or one Axes.
    """
    shown = panels(ax, width=7.5, height=4.8)
    axes = shown.axes[0]
    if len(models) == 1:
        curves = [(short_name(place.name), place) for place in _some(models[0][1].places)]
    else:
        curves = [(short_name(label), found.places[0]) for label, found in models if found.places]
    _draw_places(axes, curves, axis)
    axes.set_xlabel(axis.label)
    shown.head(title, f"frequency sensitivity S({THETA}), means over half octaves with standard errors")
    shown.legend(columns=3)
    return shown.drawn


def _some(items: Sequence[T]) -> list[T]:
    """At most MOST_CURVES items, evenly spaced."""
    return [items[place] for place in np.unique(np.linspace(0, len(items) - 1, min(len(items), MOST_CURVES)).round().astype(int)).tolist()]


def _draw_places(axes: Axes, curves: Sequence[tuple[str, FrequencySensitivity]], axis: FrequencyAxis) -> None:
    shades = mpl.colormaps[COLOR_MAP](np.linspace(0, 0.85, max(1, len(curves))))
    highest = 0.0
    for (label, place), shade in zip(curves, shades, strict=True):
        bands = [band for band in place.bands(PER_OCTAVE) if band.low > 0 and band.mean > 0]
        x = axis.values(np.array([band.center for band in bands]))
        y = np.array([band.mean for band in bands])
        errors = np.array([band.error or 0.0 for band in bands])
        axes.plot(
            axis.values(place.theta[1:]), np.where(place.curve[1:] > 0, place.curve[1:], np.nan), color=shade, linewidth=0.4, alpha=0.5
        )
        axes.errorbar(x, y, yerr=np.minimum(errors, 0.99 * y), color=shade, linewidth=1.5, marker="o", markersize=3, capsize=2, label=label)
        highest = max(highest, float(place.curve.max(initial=0.0)))
    longest = min((place.resolved_from for _, place in curves), default=0.0)
    axes.axvspan(0, axis.value(longest), color=UNSURE, zorder=0, label="unresolved")
    draw_nyquist(axes, axis.value(np.pi))
    frequency_scale(axes)
    if highest > 0:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, highest * DEEPEST), high)
    axes.set_ylabel(r"S [output$^2$/input$^2$]")
    light_grid(axes)


def features_figure(found: Sequence[FeatureSpectrum], title: str, *, ax: Given = None) -> Drawn:
    """Relative log amplitude of what every block gives, from the first to the last, as in arXiv 2202.06709.

    Args:
        ax: None, or one Axes.
    """
    shown = panels(ax, width=7.0, height=4.4)
    axes = shown.axes[0]
    shades = mpl.colormaps[COLOR_MAP](np.linspace(0, 0.85, len(found)))
    for place, (each, shade) in enumerate(zip(found, shades, strict=True)):
        ends = place in (0, len(found) - 1) or len(found) <= MOST_CURVES
        axes.plot(each.theta / np.pi, each.relative, color=shade, linewidth=1.2, label=short_name(each.name) if ends else None)
        if each.error is not None:
            axes.fill_between(
                each.theta / np.pi, each.relative - each.error, each.relative + each.error, color=shade, alpha=0.15, linewidth=0
            )
    axes.set_xlabel(rf"{THETA}/$\pi$")
    axes.set_ylabel(r"$\Delta$ log amplitude [nats]")
    light_grid(axes)
    shown.head(title, f"relative log amplitude of what the blocks give, over {_over(found)}")
    shown.legend(columns=3)
    return shown.drawn


def _over(found: Sequence[FeatureSpectrum]) -> str:
    return "time" if found[0].axes == "L" else "height and width"


def depth_figure(found: Sequence[FeatureSpectrum], title: str, *, ax: Given = None) -> Drawn:
    """The same as a heat map over depth; of blocks with another number of frequencies, the values are interpolated.

    Args:
        ax: None, or one Axes.
    """
    shown = panels(ax, width=7.5, height=list_height(len(found)) + 0.2, listing=True)
    axes = shown.axes[0]
    theta = max((each.theta for each in found), key=len)
    rows = np.array([np.interp(theta, each.theta, each.relative) for each in found])
    edges = np.concatenate([[theta[0]], (theta[1:] + theta[:-1]) / 2, [theta[-1]]]) / np.pi
    mesh = axes.pcolormesh(edges, np.arange(len(found) + 1), rows, cmap=COLOR_MAP, rasterized=True)
    name_rows(axes, [each.name for each in found])
    axes.set_xlabel(rf"{THETA}/$\pi$")
    axes.set_ylabel("block")
    axes.figure.colorbar(mesh, ax=axes, label=r"$\Delta$ log amplitude [nats]")
    shown.head(title, f"relative log amplitude over depth, over {_over(found)}")
    return shown.drawn


def robustness_figure(found: Robustness, place: FrequencySensitivity | None, title: str, *, ax: Given = None) -> Drawn:
    """The metric under a disturbance of every band, one curve per level, with the clean value; below it S in the same bands.

    Args:
        place: S from the input; None leaves the lower panel out. ax: None, or as many Axes.
    """
    shown = panels(ax, 1 if place is None else 2, width=7.0, height=4.2 if place is None else 6.4)
    axes = shown.axes[0]
    levels = sorted({effect.level for effect in found.effects}, reverse=True)
    shades = mpl.colormaps[COLOR_MAP](np.linspace(0, 0.85, len(levels)))
    for level, shade in zip(levels, shades, strict=True):
        effects = [effect for effect in found.effects if effect.level == level]
        x = [np.sqrt(effect.low * effect.high) for effect in effects]
        spread = [effect.spread or 0.0 for effect in effects]
        axes.errorbar(x, [e.mean for e in effects], yerr=spread, color=shade, marker="o", markersize=3, capsize=2, label=f"{level:g} dB")
    axes.axhline(found.clean, color=NYQUIST, linestyle="--", linewidth=1, label="clean")
    frequency_scale(axes)
    axes.set_ylabel(found.metric)
    light_grid(axes)
    if place is not None:
        _draw_places(shown.axes[1], [("S", place)], FrequencyAxis())
        shown.axes[1].set_xlim(axes.get_xlim())
    shown.axes[-1].set_xlabel(FrequencyAxis().label)
    shown.head(title, f"{found.metric} under {found.kind} of equal energy in each band (bars: deviation over seeds)")
    shown.legend()
    return shown.drawn


def layers_figure(found: Probed, layers: Sequence[LayerAnalysis], theta: FloatArray, title: str, *, ax: Given = None) -> Drawn:
    """S of the whole model, and under it the median |H| of its layers, on one frequency axis.

    Args:
        layers: of `analyze`, with curves. theta: (F,) of the curves. ax: None, or two Axes.
    """
    shown = panels(ax, 2, width=7.0, height=6.6)
    above, below = shown.axes
    _draw_places(above, [("S of the model", found.places[0])], FrequencyAxis())
    chosen = _some([layer for layer in layers if layer.curve is not None])
    for layer, shade in zip(chosen, mpl.colormaps[COLOR_MAP](np.linspace(0, 0.85, len(chosen))), strict=True):
        assert layer.curve is not None
        below.plot(theta, layer.curve.median, color=shade, linewidth=1.2, label=f"|H| {short_name(layer.name, 24)}")
    draw_nyquist(below, np.pi)
    frequency_scale(below)
    below.set_yscale("log")
    for axes in (above, below):
        axes.set_xlim(found.places[0].theta[1], np.pi * 1.05)
    below.set_ylabel("median $|H|$ [output/input]")
    below.set_xlabel(FrequencyAxis().label)
    light_grid(below)
    shown.head(title, "what the model hears, and what its layers pass")
    shown.legend(columns=3)
    return shown.drawn
