"""DSS: diagonal state spaces with one Lambda (N) for all channels and without B, output Re.

    k[l] = Re sum_n W_n (z_n - 1) x_n z_n^l,   z = exp(step Lambda)
    softmax:  x = 1/((z^L - 1) Lambda), as conj(d)/(|d|^2 + 1e-7) of the denominator d; L is the kernel length
    exp:      x = 1/Lambda, as conj(Lambda)/max(|Lambda|^2, 1e-7)

so that in canonical form, with ZOH, C = W a x/2. In exp, Lambda = -exp(Lambda_log_neg_re) + i Lambda_im, or + i exp(Lambda_log_im).
The variants clip and clip-no-scale use the tensor names of softmax, exp-no-scale those of exp.

With log_dt (H, 2) the real and the imaginary part have separate steps. Model time is then measured by the first step, and
a = Re Lambda + i Im Lambda step_2/step_1.

The softmax kernel is defined only for the length L: it scales with 1/(z^L - 1). Poles with Re Lambda > 0, which the original code shifts by
their largest value, grow here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.known.s4_block import directions
from ssmspec.families.parameterization import fold, missing_length
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Resizing, Slot, as_complex
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace

EPSILON = 1e-7  # DSSKernel.epsilon and the default of `reciprocal`


def _stored_lambda(layer: LayerTensors) -> ComplexArray:
    """Lambda, (N,)."""
    if "Lambda" in layer:
        return layer.complex_array("Lambda")
    imag = layer.array("Lambda_im")
    with np.errstate(over="ignore"):
        return as_complex(-np.exp(layer.array("Lambda_log_neg_re")), np.exp(imag) if _log_imag(layer) else imag)


def _log_imag(layer: LayerTensors) -> bool:
    return layer.tensor_names["Lambda_im"].endswith("Lambda_log_im")


def _log_ratio(layer: LayerTensors) -> FloatArray:
    """log(step_2/step_1) of the imaginary over the real part, (H, 1)."""
    log_dt = layer.array("log_dt").reshape(layer.sizes["H"], -1)
    return log_dt[:, -1:] - log_dt[:, :1]


def _inverse(layer: LayerTensors, options: ReadOptions, Lambda: ComplexArray, log_z: ComplexArray) -> ComplexArray:
    """x of the module docstring for Lambda (N,) and log z (H, N); (H, N)."""
    if "Lambda" not in layer:
        return np.broadcast_to(Lambda.conj() / np.maximum(np.abs(Lambda) ** 2, EPSILON), log_z.shape)
    if options.length is None:
        raise missing_length(layer, options, "the softmax of DSS uses a kernel length")
    with np.errstate(over="ignore", invalid="ignore"):
        denominator = np.expm1(log_z * options.length) * Lambda
        return np.asarray(denominator.conj() / (np.abs(denominator) ** 2 + EPSILON))


def _assumptions(layer: LayerTensors) -> tuple[str, ...]:
    if "Lambda" in layer:
        lines = ["version softmax (the code's default; the file does not say, and clip has the same tensors)"]
    else:
        lines = ["version exp (the file does not say, and exp-no-scale has the same tensors)"]
    if len(layer.tensors["log_dt"].shape) == 2:
        lines.append("each channel has two steps; the step of the real part defines model time")
    return tuple(lines)


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Convert the tensors of one layer to its state space, with the formulas of the module docstring."""
    H, N = layer.sizes["H"], layer.sizes["N"]
    Lambda = _stored_lambda(layer)
    with np.errstate(over="ignore", invalid="ignore"):
        step = np.exp(layer.array("log_dt").reshape(H, -1)[:, :1])
        a = as_complex(np.broadcast_to(Lambda.real, (H, N)), Lambda.imag * np.exp(_log_ratio(layer)))
        all_outputs = layer.complex_array("W") * (a * _inverse(layer, options, Lambda, a * step) / 2)
    systems = []
    for label, channels in directions(layer):
        outputs = all_outputs[channels]
        repeat = (len(outputs), 1)
        lower, poles = np.tile(a.imag < 0, repeat), np.tile(a, repeat)
        poles, B, C = fold(lower, poles, np.ones((*poles.shape, 1), complex), outputs.reshape(-1, 1, N))
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
                discretization="zoh",
                assumptions=_assumptions(layer),
            )
        )
    return systems


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`.

    The stored ratio of the two steps of a channel does not change.
    """
    first = systems[0]
    H, N = layer.sizes["H"], layer.sizes["N"]
    log_ratio = _log_ratio(layer)
    lower = np.tile(_stored_lambda(layer).imag < 0, (H, 1))
    a = fold(lower, first.poles[:H], first.B[:H], first.C[:H])[0]
    imag = _one_row(layer, a.imag * np.exp(-log_ratio))
    Lambda = as_complex(_one_row(layer, a.real), imag)
    scale = a * _inverse(layer, options, Lambda, a * first.step[:H]) / 2
    outputs = []
    for system in systems:
        _, B, C = fold(np.tile(lower, (system.copies // H, 1)), system.poles, system.B, system.C)
        outputs.append((C[:, 0] * B[:, :, 0]).reshape(-1, H, N) / scale)
    log_dt = np.log(first.step[:H])
    columns = layer.array("log_dt").ndim
    stored: dict[str, npt.NDArray[Any]] = {
        "log_dt": log_dt[:, 0] if columns == 1 else np.concatenate([log_dt, log_dt + log_ratio], axis=1),
        "W": layer.as_stored("W", np.concatenate(outputs)),
    }
    if "Lambda" in layer:
        stored["Lambda"] = layer.as_stored("Lambda", Lambda)
    else:
        stored |= {"Lambda_log_neg_re": np.log(-Lambda.real), "Lambda_im": np.log(imag) if _log_imag(layer) else imag}
    if "D" in layer:
        stored["D"] = first.D[:, 0, 0].reshape(-1, H)
    return stored


def _one_row(layer: LayerTensors, rows: FloatArray) -> FloatArray:
    """The row (N,) that all rows are copies of, up to the rounding of a product and its inverse."""
    if not np.allclose(rows, rows[:1], rtol=1e-12, atol=0, equal_nan=True):
        raise LayerError(f"layer {layer.name}: all channels share one row of Lambda, but were changed differently; change them together")
    first: FloatArray = rows[0]
    return first


_REST = {
    "log_dt": Slot("kernel.log_dt", "H|H 2"),
    "W": Slot("kernel.W", "ch H N ~"),
    "D": Slot("D", "skip H", optional=True),
}

DSS = Family(
    name="dss",
    title="DSS, diagonal state spaces",
    source="ag1988/dss, src/models/sequence/ss/standalone/dss.py, DSSKernel; arXiv 2203.14343",
    templates=(
        {
            "Lambda_log_neg_re": Slot("kernel.Lambda_log_neg_re", "N"),
            "Lambda_im": Slot("kernel.Lambda_im|kernel.Lambda_log_im", "N"),
        }
        | _REST,
        {"Lambda": Slot("kernel.Lambda", "N ~")} | _REST,
    ),
    read=read,
    write=write,
    resizing=Resizing(only_modal="all channels share one row of poles, and each has a step of its own"),
)
