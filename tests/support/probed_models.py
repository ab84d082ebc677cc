"""Models whose frequency sensitivity is known, in float64."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn


class Filter(nn.Module):
    """A causal convolution with kernels (O, I, T), (B, L, I) to (B, L, O), by FFTs with zero padding; or only its last or mean sample."""

    def __init__(self, kernel: np.ndarray, keep: str = "all") -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.from_numpy(np.atleast_3d(kernel) if kernel.ndim == 3 else kernel.reshape(1, 1, -1)))
        self.keep = keep

    def forward(self, u: Tensor) -> Tensor:
        length = u.shape[1]
        n = 2 * max(length, self.kernel.shape[-1])
        spectrum = torch.einsum("oif,bfi->bfo", torch.fft.rfft(self.kernel, n), torch.fft.rfft(u, n, dim=1))
        y = torch.fft.irfft(spectrum, n, dim=1)[:, :length]
        return {"all": y, "last": y[:, -1], "mean": y.mean(1)}[self.keep]


def low_pass(order: int, pole: float, length: int) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """The kernel of a cascade of one-pole low passes (T,), by its recurrence, and |H|^2 of theta in closed form."""
    kernel = np.zeros(length)
    kernel[0] = 1.0
    for _ in range(order):
        state = 0.0
        for step in range(length):
            state = pole * state + (1 - pole) * kernel[step]
            kernel[step] = state
    return kernel, lambda theta: ((1 - pole) ** 2 / np.abs(1 - pole * np.exp(-1j * theta)) ** 2) ** order


class Squashed(nn.Module):
    """A nonlinear model with memory: (B, L, C) to (B, outputs)."""

    def __init__(self, channels: int, outputs: int, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.mix = nn.Conv1d(channels, 6, 5, padding=2).double()
        self.blocks = nn.ModuleList([nn.Conv1d(6, 6, 3, padding=1).double() for _ in range(2)])
        self.head = nn.Linear(6, outputs).double()

    def forward(self, u: Tensor) -> Tensor:
        x = self.mix(u.transpose(1, 2))
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.head((x * torch.linspace(0, 1, x.shape[2], dtype=x.dtype)).mean(2))


def spectrum(kernel: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """H of kernels (..., T) at theta (F,), by the sum that defines it."""
    return kernel @ np.exp(-1j * np.arange(kernel.shape[-1])[:, None] * theta)
