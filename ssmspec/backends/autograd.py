"""The homogeneous Cauchy sum as an operator of PyTorch: compiled engines forward and backward, the CPU's or the GPU's by device.

Registered operators, not torch.autograd.Function alone, so that torch.compile takes them into its graph as one opaque step.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssmspec.errors import BackendError

_COMPLEX = {torch.complex64: torch.float32, torch.complex128: torch.float64}


def cauchy_sum(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """S_km = sum_n [ r_kmn/(i y - sigma_kn x) + conj(r_kmn)/(i y - conj(sigma_kn) x) ], differentiable in residues and poles.

    Args:
        residues: (K, M, N) complex64 or complex128.
        poles: (K, N), of the same type and on the same device.
        x, y: (1, F) or (K, F), of the real type that belongs to it; constants.
    Returns:
        (K, M, F) of the same type.
    Raises:
        BackendError: other types, shapes that do not agree, nodes that require a gradient; a second derivative.
    """
    _check(residues, poles, x, y)
    result: Tensor = _sum(residues, poles, x, y)
    return result


def _check(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor) -> None:
    if residues.dtype not in _COMPLEX or poles.dtype != residues.dtype:
        raise BackendError(f"residues are {residues.dtype} and poles {poles.dtype}; expected both complex64 or both complex128")
    real = _COMPLEX[residues.dtype]
    if x.dtype != real or y.dtype != real:
        raise BackendError(f"nodes are {x.dtype} and {y.dtype}; expected {real}, as the residues are {residues.dtype}")
    shapes = [tuple(part.shape) for part in (residues, poles, x, y)]
    if [len(shape) for shape in shapes] != [3, 2, 2, 2] or poles.shape != (residues.shape[0], residues.shape[2]):
        raise BackendError(f"shapes {shapes}; expected residues (K, M, N), poles (K, N), x and y (1, F) or (K, F)")
    if x.shape != y.shape or x.shape[0] not in (1, poles.shape[0]):
        raise BackendError(f"nodes have shapes {shapes[2]} and {shapes[3]}; expected (1, F) or ({poles.shape[0]}, F), twice the same")
    if x.requires_grad or y.requires_grad:
        raise BackendError("the nodes of a Cauchy sum are constants; detach x and y")


@torch.library.custom_op("ssmspec::cauchy_sum", mutates_args=(), device_types="cpu")
def _sum(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor) -> Tensor:
    from ssmspec.backends import cpu

    return torch.from_numpy(cpu.cauchy_sum(*_arrays(residues, poles, x, y)))


@_sum.register_kernel("cuda")
def _(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor) -> Tensor:
    from ssmspec.backends import gpu

    return gpu.tensor_sum(residues, poles, x, y)


@_sum.register_fake
def _(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return residues.new_empty((residues.shape[0], residues.shape[1], x.shape[1]))


@torch.library.custom_op("ssmspec::cauchy_vjp", mutates_args=(), device_types="cpu")
def _vjp(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    from ssmspec.backends import cpu

    first, second = cpu.cauchy_vjp(*_arrays(residues, poles, x, y, cotangent))
    return torch.from_numpy(first), torch.from_numpy(second)


@_vjp.register_kernel("cuda")
def _(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    from ssmspec.backends import gpu

    return gpu.tensor_vjp(residues, poles, x, y, cotangent)


@_vjp.register_fake
def _(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    return residues.new_empty(residues.shape), poles.new_empty(poles.shape)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().resolve_conj().resolve_neg().numpy() for tensor in tensors]


def _remember(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, Tensor, None, None]:
    return (*_vjp(*ctx.saved_tensors, cotangent), None, None)


def _refuse(ctx: Any, *cotangents: Tensor) -> None:
    raise BackendError("a second derivative of the Cauchy sum was asked for, and there is none; call backward without create_graph=True")


_sum.register_autograd(_backward, setup_context=_remember)
_vjp.register_autograd(_refuse)
