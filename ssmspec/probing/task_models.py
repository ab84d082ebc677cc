"""Models of runs of `ssmspec train` as functions of their signal, and the metrics of their tasks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssmspec.nn.weighting import Weighting, fft_length, weighted
from ssmspec.probing.robustness import rows_in_batches
from ssmspec.training.banks.bank import mean_gelu
from ssmspec.training.banks.choices import bank_weighting
from ssmspec.training.kinds.classification import Classification
from ssmspec.training.tasks.denoise import Denoise
from ssmspec.training.tasks.forecast import Forecast, following
from ssmspec.training.tasks.moving_mnist import DIGITS, Moving
from ssmspec.training.tasks.waves import Waves

SCORED = 64  # examples that are answered at once


class InParts(ABC):
    """A task whose held-out examples are answered in parts."""

    @property
    @abstractmethod
    def _parts(self) -> Sequence[Any]:
        """The examples of each batch."""

    @property
    def batches(self) -> int:
        """The number of batches."""
        return len(self._parts)


class RootMeanSquare(InParts):
    """A task whose answers are mean squared errors of examples."""

    def value(self, answers: Sequence[Tensor]) -> float:
        """The root of the mean over examples."""
        return float(torch.cat(list(answers)).mean().sqrt())


@dataclass(frozen=True)
class RunTask(InParts):
    """The held-out sequences of a run, and its metric."""

    problem: Any

    @property
    def metric(self) -> str:
        """The first measure of the task."""
        return "accuracy" if isinstance(self.problem, Classification) else "explained"

    @property
    def meaning(self) -> str:
        """What it is, in words."""
        if isinstance(self.problem, Classification):
            return "share of held-out sequences whose class is predicted correctly"
        return "share of the held-out variance that is explained"

    @property
    def _parts(self) -> list[np.ndarray]:
        return list(rows_in_batches(self.problem.held_out, SCORED))

    def answer(self, batch: int) -> tuple[Tensor, Tensor]:
        """The loss and the answers of one batch."""
        kept: list[Tensor] = []
        handle = self.problem.model.register_forward_hook(lambda module, args, result: kept.append(result.detach()))
        try:
            loss = self.problem.loss(self.problem.batch_of(self._parts[batch]))
        finally:
            handle.remove()
        return loss, kept[0]

    def value(self, answers: Sequence[Tensor]) -> float:
        """The metric of all answers."""
        return float(self.problem.score(torch.cat(list(answers)).float(), self.problem.held_out))


def _filtered(u: Tensor, kernels: Tensor, weighting: Weighting, beta: float, step: float) -> Tensor:
    """u (B, H or 1, L) through causal kernels (H, L) with a Sobolev weight, cut to L: (B, H, L), differentiable in u."""
    length = u.shape[-1]
    n = fft_length(weighting, length, length)
    H = torch.fft.rfft(kernels, n)[None]
    exponent, steps = kernels.new_full((1, len(kernels)), beta, dtype=torch.float64), kernels.new_full((len(kernels), 1), step).double()
    if beta:
        H = weighted(H, exponent, steps, weighting, n)
    return torch.fft.irfft(torch.fft.rfft(u, n) * H, n)[..., :length]


class WholeWaves(nn.Module):
    """The model of `waves` as a function of its signal: (B, L, 1) to the amplitudes (B, J)."""

    def __init__(self, problem: Waves) -> None:
        super().__init__()
        self.model, self.settings = problem.model, problem.settings

    def forward(self, u: Tensor) -> Tensor:
        """The amplitudes of signals (B, L, 1)."""
        model: Any = self.model
        if self.settings.architecture == "mamba1":
            heard = model.layer(model.encoder(u).mT)
        else:
            x, weighting = u.mT, bank_weighting(self.settings)
            parts, ones = [(model.encoder.weight.reshape(1, -1), x)], torch.ones_like(x[:1])
            if model.encoder.bias is not None:
                parts.append((model.encoder.bias[None], ones))
            heard = torch.zeros(())
            for scale, signal in parts:
                kernels = model.layer.responses(scale, u.shape[1])[0]
                heard = heard + _filtered(signal, kernels, weighting, self.settings.beta, self.settings.step)
                if model.layer._parameters.get("D") is not None:
                    heard = heard + model.layer.D * scale.mT[None] * signal
        answer: Tensor = model.decoder(mean_gelu(heard))
        return answer


@dataclass(frozen=True)
class WavesTask:
    """The held-out mixtures of `waves`."""

    whole: WholeWaves
    signals: Tensor
    amplitudes: Tensor
    metric: str = "error"
    meaning: str = "mean absolute error of the amplitudes of all tones"

    @property
    def batches(self) -> int:
        """The number of batches."""
        return len(torch.split(self.signals, SCORED))

    def answer(self, batch: int) -> tuple[Tensor, Tensor]:
        """The loss and the errors of one batch."""
        rows = slice(batch * SCORED, (batch + 1) * SCORED)
        found = self.whole(self.signals[rows])
        return nn.functional.mse_loss(found, self.amplitudes[rows]), (found - self.amplitudes[rows]).abs().detach()

    def value(self, answers: Sequence[Tensor]) -> float:
        """The mean of all errors."""
        return float(torch.cat(list(answers)).mean())


class WholeDenoise(nn.Module):
    """The model of `denoise` as a function of its images: (B, L, 3) to (B, L, 3)."""

    def __init__(self, problem: Denoise) -> None:
        super().__init__()
        self.model, self.settings = problem.model, problem.settings

    def forward(self, u: Tensor) -> Tensor:
        """Images of flattened pixels (B, L, 3)."""
        kernels = self.model.layer.impulse_response(u.shape[1])
        heard = _filtered(u.mT, kernels, bank_weighting(self.settings), self.settings.beta, self.settings.step)
        y: Tensor = self.model.mixing(heard)
        return y.mT


@dataclass(frozen=True)
class ForecastTask(InParts):
    """The held-out parts of the series of `forecast`, with the pieces and the measure of a run."""

    problem: Forecast
    metric: str = "skill"
    meaning: str = "1 - squared error / that of the better of last value and mean of undisturbed series, held out; 0: no better"

    @cached_property
    def _parts(self) -> list[tuple[Tensor, int]]:
        return [part for row in self.problem.held_out() for part in self.problem.batches(int(row))]

    @cached_property
    def _baseline(self) -> float:
        return self.problem.baseline()

    def answer(self, batch: int) -> tuple[Tensor, Tensor]:
        """The loss and the squared errors of one batch of pieces, at the samples that are forecast for the measures."""
        pieces, heard = self._parts[batch]
        horizon = self.problem.settings.horizon
        wanted = following(pieces, horizon)[:, heard:]
        squares = (self.problem.model(pieces[:, :-horizon])[:, heard:].float() - wanted).square()
        return squares.mean(), squares.detach().double().flatten().cpu()

    def value(self, answers: Sequence[Tensor]) -> float:
        """The skill over all errors."""
        return 1 - float(torch.cat(list(answers)).mean()) / self._baseline


@dataclass(frozen=True)
class DenoiseTask(RootMeanSquare):
    """The images of `denoise`, which holds none out: how far the output for a disturbed image is from the clean one."""

    whole: WholeDenoise
    images: Tensor
    metric: str = "clean_error"
    meaning: str = "root mean square of output - undisturbed image, range -1..1, over the images of the task, which holds none out"

    @property
    def _parts(self) -> Sequence[Tensor]:
        return torch.split(self.images, 1)

    def answer(self, batch: int) -> tuple[Tensor, Tensor]:
        """The loss and the mean squared error of one image."""
        image = self._parts[batch]
        loss = (self.whole(image) - image).square().mean()
        return loss, loss.detach().double()[None].cpu()


class WholeVideo(nn.Module):
    """The model of `moving-mnist` as a function of frames whose values are channels: (B, L, V) to (B, L, V), V = 3 side side."""

    def __init__(self, problem: Moving) -> None:
        super().__init__()
        self.model, self.frame = problem.model, (-1, problem.settings.side, problem.settings.side)

    def forward(self, u: Tensor) -> Tensor:
        """Predicted frames of clips (B, L, V) in -1..1."""
        y: Tensor = self.model(u.reshape(*u.shape[:2], *self.frame))
        return y.flatten(2)


@dataclass(frozen=True)
class VideoTask(RootMeanSquare):
    """The held-out clips of `moving-mnist`: the error of the next frame after the context, as in a run, of both digits together."""

    whole: WholeVideo
    problem: Moving
    metric: str = "error"
    meaning: str = "root mean square error of both digits in the next undisturbed frame, held out, in 0..1"

    @cached_property
    def _parts(self) -> list[Tensor]:
        return [self.problem.held_out_clips(first, count) for first, count in self.problem.parts()]

    def answer(self, batch: int) -> tuple[Tensor, Tensor]:
        """The loss, and the mean squared error (b,) of each clip in 0..1."""
        clips, context = self._parts[batch], self.problem.settings.context
        found = self.whole(clips[:, :-1].flatten(2)).reshape(clips[:, 1:].shape)
        difference = (found - clips[:, 1:])[:, context:, list(DIGITS.values())] / 2  # values are in -1..1
        squares = difference.square().mean(dim=(1, 2, 3, 4))
        return squares.mean(), squares.detach().double().cpu()
