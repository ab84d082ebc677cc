"""The homogeneous Cauchy sum as a PyTorch operator: the compiled engine of the device (CPU or GPU), forward and backward.

These are registered operators, not just torch.autograd.Function, so torch.compile includes them in its graph as one opaque step.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssmspec.backends import load_engine, precision
from ssmspec.errors import BackendError

_COMPLEX = {torch.complex64: torch.float32, torch.complex128: torch.float64}
_NARROW = {torch.complex128: torch.complex64, torch.float64: torch.float32}

# On a GPU the operators wait for the numbers that decide the precision, which is not possible inside a CUDA graph.
_TAGS: Any = {"tags": (torch.Tag.cudagraph_unsafe,)} if hasattr(torch.Tag, "cudagraph_unsafe") else {}


def cauchy_sum(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor, *, single: bool = False) -> Tensor:
    """S_km = sum_n [ r_kmn/(i y - sigma_kn x) + conj(r_kmn)/(i y - conj(sigma_kn) x) ], differentiable in residues and poles.

    Args:
        residues: (K, M, N) complex64 or complex128.
        poles: (K, N), of the same type and on the same device.
        x, y: (1, F) or (K, F), of the corresponding real type; constants.
        single: the arguments are complex128 and are rounded here if float32 is sufficient; not if a pole is too close to a node.
    Returns:
        (K, M, F) of the same type; complex64 if `single`.
    Raises:
        BackendError: other types, shapes that do not match, nodes that require a gradient, a second derivative, or a missing engine.
    """
    _check(residues, poles, x, y)
    if single and residues.dtype != torch.complex128:
        raise BackendError(f"residues are {residues.dtype}; expected torch.complex128, which single=True can round")
    result: Tensor = _sum(residues, poles, x, y, single)
    return result


def _check(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor) -> None:
    if residues.dtype not in _COMPLEX or poles.dtype != residues.dtype:
        raise BackendError(f"residues are {residues.dtype} and poles {poles.dtype}; expected both complex64 or both complex128")
    real = _COMPLEX[residues.dtype]
    if x.dtype != real or y.dtype != real:
        raise BackendError(f"nodes are {x.dtype} and {y.dtype}; expected {real}, because the residues are {residues.dtype}")
    shapes = [tuple(part.shape) for part in (residues, poles, x, y)]
    if [len(shape) for shape in shapes] != [3, 2, 2, 2] or poles.shape != (residues.shape[0], residues.shape[2]):
        raise BackendError(f"shapes {shapes}; expected residues (K, M, N), poles (K, N), x and y (1, F) or (K, F)")
    if x.shape != y.shape or x.shape[0] not in (1, poles.shape[0]):
        raise BackendError(f"nodes have shapes {shapes[2]} and {shapes[3]}; expected (1, F) or ({poles.shape[0]}, F), the same for both")
    if x.requires_grad or y.requires_grad:
        raise BackendError("the nodes of a Cauchy sum are constants; detach x and y")


@torch.library.custom_op("ssmspec::cauchy_sum", mutates_args=(), device_types="cpu", **_TAGS)
def _sum(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor, single: bool) -> Tensor:
    parts = _rounded(single, residues, poles, x, y)
    result = torch.from_numpy(load_engine("cpu").cauchy_sum(*_arrays(*parts)))
    return result.to(torch.complex64) if single else result


@_sum.register_kernel("cuda")
def _(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor, single: bool) -> Tensor:
    result: Tensor = load_engine("gpu").tensor_sum(*_rounded(single, residues, poles, x, y))
    return result.to(torch.complex64) if single else result


@_sum.register_fake
def _(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor, single: bool) -> Tensor:
    shape = (residues.shape[0], residues.shape[1], x.shape[1])
    return residues.new_empty(shape, dtype=torch.complex64 if single else residues.dtype)


@torch.library.custom_op("ssmspec::cauchy_vjp", mutates_args=(), device_types="cpu", **_TAGS)
def _vjp(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor, cotangent: Tensor, single: bool) -> tuple[Tensor, Tensor]:
    parts = _rounded(single, residues, poles, x, y)
    first, second = load_engine("cpu").cauchy_vjp(*_arrays(*parts, cotangent))
    return torch.from_numpy(first).to(residues.dtype), torch.from_numpy(second).to(poles.dtype)


@_vjp.register_kernel("cuda")
def _(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor, cotangent: Tensor, single: bool) -> tuple[Tensor, Tensor]:
    first, second = load_engine("gpu").tensor_vjp(*_rounded(single, residues, poles, x, y), cotangent)
    return first.to(residues.dtype), second.to(poles.dtype)


@_vjp.register_fake
def _(residues: Tensor, poles: Tensor, x: Tensor, y: Tensor, cotangent: Tensor, single: bool) -> tuple[Tensor, Tensor]:
    return residues.new_empty(residues.shape), poles.new_empty(poles.shape)


def _rounded(single: bool, *parts: Tensor) -> list[Tensor]:
    """Residues, poles, x and y in float32 if that is requested and keeps poles and nodes apart; otherwise unchanged."""
    poles = parts[1].detach()
    narrow = single and poles.numel() > 0 and precision.resolved(poles)
    return [part.to(_NARROW[part.dtype]) for part in parts] if narrow else list(parts)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().resolve_conj().resolve_neg().numpy() for tensor in tensors]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.single = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
    return (*_vjp(*ctx.saved_tensors, cotangent, ctx.single), None, None, None)


def _refuse(ctx: Any, *cotangents: Tensor) -> None:
    raise BackendError("a second derivative of the Cauchy sum is not supported; call backward without create_graph=True")


_sum.register_autograd(_backward, setup_context=_remember)
_vjp.register_autograd(_refuse)
