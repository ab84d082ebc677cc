"""Figures that show one layer: energy, sensitivity, Hankel singular values, and the spectrum of its kernel."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ssmspec.report.figures.style import (
    COLOR_MAP,
    LABEL,
    LINE,
    MARK,
    FrequencyAxis,
    Layers,
    draw_curve,
    draw_nyquist,
    frequency_scale,
    head,
    layer_title,
    legend_below,
    light_grid,
    log_scale,
    new_figure,
)
from ssmspec.statistics import STATISTICS, LayerSpectrum, summarize
from ssmspec.statistics.curves import cumulative_energy, kernel_quantiles, normalized_hankel, over_copies, trusted_sensitivity
from ssmspec.statistics.hankel import COUNTED

ENERGY_POINTS = 256  # points of the grid at which E is evaluated
ROUNDING = 1e-8  # relative to the largest Hankel singular value: values below it are rounding errors
DEEPEST = 1e-12  # relative to the largest eigenvalue: the bottom of the quantile plot
LINES = ("-", "--", "-.", ":")


def _single(layers: Layers, title: str, width: float = 7.0, height: float = 4.8) -> tuple[LayerSpectrum, Figure, Axes]:
    """The one layer, and a figure and axes with its name as title."""
    (layer,) = layers
    figure = new_figure(width, height)
    head(figure, title, layer_title(layer))
    return layer, figure, figure.add_subplot()


def _median(layer: LayerSpectrum, name: str) -> float | None:
    return summarize(STATISTICS[name].of(layer), "").median


def energy_figure(layers: Layers, axis: FrequencyAxis, title: str) -> Figure:
    """E(theta)/E(pi) over theta, with the corner theta_c of low_frequency_share and the 95 % roll-off."""
    layer, figure, axes = _single(layers, title)
    values = layer.grid.values
    theta = values[np.unique(np.linspace(0, len(values) - 1, min(len(values), ENERGY_POINTS)).round().astype(int))]
    draw_curve(axes, axis.values(theta), over_copies(cumulative_energy(layer, theta)), "E(theta)/E(pi)")
    median = "median " if layer.system.copies > 1 else ""
    low, rolloff = _median(layer, "low_frequency_share"), _median(layer, "rolloff_95")
    if low is not None:
        corner = axis.value(layer.corner)
        axes.axvline(
            corner, color=LINE, linestyle=":", linewidth=1.2, label=f"theta_c = {corner:.3g} {axis.unit}, {median}share {low:.3g} below"
        )
        axes.plot(corner, low, "o", color=LINE, markersize=5)
    if rolloff is not None:
        at = axis.value(rolloff)
        axes.axvline(at, color=MARK, linestyle="-.", linewidth=1.2, label=f"{median}95 % roll-off at {at:.3g} {axis.unit}")
        axes.plot(at, 0.95, "s", color=MARK, markersize=5)
    draw_nyquist(axes, axis.value(np.pi))
    frequency_scale(axes)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel(axis.label)
    axes.set_ylabel("E(theta)/E(pi), share of energy")
    axes.set_title(f"energy below a frequency{', with D' if layer.with_skip else ''}", fontsize=LABEL)
    light_grid(axes)
    legend_below(figure, axes, 2)
    return figure


def sensitivity_figure(layers: Layers, axis: FrequencyAxis, title: str) -> Figure:
    """K(theta), and the straight line whose slope is bias_slope."""
    layer, figure, axes = _single(layers, title)
    theta = layer.grid.values
    curve = over_copies(trusted_sensitivity(layer))
    draw_curve(axes, axis.values(theta), curve, "K(theta)")
    slope = _median(layer, "bias_slope")
    if slope is not None:
        centered = np.log(theta) - np.log(theta).mean()
        line = np.exp(np.log(curve.median).mean() + slope * centered)
        name = "median bias_slope" if curve.p5 is not None else "bias_slope"
        axes.plot(axis.values(theta), line, color=MARK, linestyle="--", linewidth=1.5, label=f"{name} {slope:.3g} decades/decade")
    frequency_scale(axes)
    log_scale(axes)
    axes.set_xlabel(axis.label)
    axes.set_ylabel("K [output/input]")
    axes.set_title("sensitivity K(theta): how strongly a loss there moves the poles", fontsize=LABEL)
    light_grid(axes)
    legend_below(figure, axes, 4)
    return figure


def hankel_figure(layers: Layers, axis: FrequencyAxis, title: str) -> Figure:
    """Hankel singular values relative to the largest, and the 1 % line that defines the effective order."""
    layer, figure, axes = _single(layers, title)
    curve = over_copies(normalized_hankel(layer))
    index = np.arange(1, len(curve.median) + 1, dtype=float)
    draw_curve(axes, index, curve, "Hankel singular values")
    axes.plot(index, curve.median, "o", color=LINE, markersize=3)
    order = _median(layer, "effective_order")
    counted = "" if order is None else f": {'median ' * (curve.p5 is not None)}effective order {order:g}"
    axes.axhline(COUNTED, color=MARK, linestyle="--", linewidth=1.2, label=f"1 % of the largest{counted}")
    axes.set_yscale("log")
    axes.set_ylim(max(ROUNDING, min(COUNTED, float(curve.median.min())) / 3), 2)
    axes.set_xlim(0.5, len(index) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("index of the singular value")
    axes.set_ylabel("singular value / largest")
    axes.set_title("Hankel singular values (values below 1e-8 are rounding errors and not shown)", fontsize=LABEL)
    light_grid(axes)
    legend_below(figure, axes, 4)
    return figure


def kernel_figure(layers: Layers, axis: FrequencyAxis, title: str) -> Figure:
    """Eigenvalues of T^T T for several kernel lengths, against the quantiles of |H|^2 that they approach."""
    layer, figure, axes = _single(layers, title, 6.4, 6.2)
    spectra, copies = kernel_quantiles(layer)
    system = layer.system
    highest = max(max(float(found.limits.max()), float(found.eigenvalues.max())) for found in spectra)
    lowest = max(min(float(found.limits.min()) for found in spectra), highest * DEEPEST)
    low, high = lowest / 4, highest * 4  # more than a decade
    for place, found in enumerate(spectra):
        color = colormaps[COLOR_MAP](0.72 - 0.72 * place / max(1, len(spectra) - 1))
        style = LINES[len(spectra) - 1 - place] if len(spectra) <= len(LINES) else "-"
        axes.plot(found.limits, found.eigenvalues, color=color, linestyle=style, linewidth=1.8, label=f"L = {found.length} samples")
    axes.plot([low, high], [low, high], color=MARK, linewidth=1, label="limit")
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    squared = "|H|^2" if system.inputs * system.outputs == 1 else "squared singular values of H"
    axes.set_xlabel(f"quantiles of {squared} over theta [(output/input)^2]")
    axes.set_ylabel("eigenvalues of T^T T [(output/input)^2]")
    pooled = f", {copies} of {system.copies} copies pooled" if system.copies > 1 else ""
    axes.set_title(f"spectrum of the kernel{pooled}", fontsize=LABEL)
    light_grid(axes)
    legend_below(figure, axes, 4)
    return figure
