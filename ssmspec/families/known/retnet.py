"""RetNet: the decays of the heads and the angles of the keys, which are buffers of the decoder that all layers use.

    o_t = sum_s q_t . R^(t-s) k_s v_s gamma^(t-s) / sqrt(key size),   R = rotations by angle_n per token,   gamma = exp(decay)

At q = k = 1 the pairs of key channels are modes z = exp(decay + i angle_n). Both are constants of the architecture: the same numbers in
every checkpoint with these sizes.
"""

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.families.modal import in_turn, single_modes
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot, as_complex
from ssmspec.systems.statespace import StateSpace

CONSTANT = "its poles are constants of the architecture, the same in every checkpoint with these sizes; nothing of them is trained"
NOTES = (
    CONSTANT,
    "at q = k = 1, without the normalization of the rows, which is not linear; all retention layers of the decoder have these poles",
)


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per head; a mode per pair of key channels.

    Raises:
        LayerError: an odd number of angles.
    """
    angle, decay = layer.array("angle"), layer.array("decay")
    if angle.size % 2:
        raise LayerError(f"layer {layer.name}: {layer.tensor_names['angle']} has {angle.size} angles; expected pairs")
    log_z = in_turn(as_complex(*np.broadcast_arrays(decay[:, None], angle[::2])))
    residues = np.full(log_z.shape, 2 / np.sqrt(angle.size), complex)
    return [single_modes(layer, poles=log_z, residues=residues, skip=np.zeros(decay.size), assumptions=NOTES)]


RETNET = Family(
    name="retnet",
    title="RetNet of torchscale: constants of the architecture",
    source="microsoft/torchscale, torchscale/architecture/retnet.py, RetNetRelPos, component/multiscale_retention.py; arXiv 2307.08621",
    templates=({"angle": Slot("retnet_rel_pos.angle", "k"), "decay": Slot("retnet_rel_pos.decay", "h")},),
    read=read,
    fixed=CONSTANT,
)
