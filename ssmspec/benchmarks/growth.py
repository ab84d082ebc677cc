"""How cost grows with N, F, K (Cauchy sum) and L (training step of S4D): seconds at a series of sizes, and the fitted exponent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ssmspec.benchmarks.cauchy import cauchy_problem, torch_threads, versus_torch
from ssmspec.benchmarks.pairs import median_seconds
from ssmspec.benchmarks.s4d_step import layers, training_step
from ssmspec.benchmarks.sizes import Sizes

Sides = Mapping[str, Callable[[], object]]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Seconds over one dimension.

    Args:
        name: "scaling_" followed by the dimension.
        measures: what is timed.
        dimension: "N", "F", "K" or "L"; `values` are its sizes.
        fixed: the other dimensions.
        seconds: median seconds per call at every value, by side.
        exponents: p of the least-squares fit seconds ~ value^p, by side.
    """

    name: str
    measures: str
    dimension: str
    values: tuple[int, ...]
    fixed: Mapping[str, int]
    seconds: Mapping[str, tuple[float, ...]]
    exponents: Mapping[str, float]


SCALINGS = {f"scaling_{dimension}": dimension for dimension in ("N", "F", "K", "L")}


def measure_scaling(name: str, sizes: Sizes, *, rounds: int) -> Scaling:
    """Time every side at every value of one dimension."""
    dimension = SCALINGS[name]
    values = sizes.sweep[dimension]
    measured = [
        _step_seconds(sizes, value, rounds) if dimension == "L" else _sum_seconds(sizes, dimension, value, rounds) for value in values
    ]
    seconds = {side: tuple(point[side] for point in measured) for side in measured[0]}
    step = sizes.sweep_step
    others = {"B": step.B, "H": step.H, "N": step.N} if dimension == "L" else {"K": sizes.K, "N": sizes.N, "F": sizes.F}
    return Scaling(
        name=name,
        measures="S4D, forward and backward" if dimension == "L" else "Cauchy sum",
        dimension=dimension,
        values=values,
        fixed={letter: size for letter, size in others.items() if letter != dimension},
        seconds=seconds,
        exponents={side: exponent(values, seconds[side]) for side in seconds},
    )


def exponent(values: Sequence[int], seconds: Sequence[float]) -> float:
    """The slope p of the least-squares line log seconds = p log value + constant."""
    return float(np.polyfit(np.log(values), np.log(seconds), 1)[0])


def _sum_seconds(sizes: Sizes, dimension: str, value: int, rounds: int) -> dict[str, float]:
    changed: dict[str, Any] = {dimension: value}
    sizes = replace(sizes, **changed)
    problems = {kind: cauchy_problem(sizes.K, sizes.N, sizes.F, kind) for kind in ("float64", "float32")}
    with versus_torch(sizes, precision="float32", small_chunks=True) as contest:
        return _medians({**{kind: problem.ours for kind, problem in problems.items()}, "torch complex64": contest.peer}, rounds)


def _step_seconds(sizes: Sizes, L: int, rounds: int) -> dict[str, float]:
    size = replace(sizes.sweep_step, L=L)
    ours, naive = layers(size)
    with torch_threads():
        return _medians({"ours": training_step(ours, size), "naive": training_step(naive, size)}, rounds)


def _medians(sides: Sides, rounds: int) -> dict[str, float]:
    return {side: median_seconds(run, rounds=rounds) for side, run in sides.items()}
