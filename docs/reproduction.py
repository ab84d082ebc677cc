"""What training did to the poles and to the bias in the runs of a sweep of `waves`, in the form of the tables of reproduction.md.

python docs/reproduction.py SWEEP...      # folders that `ssmspec train waves --sweep ... --out SWEEP` has written
"""

import sys
from collections.abc import Callable
from math import pi
from pathlib import Path

import numpy as np

from ssmspec.backends import load_backend
from ssmspec.families import ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.report.tables.train import spread
from ssmspec.statistics import STATISTICS, LayerSpectrum
from ssmspec.statistics.variation import total_variation
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.training.engine.run_folder import FINAL, INITIAL, read_config

MIDDLE = pi / 32  # rad/sample: the middle of the default grid on a log axis


class Run:
    """A finished run: its bank before and after training."""

    def __init__(self, folder: Path) -> None:
        self.settings = read_config(folder).settings
        engine, grid = load_backend("reference"), FrequencyGrid.default()
        systems = [load_system(folder / name, "0", ReadOptions()) for name in (INITIAL, FINAL)]
        self.spectra = [LayerSpectrum(system, grid, engine) for system in systems]
        self.start, self.end = (np.abs(system.poles.imag) for system in systems)

    def moved(self) -> float:
        """Median |change of Im a|, rad per model time."""
        return float(np.median(np.abs(self.end - self.start)))

    def highest(self) -> float:
        """Largest |Im a| afterwards, rad per model time."""
        return float(self.end.max())

    def outside(self) -> float:
        """Share of the poles, in percent, that left the initial range of |Im a| of all poles."""
        return 100 * float(((self.end < self.start.min()) | (self.end > self.start.max())).mean())

    def crossed(self, direction: int) -> float:
        """Share of the poles, in percent, that moved to a higher (1) or lower (-1) band. Bands meet halfway between tones on a log axis."""
        edges = np.sqrt(np.multiply(self.settings.tones[:-1], self.settings.tones[1:]))
        return 100 * float((np.sign(np.digitize(self.end, edges) - np.digitize(self.start, edges)) == direction).mean())

    def slope(self, when: int) -> float:
        """bias_slope, median over copies, decades per decade."""
        return float(np.median(STATISTICS["bias_slope"].function(self.spectra[when]).values))

    def variation(self, when: int) -> float:
        """Total variation, median over copies."""
        return float(np.median(total_variation(self.spectra[when].modal).value))

    def low_variation(self, when: int) -> float:
        """Share of the total variation that lies below the middle of the log axis, in percent, median over copies."""
        modal = self.spectra[when].modal
        return 100 * float(np.median(total_variation(modal, high=MIDDLE).value / total_variation(modal).value))


COLUMNS: dict[str, Callable[[Run], float]] = {
    "pole movement [rad/model time]": Run.moved,
    "highest pole [rad/model time]": Run.highest,
    "left the range [%]": Run.outside,
    "a band up [%]": lambda run: run.crossed(1),
    "a band down [%]": lambda run: run.crossed(-1),
    "bias_slope before": lambda run: run.slope(0),
    "bias_slope after": lambda run: run.slope(1),
    "total variation before": lambda run: run.variation(0),
    "total variation after": lambda run: run.variation(1),
    "low share before [%]": lambda run: run.low_variation(0),
    "low share after [%]": lambda run: run.low_variation(1),
}


def table(folder: Path) -> str:
    """One row per setting of the sweep in the folder."""
    groups: dict[tuple[float, float], list[Run]] = {}
    for place in sorted(folder.glob("alpha*")):
        run = Run(place)
        groups.setdefault((run.settings.alpha, run.settings.beta), []).append(run)
    rows = [["alpha", "beta", "runs", *COLUMNS, "largest change of bias_slope"]]
    rows.append(["---"] * len(rows[0]))
    for (alpha, beta), runs in sorted(groups.items()):
        cells = [spread([value(run) for run in runs]) for value in COLUMNS.values()]
        largest = max(abs(run.slope(1) - run.slope(0)) for run in runs)
        rows.append([f"{alpha:g}", f"{beta:g}", str(len(runs)), *cells, f"{largest:.2g}"])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        sys.stdout.write(f"{argument}\n\n{table(Path(argument))}\n")
