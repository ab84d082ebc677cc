"""A bank with frozen poles: the responses of its modes to constant inputs, and their scalar products, which a quadratic loss needs."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssmspec.nn.kernel_dft import Diagonal
from ssmspec.nn.weighting import Weighting, fft_length, weighted
from ssmspec.systems.statespace import FloatArray
from ssmspec.training.banks.bank import Bank

CHUNK = 2**22  # samples of mode responses that are transformed at once
KEPT = 2**24  # transforms of modes are kept between inputs up to this many frequencies in all modes, 256 MB
SMALLEST = 1e-12  # relative eigenvalues of a scaled Gram matrix below this are rounding errors


class Products(NamedTuple):
    """Products for I inputs with H channels: of the S signals with each other (I, S, S) and with the channels (I, S, H); energies (I,)."""

    gram: Tensor
    cross: Tensor
    energy: Tensor


class FrozenBank:
    """The S = 2NH + 1 signals that a linear model around a frozen bank combines.

    Args:
        bank: H systems with N modes. Only its poles and its step are used. length: L [samples].
        weighting: the Sobolev weighting. beta: its exponent.
    """

    def __init__(self, bank: Bank, length: int, weighting: Weighting, beta: float) -> None:
        system: Diagonal = bank.kernel.system()
        self.poles, self.step = system.poles.detach(), system.step.detach()
        self.length, self.weighting, self.beta = length, weighting, beta
        self.n = fft_length(weighting, length, length)
        self._kept: list[list[tuple[slice, Tensor]]] = []
        if self.poles.numel() * self.n <= KEPT:
            self._kept = [list(self._mode_spectra(channel)) for channel in range(len(self.poles))]

    def signals(self, inputs: Tensor) -> Tensor:
        """Weighted responses of every mode with residue 1, (S, L) float64.

        The rows are Re of N modes and Im of N modes for each channel, and a last row of ones.

        Args:
            inputs: (H, L).
        """
        H, N = self.poles.shape
        result = torch.ones(2 * N * H + 1, self.length, dtype=torch.float64, device=self.poles.device)
        for channel, source in enumerate(self._weighted(inputs)):
            modes: Iterable[tuple[slice, Tensor]] = self._kept[channel] if self._kept else self._mode_spectra(channel)
            for rows, spectra in modes:
                result[rows] = torch.fft.irfft(spectra * source, self.n)[..., : self.length]
        return result

    def products(self, inputs: Sequence[Tensor]) -> Products:
        """The scalar products for every input, each (H, L), in float64."""
        found = []
        for each in inputs:
            signals, target = self.signals(each), each.to(self.step)
            found.append((signals @ signals.T, signals @ target.T, target.square().sum()))
        gram, cross, energy = zip(*found, strict=True)
        return Products(torch.stack(gram), torch.stack(cross), torch.stack(energy))

    def _weighted(self, inputs: Tensor) -> Tensor:
        spectra = torch.fft.rfft(inputs.to(self.step), self.n)
        beta = self.step.new_full((1, 1), self.beta)
        return weighted(spectra[None], beta, self.step, self.weighting, self.n)[0]

    def _mode_spectra(self, channel: int) -> Iterator[tuple[slice, Tensor]]:
        """Indices among the signals, and transforms of Re or Im of some modes."""
        exponents = (self.poles * self.step)[channel, :, None]
        gains = torch.expm1(exponents) / self.poles[channel, :, None]
        time = torch.arange(self.length, dtype=torch.float64, device=self.step.device)
        N, size = len(exponents), max(1, CHUNK // self.n)
        for first in range(0, N, size):
            last = min(first + size, N)
            kernels = gains[first:last] * torch.exp(exponents[first:last] * time)
            for half, part in enumerate((kernels.real, kernels.imag)):
                start = (2 * channel + half) * N
                yield slice(start + first, start + last), torch.fft.rfft(part, self.n)


def least_squares(gram: FloatArray, cross: FloatArray) -> FloatArray:
    """The smallest x with gram x = cross, after the signals are scaled to unit energy. A signal without energy gets zero.

    Args:
        gram: (S, S). cross: (S,).
    """
    size = np.sqrt(np.diag(gram))
    scale = np.where(size > 0, 1 / np.where(size > 0, size, 1), 0)
    solution = np.linalg.lstsq(gram * scale * scale[:, None], cross * scale, rcond=SMALLEST)[0]
    return np.asarray(solution * scale, float)
