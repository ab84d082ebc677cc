"""What a model hears as text."""

from collections.abc import Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from ssmspec.report.tables.analyze import BARS, sparkline
from ssmspec.report.tables.parts import plain, plain_table
from ssmspec.statistics.frequency_sensitivity import PER_OCTAVE, Band, FrequencySensitivity, Probed, Robustness, estimate_text
from ssmspec.systems.grid import FloatArray

LEGEND = (
    "S: mean over outputs of the squared response to a tone exp(i theta t) of unit amplitude, summed over channels; a cosine gives half",
    "half-sensitivity: half of the integral of S from 0 to pi lies below it; slope: of log10 S over log10 theta; +- is one standard error "
    "from the spread over inputs and draws",
)


def probe_text(found: Sequence[Probed], *, per_octave: int = 1) -> RenderableType:
    """A table of places, one of the octave bands of the input, one per kind of disturbance, and how it was measured.

    Args:
        found: one or more models. per_octave: bands of an octave in the second table.
    """
    parts: list[RenderableType] = []
    for each in found:
        parts += [_places(each), Text()]
    parts += [_bands(found, per_octave), Text()]
    for each in found:
        for robustness in each.robustness:
            parts += [_robustness(each, robustness), Text()]
    several = len(found) > 1
    lines = list(LEGEND)
    for each in found:
        name = f"{each.path}: " if several else ""
        lines += [f"note: {name}{note}" for note in each.notes]
        lines += [f"note: {name}{place.name}: {note}" for place in each.places for note in place.notes]
        lines += [f"note: {name}features of {feature.name}: {note}" for feature in each.features for note in feature.notes]
        lines += [f"skipped: {name}{what}: {reason}" for what, reason in each.skipped]
    return Group(*parts, *map(plain, dict.fromkeys(lines)))


def _places(found: Probed) -> RenderableType:
    headings = (
        "place",
        "channels x samples",
        "half-sensitivity [rad/sample]",
        "slope",
        "resolved from",
        "S, low to high theta",
    )
    rows = [
        [
            place.name,
            f"{len(place.channels)} x {place.length}",
            place.half_text,
            estimate_text(place.slope),
            f"{place.resolved_from:.3g}",
            sparkline(resolved_means(place), BARS),
        ]
        for place in found.places
    ]
    return plain_table(f"{found.path}: frequency sensitivity, {found.passes} backward passes", headings, rows)


def resolved_means(place: FrequencySensitivity) -> FloatArray:
    """sqrt of the means of S over resolved half-octave bands, from low to high; of the whole curve where no band is resolved."""
    means = np.array([band.mean for band in place.bands(PER_OCTAVE) if band.resolved])
    return np.sqrt(means if means.size else place.curve)


def _bands(found: Sequence[Probed], per_octave: int) -> RenderableType:
    usable = [each for each in found if each.places]
    columns = [each.places[0].bands(per_octave) for each in usable]
    rows = []
    for band in sorted({(band.low, band.high) for column in columns for band in column}):
        cells = [next((each for each in column if (each.low, each.high) == band), None) for column in columns]
        resolved = all(cell.resolved for cell in cells if cell is not None)
        end = "]" if band[1] > np.pi - 1e-9 else ")"
        rows.append([f"[{band[0]:.3g}, {band[1]:.3g}{end}" + ("" if resolved else " unresolved"), *map(_band, cells)])
    headings = ("theta [rad/sample]", *(f"mean S of {each.path}" if len(found) > 1 else "mean S" for each in usable))
    return plain_table("from the input, by octaves", headings, rows)


def _band(band: Band | None) -> str:
    if band is None:
        return ""
    return f"{band.mean:.3g}" + ("" if band.error is None else f" +- {band.error:.1g}")


def _robustness(found: Probed, each: Robustness) -> RenderableType:
    levels = sorted({effect.level for effect in each.effects}, reverse=True)
    bands = dict.fromkeys((effect.low, effect.high) for effect in each.effects)
    rows = []
    for low, high in bands:
        cells = [next((e for e in each.effects if (e.low, e.high, e.level) == (low, high, level)), None) for level in levels]
        end = "]" if high > np.pi - 1e-9 else ")"
        texts = ["" if e is None else f"{e.mean:.4g}" + ("" if e.spread is None else f" +- {e.spread:.2g}") for e in cells]
        rows.append([f"[{low:.3g}, {high:.3g}{end}", *texts])
    title = f"{found.path}: {each.metric} under {each.kind} in one band at a time; clean {each.clean:.4g}"
    notes = [plain(f"{each.metric}: {each.meaning}; +- is the deviation over seeds"), *(plain(f"note: {note}") for note in each.notes)]
    return Group(plain_table(title, ("theta [rad/sample]", *(f"{level:g} dB" for level in levels)), rows), *notes)
