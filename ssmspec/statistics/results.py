"""The results of an analysis, as plain data ready for tables, JSON, CSV and figures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ssmspec.checkpoint.remote.traffic import Transfer
from ssmspec.statistics.values import Summary, Values, quantiles, summarize
from ssmspec.systems.grid import FloatArray, FrequencyGrid
from ssmspec.systems.statespace import Assumed, ComplexArray
from ssmspec.systems.trust import UNDAMPED, Fault

FEW_COPIES = 8
"""Up to this many copies, each has its own curve: a median over so few jumps from one to another."""


@dataclass(frozen=True, slots=True)
class Curve:
    """|H| over the grid: median and 5..95 % band over the copies, each (F,); the band is None for a single system.

    `copies`: the curve of every copy, (K, F), where there are 2 to `FEW_COPIES` of them; else None.
    """

    median: FloatArray
    p5: FloatArray | None
    p95: FloatArray | None
    copies: FloatArray | None = None

    @classmethod
    def over(cls, values: FloatArray) -> "Curve":
        """Of a bank of several copies, from the values (K, F) of those that have them."""
        p5, median, p95 = quantiles(values)
        return cls(median, p5, p95, values if len(values) <= FEW_COPIES else None)


Wanted = Literal["poles", "all"]  # of the details of a layer


@dataclass(frozen=True, slots=True)
class TokenBand:
    """Between which half-lives the copies of a selective layer move from token to token, as a calibration recorded it.

    Args:
        half_lives: (3, K), in samples or, with a sample rate, seconds: shorter in 5, 50 and 95 % of the tokens. NaN where a copy has none.
        tokens: how many were recorded. sampled: of how many the quantiles are.
        unit: of the half-lives.
    """

    half_lives: FloatArray
    tokens: int
    sampled: int
    unit: str = "samples"

    def summaries(self) -> tuple[Summary, Summary, Summary]:
        """Median and 5..95 % range over copies of each of the three."""
        low, median, high = (summarize(Values(values, "no finite half-life"), self.unit) for values in self.half_lives)
        return low, median, high


@dataclass(frozen=True, slots=True)
class Details:
    """What only figures need of a layer.

    Args:
        discrete_poles: its poles in the z-plane, (K, N) upper half, NaN where a copy has no pole; empty for an explicit kernel.
        hankel: Hankel singular values divided by the largest of their copy, in descending order: median and 5..95 % band over the copies.
        hankel_missing: why there are none, or None where there are some, or where only poles were asked for.
    """

    discrete_poles: ComplexArray
    hankel: Curve | None
    hankel_missing: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAnalysis:
    """One layer: what it is, what was assumed, its statistics by name, and the data that figures need.

    Args:
        index: index among all layers of the checkpoint, as accepted by `--layer`.
        assumptions: in words. assumed: those of them that a user can set.
        step_range: smallest and largest Delta [model time per sample]; None for layers that store discrete poles.
        half_lives: for decay gates, of every copy [tokens], NaN where it is not sound; None for other layers.
        over_tokens: between which half-lives its copies move over the tokens of a calibration; None without one.
        memory: for selective layers, number of samples (tokens) -> share of sound copies with a longer half-life.
        errors: `energies` -> largest estimate, over copies, of the relative error of the energies used; None if there is no usable copy.
            Empty where not all statistics were chosen.
        problem: why the values of this layer cannot be trusted, or None. With a problem, every statistic is null and curve is None.
        faults: why some copies cannot be trusted. They are skipped in everything but poles; the notes say so if other copies are sound.
        modes, rank, discretization, delay: as in `StateSpace`; None for an explicit kernel.
        length, first_lag: samples of an explicit kernel, and the lag of the first of them; None for a state space.
        poles: (K, N) upper half, in the s-plane if continuous_poles is true, otherwise in the z-plane; NaN where a copy has no pole.
            Empty for an explicit kernel.
        values: (K,) values of every statistic, NaN if a copy has none, in the unit of `STATISTICS`; empty if there is a problem.
        gaps: for statistics that only some sound copies have, a line that says how many lack it and why; of statistics on demand, of those
            that were asked for. It is also among the notes, unless statistics are computed on demand.
        details: what only figures need, where it was asked for.
    """

    name: str
    family: str
    copies: int
    inputs: int
    outputs: int
    operating_point: str | None
    assumptions: tuple[str, ...]
    notes: tuple[str, ...]
    problem: str | None
    statistics: Mapping[str, Summary]
    curve: Curve | None
    modes: int | None = None
    rank: int | None = None
    discretization: str | None = None
    delay: int | None = None
    step_range: tuple[float, float] | None = None
    beta_range: tuple[float, float] | None = None
    beta_convention: str | None = None
    poles: ComplexArray = field(default_factory=lambda: np.empty((0, 0), complex))
    continuous_poles: bool = False
    length: int | None = None
    first_lag: int | None = None
    index: int = 0
    assumed: tuple[Assumed, ...] = ()
    errors: Mapping[str, float | None] = field(default_factory=dict)
    half_lives: FloatArray | None = None
    over_tokens: TokenBand | None = None
    memory: Mapping[int, float] | None = None
    values: Mapping[str, FloatArray] = field(default_factory=dict)
    gaps: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    details: Details | None = None

    @property
    def shape_text(self) -> str:
        """Copies and modes, or copies and samples, in words."""
        inner = self.modes if self.length is None else f"{self.length} samples"
        return f"{self.copies} x {inner}"

    @property
    def energy_error(self) -> float | None:
        """The error of the energies, if it is known."""
        return self.errors.get("energies")

    @property
    def undamped(self) -> bool:
        """Whether the problem is not a defect: the poles are on the unit circle by design."""
        return self.problem is not None and all(fault.kind == UNDAMPED for fault in self.faults)

    @property
    def sound(self) -> int:
        """Copies whose numbers can be trusted."""
        return 0 if self.problem else self.copies - sum(len(fault.copies) for fault in self.faults)


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in the file that was not analyzed.

    Args:
        kind: a near miss of a family, a copy of a layer under another name, one that cannot be read, or a mixer that is recognized only.
        family: that it belongs to or comes near.
    """

    name: str
    reason: str
    kind: Literal["near miss", "shared", "unread", "named"] = "unread"
    family: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointAnalysis:
    """One checkpoint: its path, its layers in model order, what was skipped, notes, and the statistics computed.

    `context_length`: that of the model [tokens], where a configuration states it. `transfer`: what was read of a remote one.
    `calibration`: what a calibration file says about itself, if one was given.
    """

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
    statistics: tuple[str, ...]
    context_length: int | None = None
    calibration: Mapping[str, Any] | None = None
    transfer: Transfer | None = None

    @property
    def problem(self) -> str | None:
        """Why no layer is usable, by the first of them; None where one is, or is undamped by design."""
        if any(layer.problem is None or layer.undamped for layer in self.layers):
            return None
        reasons = [f"{layer.name}: {layer.problem}" for layer in self.layers]
        reasons += [item.reason for item in self.skipped if item.kind == "unread"]
        return f"no layer is usable; {reasons[0]}" + (f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The layers of a model in training after `step` steps; otherwise like `CheckpointAnalysis`."""

    step: int
    backend: str
    grid: FrequencyGrid
    with_skip: bool
    layers: tuple[LayerAnalysis, ...]
    skipped: tuple[Skipped, ...]
