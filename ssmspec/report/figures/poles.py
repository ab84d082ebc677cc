"""Where the poles are: in the s-plane or on the unit disk, or their decay rates if all of them are real."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ssmspec.errors import LayerError
from ssmspec.report.figures.panels import Drawn, Given, multiples, panels
from ssmspec.report.figures.style import LINE, MARK, FrequencyAxis, Layers, layer_title, light_grid
from ssmspec.statistics import LayerSpectrum
from ssmspec.systems.statespace import FloatArray

MOST_POLES = 20_000  # points drawn in one pole plot
MOST_VECTORS = 2_000  # points of a pole plot that SVG and PDF hold one by one
Plane = Literal["s", "z"]


@dataclass(frozen=True, slots=True)
class PoleSet:
    """Poles of one layer, of any shape. They are in the s-plane if `continuous`, else in the z-plane. NaN is not drawn."""

    name: str
    poles: np.ndarray
    continuous: bool

    @classmethod
    def in_z_plane(cls, name: str, z: np.ndarray, *, real: bool = False) -> "PoleSet":
        """Discrete poles in the upper half. A pole beyond Nyquist aliases to the lower half, so its mirror image is shown.

        Args:
            real: whether they belong to real poles; by rounding, they may have imaginary parts.
        """
        return cls(name, _thin(z.real.astype(complex) if real else np.where(z.imag < 0, z.conj(), z)), continuous=False)

    @property
    def plane(self) -> str:
        """Which of the three kinds of picture shows these poles."""
        if not self.poles.imag[np.isfinite(self.poles)].any():
            return "rates"
        return "s" if self.continuous else "z"


def poles_figure(layers: Layers, axis: FrequencyAxis, title: str, *, ax: Given = None, plane: Plane | None = None) -> Drawn:
    """The poles of every layer, one panel each; of one layer in both planes if all of its steps are the same.

    Where steps differ, the same Re a means another decay per sample in each copy, so that the z-plane is shown.

    Args:
        plane: s or z; by default s where all layers have one and the same step, else z. Layers that store discrete poles have no s-plane.
        ax: None, or one Axes per layer; of one layer in both planes also two.
    Raises:
        LayerError: the s-plane of a layer that has none.
    """
    found = [_in_planes(layer) for layer in layers]
    steps = np.concatenate([np.ravel(layer.system.step) if "s" in sets else [np.nan] for layer, sets in zip(layers, found, strict=True)])
    missing = next((sets["z"].name for sets in found if "s" not in sets), None)
    if plane == "s" and missing is not None:
        raise LayerError(f"layer {missing} stores poles in discrete time, so it has no s-plane; use the plane z")
    alike = bool((steps == steps[0]).all())
    if len(found) == 1 and plane is None and alike and found[0]["s"].plane == "s":
        shown = panels(ax, 2, width=9, height=4.2, columns=2, fewest=1)
        for axes, kind in zip(shown.axes, ("s", "z"), strict=False):
            draw_poles(axes, found[0][kind])
    else:
        kind = plane or ("s" if alike else "z")
        sets = [each[kind] for each in found]
        if len(sets) > 1:
            return _small_multiples(sets, title, ax)
        shown = panels(ax, width=6.4, height=4.4)
        draw_poles(shown.axes[0], sets[0])
    (layer,) = layers
    shown.head(title, layer_title(layer))
    shown.legend(3)
    return shown.drawn


def _in_planes(layer: LayerSpectrum) -> dict[str, PoleSet]:
    """The poles of a layer in the z-plane, and in the s-plane if it has one."""
    name = layer.system.name
    if not layer.system.continuous_time:
        return {"z": PoleSet.in_z_plane(name, layer.poles_z)}
    s = PoleSet(name, _thin(layer.modal.poles), continuous=True)
    return {"s": s, "z": PoleSet.in_z_plane(name, layer.poles_z, real=s.plane == "rates")}


def draw_poles(axes: Axes, shown: PoleSet) -> None:
    """Draw one of the three kinds of picture, with its labels and title."""
    titles = {
        "s": "poles in the s-plane (upper half)",
        "z": "poles in the z-plane (upper half)",
        "rates": "decay rates (all poles are real)",
    }
    draw_plane(axes, shown)
    axes.set_title(titles[shown.plane])


def draw_plane(axes: Axes, shown: PoleSet, *, size: float = 9, bars: int = 40) -> None:
    """Draw the points or bars of one of the three kinds of picture, with the labels of its axes."""
    light_grid(axes)
    if shown.plane == "rates":
        _draw_rates(axes, shown, bars)
        return
    poles = _thin(shown.poles)
    few = len(poles) < 200
    dots: dict[str, Any] = {
        "s": size,
        "color": LINE,
        "alpha": 0.9 if few else 0.35,
        "linewidths": 0,
        "label": "poles",
        "rasterized": len(poles) > MOST_VECTORS,
    }
    axes.scatter(poles.real, poles.imag, **dots)
    line: dict[str, Any] = {"color": MARK, "linestyle": "--", "linewidth": 1}
    if shown.plane == "s":
        axes.axvline(0, **line, label="Re a = 0: no decay; poles on its right grow")
        axes.set_xlabel("Re a [1/model time]")
        axes.set_ylabel("Im a [rad/model time]")
        return
    angle = np.linspace(0, np.pi, 361)
    axes.plot(np.cos(angle), np.sin(angle), **line, label="|z| = 1: no decay; poles outside grow")
    axes.set_aspect("equal")
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.set_yticks([0, 0.5, 1])
    axes.set_xlabel("Re z")
    axes.set_ylabel("Im z")


def _draw_rates(axes: Axes, shown: PoleSet, bars: int) -> None:
    """Draw the decay rates of real poles, which would all lie on one line in the plane. The axis is linear if a pole grows."""
    poles = _thin(shown.poles)
    with np.errstate(divide="ignore"):
        rates: FloatArray = -poles.real if shown.continuous else -np.log(np.abs(poles))
    finite = rates[np.isfinite(rates)]
    gone = len(rates) - len(finite)
    axes.set_xlabel("-Re a [1/model time]" if shown.continuous else "-ln |z| [1/sample]")
    axes.set_ylabel(f"poles ({gone} more at z = 0)" if gone else "poles")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if not finite.size:
        return
    low, high = finite.min(), finite.max()
    if high < 10 * low or low <= 0:
        bins = np.linspace(low, high, bars + 1) if low < high else low + np.array([-0.5, 0.5]) * (abs(low) or 1.0)
    else:
        bins = np.geomspace(low, high * (1 + 1e-9), bars + 1)
        axes.set_xscale("log")
    axes.hist(finite, bins=list(bins), color=LINE)
    if low <= 0:
        axes.axvline(0, color=MARK, linestyle="--", linewidth=1, label="0: no decay; poles on its left grow")


def _thin(poles: np.ndarray) -> np.ndarray:
    flat = poles[np.isfinite(poles)]
    return flat[:: max(1, len(flat) // MOST_POLES)]


def _small_multiples(sets: Sequence[PoleSet], title: str, ax: Given) -> Drawn:
    """One panel per layer, with the same limits if all layers are drawn in the same plane."""
    shown = multiples(ax, len(sets))
    for axes, each in zip(shown.axes, sets, strict=True):
        draw_plane(axes, each, size=4, bars=20)
    kinds = {(each.plane, each.continuous) for each in sets}
    what = {"rates": "decay rates", "s": "poles in the s-plane (upper half)", "z": "poles in the z-plane (upper half)"}
    name = what[sets[0].plane] if len(kinds) == 1 else "poles (upper half)"
    aspect = 0.55 if kinds == {("z", False)} else 0.75  # half a disk is wide
    shown.arrange([each.name for each in sets], title, f"{name}; one panel per layer", aspect=aspect, common=len(kinds) == 1)
    return shown.drawn
