"""Balanced coordinates of all copies of a layer at once, against a loop over scipy's Lyapunov equations, copy by copy."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ssmspec.benchmarks.contest import Contest
from ssmspec.benchmarks.sizes import Sizes
from ssmspec.systems.realization import discrete_realization
from ssmspec.systems.statespace import FloatArray, StateSpace
from ssmspec.tuning.reduction.balanced import balance
from ssmspec.tuning.reduction.orders import Places, keep

AGREEMENT = 1e-6  # of Hankel singular values: both take square roots of Gramians, whose small values are rounding


@contextmanager
def versus_scipy(sizes: Sizes) -> Iterator[Contest]:
    """Hankel values, and a truncation to half of the modes, of an S4D-Lin layer with random decays and residues."""
    system = lin(*sizes.balance)
    matrices = discrete_realization(system)

    def ours() -> object:
        balanced = balance(system)
        return keep(balanced, Places(max(1, system.modes // 2)), system.name)

    def peer() -> list[FloatArray]:
        A, B, C, _ = matrices
        return [_square_root(*copy, order=max(1, system.modes - 1)) for copy in zip(A, B, C, strict=True)]

    yield Contest(
        ours=ours,
        peer=peer,
        values=lambda: ([balance(system).values], [np.array(peer())]),
        tolerance=AGREEMENT,
        size={"K": system.copies, "N": system.modes},
    )


def lin(copies: int, modes: int) -> StateSpace:
    """S4D-Lin with scattered decays, steps and residues, always the same, read one sample after its input."""
    rng = np.random.default_rng(0)
    poles = -0.5 * np.exp(rng.normal(0, 0.5, (copies, modes))) + 1j * np.pi * np.arange(1, modes + 1)
    C = rng.standard_normal((copies, 1, modes)) + 1j * rng.standard_normal((copies, 1, modes))
    return StateSpace(
        name="layer",
        family="s4d",
        poles=poles,
        B=np.ones((copies, modes, 1), complex),
        C=C,
        D=np.zeros((copies, 1, 1)),
        step=np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), (copies, 1))),
        discretization="zoh",
        delay=1,
    )


def _square_root(A: FloatArray, B: FloatArray, C: FloatArray, *, order: int) -> FloatArray:
    """Hankel values of one copy; its truncation is formed, too."""
    from scipy.linalg import solve_discrete_lyapunov, svd

    factors = []
    for gramian in (solve_discrete_lyapunov(A, B @ B.T), solve_discrete_lyapunov(A.T, C.T @ C)):
        values, vectors = np.linalg.eigh(gramian)
        factors.append(vectors * np.sqrt(np.maximum(values, 0)))
    left, values, right = svd(factors[1].T @ factors[0])
    root = np.sqrt(values[:order])
    reduced = (factors[1] @ left[:, :order] / root).T @ A @ (factors[0] @ right[:order].T / root)
    np.linalg.eigvals(reduced)
    return np.asarray(values)
