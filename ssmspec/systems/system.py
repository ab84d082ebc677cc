"""What every layer answers, whether it is a `StateSpace` or a `KernelSystem`: its response and its kernel.

Both have name, family, copies, inputs, outputs, D, operating_point, assumptions, assumed, and the methods pick and copy_slice.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ssmspec.backends import CauchySum
from ssmspec.errors import LayerError
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.kernel import HeldKernel, KernelSystem
from ssmspec.systems.response import FrequencyResponse, frequency_response, impulse_response
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import FloatArray, StateSpace

System = StateSpace | KernelSystem
AnySystem = TypeVar("AnySystem", bound=System)


def response(system: System, grid: FrequencyGrid, cauchy_sum: CauchySum, *, with_beta: bool = True) -> FrequencyResponse:
    """The response of every copy on a grid; see `frequency_response` and `KernelSystem.response` for arguments and errors."""
    if isinstance(system, KernelSystem):
        return system.response(grid)
    return frequency_response(system, grid, cauchy_sum, with_beta=with_beta)


def impulse(system: System, length: int) -> FloatArray:
    """The kernel of every copy, (K, O, I, length), without D and beta; see `impulse_response` and `KernelSystem.impulse`."""
    return system.impulse(length) if isinstance(system, KernelSystem) else impulse_response(system, length)


def state_spaces(systems: Iterable[System]) -> tuple[StateSpace, ...]:
    """The same systems, all of which have poles.

    Raises:
        LayerError: one of them is an explicit kernel.
    """
    found = []
    for system in systems:
        if isinstance(system, KernelSystem):
            raise LayerError(f"layer {system.name} ({system.family}) cannot be used here: {system.no_poles}; choose another layer")
        found.append(system)
    return tuple(found)


def steps_of(system: System) -> FloatArray:
    """Delta of a layer, (K, 1|N); ones for an explicit kernel, which exists in discrete time only."""
    return np.ones((system.copies, 1)) if isinstance(system, KernelSystem) else system.step


def pairs_of_response(system: System, frequencies: int) -> float:
    """Number of pole-node pairs of one response, by which an engine is chosen; none for an explicit kernel."""
    if isinstance(system, KernelSystem):
        return 0.0
    return float(system.copies) * system.modes * system.inputs * system.outputs * frequencies


def first_lag(system: System) -> tuple[int, tuple[str, ...]]:
    """The lag of the first sample that `impulse` gives, and a note where it is below 0."""
    if not isinstance(system, KernelSystem) or not system.two_sided:
        return 0, ()
    return system.first_lag, (f"the kernel looks ahead: its first sample has lag {system.first_lag}",)


def decay_gate(system: System) -> bool:
    """Whether a layer consists of decays per token at an operating point, see `StateSpace.decay_gate`."""
    return isinstance(system, StateSpace) and system.decay_gate


def weight_of(system: System) -> Sobolev | None:
    """The beta weight of a layer, or None."""
    return None if isinstance(system, KernelSystem) else system.sobolev


def detached(system: System, copy: int) -> System:
    """One copy as a separate system that holds its own numbers: a view would keep the whole layer in memory."""
    part = system.copy_slice(copy, copy + 1)
    if isinstance(part, KernelSystem):
        values = np.concatenate([samples for _, samples in part.blocks()])
        return replace(part, source=HeldKernel(values.copy()), chosen=None, D=part.D.copy())
    return replace(part, **{name: getattr(part, name).copy() for name in ("poles", "B", "C", "D", "step")})


def shape_text(system: System) -> str:
    """Copies and modes, or copies and samples, for titles and tables."""
    inner = f"{system.length} samples" if isinstance(system, KernelSystem) else str(system.modes)
    return f"{system.copies} x {inner}"
