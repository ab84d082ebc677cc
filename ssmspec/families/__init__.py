"""Checkpoint families: which tensors a layer has, and the state space they mean. A new family is one file and one line here."""

from ssmspec.families.detection import Detection, NearMiss, detect
from ssmspec.families.lru import LRU
from ssmspec.families.mamba import MAMBA1, MAMBA2
from ssmspec.families.s4_block import FREQBIAS_BLOCK, S4_DIAGONAL, S4_DPLR
from ssmspec.families.s4_nplr import S4_NPLR
from ssmspec.families.s4d import FREQBIAS_STANDALONE, S4D
from ssmspec.families.s5 import S5
from ssmspec.families.template import Family, LayerTensors, OperatingPoint, ReadOptions

FAMILIES: dict[str, Family] = {
    "s4d": S4D,
    "freqbias-standalone": FREQBIAS_STANDALONE,
    "s4-diag": S4_DIAGONAL,
    "s4-dplr": S4_DPLR,
    "freqbias-block": FREQBIAS_BLOCK,
    "s4-nplr-v2": S4_NPLR,
    "s5": S5,
    "lru": LRU,
    "mamba-1": MAMBA1,
    "mamba-2": MAMBA2,
}

__all__ = ["FAMILIES", "Detection", "Family", "LayerTensors", "NearMiss", "OperatingPoint", "ReadOptions", "detect"]
