"""From a checkpoint file to the statistics of its layers. `analyze` follows the path through the whole package in reading order."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ssmspec.backends import CauchySum, choose_backend, load_backend
from ssmspec.checkpoint import open_checkpoint
from ssmspec.errors import LayerError, about
from ssmspec.families import ReadOptions
from ssmspec.families.layers import find_layers, read_systems, select_layers
from ssmspec.statistics import (
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
from ssmspec.systems.statespace import StateSpace, padded_modes, undamped_poles, untrustworthy

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
    """

    layers: tuple[str, ...] = ()
    family: str | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
    backend: str | None = None
    points: int = DEFAULT_POINTS
    with_skip: bool = False


def analyze(path: Path | str, options: AnalysisOptions | None = None, *, progress: Progress | None = None) -> CheckpointAnalysis:
    """Read a checkpoint and compute every statistic of every SSM layer.

    Args:
        path: a checkpoint file or folder.
        options: see `AnalysisOptions`.
        progress: called with (layer name, layers done, total number of layers).
    Returns:
        CheckpointAnalysis with layers in model order. Where numbers cannot be trusted, statistics are null and carry a reason.
    Raises:
        CheckpointError: the file cannot be read. NoLayerError: it holds no SSM layer.
        LayerError: no layer is usable or undamped by design, or none is selected. BackendError: the named engine cannot run.
    """
    options = options or AnalysisOptions()
    checkpoint = open_checkpoint(path)
    grid = FrequencyGrid.default(options.points)
    detection = find_layers(checkpoint, options.family, options.read)
    systems, skipped = read_systems(checkpoint, detection, options.read)
    places = {id(system): place for place, system in enumerate(systems)}
    systems = select_layers(systems, options.layers, checkpoint)
    backend = options.backend or choose_backend(sum(pairs_of(system, options.points) for system in systems))
    engine = load_backend(backend)
    layers = []
    with about(checkpoint.path):
        for done, system in enumerate(systems):
            if progress:
                progress(system.name, done, len(systems))
            layers.append(replace(analyze_layer(system, grid, engine, with_skip=options.with_skip), index=places[id(system)]))
    if all(layer.problem and not layer.undamped for layer in layers):
        raise LayerError(f"{checkpoint.path}: no layer is usable; {layers[0].name}: {layers[0].problem}")
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
    )


def analyze_layer(
    system: StateSpace,
    grid: FrequencyGrid,
    engine: CauchySum,
    *,
    with_skip: bool = False,
    spectrum: LayerSpectrum | None = None,
    chosen: Collection[str] = STATISTICS,
) -> LayerAnalysis:
    """Statistics of one layer, with its curve of |H| and its poles.

    Args:
        spectrum: the spectrum of the same system, if the caller already has it.
        chosen: names of `STATISTICS`; all by default. The estimated error of energies needs a quadrature, so it is given only with all.
    """
    problem = untrustworthy(system)
    notes: tuple[str, ...] = ()
    values: dict[str, FloatArray] = {}
    gaps: dict[str, str] = {}
    curve, poles, memory = None, system.poles, None
    energy_error = None
    if problem:
        statistics = {name: unavailable(STATISTICS[name].unit, problem) for name in chosen}
    else:
        spectrum = spectrum or LayerSpectrum(system, grid, engine, with_skip=with_skip)
        with np.errstate(all="ignore"):  # a value that overflows becomes null with a reason
            statistics, values, gaps = _statistics(spectrum, chosen)
            curve, notes = _curve(spectrum), (*_observations(spectrum), *gaps.values())
            memory = memory_shares(spectrum) if system.operating_point else None
        if len(chosen) == len(STATISTICS):
            energy_error = _largest(spectrum.band.relative_error[np.isfinite(spectrum.band.total)])
        poles = np.where(padded_modes(system, spectrum.modal), np.nan, spectrum.modal.poles)
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
        step_range=None if direct else _finite_range(system.step),
        operating_point=system.operating_point,
        beta_range=None if system.sobolev is None else _finite_range(system.sobolev.beta),
        beta_convention=None if system.sobolev is None else system.sobolev.convention,
        assumptions=system.assumptions,
        assumed=system.assumed,
        notes=notes,
        problem=problem,
        undamped=problem is not None and problem == undamped_poles(system),
        statistics=statistics,
        curve=curve,
        poles=poles,
        continuous_poles=not direct,
        energy_error=energy_error,
        memory=memory,
        values=values,
        gaps=gaps,
    )


def _finite_range(values: np.ndarray) -> tuple[float, float] | None:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else None


def _largest(values: FloatArray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else None


def _statistics(spectrum: LayerSpectrum, chosen: Collection[str]) -> tuple[dict[str, Summary], dict[str, FloatArray], dict[str, str]]:
    """Summaries and values (K,) by name, and a note for every statistic that some copies lack."""
    summaries, everything, gaps = {}, {}, {}
    alive = spectrum.unit_magnitude.max(axis=1) != 0
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for name in chosen:
            statistic = STATISTICS[name]
            values = statistic.of(spectrum)
            summaries[name], everything[name] = summarize(values, statistic.unit), values.values
            missing = int((~np.isfinite(values.values) & alive).sum())
            if 0 < missing < len(alive) and not values.by_definition:
                gaps[name] = f"{name} has no value for {missing} of {len(alive)} copies ({values.reason}), which are skipped"
    return summaries, everything, gaps


def _curve(spectrum: LayerSpectrum) -> Curve:
    magnitude = spectrum.magnitude
    alive = magnitude[(magnitude > 0).any(axis=1)]
    if len(magnitude) == 1 or not len(alive):
        return Curve(magnitude[0], None, None)
    p5, median, p95 = np.percentile(alive, [5, 50, 95], axis=0)
    return Curve(median, p5, p95)


def _observations(spectrum: LayerSpectrum) -> tuple[str, ...]:
    notes = []
    dead = int((spectrum.unit_magnitude.max(axis=1) == 0).sum())
    if dead:
        notes.append(f"{dead} of {spectrum.system.copies} copies have no response (zero residues) and are skipped in medians and ranges")
    if spectrum.system.rank:
        notes.append(f"eigenvectors of diag - P Q^* have condition numbers up to {spectrum.condition.max():.3g}")
    return tuple(notes)


def pairs_of(system: StateSpace, points: int) -> float:
    """Number of pole-node pairs for the statistics of a layer: two passes over the grid, and about 200 quadrature nodes per pole."""
    sums = min((system.outputs + system.rank) * (system.inputs + system.rank), 4 * system.modes)
    return float(system.copies) * system.modes * sums * (2 * points + 200 * system.modes * (2 if system.rank else 1))
