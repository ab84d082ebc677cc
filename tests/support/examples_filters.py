"""Examples of modal filters whose poles are in the file: Evo 1 and 2, Megalodon, Centaurus, GSS, RetNet, lightning attention.

Merged into FACTORIES by factories.py, whose words are used here. CONSTRAINED says what another system of the same tensors looks like.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import factories as f
import numpy as np
from factories import Array, Example, Recurrence, Tensors


def single_modes(z: Array, inputs: Array, outputs: Array, skip: Array) -> Recurrence:
    """x = z x + inputs u, y = Re sum outputs x + skip u, for every row of (K, n) arrays."""
    shape = z.shape
    B, C = np.broadcast_to(inputs, shape)[:, :, None].astype(complex), np.broadcast_to(outputs, shape)[:, None, :].astype(complex)
    return Recurrence(f.diagonal(z.astype(complex)), B, C, np.asarray(skip, float)[:, None, None])


# --- StripedHyena 1: stripedhyena/model.py, ParallelHyenaFilter.compute_filter ---


def evo1(rng: np.random.Generator, filters: int = 4, H: int = 4, N: int = 3) -> Example:
    angle = rng.uniform(-np.pi, np.pi, (filters, N))
    angle[:, 0] = 0
    tensors = {
        "D": f.single(rng.standard_normal(H)),
        "poles": f.pairs((rng.uniform(0.3, 0.95, (filters, N)) * np.exp(1j * angle))[:, :, None]),
        "residues": f.pairs(f.noise(rng, filters, N, 1)),
    }
    rows = np.arange(H) // (H // filters)  # h.repeat_interleave
    poles, residues = (f.joined(tensors[name])[rows, :, 0] for name in ("poles", "residues"))
    return Example("evo-1", tensors, (single_modes(poles, np.ones(N), residues, f.wide(tensors["D"])),))


def evo1_shared(rng: np.random.Generator) -> Example:
    return evo1(rng, filters=2)


# --- StripedHyena 2: vortex model.py, HyenaCascade; savanna parametrization/implicit_modal.py ---


def evo2(rng: np.random.Generator, H: int = 4, N: int = 3) -> Example:
    tensors = {
        "D": f.single(rng.standard_normal(H)),
        "log_poles": f.single(-np.exp(rng.uniform(-3.5, 0.5, (H, N, 1)))),
        "residues": f.single(rng.standard_normal((H, N))),
    }
    z = np.exp(f.wide(tensors["log_poles"])[:, :, 0])
    return Example("evo-2-hcl", tensors, (single_modes(z, np.ones(N), f.wide(tensors["residues"]), f.wide(tensors["D"])),))


def evo2_training(rng: np.random.Generator, H: int = 4, N: int = 3) -> Example:
    tensors = {
        "conv_bias": f.single(rng.standard_normal(H)),
        "filter.p": f.single(rng.uniform(-2, 0.2, (H, N))),
        "filter.gamma": f.single(rng.uniform(-1.5, 0.2, (H, N))),
        "filter.R": f.single(rng.standard_normal((H, N))),
    }
    z = np.exp(-np.exp(f.wide(tensors["filter.p"])) * np.exp(f.wide(tensors["filter.gamma"])))
    return Example("evo-2-hcl", tensors, (single_modes(z, np.ones(N), f.wide(tensors["filter.R"]), f.wide(tensors["conv_bias"])),))


def another_evo2(system, rng: np.random.Generator):
    """Real poles and real residues."""
    return replace(system, poles=0.9 * system.poles, C=system.C * rng.uniform(0.5, 2, system.C.shape), D=0.7 * system.D)


# --- Megalodon: modules/complex_exponential_moving_average.py, _calc_coeffs ---


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def megalodon(rng: np.random.Generator, D: int = 4, N: int = 4) -> Example:
    tensors = {
        "alpha": f.single(rng.standard_normal((D, N, 1)) / 2),
        "delta": f.single(rng.standard_normal((D, N, 1)) / 2),
        "theta": f.single(rng.standard_normal((D, 1, 1))),
        "gamma": f.single(rng.standard_normal((D, N, 2))),
        "omega": f.single(rng.standard_normal((D, 1))),
    }
    p = sigmoid(f.wide(tensors["alpha"]))[:, :, 0]
    size = 1 - p * sigmoid(f.wide(tensors["delta"]))[:, :, 0]
    phase = np.arange(1, N + 1) * sigmoid(f.wide(tensors["theta"]))[:, :, 0] * 2 * np.pi / N
    q = size * (np.cos(phase) + 1j * np.sin(phase))
    return Example(
        "megalodon-cema", tensors, (single_modes(q, p, f.joined(tensors["gamma"]) / np.sqrt(N), f.wide(tensors["omega"])[:, 0]),)
    )


# --- Centaurus: centaurus/ssm.py, Kernelizer.discretize and forward; opt_fft.py, _K ---


def centaurus_poles(rng: np.random.Generator, *shape: int) -> Array:
    imag = np.pi * np.arange(shape[-1]) * rng.uniform(0.7, 1.3, shape)
    imag[..., -1] *= -1
    return f.single(np.stack([rng.uniform(-1, 1, shape), imag], axis=-1))


def centaurus_z(A: Array, dt: Array) -> Array:
    a = -f.softplus(f.wide(A)[..., 0]) + 1j * f.wide(A)[..., 1]
    return np.exp(a * dt)


def centaurus_dws(rng: np.random.Generator, C: int = 4, n: int = 3) -> Example:
    tensors = {
        "A": centaurus_poles(rng, C, n),
        "log_dt": f.single(np.log(rng.uniform(0.05, 0.3, (C, n)))),
        "E": f.single(rng.standard_normal((C, n))),
    }
    dt = np.exp(f.wide(tensors["log_dt"]))
    return Example("centaurus", tensors, (single_modes(centaurus_z(tensors["A"], dt), dt, f.wide(tensors["E"]), np.zeros(C)),))


def centaurus_s5(rng: np.random.Generator, N: int = 4, I: int = 2, O: int = 3) -> Example:
    tensors = {
        "A": centaurus_poles(rng, N),
        "log_dt": f.single(np.log(rng.uniform(0.05, 0.3, N))),
        "B": f.single(rng.standard_normal((N, I))),
        "C": f.single(rng.standard_normal((O, N))),
    }
    dt = np.exp(f.wide(tensors["log_dt"]))
    B = dt[:, None] * f.wide(tensors["B"])
    truth = Recurrence(
        f.diagonal(centaurus_z(tensors["A"], dt)[None]), B[None].astype(complex), f.wide(tensors["C"])[None].astype(complex), zeros(1, O, I)
    )
    return Example("centaurus", tensors, (truth,))


def zeros(*shape: int) -> Array:
    return np.zeros(shape)


def centaurus_neck(rng: np.random.Generator, R: int = 3, n: int = 4, I: int = 2, O: int = 3) -> Example:
    tensors = {
        "A": centaurus_poles(rng, R, n),
        "log_dt": f.single(np.log(rng.uniform(0.05, 0.3, R))),
        "B": f.single(rng.standard_normal((R, I))),
        "C": f.single(rng.standard_normal((O, R))),
        "E": f.single(rng.standard_normal((R, n))),
    }
    dt = np.exp(f.wide(tensors["log_dt"]))[:, None]
    z = centaurus_z(tensors["A"], dt)
    E, B, C = (f.wide(tensors[name]) for name in "EBC")
    inputs = np.einsum("rn,ri->rni", E * dt, B).reshape(R * n, I)
    truth = Recurrence(
        f.diagonal(z.reshape(1, -1)), inputs[None].astype(complex), np.repeat(C, n, axis=1)[None].astype(complex), zeros(1, O, I)
    )
    return Example("centaurus", tensors, (truth,))


def centaurus_full(rng: np.random.Generator, O: int = 3, I: int = 2, n: int = 4) -> Example:
    """One recurrence per output; its state holds the modes of all inputs."""
    tensors = {
        "A": centaurus_poles(rng, O, I, n),
        "log_dt": f.single(np.log(rng.uniform(0.05, 0.3, (O, n)))),
        "E": f.single(rng.standard_normal((O, I, n))),
    }
    dt = np.exp(f.wide(tensors["log_dt"]))[:, None, :]
    z, E = centaurus_z(tensors["A"], dt), f.wide(tensors["E"]) * dt
    B = np.zeros((O, I, n, I), complex)
    for channel in range(I):
        B[:, channel, :, channel] = E[:, channel]
    truth = Recurrence(f.diagonal(z.reshape(O, -1)), B.reshape(O, I * n, I), np.ones((O, 1, I * n), complex), zeros(O, 1, I))
    return Example("centaurus", tensors, (truth,))


def another_centaurus(system, rng: np.random.Generator):
    """Other real weights: every mode of an output by one factor, so that modes that share a weight still do."""
    factor = rng.uniform(0.5, 2, (system.copies, system.outputs, 1))
    return replace(system, poles=0.9 * system.poles.real + 1.3j * system.poles.imag, step=1.1 * system.step, C=system.C * factor)


# --- GSS: gated_state_spaces_pytorch/gss.py, DSS.forward ---


def gss_tensors(rng: np.random.Generator, H: int = 4, N: int = 3) -> Tensors:
    return {
        "Lambda_real": f.single(rng.uniform(-3, -1, N)),
        "Lambda_imag": f.single(rng.uniform(-2, 1, N)),
        "C_real": f.single(rng.standard_normal((H, N))),
        "C_imag": f.single(rng.standard_normal((H, N))),
        "param_D": f.single(rng.standard_normal(H)),
    }


def gss_truth(tensors: Tensors, imag: str = "exp") -> Recurrence:
    part = f.wide(tensors["Lambda_imag"])
    Lambda = -np.exp(f.wide(tensors["Lambda_real"])) + 1j * (np.exp(part) if imag == "exp" else part)
    C = (f.wide(tensors["C_real"]) + 1j * f.wide(tensors["C_imag"])) * (np.exp(Lambda) - 1) / Lambda
    z = np.broadcast_to(np.exp(Lambda), C.shape)
    return single_modes(z, np.ones(len(Lambda)), C, f.wide(tensors["param_D"]))


def gss(rng: np.random.Generator) -> Example:
    tensors = gss_tensors(rng)
    return Example("gss", tensors, (gss_truth(tensors),))


# --- RetNet: torchscale architecture/retnet.py, RetNetRelPos; lightning attention: transformers modular_minimax.py ---


def retnet(rng: np.random.Generator, heads: int = 2, key: int = 6) -> Example:
    """q_t rotated by t angles against k_0 rotated by none, at q = k = 1: 2 cos(angle t) for every pair of channels."""
    tensors = {
        "retnet_rel_pos.angle": f.single(np.repeat(1 / 10000 ** np.linspace(0, 1, key // 2), 2)),
        "retnet_rel_pos.decay": f.single(np.log(1 - 2.0 ** (-4 - np.arange(heads)))),
    }
    angle, decay = f.wide(tensors["retnet_rel_pos.angle"]), f.wide(tensors["retnet_rel_pos.decay"])
    z = np.exp(decay)[:, None] * (np.cos(angle[::2]) + 1j * np.sin(angle[::2]))
    return Example("retnet", tensors, (single_modes(z, 1 / np.sqrt(key), 2 * np.ones(key // 2), np.zeros(heads)),))


def lightning(rng: np.random.Generator, heads: int = 4) -> Example:
    tensors = {
        "slope_rate": f.single((2.0 ** -np.arange(1, heads + 1))[:, None, None]),
        "qkv_proj.weight": f.single(rng.standard_normal((24, 8))),
    }
    z = np.exp(-f.wide(tensors["slope_rate"])[:, :, 0])
    return Example("lightning", tensors, (single_modes(z, 1.0, 1.0, np.zeros(heads)),))


EXAMPLES: Mapping[str, Callable[[np.random.Generator], Example]] = {
    "evo-1": evo1,
    "evo-1-shared": evo1_shared,
    "evo-2-hcl": evo2,
    "evo-2-hcl-training": evo2_training,
    "megalodon-cema": megalodon,
    "centaurus-dws": centaurus_dws,
    "centaurus-s5": centaurus_s5,
    "centaurus-neck": centaurus_neck,
    "centaurus-full": centaurus_full,
    "gss": gss,
    "retnet": retnet,
    "lightning": lightning,
}


def another_shared_pair(system, rng: np.random.Generator):
    """Poles and residues that neighbors share, changed alike."""
    poles = np.abs(system.poles) ** 0.9 * np.exp(0.9j * np.angle(system.poles))
    factor = rng.uniform(0.5, 2, (1, 1, system.modes)) + 1j * rng.normal(size=(1, 1, system.modes))
    return replace(system, poles=poles, C=system.C * factor, D=0.7 * system.D)


CONSTRAINED = {"evo-1": another_shared_pair, "evo-2-hcl": another_evo2, "centaurus": another_centaurus}
