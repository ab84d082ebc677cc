"""What the Triton kernels compute, on a GPU or in the interpreter, and how far it is from the reference.

Run as a script with TRITON_INTERPRET=1, this file prints as JSON what the interpreted kernels computed.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from cauchy_problems import EXTREMES, SIZES, conditioning, differences, double, extreme, problem, single
from torch import Tensor

from ssmspec.backends import autograd, gpu, load_backend

Problems = dict[str, tuple[np.ndarray, ...]]

# K, M, N, F and the rows of the nodes; awkward beside tiles of 4 sums x 64 frequencies and 4 poles x 32 nodes, so that every mask is met
TILES = [
    *((1, 1, 1, 1, 1), (5, 1, 3, 67, 1), (1, 4, 9, 67, 1), (1, 4, 3, 300, 1)),
    *((5, 1, 1, 300, 5), (3, 5, 3, 65, 3), (2, 3, 5, 64, 2), (1, 2, 4, 32, 1)),
]
# With the tiles that a GPU gets. An interpreted program takes 20 ms, so K = 257 and F = 33753 of SIZES are left to a GPU.
AS_LAUNCHED = [(1, 1, 3, 1023, 1), (1, 1, 64, 1, 1), (2, 1, 9, 513, 2), (1, 5, 3, 129, 1), (17, 1, 1, 1, 1)]
KINDS: dict[str, Callable[[tuple[np.ndarray, ...]], tuple[np.ndarray, ...]]] = {"float32": single, "float64": double}
EMPTY = [(0, 1, 2, 3), (1, 0, 2, 3), (1, 2, 0, 3), (1, 2, 3, 0)]

UNUSUAL = {
    "copies that are nan": [[False, True, False, False, False]] * 2,
    "views are views": True,
    "views and strides agree": True,
    "a narrow cotangent is widened": True,
    "shapes of nothing": [[[K, M, F], [K, M, N], [K, N]] for K, M, N, F in EMPTY],
    "nothing is zero": True,
}
"""What `unusual` has to give."""

ROUNDED = {1.0: 1e-4, 1e-6: 1e-6}
"""By factor on the damping, how far an operator that may round to float32 may be from another one, in the largest value."""


def _name(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


TIGHT = {f"{_name(size)} float64": 1e-12 for size in TILES}
"""By name, how far a result may be from the reference, relative to the largest value."""


def as_launched() -> Problems:
    """Problems for the tiles that a GPU gets."""
    rng = np.random.default_rng(8)
    return _both("as launched ", {_name(size): problem(rng, size[:4], size[4]) for size in AS_LAUNCHED})


def large() -> Problems:
    """Problems of more programs than the interpreter can run."""
    rng = np.random.default_rng(9)
    return _both("large ", {_name(size): problem(rng, size) for size in SIZES})


def cases() -> Problems:
    """Problems that meet every mask of smaller tiles, and extreme arguments."""
    rng = np.random.default_rng(7)
    problems = {_name(size): problem(rng, size[:4], size[4]) for size in TILES}
    problems |= {name: extreme(pole, points=9) for name, pole in EXTREMES.items()}
    tiny = problem(rng, (2, 2, 3, 7))
    problems |= {f"residues of {size:g}": (tiny[0] * size, *tiny[1:]) for size in (1e-30, 1e30)}
    return _both("", problems)


def _both(prefix: str, problems: Problems) -> Problems:
    return {f"{prefix}{name} {kind}": convert(arguments) for name, arguments in problems.items() for kind, convert in KINDS.items()}


def errors(arguments: tuple[np.ndarray, ...]) -> tuple[float, float]:
    """The largest error of sum and gradients in roundings, and relative to the largest value."""
    found = differences(gpu, arguments)
    relative = max(float(error.max() / np.abs(wanted).max()) for error, wanted, _ in found)
    return max(float((error / unit).max()) for error, _, unit in found), relative


@contextmanager
def small_tiles() -> Iterator[None]:
    """Tiles that small problems fill."""
    with patch.multiple(gpu, FREQUENCIES=64, NODES=32):
        yield


def unusual() -> dict[str, object]:
    """The results for arguments that are not finite, not contiguous, of two types, or empty; `UNUSUAL` has the expected ones."""
    problems = cases()
    spoilt = [part.copy() for part in problems["5x1x3x67x1 float64"]]
    spoilt[1][1] = np.nan
    infinite = np.isnan(gpu.cauchy_sum(*spoilt[:4])).all(axis=(1, 2)), np.isnan(gpu.cauchy_vjp(*spoilt)[1]).all(axis=1)

    device = "cpu" if gpu.INTERPRETED else "cuda"
    plain = [torch.from_numpy(part).to(device) for part in problems["2x3x5x64x2 float64"]]
    views = [(part.conj().resolve_conj().conj() if part.is_complex() else torch.complex(part, -part).conj().imag) for part in plain]
    strided = [torch.stack([part, part], -1)[..., 0] for part in plain]
    results = [(gpu.tensor_sum(*parts[:4]), *gpu.tensor_vjp(*parts)) for parts in (plain, views, strided)]

    rounded = plain[4].to(torch.complex64)
    seeded = [gpu.tensor_vjp(*plain[:4], seeds) for seeds in (rounded, rounded.to(torch.complex128))]

    empty = [problem(np.random.default_rng(), size) for size in EMPTY]
    nothing = [(gpu.cauchy_sum(*parts[:4]), *gpu.cauchy_vjp(*parts)) for parts in empty]
    return {
        "copies that are nan": [rows.tolist() for rows in infinite],
        "views are views": views[0].is_conj() and views[2].is_neg() and not strided[4].is_contiguous(),
        "views and strides agree": all(torch.equal(first, other[i]) for other in results[1:] for i, first in enumerate(results[0])),
        "a narrow cotangent is widened": all(map(torch.equal, *seeded)) and seeded[0][1].dtype == torch.complex128,
        "shapes of nothing": [[list(part.shape) for part in parts] for parts in nothing],
        "nothing is zero": not any(part.any() for parts in nothing for part in parts),
    }


@contextmanager
def kernels_in_operators(device: str) -> Iterator[str]:
    """A block in which the operators of torch use the Triton kernels. Gives the device for tensors: "cuda", or "cpu" for "interpreter"."""
    if device != "interpreter":
        yield device
        return
    with patch.object(autograd, "load_engine", lambda name: gpu):
        yield "cpu"


def _operator(arrays: tuple[np.ndarray, ...], device: str, **options: bool) -> list[Tensor]:
    """Sum and gradients of the operator, on the CPU."""
    with kernels_in_operators(device) as place:
        residues, poles, x, y, cotangent = (torch.from_numpy(part).to(place) for part in arrays)
        leaves = residues.requires_grad_(), poles.requires_grad_()
        result = autograd.cauchy_sum(*leaves, x, y, **options)
        assert result.device.type == place
        gradients = torch.autograd.grad(result, leaves, cotangent.to(result.dtype))
    return [part.detach().cpu() for part in (result, *gradients)]


def operator_error(kind: str, device: str, size: tuple[int, int, int, int] = (64, 4, 32, 1025)) -> float:
    """The largest distance between the operators of a device and of the CPU, in roundings; each may be ROUNDINGS from the truth."""
    arrays = KINDS[kind](problem(np.random.default_rng(3), size))
    found, wanted = _operator(arrays, device), _operator(arrays, "cpu")
    units = [np.finfo(arrays[2].dtype).eps * condition for condition in conditioning(*double(arrays))]
    return max(float((np.abs((ours - theirs).numpy()) / unit).max()) for ours, theirs, unit in zip(found, wanted, units, strict=True))


def operator_rounding(damping: float, device: str, size: tuple[int, int, int, int] = (8, 2, 16, 513)) -> float:
    """The largest distance between the operators of a device and of the CPU that may round to float32, in the largest value."""
    arrays = problem(np.random.default_rng(3), size)
    arrays = arrays[0], damping * arrays[1].real + 1j * arrays[1].imag, *arrays[2:]
    found, wanted = (_operator(arrays, each, single=True) for each in (device, "cpu"))
    assert [part.dtype for part in found] == [torch.complex64, torch.complex128, torch.complex128]
    return max(float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in zip(found, wanted, strict=True))


def interpreted() -> Mapping[str, Any]:
    """Errors of every case by name, and everything unusual."""
    found = {name: errors(arguments) for name, arguments in as_launched().items()}
    with small_tiles():
        found |= {name: errors(arguments) for name, arguments in cases().items()}
        others = unusual()
    return {
        "roundings": {name: pair[0] for name, pair in found.items()},
        "relative": {name: pair[1] for name, pair in found.items()},
        "loaded": load_backend("gpu") is gpu.cauchy_sum,
        "numba": "numba" in sys.modules,
        **others,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(interpreted()))
