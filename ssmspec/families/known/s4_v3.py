"""S4 v3: normal plus low rank, and diagonal (S4D); also the diagonal kernel of v2.1.

    a = -exp(inv_w_real) + i w_imag    (v3, nplr: the Hurwitz form of v2 under another name, Q = conj P, C~ for the buffer L)
    a = -exp(inv_A_real) + i A_imag    (v3, diag: residue C B)        a = -exp(log_w_real) + i w_imag    (v2.1, diag: B = 1)

Output 2 Re. In v3 the option real_type can replace exp with relu, sigmoid or softplus, and force_real replaces A_imag with 0; the option
disc sets the discretization of both diagonal kernels. The file states none of them. S tied copies of A and B serve H channels in the order
'(v s)'. If C has twice as many channels as D, there are two directions. Some copies of this code also register a tensor `A` beside
inv_A_real, but do not use it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.assumption import TRUTH, Assumption
from ssmspec.families.known.s4_block import directions
from ssmspec.families.known.s4_nplr import REAL as REAL_OF_NPLR
from ssmspec.families.known.s4_nplr import read as read_v2
from ssmspec.families.known.s4_nplr import write as write_v2
from ssmspec.families.parameterization import POSITIVE, Transform, chosen_rule, discretization, fold, positive, tile, untile
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Resizing, Slot, Template, as_complex
from ssmspec.systems.statespace import FloatArray, StateSpace

RULE = discretization("bilinear", "zoh", source="state-spaces/s4 v3 (commit b766e87), src/models/sequence/ss/kernel.py, SSKernelDiag.disc")


REAL = positive(
    "s4_real_transform",
    "what -Re a is of the stored inv_A_real",
    source="state-spaces/s4 v3 (commit b766e87), src/models/sequence/ss/kernel.py, SSKernelDiag.real_type",
)
IS_REAL = Assumption(
    name="s4_is_real",
    about="whether the poles are real, and the stored A_imag is not used",
    values=TRUTH,
    source="state-spaces/s4 v3 (commit b766e87), src/models/sequence/ss/kernel.py, SSKernelDiag.force_real",
)


def _transform(layer: LayerTensors, options: ReadOptions) -> Transform:
    """From the stored number to -Re a, and back; v2.1 has exp alone."""
    return POSITIVE[REAL.value(layer, options) if _is_v3(layer) else "exp"]


def _is_v3(layer: LayerTensors) -> bool:
    return layer.tensor_names["A_real"].endswith("inv_A_real")


def _is_real(layer: LayerTensors, options: ReadOptions) -> bool:
    return _is_v3(layer) and IS_REAL.value(layer, options) == "true"


def _imag(layer: LayerTensors, options: ReadOptions) -> FloatArray:
    """Im a, (S, N)."""
    stored = layer.array("A_imag")
    return np.zeros_like(stored) if _is_real(layer, options) else stored


def read_diagonal(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Convert the tensors of one layer to its state spaces, with the formulas of the module docstring."""
    H, N = layer.sizes["H"], layer.sizes["N"]
    with np.errstate(over="ignore"):
        a = tile(as_complex(-_transform(layer, options)[0](layer.array("A_real")), _imag(layer, options)), H, layer.name)
        step = np.exp(layer.array("log_dt"))[:, None]
    shared_B = tile(layer.complex_array("B"), H, layer.name) if "B" in layer else np.ones((H, N), complex)
    systems = []
    for label, channels in directions(layer):
        outputs = layer.complex_array("C")[channels]
        repeat = (len(outputs), 1)
        lower = np.tile(a.imag < 0, repeat)
        poles, B, C = fold(lower, np.tile(a, repeat), np.tile(shared_B, repeat)[:, :, None], outputs.reshape(-1, 1, N))
        D = layer.array("D").reshape(-1) if "D" in layer and label != ":backward" else np.zeros(len(poles))
        systems.append(
            StateSpace(
                name=layer.name + label,
                family=layer.family,
                poles=poles,
                B=B,
                C=C,
                D=D[:, None, None],
                step=np.tile(step, repeat),
                discretization=chosen_rule(RULE, layer, options),
            )
        )
    return systems


def write_diagonal(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read_diagonal`."""
    first = systems[0]
    H, S, N = layer.sizes["H"], layer.sizes["S"], layer.sizes["N"]
    lower = tile(_imag(layer, options), H, layer.name) < 0
    poles, B, _ = fold(lower, first.poles[:H], first.B[:H], first.C[:H])
    C = np.concatenate([fold(np.tile(lower, (s.copies // H, 1)), s.poles, s.B, s.C)[2].reshape(-1, H, N) for s in systems])
    poles = untile(poles, S, layer.name)
    stored: dict[str, npt.NDArray[Any]] = {
        "log_dt": np.log(first.step[:H, 0]),
        "A_real": _transform(layer, options)[1](-poles.real),
        "C": layer.as_stored("C", C if "B" in layer else C * B[None, :, :, 0]),
    }
    if not _is_real(layer, options):
        stored["A_imag"] = poles.imag
    elif np.count_nonzero(poles.imag):
        raise LayerError(f"layer {layer.name}: its poles are real (s4_is_real=true), and the new ones are not")
    if "B" in layer:
        stored["B"] = layer.as_stored("B", untile(B[:, :, 0], S, layer.name))
    if "D" in layer:
        stored["D"] = first.D[:, 0, 0].reshape(layer.tensors["D"].shape)
    return stored


# Tensors of the diagonal kernel of v3, which H3 has as well.
DIAGONAL: Template = {
    "log_dt": Slot("kernel.kernel.log_dt", "H"),
    "A_real": Slot("kernel.kernel.inv_A_real", "S N"),
    "A_imag": Slot("kernel.kernel.A_imag", "S N"),
    "B": Slot("kernel.kernel.B", "S N ~"),
    "C": Slot("kernel.kernel.C", "ch H N ~"),
}

S4_NPLR_V3 = Family(
    name="s4-nplr-v3",
    title="S4 v3, normal plus low rank",
    source="state-spaces/s4 v3 (commit b766e87, src/models/sequence/ss/kernel.py, SSKernelNPLR), as in raminmh/liquid-s4; arXiv 2111.00396",
    templates=(
        {
            "log_dt": Slot("kernel.kernel.log_dt", "H"),
            "log_w_real": Slot("kernel.kernel.inv_w_real", "S N"),
            "w_imag": Slot("kernel.kernel.w_imag", "S N"),
            "B": Slot("kernel.kernel.B", "1 S N ~"),
            "P": Slot("kernel.kernel.P", "R S N ~"),
            "C": Slot("kernel.kernel.C", "ch H N ~"),
            "D": Slot("D", "skip H", optional=True),
            "L": Slot("kernel.kernel.L", "|1", optional=True),
        },
    ),
    read=read_v2,
    write=write_v2,
    resizing=Resizing(sets="S"),
    assumptions=(REAL_OF_NPLR,),
)

S4_DIAGONAL_V3 = Family(
    name="s4-diag-v3",
    title="S4 v3, diagonal (S4D)",
    source="state-spaces/s4 v3 (commit b766e87, src/models/sequence/ss/kernel.py, SSKernelDiag); arXiv 2206.11893",
    templates=({**DIAGONAL, "D": Slot("D", "skip H", optional=True)},),
    read=read_diagonal,
    write=write_diagonal,
    resizing=Resizing(sets="S", real=_is_real),
    assumptions=(RULE, REAL, IS_REAL),
    absent=("ssm_k_kernel.kernel.B", "ssm_k_kernel.kernel.C"),
)

S4_DIAGONAL_V2 = Family(
    name="s4-diag-v2",
    title="S4 v2.1, diagonal (S4D)",
    source="state-spaces/s4 v2.1 (commit 643a518, src/models/sequence/ss/kernel.py, SSKernelDiag); arXiv 2206.11893",
    templates=(
        {
            "log_dt": Slot("kernel.kernel.log_dt", "H"),
            "A_real": Slot("kernel.kernel.log_w_real", "S N"),
            "A_imag": Slot("kernel.kernel.w_imag", "S N"),
            "C": Slot("kernel.kernel.C", "ch H N ~"),
            "D": Slot("D", "skip H", optional=True),
        },
    ),
    read=read_diagonal,
    write=write_diagonal,
    resizing=Resizing(sets="S", real=_is_real),
    assumptions=(RULE,),
    absent=("kernel.kernel.B", "kernel.kernel.P"),
)
