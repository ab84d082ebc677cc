"""Balanced truncation by scipy's solutions of both Lyapunov equations."""

import numpy as np
from scipy.linalg import solve_discrete_lyapunov


def square_root_truncation(A: np.ndarray, B: np.ndarray, C: np.ndarray, order: int) -> tuple[np.ndarray, ...]:
    """A_r, B_r, C_r and the Hankel singular values, from scipy's solutions of both Lyapunov equations."""
    factors = []
    for X in (solve_discrete_lyapunov(A, B @ B.T), solve_discrete_lyapunov(A.T, C.T @ C)):
        values, vectors = np.linalg.eigh(X)
        factors.append(vectors * np.sqrt(np.maximum(values, 0)))
    L, R = factors
    U, values, V = np.linalg.svd(R.T @ L)
    T, inverse = L @ V.T[:, :order] / np.sqrt(values[:order]), (R @ U[:, :order] / np.sqrt(values[:order])).T
    return inverse @ A @ T, inverse @ B, C @ T, values
