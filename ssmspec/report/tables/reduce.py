"""A reduced checkpoint as text."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ssmspec.commands.reduce import LayerReduction, ReducePlan
from ssmspec.report.tables.fitting import FittingTable
from ssmspec.report.tables.parts import grouped, plain
from ssmspec.systems.statespace import FloatArray

Times = Mapping[str, tuple[float, float]]
TITLES = {"balanced": "balanced truncation", "modal": "modal truncation", "h2": "H2-optimal reduction"}


def reduce_text(plan: ReducePlan, times: Times, written: Path | None) -> RenderableType:
    """Modes and errors of every layer, what was done to each, and where the result is."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("layer", "family", "modes", "parameters", "error\n\\[rel. H-inf]", "median", "error\n\\[rel. H2]"):
        table.add_column(heading, overflow="fold")
    if plan.request.method == "balanced":
        table.add_column("bound\n\\[rel.]", overflow="fold")
    weighted = any(layer.certificate.unweighted is not None for layer in plan.layers)
    if weighted:
        table.add_column("error without beta\n\\[rel. H-inf]", overflow="fold")
    if times:
        table.add_column("training step\n\\[ms]", overflow="fold")
    for layer in plan.layers:
        table.add_row(*_cells(layer, times, weighted=weighted))
    title = f"{plan.checkpoint.path}: {TITLES[plan.request.method]}, errors of the numbers as they are stored"
    lines = grouped("assumed", [(text, layer.after.name) for layer in plan.layers for text in layer.before.assumptions], len(plan.layers))
    lines += grouped("note", [(note, layer.after.name) for layer in plan.layers for note in layer.notes], len(plan.layers))
    before, after = plan.parameters
    end = f"{before} -> {after} parameters in the state spaces; " + (f"wrote {written}" if written else "nothing was written")
    return Group(
        plain(title, style="bold"),
        Text(),
        FittingTable(table),
        Text(),
        *map(plain, (*_legend(plan, times), *lines, *(f"note: {note}" for note in plan.notes))),
        plain(end, style="bold"),
    )


def _cells(layer: LayerReduction, times: Times, *, weighted: bool) -> list[Text]:
    certificate, name = layer.certificate, layer.after.name
    parameters = f"{layer.parameters[0]} -> {layer.parameters[1]}" if layer.first else "as above"
    cells = [
        name,
        layer.after.family,
        f"{layer.stored[0]} -> {layer.stored[1]}",
        parameters,
        _number(certificate.relative.max()),
        _number(np.median(certificate.relative)),
        _number(certificate.relative_energy.max()),
    ]
    norm = certificate.norm_without_weight
    if certificate.bound is not None:
        cells.append(_number(certificate.bound.max() / norm))
    if weighted:
        cells.append("" if certificate.unweighted is None else _number(certificate.unweighted.peak.max() / norm))
    if times:
        cells.append(f"{times[name][0]:.3g} -> {times[name][1]:.3g}" if name in times else "")
    return [plain(cell) for cell in cells]


def _number(value: "np.floating | FloatArray | float") -> str:
    return f"{float(value):.3g}" if np.isfinite(value) else "unknown"


def _legend(plan: ReducePlan, times: Times) -> list[str]:
    """What the columns are, and how far rounding goes."""
    rounding = max(float((layer.certificate.rounding / (layer.certificate.norm or 1)).max()) for layer in plan.layers)
    families = {layer.after.family for layer in plan.layers}
    modes = "modes: stored per copy, each a complex pair of poles or a real one"
    modes += "; of LinOSS an oscillator" if "linoss" in families else ""
    modes += "; d_state of S4 and S4D is twice that number" if any(name.startswith("s4") for name in families) else ""
    lines = [
        modes,
        "error: largest of the copies, and their median, relative to the largest H-infinity norm (or H2 norm) of the layer's copies",
        f"rounding to the stored types is a part of the errors, of at most {rounding:.2g} of that norm",
    ]
    if plan.request.method == "balanced":
        held = all(layer.certificate.holds for layer in plan.layers)
        text = "bound: 2 times the sum of the Hankel singular values dropped; the error of every copy is "
        lines.append(text + ("within it" if held else "NOT within it, which rounding or poles that are too close to the circle cause"))
    if any(layer.certificate.unweighted is not None for layer in plan.layers):
        lines.append("the bound is of the response without beta, as the error without beta is; both are relative to the norm without beta")
    if times:
        lines.append("training step: ssmspec.nn.S4D of these sizes forward and backward on 8 sequences of 1024 samples, fastest of 5")
    return lines
