"""Examples of decay gates: RWKV-4 to 7, mLSTM, GLA, HGRN and HGRN2, each as the recurrence that its module steps at a constant gate.

Merged into FACTORIES by factories.py, whose words are used here.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import factories as f
import numpy as np
from examples_filters import sigmoid, single_modes
from factories import Array, Example, Recurrence, Tensors


def late(z: Array, outputs: Array, skip: Array) -> Recurrence:
    """y_t = outputs x_{t-1} + skip u_t with x_t = z x_{t-1} + u_t, (K, n) arrays: one more state per mode holds the last input."""
    K, n = z.shape
    A = np.zeros((K, 2 * n, 2 * n), complex)
    A[:, :n, :n] = f.diagonal(z)
    A[:, :n, n:] = np.eye(n)
    B = np.concatenate([np.zeros((K, n, 1)), np.ones((K, n, 1))], axis=1).astype(complex)
    C = np.concatenate([np.broadcast_to(outputs, (K, n)), np.zeros((K, n))], axis=1)[:, None].astype(complex)
    return Recurrence(A, B, C, np.asarray(skip, float)[:, None, None])


def projections(rng: np.random.Generator, width: int, *names: str) -> Tensors:
    return {f"{name}.weight": f.single(rng.standard_normal((width, width))) for name in names}


# --- RWKV: RWKV-v4 cuda/wkv_cuda.cu; RWKV-v5 cuda/wkv5_cuda.cu; RWKV-v7 rwkv_v7_demo.py; fla rwkv6.py, rwkv7.py ---


def rwkv4(rng: np.random.Generator, C: int = 6) -> Example:
    """y = (e^u v + a)/(e^u + b), a = z a + v, b = z b + 1, where b has settled; the kernel by these steps."""
    tensors = {"time_decay": f.single(np.linspace(-3, 0.7, C)), "time_first": f.single(rng.normal(-1, 0.5, C))}
    decay, first = np.exp(-np.exp(f.wide(tensors["time_decay"]))), np.exp(f.wide(tensors["time_first"]))
    b = np.zeros(C)
    for _ in range(2000):
        b = decay * b + 1
    others = projections(rng, C, "key", "value", "receptance", "output")
    truth = late(decay[:, None], 1 / (first + b)[:, None], first / (first + b))
    return Example("rwkv-4", tensors | others, (truth,), tuple(others))


def rwkv5(rng: np.random.Generator, heads: int = 2, N: int = 3) -> Example:
    tensors = {
        "time_decay": f.single(rng.uniform(-3.5, 0.5, (heads, N))),
        "time_faaaa": f.single(rng.standard_normal((heads, N))),
        "ln_x.weight": f.single(rng.standard_normal(heads * N)),
    }
    return Example("rwkv-5", tensors, (head_truth(tensors["time_decay"], tensors["time_faaaa"]),), ("ln_x.weight",))


def head_truth(w: Array, u: Array) -> Recurrence:
    """One value channel of every head at r = k = 1."""
    z = np.exp(-np.exp(f.wide(w).reshape(u.shape)))
    return late(z, 1.0, f.wide(u).sum(axis=1))


def rwkv6(rng: np.random.Generator, heads: int = 2, N: int = 3, rank: int = 2) -> Example:
    C = heads * N
    tensors = {
        "time_decay": f.single(rng.uniform(-3.5, 0.5, (1, 1, C))),
        "time_decay_w1": f.single(rng.standard_normal((C, rank))),
        "time_decay_w2": f.single(rng.standard_normal((rank, C))),
        "time_faaaa": f.single(rng.standard_normal((heads, N))),
        "ln_x.weight": f.single(rng.standard_normal(C)),
    }
    return Example("rwkv-6", tensors, (head_truth(tensors["time_decay"], tensors["time_faaaa"]),), ("ln_x.weight",))


def rwkv6_fla(rng: np.random.Generator, heads: int = 2, N: int = 3, rank: int = 2) -> Example:
    C = heads * N
    tensors = {
        "w_proj.linear.lora.0.weight": f.single(rng.standard_normal((rank, 7))),
        "w_proj.linear.lora.2.weight": f.single(rng.standard_normal((C, rank))),
        "w_proj.linear.lora.2.bias": f.single(rng.uniform(-3.5, 0.5, C)),
        "bonus": f.single(rng.standard_normal((heads, N))),
    }
    truth = head_truth(tensors["w_proj.linear.lora.2.bias"], tensors["bonus"])
    return Example("rwkv-6", tensors, (truth,), ("w_proj.linear.lora.0.weight",))


def rwkv7_poles(w0: Array) -> Recurrence:
    """w = -softplus(-w0) - 0.5, decay exp(-exp(w)), per channel."""
    z = np.exp(-np.exp(-f.softplus(-f.wide(w0)) - 0.5)).reshape(-1, 1)
    return single_modes(z, 1.0, 1.0, np.zeros(len(z)))


def rwkv7(rng: np.random.Generator, C: int = 6, rank: int = 2) -> Example:
    tensors = {
        "w0": f.single(rng.uniform(-4, -0.5, (1, 1, C))),
        "w1": f.single(rng.standard_normal((C, rank))),
        "w2": f.single(rng.standard_normal((rank, C))),
        "a0": f.single(rng.standard_normal((1, 1, C))),
        "r_k": f.single(rng.standard_normal((2, C // 2))),
    }
    return Example("rwkv-7", tensors, (rwkv7_poles(tensors["w0"]),), ("a0", "r_k"))


def rwkv7_fla(rng: np.random.Generator, C: int = 6, rank: int = 2) -> Example:
    tensors = {
        "w_lora.lora.0.weight": f.single(rng.standard_normal((rank, C))),
        "w_lora.lora.2.weight": f.single(rng.standard_normal((C, rank))),
        "w_lora.lora.2.bias": f.single(rng.uniform(-4, -0.5, C)),
    }
    return Example("rwkv-7", tensors, (rwkv7_poles(tensors["w_lora.lora.2.bias"]),))


# --- xLSTM: blocks/mlstm/cell.py; xlstm_large/model.py, mLSTMLayer, soft_cap ---


def gate_poles(preactivation: Array) -> Recurrence:
    z = sigmoid(preactivation)[:, None]
    return single_modes(z, 1.0, 1.0, np.zeros(len(z)))


def mlstm(rng: np.random.Generator, heads: int = 4) -> Example:
    tensors = {
        "mlstm_cell.fgate.bias": f.single(np.linspace(1, 4.5, heads)),
        "mlstm_cell.fgate.weight": f.single(rng.standard_normal((heads, 9))),
        "mlstm_cell.igate.bias": f.single(rng.standard_normal(heads)),
    }
    return Example("mlstm", tensors, (gate_poles(f.wide(tensors["mlstm_cell.fgate.bias"])),), ("mlstm_cell.igate.bias",))


def capped(bias: Array, cap: float = 15.0) -> Array:
    return cap * np.tanh(f.wide(bias) / cap)


def mlstm_large(rng: np.random.Generator, heads: int = 4) -> Example:
    tensors = {
        "mlstm_layer.fgate_preact.bias": f.single(np.linspace(1, 4.5, heads)),
        "mlstm_layer.fgate_preact.weight": f.single(rng.standard_normal((heads, 9))),
    }
    return Example("mlstm", tensors, (gate_poles(capped(tensors["mlstm_layer.fgate_preact.bias"])),))


def mlstm_fused(rng: np.random.Generator, heads: int = 4) -> Example:
    """The first half belongs to the input gate."""
    bias = f.single(np.concatenate([rng.standard_normal(heads), np.linspace(1, 4.5, heads)]))
    tensors = {"mlstm_layer.ifgate_preact.bias": bias, "mlstm_layer.ifgate_preact.weight": f.single(rng.standard_normal((2 * heads, 9)))}
    return Example("mlstm", tensors, (gate_poles(capped(bias[heads:])),))


# --- fla layers/gla.py, layers/hgrn.py, models/hgrn: lower_bounds.softmax(0).cumsum(0) - that of the first ---


def gla_poles(bias: Array, normalizer: float = 16.0) -> Recurrence:
    z = np.exp(-f.softplus(-f.wide(bias)) / normalizer)[:, None]
    return single_modes(z, 1.0, 1.0, np.zeros(len(z)))


def gla(rng: np.random.Generator, keys: int = 5, rank: int = 2) -> Example:
    tensors = {
        "gk_proj.0.weight": f.single(rng.standard_normal((rank, 7))),
        "gk_proj.1.weight": f.single(rng.standard_normal((keys, rank))),
        "gk_proj.1.bias": f.single(rng.uniform(-2, 1.5, keys)),
    }
    return Example("gla", tensors, (gla_poles(tensors["gk_proj.1.bias"]),))


def hgrn_truths(bounds: Array) -> tuple[Recurrence, ...]:
    share = np.exp(f.wide(bounds))
    share /= share.sum(axis=0)
    truths = []
    for number in range(len(bounds)):
        beta = share[1 : number + 1].sum(axis=0)
        z = (beta + (1 - beta) * 0.5)[:, None]
        truth = single_modes(z, 1 - z, 1.0, np.zeros(len(z)))
        truths.append(Recurrence(truth.A, truth.B, truth.C, truth.D, f":layers.{number}"))
    return tuple(truths)


def hgrn(rng: np.random.Generator, layers: int = 3, D: int = 4, second: bool = False) -> Example:
    tensors = {"lower_bounds": f.single(rng.standard_normal((layers, D)))}
    for name in ("f_proj", "q_proj" if second else "g_proj"):
        tensors[f"layers.0.attn.{name}.weight"] = f.single(rng.standard_normal((D, D + 1)))
    return Example("hgrn2" if second else "hgrn", tensors, hgrn_truths(tensors["lower_bounds"]))


def hgrn2(rng: np.random.Generator) -> Example:
    return hgrn(rng, second=True)


EXAMPLES: Mapping[str, Callable[[np.random.Generator], Example]] = {
    "rwkv-4": rwkv4,
    "rwkv-5": rwkv5,
    "rwkv-6": rwkv6,
    "rwkv-6-fla": rwkv6_fla,
    "rwkv-7": rwkv7,
    "rwkv-7-fla": rwkv7_fla,
    "mlstm": mlstm,
    "mlstm-large": mlstm_large,
    "mlstm-fused": mlstm_fused,
    "gla": gla,
    "hgrn": hgrn,
    "hgrn2": hgrn2,
}


def another_rwkv4(system, rng: np.random.Generator):
    """S = e^u + 1/(1 - z), with e^u = D S as it was."""
    first = system.D[:, 0] / (1 - system.D[:, 0]) * -1 / np.expm1(system.poles.real)
    poles = 0.9 * system.poles
    total = first - 1 / np.expm1(poles.real)
    return replace(system, poles=poles, B=(1 / total)[:, :, None].astype(complex), D=(first / total)[:, :, None])


def another_decay(system, rng: np.random.Generator):
    """Bonuses and residues stay."""
    return replace(system, poles=0.9 * system.poles)


CONSTRAINED = {"rwkv-4": another_rwkv4, **dict.fromkeys(("rwkv-5", "rwkv-6"), another_decay)}
