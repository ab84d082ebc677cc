"""What the features carry: power spectra of what blocks give, over time or over height and width."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ssmspec.probing.transforms import TINY, Axes, OverPixels, OverTime, picture, theta_of
from ssmspec.statistics.frequency_sensitivity import FeatureSpectrum
from ssmspec.systems.grid import FloatArray


@dataclass
class _Sums:
    """Of one block: theta, and per input the means over channels of the power and of ln(|DFT| + TINY)."""

    theta: FloatArray
    power: list[Tensor] = field(default_factory=list)
    logarithms: list[Tensor] = field(default_factory=list)
    note: str = ""


class FeatureSums:
    """Collects spectra of blocks over batches.

    Args:
        axes: "L" or "HW". grid, extra: as in `OverPixels`.
    """

    def __init__(self, axes: str, grid: tuple[int, int] | None, extra: int | None) -> None:
        self.axes, self.grid, self.extra = axes, grid, extra
        self._sums: dict[str, _Sums] = {}
        self.skipped: dict[str, str] = {}

    def add(self, name: str, output: Tensor, axes: Axes) -> None:
        """Add what a block gives for a batch; an output that has no such axes is skipped with its reason.

        Args:
            axes: of the signal.
        """
        if not output.is_floating_point():
            self.skipped[name] = "its output is not real"
            return
        found = self._ordered(output, axes)
        if isinstance(found, str):
            self.skipped[name] = f"its output: {found}"
            return
        x, own, note = found
        values, factor = own.power(x, windowed=self.axes == "L")
        power = values.double().sum(dim=-1) * factor
        sums = self._sums.setdefault(name, _Sums(theta_of(power.shape[-1], own.length), note=note))
        sums.power.append(power.mean(dim=1).cpu())
        amplitude = (power * x[0, 0].numel()).sqrt()  # of the DFT; with a window, its mean square is divided out
        sums.logarithms.append((amplitude + TINY).log().mean(dim=1).cpu())

    def _ordered(self, output: Tensor, axes: Axes) -> tuple[Tensor, Axes, str] | str:
        if self.axes == "L":
            x = axes.ordered(output) if isinstance(axes, OverTime) else "the signal has no time axis"
            return x if isinstance(x, str) else (x, axes, "Hann window")
        if isinstance(axes, OverTime) and output.ndim == 3:
            tokens = axes.ordered(output)
            output = output if isinstance(tokens, str) else tokens.transpose(1, 2)
        pixels, note = picture(output, self.grid, self.extra)
        return pixels if isinstance(pixels, str) else (pixels, OverPixels(min(pixels.shape[2:])), note)

    def spectra(self) -> tuple[FeatureSpectrum, ...]:
        """The spectra of the blocks, in the order in which the model calls them."""
        found = []
        for name, own in self._sums.items():
            logarithms = torch.cat(own.logarithms).numpy()
            error = logarithms.std(axis=0, ddof=1) / np.sqrt(len(logarithms)) if len(logarithms) > 1 else None
            mean = torch.cat(own.power).mean(dim=0).numpy()
            notes = (own.note,) if own.note else ()
            found.append(FeatureSpectrum(name, self.axes, own.theta, mean, logarithms.mean(axis=0), error, notes))
        return tuple(found)
