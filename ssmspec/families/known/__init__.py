"""The built-in families, one file per source layout. To add a family, add one file here and one line to `FAMILIES`."""

from ssmspec.families.known.annotated_s4 import ANNOTATED_S4, ANNOTATED_S4D
from ssmspec.families.known.centaurus import CENTAURUS
from ssmspec.families.known.ckconv import CKCONV
from ssmspec.families.known.conv_s5 import CONV_S5
from ssmspec.families.known.dss import DSS
from ssmspec.families.known.evo1 import EVO1
from ssmspec.families.known.evo2 import EVO2_HCL
from ssmspec.families.known.evo2_hcm import EVO2_HCM
from ssmspec.families.known.evo2_hcs import EVO2_HCS
from ssmspec.families.known.gated_delta import GATED_DELTA
from ssmspec.families.known.gss import GSS
from ssmspec.families.known.h3 import H3
from ssmspec.families.known.hydra import HYDRA
from ssmspec.families.known.hyena import HYENA
from ssmspec.families.known.lfm2 import LFM2
from ssmspec.families.known.lightning import LIGHTNING
from ssmspec.families.known.linear_attention import GLA, HGRN, HGRN2, MLSTM
from ssmspec.families.known.linoss import LINOSS
from ssmspec.families.known.long_conv import LONG_CONV
from ssmspec.families.known.lru import LRU
from ssmspec.families.known.mamba1 import MAMBA1, ZAMBA
from ssmspec.families.known.mamba2 import MAMBA2
from ssmspec.families.known.mamba3 import MAMBA3
from ssmspec.families.known.mega import MEGA
from ssmspec.families.known.megalodon import MEGALODON
from ssmspec.families.known.retnet import RETNET
from ssmspec.families.known.rg_lru import RG_LRU
from ssmspec.families.known.rwkv import RWKV4, RWKV5, RWKV6, RWKV7
from ssmspec.families.known.s4_block import FREQBIAS_BLOCK, S4_DIAGONAL, S4_DPLR
from ssmspec.families.known.s4_nplr import S4_NPLR
from ssmspec.families.known.s4_torch import S4_TORCH
from ssmspec.families.known.s4_v1 import S4_NPLR_V1
from ssmspec.families.known.s4_v3 import S4_DIAGONAL_V2, S4_DIAGONAL_V3, S4_NPLR_V3
from ssmspec.families.known.s4d import FREQBIAS_STANDALONE, S4D
from ssmspec.families.known.s4nd import S4ND
from ssmspec.families.known.s5 import S5
from ssmspec.families.known.s5_torch import S5_TORCH
from ssmspec.families.known.sgconv import SGCONV
from ssmspec.families.known.ss2d import SS2D, SS2D_M0
from ssmspec.families.known.vim import LOCAL_MAMBA, VIM, VIM_V1
from ssmspec.families.selective.decay_gate import DecayGate
from ssmspec.families.template import Family

DECAY_GATES: tuple[DecayGate, ...] = (GATED_DELTA, RWKV4, RWKV5, RWKV6, RWKV7, MLSTM, GLA, HGRN, HGRN2)

FAMILIES: dict[str, Family] = {
    "s4d": S4D,
    "freqbias-standalone": FREQBIAS_STANDALONE,
    "s4-diag": S4_DIAGONAL,
    "s4-dplr": S4_DPLR,
    "freqbias-block": FREQBIAS_BLOCK,
    "s4nd": S4ND,
    "s4-nplr-v2": S4_NPLR,
    "s4-nplr-v1": S4_NPLR_V1,
    "s4-nplr-v3": S4_NPLR_V3,
    "s4-diag-v3": S4_DIAGONAL_V3,
    "s4-diag-v2": S4_DIAGONAL_V2,
    "dss": DSS,
    "h3": H3,
    "annotated-s4": ANNOTATED_S4,
    "annotated-s4d": ANNOTATED_S4D,
    "s4-torch": S4_TORCH,
    "s5": S5,
    "s5-torch": S5_TORCH,
    "conv-s5": CONV_S5,
    "lru": LRU,
    "linoss": LINOSS,
    "mega-ema": MEGA,
    "megalodon-cema": MEGALODON,
    "evo-1": EVO1,
    "evo-2-hcl": EVO2_HCL,
    "centaurus": CENTAURUS,
    "gss": GSS,
    "retnet": RETNET,
    "lightning": LIGHTNING,
    "rg-lru": RG_LRU,
    **{gate.name: gate.family() for gate in DECAY_GATES},
    "mamba-1": MAMBA1,
    "zamba": ZAMBA,
    "vim": VIM,
    "vim-v1": VIM_V1,
    "local-mamba": LOCAL_MAMBA,
    "vmamba": SS2D,
    "vmamba-m0": SS2D_M0,
    "mamba-2": MAMBA2,
    "hydra": HYDRA,
    "mamba-3": MAMBA3,
    "evo-2-hcm": EVO2_HCM,
    "evo-2-hcs": EVO2_HCS,
    "hyena": HYENA,
    "long-conv": LONG_CONV,
    "sgconv": SGCONV,
    "ckconv": CKCONV,
    "lfm2-conv": LFM2,
}
