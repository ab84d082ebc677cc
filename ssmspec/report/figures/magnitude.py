"""Responses: |H| and phase of one layer, and the heat map of |H| of all layers."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssmspec.report.arrays import frequency_grid
from ssmspec.report.figures.style import (
    COLOR_MAP,
    LABEL,
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
    list_height,
    log_scale,
    name_rows,
    new_figure,
)
from ssmspec.statistics import Curve, Spectrum
from ssmspec.statistics.curves import magnitude_on, over_copies, phase_on
from ssmspec.systems.grid import FloatArray, FrequencyGrid

DYNAMIC_RANGE = 80.0  # dB below the maximum at which the heat map stops


def response_figure(layers: Layers, axis: FrequencyAxis, title: str) -> Figure:
    """|H| of one layer above its phase, or |G| of the continuous system on the axis omega.

    The phase is omitted for a layer with several inputs or outputs, because they share no single phase.
    """
    (layer,) = layers
    grid = _common_grid(layers, axis)
    values, symbol = axis.values(grid.values), _symbol(axis)
    single = layer.system.inputs * layer.system.outputs == 1
    figure = new_figure(7.5, 6 if single else 4.5)
    panels: list[Axes] = list(figure.subplots(2 if single else 1, 1, sharex=True, squeeze=False)[:, 0])
    nyquist = _nyquist(layer, axis)
    name = f"|{symbol}|" if single else f"Frobenius norm of {symbol}"
    with_skip = ", with D" if layer.with_skip else ""
    draw_magnitude(panels[0], values, over_copies(magnitude_on(layer, grid)), name=name, symbol=symbol, nyquist=nyquist)
    panels[0].set_title(f"magnitude of the {'continuous ' * (axis.kind == 'omega')}response{with_skip}", fontsize=LABEL)
    if single:
        _draw_phase(panels[1], values, phase_on(layer, grid), nyquist)
    panels[-1].set_xlabel(axis.label)
    head(figure, title, layer_title(layer))
    legend_below(figure, panels[0])
    return figure


def _symbol(axis: FrequencyAxis) -> str:
    return "G" if axis.kind == "omega" else "H"


def _common_grid(layers: Layers, axis: FrequencyAxis) -> FrequencyGrid:
    """The grid of the layers. On the axis omega, a grid that spans the same range for all of their steps."""
    first = next(iter(layers))
    if axis.kind != "omega":
        return first.grid
    steps = np.concatenate([layer.system.step.ravel() for layer in layers])
    return frequency_grid(steps, "omega", first.grid.values.size, None)


def _nyquist(layer: Spectrum, axis: FrequencyAxis) -> float | None:
    """The Nyquist frequency on the axis. On omega it is pi/step, which is None unless all copies have the same step."""
    if axis.kind != "omega":
        return axis.value(np.pi)
    step = layer.system.step
    return float(np.pi / step.flat[0]) if (step == step.flat[0]).all() else None


def draw_magnitude(axes: Axes, values: FloatArray, curve: Curve, *, name: str, symbol: str = "H", nyquist: float | None) -> None:
    """Draw the median and the band of |H| on two logarithmic axes."""
    draw_curve(axes, values, curve, name)
    if nyquist is not None:
        draw_nyquist(axes, nyquist)
    frequency_scale(axes)
    if (curve.median > 0).any():
        log_scale(axes)
    axes.set_ylabel(f"|{symbol}| [output/input]")
    light_grid(axes)


def _draw_phase(axes: Axes, values: FloatArray, phase: FloatArray, nyquist: float | None) -> None:
    if not np.isnan(phase).all():
        draw_curve(axes, values, over_copies(phase), "phase")
    if nyquist is not None:
        axes.axvline(nyquist, color=MARK, linestyle="--", linewidth=1)
    axes.set_ylabel("phase [rad]")
    axes.set_title("phase, unwrapped, counted from frequency zero", fontsize=LABEL)
    light_grid(axes)


def heatmap_figure(layers: Layers, axis: FrequencyAxis, title: str) -> Figure:
    """Median |H| of every layer in dB, or median |G| on the axis omega."""
    grid = _common_grid(layers, axis)
    names, curves, several = [], [], True
    for layer in layers:
        names.append(layer.system.name)
        curves.append(over_copies(magnitude_on(layer, grid)).median)
        several = several and layer.system.inputs * layer.system.outputs > 1
    figure = new_figure(8, list_height(len(names)) + 0.2)
    draw_heatmap(figure, names, np.array(curves), grid.values, axis)
    symbol = _symbol(axis)
    what = f"Frobenius norm of {symbol}" if several else f"median |{symbol}| over copies"
    skip = ", with D" if next(iter(layers)).with_skip else ""
    head(figure, title, f"{what}{skip}" + ("" if axis.kind == "omega" else " (dashed: Nyquist)"))
    return figure


def draw_heatmap(figure: Figure, names: list[str], curves: FloatArray, frequencies: FloatArray, axis: FrequencyAxis) -> None:
    """Draw one row per layer over a logarithmic frequency axis, from curves (layers, F). Zero is drawn as the bottom of the range."""
    axes = figure.add_subplot()
    with np.errstate(divide="ignore"):
        level = 20 * np.log10(curves)
    heard = level[np.isfinite(level)]
    highest = float(heard.max()) if heard.size else 0.0
    lowest = max(float(heard.min()), highest - DYNAMIC_RANGE) if heard.size else -DYNAMIC_RANGE
    values = axis.values(frequencies)
    mesh = axes.pcolormesh(
        _edges(values), np.arange(len(names) + 1), np.maximum(level, lowest), cmap=COLOR_MAP, vmin=lowest, vmax=highest, rasterized=True
    )
    axes.set_xscale("log")
    if axis.kind != "omega":
        axes.axvline(values[-1], color=MARK, linestyle="--", linewidth=1.5)
        axes.set_xlim(values[0], values[-1] * 1.05)  # otherwise the frame would cover half of the line
    name_rows(axes, names)
    axes.set_xlabel(axis.label)
    axes.set_ylabel("layer")
    figure.colorbar(mesh, ax=axes, aspect=max(20.0, 6 * figure.get_figheight()), label=f"|{_symbol(axis)}| [dB]")


def _edges(values: FloatArray) -> FloatArray:
    """Cell borders around log-spaced values. The outer borders stay within the grid."""
    middle = np.sqrt(values[1:] * values[:-1])
    return np.concatenate([values[:1], middle, values[-1:]])
