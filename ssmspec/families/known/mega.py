"""Mega's damped exponential moving average: n real decays per channel, over time invariant.

    h_t = q h_{t-1} + p beta x_t,   y_t = sqrt(1/n) gamma h_t + omega x_t,   p = sigmoid(alpha),   q = 1 - p sigmoid(delta)

With twice as many rows as omega has channels the second half runs backward. Its kernel is that of lags 1, 2, .. alone (`shift`, the default
of the code: the own token counts with the forward direction), which is delay 1 with q times the input. omega counts with the forward one.

Changed decays are split between alpha and delta as they are: log p and log sigmoid(delta) keep their ratio, so that every 0 < q < 1 can be
stored.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.parameterization import choose_discretization, softplus
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.statespace import FloatArray, StateSpace

UNTRUNCATED = "the kernel is not truncated (`truncation`, the code's default: none; no tensor tells)"
SHIFTED = "the backward kernel begins one token later (`shift`, the code's default; no tensor tells)"


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


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per channel with n real poles; two systems where there are two directions."""
    rule = choose_discretization(layer, options, ("direct",))
    log_p, log_d = _logarithms(layer)
    q = -np.expm1(log_p + log_d)
    B = np.exp(log_p) * layer.array("beta")[:, :, 0]
    C = layer.array("gamma") * np.sqrt(1 / layer.sizes["n"]) / 2
    systems = []
    for label, rows in _directions(layer):
        backward = label == ":backward"
        skip = np.zeros(layer.sizes["H"]) if backward else layer.array("omega")
        inputs = B[rows] * q[rows] if backward else B[rows]
        systems.append(
            StateSpace(
                name=layer.name + label,
                family=layer.family,
                poles=q[rows].astype(complex),
                B=inputs.astype(complex)[:, :, None],
                C=C[rows].astype(complex)[:, None, :],
                D=skip[:, None, None],
                step=np.ones((len(skip), 1)),
                discretization=rule,
                delay=int(backward),
                assumptions=(UNTRUNCATED, SHIFTED) if backward else (UNTRUNCATED,),
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
    inputs = np.concatenate([system.B[:, :, 0] / system.poles if system.delay else system.B[:, :, 0] for system in systems])
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
)
