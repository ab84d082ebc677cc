"""The values of one statistic for every copy, and their summary for a layer."""

from dataclasses import dataclass

import numpy as np

from ssmspec.systems.grid import FloatArray

DEAD = "no response within double precision (zero residues, underflow, overflow or cancellation)"


@dataclass(frozen=True, slots=True)
class Values:
    """Values (K,), NaN where there is none, and the reason.

    Args:
        by_definition: copies without a value did not fail; the definition excludes them.
    """

    values: FloatArray
    reason: str = DEAD
    by_definition: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """Median and 5..95 % range over the copies that have a value; a single system has a value but no range.

    All numbers are finite, or None with a reason.
    """

    median: float | None
    p5: float | None
    p95: float | None
    unit: str
    reason: str | None = None


def summarize(values: Values, unit: str) -> Summary:
    """Quantiles over the copies with a finite value, by linear interpolation."""
    finite = values.values[np.isfinite(values.values)]
    if not finite.size:
        return Summary(None, None, None, unit, values.reason)
    if len(values.values) == 1:
        return Summary(float(finite[0]), None, None, unit)
    p5, median, p95 = np.percentile(finite, [5, 50, 95])
    return Summary(float(median), float(p5), float(p95), unit)


def unavailable(unit: str, reason: str) -> Summary:
    """A summary without a value, for a reason that applies to the whole layer."""
    return Summary(None, None, None, unit, reason)
