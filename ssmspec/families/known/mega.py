"""Mega's damped exponential moving average: n real decays per channel, over time invariant.

    h_t = q h_{t-1} + p beta x_t,   y_t = sqrt(1/n) gamma h_t + omega x_t,   p = sigmoid(alpha),   q = 1 - p sigmoid(delta)

With twice as many rows as omega has channels the second half runs backward, with a kernel of lags 1, 2, .. alone, since the own token
counts with the forward direction: delay 1. With `shift`, the default of the code, its sample at lag 0 is left out, so that at lag 1 the
state has decayed once; without, lag 1 has the first sample. omega counts with the forward direction.

Changed decays are split between alpha and delta as they are: log p and log sigmoid(delta) keep their ratio, so that every 0 < q < 1 can be
stored.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.assumption import Assumption
from ssmspec.families.parameterization import softplus
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.statespace import FloatArray, StateSpace

UNTRUNCATED = "the kernel is not truncated (`truncation`, the code's default: none; no tensor tells)"
SHIFT = Assumption(
    name="mega_shift",
    about="whether the backward kernel leaves out its own sample at lag 0 and keeps those after it (true), or begins with it at lag 1",
    values=("true", "false"),
    source="facebookresearch/mega, fairseq/modules/exponential_moving_average.py, MultiHeadEMA.shift",
    applies=lambda layer, options: layer.sizes["E"] != layer.sizes["H"],
)


def _log_sigmoid(x: FloatArray) -> FloatArray:
    return -softplus(-x)


def _logarithms(layer: LayerTensors) -> tuple[FloatArray, FloatArray]:
    """log p and log sigmoid(delta), (rows, n)."""
    return _log_sigmoid(layer.array("alpha")[:, :, 0]), _log_sigmoid(layer.array("delta")[:, :, 0])


def _directions(layer: LayerTensors) -> list[tuple[str, slice]]:
    rows, channels = layer.sizes["E"], layer.sizes["H"]
    if rows == channels:
        return [("", slice(0, rows))]
    if rows == 2 * channels:
        return [(":forward", slice(0, channels)), (":backward", slice(channels, rows))]
    raise LayerError(f"layer {layer.name}: {rows} moving averages for {channels} channels; expected as many, or twice as many")


def _shifted(layer: LayerTensors, options: ReadOptions) -> bool:
    return SHIFT.value(layer, options) == "true"


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per channel with n real poles; two systems where there are two directions."""
    log_p, log_d = _logarithms(layer)
    q = -np.expm1(log_p + log_d)
    B = np.exp(log_p) * layer.array("beta")[:, :, 0]
    C = layer.array("gamma") * np.sqrt(1 / layer.sizes["n"]) / 2
    systems = []
    for label, rows in _directions(layer):
        backward = label == ":backward"
        skip = np.zeros(layer.sizes["H"]) if backward else layer.array("omega")
        inputs = B[rows] * q[rows] if backward and _shifted(layer, options) else B[rows]
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
                delay=int(backward),
                assumptions=(UNTRUNCATED,),
            )
        )
    return systems


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`.

    Raises:
        LayerError: poles that are not real numbers between 0 and 1, or complex residues.
    """
    log_p, log_d = _logarithms(layer)
    q = np.concatenate([system.poles for system in systems])
    shifted = _shifted(layer, options)
    inputs = np.concatenate([system.B[:, :, 0] / system.poles if system.delay and shifted else system.B[:, :, 0] for system in systems])
    outputs = 2 * np.concatenate([system.C[:, 0] for system in systems]) / np.sqrt(1 / layer.sizes["n"])
    if any(np.count_nonzero(part.imag) for part in (q, inputs, outputs)) or not ((q.real > 0) & (q.real < 1)).all():
        raise LayerError(f"layer {layer.name}: moving averages hold real decays between 0 and 1 and real weights only")
    kept = q.real == -np.expm1(log_p + log_d)
    split = np.log1p(-q.real) / (log_p + log_d)  # 1 - q = p sigmoid(delta)
    found = {"alpha": log_p * split, "delta": log_d * split}
    logits = {role: log - np.log(-np.expm1(log)) for role, log in found.items()}
    stored = {role: np.where(kept, layer.array(role)[:, :, 0], logit)[:, :, None] for role, logit in logits.items()}
    p = np.exp(np.where(kept, log_p, found["alpha"]))
    stored["beta"] = (inputs.real / p)[:, :, None]
    stored["gamma"] = outputs.real
    stored["omega"] = systems[0].D[:, 0, 0]
    return stored


MEGA = Family(
    name="mega-ema",
    title="Mega, damped moving average",
    source="facebookresearch/mega, fairseq/modules/exponential_moving_average.py, MultiHeadEMA; transformers, mega; arXiv 2209.10655",
    templates=(
        {
            "alpha": Slot("alpha|damping_factor", "E n 1"),
            "delta": Slot("delta|decay_factor", "E n 1"),
            "beta": Slot("beta|ema_expansion_matrix", "E n 1"),
            "gamma": Slot("gamma|kernel_projection_matrix", "E n"),
            "omega": Slot("omega|residual_weight", "H"),
        },
    ),
    read=read,
    write=write,
    assumptions=(SHIFT,),
)
