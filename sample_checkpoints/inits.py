"""Initial values of the sample models, in double precision.

Symbols: N stored modes (half of the state, the other half is the conjugate), i and j row and column, a pole of the continuous system.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Nplr:
    """HiPPO-LegS in the basis where it is diagonal plus rank one: A = V (diag(poles) - P P^*) V^*.

    Only the half with Im < 0 is kept, so V V^* stands for 2 Re(V V^*) below.

    Attributes:
        poles: (N,) complex, Re = -1/2, Im < 0 ascending.
        low_rank: (N,) complex, P in the eigenbasis.
        inputs: (N,) complex, the HiPPO input vector in the eigenbasis, not clipped.
        basis: (2N, N) complex, orthonormal eigenvectors.
    """

    poles: Tensor
    low_rank: Tensor
    inputs: Tensor
    basis: Tensor


def legs(size: int) -> tuple[Tensor, Tensor]:
    """HiPPO-LegS matrix (size, size) and input vector (size,), real.

        A_ij = -sqrt((2i+1)(2j+1)) for i > j,  -(i+1) for i = j,  0 for i < j;     B_i = sqrt(2i+1)

    Source: Gu et al. 2020 (arXiv 2008.07669), theorem 2; state-spaces/s4, models/s4/s4.py, `transition`.
    """
    index = torch.arange(size, dtype=torch.float64)
    inputs = torch.sqrt(2 * index + 1)
    return torch.diag(index) - torch.tril(torch.outer(inputs, inputs)), inputs


def legs_nplr(modes: int) -> Nplr:
    """Normal-plus-low-rank form of HiPPO-LegS with 2 * modes states.

        A + P P^T = -1/2 I + skew-symmetric,   P_i = sqrt(i + 1/2)

    An eigenvector is free up to a phase. LAPACK, and with it the original code, makes its first component real. Here it is also positive,
    so that the values do not depend on the LAPACK build. The phase matters, because S4 clips the imaginary part of the inputs.

    Source: Gu et al. 2022 (arXiv 2111.00396), theorem 1; state-spaces/s4, models/s4/s4.py, `nplr`.
    """
    matrix, inputs = legs(2 * modes)
    low_rank = inputs / math.sqrt(2)
    normal = matrix + torch.outer(low_rank, low_rank)
    frequencies, vectors = torch.linalg.eigh(-1j * (normal + 0.5 * torch.eye(2 * modes)))
    basis = vectors[:, :modes] * torch.exp(-1j * torch.angle(vectors[0, :modes]))
    poles = torch.complex(torch.full((modes,), -0.5, dtype=torch.float64), frequencies[:modes])
    adjoint = basis.conj().T
    return Nplr(poles, adjoint @ low_rank.to(adjoint), adjoint @ inputs.to(adjoint), basis)


def log_uniform(shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Logarithm of a step size drawn log-uniformly from [low, high]."""
    return math.log(low) + torch.rand(shape) * (math.log(high) - math.log(low))


def complex_normal(*shape: int) -> Tensor:
    """Complex normal numbers of variance one."""
    return torch.randn(*shape, dtype=torch.complex128)


def lecun_normal(shape: tuple[int, ...], fan_in: int) -> Tensor:
    """Normal numbers of variance 1/fan_in. Unlike flax's `lecun_normal`, they are not truncated."""
    return torch.randn(shape) / math.sqrt(fan_in)


def ring(modes: int, *, radius: tuple[float, float], max_phase: float) -> tuple[Tensor, Tensor, Tensor]:
    """Logarithms (nu_log, theta_log, gamma_log), each (modes,), of LRU poles spread evenly over a ring.

        |z|^2 ~ U[r_min^2, r_max^2],  arg z ~ U[0, max_phase],  gamma = sqrt(1 - |z|^2)

    Source: Orvieto et al. 2023 (arXiv 2303.06349), lemma 3.2 and appendix A.
    """
    low, high = radius
    squared = low**2 + torch.rand(modes) * (high**2 - low**2)
    phase = max_phase * torch.rand(modes)
    return torch.log(-0.5 * torch.log(squared)), torch.log(phase), 0.5 * torch.log(1 - squared)
