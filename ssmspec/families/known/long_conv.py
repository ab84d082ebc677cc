"""Long convolutions whose kernel is a parameter: LongConv, and ConvKernel of S4 v4 with the same names.

    y[c, h] = D[c, h] u[h] + k[c, h] * u[h],   k = sign(w) max(|w| - lam, 0)

ConvKernel has no shrinkage: lam = 0. Two directions have twice as many kernels as rows of D: the first half is causal, the second acts on
later inputs (see `ssmspec.families.kernel_sources`).
"""

from collections.abc import Mapping

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.families.assumption import Assumption
from ssmspec.families.kernel_sources import FIXED, StoredKernel, TwoSidedKernel, number_in
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.kernel import KernelSource, KernelSystem
from ssmspec.systems.statespace import FloatArray


def _told(layer: LayerTensors, config: Mapping[str, object]) -> tuple[float, str] | None:
    return number_in(config, "lam", "kernel_lam", "long_conv_lam")


LAM = Assumption(
    name="longconv_lam",
    about="how much every sample is shrunk toward zero",
    values=("0",),
    typical=0.1,
    source="HazyResearch/safari, src/models/sequence/long_conv_kernel.py, LongConvKernel (lam); state-spaces/s4, "
    "src/models/sequence/kernels/kernel.py, ConvKernel (none)",
    told_by="lam of the configuration",
    told=_told,
    keys=("lam", "kernel_lam", "long_conv_lam"),
    required=True,
    published="longconv_lam=0 for ConvKernel of S4, 0.1 for the default of LongConv in safari, 0.003 or less in its experiments",
)


def read(layer: LayerTensors, options: ReadOptions) -> list[KernelSystem]:
    """One copy per channel and head.

    Raises:
        LayerError: a shrinkage below zero, or kernels that are neither as many as rows of D nor twice as many.
    """
    lam = float(LAM.value(layer, options))
    if lam < 0:
        raise LayerError(f"layer {layer.name}: longconv_lam is {lam:g}, expected at least 0")
    rows, heads, channels, length = (layer.sizes[letter] for letter in ("c", "C", "H", "L"))
    if rows not in (heads, 2 * heads):
        raise LayerError(f"layer {layer.name}: {rows} kernels per channel and {heads} rows of D; expected as many, or twice as many")

    def shrunk(values: FloatArray) -> FloatArray:
        return np.asarray(np.sign(values) * np.maximum(np.abs(values) - lam, 0))

    source: KernelSource = StoredKernel(layer, "kernel", length, change=shrunk if lam else None)
    both = rows == 2 * heads
    if both:
        source = TwoSidedKernel(StoredKernel(layer, "kernel", length, change=shrunk if lam else None, first=heads * channels), source)
    copies = heads * channels
    return [
        KernelSystem(
            name=layer.name,
            family=layer.family,
            shape=(copies, 1, 1, 2 * length if both else length),
            source=source,
            D=layer.array("D").reshape(copies, 1, 1),
            first_lag=-length if both else 0,
            assumptions=("two directions: the kernel looks ahead",) if both else (),
        )
    ]


LONG_CONV = Family(
    name="long-conv",
    title="LongConv, and ConvKernel of S4 v4",
    source="HazyResearch/safari, src/models/sequence/long_conv.py, long_conv_kernel.py; state-spaces/s4, "
    "src/models/sequence/kernels/kernel.py, ConvKernel",
    templates=({"kernel": Slot("kernel.kernel", "c H L"), "D": Slot("D", "C H")},),
    read=read,
    fixed=FIXED,
    explicit=True,
    assumptions=(LAM,),
)
