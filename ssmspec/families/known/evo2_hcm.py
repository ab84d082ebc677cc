"""The medium filter of Evo 2 (StripedHyena 2), hcm: the kernel itself, in time order, one for each group of channels.

    y = D u + h * u,   h stored per group, each used by H/G channels

In training (savanna, BioNeMo) h is multiplied by a decay, a buffer of the same shape, and used up to `hyena_medium_conv_len`; inference
files hold the product, cut.
"""

from collections.abc import Mapping

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.families.assumption import Assumption
from ssmspec.families.kernel_sources import FIXED, Combined, Cut, StoredKernel, explicit, number_in
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.kernel import KernelSource, KernelSystem

GATES = "without the gates around the convolution, the short filter and the projections"


def _told(layer: LayerTensors, config: Mapping[str, object]) -> tuple[float, str] | None:
    return number_in(config, "hyena_medium_conv_len")


CUT = Assumption(
    name="hyena_medium_conv_len",
    about="how many samples of a filter in training are used",
    values=("128",),
    typical=128,
    source="Zymrael/savanna, savanna/model/operators/hyena; NVIDIA/bionemo-framework, HyenaConfig: 128",
    told_by="hyena_medium_conv_len of the configuration",
    told=_told,
    keys=("hyena_medium_conv_len",),
    applies=lambda layer, options: "decay" in layer,
)


def per_group(layer: LayerTensors) -> int:
    """How many channels share a filter.

    Raises:
        LayerError: the channels are no multiple of the groups.
    """
    groups, channels = layer.sizes["G"], layer.sizes["H"]
    if channels % groups:
        raise LayerError(f"layer {layer.name}: {channels} channels and {groups} filters; expected a multiple")
    return channels // groups


def read(layer: LayerTensors, options: ReadOptions) -> list[KernelSystem]:
    """One copy per channel."""
    length, repeated = layer.sizes["L"], per_group(layer)
    source: KernelSource = StoredKernel(layer, "h", length, repeated)
    if "decay" in layer:
        source = Combined(source, StoredKernel(layer, "decay", length, repeated), np.multiply)
        length = min(length, int(float(CUT.value(layer, options))))
        if length < 1:
            raise LayerError(f"layer {layer.name}: hyena_medium_conv_len is {length}, expected at least 1")
    return explicit(layer, Cut(source, length), length, layer.array("D"), GATES)


EVO2_HCM = Family(
    name="evo-2-hcm",
    title="Evo 2, medium filter (hcm)",
    source="Zymrael/vortex, vortex/model/model.py and engine.py; Zymrael/savanna, NVIDIA/bionemo-framework: ExplicitSingleDecayFilter",
    templates=(
        {"h": Slot("filter.h", "G 1 L"), "D": Slot("filter.D", "H")},
        {"h": Slot("filter.h", "G L"), "decay": Slot("filter.decay", "G L"), "D": Slot("conv_bias", "H")},
    ),
    read=read,
    fixed=FIXED,
    explicit=True,
    assumptions=(CUT,),
)
