"""The Cauchy sum of the engine `gpu`, float32, against torch's broadcast expression on the GPU and state-spaces/s4's CUDA extension."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module

import torch
from torch import Tensor

from ssmspec.backends.autograd import cauchy_sum
from ssmspec.benchmarks.cauchy import SINGLE, broadcast_sum, cauchy_problem
from ssmspec.benchmarks.contest import Contest, Facts, PeerMissing
from ssmspec.benchmarks.pairs import Timing
from ssmspec.benchmarks.sizes import Sizes

FLOPS = 15  # additions and multiplications per pole pair and node; a fused multiply-add counts as two
RECIPROCALS_PER_CLOCK = 16  # of one multiprocessor: its special function units
LANES = {(7, 0): 64, (7, 5): 64, (8, 0): 64}  # float32 lanes of one multiprocessor by compute capability; 128 in all later ones


@contextmanager
def versus_torch(sizes: Sizes, *, device: str = "cuda") -> Iterator[Contest]:
    """All copies at once on both sides; every call waits until the GPU has finished."""
    c, a, x, y = tensors(sizes, device)
    s = torch.complex(torch.zeros_like(y[0]), y[0])
    yield _contest(sizes, (c, a, x, y), lambda: broadcast_sum(c[:, 0], a, s, len(a)))


@contextmanager
def versus_extension(sizes: Sizes, *, device: str = "cuda") -> Iterator[Contest]:
    """The symmetric forward kernel of state-spaces/s4, extensions/kernels (module `structured_kernels`)."""
    c, a, x, y = tensors(sizes, device)
    try:
        extension = import_module("structured_kernels")
    except ImportError:
        raise PeerMissing(
            "the CUDA extension of state-spaces/s4 is not installed (extensions/kernels, module structured_kernels)"
        ) from None
    s = torch.complex(torch.zeros_like(y[0]), y[0])
    residues = c[:, 0].contiguous()
    yield _contest(sizes, (c, a, x, y), lambda: extension.cauchy_mult_sym_fwd(residues, s, a))


def require_device(device: str) -> None:
    """Nothing, if torch has this device.

    Raises:
        PeerMissing: it has not.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise PeerMissing("no GPU is available (torch.cuda.is_available() is false)")


def tensors(sizes: Sizes, device: str) -> tuple[Tensor, ...]:
    """Residues (K, 1, N), poles (K, N), x and y (1, F) of the problem of this size, in single precision.

    Raises:
        PeerMissing: there is no such device.
    """
    require_device(device)
    problem = cauchy_problem(sizes.K, sizes.N, sizes.F, "float32")
    return tuple(torch.from_numpy(part).to(device) for part in (problem.residues, problem.poles, problem.x, problem.y))


def _contest(sizes: Sizes, problem: tuple[Tensor, ...], expression: Callable[[], Tensor]) -> Contest:
    def ours() -> Tensor:
        return finished(cauchy_sum(*problem)[:, 0])

    def peer() -> Tensor:
        return finished(expression())

    return Contest(
        ours=ours,
        peer=peer,
        values=lambda: ([ours().cpu().numpy()], [peer().cpu().numpy()]),
        tolerance=SINGLE,
        size={"K": sizes.K, "N": sizes.N, "F": sizes.F},
        facts={"device": torch.cuda.get_device_name() if problem[0].is_cuda else "cpu"},
        observe=lambda timing: limit_facts(sizes, timing) if problem[0].is_cuda else {},
    )


def finished(result: Tensor) -> Tensor:
    """The same tensor, once its GPU has finished all that was asked of it."""
    if result.is_cuda:
        torch.cuda.synchronize()
    return result


def limit_facts(sizes: Sizes, timing: Timing) -> Facts:
    """Peak rates of this GPU from its properties, and the fraction of the limit that ours reaches."""
    properties = torch.cuda.get_device_properties()
    clock = 1e3 * import_module("triton").runtime.driver.active.utils.get_device_properties(torch.cuda.current_device())["sm_clock_rate"]
    lanes = LANES.get((properties.major, properties.minor), 128)
    flops = 2.0 * lanes * properties.multi_processor_count * clock
    reciprocals = float(RECIPROCALS_PER_CLOCK * properties.multi_processor_count * clock)
    limit = shortest_seconds(sizes, flops, reciprocals)
    return {"peak_flops_per_second": flops, "peak_reciprocals_per_second": reciprocals, "share_of_limit": limit / timing.ours_seconds}


def shortest_seconds(sizes: Sizes, flops: float, reciprocals: float) -> float:
    """The arithmetic limit: K N F pairs of 15 flops and one reciprocal each, on units that work in parallel."""
    return sizes.K * sizes.N * sizes.F * max(FLOPS / flops, 1 / reciprocals)
