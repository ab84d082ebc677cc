"""From a checkpoint file to the state matrices of one layer, for tools that know nothing of checkpoints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.families import ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.systems.kernel import NO_POLES, KernelSystem
from ssmspec.systems.realization import continuous_realization, discrete_realization
from ssmspec.systems.trust import assess

MOST_BYTES = 4 * 2**30  # of all matrices


@dataclass(frozen=True, slots=True)
class Export:
    """The matrices of one layer by name, what was assumed for them, and what they do not say.

    An explicit kernel has no matrices: its arrays are kernel (O, I, L), or (K, O, I, L) for several copies, D, first_lag, name and family.

    Args:
        arrays: A, B, C, D of the sampled system; A_continuous, ... of the continuous one unless the layer stores discrete poles; step,
            name, family, discretization. With several copies, the matrices have the copies as their first axis.
    """

    arrays: dict[str, Any]
    assumptions: tuple[str, ...]
    notes: tuple[str, ...]


def export(path: Path | str, layer: str, options: ReadOptions, family: str | None = None, *, copy: int | None = None) -> Export:
    """State matrices of one layer.

    Args:
        layer: exact name, glob, or index. copy: its number; None takes all.
    Raises:
        SsmspecError: as `load_system`; there is no such copy, or the matrices of all copies take more than MOST_BYTES.
    """
    system = load_system(path, layer, options, family)
    if copy is not None:
        if not 0 <= copy < system.copies:
            raise LayerError(f"{path}: layer {system.name} has no copy {copy}; choose one of 0..{system.copies - 1}")
        system = system.pick(slice(copy, copy + 1))
    if isinstance(system, KernelSystem):
        return _kernel(system)
    size = 2 * 8 * system.copies * (2 * system.modes) ** 2
    if size > MOST_BYTES:
        raise LayerError(f"{path}: the matrices of {system.copies} copies take {size / 1e9:.1f} GB; choose one with --copy")
    arrays = dict(zip("ABCD", discrete_realization(system), strict=True))
    continuous = continuous_realization(system)
    if continuous is not None:
        arrays |= dict(zip(("A_continuous", "B_continuous", "C_continuous", "D_continuous"), continuous, strict=True))
        arrays["step"] = system.step
    if system.copies == 1:
        arrays = {name: values[0] for name, values in arrays.items()}
    words: dict[str, Any] = {"name": system.name, "family": system.family, "discretization": system.discretization}
    notes = [fault.text for fault in assess(system).faults]
    notes += ["the matrices exclude the beta weight, which is not rational"] if system.sobolev is not None else []
    notes += ["the layer stores discrete poles, so there are no continuous matrices"] if continuous is None else []
    return Export({name: np.ascontiguousarray(values) for name, values in arrays.items()} | words, system.assumptions, tuple(notes))


def _kernel(system: KernelSystem) -> Export:
    kernel = system.impulse(system.length + max(0, system.first_lag))
    arrays = {"kernel": kernel, "D": system.D}
    if system.copies == 1:
        arrays = {name: values[0] for name, values in arrays.items()}
    words: dict[str, Any] = {"first_lag": min(0, system.first_lag), "name": system.name, "family": system.family}
    notes = (*(fault.text for fault in assess(system).faults), f"{NO_POLES}, so the file has its samples instead of state matrices")
    return Export({name: np.ascontiguousarray(values) for name, values in arrays.items()} | words, system.assumptions, notes)
