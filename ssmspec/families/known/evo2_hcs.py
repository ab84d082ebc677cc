"""The short filter of Evo 2 (StripedHyena 2), hcs: a depthwise convolution of torch of a few taps, so that the last sample comes first."""

import numpy as np

from ssmspec.families.kernel_sources import FIXED, StoredKernel
from ssmspec.families.known.evo2_hcm import GATES, per_group
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.kernel import KernelSystem


def read(layer: LayerTensors, options: ReadOptions) -> list[KernelSystem]:
    """One copy per channel."""
    channels, length = layer.sizes["H"], layer.sizes["L"]
    return [
        KernelSystem(
            name=layer.name,
            family=layer.family,
            shape=(channels, 1, 1, length),
            source=StoredKernel(layer, "h", length, per_group(layer, channels), reversed=True),
            D=np.zeros((channels, 1, 1)),
            assumptions=(GATES,),
        )
    ]


EVO2_HCS = Family(
    name="evo-2-hcs",
    title="Evo 2, short filter (hcs)",
    source="Zymrael/vortex, vortex/model/model.py and engine.py",
    templates=({"h": Slot("filter.h", "G 1 L"), "short": Slot("filter.short_filter_weight", "3H 1 taps")},),
    read=read,
    fixed=FIXED,
    explicit=True,
    absent=("filter.D",),
)
