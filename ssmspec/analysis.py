"""From a checkpoint file to the statistics of its layers: the path through the whole package, in reading order."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import numpy as np

from ssmspec.backends import CauchySum, choose_backend, load_backend
from ssmspec.checkpoint import Checkpoint, open_checkpoint
from ssmspec.errors import LayerError, NoLayerError
from ssmspec.families import Detection, LayerTensors, ReadOptions, detect, known_families
from ssmspec.grid import DEFAULT_POINTS, FloatArray, FrequencyGrid
from ssmspec.statespace import StateSpace, padded_modes, untrustworthy
from ssmspec.statistics import (
    STATISTICS,
    CheckpointAnalysis,
    Curve,
    LayerAnalysis,
    LayerSpectrum,
    Skipped,
    Summary,
    memory_shares,
    summarize,
    unavailable,
)

Progress = Callable[[str, int, int], None]

SHARED = "(shared module)"  # how the reason ends for which a layer is skipped that is a copy of another
FINGERPRINT = 1 << 14  # bytes of a tensor that are compared to tell layers apart
DIGESTED = 1 << 26  # bytes of a tensor that are all compared before two layers are called one


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisOptions:
    """What the user may choose.

    Args:
        layers: exact names, globs or indices of layers; empty means all.
        family: read with this family only.
        read: what a file may not say (discretization, LRU convention, length, operating point, mapping).
        backend: name of an engine; None lets the size of the work decide.
        points: F of the log-spaced grid.
        with_skip: include D.
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
        progress: called with (layer name, layers done, layers in all).
    Returns:
        CheckpointAnalysis; layers in model order, null statistics with a reason where numbers cannot be trusted.
    Raises:
        CheckpointError: the file cannot be read. NoLayerError: it holds no SSM layer. LayerError: no layer is usable, or none is selected.
        BackendError: the named engine cannot run.
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
    for done, system in enumerate(systems):
        if progress:
            progress(system.name, done, len(systems))
        layers.append(replace(analyze_layer(system, grid, engine, with_skip=options.with_skip), index=places[id(system)]))
    if all(layer.problem for layer in layers):
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


def find_layers(checkpoint: Checkpoint, family: str | None = None, options: ReadOptions | None = None) -> Detection:
    """SSM layers of an open checkpoint by tensor names and shapes.

    Raises:
        LayerError: an unknown family name, or a mapping that names no layer. NoLayerError: no layer; the text says what was seen and
            which family comes nearest.
    """
    families = known_families(options or ReadOptions())
    if family is not None and family not in families:
        raise LayerError(f"family {family!r} is unknown; choose one of {', '.join(families)}")
    try:
        detection = detect(checkpoint.tensors, families.values() if family is None else [families[family]])
    except LayerError as error:
        raise LayerError(f"{checkpoint.path}: {error}") from error
    if detection.layers:
        return detection
    wanted = "SSM layer" if family is None else f"layer of family {family}"
    names = list(checkpoint.tensors)
    seen = f"{len(names)} tensors such as {', '.join(names[:3])}" if names else "no tensors at all"
    near = "; ".join(f"{miss.prefix}: {miss.describe()}" for miss in detection.near_misses[:1])
    more = f" (and {len(detection.near_misses) - 1} more)" if len(detection.near_misses) > 1 else ""
    advice = (
        f"; {near}{more}"
        if near
        else "; no known family comes near ('ssmspec families' lists them; 'ssmspec inspect --suggest-map' drafts a mapping for others)"
    )
    raise NoLayerError(f"{checkpoint.path}: no {wanted} found: it holds {seen}{advice}")


def read_systems(checkpoint: Checkpoint, detection: Detection, options: ReadOptions) -> tuple[list[StateSpace], list[Skipped]]:
    """The state spaces of all layers in model order, each distinct one once, and what was left out.

    Raises:
        LayerError: every layer contradicts its family; otherwise such a layer is among the skipped.
    """
    families = known_families(options)
    options = replace(options, config=checkpoint.config)
    systems: list[StateSpace] = []
    skipped = [Skipped(miss.prefix, miss.describe()) for miss in detection.near_misses]
    problems: list[LayerError] = []
    for layer, original in zip(detection.layers, _originals(detection.layers), strict=True):
        if original != layer.name:
            skipped.append(Skipped(layer.name, f"the same tensors as {original} {SHARED}"))
            continue
        try:
            systems += families[layer.family].read(layer, options)
        except LayerError as error:
            problems.append(error)
            skipped.append(Skipped(layer.name, str(error)))
    if problems and not systems:
        raise LayerError(f"{checkpoint.path}: {problems[0]}" + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""))
    return systems, skipped


def _originals(layers: Sequence[LayerTensors]) -> list[str]:
    """For every layer the name of the first one with the same tensors, mostly its own.

    Matrices may be gigabytes in all, so they are looked at only where all vectors agree, and read whole only where their beginnings agree.
    """
    originals = [layer.name for layer in layers]
    groups = [list(range(len(layers)))]
    for look in (partial(_fingerprint, matrices=False), partial(_fingerprint, matrices=True), _digest):
        finer: dict[tuple[int, bytes], list[int]] = defaultdict(list)
        for number, group in enumerate(groups):
            for index in group if len(group) > 1 else ():
                finer[number, look(layers[index])].append(index)
        groups = list(finer.values())
    for group in groups:
        for index in group:
            originals[index] = layers[group[0]].name
    return originals


def _digest(layer: LayerTensors) -> bytes:
    """A hash of every byte of every tensor of a layer; of tensors above DIGESTED bytes, of their first and last rows."""
    result = hashlib.blake2b()
    for _, tensor in sorted(layer.tensors.items()):
        if not tensor.shape:
            continue
        rows = tensor.shape[0]
        height = max(1, FINGERPRINT * 64 // max(1, 8 * int(np.prod(tensor.shape[1:]))))
        small = 8 * int(np.prod(tensor.shape)) <= DIGESTED
        for start in range(0, rows, height) if small else (0, max(0, rows - height)):
            result.update(np.ascontiguousarray(tensor.read(slice(start, start + height))).tobytes())
    return result.digest()


def _fingerprint(layer: LayerTensors, *, matrices: bool) -> bytes:
    """Bytes that differ between distinct layers: shapes, and the first 64 rows of every tensor but not much more than FINGERPRINT bytes."""
    parts = []
    for role, tensor in sorted(layer.tensors.items()):
        parts.append(f"{layer.family} {role} {tensor.shape} {tensor.dtype} ".encode())
        if not tensor.shape:
            parts.append(np.ascontiguousarray(tensor.read()).tobytes())
        elif matrices or len(tensor.shape) == 1:
            row = 8 * int(np.prod(tensor.shape[1:]))
            parts.append(np.ascontiguousarray(tensor.read(slice(0, max(1, min(64, FINGERPRINT // max(1, row)))))).tobytes())
    return b"".join(parts)


def select_layers(systems: Sequence[StateSpace], wanted: Sequence[str], checkpoint: Checkpoint) -> list[StateSpace]:
    """Layers by exact name, glob, index, or the name of a block with several directions; all of them without a choice.

    Raises:
        LayerError: a choice that names no layer.
    """
    if not wanted:
        return list(systems)
    chosen: set[int] = set()
    for pattern in wanted:
        found = set(_matching(systems, pattern))
        if not found:
            names = ", ".join(system.name for system in systems[:8]) + (", ..." if len(systems) > 8 else "")
            raise LayerError(f"{checkpoint.path}: --layer {pattern} names no layer; there are {len(systems)}: {names}")
        chosen |= found
    return [systems[index] for index in sorted(chosen)]


def _matching(systems: Sequence[StateSpace], pattern: str) -> Iterator[int]:
    exact = [index for index, system in enumerate(systems) if system.name == pattern]
    if exact:
        yield from exact
    elif pattern.isascii() and pattern.isdigit() and len(pattern) < 10 and int(pattern) < len(systems):
        yield int(pattern)
    else:
        for index, system in enumerate(systems):
            if fnmatchcase(system.name, pattern) or system.name.rsplit(":", 1)[0] == pattern:
                yield index


def select_one(systems: Sequence[StateSpace], wanted: str, checkpoint: Checkpoint) -> StateSpace:
    """The one layer that a choice names.

    Raises:
        LayerError: none, or several.
    """
    chosen = select_layers(systems, [wanted], checkpoint)
    if len(chosen) > 1:
        raise LayerError(f"--layer {wanted} names {len(chosen)} layers: {', '.join(s.name for s in chosen[:8])}; choose one of them")
    return chosen[0]


def load_system(path: Path | str, layer: str, options: ReadOptions, family: str | None = None) -> StateSpace:
    """One layer of a checkpoint as a state space.

    Raises:
        SsmspecError: as `analyze`; also a layer whose numbers cannot be trusted.
    """
    checkpoint = open_checkpoint(path)
    systems, _ = read_systems(checkpoint, find_layers(checkpoint, family, options), options)
    system = select_one(systems, layer, checkpoint)
    problem = untrustworthy(system)
    if problem:
        raise LayerError(f"{checkpoint.path}: layer {system.name} cannot be used: {problem}")
    return system


def analyze_layer(
    system: StateSpace, grid: FrequencyGrid, engine: CauchySum, *, with_skip: bool = False, spectrum: LayerSpectrum | None = None
) -> LayerAnalysis:
    """Every statistic of one layer, with its curve of |H| and its poles; `spectrum` is that of the same system, where there is one."""
    problem = untrustworthy(system)
    notes: tuple[str, ...] = ()
    values: dict[str, FloatArray] = {}
    gaps: dict[str, str] = {}
    curve, poles, memory = None, system.poles, None
    if problem:
        statistics = {name: unavailable(statistic.unit, problem) for name, statistic in STATISTICS.items()}
    else:
        spectrum = spectrum or LayerSpectrum(system, grid, engine, with_skip=with_skip)
        with np.errstate(all="ignore"):  # what overflows becomes null with a reason
            statistics, values, gaps = _all_statistics(spectrum)
            curve, notes = _curve(spectrum), (*_observations(spectrum), *gaps.values())
            memory = memory_shares(spectrum) if system.operating_point else None
        poles = np.where(padded_modes(spectrum.modal), np.nan, spectrum.modal.poles)
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
        notes=notes,
        problem=problem,
        statistics=statistics,
        curve=curve,
        poles=poles,
        continuous_poles=not direct,
        memory=memory,
        values=values,
        gaps=gaps,
    )


def _finite_range(values: np.ndarray) -> tuple[float, float] | None:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else None


def _all_statistics(spectrum: LayerSpectrum) -> tuple[dict[str, Summary], dict[str, FloatArray], dict[str, str]]:
    """Summaries and values (K,) by name, and a line for every statistic that only some copies have."""
    summaries, everything, gaps = {}, {}, {}
    alive = spectrum.magnitude.max(axis=1) != 0
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for name, statistic in STATISTICS.items():
            values = statistic.function(spectrum)
            summaries[name], everything[name] = summarize(values, statistic.unit), values.values
            missing = int((~np.isfinite(values.values) & alive).sum())
            if 0 < missing < len(alive) and not values.by_definition:
                gaps[name] = f"{name} has no value for {missing} of {len(alive)} copies ({values.reason}); they are left out of it"
    return summaries, everything, gaps


def _curve(spectrum: LayerSpectrum) -> Curve:
    alive = spectrum.magnitude[(spectrum.magnitude > 0).any(axis=1)]
    if len(spectrum.magnitude) == 1 or not len(alive):
        return Curve(spectrum.magnitude[0], None, None)
    p5, median, p95 = np.percentile(alive, [5, 50, 95], axis=0)
    return Curve(median, p5, p95)


def _observations(spectrum: LayerSpectrum) -> tuple[str, ...]:
    notes = []
    dead = int((spectrum.magnitude.max(axis=1) == 0).sum())
    if dead:
        notes.append(f"{dead} of {spectrum.system.copies} copies have no response (zero residues) and are left out of medians and ranges")
    if spectrum.system.rank:
        notes.append(f"eigenvectors of diag - P Q^* have condition numbers up to {spectrum.condition.max():.3g}")
    return tuple(notes)


def pairs_of(system: StateSpace, points: int) -> float:
    """Pole-node pairs that the statistics of a layer take: two passes over the grid and about 200 quadrature nodes per pole."""
    sums = min((system.outputs + system.rank) * (system.inputs + system.rank), 4 * system.modes)
    return float(system.copies) * system.modes * sums * (2 * points + 200 * system.modes * (2 if system.rank else 1))
