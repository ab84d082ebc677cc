"""Mamba-1 and Mamba-2: selective layers, linear only where Delta, B and C are held fixed.

    state:  h_t = exp(a Delta_t) h_{t-1} + Delta_t B_t u_t,   y_t = C_t h_t + D u_t,   a = -exp(A_log)      (exact on A, Euler on B)

Default operating point: Delta = softplus(dt bias), the value where the input-dependent part of Delta is zero, and unit residues
(B = C = 1). That is the response of the state; the short convolution and the gate are not part of it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.parameterization import choose_discretization, inverse_softplus, softplus
from ssmspec.families.template import Family, LayerTensors, OperatingPoint, ReadOptions, Slot
from ssmspec.statespace import FloatArray, StateSpace


def read_mamba1(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per channel, N real poles each; B and C (N,) are shared by the channels."""
    point = options.operating_point or OperatingPoint()
    with np.errstate(over="ignore"):
        poles = -np.exp(layer.array("A_log"))
    channels, states = poles.shape
    B = _values(point.B, (states,), "B", layer)
    C = _values(point.C, (states,), "C", layer)
    return [_frozen(layer, options, poles, np.broadcast_to(B * C, poles.shape), _delta(layer, point, channels))]


def read_mamba2(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per head with the one pole that all of its states share; their products C_n B_n add up to one residue.

    B and C at an operating point have (groups x states) values, or (states,) for all groups; head h belongs to group h groups/heads.
    """
    point = options.operating_point or OperatingPoint()
    with np.errstate(over="ignore"):
        poles = -np.exp(layer.array("A_log"))[:, None]
    heads = len(poles)
    residue = np.ones((heads, 1))
    if point.B is not None or point.C is not None:
        residue = _group_residues(layer, point, heads)[:, None]
    return [_frozen(layer, options, poles, residue, _delta(layer, point, heads))]


def _group_residues(layer: LayerTensors, point: OperatingPoint, heads: int) -> FloatArray:
    B, C = (np.ones(1) if v is None else np.atleast_1d(v) for v in (point.B, point.C))
    if B.ndim > 1 or C.ndim > 1:
        groups = max(len(np.atleast_2d(B)), len(np.atleast_2d(C)))
        products = (np.atleast_2d(B) * np.atleast_2d(C)).sum(axis=1)
        if heads % groups:
            raise LayerError(f"layer {layer.name}: {groups} groups of B and C do not divide {heads} heads")
        return np.repeat(np.broadcast_to(products, (groups,)), heads // groups)
    if B.size > 1 and C.size > 1 and B.size != C.size:
        raise LayerError(f"layer {layer.name}: B has {B.size} values and C {C.size}; expected the same number, or (groups, states) each")
    return np.full(heads, float((B * C).sum()))


def _values(given: FloatArray | None, shape: tuple[int, ...], letter: str, layer: LayerTensors) -> FloatArray:
    if given is None:
        return np.ones(shape)
    try:
        return np.broadcast_to(given, shape)
    except ValueError:
        raise LayerError(f"layer {layer.name}: operating point {letter} has shape {given.shape}, expected a number or {shape}") from None


def _delta(layer: LayerTensors, point: OperatingPoint, copies: int) -> FloatArray:
    if point.delta is None:
        return softplus(layer.array("dt_bias"))
    return _values(point.delta, (copies,), "delta", layer)


def _frozen(layer: LayerTensors, options: ReadOptions, poles: FloatArray, residues: FloatArray, delta: FloatArray) -> StateSpace:
    discretization = choose_discretization(layer, options, ("euler",))
    point = options.operating_point or OperatingPoint()
    given = [name for name in ("delta", "B", "C") if getattr(point, name) is not None]
    words = "delta as given" if "delta" in given else "bias point, delta = softplus(dt bias)"
    words += ", B and C as given" if {"B", "C"} & set(given) else ", unit residues (B = C = 1)"
    dtype = layer.tensors["A_log"].dtype
    assumptions = [f"operating point: {words}; response of the state alone, without conv1d and gate"]
    if dtype in ("bfloat16", "float16"):
        assumptions.append(f"A_log is stored in {dtype}: each pole is known to {'0.8' if dtype == 'bfloat16' else '0.1'} % at best")
    skip = layer.array("D") if "D" in layer else np.zeros(len(poles))
    return StateSpace(
        name=layer.name,
        family=layer.family,
        poles=poles.astype(complex),
        B=np.ones((*poles.shape, 1), complex),
        C=(residues / 2).astype(complex)[:, None, :],
        D=skip[:, None, None],
        step=delta[:, None],
        discretization=discretization,
        operating_point=f"{words}; delta in {delta.min():.3g}..{delta.max():.3g}",
        assumptions=tuple(assumptions),
    )


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """A_log, the bias of Delta and D; B and C are functions of the input and have no stored value."""
    (system,) = systems
    A_log = np.log(-system.poles.real)
    stored = {"A_log": A_log if len(layer.tensors["A_log"].shape) == 2 else A_log[:, 0]}
    if options.operating_point is None or options.operating_point.delta is None:
        stored["dt_bias"] = inverse_softplus(system.step[:, 0])
    if "D" in layer:
        stored["D"] = system.D[:, 0, 0]
    return stored


MAMBA1 = Family(
    name="mamba-1",
    title="Mamba-1",
    source="state-spaces/mamba, mamba_ssm/modules/mamba_simple.py; transformers, models/mamba; arXiv 2312.00752",
    templates=(
        {
            "A_log": Slot("A_log", "d N"),
            "dt_bias": Slot("dt_proj.bias", "d"),
            "x_proj": Slot("x_proj.weight", "rows d"),
            "dt_proj": Slot("dt_proj.weight", "d r"),
            "D": Slot("D", "d", optional=True),
        },
    ),
    read=read_mamba1,
    write=write,
    selective=True,
)

MAMBA2 = Family(
    name="mamba-2",
    title="Mamba-2",
    source="state-spaces/mamba, mamba_ssm/modules/mamba2.py; transformers, models/mamba2; arXiv 2405.21060",
    templates=(
        {
            "A_log": Slot("A_log", "h"),
            "dt_bias": Slot("dt_bias", "h"),
            "in_proj": Slot("in_proj.weight", "rows m"),
            "conv": Slot("conv1d.weight", "ch 1 w"),
            "D": Slot("D", "h"),
        },
    ),
    read=read_mamba2,
    write=write,
    selective=True,
)
