"""What `ssmspec.probe` returns: S of every place by name, index and glob, as a table, a document and pictures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ssmspec.api.collection import Collection
from ssmspec.probing.pictures import ProbePlots
from ssmspec.report.documents.document import Document
from ssmspec.report.documents.probe import BAND_COLUMNS, band_rows, probe_document
from ssmspec.report.tables.analyze import BARS, sparkline
from ssmspec.report.tables.probe import resolved_means
from ssmspec.statistics.frequency_sensitivity import FeatureSpectrum, FrequencySensitivity, Probed, Robustness, estimate_text


class Probe(Collection[FrequencySensitivity]):
    """S from the input of a model, and from those of its blocks, to its output: a `FrequencySensitivity` per place, in model order."""

    def __init__(self, found: Probed) -> None:
        super().__init__(found.places)
        self.found = found  # everything, as plain data

    @property
    def path(self) -> str:
        """The model, or what stands for it in memory."""
        return self.found.path

    @property
    def notes(self) -> tuple[str, ...]:
        """How it was measured, and what is unusual, in words."""
        return self.found.notes

    @property
    def skipped(self) -> tuple[str, ...]:
        """What was not measured, each with its reason."""
        return tuple(f"{name}: {reason}" for name, reason in self.found.skipped)

    @property
    def passes(self) -> int:
        """The number of backward passes."""
        return self.found.passes

    @property
    def features(self) -> Mapping[str, FeatureSpectrum]:
        """Power spectra of what the blocks give, by name; empty unless `axes` asked for them."""
        return {each.name: each for each in self.found.features}

    @property
    def robustness(self) -> tuple[Robustness, ...]:
        """The metric under disturbances by band; empty unless they were asked for."""
        return self.found.robustness

    @property
    def plot(self) -> ProbePlots:
        """Figures: `plot.sensitivity()`, `plot.features()`, `plot.depth()`, `plot.robustness()` and `plot.layers(analysis)`."""
        return ProbePlots((self.found,))

    def to_dict(self) -> Document:
        """The document of `ssmspec probe --json` (schema ssmspec.probe/1)."""
        return probe_document(self.found)

    def _some(self, items: Sequence[FrequencySensitivity]) -> "Probe":
        return Probe(replace(self.found, places=tuple(items)))

    def _rows(self) -> tuple[Sequence[str], list[list[object]]]:
        return BAND_COLUMNS, band_rows(self.found.places)

    def _wide(self) -> list[dict[str, object]]:
        return [
            {
                "place": place.name,
                "channels": len(place.channels),
                "length": place.length,
                "half_sensitivity": place.half_frequency.value,
                "half_sensitivity_error": place.half_frequency.error,
                "slope": place.slope.value,
                "slope_error": place.slope.error,
                "resolved_from": place.resolved_from,
            }
            for place in self
        ]

    def _title(self) -> str:
        return f"{self.path}: frequency sensitivity from {len(self)} place{'s' * (len(self) != 1)}, {self.passes} backward passes"

    def _remarks(self) -> Sequence[str]:
        own = dict.fromkeys(f"{place.name}: {note}" for place in self for note in place.notes)
        return [*(f"skipped: {line}" for line in self.skipped), *(f"note: {note}" for note in (*own, *self.notes))]

    def _html_table(self) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        rows = (
            [
                place.name,
                str(len(place.channels)),
                place.half_text,
                estimate_text(place.slope),
                sparkline(resolved_means(place), BARS),
            ]
            for place in self
        )
        return ("place", "channels", "half-sensitivity [rad/sample]", "slope", "S, low to high theta (resolved)"), rows
