"""All initializations side by side: the poles of each, and the |H| with which a layer starts."""

import numpy as np
from matplotlib.axes import Axes

from ssmspec.backends import load_backend
from ssmspec.report.figures.panels import Drawn, Given, panels
from ssmspec.report.figures.poles import PoleSet, draw_plane
from ssmspec.report.figures.style import SMALL, FrequencyAxis, draw_curve, draw_nyquist, light_grid
from ssmspec.statistics import Curve
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.response import squared_magnitude
from ssmspec.systems.statespace import FloatArray, StateSpace
from ssmspec.tuning.poles.initializations import INITIALIZATIONS, Initialization, Poles, Settings, initial_poles, sample_step
from ssmspec.tuning.poles.matrices import initial_outputs

COPIES, MODES = 64, 32
STEPS = (1e-3, 1e-1)
COLUMNS = 3  # initializations side by side


def initializations_figure(axis: FrequencyAxis, alpha: float = 1.0, seed: int = 0, *, ax: Given = None) -> Drawn:
    """The poles of every initialization, and beside them the median |H| of 64 copies of 32 modes with normal C.

    Args:
        axis: frequency axis of |H|. alpha: factor on Im of the poles, if they have any. seed: seed of all draws.
        ax: None, or two Axes per initialization.
    """
    count = len(INITIALIZATIONS)
    shown = panels(ax, 2 * count, width=15, height=0.9 + 2.5 * -(-count // COLUMNS), columns=2 * COLUMNS)
    starts = [_start(kind, alpha, np.random.default_rng([seed, place])) for place, kind in enumerate(INITIALIZATIONS.values())]
    planes = []
    for place, (kind, (start, system)) in enumerate(zip(INITIALIZATIONS.values(), starts, strict=True)):
        left, right = shown.axes[2 * place : 2 * place + 2]
        planes.append(_draw_start(left, kind, start))
        _draw_magnitude(right, system, axis)
    _same_limits([axes for axes, plane in zip(shown.axes[::2], planes, strict=True) if plane == "s"], starts, planes)
    shown.head(
        f"initializations, alpha = {alpha:g}",
        "poles (upper half) of 64 x 32 modes; median |H| and 5..95 % of copies, C complex normal, zero-order hold with steps "
        f"{STEPS[0]:g}..{STEPS[1]:g}, log-uniform; dfout and lru-ring have their z directly",
    )
    shown.legend(6)
    return shown.drawn


def _same_limits(every: list[Axes], starts: list[tuple[Poles, StateSpace]], planes: list[str]) -> None:
    """The limits of all poles in the s-plane, so that the panels can be compared."""
    poles = np.concatenate([start.exponents.ravel() for (start, _), plane in zip(starts, planes, strict=True) if plane == "s"])
    low = float(poles.real.min())
    for axes in every:
        axes.set_yscale("symlog", linthresh=1)
        axes.set_xlim(1.3 * low, -0.15 * low)
        axes.set_ylim(-0.3, 2 * max(1.0, float(poles.imag.max())))


def _start(kind: Initialization, alpha: float, rng: np.random.Generator) -> tuple[Poles, StateSpace]:
    settings = Settings(copies=COPIES, modes=MODES, blocks=8 if kind.name == "s5-hippo" else 1)
    start = initial_poles(kind.name, settings, alpha=1.0 if kind.real else alpha, rng=rng)
    step = sample_step(COPIES, *STEPS, rng)
    system = StateSpace(
        name=kind.name,
        family="s4d",
        poles=start.continuous(step),
        B=np.ones((COPIES, MODES, 1), complex),
        C=initial_outputs("normal", settings, rng=rng),
        D=np.zeros((COPIES, 1, 1)),
        step=step,
        discretization="zoh",
    )
    return start, system


def _draw_start(axes: Axes, kind: Initialization, start: Poles) -> str:
    """Draw the poles. Returns which kind of picture that is."""
    poles = start.discrete() if kind.plane == "z" else start.exponents
    shown = PoleSet(kind.name, poles, continuous=kind.plane == "s")
    draw_plane(axes, shown, size=5, bars=20)
    axes.set_title(f"{kind.name}\n{kind.title}", fontsize=SMALL)
    return shown.plane


def _draw_magnitude(axes: Axes, system: StateSpace, axis: FrequencyAxis) -> None:
    theta = FrequencyGrid.default(512).values
    magnitude: FloatArray = np.sqrt(squared_magnitude(system, theta[None], load_backend("reference")))
    low, median, high = np.percentile(magnitude, [5, 50, 95], axis=0)
    draw_curve(axes, axis.values(theta), Curve(median, low, high), system.name)
    draw_nyquist(axes, axis.value(np.pi))
    light_grid(axes)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(3e-4, 1e2)
    axes.set_xlabel(axis.label)
    axes.set_ylabel("$|H|$")
