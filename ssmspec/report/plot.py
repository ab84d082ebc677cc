"""From a checkpoint file to one picture: the pipeline of `ssmspec plot`, and the counterpart of `commands/analyze.py`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ssmspec.backends import CauchySum, choose_backend, load_backend
from ssmspec.checkpoint.remote.path import is_address, stem_of, title_of
from ssmspec.commands.analyze import AnalysisOptions
from ssmspec.commands.compare import compare
from ssmspec.errors import LayerError, SsmspecError, about
from ssmspec.families import ReadOptions
from ssmspec.families.layers import find_layers, open_for_layers, read_systems, select_layers
from ssmspec.report.figures import FIGURES, Draw, FigureKind, FrequencyAxis
from ssmspec.report.figures.compare import comparison_figure
from ssmspec.report.figures.inits import initializations_figure
from ssmspec.report.figures.style import checked_format, safe_name, save, styled
from ssmspec.report.tables.parts import folded
from ssmspec.statistics import Spectrum, spectrum_of
from ssmspec.systems.grid import DEFAULT_POINTS, FrequencyGrid
from ssmspec.systems.system import System
from ssmspec.systems.trust import GROWING, UNDAMPED, Trust, assess

Axis = Literal["theta", "cycles", "omega"]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlotOptions:
    """What the user can choose.

    Args:
        layers: exact names, globs or indices of layers; empty selects all.
        family: read the file as this family only.
        read: what a file may not state.
        backend: name of an engine; None chooses one by the size of the work.
        points: F, the number of points of the log-spaced grid.
        with_skip: include D in the response.
        axis: the frequency axis; None means theta, or hertz if there is a sample rate.
        sample_rate: samples per second.
    """

    layers: tuple[str, ...] = ()
    family: str | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
    backend: str | None = None
    points: int = DEFAULT_POINTS
    with_skip: bool = False
    axis: Axis | None = None
    sample_rate: float | None = None


@dataclass(frozen=True, slots=True)
class SpectraInTurn:
    """The spectra of layers, each computed when it is drawn, so that only one layer's curves are in memory."""

    systems: tuple[System, ...]
    grid: FrequencyGrid
    engine: CauchySum
    with_skip: bool
    progress: Progress | None = None

    def __len__(self) -> int:
        return len(self.systems)

    def __contains__(self, item: object) -> bool:
        return item in self.systems

    def __iter__(self) -> Iterator[Spectrum]:
        for done, system in enumerate(self.systems):
            if self.progress:
                self.progress(system.name, done, len(self.systems))
            yield spectrum_of(system, self.grid, self.engine, with_skip=self.with_skip)


def plot(
    name: str, path: Path | str, output: Path | None = None, *, options: PlotOptions | None = None, progress: Progress | None = None
) -> tuple[Path, tuple[str, ...]]:
    """Draw one figure of a checkpoint into a file.

    Args:
        name: key of `FIGURES`.
        path: a checkpoint file or folder.
        output: a .png, .svg or .pdf file; by default `<stem>.<name>.png` or `<stem>.<name>.<layer>.png` in the current folder.
        options: see `PlotOptions`.
        progress: called with (layer name, layers done, total number of layers).
    Returns:
        The file that was written, and a line for each thing that was assumed or skipped.
    Raises:
        SsmspecError: the figure or format is unknown; an axis or option does not apply to the figure; several layers are selected for a
            figure of one layer; a layer cannot be used; or the file cannot be read, as in `analyze`.
    """
    options = options or PlotOptions()
    draw = _drawing(name, options)
    kind = FIGURES[name]
    axis = _frequency_axis(kind, options)
    if output is not None:
        checked_format(output)
    systems, notes = _usable_systems(path, options, kind)
    if kind.layers == "one" and len(systems) > 1:
        names = ", ".join(system.name for system in systems[:8]) + (", ..." if len(systems) > 8 else "")
        raise LayerError(f"the figure {name} shows one layer, but there are {len(systems)}; choose one with --layer: {names}")
    chosen = f".{safe_name(systems[0].name)}" if kind.layers == "one" and options.layers else ""
    output = output or Path(f"{stem_of(path)}.{name}{chosen}.png")
    if not is_address(path) and output.exists() and Path(path).exists() and output.samefile(path):
        raise SsmspecError(f"{output} is the checkpoint itself; choose another output file")
    pairs = sum(2.0 * s.copies * s.modes * min(s.inputs * s.outputs, 4 * s.modes) * options.points for s in systems)
    engine = load_backend(options.backend or choose_backend(pairs))
    spectra = SpectraInTurn(systems, FrequencyGrid.default(options.points), engine, options.with_skip, progress)
    with styled(), about(path):
        save(draw(spectra, axis, title_of(path)), output)
    return output, notes


def plot_pair(before: Path | str, after: Path | str, output: Path | None = None, *, options: PlotOptions | None = None) -> Path:
    """Draw the figure `compare`: |H| of one layer in two checkpoints, and the paths of its poles.

    Args:
        before, after: checkpoints.
        output: as for `plot`; by default `<before>-<after>.compare.<layer>.png`.
        options: which layer to draw, and how to read the files.
    Raises:
        SsmspecError: as `plot`, or the checkpoints have several layers in common and none is chosen.
    """
    options = options or PlotOptions()
    if output is not None:
        checked_format(output)
    if options.axis or options.sample_rate is not None or options.with_skip:
        raise SsmspecError("the figure compare always shows theta [rad/sample], without D; leave out --axis, --sample-rate, --with-skip")
    chosen = AnalysisOptions(
        layers=options.layers, family=options.family, read=options.read, backend=options.backend, points=options.points
    )
    found = compare(before, after, chosen)
    if len(found.layers) > 1:
        names = ", ".join(layer.name for layer in found.layers[:8]) + (", ..." if len(found.layers) > 8 else "")
        raise LayerError(f"the figure compare shows one layer, but there are {len(found.layers)}; choose one with --layer: {names}")
    layer = found.layers[0]
    if layer.before.problem or layer.after.problem:
        raise LayerError(f"layer {layer.name} cannot be drawn: {layer.before.problem or layer.after.problem}")
    output = output or Path(f"{stem_of(before)}-{stem_of(after)}.compare.{safe_name(layer.name)}.png")
    with styled():
        save(comparison_figure(layer, found.grid.values), output)
    return output


def plot_initializations(output: Path | None = None, *, options: PlotOptions | None = None, alpha: float = 1.0) -> Path:
    """Draw the figure `inits` into a file, by default `inits.png` in the current folder. Raises as `plot`."""
    options = options or PlotOptions()
    if options.with_skip or options.layers:
        raise SsmspecError("the figure inits shows no layer; leave out --layer and --with-skip")
    output = output or Path("inits.png")
    checked_format(output)
    with styled():
        save(initializations_figure(_frequency_axis(FIGURES["inits"], options), alpha), output)
    return output


def _drawing(name: str, options: PlotOptions) -> Draw:
    drawn = {key: kind.function for key, kind in FIGURES.items() if kind.function is not None}
    if name not in FIGURES:
        raise SsmspecError(f"figure {name!r} is unknown; choose one of {', '.join(drawn)}")
    if name not in drawn:
        takes = "two checkpoints" if name == "compare" else "no checkpoint"
        raise SsmspecError(f"the figure {name} takes {takes}; for one checkpoint, choose one of {', '.join(drawn)}")
    if options.with_skip and not FIGURES[name].skip:
        raise SsmspecError(f"the figure {name} does not depend on D; leave out --with-skip")
    return drawn[name]


def _frequency_axis(kind: FigureKind, options: PlotOptions) -> FrequencyAxis:
    """The frequency axis that the options select.

    Raises:
        SsmspecError: the options contradict each other, or the axis does not apply to the figure.
    """
    if not kind.axes and (options.axis is not None or options.sample_rate is not None):
        given = "--axis" if options.axis is not None else "--sample-rate"
        raise SsmspecError(f"the figure {kind.name} has no frequency axis; leave out {given}")
    if options.axis is not None and options.sample_rate is not None:
        raise SsmspecError(f"--sample-rate draws frequencies in Hz and --axis {options.axis} in another unit; leave out one of them")
    if options.axis is not None and options.axis not in kind.axes:
        able = ", ".join(name for name, other in FIGURES.items() if options.axis in other.axes)
        raise SsmspecError(
            f"--axis {options.axis} does not apply to the figure {kind.name}, which describes the sampled system; use it with {able}"
        )
    if options.sample_rate is not None:
        return FrequencyAxis("hertz", options.sample_rate)
    return FrequencyAxis(options.axis or "theta")


def _usable_systems(path: Path | str, options: PlotOptions, kind: FigureKind) -> tuple[tuple[System, ...], tuple[str, ...]]:
    """The copies of the chosen layers that can be drawn, and notes on what was assumed or skipped.

    Raises:
        LayerError: no copy can be drawn.
    """
    checkpoint = open_for_layers(path, options.read)
    found, skipped = read_systems(checkpoint, find_layers(checkpoint, options.family, options.read), options.read)
    chosen = select_layers(found, options.layers, checkpoint, skipped)
    systems, notes, reasons = [], [], []
    for system in chosen:
        if kind.poles and system.no_poles:
            reasons.append(f"layer {system.name}: {system.no_poles}")
            notes.append(f"skipped: {reasons[-1]}")
            continue
        trust = assess(system)
        copies = _drawable(trust, growing=kind.growing)
        if copies.size:
            systems.append(system if copies.size == system.copies else system.pick(copies))
        else:
            reasons.append(f"layer {system.name}: {trust.problem}")
        drawn = {fault.kind: bool(np.isin(fault.copies, copies).all()) for fault in trust.faults}
        notes += [f"{'note' if drawn[fault.kind] else 'skipped'}: layer {system.name}: {fault.text}" for fault in trust.faults]
    if not systems:
        raise LayerError(f"{checkpoint.path}: {reasons[0].replace(':', ' cannot be used:', 1)}")
    if not options.layers:
        lines = [f"{miss.name}: {miss.reason}" for miss in skipped]
        notes += [f"skipped: {line}" for line in folded(lines, where="ssmspec analyze --json lists them all")]
    notes += [f"assumed: {text}" for text in dict.fromkeys(text for system in systems for text in system.assumptions)]
    return tuple(systems), tuple(notes)


def _drawable(trust: Trust, *, growing: bool) -> np.ndarray:
    """Indices of the sound copies, and of those with growing or undamped poles if requested."""
    others = [fault.copies for fault in trust.faults if growing and fault.kind in (GROWING, UNDAMPED)]
    return np.sort(np.concatenate([trust.sound, *others]))
