"""The kernel of a diagonal layer straight in the frequency domain, from the homogeneous Cauchy sum.

    k[l] = 2 Re sum_n g_n z_n^l, 0 <= l < L;     its DFT of length 2L at theta_j = pi j/L is

      sum_n g_n (1 - (-1)^j z_n^L)/(1 - z_n e^{-i theta_j}) + conj-pair
    = e^{i theta_j/2} sum_n [ (1 -+ z_n^L) g_n/(1 + z_n)/(i y - sigma_n x) + conj-pair ]

with (x, y) = (cos, sin) theta_j/2 and sigma = (z - 1)/(z + 1). Even and odd j need one sum each over half of the nodes. No exponentials
of size H x N x L, and no cancellation between the infinite kernel and its tail, because 1 - z^L is formed per pole, in float64.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ssmspec.backends.autograd import cauchy_sum

COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}  # dtype.to_complex(), which torch.compile cannot trace
SMALL = 1e-2  # |x| where tanh(x)/x changes from its series, cut at 0.009 x^10, to the quotient, whose gradient has 1e-12 there
SERIES = (62 / 2835, -17 / 315, 2 / 15, -1 / 3, 1.0)  # tanh(x)/x in powers of x^2, the highest first


class Diagonal(NamedTuple):
    """H diagonal single-input systems with ch outputs each, upper half of real systems, in float64 whatever the layer's precision.

    poles (H, N) complex128 [1/model time], any sign of Im; residues C B (ch, H, N) complex128; step (H, 1) or (H, N) float64
    [model time per sample]; discretization "zoh" or "bilinear".
    """

    poles: Tensor
    residues: Tensor
    step: Tensor
    discretization: str


class Discrete(NamedTuple):
    """What the sampled system needs of every mode, (H, N) complex128.

    sigma = (z - 1)/(z + 1), gain = g/((1 + z) r) [model time], log_z = log z.
    """

    sigma: Tensor
    gain: Tensor
    log_z: Tensor


def discretize(system: Diagonal) -> Discrete:
    """Sampled modes; accurate and differentiable at a = 0 and where |a| Delta is large.

        zoh       sigma = tanh(a Delta/2), gain = sigma/a, log z = a Delta
        bilinear  sigma = a Delta/2,       gain = Delta/2, log z = 2 artanh(a Delta/2)

    Source: arXiv 2206.11893, section 3.2 (the two rules); arXiv 2111.00396, appendix C.3 (the Cauchy form).
    """
    half = system.poles * (system.step / 2)
    if system.discretization == "bilinear":
        return Discrete(half, (system.step / 2).expand(half.shape).to(half.dtype), 2 * torch.atanh(half))
    sigma = torch.tanh(half)
    return Discrete(sigma, (system.step / 2) * _tanh_quotient(half, sigma), 2 * half)


def _tanh_quotient(x: Tensor, tanh_x: Tensor) -> Tensor:
    """tanh(x)/x, (H, N). Each branch gets arguments of its own region, so that no NaN passes from the other into the gradient."""
    small = x.abs() < SMALL
    inside = torch.where(small, x, torch.zeros_like(x)) ** 2
    series = torch.zeros_like(x)
    for coefficient in SERIES:
        series = series * inside + coefficient
    one = torch.ones_like(x)
    return torch.where(small, series, torch.where(small, one, tanh_x) / torch.where(small, one, x))


def kernel_spectrum(system: Diagonal, length: int, n: int, precision: torch.dtype) -> Tensor:
    """rfft of k[0..length-1], zero-padded to n samples; differentiable in poles, residues and step.

    Args:
        system: H systems with ch outputs. length: samples of the kernel, at least 1. n: FFT length in samples, at least `length`.
        precision: torch.float32 or torch.float64, of the Cauchy sum; the work per mode is float64 always.
    Returns:
        (ch, H, n//2 + 1) complex64 or complex128, dimensionless.
    Raises:
        BackendError: no engine for the device; a second derivative.
    """
    if n not in (length, 2 * length):  # fewer pole-node pairs than the sum at the nodes of n, and one sum in place of two that cancel
        kernel = torch.fft.irfft(kernel_spectrum(system, length, 2 * length, precision), 2 * length)
        return torch.fft.rfft(kernel[..., :length], n)
    modes = discretize(system)
    residues = (system.residues * modes.gain).transpose(0, 1)
    head = -torch.expm1(length * modes.log_z)[:, None]  # 1 - z^L
    even = _sum(residues * head, modes.sigma, _half_angles(0, length, head.device), precision)
    if n == length:
        return even
    odd = _sum(residues * (2 - head), modes.sigma, _half_angles(1, length, head.device), precision)
    spectrum = even.new_empty((*even.shape[:2], length + 1))
    spectrum[..., 0::2], spectrum[..., 1::2] = even, odd
    return spectrum


def _half_angles(first: int, length: int, device: torch.device) -> Tensor:
    """theta_j/2 of j = first, first + 2, .. <= length, (1, F) float64."""
    return torch.arange(first, length + 1, 2, dtype=torch.float64, device=device)[None] * (math.pi / (2 * length))


def _sum(residues: Tensor, sigma: Tensor, angles: Tensor, precision: torch.dtype) -> Tensor:
    """e^{i angles} times the Cauchy sum of residues (H, ch, N) over sigma (H, N): (ch, H, F)."""
    kind = COMPLEX[precision]
    x, y = torch.cos(angles).to(precision), torch.sin(angles).to(precision)
    return (cauchy_sum(residues.to(kind), sigma.to(kind), x, y) * torch.complex(x, y)[:, None]).transpose(0, 1)
