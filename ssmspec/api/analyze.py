"""`ssmspec.analyze` and what it returns."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ssmspec.api.collection import Collection
from ssmspec.api.inputs import is_module, opened
from ssmspec.api.keywords import analysis_options
from ssmspec.api.layer import Layer
from ssmspec.api.plots import Plots
from ssmspec.checkpoint.remote.traffic import Transfer
from ssmspec.commands.analyze import AnalysisOptions, analyze_chosen
from ssmspec.commands.chosen_layers import ChosenLayers, choose_layers
from ssmspec.errors import needed
from ssmspec.report.documents.analyze import CSV_COLUMNS, analysis_document, layer_rows
from ssmspec.report.documents.document import Document
from ssmspec.report.tables.analyze import BARS, sparkline
from ssmspec.report.tables.parts import readable_size, summary_text
from ssmspec.statistics import HEADLINES, CheckpointAnalysis
from ssmspec.systems.grid import FrequencyGrid

if TYPE_CHECKING:
    pass

Layers = str | int | Sequence[str | int] | None
What = "Path | str | nn.Module | Mapping[str, Any]"


class Analysis(Collection[Layer]):
    """What every layer of a model does to every frequency: `Layer` objects in model order, and a figure per method of `plot`."""

    def __init__(self, found: CheckpointAnalysis, layers: Iterable[Layer]) -> None:
        super().__init__(layers)
        self._found = found

    @property
    def path(self) -> str:
        """The checkpoint, or what stands for it in memory."""
        return self._found.path

    @property
    def grid(self) -> FrequencyGrid:
        """The frequencies of the curves: `grid.values` (F,), theta [rad/sample]."""
        return self._found.grid

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about the whole, in words."""
        return self._found.notes

    @property
    def transfer(self) -> Transfer | None:
        """How much of a remote checkpoint was read; None for anything else."""
        return self._found.transfer

    @property
    def skipped(self) -> tuple[str, ...]:
        """What was not analyzed, each with its reason."""
        return tuple(f"{item.name}: {item.reason}" for item in self._found.skipped)

    @property
    def problem(self) -> str | None:
        """Why no layer is usable; None where one is."""
        return self._found.problem

    @property
    def plot(self) -> Plots:
        """One method per figure of `ssmspec plot`, such as `plot.response()` or `plot.poles(ax=axes)`."""
        return Plots(self.path, [layer.system for layer in self], self._found.grid, with_skip=self._found.with_skip)

    def to_dict(self) -> Document:
        """The document of `ssmspec analyze --json` (schema ssmspec.analyze/1); computes all statistics that were chosen."""
        return analysis_document(self._found)

    def _some(self, items: Sequence[Layer]) -> "Analysis":
        chosen = {id(item) for item in items}
        kept = [found for found, item in zip(self._found.layers, self, strict=True) if id(item) in chosen]
        return Analysis(replace(self._found, layers=tuple(kept)), items)

    def _rows(self) -> tuple[Sequence[str], list[list[object]]]:
        return CSV_COLUMNS, [[self.path, *row] for layer in self._found.layers for row in layer_rows(layer)]

    def _wide(self) -> list[dict[str, object]]:
        return [
            {"layer": layer.name, "family": layer.family, "copies": layer.copies, "modes": layer.modes}
            | {name: value.median for name, value in layer.statistics.items()}
            for layer in self._found.layers
        ]

    def _title(self) -> str:
        size = readable_size(self._found.size)
        return f"{self.path} ({self._found.container}, {size}): {len(self)} SSM layer{'s' * (len(self) != 1)}"

    def _remarks(self) -> Sequence[str]:
        count = len({text for layer in self for text in layer.assumptions})
        lines = [f"{count} assumption{'s' * (count != 1)}; each layer lists its own as .assumptions"] if count else []
        lines += [f"skipped: {line}" for line in self.skipped[:3]]
        if len(self.skipped) > 3:
            lines.append(f"skipped: {len(self.skipped) - 3} more in .skipped")
        return [*lines, *(f"note: {note}" for note in self.notes)]

    def _html_table(self) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        shown = [name for name in HEADLINES if name in self._found.statistics]
        rows = (
            [
                str(layer.index),
                layer.name,
                layer.family,
                layer.shape_text,
                *(str(summary_text(layer.statistics[name])) if name in layer.statistics else "-" for name in shown),
                "none" if layer.curve is None else sparkline(layer.curve.median, BARS),
            ]
            for layer in self._found.layers
        )
        return ("#", "layer", "family", "copies x modes", *shown, "median |H|, low to high theta"), rows


class Analyses(Sequence[Analysis]):
    """The results of several models, in the order given."""

    def __init__(self, results: Iterable[Analysis]) -> None:
        self._results = tuple(results)

    def __getitem__(self, key: Any) -> Any:
        """A result by its index, or some of them by a slice."""
        return Analyses(self._results[key]) if isinstance(key, slice) else self._results[key]

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[Analysis]:
        return iter(self._results)

    def to_dict(self) -> list[Document]:
        """The documents of all results."""
        return [result.to_dict() for result in self]

    def to_dataframe(self, kind: str = "wide") -> Any:
        """The tables of all results below each other, with the checkpoint in the first column; see `Analysis.to_dataframe`."""
        pandas = needed("pandas", "to_dataframe()")
        frames = [result.to_dataframe(kind) for result in self]
        if kind == "wide":
            for result, frame in zip(self, frames, strict=True):
                frame.insert(0, "checkpoint", result.path)
        return pandas.concat(frames, ignore_index=True)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self))

    def _repr_html_(self) -> str:
        return "".join(result._repr_html_() for result in self)


def analyze(what: Any, layers: Layers = None, **options: Any) -> Any:
    """What every SSM layer of a model does to every frequency.

        >>> import ssmspec
        >>> result = ssmspec.analyze("sample_checkpoints/s4d_trained.safetensors")
        >>> len(result), result.names
        (2, ('s4_layers.0', 's4_layers.1'))
        >>> result["s4_layers.1"]["center_frequency"].unit
        'rad/sample'

    Args:
        what: a path, an address (`hf://org/name`, `https://...`), a torch module, a state dict or another mapping of arrays by name, or a
            list of these. Modules and arrays are read where they are; only the tensors of SSM layers are copied, and nothing is changed.
        layers: exact names, globs or indices; all by default.
        options: `assume={"name": value}`, `operating_point="delta=0.01"`, `length`, `residues`, `calibration`, `mapping`, `config` (what
            tensors do not tell), `family`, `points` (F, of the log-spaced grid), `with_skip`, `horizon`, `statistics`, `backend`.
    Returns:
        Analysis, or Analyses for a list. A statistic is computed when it is first asked for.
    Raises:
        SsmspecError: an option is unknown, the file cannot be read, there is no SSM layer, or none is selected.
    """
    chosen = analysis_options(layers, options)
    if isinstance(what, list | tuple):
        return Analyses(_analyze(each, chosen) for each in what)
    return _analyze(what, chosen)


def _analyze(what: Any, options: AnalysisOptions) -> Analysis:
    found = chosen_layers(what, options)
    result = analyze_chosen(found, options)
    return Analysis(result, (Layer(each, system) for each, system in zip(result.layers, found.systems, strict=True)))


def chosen_layers(what: Any, options: AnalysisOptions, *, needed: bool = False) -> ChosenLayers:
    """The layers of anything that can be analyzed; the beta of a module's layers is that of the module."""
    found = choose_layers(opened(what, options.read), options.layers, options.family, options.read, needed=needed)
    if not is_module(what):
        return found
    from ssmspec.nn.live import beta_weights, with_weight

    weights = beta_weights(what, options.read.length)
    return replace(found, systems=tuple(with_weight(system, weights) for system in found.systems))
