"""From a checkpoint file to the state matrices of one layer, for tools that know nothing of checkpoints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssmspec.errors import LayerError, about
from ssmspec.families import ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.systems.trust import assess


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
        SsmspecError: as `load_system`; there is no such copy, or the matrices of all copies are too large.
    """
    system = load_system(path, layer, options, family)
    if copy is not None:
        if not 0 <= copy < system.copies:
            raise LayerError(f"{path}: layer {system.name} has no copy {copy}; choose one of 0..{system.copies - 1}")
        system = system.pick(slice(copy, copy + 1))
    with about(path):
        arrays, words, notes = system.export()
    if system.copies == 1:
        arrays = {name: values[0] for name, values in arrays.items()}
    faults = (fault.text for fault in assess(system).faults)
    whole: dict[str, Any] = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    return Export(whole | {"name": system.name, "family": system.family} | words, system.assumptions, (*faults, *notes))
