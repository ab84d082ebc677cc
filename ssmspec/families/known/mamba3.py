"""Mamba-3: no A is stored. A, Delta, the mix of the trapezoidal rule and a rotation of the states all depend on the input.

    h_t = alpha_t h_{t-1} + (1 - lambda_t) Delta_t alpha_t B_{t-1} u_{t-1} + lambda_t Delta_t B_t u_t,   y_t = C_t h_t + D u_t
    alpha = exp(A Delta),   A = -max(f(dd_A), floor),   f(x) = 1 + x above 0 and 1/(1 - x) below,   lambda = sigmoid(trap)

Here the layer is frozen where the input-dependent parts are zero: A = -1, Delta = softplus(dt_bias), lambda = 1/2, no rotation, B = B_bias
and C = C_bias. This is the mean response to input whose normalized B and C have zero mean. The kernel is C B Delta alpha^l, except for
(1/2) C B Delta at l = 0; the missing half is accounted for in D. No tensor holds A per head or the rotation. A token rotates the states by
pi tanh(angle) Delta, at most pi Delta; the file determines only this bound.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.selective.frozen_system import Frozen, freeze, selective_system, stored_bias, values_of
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.statespace import FloatArray, StateSpace

POLE = -1.0  # -f(0)
MIX = 0.5  # sigmoid(0)


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per head with one pole; B and C at an operating point have (heads, states) values, or (states,)."""
    if options.residues == "rms":
        raise LayerError(
            f"layer {layer.name}: Mamba-3 has no rms residues, because B and C are normalized, shifted and rotated; record them instead"
        )
    heads, states = layer.sizes["h"], layer.sizes["N"]
    frozen = freeze(layer, options, copies=(heads,), states=[(heads, states), (states,), (heads * states,)])
    residues, source = _residues(layer, frozen, heads, states)
    system = selective_system(
        layer, options, frozen, poles=np.full((heads, 1), POLE), C=residues[:, None, None], notes=_notes(frozen, source)
    )
    missing = (1 - MIX) * frozen.delta * residues
    return [replace(system, D=system.D - missing[:, None, None])]


def _residues(layer: LayerTensors, frozen: Frozen, heads: int, states: int) -> tuple[FloatArray, str]:
    """C B of every head, and a description of where it comes from."""
    if frozen.B is not None or frozen.C is not None:
        B, C = (values_of(values, (heads, states), letter, layer) for letter, values in (("B", frozen.B), ("C", frozen.C)))
        return (B * C).sum(axis=1), "B and C as given"
    if layer.sizes["R"] > 1:
        return np.ones(heads), f"unit residues: {layer.sizes['R']} ranks of B and C meet the channels through mimo_x and mimo_o"
    B, C = (layer.array(role).reshape(heads, states) for role in ("B_bias", "C_bias"))
    return (B * C).sum(axis=1), "residues C_bias B_bias, the mean over inputs whose normalized parts have zero mean"


def _notes(frozen: Frozen, source: str) -> tuple[str, ...]:
    turn = np.pi * frozen.delta.max()
    return (
        f"Mamba-3: {source}; A = -1, trapezoidal mix 1/2 (the missing half of the first sample is accounted for in D)",
        "Mamba-3: the decay A of a head and the rotation of its states depend on the input and are not stored; "
        f"a token rotates the states by at most {turn:.2g} rad",
    )


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The bias of Delta and D.

    Raises:
        LayerError: the poles were changed, which no tensor can store.
    """
    (system,) = systems
    if not np.array_equal(system.poles, np.full_like(system.poles, POLE)):
        raise LayerError(f"layer {layer.name}: the poles of Mamba-3 depend on the input; no tensor can store new ones")
    residues = 2 * (system.C[:, 0, 0] * system.B[:, 0, 0]).real
    free = system.D[:, 0, 0] + (1 - MIX) * system.step[:, 0] * residues
    old = layer.array("D")
    kept = old - (1 - MIX) * system.step[:, 0] * residues == system.D[:, 0, 0]
    stored: dict[str, npt.NDArray[Any]] = {"D": np.where(kept, old, free)}
    bias = stored_bias(layer, system, options)
    if bias is not None:
        stored["dt_bias"] = bias
    return stored


MAMBA3 = Family(
    name="mamba-3",
    title="Mamba-3",
    source="state-spaces/mamba, mamba_ssm/modules/mamba3.py, tests/ops/triton/test_mamba3_siso.py",
    templates=(
        {
            "dt_bias": Slot("dt_bias", "h"),
            "B_bias": Slot("B_bias", "h R N"),
            "C_bias": Slot("C_bias", "h R N"),
            "B_norm": Slot("B_norm.weight", "N"),
            "C_norm": Slot("C_norm.weight", "N"),
            "in_proj": Slot("in_proj.weight", "rows m"),
            "D": Slot("D", "h"),
        },
    ),
    read=read,
    write=write,
    absent=("A_log",),
    selective=True,
    initial_steps=(1e-3, 1e-1),
)
