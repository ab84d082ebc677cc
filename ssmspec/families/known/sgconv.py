"""SGConv: a kernel of several scales, each a few parameters that are stretched by powers of 2 and weaker the later they act.

    k = cat_i stretch(kernel_list[i], 2^max(0, i - 1)) multiplier^(S - 1 - i) / kernel_norm          i = 0..S-1
    k = sum_i stretch(kernel_list[i], 2^i) multiplier^(S - 1 - i) / kernel_norm                       (modes with "sum")

Stretching is linear interpolation between the middles of samples, or repetition. Modes with a learnable decay have a tensor for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.families.assumption import Assumption
from ssmspec.families.configuration import places
from ssmspec.families.kernel_sources import FIXED, PLACES, explicit, number_in
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot, Template
from ssmspec.systems.kernel import KernelSystem
from ssmspec.systems.statespace import FloatArray

SOURCE = "ctlllll/SGConv, gconv_standalone.py, GConv"
MODES = ("cat_randn", "sum_randn", "cat_randn_nearest", "sum_randn_nearest")
MOST_SCALES = 24


def _mode(layer: LayerTensors, config: Mapping[str, object]) -> tuple[str, str] | None:
    for prefix, place in places(config, PLACES):
        word = place.get("mode")
        if isinstance(word, str) and ("cat" in word or "sum" in word):
            kind = f"{'sum' if 'sum' in word else 'cat'}_randn{'_nearest' if 'nearest' in word else ''}"
            return kind, f"{prefix}mode of the configuration"
    return None


MODE = Assumption(
    name="sgconv_mode",
    about="whether the scales follow one another or are added, and how they are stretched: linearly or by repetition",
    values=MODES,
    source=f"{SOURCE}: cat_randn by default",
    told_by="mode of the configuration",
    told=_mode,
    keys=("mode",),
)
SCALE = Assumption(
    name="sgconv_init_scale",
    about="by how many powers of 2 more all scales are stretched",
    values=("0",),
    typical=1,
    source=f"{SOURCE}: 0 by default",
    told_by="init_scale of the configuration",
    told=lambda layer, config: number_in(config, "init_scale"),
    keys=("init_scale",),
    quiet=True,
)


def _scales(layer: LayerTensors) -> int:
    return sum(role.startswith("kernel") and role[6:].isdigit() for role in layer.tensors)


@dataclass(frozen=True, slots=True)
class _Scales:
    """The samples of some rows of all scales.

    Args:
        first: number of the first row. length: L.
    """

    layer: LayerTensors
    mode: str
    init_scale: int
    length: int
    first: int
    shared: bool = False
    known_finite: bool = False

    def samples(self, start: int, stop: int) -> FloatArray:
        """As `KernelSource`: (stop - start, 1, 1, L)."""
        rows = np.arange(self.first + start, self.first + stop)
        channels, size, count = rows % self.layer.sizes["H"], self.layer.sizes["d"], _scales(self.layer)
        multiplier = self.layer.array("multiplier").reshape(-1)
        factors = multiplier[channels if multiplier.size > 1 else np.zeros(len(rows), int)]
        kernel, place = np.zeros((len(rows), self.length)), 0
        for i in range(count):
            values = self.layer.flat(f"kernel{i}", int(rows[0]) * size, (int(rows[-1]) + 1) * size).reshape(len(rows), size)
            added = self.mode.startswith("sum")
            stretched = self._stretched(values * factors[:, None] ** (count - 1 - i), i if added else max(0, i - 1))
            begin = 0 if added else place
            kernel[:, begin : begin + stretched.shape[1]] += stretched
            place += stretched.shape[1]
        if "decay" in self.layer:
            kernel *= np.exp(-self.layer.array("decay")[channels, None] * np.log(np.arange(self.length) + 1.0))
        return np.asarray((kernel / self._norm(kernel, rows, channels)[:, None])[:, None, None, :])

    def _stretched(self, values: FloatArray, power: int) -> FloatArray:
        factor, size = 2 ** (power + self.init_scale), values.shape[1]
        if "nearest" in self.mode:
            return np.repeat(values, factor, axis=1)
        at = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
        low = np.minimum(at.astype(int), max(0, size - 2))
        share = at - low
        return np.asarray(values[:, low] * (1 - share) + values[:, np.minimum(low + 1, size - 1)] * share)

    def _norm(self, kernel: FloatArray, rows: np.ndarray, channels: np.ndarray) -> FloatArray:
        """What every kernel is divided by: the norm that the first call of the module stored, or its own before that call."""
        if "initialized" in self.layer and not np.asarray(self.layer.tensors["initialized"].read()).any():
            return np.asarray(np.linalg.norm(kernel, axis=1))
        norm = self.layer.array("norm").reshape(-1)
        return norm[rows if norm.size > self.layer.sizes["H"] else channels]


def read(layer: LayerTensors, options: ReadOptions) -> list[KernelSystem]:
    """One copy per channel and head.

    Raises:
        LayerError: kernels that are neither as many as rows of D nor twice as many, or a scale that is no natural number.
    """
    rows, heads, channels, size = (layer.sizes[letter] for letter in "cCHd")
    mode, more = str(MODE.value(layer, options)), float(SCALE.value(layer, options))
    if rows not in (heads, 2 * heads):
        raise LayerError(f"layer {layer.name}: {rows} kernels per channel and {heads} rows of D; expected as many, or twice as many")
    if more != int(more) or not 0 <= more <= MOST_SCALES:
        raise LayerError(f"layer {layer.name}: sgconv_init_scale is {more:g}, expected 0..{MOST_SCALES}")
    length = size * 2 ** (_scales(layer) - 1 + int(more))
    if more and mode.startswith("cat") and _scales(layer) > 1:
        length = sum(size * 2 ** (max(0, i - 1) + int(more)) for i in range(_scales(layer)))
    ahead = _Scales(layer, mode, int(more), length, heads * channels) if rows == 2 * heads else None
    cut = f"the whole kernel of {length} samples; the code cuts it to the length of its input"
    return explicit(layer, _Scales(layer, mode, int(more), length, 0), length, layer.array("D"), cut, ahead=ahead)


def _template(scales: int) -> Template:
    return {
        **{f"kernel{i}": Slot(f"kernel_list.{i}", "c H d") for i in range(scales)},
        "multiplier": Slot("multiplier", "1 H 1|"),
        "norm": Slot("kernel_norm", "H 1|c H 1"),
        "D": Slot("D", "C H"),
        "initialized": Slot("kernel_norm_initialized", "", optional=True),
        "decay": Slot("decay", "H", optional=True),
    }


SGCONV = Family(
    name="sgconv",
    title="SGConv, structured global convolution",
    source=f"{SOURCE}; arXiv 2210.09298",
    templates=tuple(_template(scales) for scales in range(MOST_SCALES, 0, -1)),
    read=read,
    fixed=FIXED,
    explicit=True,
    assumptions=(MODE, SCALE),
)
