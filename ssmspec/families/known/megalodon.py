"""Megalodon's complex moving average: N complex modes per channel, whose phases are multiples of one angle.

h_n[t] = q_n h_n[t-1] + p_n x[t],   y = Re sum_n gamma_n h_n / sqrt(N) + omega x
p = sigmoid(alpha),   q_n = (1 - p_n sigmoid(delta_n)) exp(i n phi),   phi = sigmoid(theta) 2 pi/N,   n = 1..N
"""

import numpy as np

from ssmspec.families.modal import in_turn, single_modes
from ssmspec.families.parameterization import softplus
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot, as_complex
from ssmspec.systems.statespace import StateSpace


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per channel."""
    modes = layer.sizes["N"]
    log_p, log_d = (-softplus(-layer.array(role)[:, :, 0]) for role in ("alpha", "delta"))
    phi = np.exp(-softplus(-layer.array("theta")[:, 0])) * (2 * np.pi / modes)
    log_q = as_complex(np.log1p(-np.exp(log_p + log_d)), np.arange(1, modes + 1) * phi)
    residues = layer.complex_array("gamma") * np.exp(log_p) / np.sqrt(modes)
    return [single_modes(layer, poles=in_turn(log_q), residues=residues, skip=layer.array("omega"))]


MEGALODON = Family(
    name="megalodon-cema",
    title="Megalodon, complex moving average",
    source="XuezheMax/megalodon, megalodon/modules/complex_exponential_moving_average.py; arXiv 2404.08801",
    templates=(
        {
            "alpha": Slot("alpha", "D N 1"),
            "delta": Slot("delta", "D N 1"),
            "theta": Slot("theta", "D 1 1"),
            "gamma": Slot("gamma", "D N ~"),
            "omega": Slot("omega", "D 1|D"),
        },
    ),
    read=read,
    fixed="the phases of a channel are multiples of one angle, and its input weights are bound to its decays: other poles cannot be stored",
)
