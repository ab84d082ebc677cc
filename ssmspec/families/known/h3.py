"""H3: its diagonal state space, with the names and formulas of S4 v3 (see `s4_v3`), output 2 Re.

    y = q * (diagonal state space)(v * (shift state space)(k))

The shift state space is an FIR filter of at most d taps, k[l] = sum_j C_(j+l) B_j, without poles. It is not part of the system read here.
"""

from dataclasses import replace

from ssmspec.families.known.s4_v3 import DIAGONAL, IS_REAL, REAL, RULE, read_diagonal, write_diagonal
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.statespace import StateSpace


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Convert the tensors of one layer to its diagonal state space."""
    taps = layer.sizes["taps"]
    note = (
        f"the shift state space ssm_k_kernel, an FIR filter of {taps} taps, and the products with q, k and v are not part of this response"
    )
    return [replace(system, assumptions=(*system.assumptions, note)) for system in read_diagonal(layer, options)]


H3 = Family(
    name="h3",
    title="H3, diagonal state space",
    source="HazyResearch/H3, src/models/ssm/h3.py, ss_kernel_diag.py and ss_kernel_shift.py; arXiv 2212.14052",
    templates=(
        {
            **DIAGONAL,
            "shift_B": Slot("ssm_k_kernel.kernel.B", "model taps"),
            "shift_C": Slot("ssm_k_kernel.kernel.C", "1 model taps"),
            "D": Slot("D", "H", optional=True),
        },
    ),
    read=read,
    write=write_diagonal,
    unreduced="its code takes one d_state for the modes and for the taps of the shift filter ssm_k_kernel, so that fewer modes would "
    "cut taps, which no error here includes; train it with a smaller d_state instead",
    assumptions=(RULE, REAL, IS_REAL),
)
