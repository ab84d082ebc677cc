"""Energy, sensitivity, Hankel singular values, and the spectrum of the kernel: one panel per layer."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ssmspec.report.figures.panels import Drawn, Given, per_layer
from ssmspec.report.figures.style import (
    COLOR_MAP,
    LINE,
    MARK,
    SMALL,
    THETA,
    FrequencyAxis,
    Layers,
    draw_curve,
    draw_nyquist,
    frequency_scale,
    light_grid,
    log_scale,
)
from ssmspec.statistics import STATISTICS, Curve, LayerSpectrum, Spectrum, summarize
from ssmspec.statistics.curves import LENGTHS, cumulative_energy, kernel_quantiles, normalized_hankel, over_copies, trusted_sensitivity
from ssmspec.statistics.energy import ROLLOFF
from ssmspec.statistics.hankel import COUNTED
from ssmspec.systems.grid import FloatArray

ENERGY_POINTS = 256  # points of the grid at which E is evaluated
ROUNDING = 1e-8  # relative to the largest Hankel singular value: values below it are rounding errors
DEEPEST = 1e-12  # relative to the largest eigenvalue: the bottom of the quantile plot
GUIDE = (0.15, 0.85)  # where the line that shows a slope begins and ends, as shares of the logarithmic axis
LINES = ("-", "--", "-.", ":")


def _median(layer: Spectrum, name: str) -> float | None:
    return summarize(STATISTICS[name].of(layer), "").median


def _corner(axes: Axes, text: str, *, left: bool = False) -> None:
    """A number of one of several panels."""
    axes.text(0.03 if left else 0.97, 0.94, text, transform=axes.transAxes, ha="left" if left else "right", va="top", fontsize=SMALL - 1)


def energy_figure(layers: Layers, axis: FrequencyAxis, title: str, *, ax: Given = None) -> Drawn:
    """E(theta)/E(pi) over theta, with the corner theta_c of low_frequency_share and the 95 % roll-off; small multiples of several layers.

    Args:
        ax: None, or one Axes per layer.
    """
    skip = ", with D" if next(iter(layers)).with_skip else ""

    def draw(axes: Axes, layer: Spectrum, several: bool) -> None:
        _draw_energy(axes, layer, axis, several)

    return per_layer(layers, title, ax, draw, what=f"energy below a frequency{skip}")


def _draw_energy(axes: Axes, layer: Spectrum, axis: FrequencyAxis, several: bool) -> None:
    values = layer.grid.values
    low, rolloff = _median(layer, "low_frequency_share"), _median(layer, "rolloff_95")
    theta = values[np.unique(np.linspace(0, len(values) - 1, min(len(values), ENERGY_POINTS)).round().astype(int))]
    if rolloff is not None:
        theta = np.union1d(theta, [rolloff])  # so that the square lies on the curve
    curve = over_copies(cumulative_energy(layer, theta))
    draw_curve(axes, axis.values(theta), curve, r"$E(\theta)/E(\pi)$")
    median = "median " if layer.system.copies > 1 else ""
    if low is not None:
        corner = axis.value(layer.corner)
        number = "" if several else f" = {corner:.3g} {axis.unit}, {median}share {low:.3g} below"
        axes.axvline(corner, color=LINE, linestyle=":", linewidth=1.2, label=rf"$\theta_c${number}")
        shares = [low] if curve.copies is None else STATISTICS["low_frequency_share"].of(layer).values
        axes.plot(np.full(len(shares), corner), shares, "o", color=LINE, markersize=5)
    if rolloff is not None:
        at = axis.value(rolloff)
        number = "" if several else f" at {at:.3g} {axis.unit}"
        axes.axvline(at, color=MARK, linestyle="-.", linewidth=1.2, label=f"{median}95 % roll-off{number}")
        if curve.copies is None:
            axes.plot(at, curve.median[np.searchsorted(theta, rolloff)], "s", color=MARK, markersize=5)
        else:
            of_copies = STATISTICS["rolloff_95"].of(layer).values
            axes.plot(axis.values(of_copies), np.full(len(of_copies), ROLLOFF), "s", color=MARK, markersize=5)
    draw_nyquist(axes, axis.value(np.pi))
    frequency_scale(axes)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel(axis.label)
    axes.set_ylabel(r"$E(\theta)/E(\pi)$, share of energy")
    light_grid(axes)


def sensitivity_figure(layers: Layers, axis: FrequencyAxis, title: str, *, ax: Given = None) -> Drawn:
    """K(theta), and above it a line whose slope is bias_slope; small multiples of several layers.

    Args:
        ax: None, or one Axes per layer.
    """

    def draw(axes: Axes, layer: LayerSpectrum, several: bool) -> None:
        theta = layer.grid.values
        curve = over_copies(trusted_sensitivity(layer))
        draw_curve(axes, axis.values(theta), curve, r"$K(\theta)$")
        slope = _median(layer, "bias_slope")
        if slope is not None:
            name = "median bias_slope" if layer.system.copies > 1 else "bias_slope"
            label = f"slope alone: {name}" + ("" if several else f" {slope:.3g} decades/decade")
            line = _guide(theta, curve, slope)
            axes.plot(axis.values(line[0]), line[1], color=MARK, linestyle="--", label=label)
            if several:
                _corner(axes, f"{slope:.3g}", left=slope > 0)
        frequency_scale(axes)
        log_scale(axes)
        axes.set_xlabel(axis.label)
        axes.set_ylabel("$K$ [output/input]")
        light_grid(axes)

    return per_layer(layers, title, ax, draw, what="sensitivity K: how strongly a loss at a frequency moves the poles")


def _guide(theta: FloatArray, curve: Curve, slope: float) -> tuple[FloatArray, FloatArray]:
    """Two points of a line with a slope just above all curves: it shows a slope, and is no fit to any of them."""
    highest = curve.median if curve.p95 is None else curve.p95
    if curve.copies is not None:
        highest = curve.copies.max(axis=0)
    log = np.log(theta)
    low, high = log[0] + np.array(GUIDE) * (log[-1] - log[0])
    inside = (log >= low) & (log <= high) & (highest > 0)
    above = np.log(1.5) + (np.log(highest[inside]) - slope * log[inside]).max(initial=-np.inf)
    ends = np.array([low, high])
    return np.exp(ends), np.exp(above + slope * ends)


def hankel_figure(layers: Layers, axis: FrequencyAxis, title: str, *, ax: Given = None) -> Drawn:
    """Hankel singular values relative to the largest, and the 1 % line that defines the effective order; small multiples of several layers.

    Args:
        ax: None, or one Axes per layer.
    """

    def draw(axes: Axes, layer: Spectrum, several: bool) -> None:
        curve = _above_rounding(over_copies(normalized_hankel(layer)))
        index = np.arange(1, len(curve.median) + 1, dtype=float)
        draw_curve(axes, index, curve, "Hankel singular values")
        for line in list(axes.lines):
            line.set(marker="o", markersize=3)
        order = _median(layer, "effective_order")
        counted = "" if order is None or several else f": {'median ' * (layer.system.copies > 1)}effective order {order:g}"
        axes.axhline(COUNTED, color=MARK, linestyle="--", linewidth=1.2, label=f"1 % of the largest{counted}")
        if several and order is not None:
            _corner(axes, f"order {order:g}")
        axes.set_yscale("log")
        lowest = float(np.nanmin(curve.median if curve.copies is None else curve.copies))
        axes.set_ylim(max(ROUNDING, min(COUNTED, lowest) / 3), 2)
        axes.set_xlim(0.5, len(index) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("index of the singular value")
        axes.set_ylabel("singular value / largest")
        light_grid(axes)

    return per_layer(layers, title, ax, draw, what="Hankel singular values (below 1e-8 of the largest: rounding, not shown)")


def _above_rounding(curve: Curve) -> Curve:
    """The values that are no rounding errors: NaN in the place of others, and none at the end where all are."""
    highest = curve.median if curve.p95 is None else np.maximum(curve.median, curve.p95)
    if curve.copies is not None:
        highest = curve.copies.max(axis=0)
    count = int((highest > ROUNDING).sum())

    def shown(values: FloatArray | None) -> FloatArray | None:
        return None if values is None else np.where(values[..., :count] > ROUNDING, values[..., :count], np.nan)

    median, low = shown(curve.median), curve.p5
    assert median is not None
    return Curve(median, None if low is None else np.maximum(low[:count], ROUNDING / 10), shown(curve.p95), shown(curve.copies))


def kernel_figure(layers: Layers, axis: FrequencyAxis, title: str, *, ax: Given = None) -> Drawn:
    """Eigenvalues of T^T T for several kernel lengths, against the quantiles of |H|^2 that they approach; small multiples of layers.

    Of several layers, the longest kernels are not drawn: their eigenvalues take half a second per layer.

    Args:
        ax: None, or one Axes per layer.
    """

    def draw(axes: Axes, layer: Spectrum, several: bool) -> None:
        copies = _draw_quantiles(axes, layer, several)
        if layer.system.copies > 1:
            _corner(axes, f"{copies} of {layer.system.copies} copies", left=True)

    return per_layer(layers, title, ax, draw, what="spectrum of the kernel", size=(6.4, 6.2), aspect=1.0)


def _draw_quantiles(axes: Axes, layer: Spectrum, several: bool) -> int:
    spectra, copies = kernel_quantiles(layer, LENGTHS[:2] if several else LENGTHS)
    system = layer.system
    highest = max(max(float(found.limits.max()), float(found.eigenvalues.max())) for found in spectra)
    lowest = max(min(float(found.limits.min()) for found in spectra), highest * DEEPEST)
    low, high = lowest / 4, highest * 4  # more than a decade
    for place, found in enumerate(spectra):
        color = colormaps[COLOR_MAP](0.72 - 0.72 * place / max(1, len(spectra) - 1))
        style = LINES[len(spectra) - 1 - place] if len(spectra) <= len(LINES) else "-"
        axes.plot(found.limits, found.eigenvalues, color=color, linestyle=style, linewidth=1.8, label=f"L = {found.length} samples")
    axes.plot([highest * DEEPEST, high], [highest * DEEPEST, high], color=MARK, linewidth=1, label="limit")
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    squared = "$|H|^2$" if system.inputs * system.outputs == 1 else "squared singular values of $H$"
    axes.set_xlabel(f"quantiles of {squared} over {THETA} [(output/input)$^2$]")
    axes.set_ylabel(r"eigenvalues of $T^\top T$ [(output/input)$^2$]")
    light_grid(axes)
    return copies
