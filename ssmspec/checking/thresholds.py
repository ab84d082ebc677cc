"""Limits on a statistic: the layers concerned, the aggregate over the copies, and the allowed range."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssmspec.checking.findings import Finding, Severity
from ssmspec.statistics import STATISTICS, LayerAnalysis
from ssmspec.systems.grid import FloatArray

AGGREGATES: dict[str, Callable[[FloatArray], float]] = {
    "median": lambda values: float(np.median(values)),
    "p5": lambda values: float(np.percentile(values, 5)),
    "p95": lambda values: float(np.percentile(values, 95)),
    "min": lambda values: float(values.min()),
    "max": lambda values: float(values.max()),
}
"""Aggregates that give one number from the copies that have a value; this number must lie within the limits."""

COUNTS: dict[str, Callable[[np.ndarray], bool]] = {"any": lambda outside: bool(outside.any()), "all": lambda outside: bool(outside.all())}
"""Aggregates that give a finding if any copy, or if every copy, lies outside the limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """One [[threshold]] of a rules file.

    Args:
        id: its name in findings.
        statistic: a key of STATISTICS, in the unit given there.
        layer: the layers concerned, as for --layer: exact name, glob, or index.
        aggregate: a key of AGGREGATES or COUNTS.
        low, high: the inclusive limits; infinite if there is none.
        severity: severity of a value outside the limits.
        allow_null: whether copies without a value are ignored instead of being an error.
    """

    id: str
    statistic: str
    layer: str = "*"
    aggregate: str = "median"
    low: float = -math.inf
    high: float = math.inf
    severity: Severity = "error"
    allow_null: bool = False

    @property
    def limits(self) -> str:
        """The range in words."""
        if math.isinf(self.low):
            return f"at most {self.high:.6g}"
        return f"at least {self.low:.6g}" if math.isinf(self.high) else f"within {self.low:.6g}..{self.high:.6g}"


def apply(threshold: Threshold, layer: LayerAnalysis) -> Finding | None:
    """Apply one threshold to the statistics of one layer; None if it passes."""
    values = layer.values.get(threshold.statistic, np.empty(0))
    values = values[np.isfinite(values)]
    if not threshold.allow_null:
        summary = layer.statistics[threshold.statistic]
        if summary.median is None:
            return Finding(threshold.id, "error", layer.name, f"{threshold.statistic} has no value ({summary.reason})")
        missing = [layer.gaps[threshold.statistic]] if threshold.statistic in layer.gaps else []
        missing += [f"{threshold.statistic} has no value where {fault.text}" for fault in layer.faults]
        if missing:
            return Finding(threshold.id, "error", layer.name, f"{'; '.join(missing)}; set allow_null = true to accept this")
    message = _outside(threshold, values) if values.size else None
    return None if message is None else Finding(threshold.id, threshold.severity, layer.name, message)


def _outside(threshold: Threshold, values: FloatArray) -> str | None:
    unit = STATISTICS[threshold.statistic].unit
    wanted = f"{threshold.limits}{f' {unit}' if unit else ''}"
    if threshold.aggregate in COUNTS:
        excess = np.maximum(threshold.low - values, values - threshold.high)
        outside = excess > 0
        if not COUNTS[threshold.aggregate](outside):
            return None
        worst = values[excess.argmax()]
        return f"{threshold.statistic} of {int(outside.sum())} of {values.size} copies is not {wanted}; the worst value is {worst:.6g}"
    value = AGGREGATES[threshold.aggregate](values)
    if threshold.low <= value <= threshold.high:
        return None
    which = "" if values.size == 1 else f"{threshold.aggregate} of "
    return f"{which}{threshold.statistic} is {value:.6g}, expected {wanted}"
