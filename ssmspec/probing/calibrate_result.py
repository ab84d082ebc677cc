"""Recorded operating points as an object that shows itself and writes the file that `analyze --calibration` reads."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssmspec.api.collection import Collection
from ssmspec.families.selective.calibration import LEVELS as LEVELS_NAME
from ssmspec.families.selective.calibration import PROVENANCE
from ssmspec.files.writing import Kind, whole_file
from ssmspec.report.documents.document import Document
from ssmspec.systems.grid import FloatArray

COLUMNS = ("layer", "family", "copies", "tokens", "quantity", "mean", "deviation", "p5", "median", "p95")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """What was recorded of one layer.

    Args:
        rate: "delta" (after softplus and clamp) or "log_z" (of decay gates, at most 0).
        tokens: how many were recorded. sampled: of how many the quantiles are.
        mean, deviation: over tokens, (K,). quantiles: (Q, K).
        vectors: mean "B" and "C", (groups, N), or the mean input gate "B" (K,). moments: means of B B^T and C C^T, (groups, N, N).
    """

    name: str
    family: str
    rate: str
    tokens: int
    sampled: int
    mean: FloatArray
    deviation: FloatArray
    quantiles: FloatArray
    vectors: Mapping[str, FloatArray]
    moments: Mapping[str, FloatArray]

    def figures(self) -> tuple[float, float, float, float, float]:
        """Mean, deviation, and the lowest, middle and highest quantile over tokens: medians over copies."""
        middle = len(self.quantiles) // 2
        rows = (self.mean, self.deviation, self.quantiles[0], self.quantiles[middle], self.quantiles[-1])
        mean, deviation, low, median, high = (float(np.median(row)) for row in rows)
        return mean, deviation, low, median, high

    def summary(self) -> str:
        """The layer in one line."""
        mean, _, low, _, high = self.figures()
        return f"{self.name}: {self.family}, {len(self.mean)} copies, mean {self.rate} {mean:.3g}, 5..95 % of tokens {low:.3g}..{high:.3g}"

    def arrays(self) -> dict[str, FloatArray]:
        """The arrays of the file, by name."""
        found = {self.rate: self.mean, f"{self.rate}_deviation": self.deviation, f"{self.rate}_quantiles": self.quantiles, **self.vectors}
        found |= {f"{letter}_moments": values for letter, values in self.moments.items()}
        return {f"{self.name}/{key}": values for key, values in found.items()}


class Calibration(Collection[LayerRecord]):
    """Recorded operating points of the selective layers of a model, in model order.

    Args:
        levels: of the quantiles. provenance: what was recorded, from what. skipped: layers without a record, each with its reason.
    """

    def __init__(
        self, records: Iterable[LayerRecord], levels: Sequence[float], provenance: Mapping[str, Any], skipped: Sequence[str] = ()
    ) -> None:
        super().__init__(records)
        self.levels = tuple(levels)
        self.provenance = dict(provenance)
        self.skipped = tuple(skipped)

    @property
    def tokens(self) -> int:
        """How many tokens were recorded."""
        return int(self.provenance["tokens"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual, in words."""
        told, lines = self.provenance, []
        if told["sampled"] < told["tokens"]:
            lines.append(f"quantiles are over {told['sampled']} of {told['tokens']} tokens, drawn at random; means are over all")
        if told["limit"] is not None:
            lines.append(f"stopped after {told['tokens']} tokens, as the limit says")
        return (*lines, *told["constant"])

    def save(self, path: Path | str) -> None:
        """Write the .npz file that `analyze --calibration` reads, whole or not at all.

        Raises:
            SsmspecError: it cannot be written.
        """
        arrays: dict[str, Any] = {name: values for record in self for name, values in record.arrays().items()}
        stored: dict[str, Any] = {
            name: values.astype(np.float32) if name.endswith("_moments") else values for name, values in arrays.items()
        }
        provenance = {**self.provenance, "skipped": list(self.skipped)}
        stored |= {LEVELS_NAME: np.array(self.levels), PROVENANCE: np.array(json.dumps(provenance))}
        with whole_file(Path(path), Kind.arrays) as file:
            np.savez(file, **stored)

    def to_dict(self) -> Document:
        """The document of `ssmspec calibrate --json` (schema ssmspec.calibrate/1)."""
        return {
            "schema": "ssmspec.calibrate/1",
            "provenance": dict(self.provenance),
            "levels": list(self.levels),
            "layers": [_layer_document(record) for record in self],
            "skipped": list(self.skipped),
            "notes": list(self.notes),
        }

    def _some(self, items: Sequence[LayerRecord]) -> "Calibration":
        return Calibration(items, self.levels, self.provenance, self.skipped)

    def _rows(self) -> tuple[Sequence[str], list[list[object]]]:
        rows: list[list[object]] = []
        for record in self:
            numbers = zip(record.mean, record.deviation, *record.quantiles[[0, len(record.quantiles) // 2, -1]], strict=True)
            rows += [[record.name, record.family, copy, record.tokens, record.rate, *map(float, row)] for copy, row in enumerate(numbers)]
        return tuple("copy" if name == "copies" else name for name in COLUMNS), rows

    def _wide(self) -> list[dict[str, object]]:
        return [dict(zip(COLUMNS, row, strict=True)) for row in self._layers()]

    def _layers(self) -> list[list[object]]:
        """One row per layer, with the columns `COLUMNS`: medians over copies."""
        return [[each.name, each.family, len(each.mean), each.tokens, each.rate, *each.figures()] for each in self]

    def table(self) -> tuple[str, Sequence[str], list[list[str]]]:
        """Title, headings and cells of the table: one row per layer, with medians over copies."""
        cells = [[f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row] for row in self._layers()]
        return self._title(), COLUMNS, cells

    @property
    def remarks(self) -> Sequence[str]:
        """Lines below the table: what was not recorded, and the notes."""
        return [*(f"not recorded: {line}" for line in self.skipped), *(f"note: {note}" for note in self.notes)]

    def _title(self) -> str:
        told = self.provenance
        of = f" of {told['data']}" if told.get("data") else ""
        return f"{told['model']}: {len(self)} layers over {self.tokens} tokens{of}, in sequences of at most {told['sequence_length']}"

    def _remarks(self) -> Sequence[str]:
        return self.remarks

    def _html_table(self) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        return self.table()[1:]


def _layer_document(record: LayerRecord) -> Document:
    return {
        "name": record.name,
        "family": record.family,
        "quantity": record.rate,
        "tokens": record.tokens,
        "mean": record.mean.tolist(),
        "deviation": record.deviation.tolist(),
        "quantiles": record.quantiles.tolist(),
        **{letter: values.tolist() for letter, values in record.vectors.items()},
    }
