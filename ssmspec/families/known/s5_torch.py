"""S5 in PyTorch: a = Lambda over the full conjugate spectrum, output Re(C x) (so a residue is half of the product), one step per mode.

    x_t = Abar x_{t-1} + Bbar u_t,   y_t = Re(C x_t) + D u_t;   bidirectional: C is (H, 2P), its right half reads the backward scan.

Lambda and C are complex tensors; B is stored as (real, imaginary) pairs. The eigenvalues are not clipped. No tensor tells which
discretization is used, or whether the layer is a liquid one (Abar + Bbar u in place of Abar, which is not linear).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.families.known.s5 import RULE, read_directions, write_directions
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Resizing, Slot
from ssmspec.systems.statespace import StateSpace


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Convert the tensors of one layer to its state spaces, with the formulas of the module docstring."""
    with np.errstate(over="ignore"):
        step = np.exp(layer.array("log_step").reshape(-1))
    note = "assumed not to be a liquid layer, which would not be linear; no tensor determines this"
    systems = read_directions(layer, options, layer.complex_array("Lambda"), step, full=True)
    return [replace(system, assumptions=(note,)) for system in systems]


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`."""
    poles, step, stored = write_directions(layer, systems, layer.complex_array("Lambda").imag < 0, full=True)
    stored["Lambda"] = layer.as_stored("Lambda", poles)
    stored["log_step"] = np.log(step).reshape(layer.tensors["log_step"].shape)
    return stored


S5_TORCH = Family(
    name="s5-torch",
    title="S5 (PyTorch)",
    source="i404788/s5-pytorch, s5/s5_model.py, S5SSM and apply_ssm",
    templates=(
        {
            "Lambda": Slot("Lambda", "P ~"),
            "B": Slot("B", "P H ~"),
            "C": Slot("C", "H P ~|H 2P ~"),
            "log_step": Slot("log_step", "P|P 1"),
            "D": Slot("D", "H", optional=True),
        },
    ),
    read=read,
    write=write,
    resizing=Resizing(state="P"),
    assumptions=(RULE,),
)
