"""All initializations side by side: the poles of each, and the |H| with which a layer starts."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssmspec.backends import load_backend
from ssmspec.report.figures.poles import PoleSet, draw_plane, plane_labels
from ssmspec.report.figures.style import LABEL, SMALL, FrequencyAxis, draw_curve, draw_nyquist, light_grid, new_figure
from ssmspec.statistics import Curve
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.response import squared_magnitude
from ssmspec.systems.statespace import FloatArray, StateSpace
from ssmspec.tuning.poles.initializations import INITIALIZATIONS, Initialization, Poles, Settings, initial_poles, sample_step
from ssmspec.tuning.poles.matrices import initial_outputs

COPIES, MODES = 64, 32
STEPS = (1e-3, 1e-1)
COLUMNS = 5


def initializations_figure(axis: FrequencyAxis, alpha: float = 1.0, seed: int = 0) -> Figure:
    """One column per initialization: its poles at the top, and at the bottom the median |H| of 64 copies of 32 modes with normal C.

    Args:
        axis: frequency axis of |H|. alpha: factor on Im of the poles, if they have any. seed: seed of all draws.
    """
    rows = -(-len(INITIALIZATIONS) // COLUMNS)
    figure = new_figure(2.9 * COLUMNS, 4.6 * rows)
    grid = figure.subplots(2 * rows, COLUMNS, squeeze=False)
    for place, kind in enumerate(INITIALIZATIONS.values()):
        row, column = divmod(place, COLUMNS)
        start, system = _start(kind, alpha, np.random.default_rng([seed, place]))
        _draw_start(grid[2 * row, column], kind, start, alpha)
        _draw_magnitude(grid[2 * row + 1, column], system, axis)
    for axes in grid.reshape(rows, 2, COLUMNS).transpose(0, 2, 1).reshape(-1, 2)[len(INITIALIZATIONS) :].flat:
        axes.remove()
    figure.suptitle(
        f"Initializations, alpha = {alpha:g}: poles (upper half) of 64 x 32 modes; median |H| and 5..95 % of copies, C complex normal,\n"
        f"zero-order hold with step {STEPS[0]:g}..{STEPS[1]:g}, log-uniform; dfout and lru-ring have their z directly",
        fontsize=LABEL + 1,
    )
    return figure


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


def _draw_start(axes: Axes, kind: Initialization, start: Poles, alpha: float) -> None:
    poles = start.discrete() if kind.plane == "z" else start.exponents
    shown = PoleSet(kind.name, poles, continuous=kind.plane == "s")
    draw_plane(axes, shown, size=5, bars=20)
    axes.set_title(f"{kind.name}\n{kind.title}", fontsize=SMALL)
    across, up = plane_labels(shown)
    axes.set_xlabel(across, fontsize=SMALL)
    axes.set_ylabel(up, fontsize=SMALL)
    if shown.plane == "s":
        axes.set_yscale("symlog", linthresh=1)
        axes.set_xlim(-1, 0.1)
        axes.set_ylim(-0.5, 2e3 * max(1.0, alpha))  # the same for all panels, so that they can be compared


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
    axes.set_xlabel(axis.label, fontsize=SMALL)
    axes.set_ylabel("|H|", fontsize=SMALL)
