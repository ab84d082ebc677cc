"""From a checkpoint file to the statistics of its layers. `analyze` follows the path through the whole package in reading order."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ssmspec.backends import CauchySum, choose_backend, load_backend
from ssmspec.errors import about
from ssmspec.families import ReadOptions
from ssmspec.families.layers import find_layers, open_for_layers, readable_layers, select_layers
from ssmspec.statistics import (
    HEADLINES,
    STATISTICS,
    CheckpointAnalysis,
    Curve,
    LayerAnalysis,
    LayerSpectrum,
    Summary,
    memory_shares,
    summarize,
    unavailable,
)
from ssmspec.systems.grid import DEFAULT_POINTS, FloatArray, FrequencyGrid
from ssmspec.systems.statespace import ComplexArray, StateSpace, modal_form, padded_modes
from ssmspec.systems.trust import NOT_FINITE, Trust, assess

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisOptions:
    """What the user can choose.

    Args:
        layers: exact names, globs or indices of layers; empty selects all.
        family: read the file as this family only.
        read: what a file may not state (assumptions, length, operating point, mapping).
        backend: name of an engine; None chooses one by the size of the work.
        points: F, the number of points of the log-spaced grid.
        with_skip: include D in the response.
        statistics: names of the statistics to compute; None computes all.
    """

    layers: tuple[str, ...] = ()
    family: str | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
    backend: str | None = None
    points: int = DEFAULT_POINTS
    with_skip: bool = False
    statistics: tuple[str, ...] | None = None

    @property
    def chosen(self) -> Collection[str]:
        """The names of the statistics to compute."""
        return STATISTICS if self.statistics is None else self.statistics


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
    checkpoint = open_for_layers(path, options.read)
    grid = FrequencyGrid.default(options.points)
    detection = find_layers(checkpoint, options.family, options.read)
    readable, skipped = readable_layers(checkpoint, detection, options.read)
    everything = [system for layer in readable for system in layer.systems]
    places = {id(system): place for place, system in enumerate(everything)}
    systems = select_layers(everything, options.layers, checkpoint, skipped) if everything else []
    backend = options.backend or choose_backend(sum(pairs_of(system, options.points, options.chosen) for system in systems))
    engine = load_backend(backend)
    layers = []
    with about(checkpoint.path):
        for done, system in enumerate(systems):
            if progress:
                progress(system.name, done, len(systems))
            found = analyze_layer(system, grid, engine, with_skip=options.with_skip, chosen=options.chosen)
            layers.append(replace(found, index=places[id(system)]))
    return CheckpointAnalysis(
        path=str(checkpoint.path),
        container=checkpoint.container,
        size=checkpoint.size,
        tensors=len(checkpoint.tensors),
        backend=backend,
        grid=grid,
        with_skip=options.with_skip,
        layers=tuple(layers),
        skipped=tuple(skipped),
        notes=checkpoint.notes,
        statistics=tuple(options.chosen),
        transfer=checkpoint.transfer,
    )


def analyze_layer(
    system: StateSpace,
    grid: FrequencyGrid,
    engine: CauchySum,
    *,
    with_skip: bool = False,
    spectrum: LayerSpectrum | None = None,
    trust: Trust | None = None,
    chosen: Collection[str] = STATISTICS,
) -> LayerAnalysis:
    """Statistics of the sound copies of one layer, with the curve of |H| over them, and the poles of all copies.

    Args:
        spectrum: the spectrum of the sound copies, if the caller already has it. trust: which copies are sound, likewise.
        chosen: names of `STATISTICS`; all by default. The estimated error of energies needs a quadrature, so it is given only with all.
    """
    trust = trust or assess(system)
    measured, sound = _Measured(), system if trust.problem else trust.pick(system)
    if trust.problem:
        measured.statistics = {name: unavailable(STATISTICS[name].unit, trust.problem) for name in chosen}
    else:
        spectrum = spectrum or LayerSpectrum(sound, grid, engine, with_skip=with_skip)
        measured = _measure(spectrum, trust, chosen)
    direct = system.discretization == "direct"
    return LayerAnalysis(
        name=system.name,
        family=system.family,
        copies=system.copies,
        inputs=system.inputs,
        outputs=system.outputs,
        modes=system.modes,
        rank=system.rank,
        discretization=system.discretization,
        delay=system.delay,
        step_range=None if direct else _finite_range(sound.step),
        operating_point=system.operating_point,
        beta_range=None if sound.sobolev is None else _finite_range(sound.sobolev.beta),
        beta_convention=None if sound.sobolev is None else sound.sobolev.convention,
        assumptions=system.assumptions,
        assumed=system.assumed,
        notes=measured.notes,
        problem=trust.problem,
        statistics=measured.statistics,
        curve=measured.curve,
        poles=_poles(system, trust, spectrum),
        continuous_poles=not direct,
        energy_error=measured.energy_error,
        memory=measured.memory,
        values=measured.values,
        gaps=measured.gaps,
        faults=trust.faults,
    )


@dataclass(slots=True)
class _Measured:
    """What an analysis says about the sound copies of a layer; empty by default."""

    statistics: dict[str, Summary] = field(default_factory=dict)
    values: dict[str, FloatArray] = field(default_factory=dict)
    gaps: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    curve: Curve | None = None
    memory: dict[int, float] | None = None
    energy_error: float | None = None


@np.errstate(all="ignore")  # a value that overflows becomes null with a reason
def _measure(spectrum: LayerSpectrum, trust: Trust, chosen: Collection[str]) -> _Measured:
    statistics, values, gaps = _statistics(spectrum, trust, chosen)
    left_out = (f"{text}; these copies are skipped in all statistics" for text in trust.gaps)
    band = spectrum.band if len(chosen) == len(STATISTICS) else None
    return _Measured(
        statistics=statistics,
        values=values,
        gaps=gaps,
        notes=(*left_out, *_observations(spectrum, trust), *gaps.values()),
        curve=_curve(spectrum, trust),
        memory=memory_shares(spectrum) if spectrum.system.operating_point else None,
        energy_error=None if band is None else _largest(band.relative_error[np.isfinite(band.total)]),
    )


def _poles(system: StateSpace, trust: Trust, spectrum: LayerSpectrum | None) -> ComplexArray:
    """The poles of every copy, sound or not, (K, M): eigenvalues where there is a low-rank part, and NaN where a copy has fewer."""
    if not system.rank:
        return system.poles
    parts = [] if spectrum is None else [(trust.sound, spectrum.system, spectrum.modal)]
    others = [fault.copies for fault in trust.faults if fault.kind != NOT_FINITE]
    parts += [(copies, part, modal_form(part)[0]) for copies in others for part in (system.pick(copies),)]
    result = np.full((system.copies, max([1, *(modal.modes for _, _, modal in parts)])), np.nan + 0j)
    for copies, part, modal in parts:
        result[copies, : modal.modes] = np.where(padded_modes(part, modal), np.nan, modal.poles)
    return result


def _finite_range(values: np.ndarray) -> tuple[float, float] | None:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else None


def _largest(values: FloatArray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else None


def _statistics(
    spectrum: LayerSpectrum, trust: Trust, chosen: Collection[str]
) -> tuple[dict[str, Summary], dict[str, FloatArray], dict[str, str]]:
    """Summaries and values (K,) by name, and a note for every statistic that some of the sound copies lack."""
    summaries, everything, gaps = {}, {}, {}
    alive = spectrum.unit_magnitude.max(axis=1) != 0
    for name in chosen:
        statistic = STATISTICS[name]
        values = statistic.of(spectrum)
        missing = int((~np.isfinite(values.values) & alive).sum())
        if 0 < missing < len(alive) and not values.by_definition:
            gaps[name] = f"{name} has no value for {missing} of {_sound(trust)} ({values.reason}), which are skipped"
        everything[name] = trust.scatter(values.values)
        summaries[name] = summarize(replace(values, values=everything[name]), statistic.unit)
    return summaries, everything, gaps


def _sound(trust: Trust) -> str:
    return f"{len(trust.sound)} {'sound ' if trust.faults else ''}copies"


def _curve(spectrum: LayerSpectrum, trust: Trust) -> Curve:
    magnitude = spectrum.magnitude
    alive = magnitude[(magnitude > 0).any(axis=1)]
    if trust.copies == 1 or not len(alive):
        return Curve(magnitude[0], None, None)
    p5, median, p95 = np.percentile(alive, [5, 50, 95], axis=0)
    return Curve(median, p5, p95)


def _observations(spectrum: LayerSpectrum, trust: Trust) -> tuple[str, ...]:
    notes = []
    dead = int((spectrum.unit_magnitude.max(axis=1) == 0).sum())
    if dead:
        notes.append(f"{dead} of {_sound(trust)} have no response (zero residues) and are skipped in medians and ranges")
    if spectrum.system.rank:
        notes.append(f"eigenvectors of diag - P Q^* have condition numbers up to {spectrum.condition.max():.3g}")
    return tuple(notes)


def pairs_of(system: StateSpace, points: int, chosen: Collection[str] = STATISTICS) -> float:
    """Number of pole-node pairs for the statistics of a layer: two passes over the grid, and about 200 quadrature nodes per pole.

    The headlines are sums over the grid and need no quadrature.
    """
    sums = min((system.outputs + system.rank) * (system.inputs + system.rank), 4 * system.modes)
    nodes = 0 if set(chosen) <= set(HEADLINES) else 200 * system.modes * (2 if system.rank else 1)
    return float(system.copies) * system.modes * sums * (2 * points + nodes)
