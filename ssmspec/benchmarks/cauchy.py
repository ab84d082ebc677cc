"""The Cauchy sum of the engine `cpu` against torch's broadcast expression and against python-control."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssmspec.backends import cpu
from ssmspec.backends.threads import thread_count
from ssmspec.benchmarks.contest import Contest, PeerMissing
from ssmspec.benchmarks.pairs import median_seconds
from ssmspec.benchmarks.sizes import Sizes

Precision = Literal["float64", "float32"]

# tolerance in single precision for poles up to 30 pi with damping 1/2: |s| eps/damping is 1e-5, which is the error of every engine
SINGLE = 1e-4
DOUBLE = 1e-9
TEMPORARIES = 256 * 2**20  # bytes: denominator and quotient of one chunk, which exist at the same time
SMALL_CHUNKS = (1, 2, 4, 8, 16, 32)  # numbers of copies, of which the fastest is used


@dataclass(frozen=True, slots=True)
class CauchyProblem:
    """Residues (K, 1, N), poles (K, N) and nodes x, y (1, F) of K continuous systems: S = sum r/(i omega - a) + conj-pair."""

    residues: npt.NDArray[np.complexfloating[Any, Any]]
    poles: npt.NDArray[np.complexfloating[Any, Any]]
    x: npt.NDArray[np.floating[Any]]
    y: npt.NDArray[np.floating[Any]]

    @property
    def size(self) -> dict[str, int]:
        """K, N, F."""
        return {"K": len(self.poles), "N": self.poles.shape[1], "F": self.y.shape[1]}

    def ours(self) -> npt.NDArray[Any]:
        """(K, F) from the engine `cpu`."""
        return cpu.cauchy_sum(self.residues, self.poles, self.x, self.y)[:, 0]


def cauchy_problem(K: int, N: int, F: int, precision: Precision) -> CauchyProblem:
    """Poles scattered around S4D-Lin, a_n = -1/2 + i pi n, normal residues, omega log-spaced past the last pole; always the same."""
    rng = np.random.default_rng(2410)
    real, imag = -0.5 * rng.uniform(0.5, 2, (K, N)), np.pi * np.arange(N) * rng.uniform(0.9, 1.1, (K, N))
    residues = rng.normal(size=(K, 1, N)) + 1j * rng.normal(size=(K, 1, N))
    y = np.geomspace(1e-2, 2 * np.pi * N, F)[None]
    kinds = (np.complex128, np.float64) if precision == "float64" else (np.complex64, np.float32)
    return CauchyProblem(residues.astype(kinds[0]), (real + 1j * imag).astype(kinds[0]), np.ones_like(y, kinds[1]), y.astype(kinds[1]))


def broadcast_sum(residues: Tensor, poles: Tensor, s: Tensor, chunk: int) -> Tensor:
    """The same sum as usually written in training code, over both halves of the spectrum, `chunk` copies at a time.

    Args:
        residues, poles: (K, N) complex.
        s: (F,) complex, i omega.
    Returns:
        (K, F) complex.
    """
    parts = []
    for c, a in zip(torch.split(residues, chunk), torch.split(poles, chunk), strict=True):
        upper = (c[..., None] / (s - a[..., None])).sum(1)
        parts.append(upper + (c.conj()[..., None] / (s - a.conj()[..., None])).sum(1))
    return torch.cat(parts)


@contextmanager
def versus_torch(sizes: Sizes, *, precision: Precision, small_chunks: bool) -> Iterator[Contest]:
    """Ours in the given precision against torch in complex64, with temporaries of 256 MiB or with the chunk size that is fastest here.

    glibc returns blocks of more than 32 MiB to the system after every use, and new pages cost torch more than the arithmetic.
    """
    problem, single = (cauchy_problem(sizes.K, sizes.N, sizes.F, kind) for kind in (precision, "float32"))
    c, a = torch.from_numpy(single.residues[:, 0]), torch.from_numpy(single.poles)
    s = torch.complex(torch.zeros_like(torch.from_numpy(single.y[0])), torch.from_numpy(single.y[0]))

    def peer(chunk: int) -> Tensor:
        return broadcast_sum(c, a, s, chunk)

    with torch_threads(), torch.no_grad():
        chunk = _fastest(peer, sizes.K) if small_chunks else max(1, min(sizes.K, TEMPORARIES // (2 * 8 * sizes.N * sizes.F)))
        yield Contest(
            ours=problem.ours,
            peer=lambda: peer(chunk),
            values=lambda: ([problem.ours()], [peer(chunk).numpy()]),
            tolerance=SINGLE,
            size=problem.size,
            facts={"torch_chunk_copies": chunk, "torch_temporaries_bytes": 2 * 8 * chunk * sizes.N * sizes.F},
        )


def _fastest(peer: Callable[[int], object], copies: int) -> int:
    return min((chunk for chunk in SMALL_CHUNKS if chunk <= copies), key=lambda chunk: median_seconds(lambda: peer(chunk), rounds=1))


@contextmanager
def torch_threads() -> Iterator[None]:
    """Give torch as many threads as our engines use."""
    before = torch.get_num_threads()
    torch.set_num_threads(thread_count())
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def versus_control(sizes: Sizes, *, modal: bool) -> Iterator[Contest]:
    """Ours in float64 against python-control, which evaluates one channel at a time; a few channels are timed and extrapolated to all.

    With `modal`, a channel is the sum of N TransferFunction objects of second order, otherwise one StateSpace of order 2 N. A single
    TransferFunction of order 2 N would lose every digit, because its polynomials are so ill-conditioned.
    """
    try:
        control = import_module("control")
    except ImportError:
        raise PeerMissing("python-control is not installed (pip install control)") from None
    problem = cauchy_problem(sizes.K, sizes.N, sizes.F, "float64")
    make = _second_orders if modal else _state_space
    systems = [make(control, problem.residues[k, 0], problem.poles[k]) for k in range(sizes.channels)]
    s = 1j * problem.y[0]

    def peer() -> npt.NDArray[Any]:
        return np.stack([sum(part(s) for part in parts) for parts in systems])

    yield Contest(
        ours=problem.ours,
        peer=peer,
        values=lambda: ([problem.ours()], [peer()]),
        tolerance=DOUBLE,
        size=problem.size,
        peer_share=sizes.channels / sizes.K,
        facts={"channels_timed": sizes.channels, "control_version": str(control.__version__)},
    )


def real_state_space(residues: npt.NDArray[Any], poles: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    """Real A (2N, 2N), B, C, D of sum r/(s - a) + conj-pair: a block [[Re a, -Im a], [Im a, Re a]] for every pair."""
    A = np.zeros((2 * len(poles), 2 * len(poles)))
    even, odd = np.arange(0, len(A), 2), np.arange(1, len(A), 2)
    A[even, even] = A[odd, odd] = poles.real
    A[even, odd], A[odd, even] = -poles.imag, poles.imag
    B, C = np.zeros((len(A), 1)), np.empty((1, len(A)))
    B[even, 0], C[0, even], C[0, odd] = 1, 2 * residues.real, -2 * residues.imag
    return A, B, C, np.zeros((1, 1))


def _state_space(control: Any, residues: npt.NDArray[Any], poles: npt.NDArray[Any]) -> list[Callable[..., Any]]:
    return [control.StateSpace(*real_state_space(residues, poles))]


def _second_orders(control: Any, residues: npt.NDArray[Any], poles: npt.NDArray[Any]) -> list[Callable[..., Any]]:
    numerators = np.stack([2 * residues.real, -2 * (residues * poles.conj()).real], axis=1)
    denominators = np.stack([np.ones(len(poles)), -2 * poles.real, np.abs(poles) ** 2], axis=1)
    return [control.TransferFunction(*pair) for pair in zip(numerators, denominators, strict=True)]
