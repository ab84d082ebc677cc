"""Mega's damped exponential moving average: n real decays per channel, over time invariant.

    h_t = q h_{t-1} + p beta x_t,   y_t = sqrt(1/n) gamma h_t + omega x_t,   q = 1 - sigmoid(delta) sigmoid(alpha)

p = sigmoid(delta) in the released code and in transformers, which calls delta damping_factor and alpha decay_factor; p = sigmoid(alpha) in
the paper and in the branch flash. With twice as many rows as omega has channels the second half runs backward, from its own token on, or
in that branch from the next one on (delay 1). omega counts with the forward direction.

Changed decays are split between delta and alpha as they are: the logarithms of both sigmoids keep their ratio, so that every 0 < q < 1 can
be stored.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.assumption import Assumption
from ssmspec.families.parameterization import softplus
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.statespace import FloatArray, StateSpace

UNTRUNCATED = "the kernel is not truncated (`truncation`, the code's default: none; no tensor tells)"
SOURCE = "facebookresearch/mega, fairseq/modules/exponential_moving_average.py, MultiHeadEMA"


def _told(value: str) -> Callable[[LayerTensors, Mapping[str, object]], tuple[str, str] | None]:
    def told(layer: LayerTensors, config: Mapping[str, object]) -> tuple[str, str] | None:
        return (value, "the names are those of transformers") if layer.tensor_names["delta"].endswith("damping_factor") else None

    return told


WEIGHT = Assumption(
    name="mega_weight",
    about="whose sigmoid, besides beta, weighs the input: that of delta, or that of alpha",
    values=("delta", "alpha"),
    source=f"{SOURCE}._calc_coeffs: main (delta), branch flash (alpha, as in arXiv 2209.10655)",
    told_by="the names damping_factor and decay_factor (transformers)",
    told=_told("delta"),
)
BACKWARD = Assumption(
    name="mega_backward",
    about="where the backward kernel begins: at the own token (lag0), at the next one (lag1), or there without its first sample (skip)",
    values=("lag0", "lag1", "skip"),
    source=f"{SOURCE}.forward: main and branch lm (lag0), branch flash (lag1, or lag0 with shift=False), its commit 06f2d0e (skip)",
    told_by="the names damping_factor and decay_factor (transformers)",
    told=_told("lag0"),
    applies=lambda layer, options: layer.sizes["E"] != layer.sizes["H"],
)


def _log_sigmoid(x: FloatArray) -> FloatArray:
    return -softplus(-x)


def _logarithms(layer: LayerTensors) -> dict[str, FloatArray]:
    """The logarithms of both sigmoids, (rows, n), by role."""
    return {role: _log_sigmoid(layer.array(role)[:, :, 0]) for role in ("delta", "alpha")}


def _directions(layer: LayerTensors) -> list[tuple[str, slice]]:
    rows, channels = layer.sizes["E"], layer.sizes["H"]
    if rows == channels:
        return [("", slice(0, rows))]
    if rows == 2 * channels:
        return [(":forward", slice(0, channels)), (":backward", slice(channels, rows))]
    raise LayerError(f"layer {layer.name}: {rows} moving averages for {channels} channels; expected as many, or twice as many")


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per channel with n real poles; two systems where there are two directions."""
    logarithms, kind = _logarithms(layer), BACKWARD.value(layer, options)
    q = -np.expm1(logarithms["delta"] + logarithms["alpha"])
    B = np.exp(logarithms[str(WEIGHT.value(layer, options))]) * layer.array("beta")[:, :, 0]
    C = layer.array("gamma") * np.sqrt(1 / layer.sizes["n"]) / 2
    systems = []
    for label, rows in _directions(layer):
        backward = label == ":backward"
        skip = np.zeros(layer.sizes["H"]) if backward else layer.array("omega")
        inputs = B[rows] * q[rows] if backward and kind == "skip" else B[rows]
        systems.append(
            StateSpace(
                name=layer.name + label,
                family=layer.family,
                poles=q[rows].astype(complex),
                B=inputs.astype(complex)[:, :, None],
                C=C[rows].astype(complex)[:, None, :],
                D=skip[:, None, None],
                step=np.ones((len(skip), 1)),
                discretization="direct",
                delay=int(backward and kind != "lag0"),
                assumptions=(UNTRUNCATED,),
            )
        )
    return systems


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`.

    Raises:
        LayerError: poles that are not real numbers between 0 and 1, or complex residues.
    """
    logarithms, weight = _logarithms(layer), str(WEIGHT.value(layer, options))
    skipped = BACKWARD.value(layer, options) == "skip"
    q = np.concatenate([system.poles for system in systems])
    inputs = np.concatenate([system.B[:, :, 0] / system.poles if system.delay and skipped else system.B[:, :, 0] for system in systems])
    outputs = 2 * np.concatenate([system.C[:, 0] for system in systems]) / np.sqrt(1 / layer.sizes["n"])
    if any(np.count_nonzero(part.imag) for part in (q, inputs, outputs)) or not ((q.real > 0) & (q.real < 1)).all():
        raise LayerError(f"layer {layer.name}: moving averages hold real decays between 0 and 1 and real weights only")
    product = logarithms["delta"] + logarithms["alpha"]
    kept = q.real == -np.expm1(product)
    found = {role: log * (np.log1p(-q.real) / product) for role, log in logarithms.items()}  # 1 - q is the product of both sigmoids
    stored: dict[str, npt.NDArray[Any]] = {
        role: np.where(kept, layer.array(role)[:, :, 0], log - np.log(-np.expm1(log)))[:, :, None] for role, log in found.items()
    }
    p = np.exp(np.where(kept, logarithms[weight], found[weight]))
    stored["beta"] = (inputs.real / p)[:, :, None]
    stored["gamma"] = outputs.real
    stored["omega"] = systems[0].D[:, 0, 0]
    return stored


MEGA = Family(
    name="mega-ema",
    title="Mega, damped moving average",
    source=f"{SOURCE}; transformers, models/mega; arXiv 2209.10655",
    templates=(
        {
            "delta": Slot("delta|damping_factor", "E n 1"),
            "alpha": Slot("alpha|decay_factor", "E n 1"),
            "beta": Slot("beta|ema_expansion_matrix", "E n 1"),
            "gamma": Slot("gamma|kernel_projection_matrix", "E n"),
            "omega": Slot("omega|residual_weight", "H"),
        },
    ),
    read=read,
    write=write,
    assumptions=(WEIGHT, BACKWARD),
)
