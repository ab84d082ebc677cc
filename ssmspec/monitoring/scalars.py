"""Measurements as what experiment trackers take: numbers by name, and texts where a layer begins or ends to have no numbers."""

from ssmspec.report.documents.monitoring import Timing
from ssmspec.statistics import Measurement

SECONDS, SHARE = "monitor/seconds", "monitor/share"
RESPONSE, PROBLEM = "response/", "problem/"  # beginnings of the names of pictures and of reasons, before the layer


def scalars(measurement: Measurement, timing: Timing | None) -> dict[str, float]:
    """The numbers that exist: `<statistic>/<layer>` for medians, `<statistic>.p5/` and `.p95/` for the range, and the cost of measuring."""
    found = {}
    for layer in measurement.layers:
        for name, value in layer.statistics.items():
            for tag, number in ((name, value.median), (f"{name}.p5", value.p5), (f"{name}.p95", value.p95)):
                if number is not None:
                    found[f"{tag}/{layer.name}"] = number
    return found if timing is None else found | {SECONDS: timing.seconds, SHARE: timing.share}


class Problems:
    """Why layers have no numbers, or some copies none, as far as it is new."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def new(self, measurement: Measurement) -> dict[str, str]:
        """Reasons that a measurement brings, by layer; "resolved" where there is none any more."""
        found = {}
        for layer in measurement.layers:
            problem = layer.problem or "; ".join(fault.text for fault in layer.faults) or None
            if problem != self._known.get(layer.name):
                found[layer.name] = problem or "resolved"
                self._known[layer.name] = problem
        return found
