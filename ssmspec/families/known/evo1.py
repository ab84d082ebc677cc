"""StripedHyena 1 (Evo 1): poles z and residues of a modal long filter, as pairs (real, imaginary) under these very names.

    h[l] = Re sum_n residues_n poles_n^l,   l >= 0;   y = h * u + D u

The modes are single: no conjugates. Nothing keeps |z| below 1. A filter with a pole outside the unit circle has no response, but its kernel
of a finite length, which is all that the model ever uses, has one (`--horizon`).
"""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from ssmspec.families.modal import GROUPS, gathered, single_modes, spread, stored_modes
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.statespace import StateSpace

LEFT_OUT = "the long filter alone; the short filter before it and the gates x1 and x2 are not included"


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per channel."""
    poles, residues = (spread(layer.complex_array(role)[:, :, 0], layer, options) for role in ("poles", "residues"))
    return [
        single_modes(
            layer,
            poles=poles,
            residues=residues,
            skip=layer.array("D"),
            discretization="direct",
            assumptions=(LEFT_OUT,),
            if_growing="--horizon L gives the response of its first L samples, which is all that a model uses",
        )
    ]


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`."""
    (system,) = systems
    lower = spread(layer.complex_array("poles")[:, :, 0], layer, options).imag < 0
    poles, residues = (gathered(part, layer, options)[:, :, None] for part in stored_modes(system, lower))
    return {"poles": layer.as_stored("poles", poles), "residues": layer.as_stored("residues", residues), "D": system.D[:, 0, 0]}


EVO1 = Family(
    name="evo-1",
    title="StripedHyena 1 (Evo 1), modal long filter",
    source="togethercomputer/stripedhyena, stripedhyena/model.py (ParallelHyenaFilter.compute_filter), engine.py",
    templates=({"poles": Slot("poles", "S N 1 ~"), "residues": Slot("residues", "S N 1 ~"), "D": Slot("D", "H")},),
    read=read,
    write=write,
    assumptions=(GROUPS,),
)
