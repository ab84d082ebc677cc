"""The long filter of StripedHyena 2 (Evo 2, "hcl"): real poles and residues, in the names of inference and in those of training.

    h[l] = sum_n R_n exp(l log z_n),   y = h * u + D u
    inference (vortex):           log z = log_poles
    training (savanna, BioNeMo):  log z = -exp(p) exp(gamma); the skip D is conv_bias, beside the filter

Changed poles are written to p, and gamma stays.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.families.known.evo1 import LEFT_OUT
from ssmspec.families.modal import GROUPS, gathered, real_modes, single_modes, spread
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.statespace import FloatArray, StateSpace


def _log_z(layer: LayerTensors) -> FloatArray:
    """(S, N)."""
    if "log_poles" in layer:
        return layer.array("log_poles")[:, :, 0]
    with np.errstate(over="ignore"):
        return np.asarray(-np.exp(layer.array("p") + layer.array("gamma")))


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per channel."""
    log_z, residues = (spread(rows, layer, options).astype(complex) for rows in (_log_z(layer), layer.array("residues")))
    return [single_modes(layer, poles=log_z, residues=residues, skip=layer.array("D"), assumptions=(LEFT_OUT,))]


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`.

    Raises:
        LayerError: poles or residues that are not real.
    """
    (system,) = systems
    log_z, residues = real_modes(system, "the long filter of Evo 2 holds real poles between 0 and 1 and real residues")
    stored: dict[str, npt.NDArray[Any]] = {"residues": gathered(residues, layer, options), "D": system.D[:, 0, 0]}
    log_z = gathered(log_z, layer, options)
    if "log_poles" in layer:
        return stored | {"log_poles": log_z[:, :, None]}
    p, gamma = layer.array("p"), layer.array("gamma")
    return stored | {"p": np.where(log_z == _log_z(layer), p, np.log(-log_z) - gamma), "gamma": gamma}


EVO2_HCL = Family(
    name="evo-2-hcl",
    title="StripedHyena 2 (Evo 2), modal long filter hcl",
    source="Zymrael/vortex, vortex/model/model.py, HyenaCascade; Zymrael/savanna, savanna/model/operators/hyena/parametrization/"
    "implicit_modal.py; NVIDIA/bionemo-framework, Evo 2",
    templates=(
        {"log_poles": Slot("log_poles", "S N 1"), "residues": Slot("residues", "S N"), "D": Slot("D", "H")},
        {
            "p": Slot("filter.p", "S N"),
            "gamma": Slot("filter.gamma", "S N"),
            "residues": Slot("filter.R", "S N"),
            "D": Slot("conv_bias", "H"),
        },
    ),
    read=read,
    write=write,
    assumptions=(GROUPS,),
)
