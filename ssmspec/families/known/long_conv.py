"""Long convolutions whose kernel is a parameter: LongConv, and ConvKernel of S4 v4 with the same names.

    y[c, h] = D[c, h] u[h] + k[c, h] * u[h],   k = sign(w) max(|w| - lam, 0)

ConvKernel has no shrinkage: lam = 0. Two directions have twice as many kernels as rows of D: the first half is causal, the second acts on
later inputs (see `ssmspec.families.kernel_sources`). LongConv may smooth w before, by a moving average over lags or, without normalization,
by a Gaussian over the bins of its FFT. Where it is not causal, w has 2 L samples of a circular convolution over 2 L, of which inputs of L
samples reach the lags -(L - 1)..L - 1: lag -m is sample 2 L - m.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.families.assumption import Assumption
from ssmspec.families.kernel_sources import FIXED, StoredKernel, explicit, number_in, truth_in
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.kernel import KernelSystem
from ssmspec.systems.statespace import FloatArray

SOURCE = "HazyResearch/safari, src/models/sequence/long_conv_kernel.py, LongConvKernel"


def _told(layer: LayerTensors, config: Mapping[str, object]) -> tuple[float, str] | None:
    return number_in(config, "lam", "kernel_lam", "long_conv_lam")


LAM = Assumption(
    name="longconv_lam",
    about="how much every sample is shrunk toward zero",
    values=("0",),
    typical=0.1,
    source=f"{SOURCE} (lam); state-spaces/s4, src/models/sequence/kernels/kernel.py, ConvKernel (none)",
    told_by="lam of the configuration",
    told=_told,
    keys=("lam", "kernel_lam", "long_conv_lam"),
    required=True,
    published="longconv_lam=0 for ConvKernel of S4, 0.1 for the default of LongConv in safari, 0.003 or less in its experiments",
)


def _smoothing(layer: LayerTensors, config: Mapping[str, object]) -> tuple[str, str] | None:
    smooth, over_bins = truth_in(config, "use_ma_smoothing"), truth_in(config, "smooth_freq")
    if smooth is None or not smooth[0]:
        return None if smooth is None else ("none", smooth[1])
    return ("frequency" if over_bins is not None and over_bins[0] else "time"), smooth[1]


SMOOTHING = Assumption(
    name="longconv_smoothing",
    about="whether the stored numbers are smoothed before they are shrunk, over lags or over frequencies",
    values=("none", "time", "frequency"),
    source=f"{SOURCE} (use_ma_smoothing, smooth_freq): none by default",
    told_by="use_ma_smoothing and smooth_freq of the configuration",
    told=_smoothing,
    keys=("use_ma_smoothing", "smooth_freq"),
    quiet=True,
)
WINDOW = Assumption(
    name="longconv_window",
    about="how many numbers are smoothed together",
    values=("7",),
    typical=5,
    source=f"{SOURCE} (ma_window_len): 7 by default",
    told_by="ma_window_len of the configuration",
    told=lambda layer, config: number_in(config, "ma_window_len"),
    keys=("ma_window_len",),
    matters=lambda layer, options: SMOOTHING.value(layer, options) != "none",
)
CAUSAL = Assumption(
    name="longconv_causal",
    about="whether outputs depend on earlier inputs only",
    values=("true", "false"),
    source=f"{SOURCE} (causal): true by default",
    told_by="causal of the configuration",
    told=lambda layer, config: None if (found := truth_in(config, "causal")) is None else (str(found[0]).lower(), found[1]),
    keys=("causal",),
    quiet=True,
)


@dataclass(frozen=True, slots=True)
class _Change:
    """From the stored numbers of some rows, (k, L), to samples; see the module for the names."""

    lam: float
    smoothing: str
    window: int
    causal: bool

    def __call__(self, values: FloatArray) -> FloatArray:
        if self.smoothing == "time":
            values = self._windows(values).mean(axis=2)
        elif self.smoothing == "frequency":
            weights = np.exp(-0.5 * (np.arange(self.window) - self.window // 2) ** 2.0)
            values = np.fft.irfft(self._windows(np.fft.rfft(values, axis=1)) @ weights, axis=1)
        half = values.shape[1] // 2
        values = values if self.causal else np.concatenate([values[:, half + 1 :], values[:, :half]], axis=1)
        return np.sign(values) * np.maximum(np.abs(values) - self.lam, 0) if self.lam else values

    def _windows(self, values: np.ndarray) -> np.ndarray:
        """The neighbors of every number, zero beyond the ends, (k, n, window)."""
        before = (self.window - 1) // 2
        padded = np.pad(values, ((0, 0), (before, self.window - 1 - before)))
        return np.lib.stride_tricks.sliding_window_view(padded, self.window, axis=1)


def read(layer: LayerTensors, options: ReadOptions) -> list[KernelSystem]:
    """One copy per channel and head.

    Raises:
        LayerError: a shrinkage below zero or a window that is none, kernels that are neither as many as rows of D nor twice as many, or
            two directions that are not causal.
    """
    lam, smoothing, causal = float(LAM.value(layer, options)), str(SMOOTHING.value(layer, options)), CAUSAL.value(layer, options) == "true"
    window = float(WINDOW.value(layer, options)) if smoothing != "none" else 1.0
    rows, heads, channels, stored = (layer.sizes[letter] for letter in ("c", "C", "H", "L"))
    if lam < 0:
        raise LayerError(f"layer {layer.name}: longconv_lam is {lam:g}, expected at least 0")
    if window != int(window) or not 0 < window <= stored or (smoothing == "time" and window % 2 == 0):
        expected = f"{'an odd' if smoothing == 'time' else 'a whole'} number up to {stored}"
        raise LayerError(f"layer {layer.name}: longconv_window is {window:g}, expected {expected}")
    if rows not in (heads, 2 * heads):
        raise LayerError(f"layer {layer.name}: {rows} kernels per channel and {heads} rows of D; expected as many, or twice as many")
    if not causal and (rows != heads or stored % 2):
        what = "a kernel of two directions" if rows != heads else f"a kernel of {stored} samples, which is no even number,"
        raise LayerError(f"layer {layer.name}: longconv_causal is false, and {what} is made for that by no published code")
    length = stored - (smoothing == "frequency" and stored % 2)  # an inverse FFT of its usual, even size
    change = _Change(lam, smoothing, int(window), causal)
    source, later = (StoredKernel(layer, "kernel", stored, change=change, first=first) for first in (0, heads * channels))
    if causal:
        return explicit(layer, source, length, layer.array("D"), ahead=later if rows == 2 * heads else None)
    text = f"not causal: the kernel looks ahead, as it does for inputs of {stored // 2} samples"
    return [replace(system, first_lag=1 - stored // 2) for system in explicit(layer, source, stored - 1, layer.array("D"), text)]


LONG_CONV = Family(
    name="long-conv",
    title="LongConv, and ConvKernel of S4 v4",
    source="HazyResearch/safari, src/models/sequence/long_conv.py, long_conv_kernel.py; state-spaces/s4, "
    "src/models/sequence/kernels/kernel.py, ConvKernel",
    templates=({"kernel": Slot("kernel.kernel", "c H L"), "D": Slot("D", "C H")},),
    read=read,
    fixed=FIXED,
    explicit=True,
    assumptions=(LAM, SMOOTHING, WINDOW, CAUSAL),
)
