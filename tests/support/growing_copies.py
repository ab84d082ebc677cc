"""An S4 v1 layer with modes that grew in training, spread over some of its copies, and its kernel as the original computes it."""

import factories  # noqa: F401 - the examples below are part of it
import numpy as np
from examples_s4_history import noise, pairs, single
from factories import Array, Tensors, joined, wide

PLACE = "layers.0."
KERNEL = PLACE + "kernel.krylov."


def growing_layer(*, H: int, N: int, copies: int, modes: int, length: int, seed: int = 0) -> tuple[Tensors, list[int]]:
    """Tensors of H copies of N modes with `modes` growing ones over so many copies, each with its own poles; and which copies those are."""
    rng = np.random.default_rng(seed)
    w = -rng.uniform(0.3, 0.7, (H, N)) + 1j * np.pi * np.arange(N)
    chosen = np.sort(rng.choice(H, copies, replace=False))
    for place, copy in enumerate(chosen):
        own = modes // copies + (place < modes % copies)
        w[copy, 1 + rng.choice(N - 1, own, replace=False)] += rng.uniform(0.9, 1.1, own)
    p = 0.05 * noise(rng, H, 1, N)
    nodes = np.exp(-2j * np.pi * np.arange(length // 2 + 1) / length)
    tensors = {
        "D": single(rng.standard_normal(H)),
        "kernel.krylov.log_dt": single(np.log(rng.uniform(1e-3, 1e-2, H))),
        "kernel.krylov.w": pairs(w),
        "kernel.krylov.B": pairs(np.concatenate([noise(rng, H, 1, N), p], axis=1)),
        "kernel.krylov.C": pairs(np.concatenate([noise(rng, H, 1, N), p + 0.01 * noise(rng, H, 1, N)], axis=1)),
        "kernel.krylov.nodes": pairs(nodes),
    }
    return {PLACE + name: values for name, values in tensors.items()}, chosen.tolist()


def kernel(tensors: Tensors, copy: int) -> Array:
    """The inverse FFT of C~ (I - Abar z)^{-1} Bbar at the roots of unity, by dense solves; it never forms I - Abar^L. Shape (L,)."""
    part = {name.removeprefix(KERNEL): values for name, values in tensors.items()}
    w, (B, p), (C, q) = (joined(part[name])[copy] for name in "wBC")
    w, B, p = (np.concatenate([half, half.conj()]) for half in (w, B, p))
    C, q = (np.concatenate([half.conj(), half]) for half in (C, q))
    A, dt, I = np.diag(w) - np.outer(p, q), np.exp(wide(part["log_dt"])[copy]), np.eye(len(w))
    solve = np.linalg.inv(I - dt / 2 * A)
    Abar, Bbar = solve @ (I + dt / 2 * A), solve @ (dt * B)
    half_turns = np.arange(len(part["nodes"])) / (len(part["nodes"]) - 1)  # the stored nodes are rounded to float32
    return np.fft.irfft([C @ np.linalg.solve(I - Abar * z, Bbar) for z in np.exp(-1j * np.pi * half_turns)])
