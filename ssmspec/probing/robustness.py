"""What disturbances of equal energy in each band of frequencies do to the metric of a task: random noise, or one step of an adversary."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ssmspec.errors import SsmspecError
from ssmspec.probing.entry import Entry
from ssmspec.probing.passes import Progress
from ssmspec.probing.prepared import prepared
from ssmspec.probing.transforms import OverTime, axes_of
from ssmspec.statistics.frequency_sensitivity import BandEffect, Robustness, band_edges, bins_in

FORM = '"bands=8 snr=20,10,0", with per_octave=2 for half octaves and seeds=5 for the number of draws'
MOST_SEEDS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """What is added to the signal.

    Args:
        bands: number of bands down from pi; None takes those above 16 pi/L. per_octave: bands of an octave.
        snr: power of the signal about its mean over time, over that of the disturbance [dB]. seeds: draws of noise.
    """

    bands: int | None = None
    per_octave: int = 1
    snr: tuple[float, ...] = (20.0, 10.0, 0.0)
    seeds: int = 3

    @classmethod
    def parsed(cls, text: str, option: str) -> "Disturbance":
        """From text such as "bands=8 snr=20,10,0".

        Raises:
            SsmspecError: a part is not understood, or a number is out of range.
        """
        values: dict[str, str] = {}
        for part in text.split():
            key, equals, value = part.partition("=")
            if not equals or key not in ("bands", "per_octave", "snr", "seeds") or key in values:
                raise SsmspecError(f"{option} {text!r}: {part!r} is not understood; write it like {FORM}")
            values[key] = value
        counts = {key: value for key, value in values.items() if key != "snr"}
        for key, value in counts.items():
            if not re.fullmatch(r"[1-9][0-9]{0,2}", value):
                raise SsmspecError(f"{option} {text!r}: {key} is {value!r}; expected a number from 1 to 999")
        found: dict[str, Any] = {key: int(value) for key, value in counts.items()}
        try:
            levels = tuple(float(value) for value in values["snr"].split(",")) if "snr" in values else cls().snr
        except ValueError:
            levels = (float("nan"),)
        if not all(-200 <= level <= 200 for level in levels):
            raise SsmspecError(f"{option} {text!r}: snr is {values['snr']!r}; expected numbers of dB between -200 and 200, with commas")
        return cls(snr=levels, **found)

    def edges(self, length: int) -> list[tuple[float, float]]:
        """[low, high) of the bands, from low to high; the highest includes pi.

        Raises:
            SsmspecError: a band has no bin of the DFT.
        """
        count = max(1, len(band_edges(length, self.per_octave)) - 2) if self.bands is None else self.bands
        found = [(np.pi * 2.0 ** (-(n + 1) / self.per_octave), np.pi * 2.0 ** (-n / self.per_octave)) for n in range(count)]
        for number, band in enumerate(found, start=1):
            if not bins_in(*band, length).any():
                needed = int(np.ceil(2 * 2 ** (count / self.per_octave)))
                raise SsmspecError(
                    f"band {number} of {count}, [{band[0]:.3g}, {band[1]:.3g}) rad/sample, has no bin of the DFT of {length} samples; "
                    f"give at most {number - 1} bands, or inputs of about {needed} samples"
                )
        return found[::-1]


class Scored(Protocol):
    """A task with a metric: batches of examples for which the model answers."""

    @property
    def metric(self) -> str:
        """Its name."""

    @property
    def meaning(self) -> str:
        """What it is, in words."""

    @property
    def batches(self) -> int:
        """The number of batches."""

    def answer(self, batch: int) -> tuple[Tensor, Tensor]:
        """Call the model once: the loss, a scalar that an adversary raises, and the answers."""

    def value(self, answers: Sequence[Tensor]) -> float:
        """The metric of the answers to all batches."""


def restricted(x: Tensor, band: tuple[float, float]) -> Tensor:
    """The part of (B, C, L) in a band."""
    length = x.shape[-1]
    spectrum, kept = torch.fft.rfft(x, dim=-1), torch.zeros(length // 2 + 1, dtype=x.dtype, device=x.device)
    kept[torch.from_numpy(bins_in(*band, length)).to(x.device)] = 1
    return torch.fft.irfft(spectrum * kept, length, dim=-1)


def scaled(change: Tensor, signal: Tensor, level: float) -> Tensor:
    """A change (B, C, L) whose mean square in every example is that of the signal about its mean over time, `level` dB below it."""
    power = (signal - signal.mean(dim=-1, keepdim=True)).square().mean(dim=(1, 2), keepdim=True)
    own = change.square().mean(dim=(1, 2), keepdim=True)
    return change * torch.where(own > 0, power / own.clamp_min(torch.finfo(own.dtype).tiny), 0).sqrt() * 10 ** (-level / 20)


@dataclass(frozen=True, slots=True)
class Robust:
    """Measures the metric of a task under disturbances.

    Args:
        model: that the task calls. entry: where its signal enters. task: with the metric. layout: of the signal. seed: of the first draw.
    """

    model: nn.Module
    entry: Entry
    task: Scored
    layout: str = "BLC"
    seed: int = 0

    def noise(self, asked: Disturbance, progress: Progress) -> Robustness:
        """The metric with random noise in one band at a time, over seeds.

        Raises:
            SsmspecError: a band has no bin, or the signal has no time axis.
        """
        notes = ("noise of fixed energy in one band at a time, added to the signal where it enters",)
        return self._over_bands("noise", asked, asked.seeds, notes, progress, self._with_noise)

    def attack(self, asked: Disturbance, progress: Progress) -> Robustness:
        """The metric after one gradient step of fixed energy in one band at a time, which raises the loss."""
        notes = ("the gradient of the loss with respect to the signal, restricted to one band and scaled to fixed energy; one step",)
        return self._over_bands("attack", asked, 1, notes, progress, self._with_step)

    def _over_bands(
        self,
        kind: str,
        asked: Disturbance,
        seeds: int,
        notes: tuple[str, ...],
        progress: Progress,
        disturbed: Callable[[int, tuple[float, float], float, int], Tensor],
    ) -> Robustness:
        with prepared(self.model):
            signals: list[Tensor] = []
            with torch.no_grad(), self.entry.changed(self.model, lambda x: signals.append(x) or x):  # type: ignore[func-returns-value]
                clean = self.task.value([self.task.answer(batch)[1] for batch in range(self.task.batches)])
            bands = asked.edges(min(self._axes(signal).length for signal in signals))
            jobs = [(band, level) for band in bands for level in asked.snr]
            effects = []
            for done, (band, level) in enumerate(jobs):
                progress(f"{kind} at {level:g} dB", done, len(jobs))
                values = [
                    self.task.value([disturbed(batch, band, level, self.seed + seed) for batch in range(self.task.batches)])
                    for seed in range(seeds)
                ]
                effects.append(BandEffect(band[0], band[1], level, tuple(values)))
        return Robustness(kind, self.task.metric, self.task.meaning, clean, tuple(effects), notes)

    def _axes(self, signal: Tensor) -> OverTime:
        axes = axes_of(signal, self.layout)
        if not isinstance(axes, OverTime):
            raise SsmspecError(f"the signal has shape {tuple(signal.shape)}, without a time axis; bands need one")
        return axes

    def _added(self, change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """A function of (B, C, L) that is added to the signal, in the layout of the signal."""

        def changed(x: Tensor) -> Tensor:
            axes = self._axes(x)
            ordered = axes.ordered(x)
            assert isinstance(ordered, Tensor)
            return axes.placed(ordered + change(ordered), x)

        return changed

    def _with_noise(self, batch: int, band: tuple[float, float], level: float, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 100_003 + batch)

        def change(x: Tensor) -> Tensor:
            drawn = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
            return scaled(restricted(drawn, band), x, level)

        with torch.no_grad(), self.entry.changed(self.model, self._added(change)):
            return self.task.answer(batch)[1]

    def _with_step(self, batch: int, band: tuple[float, float], level: float, seed: int) -> Tensor:
        leaves: list[Tensor] = []

        def leaf(x: Tensor) -> Tensor:
            leaves.append(x.detach().clone().requires_grad_())
            return leaves[-1].clone()

        with self.entry.changed(self.model, leaf):
            loss = self.task.answer(batch)[0]
        gradient = self._axes(leaves[0]).ordered(torch.autograd.grad(loss, leaves[0])[0])
        assert isinstance(gradient, Tensor)
        step = restricted(gradient / gradient.abs().amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny), band)
        with torch.no_grad(), self.entry.changed(self.model, self._added(lambda x: scaled(step, x, level))):
            return self.task.answer(batch)[1]


def rows_in_batches(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Numbers of examples, a few at a time."""
    yield from (rows[first : first + size] for first in range(0, len(rows), size))
