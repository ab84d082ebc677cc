"""`ssmspec.compare` and what it returns."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ssmspec.api.analyze import Layers, chosen_layers
from ssmspec.api.collection import Collection
from ssmspec.api.keywords import analysis_options
from ssmspec.commands.compare import compare_chosen
from ssmspec.errors import LayerError
from ssmspec.report.documents.compare import COMPARE_COLUMNS, comparison_document, layer_change_rows
from ssmspec.report.documents.document import Document
from ssmspec.report.tables.compare import SHOWN
from ssmspec.statistics import HEADLINES, Summary
from ssmspec.statistics.changes import CheckpointComparison, LayerComparison


class LayerChange:
    """One layer before and after: `change["bias_slope"]` is (median before, median after), `change.distances` compare the two."""

    def __init__(self, found: LayerComparison) -> None:
        self._found = found

    @property
    def name(self) -> str:
        """Its name in the first checkpoint."""
        return self._found.name

    @property
    def distances(self) -> dict[str, Summary]:
        """Distances of the two versions by name: median over copies, range and unit."""
        return dict(self._found.distances)

    def __getitem__(self, name: str) -> tuple[float | None, float | None]:
        return self._found.before.statistics[name].median, self._found.after.statistics[name].median

    def summary(self) -> str:
        """The change in one line."""
        return "; ".join([self.name, *(f"{name} {_arrow(*self[name])}" for name in HEADLINES if name in self._found.before.statistics)])

    def __repr__(self) -> str:
        return f"<LayerChange {self.summary()}>"


class Comparison(Collection[LayerChange]):
    """What changed from one model to another, layer by layer, with a verdict on the frequency bias."""

    def __init__(self, found: CheckpointComparison, layers: Iterable[LayerChange]) -> None:
        super().__init__(layers)
        self._found = found

    @property
    def verdict(self) -> str:
        """Whether the frequency bias changed by more than training alone changes it, in words."""
        return self._found.verdict

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual, in words."""
        return self._found.notes

    def plot(self, *, ax: Any = None) -> Any:
        """Draw |H| before and after, a panel per layer; of one layer (`result[:1].plot()`) with the paths of its poles.

        Args:
            ax: as for the figures of an analysis.
        Raises:
            LayerError: no layer has a curve in both.
        """
        from ssmspec.report.figures.compare import comparison_figure, comparison_title, drawable
        from ssmspec.report.figures.style import FrequencyAxis, styled

        found = drawable(self._found)
        if not found.layers:
            raise LayerError(f"{comparison_title(self._found)}: no layer has a curve in both")
        with styled():
            return comparison_figure(found, FrequencyAxis(), comparison_title(self._found), ax=ax)

    def to_dict(self) -> Document:
        """The document of `ssmspec compare --json` (schema ssmspec.compare/1)."""
        return comparison_document(self._found)

    def _some(self, items: Sequence[LayerChange]) -> "Comparison":
        chosen = {id(item) for item in items}
        kept = [found for found, item in zip(self._found.layers, self, strict=True) if id(item) in chosen]
        return Comparison(replace(self._found, layers=tuple(kept)), items)

    def _rows(self) -> tuple[Sequence[str], list[list[object]]]:
        return COMPARE_COLUMNS, [row for layer in self._found.layers for row in layer_change_rows(layer)]

    def _wide(self) -> list[dict[str, object]]:
        return [dict(_columns(layer)) for layer in self._found.layers]

    def _title(self) -> str:
        return f"{self._found.before} -> {self._found.after}: {len(self)} layer{'s' * (len(self) != 1)}"

    def _remarks(self) -> Sequence[str]:
        only = [f"only before: {', '.join(self._found.only_before)}"] if self._found.only_before else []
        only += [f"only after: {', '.join(self._found.only_after)}"] if self._found.only_after else []
        return [f"verdict: {self.verdict}", *only, *(f"note: {note}" for note in self.notes)]

    def _html_table(self) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        rows = (
            [change.name, *(_arrow(*change[name]) for name in HEADLINES), *(_number(change.distances[name].median) for name in SHOWN)]
            for change in self
        )
        return ("layer", *HEADLINES, *SHOWN), rows


def _columns(layer: LayerComparison) -> Iterator[tuple[str, object]]:
    yield "layer", layer.name
    for when, found in (("before", layer.before), ("after", layer.after)):
        yield from ((f"{name}_{when}", value.median) for name, value in found.statistics.items())
    yield from ((name, value.median) for name, value in layer.distances.items())


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _arrow(before: float | None, after: float | None) -> str:
    change = "" if before is None or after is None else f" ({after - before:+.2g})"
    return f"{_number(before)} -> {_number(after)}{change}"


def compare(before: Any, after: Any, layers: Layers = None, *, by_order: bool = False, **options: Any) -> Comparison:
    """What changed from one model to another.

        >>> import ssmspec
        >>> found = ssmspec.compare("sample_checkpoints/s4d_initial.safetensors", "sample_checkpoints/s4d_trained.safetensors")
        >>> found.names
        ('s4_layers.0', 's4_layers.1')

    Args:
        before, after: anything that `ssmspec.analyze` takes, one of each.
        layers: exact names, globs or indices; all by default.
        by_order: pair layers by their order instead of their names.
        options: as for `ssmspec.analyze`; they apply to both.
    Raises:
        SsmspecError: as `ssmspec.analyze` for either; no layer of one has a partner in the other.
    """
    chosen = analysis_options(layers, options)
    start, end = (chosen_layers(what, chosen, needed=True) for what in (before, after))
    found = compare_chosen(start, end, chosen, by_order=by_order)
    return Comparison(found, map(LayerChange, found.layers))
