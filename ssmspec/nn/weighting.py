"""The Sobolev weights of `ssmspec.systems.sobolev` inside a layer: differentiable, and on the FFT length that each convention uses.

    convention   weight at theta_k = 2 pi k/n                        FFT length n
    lra          (1 + k/n)^beta                                      L_kernel + L
    paper        (1 + theta/Delta)^beta                              L_kernel + L
    angular      (1 + theta/theta_ref)^beta                          L_kernel + L
    denoising    [w(k) + w(k-1)]/2, w(k) = (1 + k/1e4)^beta          2L     w(0) at DC, w(L-1) at Nyquist
    waves        [w(k) + w(L-k)]/2, w as above                       L      w(0) at DC; circular, without zero padding
    causal       [(1 - rho e^{-i theta})/(1 - rho)]^beta             2L     rho = exp(-2 asinh(theta_ref/2)); as taps, truncated at L

All but `causal` are real and even in theta, so the output also depends on later inputs. `denoising` and `waves` multiply both sides of a
full FFT by a ramp and take the real part, which for a real signal is equivalent to the weight in the table.

"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ssmspec.systems.sobolev import RAMP, Convention

WITH_REFERENCE = ("angular", "causal")
FORGOTTEN = 60.0  # taps are dropped when rho^l has decayed by so many nats (1e-26), which allows for a growth l^(-beta-1) with beta >= -3


class Weighting(NamedTuple):
    """A convention and its theta_ref [rad/sample], which the conventions outside WITH_REFERENCE do not use."""

    convention: Convention
    theta_ref: float = 0.0


def fft_length(weighting: Weighting | None, kernel_length: int, length: int) -> int:
    """Length of the FFT for inputs of `length` samples and a kernel of `kernel_length` samples: n of the module docstring."""
    convention = weighting.convention if weighting else None
    if convention == "waves":
        return length
    return 2 * length if convention in ("denoising", "causal") else kernel_length + length


def weighted(spectrum: Tensor, beta: Tensor, step: Tensor, weighting: Weighting, n: int) -> Tensor:
    """The spectrum of kernels with the Sobolev weight, differentiable in the spectrum, beta and, for `paper`, the step.

    Args:
        spectrum: (ch, H, n//2 + 1) complex64 or complex128. beta: (ch, H), dimensionless.
        step: (H, 1) [model time per sample]. n: from `fft_length`.
    Returns:
        (ch, H, n//2 + 1), of the spectrum's type.
    """
    if weighting.convention == "causal":
        return _convolved(spectrum, causal_taps(beta, weighting.theta_ref, n // 2), n)
    return spectrum * zero_phase_weight(beta, step, weighting, n).to(spectrum.real.dtype)


def zero_phase_weight(beta: Tensor, step: Tensor, weighting: Weighting, n: int) -> Tensor:
    """The weight at theta_k = 2 pi k/n, (ch, H, n//2 + 1), of the type of beta; arguments as for `weighted`, without `causal`."""
    logarithms = [part.to(beta.dtype) for part in _log_ramps(step, weighting, n)]
    parts = [torch.exp(beta[..., None] * part) for part in logarithms]
    return parts[0] if len(parts) == 1 else (parts[0] + parts[1]) / 2


def _log_ramps(step: Tensor, weighting: Weighting, n: int) -> list[Tensor]:
    """Logarithms of the one or two ramps; the weight is the mean of their beta-th powers; (F,) or (H, F) float64."""
    k = torch.arange(n // 2 + 1, dtype=torch.float64, device=step.device)
    if weighting.convention == "denoising":
        return [torch.log1p(k.clamp(max=n // 2 - 1) / RAMP), torch.log1p((k - 1).clamp(min=0) / RAMP)]
    if weighting.convention == "waves":
        return [torch.log1p(k / RAMP), torch.log1p((n - k) % n / RAMP)]
    if weighting.convention == "lra":
        return [torch.log1p(k / n)]
    knee = step if weighting.convention == "paper" else weighting.theta_ref
    return [torch.log1p(k * (2 * math.pi / n) / knee)]


def _convolved(spectrum: Tensor, taps: Tensor, n: int) -> Tensor:
    """The kernel convolved with the taps and truncated at n/2 samples, in the time domain; nothing wraps around to before time zero."""
    product = spectrum * torch.fft.rfft(taps.to(spectrum.real.dtype), n)
    return torch.fft.rfft(torch.fft.irfft(product, n)[..., : n // 2], n)


def causal_taps(beta: Tensor, theta_ref: float, length: int) -> Tensor:
    """h_0 = (1 - rho)^-beta, h_l = h_{l-1} rho (l - 1 - beta)/l: (ch, H, T) float64, at most `length` taps, fewer if rho^l vanishes before.

    Args:
        beta: (ch, H). theta_ref: knee [rad/sample]. length: samples.
    """
    decay = 2 * math.asinh(theta_ref / 2)
    count = min(length, 1 + math.ceil(FORGOTTEN / decay))
    beta = beta.double()[..., None]
    l = torch.arange(1, count, dtype=torch.float64, device=beta.device)
    first = torch.exp(-beta * math.log(-math.expm1(-decay)))
    return torch.cumprod(torch.cat([first, math.exp(-decay) * (l - 1 - beta) / l], dim=-1), dim=-1)
