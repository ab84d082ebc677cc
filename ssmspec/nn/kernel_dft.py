"""The kernel of a diagonal layer, computed directly in the frequency domain with the homogeneous Cauchy sum.

    k[l] = 2 Re sum_n g_n z_n^l, 0 <= l < L;     its DFT of length 2L at theta_j = pi j/L is

      sum_n g_n (1 - (-1)^j z_n^L)/(1 - z_n e^{-i theta_j}) + conj-pair
    = e^{i theta_j/2} sum_n [ (1 -+ z_n^L) g_n/(1 + z_n)/(i y - sigma_n x) + conj-pair ]

with (x, y) = (cos, sin) theta_j/2 and sigma = (z - 1)/(z + 1). Even and odd j need one sum each, over half of the nodes. There are no
exponentials of size H x N x L, and the infinite kernel does not cancel with its tail, because 1 - z^L is computed per pole, in float64.

Cancellation does occur for a mode at a node: 1 - z^L and the denominator vanish together if the mode decays little within L samples. Nodes
and poles are therefore rounded to float32 only if that costs less than four digits (`ssmspec.backends.precision`). With
kappa = |a|/|Re a|, a spectrum in float64 is accurate to eps kappa, and its gradient in the worst case to eps kappa^2/(L |a| Delta), both
relative to the largest value of the mode.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ssmspec.backends.autograd import cauchy_sum

COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}  # dtype.to_complex(), which torch.compile cannot trace
SMALL = 1e-2  # |x| at which tanh(x)/x changes from its series (error 0.009 x^10) to the quotient, whose gradient is then good to 1e-12
# Smallest |Re sigma/sigma| of a mode. In float32 this is a quarter of the effect of rounding the pole on its kernel. In float64, four
# digits remain for a mode at a node, but none for its gradient.
UNDAMPED = {torch.float32: 2.0**-26, torch.float64: 2.0**-38}
GONE = -1 + 2.0**-53  # stands for sigma = -1, z = 0, which has no logarithm
SERIES = (62 / 2835, -17 / 315, 2 / 15, -1 / 3, 1.0)  # tanh(x)/x in powers of x^2, highest first


class Diagonal(NamedTuple):
    """H diagonal single-input systems with ch outputs each, the upper half of real systems, in float64 whatever the layer's precision is.

    poles (H, N) complex128 [1/model time], any sign of Im; residues C B (ch, H, N) complex128; step (H, 1) or (H, N) float64
    [model time per sample]; discretization "zoh" or "bilinear".
    """

    poles: Tensor
    residues: Tensor
    step: Tensor
    discretization: str


class Discrete(NamedTuple):
    """The quantities of every mode that determine the sampled system, (H, N) complex128.

    sigma = (z - 1)/(z + 1), gain = g/((1 + z) r) [model time], log_z = log z, or log(-z) of the modes that are `turned` (bool or None).
    """

    sigma: Tensor
    gain: Tensor
    log_z: Tensor
    turned: Tensor | None = None

    @property
    def z(self) -> Tensor:
        """Poles in discrete time."""
        z = torch.exp(self.log_z)
        return z if self.turned is None else torch.where(self.turned, -z, z)

    def remainders(self, length: int) -> tuple[Tensor, Tensor]:
        """1 - z^length and 1 + z^length, both computed without cancellation."""
        grown = torch.expm1(length * self.log_z)
        less, more = -grown, 2 + grown
        if self.turned is None or length % 2 == 0:
            return less, more
        return torch.where(self.turned, more, less), torch.where(self.turned, less, more)


def discretize(system: Diagonal, precision: torch.dtype) -> Discrete:
    """Sampled modes for a sum in float32 or float64; accurate and differentiable also at a = 0, for large |a| Delta, and at z = 0.

        zoh       sigma = tanh(a Delta/2), gain = sigma/a, log z = a Delta
        bilinear  sigma = a Delta/2,       gain = Delta/2, log z = 2 artanh(sigma), log(-z) = 2 artanh(1/sigma)

    For an undamped mode at a node the sum is 0/0, so every mode has at least the damping UNDAMPED.

    Source: arXiv 2206.11893, section 3.2 (the two rules); arXiv 2111.00396, appendix C.3 (the Cauchy form).
    """
    half = system.poles * (system.step / 2)
    turn = half.imag if system.discretization == "bilinear" else torch.sin(2 * half.imag) / 2  # Im sigma over its damping factor
    half = half - (half.real + UNDAMPED[precision] * turn.abs()).clamp(min=0).detach()
    if system.discretization == "bilinear":
        turned = half.abs() > 1
        inner = torch.where(turned, 1 / torch.where(turned, half, torch.ones_like(half)), half)
        inner = torch.where(inner == -1, GONE, inner)
        return Discrete(half, (system.step / 2).expand(half.shape).to(half.dtype), 2 * torch.atanh(inner), turned)
    sigma = torch.tanh(half)
    return Discrete(sigma, (system.step / 2) * _tanh_quotient(half, sigma), 2 * half)


def _tanh_quotient(x: Tensor, tanh_x: Tensor) -> Tensor:
    """tanh(x)/x, (H, N). Each branch gets arguments from its own region only, so that no NaN enters the gradient from the other one."""
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
        precision: torch.float32 or torch.float64, for the Cauchy sum; the work per mode is always in float64.
    Returns:
        (ch, H, n//2 + 1) complex64 or complex128, dimensionless.
    Raises:
        BackendError: there is no engine for the device, or a second derivative is requested.
    """
    if n not in (length, 2 * length):  # fewer pole-node pairs than the sum at the nodes of n, and one sum instead of two that cancel
        kernel = torch.fft.irfft(kernel_spectrum(system, length, 2 * length, precision), 2 * length)
        return torch.fft.rfft(kernel[..., :length], n)
    modes = discretize(system, precision)
    residues = (system.residues * modes.gain).transpose(0, 1)
    less, more = modes.remainders(length)
    even = _sum(residues * less[:, None], modes.sigma, _nodes(0, length, less.device), precision)
    if n == length:
        return even
    odd = _sum(residues * more[:, None], modes.sigma, _nodes(1, length, more.device), precision)
    spectrum = even.new_empty((*even.shape[:2], length + 1))
    spectrum[..., 0::2], spectrum[..., 1::2] = even, odd
    return spectrum


def low_rank_spectrum(system: Diagonal, inputs: Tensor, low_rank: Tensor, length: int, precision: torch.dtype) -> Tensor:
    """DFT of the truncated kernel of H bilinear systems A = diag(a) - P P^* whose outputs are C~ = C (I - Abar^length).

        k^ = s_CB - h s_CP s_PB/(1 + h s_PP),   h = e^{-i theta/2} cos(theta/2),   s_XY = sum_n Delta X_n Y_n/(...) + conj-pair

    Args:
        system: H systems with one output; its residues are C~, (1, H, N). inputs: B, (H, N). low_rank: P, (H, N). length: L [samples].
        precision: as for `kernel_spectrum`.
    Returns:
        (H, length//2 + 1), at theta_j = 2 pi j/length.
    Source: arXiv 2111.00396, appendix C.3; state-spaces/s4, models/s4/s4.py, SSMKernelDPLR.
    """
    outputs, half = system.residues[0], system.step / 2
    products = [outputs * inputs, outputs * low_rank, low_rank.conj() * inputs, low_rank.conj() * low_rank]
    nodes = _nodes(0, length, half.device)
    CB, CP, PB, PP = _sum(torch.stack([half * each for each in products], 1), system.poles * half, nodes, precision)
    x, y = nodes
    h = (torch.complex(x, -y) * x).to(CB.dtype)
    return CB - h * CP * PB / (1 + h * PP)


def _nodes(first: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of theta_j/2 = pi j/(2 length), j = first, first + 2, .. <= length, (1, F) float64; exact at Nyquist."""
    j = torch.arange(first, length + 1, 2, dtype=torch.float64, device=device)[None]
    return torch.sin((length - j) * (math.pi / (2 * length))), torch.sin(j * (math.pi / (2 * length)))


def _sum(residues: Tensor, sigma: Tensor, nodes: tuple[Tensor, Tensor], precision: torch.dtype) -> Tensor:
    """e^{i theta/2} times the Cauchy sum of residues (H, ch, N) over sigma (H, N): (ch, H, F)."""
    x, y = nodes
    sums = cauchy_sum(residues, sigma, x, y, single=precision == torch.float32)
    return (sums * torch.complex(x, y).to(sums.dtype)[:, None]).transpose(0, 1)
