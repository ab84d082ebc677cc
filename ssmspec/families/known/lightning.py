"""Lightning attention (MiniMax): one decay per head, z = exp(-slope_rate), a constant of the architecture.

    S_t = z S_{t-1} + k_t v_t^T,   o_t = q_t S_t

Read at q = k = 1, per channel of a head, with unit residues.
"""

import numpy as np

from ssmspec.families.known.retnet import CONSTANT
from ssmspec.families.modal import single_modes
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.statespace import StateSpace


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per head, with one real pole."""
    log_z = -layer.array("slope").reshape(-1, 1).astype(complex)
    notes = (CONSTANT, "at q = k = 1, unit residues; without norm and output gate")
    return [single_modes(layer, poles=log_z, residues=np.ones_like(log_z), skip=np.zeros(len(log_z)), assumptions=notes)]


LIGHTNING = Family(
    name="lightning",
    title="Lightning attention (MiniMax): constants of the architecture",
    source="transformers, models/minimax/modular_minimax.py, MiniMaxLightningAttention; arXiv 2401.04658",
    templates=({"slope": Slot("slope_rate", "h 1 1"), "qkv": Slot("qkv_proj.weight", "q m")},),
    read=read,
    fixed=CONSTANT,
)
