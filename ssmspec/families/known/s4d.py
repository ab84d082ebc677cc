"""Minimal S4D: a = -exp(log_A_real) + i A_imag, B = 1, zero-order hold, output 2 Re. Also the FreqBias stand-alone models.

Both use the same kernel module; the stand-alone waves and denoising models are recognized by their single skip weight D(1). Their beta is a
constant in the training script and is not in the file.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.families.parameterization import chosen_rule, discretization, fold
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Resizing, Slot, Template, as_complex
from ssmspec.systems.statespace import StateSpace

RULE = discretization("zoh", "bilinear", source="state-spaces/s4, models/s4/s4d.py, S4DKernel.forward: zoh alone", quiet=True)


def _template(kernel: str, skip: str) -> Template:
    return {
        "log_A_real": Slot(kernel + "log_A_real", "H N"),
        "A_imag": Slot(kernel + "A_imag", "H N"),
        "log_dt": Slot(kernel + "log_dt", "H"),
        "C": Slot(kernel + "C", "H N ~"),
        "D": Slot("D", skip, optional=skip == "H"),
    }


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Convert the tensors of one layer to its state space, with the formulas of the module docstring."""
    imag = layer.array("A_imag")
    K, N = imag.shape
    with np.errstate(over="ignore"):
        poles = as_complex(-np.exp(layer.array("log_A_real")), imag)
        step = np.exp(layer.array("log_dt"))[:, None]
    poles, B, C = fold(imag < 0, poles, np.ones((K, N, 1), complex), layer.complex_array("C")[:, None, :])
    D = np.broadcast_to(layer.array("D"), (K,)) if "D" in layer else np.zeros(K)
    standalone = layer.family == "freqbias-standalone"
    return [
        StateSpace(
            name=layer.name,
            family=layer.family,
            poles=poles,
            B=B,
            C=C,
            D=D[:, None, None],
            step=step,
            discretization=chosen_rule(RULE, layer, options),
            assumptions=("beta is not stored in such files: the response is shown without it",) if standalone else (),
        )
    ]


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`."""
    (system,) = systems
    poles, B, C = fold(layer.array("A_imag") < 0, system.poles, system.B, system.C)
    stored = {
        "log_A_real": np.log(-poles.real),
        "A_imag": poles.imag,
        "log_dt": np.log(system.step[:, 0]),
        "C": layer.as_stored("C", C[:, 0, :] * B[:, :, 0]),
    }
    if "D" in layer:
        stored["D"] = system.D[: layer.tensors["D"].shape[0], 0, 0]
    return stored


S4D = Family(
    name="s4d",
    title="S4D, minimal",
    source="state-spaces/s4, models/s4/s4d.py; arXiv 2206.11893",
    templates=(_template("kernel.", "H"), _template("", "H")),
    read=read,
    write=write,
    resizing=Resizing(),
    assumptions=(RULE,),
    not_under=("kernel",),
)

FREQBIAS_STANDALONE = Family(
    name="freqbias-standalone",
    title="FreqBias stand-alone S4D (waves, denoising)",
    source="AnnanYu/FreqBiasSSM, models/s4/s4d.py and denoising.py; arXiv 2410.02035",
    templates=(_template("kernel.", "1"),),
    read=read,
    write=write,
    resizing=Resizing(),
    assumptions=(RULE,),
)
