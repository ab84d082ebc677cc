"""The short filter of Evo 2 (StripedHyena 2), hcs: a depthwise convolution of torch of a few taps, so that the last sample comes first.

In training (NeMo) there may be a skip connection, one value for each group of channels.
"""

import numpy as np

from ssmspec.families.kernel_sources import FIXED, StoredKernel, explicit
from ssmspec.families.known.evo2_hcm import GATES, per_group
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.kernel import KernelSystem


def read(layer: LayerTensors, options: ReadOptions) -> list[KernelSystem]:
    """One copy per channel."""
    length, repeated = layer.sizes["L"], per_group(layer)
    skip = layer.array("D") if "D" in layer else np.zeros(layer.sizes["G"])
    return explicit(layer, StoredKernel(layer, "h", length, repeated, reversed=True), length, np.repeat(skip, repeated), GATES)


EVO2_HCS = Family(
    name="evo-2-hcs",
    title="Evo 2, short filter (hcs)",
    source="Zymrael/vortex, vortex/model/model.py and engine.py; NVIDIA/NeMo, nemo/collections/llm/gpt/model/megatron/hyena/hyena_utils.py",
    templates=(
        {"h": Slot("filter.h", "G 1 L"), "short": Slot("filter.short_filter_weight", "3H 1 taps")},
        {
            "h": Slot("mixer.short_conv.short_conv_weight", "G 1 L|G L"),
            "short": Slot("hyena_proj_conv.short_conv_weight", "3H 1 taps|3H taps"),
            "D": Slot("mixer.conv_bias", "G", optional=True),
        },
    ),
    read=read,
    fixed=FIXED,
    explicit=True,
    absent=("filter.D",),
)
