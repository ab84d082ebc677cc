"""Sums of powers, k[l] = Re sum_n w_n z_n^l: the kernel of a diagonal system in time, as a product of two small real matrices.

With l = R i + j each power is z^(R i) z^j, so R + L/R powers of a mode make all L of them, and the sum over N modes is a product of a
matrix of L/R x 2N and one of 2N x R per kernel. The powers are formed in float64 and are rounded once. The error of a term
is about l eps of float64, and two roundings of the result's type, however close z is to the unit circle.

The gradients need the sums of g[l] conj(z^l) and of l g[l] conj(z^(l-1)), which factor in the same way. Both are registered operators, so
torch.compile includes them in its graph as opaque steps.

Source: arXiv 2206.11893, section 3.3 (the kernel as a product with a Vandermonde matrix), which is not formed here.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ssmspec.errors import BackendError

REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}
COMPLEX = {real: wide for wide, real in REAL.items()}  # dtype.to_complex(), which torch.compile cannot trace
GONE = 2.0**-62  # parts of a power below this are zero in float32: products of two stay out of the slow range of denormal numbers


def power_sum(weights: Tensor, z: Tensor, length: int, precision: torch.dtype) -> Tensor:
    """k[l] = Re sum_n weights_n z_n^l for 0 <= l < length, differentiable in weights and z; z = 0 is allowed, and 0^0 = 1.

    Args:
        weights: (ch, H, N) complex128. z: (H, N) complex128, on the same device. length: L [samples], at least 1.
        precision: torch.float32 or torch.float64, of the sum.
    Returns:
        (ch, H, L), of the precision.
    Raises:
        BackendError: types or shapes do not match; a second derivative is requested.
    """
    if weights.dtype != torch.complex128 or z.dtype != torch.complex128 or precision not in COMPLEX:
        raise BackendError(f"weights are {weights.dtype}, poles {z.dtype}, and the sum {precision}; expected complex128 and a float type")
    if weights.ndim != 3 or z.shape != weights.shape[1:] or length < 1:
        shapes = f"weights {tuple(weights.shape)} and poles {tuple(z.shape)}"
        raise BackendError(f"shapes are {shapes} for {length} samples; expected (ch, H, N) and (H, N), and at least one sample")
    result: Tensor = _sum(weights, z, length, precision == torch.float32)
    return result


@torch.library.custom_op("ssmspec::power_sum", mutates_args=())
def _sum(weights: Tensor, z: Tensor, length: int, single: bool) -> Tensor:
    fine, coarse = _tables(z, length, single)
    left = _real(weights.to(coarse.dtype)[:, :, None] * coarse)
    with torch.autocast(z.device.type, enabled=False):
        return _product(left, _real(fine).mT).flatten(2)[..., :length].contiguous()


@_sum.register_fake
def _(weights: Tensor, z: Tensor, length: int, single: bool) -> Tensor:
    return weights.new_empty((*weights.shape[:2], length), dtype=torch.float32 if single else torch.float64)


@torch.library.custom_op("ssmspec::power_sum_vjp", mutates_args=())
def _vjp(weights: Tensor, z: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    """The powers are formed again: their number depends on the length in a way that one compiled graph for all lengths could not have."""
    length = cotangent.shape[-1]
    fine, coarse = _tables(z, length, cotangent.dtype == torch.float32)
    count, block = coarse.shape[1], fine.shape[1]
    seeds = cotangent.new_zeros(2, *cotangent.shape[:2], count * block)
    seeds[0, ..., :length] = cotangent
    torch.mul(cotangent[..., 1:], torch.arange(1, length, dtype=cotangent.dtype, device=z.device), out=seeds[1, ..., : length - 1])
    with torch.autocast(z.device.type, enabled=False):
        inner = _product(seeds.reshape(*seeds.shape[:-1], count, block), _real(fine))
    moments = (torch.view_as_complex(inner.reshape(*inner.shape[:-1], -1, 2)) * coarse.conj_physical()).sum(-2).to(z.dtype)
    return moments[0].contiguous(), (weights.conj_physical() * moments[1]).sum(0)


@_vjp.register_fake
def _(weights: Tensor, z: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    return weights.new_empty(weights.shape), z.new_empty(z.shape)


def _tables(z: Tensor, length: int, single: bool) -> tuple[Tensor, Tensor]:
    """conj(z^j) for j < R, (H, R, N), and z^(R i) for i < ceil(L/R), (H, L/R, N). R is about the square root of L."""
    block = 1 << round(math.log2(length) / 2)
    fine = _powers(z.conj_physical(), block)
    coarse = _powers(fine[:, -1].conj_physical() * z, -(-length // block))
    return _rounded(fine, single), _rounded(coarse, single)


def _powers(z: Tensor, count: int) -> Tensor:
    """z^0 .. z^(count-1), (H, count, N)."""
    H, N = z.shape
    factors = torch.cat([torch.ones_like(z)[:, None], z[:, None].expand(H, count - 1, N)], dim=1)
    return torch.cumprod(factors, dim=1)


def _rounded(table: Tensor, single: bool) -> Tensor:
    if not single:
        return table
    parts = torch.view_as_real(table).float()
    return torch.view_as_complex(torch.hardshrink(parts, GONE))


def _real(table: Tensor) -> Tensor:
    """(.., N) complex to (.., 2N) real: real and imaginary parts in turn."""
    return torch.view_as_real(table).flatten(-2)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left right over the last two axes. GPUs get float64, because float32 products may be set to ten bits there (TF32)."""
    if left.device.type == "cpu" or left.dtype == torch.float64:
        return left @ right
    return (left.double() @ right.double()).to(left.dtype)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, Tensor, None, None]:
    return (*_vjp(*ctx.saved_tensors, cotangent), None, None)


def _refuse(ctx: Any, *cotangents: Tensor) -> None:
    raise BackendError("a second derivative of a kernel is not supported; call backward without create_graph=True")


_sum.register_autograd(_backward, setup_context=_remember)
_vjp.register_autograd(_refuse)
