"""`ssmspec.reduce` and what it returns."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssmspec.api.analyze import Layers
from ssmspec.api.changed import Changed, ChangedLayer
from ssmspec.api.keywords import read_options, selection
from ssmspec.commands.reduce import LayerReduction, ReducePlan
from ssmspec.commands.reduce import reduce as run
from ssmspec.commands.retune import ChangeOptions
from ssmspec.report.documents.document import Document
from ssmspec.report.documents.reduce import reduce_document
from ssmspec.tuning.reduction.certificate import Certificate

HEADINGS = ("layer", "family", "modes_before", "modes_after", "modes_needed", "norm", "relative_error", "bound_holds")


class ReducedLayer(ChangedLayer[LayerReduction]):
    """One layer with fewer modes: `before` and `after` are its systems, and `certificate` is the exact error."""

    @property
    def modes(self) -> tuple[int, int]:
        """Stored modes before and after."""
        return self._found.stored

    @property
    def certificate(self) -> Certificate:
        """Norms of the layer and of the difference, copy by copy, and the bound."""
        return self._found.certificate

    def summary(self) -> str:
        """The layer in one line."""
        before, after = self.modes
        worst = float(self.certificate.relative.max())
        return f"{self.name}: {self.after.family}, {before} -> {after} modes; error {worst:.3g} of the layer's H-infinity norm"


class Reduced(Changed[ReducedLayer, ReducePlan]):
    """A model with fewer modes: its changed layers with the certificate of each, and the file that was written."""

    @property
    def tensors(self) -> Mapping[str, Any]:
        """The new values of the tensors that change, most in another shape, by name."""
        return self._plan.changes

    def to_dict(self) -> Document:
        """The document of `ssmspec reduce --json` (schema ssmspec.reduce/1), without times. It always holds all layers that changed."""
        return reduce_document(self._plan, {}, self._output)

    def _some(self, items: Sequence[ReducedLayer]) -> "Reduced":
        return Reduced(self._plan, self._output, items)

    def _rows(self) -> tuple[Sequence[str], list[list[object]]]:
        headings = ("layer", "copy", "states_kept", "relative_error")
        rows: list[list[object]] = [
            [layer.name, copy, int(layer.certificate.orders[copy]), float(error)]
            for layer in self
            for copy, error in enumerate(layer.certificate.relative)
        ]
        return headings, rows

    def _wide(self) -> list[dict[str, object]]:
        return [dict(zip(HEADINGS, row, strict=True)) for row in map(_row, self)]

    def _title(self) -> str:
        before, after = self._plan.parameters
        return f"{self._plan.checkpoint.path}: {len(self)} layers, {before} -> {after} parameters; {self._written()}"

    def _html_table(self) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        return HEADINGS, ([f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row] for row in map(_row, self))


def _row(layer: ReducedLayer) -> list[object]:
    found = layer.certificate
    return [
        *(layer.name, layer.after.family, *layer.modes, layer._found.needed),
        *(found.norm, float(found.relative.max()), found.holds),
    ]


def reduce(
    path: Path | str,
    output: Path | str | None = None,
    layers: Layers = None,
    *,
    tolerance: float | None = None,
    modes: int | None = None,
    keep: float | None = None,
    method: str = "balanced",
    over: str = "all",
    own_sizes: bool = False,
    force: bool = False,
    family: str | None = None,
    **read: Any,
) -> Reduced:
    """A checkpoint whose layers have fewer modes, with the exact error that this makes.

        >>> import ssmspec
        >>> small = ssmspec.reduce("sample_checkpoints/s4d_trained.safetensors", keep=0.5)
        >>> small[0].modes, small[0].certificate.holds
        ((16, 8), True)

    Args:
        path: a checkpoint file or folder. output: the file to write, in the format of the input; without it nothing is written.
        layers: exact names, globs or indices; all by default.
        tolerance: largest H-infinity error relative to that norm of the layer. modes: stored modes per copy. keep: the share of them
            that is kept. Exactly one of the three.
        method: "balanced", "modal" or "h2". over: the copies that must meet the tolerance, "all", "p95" or "median".
        own_sizes: layers may end with different numbers of modes. force: replace an existing output.
        family, read: as for `ssmspec.analyze`.
    Raises:
        SsmspecError: as `ssmspec.analyze`; no layer can be reduced as asked, or the output cannot be written.
    Source: Moore 1981 (balanced truncation) and Enns 1984 (its bound); Gugercin, Antoulas, Beattie 2008 (IRKA) for h2.
    """
    options = ChangeOptions(layers=selection(layers), family=family, read=read_options(**read))
    target = None if output is None else Path(output)
    plan = run(
        path,
        target,
        tolerance=tolerance,
        modes=modes,
        keep=keep,
        method=method,
        over=over,
        own_sizes=own_sizes,
        options=options,
        replace_output=force,
    )
    return Reduced(plan, target, map(ReducedLayer, plan.layers))
