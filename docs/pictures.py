"""Draw the pictures of the concepts from the sample checkpoints: `python docs/pictures.py`."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import ssmspec
from ssmspec.statistics import LayerSpectrum
from ssmspec.statistics.curves import CURVES

HERE = Path(__file__).parent
SAMPLES = HERE.parent / "sample_checkpoints"
COLORS = ("#00204d", "#7c7b78", "#b3502f")
GRID = ssmspec.FrequencyGrid.default()


def curve(system: ssmspec.StateSpace, name: str) -> np.ndarray:
    """The median of a curve over the copies of a layer."""
    return np.median(CURVES[name].function(LayerSpectrum(system, GRID, ssmspec.load_backend("reference"))), axis=0)


def retuned(**change: float) -> ssmspec.StateSpace:
    """The layer of waves_biased.safetensors with another alpha or beta."""
    if not any(change.values()):
        return ssmspec.load_system(SAMPLES / "waves_biased.safetensors", 0)
    return ssmspec.retune(SAMPLES / "waves_biased.safetensors", **change)[0].after


def alpha_beta(path: Path) -> None:
    """Three panels: what alpha does to |H|, what beta does to |H|, and the sensitivity whose slope is the bias."""
    figure = Figure(figsize=(11.0, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    for alpha, color in zip((1, 3, 10), COLORS, strict=True):
        left.plot(GRID.values, curve(retuned(alpha=0 if alpha == 1 else alpha), "magnitude"), color=color, label=f"alpha x {alpha}")
    left.set_title("alpha moves the resonances up", fontsize=10)
    for beta, color in zip((-1, 0, 1), COLORS, strict=True):
        middle.plot(GRID.values, curve(retuned(beta=beta), "magnitude"), color=color, label=f"beta {beta:+d}" if beta else "beta 0")
    middle.set_title("beta tilts the response", fontsize=10)
    for name, color in (("waves_biased", COLORS[0]), ("waves_tuned", COLORS[2])):
        path_of = SAMPLES / f"{name}.safetensors"
        slope = ssmspec.analyze(path_of)[0]["bias_slope"].median
        values = curve(ssmspec.load_system(path_of, 0), "sensitivity")
        right.plot(GRID.values, values / values[0], color=color, label=f"bias_slope {slope:+.2f}")
    right.set_title("bias: how hard high frequencies are to learn", fontsize=10)
    for axes, label in ((left, "|H|"), (middle, "|H|"), (right, "sensitivity, relative")):
        axes.set(xscale="log", yscale="log", xlabel="frequency theta [rad/sample]", ylabel=label, xlim=(np.pi / 1024, np.pi))
        axes.grid(color="0.9")
        axes.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    alpha_beta(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "images" / "alpha_beta.png")
