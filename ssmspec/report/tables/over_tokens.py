"""Half-lives over the tokens of a calibration, as tables below that of an analysis."""

from collections.abc import Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ssmspec.report.tables.fitting import FittingTable
from ssmspec.report.tables.parts import label_of, plain, plain_table, summary_text
from ssmspec.statistics import CheckpointAnalysis, LayerAnalysis

SHARES = ("5 %", "50 %", "95 %")


def tables_over_tokens(analysis: CheckpointAnalysis) -> list[RenderableType]:
    """One row per layer; for a single layer, one row per copy. Nothing without a calibration."""
    layers = [layer for layer in analysis.layers if layer.over_tokens is not None]
    if not layers:
        return []
    return [Text(), _of_copies(layers[0]) if len(analysis.layers) == 1 else _of_layers(layers)]


def lines_over_tokens(analysis: CheckpointAnalysis) -> list[str]:
    """What these tables mean, and from how many tokens they are."""
    bands = [layer.over_tokens for layer in analysis.layers if layer.over_tokens is not None]
    if not bands:
        return []
    lines = ["half-life over tokens: shorter in 5, 50 and 95 % of the recorded tokens, each taken as if all tokens were like it"]
    if len(analysis.layers) > 1:
        lines.append("the half-lives of each head or channel: --layer with one layer, --copies FILE.csv, --json")
    return lines


def _of_layers(layers: Sequence[LayerAnalysis]) -> RenderableType:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("tokens", justify="right")
    for share in SHARES:
        unit = layers[0].over_tokens.unit if layers[0].over_tokens is not None else ""
        table.add_column(label_of(f"half-life over tokens, {share}", unit), overflow="fold")
    table.add_column("95 % / 5 %", overflow="fold")
    for layer in layers:
        assert layer.over_tokens is not None
        cells = [summary_text(summary) for summary in layer.over_tokens.summaries()]
        table.add_row(plain(layer.name), str(layer.over_tokens.tokens), *cells, _quotient(layer.over_tokens.half_lives))
    return FittingTable(table)


def _quotient(lives: np.ndarray) -> Text:
    with np.errstate(all="ignore"):
        quotients = lives[2] / lives[0]
    known = quotients[np.isfinite(quotients)]
    return plain(f"{np.median(known):.3g}" if known.size else "none")


def _of_copies(layer: LayerAnalysis) -> RenderableType:
    assert layer.over_tokens is not None
    band = layer.over_tokens
    title = f"half-life of every copy over {band.tokens} tokens [{band.unit}]"
    rows = [
        (str(copy), *(f"{value:.3g}" if np.isfinite(value) else "none" for value in values))
        for copy, values in enumerate(band.half_lives.T)
    ]
    return plain_table(title, ("copy", *(f"{share} of tokens" for share in SHARES)), rows)
