"""The summary of a report in plain words: what the layers prefer, what stands out, what the rules found, what was assumed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssmspec.checking.findings import SEVERITIES, CheckpointCheck
from ssmspec.commands.report import Report
from ssmspec.errors import printable
from ssmspec.report.html.data import Row, shown_steps
from ssmspec.report.html.packing import MOST_MODES, Amount
from ssmspec.report.tables.compare import changed_tensors
from ssmspec.report.tables.parts import count_of, folded, grouped, readable_size
from ssmspec.statistics import CheckpointAnalysis, LayerAnalysis
from ssmspec.statistics.changes import TRAINING_CHANGE

MOST_FINDINGS = 12  # lines of one section before the rest is folded
MOST_OF_RULE = 3  # lines about one rule
ENOUGH = 5  # layers from which on one can stand out from the others
FAR = 3.5  # robust standard deviations from the median of the layers (Iglewicz and Hoaglin 1993, How to detect and handle outliers)
MAD = 1.4826  # standard deviation of a normal distribution over its median absolute deviation
LEAST_FACTOR = 1.5  # between a layer that stands out and the median of the layers
COMPARED = {  # statistics in which a layer may stand out, in words; all but the bias are judged by ratios
    "bias_slope": "frequency bias",
    "center_frequency": "center frequency",
    "peak_gain": "peak gain",
    "half_life": "half-life",
    "effective_order": "effective order",
}


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what is said under it, each line printable."""

    title: str
    lines: tuple[str, ...]


def summary_of(report: Report, rows: Sequence[Row], *, sample_rate: float | None = None) -> list[Section]:
    """The sections in order; none of them is empty."""
    last = report.last
    sections = [("What this is", _about(report))]
    if report.comparison is not None:
        sections.append(("What changed", [report.comparison.verdict, *_unpaired(report), *changed_tensors(report.comparison.tensors)]))
    if report.comparison is None and len(report.analyses) > 1:
        sections.append(("What training did", _run(report.analyses)))
    sections += [
        ("What the layers prefer", _preferences(last, sample_rate)),
        ("What stands out", _outliers(last.layers)),
        ("What the rules found", _rules(report)),
        ("What was assumed", _assumed(report)),
        ("Notes", _notes(report, rows)),
    ]
    return [Section(title, tuple(printable(line) for line in lines)) for title, lines in sections if lines]


def _about(report: Report) -> list[str]:
    lines = []
    for analysis in report.analyses if report.comparison is not None else (report.last,):
        families = ", ".join(dict.fromkeys(layer.family for layer in analysis.layers)) or "none"
        size = f"{analysis.container}, {readable_size(analysis.size)}, {count_of(analysis.tensors, 'tensor')}"
        lines.append(f"{analysis.path} ({size}): {count_of(len(analysis.layers), 'layer')}, family {families}.")
    skip = " D is included in |H|." if report.last.with_skip else ""
    meaning = f"Values are medians over the copies of a layer, with the 5..95 % range; a single system has a value and no range.{skip}"
    return [*lines, meaning]


def _unpaired(report: Report) -> list[str]:
    assert report.comparison is not None
    found = report.comparison
    sides = ((found.before, found.only_before), (found.after, found.only_after))
    return [f"Only in {path}: {', '.join(names)}" for path, names in sides if names]


def _run(analyses: Sequence[CheckpointAnalysis]) -> list[str]:
    first, last = analyses[0], analyses[-1]
    moved = []
    for a, b in zip(first.layers, last.layers, strict=True):
        start, end = a.statistics["bias_slope"].median, b.statistics["bias_slope"].median
        if start is not None and end is not None:
            moved.append((abs(end - start), f"{b.name} from {start:.3g} to {end:.3g}"))
    head = f"{len(analyses)} checkpoints, {first.path} to {last.path}."
    if not moved:
        return [head, "No layer has a bias_slope in both the first and the last, so nothing can be said about the frequency bias."]
    count = sum(size >= TRAINING_CHANGE for size, _ in moved)
    usual = f"training alone changed it by less than {TRAINING_CHANGE} in 75 reference models"
    return [head, f"bias_slope moved by {TRAINING_CHANGE} or more in {count} of {len(moved)} layers, most in {max(moved)[1]}; {usual}."]


def _preferences(analysis: CheckpointAnalysis, sample_rate: float | None) -> list[str]:
    if analysis.problem:
        return [f"{analysis.problem[0].upper()}{analysis.problem[1:]}"]
    gates = [layer for layer in analysis.layers if layer.half_lives is not None]
    others = [layer for layer in analysis.layers if layer.half_lives is None]
    lines = [*_bias(others), *_centers(others, sample_rate)]
    if gates:
        lives = _known(gates, "half_life")
        found = f"half-lives of {_span(lives, 'samples')}" if lives else "none has a half-life"
        lines.append(f"{count_of(len(gates), 'decay gate')}: {found}.")
    return lines


def _bias(layers: Sequence[LayerAnalysis]) -> list[str]:
    """Which frequencies are easier to learn."""
    known = _known(layers, "bias_slope")
    if not known:
        return ["No layer has a bias_slope; the table says why."] if layers else []
    values = np.array([value for value, _ in known])
    kinds = {
        "low frequencies are easier to learn than high ones": int((values <= -TRAINING_CHANGE).sum()),
        "high frequencies are easier to learn than low ones": int((values >= TRAINING_CHANGE).sum()),
        "neither low nor high frequencies are easier to learn": int((np.abs(values) < TRAINING_CHANGE).sum()),
    }
    parts = "; ".join(f"{what} in {_all(count, len(known))}" for what, count in kinds.items() if count)
    strongest = values[np.abs(values).argmax()]
    times, harder = 10.0 ** abs(strongest), "ten times higher" if strongest < 0 else "ten times lower"
    effect = f"; where it is strongest, a frequency {harder} is {times:.3g} times harder to learn" if times > 1.05 else ""
    trend = _trend(values, "bias_slope")
    return [f"{parts[0].upper()}{parts[1:]}: bias_slope is {_span(known, 'decades/decade')}{effect}.{trend}"]


def _centers(layers: Sequence[LayerAnalysis], sample_rate: float | None) -> list[str]:
    """Which frequencies pass."""
    known = _known(layers, "center_frequency")
    if not known:
        return []
    factor, unit = (1.0, "rad/sample") if sample_rate is None else (sample_rate / (2 * np.pi), "Hz")
    values = np.array([value for value, _ in known])
    periods = " to ".join(f"{2 * np.pi / value:.3g}" for value in dict.fromkeys((values.max(), values.min())))
    shown = [(value * factor, name) for value, name in known]
    return [f"Half of |H| lies below {_span(shown, unit)}, a period of {periods} samples.{_trend(values, 'center_frequency')}"]


def _known(layers: Sequence[LayerAnalysis], name: str) -> list[tuple[float, str]]:
    """The medians of a statistic with the names of their layers."""
    return [(value, layer.name) for layer in layers if (value := layer.statistics[name].median) is not None]


def _span(known: Sequence[tuple[float, str]], unit: str) -> str:
    """The smallest and the largest value with their layers."""
    (low, first), (high, last) = min(known), max(known)
    if f"{low:.3g}" == f"{high:.3g}":
        return f"{low:.3g} {unit}"
    return f"{low:.3g} ({first}) to {high:.3g} {unit} ({last})"


def _all(count: int, total: int) -> str:
    if count < total:
        return f"{count} of {total} layers"
    return {1: "the layer", 2: "both layers"}.get(total, f"all {total} layers")


def _trend(values: np.ndarray, name: str) -> str:
    """Whether a statistic rises or falls with depth, by the rank correlation."""
    if len(values) < ENOUGH or np.ptp(values) == 0:
        return ""
    ranks = values.argsort().argsort()
    correlation = float(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1])
    if abs(correlation) < 0.7:
        return ""
    return f" {name} {'rises' if correlation > 0 else 'falls'} with depth (rank correlation {correlation:.2f})."


def _outliers(layers: Sequence[LayerAnalysis]) -> list[str]:
    """Layers that differ from most others in a statistic."""
    if len(layers) < ENOUGH:
        return [f"With fewer than {ENOUGH} layers, none is compared with the others."]
    lines = []
    for name, words in COMPARED.items():
        ratio = name != "bias_slope"
        known = [(value, layer) for value, layer in _known(layers, name) if value > 0 or not ratio]
        if len(known) < ENOUGH:
            continue
        values = np.array([value for value, _ in known])
        scale = np.log10(values) if ratio else values
        distance = np.abs(scale - np.median(scale))
        least = max(FAR * MAD * float(np.median(distance)), np.log10(LEAST_FACTOR) if ratio else TRAINING_CHANGE)
        for place in np.flatnonzero(distance > least):
            value, layer = known[place]
            size = "high" if scale[place] > np.median(scale) else "low"
            shown = f"{value:.3g} {layers[0].statistics[name].unit}".strip()
            middle = f"{np.median(values):.3g}"
            lines.append(f"{layer}: its {words} ({name}) of {shown} is unusually {size}; the median over the layers is {middle}.")
    if not lines:
        far = f"{FAR} robust standard deviations and a factor of {LEAST_FACTOR} (of bias_slope, {TRAINING_CHANGE})"
        return [f"No layer: none is further than {far} from the median of the layers in {', '.join(COMPARED)}."]
    return folded(lines, MOST_FINDINGS, where="sort the table to see them")


def _rules(report: Report) -> list[str]:
    """Every rule with what it found, of many layers the first ones."""
    lines = []
    for check in report.checks:
        if check is None:
            continue
        lines.append(f"{check.path}: {_counts(check)}.")
        by_rule: dict[tuple[int, str], list[tuple[str, str]]] = {}
        for finding in check.findings:
            key = (SEVERITIES.index(finding.severity), finding.rule)
            by_rule.setdefault(key, []).append((finding.message, finding.layer))
        for (severity, rule), found in sorted(by_rule.items(), key=lambda item: item[0][0]):
            name = f"{SEVERITIES[severity]}, {rule}"
            lines += folded(grouped(name, found, None), MOST_OF_RULE, name, "ssmspec check lists them all")
    return lines + [f"The rules could not be applied: {reason}" for reason in report.unchecked]


def _counts(check: CheckpointCheck) -> str:
    counts = [(severity, sum(finding.severity == severity for finding in check.findings)) for severity in SEVERITIES]
    names = {"error": "error", "warning": "warning", "info": "remark"}
    return ", ".join(count_of(count, names[severity]) for severity, count in counts if count) or "nothing found"


def _assumed(report: Report) -> list[str]:
    pairs = dict.fromkeys((text, layer.name) for analysis in report.analyses for layer in analysis.layers for text in layer.assumptions)
    names = {layer.name for analysis in report.analyses for layer in analysis.layers}
    points = dict.fromkeys(
        (f"operating point: {layer.operating_point}", layer.name)
        for analysis in report.analyses
        for layer in analysis.layers
        if layer.operating_point is not None
    )
    found = grouped("assumed", pairs, len(names)) + grouped("assumed", points, len(names), most=MOST_FINDINGS)
    return found or (["Nothing: the files state everything that was needed."] if names else [])


def _notes(report: Report, rows: Sequence[Row]) -> list[str]:
    """What the reader noted and skipped, and what the report itself leaves out of its figures."""
    lines: dict[str, None] = {}
    for analysis in report.analyses:
        count = len(analysis.layers)
        found = [f"no numbers for {layer.name}: {layer.problem}" for layer in analysis.layers if layer.problem]
        found += grouped("note", [(text, layer.name) for layer in analysis.layers for text in layer.notes], count)
        found += grouped("skipped", [(item.reason, item.name) for item in analysis.skipped], None)
        found += [f"note: {note}" for note in analysis.notes]
        where = f"{analysis.path}: " if len(report.analyses) > 1 else ""
        lines |= dict.fromkeys(f"{where}{line}" for line in found)
    compared = () if report.comparison is None else report.comparison.notes
    others = [f"note: {note}" for note in compared if not note.startswith("assumed for ")]  # which are under what was assumed
    own = [*dict.fromkeys(others), *_drawn(report, rows)]
    return [*folded(list(lines), 2 * MOST_FINDINGS, where="ssmspec analyze --json lists them all"), *own]


def _drawn(report: Report, rows: Sequence[Row]) -> list[str]:
    """How figures are thinned."""
    amount, total = Amount(sum(len(row.known) for row in rows)), len(report.last.grid.values)
    layers = [layer for row in rows for layer in row.known]
    lines = []
    if total > amount.points:
        lines.append(
            f"figures: curves show {amount.points} of the {total} grid points, of neighbors the one where the median of |H| is highest"
        )
    crowded = [layer for layer in layers if layer.poles.size > amount.poles and layer.poles.imag.any()]
    if crowded:
        most = max(layer.poles.size for layer in crowded)
        lines.append(
            f"figures: of up to {most} poles of a layer, {amount.poles} are drawn, evenly spaced in the order of their frequency, "
            "with the slowest and the fastest decay"
        )
    if any(each.details and each.details.hankel and len(each.details.hankel.median) > MOST_MODES for each in layers):
        lines.append(f"figures: {MOST_MODES} Hankel singular values of a layer are drawn, the first ones and then ever fewer")
    steps = shown_steps(report)
    if len(steps) < len(report.analyses):
        lines.append(f"figures: {len(steps)} of {len(report.analyses)} checkpoints are on the slider; lines over steps have all of them")
    return lines
