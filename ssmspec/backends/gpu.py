"""The homogeneous Cauchy sum and its vector-Jacobian product as Triton kernels: the real arithmetic of `cpu`, on a CUDA device.

Triton has no complex type, so complex numbers are passed as pairs of reals. No kernel uses atomics and none is tuned at run time, so equal
arguments give bit-identical results on the same kind of GPU.

Precision and range are those of `cpu`. Before a launch the host waits for five numbers, the extremes of poles and nodes that decide between
float32, float64 and `reference` on the CPU. Nothing else in `tensor_sum` and `tensor_vjp` waits, but because of this they cannot be part of
CUDA graphs; the operators in `autograd` tell the compiler so.

If TRITON_INTERPRET=1 is set in the environment before the import, everything stays on the CPU, where Triton interprets the kernels. This is
meant for tests: it is several thousand times slower than `cpu`.
"""

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl
from torch import Tensor

from ssmspec.backends import precision, reference

ComplexArray = npt.NDArray[np.complexfloating]
RealArray = npt.NDArray[np.floating]

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

# A program processes a tile of at most SUMS x FREQUENCIES forward and of POLES x NODES backward. With 128 threads that is 16 values and two
# running totals per thread, or 4 values and four totals, which fit in registers even in float64. Each pole that is read is used for 512
# frequencies, and each division for 4 sums (as many as DPLR of rank 1 has); backward, each node that is read is used for 4 poles.
FREQUENCIES, SUMS = 512, 4
NODES, POLES = 128, 4
# Fused multiply-add is requested explicitly because Triton's default depends on its version.
LAUNCH = {"num_warps": 4, "enable_fp_fusion": True}


def obstacle() -> str | None:
    """Why the engine cannot run here, or None if it can."""
    return None if INTERPRETED or torch.cuda.is_available() else "torch finds no CUDA device, and TRITON_INTERPRET=1 is not set"


def cauchy_sum(residues: ComplexArray, poles: ComplexArray, x: RealArray, y: RealArray) -> ComplexArray:
    """S_km = sum_n [ r_kmn/(i y - sigma_kn x) + conj(r_kmn)/(i y - conj(sigma_kn) x) ], as `reference.cauchy_sum` defines it.

    Args:
        residues: (K, M, N) complex.
        poles: (K, N) complex; complex64 computes in float32.
        x, y: (1, F) or (K, F) real.
    Returns:
        (K, M, F) complex.
    """
    return tensor_sum(*_tensors(residues, poles, x, y)).cpu().numpy()


def cauchy_vjp(
    residues: ComplexArray, poles: ComplexArray, x: RealArray, y: RealArray, cotangent: ComplexArray
) -> tuple[ComplexArray, ComplexArray]:
    """Gradients of Re sum(conj(cotangent) S) with respect to residues and poles, as `reference.cauchy_vjp` defines them.

    Args:
        residues: (K, M, N) complex.
        poles: (K, N) complex.
        x, y: (1, F) or (K, F) real.
        cotangent: (K, M, F) complex.
    Returns:
        (K, M, N) and (K, N) complex, d/d Re + i d/d Im.
    """
    first, second = tensor_vjp(*_tensors(residues, poles, x, y, cotangent))
    return first.cpu().numpy(), second.cpu().numpy()


def tensor_sum(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The Cauchy sum of tensors on one CUDA device.

    Args:
        residues: (K, M, N) complex64 or complex128.
        poles: (K, N) of the same type.
        x, y: (1, F) or (K, F) real.
    Returns:
        (K, M, F) of the type of the residues, contiguous, on their device.
    """
    (K, M, N), F = residues.shape, x.shape[1]
    if not (residues.numel() and x.numel()):
        return residues.new_zeros((K, M, F))
    kind = _precision(residues, poles, x, y)
    if kind is None:
        return torch.from_numpy(reference.cauchy_sum(*_doubles(residues, poles, x, y))).to(residues)
    result = torch.empty((K, M, F, 2), dtype=kind, device=residues.device)
    width = min(SUMS, triton.next_power_of_2(M))
    programs = K * triton.cdiv(M, width) * triton.cdiv(F, FREQUENCIES)
    arguments = (*_coefficients(residues, poles, kind), _plain(x, kind), _plain(y, kind), result)
    _launch(_sums, programs, *arguments, M, N, F, F * (len(x) > 1), width, FREQUENCIES)
    return torch.view_as_complex(result).to(residues.dtype)


def tensor_vjp(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    """The vector-Jacobian product of the Cauchy sum of tensors on one CUDA device.

    Args:
        residues: (K, M, N) complex64 or complex128.
        poles: (K, N) of the same type.
        x, y: (1, F) or (K, F) real.
        cotangent: (K, M, F) complex.
    Returns:
        (K, M, N) and (K, N) of the type of the residues, contiguous, on their device: d/d Re + i d/d Im.
    """
    (K, M, N), F = residues.shape, x.shape[1]
    if not (residues.numel() and x.numel()):
        return residues.new_zeros(residues.shape), poles.new_zeros(poles.shape)
    kind = _precision(residues, poles, x, y)
    if kind is None:
        first, second = reference.cauchy_vjp(*_doubles(residues, poles, x, y, cotangent))
        return torch.from_numpy(first).to(residues), torch.from_numpy(second).to(poles)
    sums = torch.empty((2, K, M, N, 2), dtype=kind, device=residues.device)
    width = min(POLES, triton.next_power_of_2(N))
    arguments = (_pairs(poles, kind), _plain(x, kind), _plain(y, kind), _pairs(cotangent, kind), *sums)
    _launch(_adjoint_sums, K * M * triton.cdiv(N, width), *arguments, M, N, F, F * (len(x) > 1), width, NODES)
    gradient, squares = torch.view_as_complex(sums)
    return gradient.to(residues.dtype), (residues.detach().conj() * squares).sum(1).to(poles.dtype)


def _tensors(*arrays: npt.NDArray[Any]) -> list[Tensor]:
    """Copies on the device; residues and poles get the same type."""
    kind = np.result_type(arrays[0], arrays[1])
    arrays = (*(array.astype(kind) for array in arrays[:2]), *arrays[2:])
    return [torch.from_numpy(np.array(array, order="C")).to("cpu" if INTERPRETED else "cuda") for array in arrays]


def _doubles(*tensors: Tensor) -> list[npt.NDArray[Any]]:
    return [_plain(tensor, torch.complex128 if tensor.is_complex() else torch.float64).cpu().numpy() for tensor in tensors]


def _plain(tensor: Tensor, kind: torch.dtype) -> Tensor:
    """The tensor in contiguous memory, without the lazy conjugate and negative bits of views."""
    return tensor.detach().to(kind).resolve_conj().resolve_neg().contiguous()


def _pairs(tensor: Tensor, kind: torch.dtype) -> Tensor:
    return torch.view_as_real(_plain(tensor, kind.to_complex()))


def _precision(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor) -> torch.dtype | None:
    bounds = torch.stack([bound.double() for bound in precision.extremes(poles.detach().to(torch.complex128), abs(x), abs(y))])
    kind = precision.narrowest(bounds.tolist(), residues.dtype == torch.complex64)
    return None if kind is None else getattr(torch, kind.name)


def _coefficients(residues: Tensor, poles: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """(K, N, 3): t, s^2, 4 s^2; (K, M, N, 4): p, q, -2 q s, 2 p s; (K, M): the scale of the residues; computed in float64."""
    r, sigma = _pairs(residues, torch.float64), _pairs(poles, torch.float64)
    scale = torch.exp2(torch.frexp(r.abs().amax((2, 3))).exponent - 1.0)
    r = r / scale[:, :, None, None]
    s, t = sigma.unbind(-1)
    p, q = -2 * (r * sigma[:, None]).sum(-1), 2 * r[..., 0]
    shared = torch.stack([t, s * s, 4 * s * s], -1)
    own = torch.stack([p, q, -2 * q * s[:, None], 2 * p * s[:, None]], -1)
    return shared.to(kind), own.to(kind), scale.to(kind)


def _launch(kernel: Any, programs: int, first: Tensor, *others: Any) -> None:
    with torch.cuda.device_of(first):  # type: ignore[no-untyped-call]
        kernel[(programs,)](first, *others, **LAUNCH)


@triton.jit
def _sums(  # type: ignore[no-untyped-def]
    shared, own, scale, x, y, result, M, N, F, row, SUMS: tl.constexpr, FREQUENCIES: tl.constexpr
):  # pragma: no cover
    """One block of frequencies of a few sums of one copy, which share the division; `row` is the distance between copies in x and y."""
    blocks, groups = tl.cdiv(F, FREQUENCIES), tl.cdiv(M, SUMS)
    block, group = tl.program_id(0) % blocks, tl.program_id(0) // blocks % groups
    k = (tl.program_id(0) // blocks // groups).to(tl.int64)  # K M F may exceed 32 bits
    f, i = block * FREQUENCIES + tl.arange(0, FREQUENCIES), group * SUMS + tl.arange(0, SUMS)
    xs = tl.load(x + k * row + f, f < F, other=0.0)
    ys = tl.load(y + k * row + f, f < F, other=1.0)
    xx, yy = xs * xs, ys * ys
    both = xx * yy
    re = tl.zeros((SUMS, FREQUENCIES), xs.dtype)
    im = tl.zeros((SUMS, FREQUENCIES), xs.dtype)
    for n in range(N):
        at = shared + (k * N + n) * 3
        t, s2, s4 = tl.load(at), tl.load(at + 1), tl.load(at + 2)
        m = (t * xs - ys) * (t * xs + ys) + s2 * xx
        v = 1.0 / (m * m + s4 * both)
        mv, xv, yv = (m * v)[None, :], (xx * v)[None, :], (yy * v)[None, :]
        of = own + (((k * M + i) * N + n) * 4)[:, None]
        mine = (i < M)[:, None]
        re += tl.load(of, mine, other=0.0) * mv + tl.load(of + 2, mine, other=0.0) * yv
        im += tl.load(of + 1, mine, other=0.0) * mv + tl.load(of + 3, mine, other=0.0) * xv
    size = tl.load(scale + k * M + i, i < M, other=0.0)[:, None]
    to = result + ((k * M + i)[:, None] * F + f[None, :]) * 2
    inside = (i < M)[:, None] & (f < F)[None, :]
    tl.store(to, re * xs[None, :] * size, inside)
    tl.store(to + 1, im * ys[None, :] * size, inside)


@triton.jit
def _adjoint_sums(  # type: ignore[no-untyped-def]
    poles, x, y, seeds, gradient, squares, M, N, F, row, POLES: tl.constexpr, NODES: tl.constexpr
):  # pragma: no cover
    """For a few poles and one sum: sum_f [g conj(phi) + conj(g) psi] and sum_f x [g conj(phi)^2 + conj(g) psi^2].

    phi = 1/(i y - sigma x) = a + i b and psi = 1/(i y - conj(sigma) x) = c + i e share one division, as in `cpu`.
    """
    groups = tl.cdiv(N, POLES)
    pair = (tl.program_id(0) // groups).to(tl.int64)
    k = pair // M
    n = tl.program_id(0) % groups * POLES + tl.arange(0, POLES)
    s = tl.load(poles + (k * N + n) * 2, n < N, other=-1.0)[:, None]
    t = tl.load(poles + (k * N + n) * 2 + 1, n < N, other=0.0)[:, None]
    r0 = tl.zeros((POLES, NODES), s.dtype)
    r1, p0, p1 = r0, r0, r0
    for start in range(0, F, NODES):
        f = start + tl.arange(0, NODES)
        xs = tl.load(x + k * row + f, f < F, other=0.0)[None, :]
        ys = tl.load(y + k * row + f, f < F, other=1.0)[None, :]
        g = tl.load(seeds + (pair * F + f) * 2, f < F, other=0.0)[None, :]
        h = tl.load(seeds + (pair * F + f) * 2 + 1, f < F, other=0.0)[None, :]
        sx, lower, upper = s * xs, t * xs - ys, -(t * xs + ys)
        d1, d2 = sx * sx + lower * lower, sx * sx + upper * upper
        v = 1.0 / (d1 * d2)
        d1, d2 = d1 * v, d2 * v
        a, b, c, e = -sx * d2, lower * d2, -sx * d1, upper * d1
        r0 += g * (a + c) + h * (b + e)
        r1 += h * (a - c) + g * (e - b)
        a2, ab, c2, ce = a * a - b * b, 2.0 * a * b, c * c - e * e, 2.0 * c * e
        gx, hx = g * xs, h * xs
        p0 += gx * (a2 + c2) + hx * (ab + ce)
        p1 += hx * (a2 - c2) + gx * (ce - ab)
    to = (pair * N + n) * 2
    tl.store(gradient + to, tl.sum(r0, 1), n < N)
    tl.store(gradient + to + 1, tl.sum(r1, 1), n < N)
    tl.store(squares + to, tl.sum(p0, 1), n < N)
    tl.store(squares + to + 1, tl.sum(p1, 1), n < N)
