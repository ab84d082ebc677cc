"""Examples of selective families beyond Mamba-1 and Mamba-2: Zamba's heads, Jamba's norms, Mamba-3."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from factories import Example, Recurrence, Tensors, diagonal, mamba1, single, softplus, wide

from ssmspec.systems.statespace import StateSpace


def zamba(rng: np.random.Generator) -> Example:
    """modeling_zamba.py, ZambaMambaMixer: a Mamba-1 per head; all heads frozen at B = C = 1."""
    heads, hd, N, r, m = 2, 3, 4, 2, 5
    tensors: Tensors = {
        "x_proj_weight": single(rng.standard_normal((heads, r + 2 * N, hd))),
        "dt_proj_weight": single(rng.standard_normal((heads, hd, r))),
        "dt_proj_bias": single(rng.uniform(-3, -0.5, (heads, hd))),
        "A_log": single(np.log(rng.uniform(0.5, 4.0, (heads, hd, N)))),
        "D": single(rng.standard_normal((heads, hd))),
        "conv1d.weight": single(rng.standard_normal((heads * hd, 1, 4))),
        "in_proj.weight": single(rng.standard_normal((2 * heads * hd, m))),
    }
    dt = softplus(wide(tensors["dt_proj_bias"])).reshape(-1, 1)
    A = -np.exp(wide(tensors["A_log"])).reshape(-1, N)
    B = np.broadcast_to(dt, A.shape)[:, :, None].astype(complex)
    C = np.ones((heads * hd, 1, N), complex)
    truth = Recurrence(diagonal(np.exp(dt * A)), B, C, wide(tensors["D"]).reshape(-1, 1, 1))
    return Example("zamba", tensors, (truth,), ("D", "conv1d.weight", "in_proj.weight"))


def jamba(rng: np.random.Generator) -> Example:
    """modeling_jamba.py, JambaMambaMixer: the tensors of Mamba-1 and three norms, which the bias point does not see."""
    example = mamba1(rng)
    norms = {"dt_layernorm.weight": 2, "b_layernorm.weight": 3, "c_layernorm.weight": 3}
    tensors = example.tensors | {name: single(rng.uniform(0.5, 2, size)) for name, size in norms.items()}
    return replace(example, tensors=tensors, optional=(*example.optional, *norms))


def mamba3(rng: np.random.Generator) -> Example:
    """mamba_ssm/modules/mamba3.py where all that depends on the input is zero: A = -1, trap = 1/2, no rotation.

    k[0] = (C B Delta)/2 + D, k[l] = C B Delta exp(-Delta l): the missing half of the first sample is taken from D.
    """
    heads, hd, N, m = 4, 2, 6, 5
    angles = N // 4
    tensors: Tensors = {
        "dt_bias": single(rng.uniform(-3, -0.5, heads)),
        "B_bias": single(rng.standard_normal((heads, 1, N))),
        "C_bias": single(rng.standard_normal((heads, 1, N))),
        "D": single(rng.standard_normal(heads)),
        "in_proj.weight": single(rng.standard_normal((4 * heads * hd + 2 * N + 3 * heads + angles, m))),
        "B_norm.weight": single(np.ones(N)),
        "C_norm.weight": single(np.ones(N)),
        "out_proj.weight": single(rng.standard_normal((m, 2 * heads * hd))),
    }
    dt = softplus(wide(tensors["dt_bias"]))
    residue = (wide(tensors["B_bias"]) * wide(tensors["C_bias"])).sum(axis=(1, 2))
    D = wide(tensors["D"]) - 0.5 * dt * residue
    truth = Recurrence(
        np.exp(-dt)[:, None, None].astype(complex),
        (dt * residue)[:, None, None].astype(complex),
        np.ones((heads, 1, 1), complex),
        D[:, None, None],
    )
    return Example("mamba-3", tensors, (truth,), ("out_proj.weight",))


SELECTIVE: Mapping[str, Callable[[np.random.Generator], Example]] = {"zamba": zamba, "mamba-1-with-norms": jamba, "mamba-3": mamba3}


def other_mamba3(system: StateSpace, rng: np.random.Generator) -> StateSpace:
    """Another system that the tensors of Mamba-3 can hold: the pole is not theirs to change."""
    return replace(system, step=1.1 * system.step, D=0.7 * system.D)
