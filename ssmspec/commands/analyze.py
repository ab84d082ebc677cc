"""From a checkpoint file to the statistics of its layers. `analyze` follows the path through the whole package in reading order."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ssmspec.backends import CauchySum, choose_backend, compiles, load_backend
from ssmspec.backends.pool import mapped
from ssmspec.backends.threads import limited
from ssmspec.commands.calibrated import band_over_tokens, calibration_notes
from ssmspec.commands.chosen_layers import ChosenLayers, choose_layers
from ssmspec.errors import about
from ssmspec.families import ReadOptions
from ssmspec.families.configuration import context_length
from ssmspec.statistics import (
    HALF_LIFE,
    HEADLINES,
    STATISTICS,
    CheckpointAnalysis,
    Curve,
    LayerAnalysis,
    Spectrum,
    Summary,
    Values,
    memory_notes,
    memory_shares,
    spectrum_of,
    summarize,
    unavailable,
)
from ssmspec.statistics.details import details_of
from ssmspec.statistics.on_demand import OnDemand
from ssmspec.statistics.poles import half_life
from ssmspec.statistics.results import Wanted
from ssmspec.systems.grid import DEFAULT_POINTS, FloatArray, FrequencyGrid
from ssmspec.systems.horizon import first_samples
from ssmspec.systems.kernel import KernelSystem
from ssmspec.systems.statespace import ComplexArray, discrete_poles, modal_form, padded_modes
from ssmspec.systems.system import System
from ssmspec.systems.trust import GROWING, NOT_FINITE, Trust, assess, within_range

WORTHWHILE = 1e8  # pole-node pairs, about half a second, from which on other processes are started
SHARES = 8  # of the work of each process: as many times at least it gets something new to do, so that all end at about the same time

Progress = Callable[[str, int, int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisOptions:
    """What the user can choose.

    Args:
        layers: exact names, globs or indices of layers; empty selects all.
        family: read the file as this family only.
        read: what a file may not state (assumptions, length, operating point, mapping).
        backend: name of an engine; None chooses one by the size of the work.
        files: how many checkpoints the same command analyzes, which an engine is chosen for.
        points: F, the number of points of the log-spaced grid.
        with_skip: include D in the response.
        statistics: names of the statistics to compute at once; None stands for all, each computed when it is first asked for.
        threads: processes for the layers of a checkpoint, where there is enough to do; each uses one thread. None stays in this process,
            where an engine uses as many threads as there are cores.
        horizon: samples of the kernel that stand for a layer whose poles do not decay; None gives such a layer no numbers.
        details: what to keep that only figures need: "poles" in the z-plane, or "all".
    """

    layers: tuple[str, ...] = ()
    family: str | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
    backend: str | None = None
    points: int = DEFAULT_POINTS
    with_skip: bool = False
    statistics: tuple[str, ...] | None = None
    threads: int | None = None
    horizon: int | None = None
    details: Wanted | None = None
    files: int = 1

    @property
    def chosen(self) -> Collection[str]:
        """The names of the statistics to compute."""
        return STATISTICS if self.statistics is None else self.statistics

    def backend_for(self, pairs: float) -> str:
        """The name of the engine, where a file has so many pole-node pairs."""
        return self.backend or choose_backend(pairs * self.files)


@dataclass(frozen=True, slots=True)
class Work:
    """What decides in how many processes something is done: the engine and its name, pole-node pairs, and how many may run."""

    engine: CauchySum
    backend: str
    pairs: float
    threads: int | None

    @property
    def processes(self) -> int:
        """1 where there is so little to do that starting others takes longer; the memory of a GPU is not shared either."""
        return 1 if self.backend == "gpu" or self.pairs < WORTHWHILE else self.threads or 1

    def together(self, items: int) -> int:
        """How many of the items a process gets at once: layers of less than half a second are handed out by the handful."""
        return max(1, min(int(WORTHWHILE * items / max(self.pairs, 1.0)), items // (SHARES * self.processes)))


def analyze(path: Path | str, options: AnalysisOptions | None = None, *, progress: Progress | None = None) -> CheckpointAnalysis:
    """Read a checkpoint and compute the statistics of every SSM layer.

    Args:
        path: a checkpoint file or folder.
        options: see `AnalysisOptions`.
        progress: called with (layer name, layers done, total number of layers).
    Returns:
        CheckpointAnalysis with layers in model order. Where numbers cannot be trusted, even in all layers, statistics are null and carry a
            reason.
    Raises:
        CheckpointError: the file cannot be read. NoLayerError: it holds no SSM layer. LayerError: none is selected.
        BackendError: the named engine cannot run.
    """
    options = options or AnalysisOptions()
    chosen = choose_layers(path, options.layers, options.family, options.read)
    return analyze_chosen(chosen, options, progress=progress)


def analyze_chosen(chosen: ChosenLayers, options: AnalysisOptions, *, progress: Progress | None = None) -> CheckpointAnalysis:
    """The statistics of layers that were read. Raises as `analyze`."""
    checkpoint, systems = chosen.checkpoint, chosen.systems
    grid = FrequencyGrid.default(options.points)
    pairs = sum(pairs_of(system, options.points, options.chosen) for system in systems)
    backend = options.backend_for(pairs)
    engine = load_backend(backend)

    def layer(system: System) -> LayerAnalysis:
        chosen, skip, details = _chosen_for(system, options), options.with_skip, options.details
        own = replace(system)  # what is derived from a system is kept with it, and goes with this copy
        found = analyze_layer(own, grid, engine, with_skip=skip, chosen=chosen, horizon=options.horizon, details=details)
        return replace(found, over_tokens=band_over_tokens(system, options.read))

    with about(checkpoint.path):
        found = each(layer, systems, Work(engine, backend, pairs, options.threads), progress)
        layers = [replace(layer, index=place) for layer, place in zip(found, chosen.places, strict=True)]
    context, calibration = context_length(checkpoint.config), options.read.calibration
    return CheckpointAnalysis(
        path=str(checkpoint.path),
        container=checkpoint.container,
        size=checkpoint.size,
        tensors=len(checkpoint.tensors),
        backend=backend,
        grid=grid,
        with_skip=options.with_skip,
        layers=tuple(layers),
        skipped=chosen.skipped,
        notes=(
            *checkpoint.notes,
            *memory_notes(layers, context),
            *_uncut(systems, options.horizon),
            *calibration_notes(layers, options.read),
        ),
        statistics=tuple(options.chosen),
        context_length=None if context is None else context[0],
        calibration=None if calibration is None else {**calibration.provenance, "path": str(calibration.path)},
        transfer=checkpoint.transfer,
    )


def each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    work: Work,
    progress: Progress | None = None,
    name_of: Callable[[Item], str] = attrgetter("name"),
) -> list[Result]:
    """function(item) of every layer in turn, in several processes where that is allowed and finishes earlier.

    Args:
        progress: called with the name of an item before its result is there.
    """
    processes = work.processes if len(items) > 1 else 1
    if processes > 1 and compiles(work.engine):  # the code is loaded once, not by every process
        from ssmspec.backends.cpu import DOUBLE_SUMS, SINGLE_SUMS, SUMS
        from ssmspec.statistics.quick import KERNELS

        for kernel in (SINGLE_SUMS, DOUBLE_SUMS, SUMS, *KERNELS):
            kernel.loaded("f8")
    found = []
    with limited(work.threads):
        results = mapped(function, items, processes, work.together(len(items)))
        for done, item in enumerate(items):
            if progress:
                progress(name_of(item), done, len(items))
            found.append(next(results))
    return found


def _uncut(systems: Sequence[System], horizon: int | None) -> tuple[str, ...]:
    """A note where a horizon was given for nothing."""
    if horizon is None or any(fault.kind == GROWING for system in systems for fault in assess(system).faults):
        return ()
    poles = not all(system.no_poles for system in systems)
    return (f"--horizon {horizon}: {'all poles decay' if poles else 'no layer has poles'}, so no kernel was cut",)


def _chosen_for(system: System, options: AnalysisOptions) -> Collection[str] | None:
    """The statistics of one layer: a table shows the half-lives of decay gates."""
    return (*HEADLINES, HALF_LIFE) if system.decay_gate and options.statistics == HEADLINES else options.statistics


def analyze_layer(
    system: System,
    grid: FrequencyGrid,
    engine: CauchySum,
    *,
    with_skip: bool = False,
    spectrum: Spectrum | None = None,
    trust: Trust | None = None,
    chosen: Collection[str] | None = tuple(STATISTICS),
    horizon: int | None = None,
    details: Wanted | None = None,
) -> LayerAnalysis:
    """Statistics of the sound copies of one layer, with the curve of |H| over them, and the poles of all copies.

    Args:
        spectrum: the spectrum of the sound copies, if the caller already has it. trust: which copies are sound, likewise.
        horizon, details: as in `AnalysisOptions`.
        chosen: names of `STATISTICS`; all by default. None computes each of them when it is first asked for. The estimated error of
            energies needs a quadrature, so it is given only with all.
    """
    trust = trust or assess(system)
    growing = sum(len(fault.copies) for fault in trust.faults if fault.kind == GROWING) if horizon else 0
    measured, cut = _Measured(), first_samples(system, horizon) if horizon and growing else None
    if cut is not None:
        trust = within_range(trust.despite(GROWING), cut)
    if trust.problem:
        names = tuple(STATISTICS if chosen is None else chosen)
        measured.statistics = {name: unavailable(STATISTICS[name].unit, trust.problem) for name in names}
        measured.half_lives = np.full(system.copies, np.nan) if system.decay_gate else None
    else:
        spectrum = spectrum or spectrum_of(trust.pick(cut or system), grid, engine, with_skip=with_skip)
        measured = _measure(spectrum, trust, chosen)
        if cut is not None:
            measured.notes = (*measured.notes, _cut_note(trust.pick(cut), growing))
    poles = _poles(system, trust, spectrum)
    return LayerAnalysis(
        name=system.name,
        family=system.family,
        copies=system.copies,
        inputs=system.inputs,
        outputs=system.outputs,
        **system.form,
        **_ranges(system if trust.problem else trust.pick(system)),
        poles=poles,
        operating_point=system.operating_point,
        assumptions=system.assumptions,
        assumed=system.assumed,
        notes=measured.notes,
        problem=trust.problem,
        statistics=measured.statistics,
        curve=measured.curve,
        errors=measured.errors,
        memory=measured.memory,
        half_lives=measured.half_lives,
        values=measured.values,
        gaps=measured.gaps,
        faults=trust.faults,
        details=details_of(system, details, poles, spectrum, trust.problem) if details else None,
    )


def _ranges(sound: System) -> dict[str, Any]:
    """Steps and beta weights of the sound copies."""
    return {
        "step_range": _finite_range(sound.step) if sound.has_step else None,
        "beta_range": None if sound.sobolev is None else _finite_range(sound.sobolev.beta),
        "beta_convention": None if sound.sobolev is None else sound.sobolev.convention,
    }


@dataclass(slots=True)
class _Measured:
    """What an analysis says about the sound copies of a layer; empty by default."""

    statistics: Mapping[str, Summary] = field(default_factory=dict)
    values: Mapping[str, FloatArray] = field(default_factory=dict)
    gaps: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    curve: Curve | None = None
    memory: dict[int, float] | None = None
    half_lives: FloatArray | None = None
    errors: Mapping[str, float | None] = field(default_factory=dict)


@np.errstate(all="ignore")  # a value that overflows becomes null with a reason
def _measure(spectrum: Spectrum, trust: Trust, chosen: Collection[str] | None) -> _Measured:
    names = STATISTICS if chosen is None else chosen
    alive, gaps = spectrum.unit_magnitude.max(axis=1) != 0, dict[str, str]()
    values = OnDemand(names, lambda name: _values(name, spectrum, trust, alive, gaps))
    statistics = OnDemand(names, lambda name: summarize(values[name], STATISTICS[name].unit))
    copies = OnDemand(names, lambda name: values[name].values)
    errors = OnDemand(("energies",) if len(names) == len(STATISTICS) else (), lambda _: _energy_error(spectrum))
    left_out = [f"{text}; these copies are skipped in all statistics" for text in trust.gaps]
    measured = _Measured(statistics, copies, gaps, curve=_curve(spectrum, trust), errors=errors)
    if chosen is not None:
        measured.statistics, measured.values, measured.errors = dict(statistics), dict(copies), dict(errors)
    measured.notes = (*left_out, *_observations(spectrum, trust), *gaps.values())
    if spectrum.system.operating_point and not spectrum.system.no_poles:
        measured.memory = memory_shares(spectrum)
        measured.half_lives = trust.scatter(half_life(spectrum).values) if spectrum.system.decay_gate else None
    return measured


@np.errstate(all="ignore")  # as above
def _values(name: str, spectrum: Spectrum, trust: Trust, alive: np.ndarray, gaps: dict[str, str]) -> Values:
    """One statistic of every copy, and a gap where only some of the sound copies have it."""
    found = STATISTICS[name].of(spectrum)
    missing = int((~np.isfinite(found.values) & alive).sum())
    if 0 < missing < len(alive) and not found.by_definition:
        gaps[name] = f"{name} has no value for {missing} of {_sound(trust)} ({found.reason}), which are skipped"
    return replace(found, values=trust.scatter(found.values))


@np.errstate(all="ignore")  # as above
def _energy_error(spectrum: Spectrum) -> float | None:
    """Largest estimate, over copies, of the relative error of the energies used."""
    errors = spectrum.band.relative_error[np.isfinite(spectrum.band.total)]
    return float(np.max(errors[np.isfinite(errors)])) if np.isfinite(errors).any() else None


def _cut_note(system: KernelSystem, growing: int) -> str:
    """What was cut of a layer with so many growing copies, and the energy of what is left."""
    total = system.energy()
    total = total[np.isfinite(total)]
    energy = f"; its energy has median {np.median(total):.3g}, {total.min():.3g}..{total.max():.3g}, without D" if total.size else ""
    have = "copies has" if growing == 1 else "copies have"
    return (
        f"{growing} of {system.copies} {have} poles that do not decay: all numbers are those of the kernel of {system.length} samples, "
        f"as asked with --horizon{energy}"
    )


def _poles(system: System, trust: Trust, spectrum: Spectrum | None) -> ComplexArray:
    """The poles of every copy, sound or not, (K, M): eigenvalues where there is a low-rank part, and NaN where a copy has fewer."""
    if system.no_poles:
        return np.empty((0, 0), complex)
    space = system.state_space()
    if not space.rank:
        return space.poles if space.continuous_time else discrete_poles(space)
    known = None if spectrum is None or spectrum.system.no_poles else spectrum.modal
    others = [trust.sound] * (known is None) + [fault.copies for fault in trust.faults if fault.kind != NOT_FINITE]
    parts = [] if known is None else [(trust.sound, known)]
    parts += [(copies, modal_form(space.pick(copies))[0]) for copies in others if copies.size]
    result = np.full((space.copies, max([1, *(modal.modes for _, modal in parts)])), np.nan + 0j)
    for copies, modal in parts:
        result[copies, : modal.modes] = np.where(padded_modes(space, modal), np.nan, modal.poles)
    return result


def _finite_range(values: np.ndarray) -> tuple[float, float] | None:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else None


def _sound(trust: Trust) -> str:
    return f"{len(trust.sound)} {'sound ' if trust.faults else ''}copies"


def _curve(spectrum: Spectrum, trust: Trust) -> Curve:
    magnitude = spectrum.magnitude
    alive = magnitude[(magnitude > 0).any(axis=1)]
    if trust.copies == 1 or not len(alive):
        return Curve(magnitude[0], None, None)
    return Curve.over(alive)


def _observations(spectrum: Spectrum, trust: Trust) -> tuple[str, ...]:
    notes = []
    dead = int((spectrum.unit_magnitude.max(axis=1) == 0).sum())
    if dead:
        notes.append(f"{dead} of {_sound(trust)} have no response ({spectrum.silent}) and are skipped in medians and ranges")
    return (*notes, *spectrum.notes())


def pairs_of(system: System, points: int, chosen: Collection[str] = STATISTICS) -> float:
    """Number of pole-node pairs for the statistics of a layer: two passes over the grid, and about 200 quadrature nodes per pole.

    The headlines are sums over the grid and need no quadrature.
    """
    sums = min((system.outputs + system.rank) * (system.inputs + system.rank), 4 * system.modes)
    nodes = 0 if set(chosen) <= {*HEADLINES, HALF_LIFE} else 200 * system.modes * (2 if system.rank else 1)
    return float(system.copies) * system.modes * sums * (2 * points + nodes)
