"""GSS, gated state spaces: the DSS of its gated block, with one Lambda (N) for all channels and a step of 1.

    k[l] = Re sum_n C_n (exp(Lambda_n) - 1)/Lambda_n exp(l Lambda_n),   Lambda = -exp(Lambda_real) + i exp(Lambda_imag)

or + i Lambda_imag, which no tensor tells. With ZOH at step 1, the canonical C is C/2.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.assumption import Assumption
from ssmspec.families.modal import single_modes, stored_modes
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot, as_complex
from ssmspec.systems.statespace import ComplexArray, StateSpace

SOURCE = "lucidrains/gated-state-spaces-pytorch, gated_state_spaces_pytorch/gss.py"
IMAG = Assumption(
    name="gss_imag",
    about="whether the imaginary part of Lambda is exp(Lambda_imag), or Lambda_imag itself",
    values=("exp", "none"),
    source=f"{SOURCE}, DSS, dss_kernel_lambda_imag_exp (default True)",
)


def _lambda(layer: LayerTensors, options: ReadOptions) -> ComplexArray:
    """Lambda, (N,)."""
    imag = layer.array("imag")
    with np.errstate(over="ignore"):
        return as_complex(-np.exp(layer.array("real")), np.exp(imag) if IMAG.value(layer, options) == "exp" else imag)


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per channel; all have the same poles."""
    poles = np.tile(_lambda(layer, options), (layer.sizes["H"], 1))
    residues = as_complex(layer.array("C_real"), layer.array("C_imag"))
    return [single_modes(layer, poles=poles, residues=residues, skip=layer.array("D"), discretization="zoh")]


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`.

    Raises:
        LayerError: channels with different poles.
    """
    (system,) = systems
    before = _lambda(layer, options)
    poles, residues = stored_modes(system, np.tile(before.imag < 0, (system.copies, 1)))
    if not np.array_equal(np.broadcast_to(poles[0], poles.shape), poles, equal_nan=True):
        raise LayerError(f"layer {layer.name}: all channels share one Lambda, but were changed differently; change them together")
    imag = np.log(poles[0].imag) if IMAG.value(layer, options) == "exp" else poles[0].imag
    return {
        "real": np.where(poles[0].real == before.real, layer.array("real"), np.log(-poles[0].real)),
        "imag": np.where(poles[0].imag == before.imag, layer.array("imag"), imag),
        "C_real": residues.real,
        "C_imag": residues.imag,
        "D": system.D[:, 0, 0],
    }


GSS = Family(
    name="gss",
    title="GSS, gated state spaces",
    source=f"{SOURCE}; arXiv 2206.13947",
    templates=(
        {
            "real": Slot("Lambda_real", "N"),
            "imag": Slot("Lambda_imag", "N"),
            "C_real": Slot("C_real", "H N"),
            "C_imag": Slot("C_imag", "H N"),
            "D": Slot("param_D", "H"),
        },
    ),
    read=read,
    write=write,
    assumptions=(IMAG,),
    one_set=True,
)
