"""VMamba's SS2D: K scans over one image, each a Mamba-1 with A, B, C, Delta and D of its own, stacked in one tensor per role.

Every scan is a layer of its own, NAME:0 and so on, with D channels. The published four are the rows of the image, its columns, and both
from the end; which path a scan takes is in no tensor. v2 has grouped projections, whose rows are those of v0 one scan after the other.

m0 has the state of Mamba-2: A and Delta per head (K, R), and P = D/R channels in each, which differ in their skip alone.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.directions import part, stacked, unstacked
from ssmspec.families.known import mamba1
from ssmspec.families.selective.frozen_system import freeze, selective_system, stored_bias
from ssmspec.families.selective.projections import misfit, refuse, told
from ssmspec.families.selective.residues import gram, total
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.statespace import FloatArray, StateSpace


def _scans(layer: LayerTensors) -> list[LayerTensors]:
    """Every scan as a Mamba-1 of one direction."""
    K, D, N, R = (layer.sizes[letter] for letter in "KDNR")
    rows, rest = divmod(math.prod(layer.tensors["x_proj"].shape), K * D)
    if rest:
        raise LayerError(
            f"layer {layer.name}: {layer.tensor_names['x_proj']} has {layer.sizes['rows']} rows, which {K} scans do not divide"
        )
    shapes = {"A_log": (D, N), "dt_bias": (D,), "D": (D,), "x_proj": (rows, D), "x_proj_bias": (rows,), "dt_proj": (D, R)}
    return _parts(layer, shapes)


def _parts(layer: LayerTensors, shapes: dict[str, tuple[int, ...]]) -> list[LayerTensors]:
    roles = {role: role for role in shapes}
    return [part(layer, f":{number}", roles, rows) for number, rows in enumerate(stacked(layer, layer.sizes["K"], shapes))]


def _order(layer: LayerTensors, system: StateSpace) -> StateSpace:
    count = layer.sizes["K"]
    text = f"one of {count} scans over the same image: which path each takes is in no tensor"
    return replace(system, assumptions=(*system.assumptions, text)) if count > 1 else system


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One system per scan, each as Mamba-1."""
    return [_order(layer, system) for scan in _scans(layer) for system in mamba1.read(scan, options)]


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The inverse of `read`: A_logs, the biases of Delta and Ds."""
    written = [mamba1.write(scan, [system], options) for scan, system in zip(_scans(layer), systems, strict=True)]
    return unstacked(layer, written)


def _heads(layer: LayerTensors) -> list[LayerTensors]:
    """Every scan of m0 with its R heads of P channels."""
    R, P, rows = (layer.sizes[letter] for letter in ("R", "P", "rows"))
    return _parts(layer, {"A_log": (R,), "dt_bias": (R,), "D": (R, P), "x_proj": (rows, R * P)})


def read_m0(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One system per scan, with a copy per channel and the one pole that all states of its head share."""
    R, P, rows = (layer.sizes[letter] for letter in ("R", "P", "rows"))
    states, odd = divmod(rows - R, 2)
    if states < 1 or odd:
        raise LayerError(f"layer {layer.name}: {rows} rows of x_proj leave no place for B and C beside the {R} of Delta")
    problem = misfit(layer, {"in_proj.weight": (0, (2 * R * P, R * P)), "out_proj.weight": (1, (R * P,))})
    systems = []
    for scan in _heads(layer):
        with np.errstate(over="ignore"):
            poles = np.repeat(-np.exp(scan.array("A_log")), P)[:, None]
        frozen = freeze(scan, options, copies=(R,), states=[(1, states), (states,)])
        if options.residues == "rms":
            if frozen.moments is None:
                refuse(scan, problem)
            B, C = frozen.moments or _moments(scan, R, states)
            residue = float(total(B * C)[0])
        else:
            residue = _residue(frozen.B, frozen.C)
        frozen = replace(frozen, delta=np.repeat(frozen.delta, P))
        outputs = np.full((R * P, 1, 1), residue)
        systems.append(_order(layer, selective_system(scan, options, frozen, poles=poles, C=outputs, notes=told(problem))))
    return systems


def _residue(given_B: FloatArray | None, given_C: FloatArray | None) -> float:
    """The sum of the products of all states; 1 where nothing is given."""
    if given_B is None and given_C is None:
        return 1.0
    B, C = (np.ones(1) if given is None else given.reshape(-1) for given in (given_B, given_C))
    return float((B * C).sum())


def _moments(scan: LayerTensors, first: int, states: int) -> tuple[FloatArray, FloatArray]:
    """Second moments of B and C of one scan for white input to x_proj."""
    B, C = (gram(scan.rows("x_proj", start, start + states)[None]) for start in (first, first + states))
    return B, C


def write_m0(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The inverse of `read_m0`; the channels of a head share pole and step."""
    P, written = layer.sizes["P"], []
    for scan, system in zip(_heads(layer), systems, strict=True):
        if any((part.reshape(-1, P) != part[::P]).any() for part in (system.poles, system.step)):
            raise LayerError(f"layer {scan.name}: channels of one head were changed differently; they must change together")
        heads = system.pick(slice(None, None, P))
        bias = stored_bias(scan, heads, options)
        values: dict[str, npt.NDArray[Any]] = {"A_log": np.log(-heads.poles.real[:, 0]), "D": system.D[:, 0, 0]}
        if bias is not None:
            values["dt_bias"] = bias
        written.append(values)
    return unstacked(layer, written)


_STACKED = {"A_log": Slot("A_logs", "K*D N|K D N"), "D": Slot("Ds", "K*D|K D", optional=True)}

SS2D = Family(
    name="vmamba",
    title="VMamba (SS2D v0, v2), EfficientVMamba, MambaIR: Mamba-1 in several scans",
    source="MzeroMiko/VMamba, vmamba.py and classification/models/vmamba.py, SS2Dv0, SS2Dv2; arXiv 2401.10166",
    templates=(
        {
            "dt_bias": Slot("dt_projs_bias", "K D"),
            **_STACKED,
            "dt_proj": Slot("dt_projs_weight", "K D R"),
            "x_proj": Slot("x_proj_weight", "K rows D"),
            "x_proj_bias": Slot("x_proj_bias", "K rows", optional=True),
        },
        {
            "x_proj": Slot("x_proj.weight", "rows D|rows D 1|rows D 1 1"),
            "x_proj_bias": Slot("x_proj.bias", "rows", optional=True),
            "dt_bias": Slot("dt_projs_bias|dt_projs.bias", "K D|K*D"),
            "dt_proj": Slot("dt_projs.weight", "K*D R|K*D R 1|K*D R 1 1"),
            **_STACKED,
        },
    ),
    read=read,
    write=write,
    selective=True,
    initial_steps=(1e-3, 1e-1),
    initial_decays=(1.0, 16.0),
)

SS2D_M0 = Family(
    name="vmamba-m0",
    title="VMamba (SS2D m0): Mamba-2 in several scans",
    source="MzeroMiko/VMamba, classification/models/vmamba.py, SS2Dm0",
    templates=(
        {
            "A_log": Slot("A_logs", "K R"),
            "dt_bias": Slot("dt_projs_bias", "K R"),
            "D": Slot("Ds", "K R P"),
            "x_proj": Slot("x_proj_weight", "K rows R*P"),
        },
    ),
    read=read_m0,
    write=write_m0,
    selective=True,
    initial_steps=(1e-3, 1e-1),
    initial_decays=(1.0, 16.0),
)
