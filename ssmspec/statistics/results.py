"""What an analysis of a checkpoint found: plain data, ready for tables, JSON, CSV and pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ssmspec.statistics.values import Summary
from ssmspec.systems.grid import FloatArray, FrequencyGrid
from ssmspec.systems.statespace import Assumed, ComplexArray


@dataclass(frozen=True, slots=True)
class Curve:
    """|H| over the grid: median and 5..95 % band over the copies, each (F,); the band is None for a single system."""

    median: FloatArray
    p5: FloatArray | None
    p95: FloatArray | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAnalysis:
    """One layer: what it is, what was assumed, its statistics by name, and what pictures need.

    Args:
        index: place among all layers of the checkpoint, which `--layer` takes.
        assumptions: in words. assumed: those of them that a user can set.
        step_range: smallest and largest Delta [model time per sample]; None for layers that store discrete poles.
        memory: of selective layers, the share of copies whose half-life is longer than so many samples (tokens).
        energy_error: largest estimate over copies of the relative error of energies in use; None where there is no usable copy.
        problem: why no number of this layer can be trusted; then every statistic is null and curve is None.
        undamped: the problem is no fault: its poles are on the unit circle by design.
        poles: (K, N) upper half, of the s-plane where continuous_poles, else of the z-plane.
        values: (K,) of every statistic, NaN where a copy has none, in the unit of `STATISTICS`; empty where there is a problem.
        gaps: of statistics that only some copies have, a line that says how many lack it and why; among the notes, too.
    """

    name: str
    family: str
    copies: int
    inputs: int
    outputs: int
    modes: int
    rank: int
    discretization: str
    delay: int
    step_range: tuple[float, float] | None
    operating_point: str | None
    beta_range: tuple[float, float] | None
    beta_convention: str | None
    assumptions: tuple[str, ...]
    notes: tuple[str, ...]
    problem: str | None
    statistics: Mapping[str, Summary]
    curve: Curve | None
    poles: ComplexArray
    continuous_poles: bool
    undamped: bool = False
    index: int = 0
    assumed: tuple[Assumed, ...] = ()
    energy_error: float | None = None
    memory: Mapping[int, float] | None = None
    values: Mapping[str, FloatArray] = field(default_factory=dict)
    gaps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in the file that was not analyzed."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointAnalysis:
    """One checkpoint: where it was, its layers in model order, what was skipped and what the reader had to say."""

    path: str
    container: str
    size: int
    tensors: int
    backend: str
    grid: FrequencyGrid
    with_skip: bool
    layers: tuple[LayerAnalysis, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The layers of a model that is being trained, as they were after `step` steps; otherwise as `CheckpointAnalysis`."""

    step: int
    backend: str
    grid: FrequencyGrid
    with_skip: bool
    layers: tuple[LayerAnalysis, ...]
    skipped: tuple[Skipped, ...]
