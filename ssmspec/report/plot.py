"""From a checkpoint file to one picture: the pipeline of `ssmspec plot`, and the counterpart of `commands/analyze.py`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
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
from ssmspec.files.writing import make_folder_of
from ssmspec.report.figures import FIGURES, Draw, Drawn, FigureKind, FrequencyAxis
from ssmspec.report.figures.compare import comparison_figure, comparison_title, drawable
from ssmspec.report.figures.inits import initializations_figure
from ssmspec.report.figures.panels import of_width
from ssmspec.report.figures.poles import Plane, poles_figure
from ssmspec.report.figures.style import check_mathtext, checked_format, safe_name, save, styled
from ssmspec.report.tables.parts import folded
from ssmspec.statistics import Spectrum, spectrum_of
from ssmspec.systems.grid import DEFAULT_POINTS, FrequencyGrid
from ssmspec.systems.system import System
from ssmspec.systems.trust import GROWING, UNDAMPED, Trust, assess

MOST_LAYERS = 128  # panels of a figure of one panel per layer
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
        plane: of the poles; None as `poles_figure` chooses.
        look: size, title and style of the picture.
    """

    layers: tuple[str, ...] = ()
    family: str | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
    backend: str | None = None
    points: int = DEFAULT_POINTS
    with_skip: bool = False
    axis: Axis | None = None
    sample_rate: float | None = None
    plane: Plane | None = None
    look: "Look" = field(default_factory=lambda: Look())


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a picture looks.

    Args:
        dpi: pixels per inch of a PNG. width: of the picture [inches].
        title: text above it, with mathtext, in the place of the names of the file and the layer; "" for none.
        style: a matplotlib style sheet.
    """

    dpi: float | None = None
    width: float | None = None
    title: str | None = None
    style: Path | None = None

    @contextmanager
    def applied(self) -> Iterator[None]:
        """A block in which figures have this style and width.

        Raises:
            SsmspecError: the style sheet cannot be read, or the title is no mathtext.
        """
        with styled(self.style), of_width(self.width):
            if self.title is not None:
                check_mathtext(self.title)
            yield

    def written(self, figure: Drawn, output: Path) -> Path:
        """Write a figure with this title and resolution; the folder of the output is made.

        Raises:
            SsmspecError: the file or its folder cannot be written.
        """
        if self.title is not None:
            figure.suptitle(self.title)
        make_folder_of(output)
        return save(figure, output, self.dpi)


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
        output: a .png, .svg or .pdf file; by default `<stem>.<name>.png` or, of one chosen layer, `<stem>.<name>.<layer>.png` in the
            current folder. Its folder is made.
        options: see `PlotOptions`.
        progress: called with (layer name, layers done, total number of layers).
    Returns:
        The file that was written, and a line for each thing that was assumed or skipped.
    Raises:
        SsmspecError: the figure, format or style is unknown; an axis or option does not apply to the figure; a layer cannot be used; or the
            file cannot be read, as in `analyze`.
    """
    options = options or PlotOptions()
    draw = drawing_of(name, options)
    kind = FIGURES[name]
    axis = frequency_axis(kind, options)
    if output is not None:
        checked_format(output)
    systems, notes = _usable_systems(path, options, kind)
    if not kind.several and len(systems) > MOST_LAYERS:
        notes += (f"drawn: the first {MOST_LAYERS} of {len(systems)} layers; choose others with --layer",)
        systems = systems[:MOST_LAYERS]
    chosen = f".{safe_name(systems[0].name)}" if len(systems) == 1 and options.layers else ""
    output = output or Path(f"{stem_of(path)}.{name}{chosen}.png")
    if not is_address(path) and output.exists() and Path(path).exists() and output.samefile(path):
        raise SsmspecError(f"{output} is the checkpoint itself; choose another output file")
    pairs = sum(2.0 * s.copies * s.modes * min(s.inputs * s.outputs, 4 * s.modes) * options.points for s in systems)
    engine = load_backend(options.backend or choose_backend(pairs))
    spectra = SpectraInTurn(systems, FrequencyGrid.default(options.points), engine, options.with_skip, progress)
    with options.look.applied(), about(path):
        return options.look.written(draw(spectra, axis, title_of(path)), output), notes


def plot_pair(before: Path | str, after: Path | str, output: Path | None = None, *, options: PlotOptions | None = None) -> Path:
    """Draw the figure `compare`: |H| of layers in two checkpoints, and the paths of the poles of a single layer.

    Args:
        before, after: checkpoints.
        output: as for `plot`; by default `<before>-<after>.compare.png`, with the name of the layer if it is one that was chosen.
        options: which layers to draw, and how to read the files.
    Raises:
        SsmspecError: as `plot`, or the checkpoints have no layer in common.
    """
    options = options or PlotOptions()
    axis = frequency_axis(FIGURES["compare"], options)
    _check_plane("compare", options)
    if output is not None:
        checked_format(output)
    chosen = AnalysisOptions(
        layers=options.layers,
        family=options.family,
        read=options.read,
        backend=options.backend,
        points=options.points,
        with_skip=options.with_skip,
        statistics=("bias_slope",),
    )
    found = compare(before, after, chosen)
    usable = drawable(found)
    if not usable.layers:
        layer = found.layers[0]
        raise LayerError(f"layer {layer.name} cannot be drawn: {layer.before.problem or layer.after.problem}")
    name = f".{safe_name(usable.layers[0].name)}" if len(usable.layers) == 1 and options.layers else ""
    output = output or Path(f"{stem_of(before)}-{stem_of(after)}.compare{name}.png")
    with options.look.applied():
        return options.look.written(comparison_figure(usable, axis, comparison_title(usable)), output)


def plot_initializations(output: Path | None = None, *, options: PlotOptions | None = None, alpha: float = 1.0) -> Path:
    """Draw the figure `inits` into a file, by default `inits.png` in the current folder. Raises as `plot`."""
    options = options or PlotOptions()
    if options.with_skip or options.layers:
        raise SsmspecError("the figure inits shows no layer; leave out --layer and --with-skip")
    _check_plane("inits", options)
    output = output or Path("inits.png")
    checked_format(output)
    with options.look.applied():
        return options.look.written(initializations_figure(frequency_axis(FIGURES["inits"], options), alpha), output)


def drawing_of(name: str, options: PlotOptions) -> Draw:
    """The function that draws a figure of the layers of one checkpoint, with its options.

    Raises:
        SsmspecError: no figure of one checkpoint bears this name, or it does not take these options.
    """
    drawn = {key: kind.function for key, kind in FIGURES.items() if kind.function is not None}
    if name not in FIGURES:
        raise SsmspecError(f"figure {name!r} is unknown; choose one of {', '.join(FIGURES)}")
    if name not in drawn:
        takes = "two checkpoints" if name == "compare" else "no checkpoint"
        raise SsmspecError(f"the figure {name} takes {takes}; for one checkpoint, choose one of {', '.join(drawn)}")
    if options.with_skip and not FIGURES[name].skip:
        raise SsmspecError(f"the figure {name} does not depend on D; leave out --with-skip")
    _check_plane(name, options)
    return partial(poles_figure, plane=options.plane) if name == "poles" else drawn[name]


def _check_plane(name: str, options: PlotOptions) -> None:
    if options.plane is not None and name != "poles":
        raise SsmspecError(f"the figure {name} shows no plane of poles; leave out --plane, or draw the figure poles")


def frequency_axis(kind: FigureKind, options: PlotOptions) -> FrequencyAxis:
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
    systems, notes, reasons = drawable_systems(chosen, kind)
    if not systems:
        raise LayerError(f"{checkpoint.path}: {reasons[0].replace(':', ' cannot be used:', 1)}")
    if not options.layers:
        lines = [f"{miss.name}: {miss.reason}" for miss in skipped]
        notes += [f"skipped: {line}" for line in folded(lines, where="ssmspec analyze --json lists them all")]
    notes += [f"assumed: {text}" for text in dict.fromkeys(text for system in systems for text in system.assumptions)]
    return tuple(systems), tuple(notes)


def drawable_systems(chosen: Sequence[System], kind: FigureKind) -> tuple[list[System], list[str], list[str]]:
    """The copies of layers that a figure can draw, notes on what was skipped, and for layers without any the reasons."""
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
    return systems, notes, reasons


def _drawable(trust: Trust, *, growing: bool) -> np.ndarray:
    """Indices of the sound copies, and of those with growing or undamped poles if requested."""
    others = [fault.copies for fault in trust.faults if growing and fault.kind in (GROWING, UNDAMPED)]
    return np.sort(np.concatenate([trust.sound, *others]))
