"""The kernels of diagonal and low-rank layers, and their transforms.

    diagonal    k[l] = 2 Re sum_n r_n b_n z_n^l, 0 <= l < L, as a product of matrices (`ssmspec.nn.powers`), then an FFT
    low rank    the transform itself, from homogeneous Cauchy sums

A diagonal kernel in time costs 4 N L operations of a matrix product per channel. Its transform by Cauchy sums needs N L divisions, and
cancels for a mode at a node that decays little within L samples, because 1 - z^L and the denominator vanish together; in time nothing
cancels but the sum over modes itself. A low-rank kernel has no such form in time.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ssmspec.backends.autograd import cauchy_sum
from ssmspec.errors import BackendError
from ssmspec.nn.convolution import one_sided_fft
from ssmspec.nn.powers import power_sum

SMALL = 2.0**-8  # |x| at which the derivative of (e^x - 1)/x changes from its series (error 1e-18) to the quotient, good to 1e-13
SERIES = (1 / 840, 1 / 144, 1 / 30, 1 / 8, 1 / 3, 1 / 2)  # of that derivative in powers of x, highest first


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
    """What determines the sampled system: z, and the gain b of an input [model time], (H, N) complex128."""

    z: Tensor
    gain: Tensor


def discretize(system: Diagonal) -> Discrete:
    """Sampled modes; accurate and differentiable also at a = 0, for large |a| Delta, and at z = 0.

        zoh       z = exp(a Delta),                          b = (z - 1)/a
        bilinear  z = (1 + a Delta/2)/(1 - a Delta/2),       b = Delta/(1 - a Delta/2)

    Source: arXiv 2206.11893, section 3.2.
    """
    if system.discretization == "bilinear":
        half = system.poles * (system.step / 2)
        return Discrete((1 + half) / (1 - half), system.step / (1 - half))
    x = system.poles * system.step
    return Discrete(torch.exp(x), system.step * _growth(x))


@torch.library.custom_op("ssmspec::growth", mutates_args=())
def _growth(x: Tensor) -> Tensor:
    """(e^x - 1)/x for complex x, and 1 at 0. A registered operator, so that its derivative is computed as one, too."""
    zero = x == 0
    return torch.where(zero, 1, torch.expm1(x) / torch.where(zero, 1, x))


@torch.library.custom_op("ssmspec::growth_slope", mutates_args=())
def _growth_slope(x: Tensor, growth: Tensor) -> Tensor:
    """(e^x - growth)/x, which cancels near 0."""
    small = x.abs() < SMALL
    series = torch.full_like(x, SERIES[0])
    for coefficient in SERIES[1:]:
        series = series * x + coefficient
    return torch.where(small, series, (torch.exp(x) - growth) / torch.where(small, 1, x))


@_growth.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@_growth_slope.register_fake
def _(x: Tensor, growth: Tensor) -> Tensor:
    return torch.empty_like(x)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], output)


def _backward(ctx: Any, cotangent: Tensor) -> Tensor:
    return cotangent * _growth_slope(*ctx.saved_tensors).conj()


def _refuse(ctx: Any, *cotangents: Tensor) -> None:
    raise BackendError("a second derivative of a kernel is not supported; call backward without create_graph=True")


_growth.register_autograd(_backward, setup_context=_remember)
_growth_slope.register_autograd(_refuse)


def diagonal_kernel(system: Diagonal, length: int, precision: torch.dtype) -> Tensor:
    """k[0..length-1], (ch, H, length) in the precision, dimensionless; differentiable in poles, residues and step.

    Args:
        system: H systems with ch outputs. length: samples, at least 1.
        precision: torch.float32 or torch.float64, for the sum over modes; powers and the work per mode are in float64.
    Raises:
        BackendError: a second derivative is requested.
    """
    modes = discretize(system)
    return power_sum(2 * system.residues * modes.gain, modes.z, length, precision)


def kernel_spectrum(system: Diagonal, length: int, n: int, precision: torch.dtype) -> Tensor:
    """rfft of k[0..length-1], zero-padded to n samples, at least `length`: (ch, H, n//2 + 1) complex; otherwise as `diagonal_kernel`."""
    return one_sided_fft(diagonal_kernel(system, length, precision), n)


def low_rank_spectrum(system: Diagonal, inputs: Tensor, low_rank: Tensor, length: int, precision: torch.dtype) -> Tensor:
    """DFT of the truncated kernel of H bilinear systems A = diag(a) - P P^* whose outputs are C~ = C (I - Abar^length).

        k^ = s_CB - h s_CP s_PB/(1 + h s_PP),   h = e^{-i theta/2} cos(theta/2),   s_XY = sum_n Delta X_n Y_n/(...) + conj-pair

    Args:
        system: H systems with one output; its residues are C~, (1, H, N). inputs: B, (H, N). low_rank: P, (H, N). length: L [samples].
        precision: as for `diagonal_kernel`. Nodes and poles are rounded to float32 only if that costs less than four digits.
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
