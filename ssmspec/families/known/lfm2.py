"""The short convolution of LFM2: a depthwise convolution of torch of three taps between two gates; the last sample comes first."""

import numpy as np

from ssmspec.families.kernel_sources import FIXED, StoredKernel, explicit
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.kernel import KernelSystem


def read(layer: LayerTensors, options: ReadOptions) -> list[KernelSystem]:
    """One copy per channel."""
    channels, length = layer.sizes["H"], layer.sizes["L"]
    bias = ("the bias of the convolution is a constant and no part of the response",) if "bias" in layer else ()
    source = StoredKernel(layer, "weight", length, reversed=True)
    return explicit(layer, source, length, np.zeros(channels), "without the gates B and C around the convolution", *bias)


LFM2 = Family(
    name="lfm2-conv",
    title="LFM2, short convolution",
    source="transformers, models/lfm2/modular_lfm2.py, Lfm2ShortConv",
    templates=(
        {
            "weight": Slot("conv.conv.weight", "H 1 L"),
            "in_proj": Slot("conv.in_proj.weight", "3H H"),
            "out_proj": Slot("conv.out_proj.weight", "H H"),
            "bias": Slot("conv.conv.bias", "H", optional=True),
        },
    ),
    read=read,
    fixed=FIXED,
    explicit=True,
)
