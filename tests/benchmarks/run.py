"""Run every benchmark: writes results.json and scaling.png beside this file, and the tables of RESULTS.md.

python tests/benchmarks/run.py [--rounds N] [--output FOLDER]      # minutes; nothing else should run on the machine
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from ssmspec.benchmarks.catalogue import choose, run_benchmarks
from ssmspec.report.documents.bench import bench_document
from ssmspec.report.documents.document import to_json
from ssmspec.report.progress import LayerProgress
from ssmspec.report.tables.bench import bench_table, hardware_line, seconds_text, size_text
from ssmspec.report.tables.parts import console

matplotlib.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
MEASURED = "<!-- what follows is written by run.py -->"
LABELS = {"N": "N, stored modes", "F": "F, frequencies", "K": "K, copies", "L": "L, samples"}
STYLES = {"float64": "C0", "float32": "C1", "torch complex64": "C7", "ours": "C0", "naive": "C7"}


def main() -> None:
    """Measure, then write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved pairs per benchmark")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for results.json, scaling.png and RESULTS.md")
    arguments = parser.parse_args()
    with LayerProgress() as progress:
        report = run_benchmarks(choose((), full=True), rounds=arguments.rounds, progress=progress)
    console().print(bench_table(report), highlight=False)
    write(bench_document(report), arguments.output)


def write(document: Mapping[str, Any], folder: Path) -> None:
    """results.json, scaling.png and RESULTS.md from a document of schema ssmspec.bench/1."""
    (folder / "results.json").write_text(to_json(dict(document)) + "\n", encoding="utf-8")
    draw_scaling(document["scaling"], folder / "scaling.png")
    method = (HERE / "RESULTS.md").read_text(encoding="utf-8").partition(MEASURED)[0]
    (folder / "RESULTS.md").write_text(f"{method}{MEASURED}\n\n{measured_text(document)}", encoding="utf-8")


def measured_text(document: Mapping[str, Any]) -> str:
    """The tables of RESULTS.md."""
    lines = [f"{document['date']}: {hardware_line(document['hardware'])}", ""]
    lines += _table(("benchmark", "peer", "ratio", "10..90 %", "pairs", "ours", "peer takes", "size"), map(_row, document["results"]))
    lines += ["", "More about single results:", ""]
    lines += [f"- `{result['name']}`: {_facts(result['facts'])}" for result in document["results"] if result["facts"]]
    lines += [f"- not measured: `{item['name']}`: {item['reason']}" for item in document["skipped"]]
    lines += ["", "![Seconds over N, F, K and L](scaling.png)", "", "Exponents p of the fit seconds ~ size^p:", ""]
    lines += _table(
        ("size", "values", "side", "p"),
        [
            (entry["dimension"], f"{entry['values'][0]}..{entry['values'][-1]}", side, f"{p:.2f}")
            for entry in document["scaling"]
            for side, p in entry["exponents"].items()
        ],
    )
    return "\n".join(lines) + "\n"


def _table(headings: Any, rows: Any) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows)]


def _row(result: Mapping[str, Any]) -> list[str]:
    spread = f"{result['spread']['p10']:.3g}..{result['spread']['p90']:.3g}"
    times = seconds_text(result["ours_seconds"]), seconds_text(result["peer_seconds"])
    peer = f"{result['measures']} against {result['peer']}".replace("|", r"\|")
    return [f"`{result['name']}`", peer, f"{result['ratio']:.3g}", spread, str(result["rounds"]), *times, size_text(result["size"])]


def _facts(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in facts.items())


def draw_scaling(entries: Any, path: Path) -> None:
    """Seconds over every dimension on log axes, with the fitted lines; exponents in the legends."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
    for axis, entry in zip(axes.flat, entries, strict=True):
        values = np.array(entry["values"], float)
        for side, seconds in entry["seconds"].items():
            slope, offset = np.polyfit(np.log(values), np.log(seconds), 1)
            axis.loglog(values, seconds, "o", color=STYLES[side], label=f"{side}: {entry['dimension']}^{slope:.2f}")
            axis.loglog(values, np.exp(offset) * values**slope, "-", color=STYLES[side], linewidth=1)
        axis.set_xticks(values, [str(value) for value in entry["values"]], minor=False)
        axis.minorticks_off()
        axis.set_xlabel(LABELS[entry["dimension"]])
        axis.set_ylabel("time per call [s]")
        axis.set_title(f"{entry['measures']}; {size_text(entry['fixed'])}", fontsize=10)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
