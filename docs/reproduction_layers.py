"""Several sweeps of `waves` in one table and one picture, for reproduction.md.

python docs/reproduction_layers.py PICTURE "LABEL=FOLDER"...      # folders that `ssmspec train waves --sweep ... --out FOLDER` has written
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from ssmspec.report.figures.style import save, styled
from ssmspec.report.figures.training import rows_figure
from ssmspec.report.tables.train import spread
from ssmspec.training.engine.run_folder import RESULTS
from ssmspec.training.tasks.waves import CHANCE

SLOPE = "bias_slope"


def runs_of(folder: Path) -> dict[float, list[dict[str, float]]]:
    """For each alpha, in order: the errors of every run, and the bias_slope of its layer before and after."""
    found = defaultdict(list)
    for place in folder.glob("alpha*"):
        document = json.loads((place / RESULTS).read_text(encoding="utf-8"))
        values = {f"{float(name.removeprefix('error_')):g}": each["value"] for name, each in document["measures"].items()}
        (layer,) = document["comparison"]["layers"]
        values |= {f"{SLOPE} {when}": layer["statistics"][SLOPE][when]["median"] for when in ("before", "after")}
        found[document["settings"]["alpha"]].append(values)
    return dict(sorted(found.items()))


def main() -> None:
    picture, *pairs = sys.argv[1:]
    rows, lines = {}, []
    for label, _, folder in (pair.partition("=") for pair in pairs):
        found = runs_of(Path(folder))
        for alpha, runs in found.items():
            names = list(runs[0])
            cells = [spread([run[name] for run in runs]) for name in names]
            lines.append(f"| {label} | {alpha:g} | {len(runs)} | {' | '.join(cells)} |\n")
            tones = [name for name in names if not name.startswith(SLOPE)]
            rows[f"{label}, {alpha:g}" if len(found) > 1 else label] = np.mean([[run[tone] for tone in tones] for run in runs], axis=0)
    sys.stdout.write(f"| layer | alpha | seeds | {' | '.join(names)} |\n|{' --- |' * (3 + len(names))}\n{''.join(lines)}")
    with styled():
        labels = [f"{tone} rad/model time" for tone in tones]
        figure = rows_figure(rows, labels, axis="", quantity="mean absolute error of the amplitude", limits=(0.0, CHANCE))
        save(figure, Path(picture))


if __name__ == "__main__":
    main()
