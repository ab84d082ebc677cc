"""Examples of S5 in PyTorch and in two directions, LinOSS, more LRU layouts, RG-LRU and the decay gate of gated delta nets.

Merged into FACTORIES by factories.py, whose words are used here. Families whose residues follow from their poles say in CONSTRAINED what
another system of the same tensors looks like.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import factories as f
import numpy as np
from factories import Array, Example, Recurrence, Tensors

# --- S5 in PyTorch: s5-pytorch s5/s5_model.py, S5SSM, apply_ssm; S5 in two directions: S5 s5/ssm.py, apply_ssm ---


def s5_torch_tensors(rng: np.random.Generator, directions: int, H: int = 3, P: int = 4) -> Tensors:
    """Lambda of eigh order (-w .. w), not kept conjugate by training; C is (H, directions P), both complex64."""
    half = np.pi * (np.arange(P // 2) * rng.uniform(0.7, 1.3, P // 2) + 0.3)
    Lambda = -rng.uniform(0.4, 1.2, P) + 1j * np.concatenate([-half[::-1], half * rng.uniform(0.9, 1.1, P // 2)])
    return {
        "Lambda": f.single(Lambda),
        "C": f.single(f.noise(rng, H, directions * P)),
        "B": f.pairs(f.noise(rng, P, H)),
        "D": f.single(rng.standard_normal(H)),
        "log_step": f.single(np.log(rng.uniform(0.05, 0.3, P))),
    }


def s5_torch_truths(tensors: Tensors, rule: str = "zoh") -> tuple[Recurrence, ...]:
    """discretize_zoh / discretize_bilinear, xs and reversed xs side by side, (C_tilde @ x).real + D u."""
    Lambda = tensors["Lambda"].astype(complex)
    step = np.exp(f.wide(tensors["log_step"]))
    if rule == "zoh":
        Lambda_bar = np.exp(Lambda * step)
        gain = (Lambda_bar - 1) / Lambda
    else:
        BL = 1 / (1 - step / 2 * Lambda)
        Lambda_bar, gain = BL * (1 + step / 2 * Lambda), BL * step
    B_bar = gain[:, None] * f.joined(tensors["B"])
    D = np.diag(f.wide(tensors["D"]))[None]
    return two_directions(Lambda_bar, B_bar, tensors["C"].astype(complex), D)


def two_directions(Lambda_bar: Array, B_bar: Array, C: Array, D: Array) -> tuple[Recurrence, ...]:
    """One truth for C (H, P), or the forward and the backward scan for C (H, 2P); D counts with the forward one."""
    A, B = f.diagonal(Lambda_bar[None]), B_bar[None]
    if C.shape[1] == len(Lambda_bar):
        return (Recurrence(A, B, C[None], D),)
    forward, backward = np.split(C, 2, axis=1)
    return Recurrence(A, B, forward[None], D, ":forward"), Recurrence(A, B, backward[None], np.zeros_like(D), ":backward")


# --- ConvS5: src/models/convS5/diagonal_ssm.py, ConvS5SSM, and diagonal_scans.py, apply_convSSM_parallel ---


def conv_s5_tensors(rng: np.random.Generator, U: int = 3, P: int = 4, k_B: int = 3, k_C: int = 1) -> Tensors:
    return {
        "Lambda_re": f.single(-rng.uniform(0.4, 1.2, P)),
        "Lambda_im": f.single(np.pi * (np.arange(P) * rng.uniform(0.7, 1.3, P) - 0.2) * -1),
        "B": f.pairs(f.noise(rng, P, U * k_B**2)),
        "C": f.pairs(f.noise(rng, k_C, k_C, P, U)),
        "log_step": f.single(np.log(rng.uniform(0.05, 0.3, (P, 1)))),
    }


def conv_s5_truth(tensors: Tensors) -> Recurrence:
    """discretize_zoh, 2 Re; in the middle of a constant picture every tap of B.reshape(P, U, k, k) and of C weighs the same value."""
    Lambda = f.wide(tensors["Lambda_re"]) + 1j * f.wide(tensors["Lambda_im"])
    Lambda_bar = np.exp(Lambda * np.exp(f.wide(tensors["log_step"]))[:, 0])
    C = np.einsum("ijpu->up", f.joined(tensors["C"]))
    B = np.einsum("pui->pu", f.joined(tensors["B"]).reshape(len(Lambda), len(C), -1))
    B_bar = ((Lambda_bar - 1) / Lambda)[:, None] * B
    return Recurrence(f.diagonal(Lambda_bar[None]), B_bar[None], 2 * C[None], np.zeros((1, len(C), len(C))))


def conv_s5(rng: np.random.Generator) -> Example:
    tensors = conv_s5_tensors(rng)
    return Example("conv-s5", tensors, (conv_s5_truth(tensors),))


def conv_s5_wide_outputs(rng: np.random.Generator) -> Example:
    tensors = conv_s5_tensors(rng, k_B=1, k_C=3)
    return Example("conv-s5", tensors, (conv_s5_truth(tensors),))


def s5_torch(rng: np.random.Generator) -> Example:
    tensors = s5_torch_tensors(rng, directions=1)
    return Example("s5-torch", tensors, s5_torch_truths(tensors), ("D",))


def s5_torch_bidirectional(rng: np.random.Generator) -> Example:
    tensors = s5_torch_tensors(rng, directions=2)
    return Example("s5-torch", tensors, s5_torch_truths(tensors), ("D",))


def s5_bidirectional_truths(tensors: Tensors) -> tuple[Recurrence, ...]:
    """ZOH, 2 (C_tilde @ x).real with C_tilde = [C1, C2]."""
    Lambda = f.wide(tensors["Lambda_re"]) + 1j * f.wide(tensors["Lambda_im"])
    Lambda_bar = np.exp(Lambda * np.exp(f.wide(tensors["log_step"])[:, 0]))
    C = np.concatenate([f.joined(tensors[name]) for name in ("C1", "C2", "C") if name in tensors], axis=1)
    B_bar = ((Lambda_bar - 1) / Lambda)[:, None] * f.joined(tensors["B"])
    return two_directions(Lambda_bar, B_bar, 2 * C, np.diag(f.wide(tensors["D"]))[None])


def s5_bidirectional(rng: np.random.Generator) -> Example:
    tensors = f.s5_tensors(rng, full=False)
    C = f.joined(tensors.pop("C"))
    tensors |= {"C1": f.pairs(C), "C2": f.pairs(f.noise(rng, *C.shape))}
    return Example("s5", tensors, s5_bidirectional_truths(tensors), ("D",))


def s5_bidirectional_joined(rng: np.random.Generator) -> Example:
    """C_init complex_normal: one C of (H, 2P, 2)."""
    tensors = f.s5_tensors(rng, full=False)
    H, P, _ = tensors["C"].shape
    tensors["C"] = f.pairs(f.noise(rng, H, 2 * P))
    return Example("s5", tensors, s5_bidirectional_truths(tensors), ("D",))


def s5_with_constants(rng: np.random.Generator) -> Example:
    """The Equinox module stores its plain numbers too: here the whole spectrum although the signs suggest half, and a rescaled step."""
    tensors = f.s5_tensors(rng, full=False)
    scaled = dict(tensors, log_step=f.wide(tensors["log_step"]) + np.log(0.5))
    tensors |= {"conj_sym": np.array(False), "clip_eigs": np.array(False), "step_rescale": np.array(0.5)}
    return Example("s5", tensors, (f.s5_truth(scaled, full=True),), ("D", "conj_sym", "clip_eigs", "step_rescale"))


# --- LinOSS: linoss models/LinOSS.py, apply_linoss_im and apply_linoss_imex ---


def linoss_tensors(rng: np.random.Generator, H: int = 3, P: int = 4) -> Tensors:
    return {
        "A_diag": f.single(rng.uniform(0.3, 1.0, P)),
        "B": f.pairs(f.noise(rng, P, H)),
        "C": f.pairs(f.noise(rng, H, P)),
        "D": f.single(rng.standard_normal(H)),
        "steps": f.single(rng.uniform(0, 1, P)),
    }


def linoss_truth(tensors: Tensors, scheme: str = "im") -> Recurrence:
    """The state [z, y] of 2P complex numbers, M in four diagonal blocks, ys = the second half, (C @ y).real."""
    A = np.maximum(f.wide(tensors["A_diag"]), 0)
    step = 1 / (1 + np.exp(-f.wide(tensors["steps"])))
    B = f.joined(tensors["B"])
    if scheme == "im":
        schur = 1 / (1 + step**2 * A)
        blocks = [[1 - step**2 * A * schur, -step * A * schur], [step * schur, schur]]
        F1, F2 = blocks[0][0] * step, blocks[1][0] * step
    else:
        blocks = [[np.ones_like(A), -step * A], [step, 1 - step**2 * A]]
        F1, F2 = step, step**2
    M = np.block([[np.diag(block) for block in row] for row in blocks]).astype(complex)
    F = np.concatenate([F1[:, None] * B, F2[:, None] * B])
    C = np.concatenate([np.zeros_like(B).T, f.joined(tensors["C"])], axis=1)
    return Recurrence(M[None], F[None], C[None], np.diag(f.wide(tensors["D"]))[None])


def linoss(rng: np.random.Generator) -> Example:
    tensors = linoss_tensors(rng)
    return Example("linoss", tensors, (linoss_truth(tensors),), ("D",))


def another_linoss(system, rng: np.random.Generator):
    """x = h sqrt(A) of every IM oscillator 1.1 times what it was, residues as h^2 z/(2 i x) asks, C changed for both modes alike."""
    before = system.poles.imag / system.poles.real
    poles = 1 / (1 - 1.1j * before)
    P = system.modes // 2
    factor = rng.uniform(0.5, 2, (1, system.outputs, P)) + 1j * rng.normal(size=(1, system.outputs, P))
    C = system.C * (poles / 1.1 / system.poles)[:, None] * np.concatenate([factor, factor.conj()], axis=2)
    return replace(system, poles=poles, C=C, D=0.7 * system.D)


# --- LRU: LRURec model/lru.py, LRULayer; minimal-LRU lru/model.py with the full D of lru_experiments ---


def lru_params_log(rng: np.random.Generator) -> Example:
    """nu, theta, gamma = exp(params_log) rows; h = in_proj(x) gamma, out_proj(h).real; without D."""
    tensors = f.lru_tensors(rng)
    truth = f.lru_truth({name: values for name, values in tensors.items() if name != "D"})
    N = len(tensors["B"])
    packed = {
        "params_log": np.stack([tensors[name] for name in ("nu_log", "theta_log", "gamma_log")]),
        "in_proj.weight": tensors["B"],
        "in_proj.bias": f.single(f.noise(rng, N)),
        "out_proj.weight": tensors["C"],
        "out_proj.bias": f.single(f.noise(rng, len(tensors["C"]))),
    }
    return Example("lru", packed, (truth,), ("in_proj.bias", "out_proj.bias"))


def lru_pairs_full_skip(rng: np.random.Generator) -> Example:
    """Parts apart and D a matrix of as many rows as columns."""
    tensors = f.lru_tensors(rng, I=3)
    for letter in "BC":
        matrix = tensors.pop(letter)
        tensors |= {f"{letter}_re": matrix.real.copy(), f"{letter}_im": matrix.imag.copy()}
    return Example("lru", tensors, (f.lru_truth(tensors),), ("D",))


# --- RG-LRU: transformers RecurrentGemmaRglru; recurrentgemma torch/layers.py, RGLRU ---


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def rg_lru(rng: np.random.Generator, google: bool = False) -> Example:
    """log a = -8 sigmoid(gate bias) softplus(param), y = a y + sqrt(1 - a^2) x, with an input gate of 1."""
    heads, width = 2, 3
    param, gate, ends = ("a_param", "a_gate", (".w", ".b")) if google else ("recurrent_param", "recurrent_gate", ("_weight", "_bias"))
    tensors = {
        param: f.single(rng.uniform(-6, -2.5, heads * width)),
        "input_gate" + ends[0]: f.single(rng.standard_normal((heads, width, width))),
        "input_gate" + ends[1]: f.single(rng.standard_normal((heads, width))),
        gate + ends[0]: f.single(rng.standard_normal((heads, width, width))),
        gate + ends[1]: f.single(rng.standard_normal((heads, width))),
    }
    log_a = -8 * sigmoid(f.wide(tensors[gate + ends[1]]).reshape(-1)) * f.softplus(f.wide(tensors[param]))
    return Example("rg-lru", tensors, (real_poles(np.exp(log_a), np.sqrt(1 - np.exp(2 * log_a))),))


def rg_lru_google(rng: np.random.Generator) -> Example:
    return rg_lru(rng, google=True)


def real_poles(a: Array, gain: Array) -> Recurrence:
    """One state per copy, no skip."""
    shape = (len(a), 1, 1)
    return Recurrence(a.reshape(shape).astype(complex), gain.reshape(shape).astype(complex), np.ones(shape, complex), np.zeros(shape))


def another_rg_lru(system, rng: np.random.Generator):
    poles = system.poles**0.9
    return replace(system, poles=poles, B=np.sqrt(1 - poles**2)[:, :, None])


# --- gated delta nets: Qwen3NextGatedDeltaNet, fla GatedDeltaNet, KimiLinearForgetGate ---


def delta_poles(A_log: Array, dt_bias: Array) -> Recurrence:
    """g = -exp(A_log) softplus(a + dt_bias) at a = 0, decay exp(g), unit residues."""
    a = np.exp(-np.exp(f.wide(A_log)) * f.softplus(f.wide(dt_bias)))
    return real_poles(a, np.ones_like(a))


def delta_heads(rng: np.random.Generator, heads: int) -> Tensors:
    return {"A_log": f.single(np.log(rng.uniform(0.5, 4, heads))), "dt_bias": f.single(rng.uniform(-3, -1.5, heads))}


def gated_delta(rng: np.random.Generator) -> Example:
    heads, m = 4, 5
    tensors = delta_heads(rng, heads) | {
        "conv1d.weight": f.single(rng.standard_normal((16, 1, 4))),
        "in_proj_qkvz.weight": f.single(rng.standard_normal((24, m))),
        "in_proj_ba.weight": f.single(rng.standard_normal((2 * heads, m))),
        "norm.weight": f.single(rng.standard_normal(2)),
        "out_proj.weight": f.single(rng.standard_normal((m, 8))),
    }
    others = ("conv1d.weight", "in_proj_qkvz.weight", "norm.weight", "out_proj.weight")
    return Example("gated-delta", tensors, (delta_poles(tensors["A_log"], tensors["dt_bias"]),), others)


def gated_delta_fla(rng: np.random.Generator) -> Example:
    heads, m = 4, 5
    tensors = delta_heads(rng, heads) | {f"{name}.weight": f.single(rng.standard_normal((heads, m))) for name in ("a_proj", "b_proj")}
    return Example("gated-delta", tensors, (delta_poles(tensors["A_log"], tensors["dt_bias"]),))


def kimi_delta(rng: np.random.Generator) -> Example:
    """A_log per head as (1, 1, h, 1), dt_bias per key channel."""
    heads, width, m = 2, 3, 5
    tensors = {
        "A_log": f.single(np.log(rng.uniform(0.5, 4, (1, 1, heads, 1)))),
        "dt_bias": f.single(rng.uniform(-3, -1.5, heads * width)),
        "f_a_proj.weight": f.single(rng.standard_normal((width, m))),
        "f_b_proj.weight": f.single(rng.standard_normal((heads * width, width))),
        "b_proj.weight": f.single(rng.standard_normal((heads, m))),
    }
    truth = delta_poles(np.repeat(tensors["A_log"].reshape(-1), width), tensors["dt_bias"])
    return Example("gated-delta", tensors, (truth,), ("f_a_proj.weight",))


def kimi_delta_converted(rng: np.random.Generator) -> Example:
    """The names that transformers gives them."""
    example = kimi_delta(rng)
    moved = {name if name == "b_proj.weight" else f"forget_gate.{name}": values for name, values in example.tensors.items()}
    return replace(example, tensors=moved, optional=("forget_gate.f_a_proj.weight",))


def kimi_delta_full(rng: np.random.Generator) -> Example:
    """Ling-3 (BailingHybridForgetGate): one full matrix for the gate, and a lower bound of -5 unless the configuration says otherwise."""
    heads, width, m = 2, 3, 5
    tensors = {
        "forget_gate.A_log": f.single(np.log(rng.uniform(0.5, 2, heads))),
        "forget_gate.dt_bias": f.single(rng.uniform(-3, -1, heads * width)),
        "forget_gate.f_proj.weight": f.single(rng.standard_normal((heads * width, m))),
        "b_proj.weight": f.single(rng.standard_normal((heads, m))),
    }
    return Example("gated-delta", tensors, (bounded_poles(tensors["forget_gate.A_log"], tensors["forget_gate.dt_bias"], width),))


def bounded_poles(A_log: Array, dt_bias: Array, width: int, bound: float = -5.0) -> Recurrence:
    """g = lower_bound sigmoid(exp(A_log) (a + dt_bias)) at a = 0, decay exp(g), unit residues."""
    a = np.exp(bound * sigmoid(np.repeat(np.exp(f.wide(A_log).reshape(-1)), width) * f.wide(dt_bias)))
    return real_poles(a, np.ones_like(a))


def comba(rng: np.random.Generator) -> Example:
    """fla Comba: the gate of a gated delta net, with two tensors beside it that change the delta rule and the query."""
    example = gated_delta_fla(rng)
    beside = {"decay": f.single(rng.standard_normal(4)), "D": f.single(rng.uniform(0, 1, 4))}
    return replace(example, tensors=example.tensors | beside, optional=("decay", "D"))


EXAMPLES: Mapping[str, Callable[[np.random.Generator], Example]] = {
    "s5-torch": s5_torch,
    "s5-torch-bidirectional": s5_torch_bidirectional,
    "s5-bidirectional": s5_bidirectional,
    "s5-bidirectional-joined": s5_bidirectional_joined,
    "s5-with-constants": s5_with_constants,
    "conv-s5": conv_s5,
    "conv-s5-wide-outputs": conv_s5_wide_outputs,
    "linoss": linoss,
    "lru-params-log": lru_params_log,
    "lru-pairs-full-skip": lru_pairs_full_skip,
    "rg-lru": rg_lru,
    "rg-lru-google": rg_lru_google,
    "gated-delta": gated_delta,
    "gated-delta-fla": gated_delta_fla,
    "kimi-delta": kimi_delta,
    "kimi-delta-converted": kimi_delta_converted,
    "kimi-delta-full": kimi_delta_full,
    "comba": comba,
}

CONSTRAINED = {"linoss": another_linoss, "rg-lru": another_rg_lru}
