"""Compare two versions of a model: statistics before and after, distances, and a verdict on the frequency bias."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssmspec.statistics.distances import DISTANCES
from ssmspec.statistics.results import LayerAnalysis
from ssmspec.statistics.spectra import Spectrum
from ssmspec.statistics.values import Summary, summarize, unavailable
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.system import System

TRAINING_CHANGE = 0.15
"""Largest change of a layer's median bias_slope by training alone in 75 reference models [decades/decade]."""


@dataclass(frozen=True, slots=True)
class LayerComparison:
    """One layer in two checkpoints.

    Args:
        before, after: its analyses.
        change: the median of every statistic after, minus the median before; None if either is missing.
        distances: distances by name, summarized over copies.
    """

    before: LayerAnalysis
    after: LayerAnalysis
    change: Mapping[str, float | None]
    distances: Mapping[str, Summary]

    @property
    def name(self) -> str:
        return self.before.name


@dataclass(frozen=True, slots=True)
class TensorChange:
    """One stored tensor of a layer that both checkpoints have.

    Args:
        name, name_after: its full name before and after.
        change: ||after - before||/||before|| (Frobenius), infinite where it was zero before; None with a reason.
    """

    name: str
    name_after: str
    change: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointComparison:
    """Two checkpoints: their common layers in model order, the layers that exist in only one of them, their tensors, and a verdict."""

    before: str
    after: str
    backend: str
    grid: FrequencyGrid
    matched_by: str
    layers: tuple[LayerComparison, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    notes: tuple[str, ...]
    tensors: tuple[TensorChange, ...] = ()

    @property
    def verdict(self) -> str:
        return verdict(self.layers)


def shapes_differ(a: System, b: System) -> str | None:
    """Why two versions of a layer have no distances, or None: they differ in copies, inputs or outputs."""
    if (a.copies, a.inputs, a.outputs) == (b.copies, b.inputs, b.outputs):
        return None
    return f"the shapes differ: {a.shape_text} before, {b.shape_text} after"


def no_distances(reason: str) -> dict[str, Summary]:
    """Every distance without a value, for the given reason."""
    return {name: unavailable(distance.unit, reason) for name, distance in DISTANCES.items()}


def distances_between(before: Spectrum, after: Spectrum) -> dict[str, Summary]:
    """Every distance of a layer, for copies that can be trusted in both versions."""
    a, b = before.system, after.system
    unlike = "" if a.modes == b.modes else f"{a.modes} modes before and {b.modes} after: poles cannot be matched"
    problem, found = a.no_poles or b.no_poles or unlike, {}
    for name, distance in DISTANCES.items():
        if problem and distance.needs_equal_modes:
            found[name] = unavailable(distance.unit, problem)
        else:
            with np.errstate(all="ignore"):
                found[name] = summarize(distance.of(before, after), distance.unit)
    return found


def differences(before: LayerAnalysis, after: LayerAnalysis) -> dict[str, float | None]:
    """Change of the median of every statistic."""
    changes: dict[str, float | None] = {}
    for name, start in before.statistics.items():
        end = after.statistics[name]
        changes[name] = None if start.median is None or end.median is None else end.median - start.median
    return changes


def verdict(layers: Sequence[LayerComparison]) -> str:
    """One line: did the frequency bias change more than training alone is known to change it? This is a comparison, not a diagnosis."""
    unlike = next((layer for layer in layers if layer.before.copies != layer.after.copies), None)
    if unlike is not None:
        counts = f"{unlike.before.copies} copies before and {unlike.after.copies} after"
        return f"none: {unlike.name} has {counts}, so the two are not versions of one layer"
    known = [(abs(change), layer) for layer in layers if (change := layer.change["bias_slope"]) is not None]
    if not known:
        return "no layer has a bias_slope in both checkpoints, so nothing can be said about the frequency bias"
    size, layer = max(known, key=lambda pair: pair[0])
    start, end = layer.before.statistics["bias_slope"].median, layer.after.statistics["bias_slope"].median
    moved = f"bias_slope of {layer.name} went from {start:.3g} to {end:.3g}"
    reference = f"training alone changed it by less than {TRAINING_CHANGE} in 75 reference models"
    if size < TRAINING_CHANGE:
        return f"the frequency bias is unchanged: {moved}, the largest change; {reference}"
    direction = "high" if (layer.change["bias_slope"] or 0) > 0 else "low"
    count = sum(change >= TRAINING_CHANGE for change, _ in known)
    return f"the frequency bias changed in {count} of {len(known)} layers: {moved}, toward {direction} frequencies; {reference}"
