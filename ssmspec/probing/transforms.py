"""Power spectra of gradients and activations: which axes are time or height and width, the window, and the DFT."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ssmspec.errors import SsmspecError
from ssmspec.systems.grid import FloatArray

LAYOUTS = ("BLC", "BCL", "LBC", "BL")
PICTURE = "BCHW"
TINY = 1e-6  # added to amplitudes before their logarithm, as in the source of `FeatureSpectrum`


class Axes(Protocol):
    """The axes over which S and the spectra of features are taken: time, or height and width."""

    @property
    def length(self) -> int:
        """L of theta_k = 2 pi k/L."""

    def batch_axis(self, y: Tensor) -> int:
        """Which axis of an output counts the examples."""

    def steps_in(self, sizes: Sequence[int]) -> bool:
        """Whether the other axes of an output, of these sizes, hold every step."""

    def ordered(self, x: Tensor) -> Tensor | str:
        """A tensor with its channels before these axes, or the reason why it has no such axes."""

    def power(self, x: Tensor, *, windowed: bool, largest: float | None = None) -> tuple[Tensor, float]:
        """|DFT|^2 of an ordered tensor per sample and mean square of the window, (B, C, F), as summands (B, C, F, n) and a factor on them.

        Args:
            largest: about the largest |x|, by which the samples are scaled; by default that of x, which takes another pass over it.
        """


@dataclass(frozen=True, slots=True)
class OverTime:
    """Axes B examples, L samples, C channels, in an order such as "BLC".

    Args:
        layout: of the signal. That of other tensors follows from their sizes, and is the same where these do not tell. length: L.
    """

    layout: str
    length: int

    def batch_axis(self, y: Tensor) -> int:
        """Which axis of an output counts the examples."""
        return 1 if self.layout == "LBC" and y.ndim == 3 and y.shape[0] == self.length else 0

    def steps_in(self, sizes: Sequence[int]) -> bool:
        """Whether the other axes of an output, of these sizes, hold every step."""
        return self.length in sizes

    def ordered(self, x: Tensor) -> Tensor | str:
        """A tensor as (B, C, L), or the reason why it is none. Of (B, L, ..), all further axes are channels."""
        x = x.flatten(2) if x.ndim > 3 and x.shape[1] == self.length else x
        layout = self._layout(x)
        if layout is None:
            return f"its shape is {tuple(x.shape)}, without an axis of {self.length} samples"
        return x[:, None] if layout == "BL" else x.permute([layout.index(letter) for letter in "BCL"])

    def placed(self, changed: Tensor, x: Tensor) -> Tensor:
        """A tensor (B, C, L) in the order of the axes of x, as the inverse of `ordered`."""
        layout = self._layout(x) or "BCL"
        return changed[:, 0] if layout == "BL" else changed.permute(["BCL".index(letter) for letter in layout])

    def _layout(self, x: Tensor) -> str | None:
        if x.ndim == 2 and x.shape[1] == self.length:
            return "BL"
        own = "BLC" if self.layout == "BL" else self.layout
        fitting = (layout for layout in (own, "BLC", "BCL") if x.ndim == 3 and x.shape[layout.index("L")] == self.length)
        return next(fitting, None)

    def power(self, x: Tensor, *, windowed: bool, largest: float | None = None) -> tuple[Tensor, float]:
        """Of (B, C, L): |sum_t w_t x_t exp(-i theta_k t)|^2/(L mean w^2), k = 0..L//2; w is Hann or 1.

        The samples are scaled, so that their squares in float32 neither overflow nor underflow. The squares of real and imaginary part are
        left apart, and in the type of the samples: to add or convert them before the sums over channels would take as long as the DFT.

        Args:
            largest: about the largest |x|, by which samples are scaled; by default that of x.
        """
        x = wide(x)
        if largest is None:
            low, high = torch.aminmax(x)
            largest = float(torch.maximum(-low, high))
        if not 0 < largest < float("inf"):
            return x.new_ones(*x.shape[:2], self.length // 2 + 1, 1), largest
        window, square = _hann(self.length, x.device) if windowed else (x.new_ones(1, dtype=torch.float64), 1.0)
        spectrum = torch.fft.rfft(x * (window / largest).to(x.dtype), dim=-1)
        squares = torch.view_as_real(spectrum).square_()
        return squares, largest**2 / (self.length * square)


@lru_cache(maxsize=8)
def _hann(length: int, device: torch.device) -> tuple[Tensor, float]:
    """A window in float64, and its mean square."""
    window = torch.hann_window(length, dtype=torch.float64, device=device)
    return window, float(window.square().mean())


@dataclass(frozen=True, slots=True)
class OverPixels:
    """Height and width of pictures, along the half diagonal from zero to Nyquist; theta is that of either axis.

    Args:
        length: the smaller of the height and the width of the signal. grid: height and width of tokens; None takes a square.
        extra: place of a token that belongs to no pixel, such as that of the class; None assumes the first where T - 1 is a square.
    """

    length: int
    grid: tuple[int, int] | None = None
    extra: int | None = None

    def batch_axis(self, y: Tensor) -> int:
        """Which axis of an output counts the examples."""
        return 0

    def steps_in(self, sizes: Sequence[int]) -> bool:
        """Whether the other axes of an output, of these sizes, hold every pixel."""
        return list(sizes).count(self.length) > 1

    def ordered(self, x: Tensor) -> Tensor | str:
        """A tensor as (B, C, H, W), or the reason why it is none."""
        pixels = picture(x, self.grid, self.extra)[0]
        if not isinstance(pixels, str) and min(pixels.shape[2:]) != self.length:
            return f"it has {pixels.shape[2]} x {pixels.shape[3]} pixels, and the signal {self.length}"
        return pixels

    def power(self, x: Tensor, *, windowed: bool, largest: float | None = None) -> tuple[Tensor, float]:
        """Of (B, C, H, W): |DFT|^2/(H W mean w^2), (B, C, F). The diagonal ends in the corner of the picture."""
        x = wide(x)
        height, width = x.shape[-2:]
        scale = float(height * width)
        if windowed:
            (rows, first), (columns, second) = (_hann(size, x.device) for size in (height, width))
            x, scale = x * (rows[:, None] * columns).to(x.dtype), scale * first * second
        count = min(height, width)
        steps = torch.arange(count // 2 + 1, device=x.device)
        spectrum = torch.fft.fft2(x)[..., steps * height // count, steps * width // count]
        return torch.view_as_real(spectrum).double().square(), 1 / scale


def theta_of(count: int, length: int) -> FloatArray:
    """(count,) 2 pi k/L [rad/sample]."""
    return 2 * np.pi * np.arange(count) / length


def axes_of(signal: Tensor, layout: str, grid: tuple[int, int] | None = None, extra: int | None = None) -> Axes:
    """The axes of a signal.

    Args:
        layout: of the signal, one of `LAYOUTS`; pictures have four axes, "BCHW". grid, extra: see `OverPixels`.
    Raises:
        SsmspecError: the layout is unknown, or has another number of axes.
    """
    if layout not in (*LAYOUTS, PICTURE):
        raise SsmspecError(
            f"layout {layout!r} is unknown; choose one of {', '.join(LAYOUTS)}: B examples, L samples, C channels; {PICTURE}"
        )
    if signal.ndim == 4 and layout in ("BLC", PICTURE):
        return OverPixels(min(signal.shape[2:]), grid, extra)
    layout = "BL" if signal.ndim == 2 and layout == "BLC" else layout
    if signal.ndim != len(layout):
        raise SsmspecError(
            f"the signal has shape {tuple(signal.shape)}, and layout {layout} has {len(layout)} axes; "
            "expected (B, L, C), pictures (B, C, H, W), or another layout with layout="
        )
    return OverTime(layout, signal.shape[layout.index("L")])


def wide(x: Tensor) -> Tensor:
    """A tensor in float32, or float64 if it is."""
    return x if x.dtype == torch.float64 else x.float()


def picture(x: Tensor, grid: tuple[int, int] | None, extra: int | None) -> tuple[Tensor | str, str]:
    """Activations (B, C, H, W), or (B, T, C) with T = H W tokens row by row, as pictures, or why they are none; and what was assumed.

    Args:
        grid, extra: see `OverPixels`.
    """
    if x.ndim == 4:
        return x, ""
    if x.ndim != 3:
        return f"its shape is {tuple(x.shape)}; expected (B, C, H, W) or (B, tokens, C)", ""
    tokens, note = x.shape[1], ""
    wanted = None if grid is None else grid[0] * grid[1]
    if extra is None and (tokens - 1 == wanted or (wanted is None and not _square(tokens) and _square(tokens - 1))):
        extra, note = 0, "the first token is taken as that of the class and left out"
    if extra is not None:
        x = torch.cat([x[:, :extra], x[:, extra + 1 :]], dim=1)
    count = x.shape[1]
    if grid is None:
        if not _square(count):
            return f"its {tokens} tokens form no square; give grid=(height, width)", ""
        grid = (math.isqrt(count), math.isqrt(count))
        note = f"{note}; " * bool(note) + f"{count} tokens are taken as {grid[0]} x {grid[1]}, row by row"
    if grid[0] * grid[1] != count:
        return f"its {tokens} tokens are not {grid[0]} x {grid[1]}", ""
    return x.transpose(1, 2).reshape(len(x), -1, *grid), note


def _square(count: int) -> bool:
    return count > 3 and math.isqrt(count) ** 2 == count
