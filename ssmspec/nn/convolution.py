"""Convolution with kernels given in the frequency domain, forward and backward using only one-sided real FFTs.

PyTorch's own gradient of a one-sided FFT uses full-size complex FFTs, and complete batches of spectra do not fit in any cache. Here rows
are processed in blocks. The operator is registered, so torch.compile includes it in its graph as one opaque step.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ssmspec.errors import BackendError

BLOCK = 2**17  # padded samples per CPU thread at once: 0.5 MB of float32 and an equally large spectrum fit in a second-level cache


def fft_convolution(u: Tensor, spectrum: Tensor, n: int) -> Tensor:
    """y = irfft(rfft(u, n) spectrum, n)[..., :L], differentiable in u and spectrum.

    If the kernel of the spectrum and u together have at most n + 1 samples, this is their linear convolution.

    Args:
        u: (B, H, L) float32 or float64.
        spectrum: (ch, H, n//2 + 1) complex of the same precision, on the same device. n: FFT length in samples, at least L.
    Returns:
        (B, ch, H, L), of the type of u.
    Raises:
        BackendError: types or shapes do not match; a second derivative is requested.
    """
    if (u.dtype, spectrum.dtype) not in ((torch.float32, torch.complex64), (torch.float64, torch.complex128)):
        raise BackendError(f"u is {u.dtype} and the spectrum {spectrum.dtype}; expected float32 and complex64, or float64 and complex128")
    if u.ndim != 3 or spectrum.ndim != 3 or spectrum.shape[1:] != (u.shape[1], n // 2 + 1) or n < u.shape[2]:
        shapes = f"u {tuple(u.shape)} and spectrum {tuple(spectrum.shape)}"
        raise BackendError(f"shapes are {shapes} for n = {n}; expected (B, H, L) and (ch, H, n//2 + 1), n at least L")
    result: Tensor = _convolve(u, spectrum, n)
    return result


def one_sided_fft(x: Tensor, n: int) -> Tensor:
    """torch.fft.rfft(x, n), differentiable once: (.., L) float32 or float64 to (.., n//2 + 1) complex, n at least L.

    Raises:
        BackendError: a second derivative is requested.
    """
    result: Tensor = _transform(x, n)
    return result


@torch.library.custom_op("ssmspec::one_sided_fft", mutates_args=())
def _transform(x: Tensor, n: int) -> Tensor:
    return torch.fft.rfft(x, n)


@_transform.register_fake
def _(x: Tensor, n: int) -> Tensor:
    return x.new_empty((*x.shape[:-1], n // 2 + 1), dtype=x.dtype.to_complex())


@torch.library.custom_op("ssmspec::one_sided_fft_vjp", mutates_args=())
def _transform_vjp(cotangent: Tensor, n: int, length: int) -> Tensor:
    """sum_k Re(cotangent_k e^{2 pi i k l/n}); the inverse FFT counts all bins twice but the first and, for even n, the last."""
    doubled = cotangent.clone()
    doubled[..., 0] *= 2
    if n % 2 == 0:
        doubled[..., -1] *= 2
    return torch.fft.irfft(doubled, n, norm="forward")[..., :length] / 2


@_transform_vjp.register_fake
def _(cotangent: Tensor, n: int, length: int) -> Tensor:
    return cotangent.new_empty((*cotangent.shape[:-1], length), dtype=cotangent.real.dtype)


@torch.library.custom_op("ssmspec::fft_convolution", mutates_args=())
def _convolve(u: Tensor, spectrum: Tensor, n: int) -> Tensor:
    B, H, L = u.shape
    y = u.new_empty(B, spectrum.shape[0], H, L)
    for b, h in _blocks(u, spectrum, n):
        U = torch.fft.rfft(u[b, None, h], n)
        y[b, :, h] = torch.fft.irfft(U * spectrum[:, h], n)[..., :L]
    return y


@_convolve.register_fake
def _(u: Tensor, spectrum: Tensor, n: int) -> Tensor:
    return u.new_empty(u.shape[0], spectrum.shape[0], u.shape[1], u.shape[2])


@torch.library.custom_op("ssmspec::fft_convolution_vjp", mutates_args=())
def _vjp(u: Tensor, spectrum: Tensor, n: int, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    """The spectrum of u is computed again: this costs a fifth of the FFTs and saves twice the memory of u between forward and backward."""
    u_gradient, gradient = u.new_empty(u.shape), spectrum.new_zeros(spectrum.shape)
    conjugate = spectrum.conj_physical()
    for b, h in _blocks(u, spectrum, n):
        U, G = torch.fft.rfft(u[b, None, h], n).conj_physical_(), torch.fft.rfft(cotangent[b, :, h], n)
        gradient[:, h] += (G * U).sum(0)
        product = G * conjugate[:, h]
        product = product.sum(1) if product.shape[1] > 1 else product[:, 0]
        u_gradient[b, h] = torch.fft.irfft(product, n)[..., : u.shape[2]]
    gradient *= 2 / n
    gradient[..., 0] /= 2
    if n % 2 == 0:
        gradient[..., -1] /= 2
    return u_gradient, gradient


@_vjp.register_fake
def _(u: Tensor, spectrum: Tensor, n: int, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), spectrum.new_empty(spectrum.shape)


def _blocks(u: Tensor, spectrum: Tensor, n: int) -> Iterator[tuple[slice, slice]]:
    """Ranges of the batch and of H with about BLOCK padded samples per thread; on devices other than a CPU, everything at once."""
    B, H, _ = u.shape
    rows = max(1, BLOCK * torch.get_num_threads() // (n * spectrum.shape[0])) if u.device.type == "cpu" else B * H
    size = min(B, rows)
    for h in _ranges(H, max(1, rows // max(1, size))):
        for b in _ranges(B, size):
            yield b, h


def _ranges(stop: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, stop)) for start in range(0, stop, max(1, size))]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    u, spectrum, ctx.n = inputs
    ctx.save_for_backward(u, spectrum)


def _backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, Tensor, None]:
    u, spectrum = ctx.saved_tensors
    return (*_vjp(u, spectrum, ctx.n, cotangent), None)


def _refuse(ctx: Any, *cotangents: Tensor) -> None:
    raise BackendError("a second derivative of the convolution is not supported; call backward without create_graph=True")


def _remember_sizes(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.n = inputs
    ctx.length = x.shape[-1]


def _transform_backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None]:
    return _transform_vjp(cotangent, ctx.n, ctx.length), None


_transform.register_autograd(_transform_backward, setup_context=_remember_sizes)
_transform_vjp.register_autograd(_refuse)
_convolve.register_autograd(_backward, setup_context=_remember)
_vjp.register_autograd(_refuse)
