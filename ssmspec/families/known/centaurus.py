"""Centaurus: diagonal state spaces whose real weights connect inputs, modes and outputs in one of four ways.

    a = -softplus(A_0) + i A_1,   z = exp(a dt),   input times dt,   output: the real part of single modes
    dws   k_c = Re sum_n E_cn dt_cn z_cn^l                            A (C, n, 2), log_dt (C, n), E (C, n)
    s5    k_dc = Re sum_n C_dn B_nc dt_n z_n^l                        A (N, 2), log_dt (N), B (N, C), C (D, N)
    neck  k_dc = Re sum_r C_dr B_rc sum_n E_rn dt_r z_rn^l            A (R, n, 2), log_dt (R), B (R, C), C (D, R), E (R, n)
    full  k_dc = Re sum_n E_dcn dt_dn z_dcn^l                         A (D, C, n, 2), log_dt (D, n), E (D, C, n)

The shapes tell the mode. exp on A and dt on the input is the rule "euler" here. In the mode full a copy is one output with all its inputs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.parameterization import fold, inverse_softplus, softplus
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot, as_complex
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace


def _poles(layer: LayerTensors) -> ComplexArray:
    """a, in the shape of A."""
    A = layer.complex_array("A")
    return as_complex(-softplus(A.real), A.imag)


def _mode(layer: LayerTensors) -> str:
    if "B" in layer:
        return "neck" if "E" in layer else "s5"
    return "dws" if len(layer.sizes) == 2 else "full"


def _in_form(layer: LayerTensors, mode: str) -> tuple[ComplexArray, FloatArray, FloatArray, FloatArray]:
    """a (K, N), dt (K, N), B (K, N, I) and C (K, O, N) of the module docstring; dt is not in B."""
    a, dt = _poles(layer), np.exp(layer.array("log_dt"))
    if mode == "s5":
        return a[None], dt[None], layer.array("B")[None], layer.array("C")[None]
    E = layer.array("E")
    if mode == "dws":
        return a, dt, np.ones((*a.shape, 1)), E[:, None]
    if mode == "neck":
        n = E.shape[1]
        C = np.repeat(layer.array("C"), n, axis=1) * E.reshape(-1)
        return a.reshape(1, -1), np.repeat(dt, n)[None], np.repeat(layer.array("B"), n, axis=0)[None], C[None]
    outputs, inputs, n = E.shape
    each = np.broadcast_to(np.repeat(np.eye(inputs), n, axis=0), (outputs, inputs * n, inputs))
    return a.reshape(outputs, -1), np.tile(dt, inputs), each, E.reshape(outputs, 1, -1)


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """dws: one copy per channel; full: one per output; s5 and neck: one system of all inputs and outputs."""
    mode = _mode(layer)
    with np.errstate(over="ignore"):
        a, dt, B, C = _in_form(layer, mode)
    poles, inputs, outputs = fold(a.imag < 0, a, B.astype(complex), (C / 2).astype(complex))
    return [
        StateSpace(
            name=layer.name,
            family=layer.family,
            poles=poles,
            B=inputs,
            C=outputs,
            D=np.zeros((len(poles), C.shape[1], B.shape[2])),
            step=dt,
            discretization="euler",
            assumptions=(f"mode {mode} (by the shapes); without the mixer, norm and activation around it",),
        )
    ]


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`.

    In the mode neck B and E stay, and C changes; in the modes dws and full all of the residue goes to E.

    Raises:
        LayerError: weights that are not real, or that the mode does not have; modes with different steps that share one.
    """
    (system,) = systems
    mode, before = _mode(layer), _poles(layer)
    poles, B, C = fold(before.reshape(system.poles.shape).imag < 0, system.poles, system.B, 2 * system.C)
    if system.discretization != "euler" or B.imag.any() or C.imag.any():
        raise LayerError(f"layer {layer.name}: Centaurus holds real weights only")
    a = poles.reshape(before.shape)
    real = np.where(a.real == before.real, layer.complex_array("A").real, inverse_softplus(-a.real))
    stored: dict[str, npt.NDArray[Any]] = {"A": layer.as_stored("A", as_complex(real, a.imag))}
    if mode == "s5":
        return stored | {"log_dt": _log(layer, system.step[0]), "B": B[0].real, "C": C[0].real}
    if mode == "dws":
        return stored | {"log_dt": _log(layer, system.step), "E": (C[:, 0] * B[:, :, 0]).real}
    parts = _of_neck(layer, system, B[0].real, C[0].real) if mode == "neck" else _of_full(layer, system, B.real, C.real)
    return stored | parts


def _of_neck(layer: LayerTensors, system: StateSpace, B: FloatArray, C: FloatArray) -> dict[str, FloatArray]:
    """Everything but A, from B (N, I) and C (O, N)."""
    E = layer.array("E")
    rows, n = E.shape
    dt = _one(layer, system.step.reshape(rows, n).T, "steps")
    inputs = _one(layer, B.reshape(rows, n, -1).transpose(1, 0, 2), "rows of B")
    with np.errstate(invalid="ignore", divide="ignore"):
        outputs = (C.reshape(-1, rows, n) / E).transpose(2, 0, 1)
    return {"log_dt": _log(layer, dt), "B": inputs, "C": _one(layer, outputs, "columns of C/E"), "E": E}


def _of_full(layer: LayerTensors, system: StateSpace, B: FloatArray, C: FloatArray) -> dict[str, FloatArray]:
    """Everything but A, from B (K, N, I) and C (K, 1, N)."""
    outputs, inputs, n = layer.sizes["O"], layer.sizes["I"], layer.sizes["n"]
    weights = B.reshape(outputs, inputs, n, inputs) * C.reshape(outputs, inputs, n, 1)
    if np.count_nonzero(weights * (1 - np.eye(inputs))[:, None, :]):
        raise LayerError(f"layer {layer.name}: a mode of Centaurus 'full' has one input only")
    dt = _one(layer, system.step.reshape(outputs, inputs, n).transpose(1, 0, 2), "steps")
    return {"log_dt": _log(layer, dt), "E": weights.sum(axis=3)}


def _log(layer: LayerTensors, dt: FloatArray) -> FloatArray:
    stored = layer.array("log_dt")
    return np.where(np.exp(stored) == dt, stored, np.log(dt))


def _one(layer: LayerTensors, rows: FloatArray, what: str) -> FloatArray:
    """The values that all rows share, up to rounding.

    Raises:
        LayerError: they differ.
    """
    if not np.allclose(rows, rows[:1], rtol=1e-12, atol=0, equal_nan=True):
        raise LayerError(f"layer {layer.name}: {what} that share one number in the file were changed differently; change them together")
    first: FloatArray = rows[0]
    return first


CENTAURUS = Family(
    name="centaurus",
    title="Centaurus, in its modes dws, s5, neck and full",
    source="Brainchip-Inc/Centaurus, centaurus/ssm.py, SSMLayer, opt_fft.py; arXiv 2501.13230",
    templates=(
        {
            "A": Slot("A", "R n ~"),
            "log_dt": Slot("log_dt", "R"),
            "B": Slot("B", "R I"),
            "C": Slot("C", "O R"),
            "E": Slot("E", "R n"),
        },
        {"A": Slot("A", "O I n ~"), "log_dt": Slot("log_dt", "O n"), "E": Slot("E", "O I n")},
        {"A": Slot("A", "C n ~"), "log_dt": Slot("log_dt", "C n"), "E": Slot("E", "C n")},
        {"A": Slot("A", "N ~"), "log_dt": Slot("log_dt", "N"), "B": Slot("B", "N I"), "C": Slot("C", "O N")},
    ),
    read=read,
    write=write,
)
