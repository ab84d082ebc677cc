"""Pictures of an analysis: an overview of all layers, and one figure per layer with |H| and the poles."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ssmspec.errors import SsmspecError
from ssmspec.grid import FloatArray
from ssmspec.statistics import CheckpointAnalysis, LayerAnalysis
from ssmspec.writing import whole_file

COLOR_MAP = "cividis"  # monotone in lightness and safe for color-blind readers, so it survives gray printing
LINE, BAND, MARK = "#00204d", "#9fb2d0", "#b3502f"
DPI = 150
DYNAMIC_RANGE = 80.0  # dB below the maximum at which the heat map stops
MOST_POLES = 20_000  # points drawn in one pole plot


def plot_analysis(analysis: CheckpointAnalysis, folder: Path, stem: str, *, sample_rate: float | None = None) -> list[Path]:
    """Write the overview and one picture per usable layer as PNG; returns their paths in order.

    Args:
        folder: made if missing.
        stem: start of every file name.
        sample_rate: frequencies in Hz instead of rad/sample.
    Raises:
        SsmspecError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SsmspecError(f"cannot make the folder {folder} for pictures: {error.strerror or error}") from error
    usable = [layer for layer in analysis.layers if layer.curve is not None]
    theta = analysis.grid.values
    written = [_save(overview_figure(usable, theta, Path(analysis.path).name, sample_rate), folder / f"{stem}.overview.png")]
    for layer in usable:
        figure = layer_figure(layer, theta, sample_rate)
        written.append(_save(figure, folder / f"{stem}.{_safe(layer.name)}.png"))
    return written


def _safe(name: str) -> str:
    return "".join(character if character.isalnum() or character in "._-" else "-" for character in name)


def _save(figure: Figure, path: Path) -> Path:
    FigureCanvasAgg(figure)
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=DPI)
    return path


def _axis_values(theta: FloatArray, sample_rate: float | None) -> tuple[FloatArray, str]:
    if sample_rate is None:
        return theta, "theta [rad/sample]"
    return theta * sample_rate / (2 * np.pi), "frequency [Hz]"


def overview_figure(layers: Sequence[LayerAnalysis], theta: FloatArray, title: str, sample_rate: float | None = None) -> Figure:
    """Heat map of median |H| in dB, one row per layer over a logarithmic frequency axis."""
    figure = Figure(figsize=(8, max(2.6, 1.7 + 0.22 * len(layers))), layout="constrained")
    axes = figure.add_subplot()
    curves = np.array([layer.curve.median for layer in layers if layer.curve is not None])
    top = curves.max()
    with np.errstate(divide="ignore"):
        level = 20 * np.log10(curves / top) + 20 * np.log10(top)
    highest = float(level.max())
    values, label = _axis_values(theta, sample_rate)
    mesh = axes.pcolormesh(
        _edges(values),
        np.arange(len(layers) + 1),
        level,
        cmap=COLOR_MAP,
        vmin=max(float(level.min()), highest - DYNAMIC_RANGE),
        vmax=highest,
    )
    axes.set_xscale("log")
    axes.axvline(values[-1], color=MARK, linestyle="--", linewidth=2)
    axes.set_ylim(len(layers), 0)
    every = max(1, len(layers) // 48)
    axes.set_yticks(np.arange(0, len(layers), every) + 0.5, [_short(layer.name) for layer in layers[::every]], fontsize=8)
    axes.set_xlabel(label)
    axes.set_ylabel("layer")
    single = all(layer.inputs * layer.outputs > 1 for layer in layers)
    axes.set_title(f"{title}: {'Frobenius norm of H' if single else 'median |H| over copies'} (dashed: Nyquist)", fontsize=10)
    figure.colorbar(mesh, ax=axes, label="|H| [dB]")
    return figure


def _edges(values: FloatArray) -> FloatArray:
    """Cell borders around log-spaced values; the outer ones do not leave the grid."""
    middle = np.sqrt(values[1:] * values[:-1])
    return np.concatenate([values[:1], middle, values[-1:]])


def _short(name: str, most: int = 40) -> str:
    return name if len(name) <= most else "..." + name[-most + 3 :]


def layer_figure(layer: LayerAnalysis, theta: FloatArray, sample_rate: float | None = None) -> Figure:
    """|H| with its median and 5..95 % band beside the poles of one layer."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_magnitude(left, layer, theta, sample_rate)
    if layer.poles.imag.any():
        _draw_poles(right, layer)
    else:
        _draw_decays(right, layer)
    figure.suptitle(f"{_short(layer.name, 90)} ({layer.family}, {layer.copies} x {layer.modes})", fontsize=10)
    return figure


def _draw_magnitude(axes: Axes, layer: LayerAnalysis, theta: FloatArray, sample_rate: float | None) -> None:
    assert layer.curve is not None
    values, label = _axis_values(theta, sample_rate)
    if layer.curve.p5 is not None and layer.curve.p95 is not None:
        axes.fill_between(values, layer.curve.p5, layer.curve.p95, color=BAND, linewidth=0, label="5..95 % of copies")
    name = "median" if layer.curve.p5 is not None else ("|H|" if layer.inputs * layer.outputs == 1 else "Frobenius norm of H")
    axes.plot(values, layer.curve.median, color=LINE, linewidth=1.5, label=name)
    axes.axvline(values[-1], color=MARK, linestyle="--", linewidth=1, label="Nyquist")
    axes.set_xscale("log")
    if (layer.curve.median > 0).any():
        axes.set_yscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel("|H| [output/input]")
    axes.grid(visible=True, which="major", color="0.9")
    axes.set_axisbelow(True)
    axes.set_title("magnitude of the response", fontsize=9)
    axes.legend(fontsize=8, loc="best")


def _thin(poles: np.ndarray) -> np.ndarray:
    flat = poles.reshape(-1)
    return flat[:: max(1, len(flat) // MOST_POLES)]


def _draw_poles(axes: Axes, layer: LayerAnalysis) -> None:
    poles = _thin(layer.poles)
    alpha = 0.9 if len(poles) < 200 else 0.35
    axes.scatter(poles.real, poles.imag, s=9, color=LINE, alpha=alpha, linewidths=0)
    axes.grid(visible=True, color="0.9")
    axes.set_axisbelow(True)
    if layer.continuous_poles:
        axes.axvline(0, color=MARK, linestyle="--", linewidth=1)
        axes.set_xlabel("Re a [1/model time]")
        axes.set_ylabel("Im a [rad/model time]")
        axes.set_title("poles in the s-plane (upper half)", fontsize=9)
        return
    angle = np.linspace(0, np.pi, 361)
    axes.plot(np.cos(angle), np.sin(angle), color=MARK, linestyle="--", linewidth=1)
    axes.set_aspect("equal")
    axes.set_xlabel("Re z")
    axes.set_ylabel("Im z")
    axes.set_title("poles on the unit disk (upper half)", fontsize=9)


def _draw_decays(axes: Axes, layer: LayerAnalysis) -> None:
    """Real poles lie on a line; their decay rates are what can be seen of them."""
    rates = np.abs(_thin(layer.poles).real)
    low, high = rates.min(), rates.max()
    bins = np.geomspace(low, high * (1 + 1e-9), 41) if low < high else np.array([low / 1.5, high * 1.5])
    axes.hist(rates, bins=list(bins), color=LINE)
    axes.set_xscale("log")
    axes.set_xlabel("-Re a [1/model time]" if layer.continuous_poles else "|z|")
    axes.set_ylabel("poles")
    axes.grid(visible=True, color="0.9")
    axes.set_axisbelow(True)
    axes.set_title("decay rates (all poles are real)", fontsize=9)
