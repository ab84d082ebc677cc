"""Responses: |H| and phase of layers, singular values of those with several inputs and outputs, and the heat map of |H| of all layers."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssmspec.report.arrays import frequency_grid
from ssmspec.report.figures.panels import Drawn, Given, panels, per_layer
from ssmspec.report.figures.style import (
    COLOR_MAP,
    LINE,
    NYQUIST,
    FrequencyAxis,
    Layers,
    draw_curve,
    draw_nyquist,
    frequency_scale,
    layer_title,
    light_grid,
    list_height,
    log_scale,
    name_rows,
)
from ssmspec.statistics import Curve, Spectrum
from ssmspec.statistics.curves import magnitude_on, over_copies, phase_on, sigma_grid, singular_values_on
from ssmspec.statistics.results import FEW_COPIES
from ssmspec.systems.grid import FloatArray, FrequencyGrid
from ssmspec.systems.system import System

DYNAMIC_RANGE = 80.0  # dB below the maximum at which the heat map stops
DEEPEST = 1e-7  # of the largest response: where its axis ends at the latest
MOST_VALUES = 8  # singular values drawn, the largest
WIDEST = 64  # inputs or outputs up to which small multiples show singular values, which take seconds per layer beyond
NO_VALUE = 1e-12  # of the largest singular value: below, a value is zero


def response_figure(layers: Layers, axis: FrequencyAxis, title: str, *, ax: Given = None) -> Drawn:
    """|H| over theta, or |G| of the continuous system on the axis omega; small multiples of several layers.

    A bank of many copies is a median and its 5..95 % band; up to `FEW_COPIES` copies are a line each, and one layer of so few has its phase
    below. A single system of several inputs and outputs is its singular values.

    Args:
        ax: None, or one Axes per layer; of a layer with a phase also two.
    """
    grid = _common_grid(layers, axis)
    continuous = "continuous " * (axis.kind == "omega")
    skip = ", with D" if next(iter(layers)).with_skip else ""

    def draw(axes: Axes, layer: Spectrum, several: bool) -> None:
        system = layer.system
        wide = min(system.inputs, system.outputs)
        if system.copies == 1 and wide > 1 and not (several and wide > WIDEST):
            _draw_sigma(axes, layer, grid, axis)
        else:
            curve = over_copies(magnitude_on(layer, grid))
            norm = system.inputs * system.outputs > 1
            draw_magnitude(axes, axis.values(grid.values), curve, norm=norm, symbol=_symbol(axis), nyquist=_nyquist(layer, axis))
        axes.set_xlabel(axis.label)

    if len(layers) > 1 or not _has_phase(next(iter(layers)).system):
        what = "{}response" if len(layers) > 1 else _what(next(iter(layers)).system)
        return per_layer(layers, title, ax, draw, what=what.format(continuous) + skip, size=(7.5, 4.5))
    (layer,) = layers
    shown = panels(ax, 2, width=7.5, height=6, fewest=1)
    draw(shown.axes[0], layer, False)
    shown.axes[0].set_title(f"magnitude of the {continuous}response{skip}")
    for axes in shown.axes[1:]:
        shown.axes[0].set_xlabel("")
        _draw_phase(axes, axis.values(grid.values), phase_on(layer, grid), _nyquist(layer, axis))
        axes.set_xlim(shown.axes[0].get_xlim())
        axes.set_xlabel(axis.label)
    shown.head(title, layer_title(layer))
    shown.legend()
    return shown.drawn


def _what(system: System) -> str:
    if system.inputs * system.outputs == 1:
        return "magnitude of the {}response"
    several = system.copies == 1 and min(system.inputs, system.outputs) > 1
    return "singular values of the {}response" if several else "norm of the {}response"


def _has_phase(system: System) -> bool:
    """Several inputs or outputs share no phase, and phases have no median: they are angles."""
    return system.inputs * system.outputs == 1 and system.copies <= FEW_COPIES


def _draw_sigma(axes: Axes, layer: Spectrum, grid: FrequencyGrid, axis: FrequencyAxis) -> None:
    """The largest singular values of a single system."""
    grid = sigma_grid(layer, grid)
    values = singular_values_on(layer, grid)
    count = min(MOST_VALUES, values.shape[1])
    shades = mpl.colormaps[COLOR_MAP](np.linspace(0.3, 0.85, max(1, count - 1)))
    for place in range(count):
        drawn = np.where(values[:, place] > NO_VALUE * values.max(initial=0), values[:, place], np.nan)
        label = {0: r"$\sigma_1$, the largest", 1: rf"$\sigma_2$ to $\sigma_{ {count} }$ of {values.shape[1]}"}.get(place)
        color, width = (LINE, 1.5) if place == 0 else (shades[place - 1], 0.8)
        axes.plot(axis.values(grid.values), drawn, color=color, linewidth=width, label=label, zorder=3 - place / count)
    nyquist = _nyquist(layer, axis)
    if nyquist is not None:
        draw_nyquist(axes, nyquist)
    _finish(axes, rf"$\sigma({_symbol(axis)})$", silent=not values.any())


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


def draw_magnitude(axes: Axes, values: FloatArray, curve: Curve, *, norm: bool, symbol: str = "H", nyquist: float | None) -> None:
    """Draw |H|, or its Frobenius norm, on two logarithmic axes."""
    draw_curve(axes, values, curve, f"Frobenius norm of {symbol}" if norm else f"|{symbol}|")
    if nyquist is not None:
        draw_nyquist(axes, nyquist)
    _finish(axes, _size(symbol, norm=norm), silent=not (curve.median > 0).any())


def _size(symbol: str, *, norm: bool) -> str:
    return rf"$\|{symbol}\|_F$" if norm else f"$|{symbol}|$"


def _finish(axes: Axes, label: str, *, silent: bool) -> None:
    frequency_scale(axes)
    if not silent:
        log_scale(axes)
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, high * DEEPEST), high)
    axes.set_ylabel(f"{label} [output/input]")
    light_grid(axes)


def _draw_phase(axes: Axes, values: FloatArray, phase: FloatArray, nyquist: float | None) -> None:
    shades = mpl.colormaps[COLOR_MAP](np.linspace(0, 0.75, len(phase)))
    for turned, shade in zip(np.degrees(phase), shades, strict=True):
        if np.isnan(turned).all():
            continue
        jumps = 1 + np.flatnonzero(np.abs(np.diff(turned)) > 180)  # from one end of the circle to the other: no line across
        x, y = (np.insert(line, jumps, np.nan) for line in (values, turned))
        axes.plot(x, y, color=shade, linewidth=1 if len(phase) > 1 else 1.5)
    if nyquist is not None:
        axes.axvline(nyquist, color=NYQUIST, linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.set_ylim(-190, 190)
    axes.set_yticks([-180, -90, 0, 90, 180])
    axes.set_ylabel("phase [degrees]")
    axes.set_title("phase")
    light_grid(axes)


def heatmap_figure(layers: Layers, axis: FrequencyAxis, title: str, *, ax: Given = None) -> Drawn:
    """Median |H| of every layer in dB, or median |G| on the axis omega."""
    grid = _common_grid(layers, axis)
    names, curves, several = [], [], True
    for layer in layers:
        names.append(layer.system.name)
        curves.append(over_copies(magnitude_on(layer, grid)).median)
        several = several and layer.system.inputs * layer.system.outputs > 1
    shown = panels(ax, width=8, height=list_height(len(names)) + 0.2, listing=True)
    draw_heatmap(shown.axes[0], names, np.array(curves), grid.values, axis, norm=several)
    symbol = _symbol(axis)
    what = f"Frobenius norm of {symbol}" if several else f"median |{symbol}| over copies"
    skip = ", with D" if next(iter(layers)).with_skip else ""
    shown.head(title, f"{what}{skip}" + ("" if axis.kind == "omega" else " (dashed: Nyquist)"))
    return shown.drawn


def draw_heatmap(axes: Axes, names: list[str], curves: FloatArray, frequencies: FloatArray, axis: FrequencyAxis, *, norm: bool) -> None:
    """Draw one row per layer over a logarithmic frequency axis, from curves (layers, F). Zero is drawn as the bottom of the range.

    Args:
        norm: whether all curves are Frobenius norms.
    """
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
        axes.axvline(values[-1], color=NYQUIST, linestyle="--", linewidth=1.5)
        axes.set_xlim(values[0], values[-1] * 1.05)  # otherwise the frame would cover half of the line
    name_rows(axes, names)
    axes.set_xlabel(axis.label)
    axes.set_ylabel("layer")
    figure = axes.figure
    height = figure.get_figheight() if isinstance(figure, Figure) else 4.0
    lost = bool(heard.size) and float(heard.min()) < lowest
    figure.colorbar(
        mesh, ax=axes, aspect=max(20.0, 6 * height), extend="min" if lost else "neither", label=f"{_size(_symbol(axis), norm=norm)} [dB]"
    )


def _edges(values: FloatArray) -> FloatArray:
    """Cell borders around log-spaced values. The outer borders stay within the grid."""
    middle = np.sqrt(values[1:] * values[:-1])
    return np.concatenate([values[:1], middle, values[-1:]])
