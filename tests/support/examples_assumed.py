"""Layers of code with other options than the usual ones, which no tensor tells: each with what the user must say about it."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import factories as f
import numpy as np
from examples_s4_history import diag_v3_tensors, diag_v3_truths, s4_nplr_v3
from examples_s5_gates import bounded_poles, kimi_delta, sigmoid
from factories import TIED, Array, BlockShape, Example, Recurrence

# --- S4 v4: models/s4/s4.py, param_transform; the truth has the same kernel with exp, of the logarithm of what the transform gives ---

TRANSFORMS: Mapping[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "relu": lambda x: np.maximum(x, 0) + 1e-4,
    "softplus": f.softplus,
    "sigmoid": sigmoid,
    "none": lambda x: x,
}


def stored_for(transform: str, values: Array) -> Array:
    """inv_transform: the numbers that the transform makes into these."""
    inverse = {
        "exp": np.log,
        "relu": lambda y: y - 1e-4,
        "softplus": lambda y: np.log(np.expm1(y)),
        "sigmoid": lambda y: np.log(y / (1 - y)),
        "none": lambda y: y,
    }
    return f.single(inverse[transform](values))


def transformed_block(rng: np.random.Generator, shape: BlockShape, **transforms: str) -> Example:
    """transforms: real, imag and dt, by the names of `param_transform`."""
    tensors = f.block_tensors(rng, shape)
    exact = dict(tensors)  # what the module makes of them, in float64 and as if the transforms were the usual ones
    real, step = rng.uniform(0.4, 0.9, tensors["kernel.A_real"].shape), rng.uniform(0.05, 0.3, tensors["kernel.inv_dt"].shape)
    imag = rng.uniform(0.2, 0.9, real.shape) * np.arange(1, shape.N + 1)
    for name, key, values in (("kernel.A_real", "real", real), ("kernel.A_imag", "imag", imag), ("kernel.inv_dt", "dt", step)):
        if key in transforms:
            tensors[name] = stored_for(transforms[key], values)
            made = TRANSFORMS[transforms[key]](f.wide(tensors[name]))
            exact[name] = made if key == "imag" else np.log(made)
    names = {"real": "s4_real_transform", "imag": "s4_imag_transform", "dt": "s4_dt_transform"}
    assume = {names[key]: value for key, value in transforms.items()}
    if shape.rank:
        tensors["kernel.l_kernel"] = np.array(32)
        return Example("s4-dplr", tensors, f.dplr_truths(exact, shape, 32), ("D",), assume=assume)
    return Example("s4-diag", tensors, f.diagonal_block_truths(exact, shape), ("D",), assume=assume)


def forced_real(rng: np.random.Generator) -> Example:
    """force_real of v4 before July 2023: A = A.real, B and C complex."""
    tensors = f.block_tensors(rng, TIED)
    exact = tensors | {"kernel.A_imag": np.zeros_like(tensors["kernel.A_imag"])}
    return Example("s4-diag", tensors, f.diagonal_block_truths(exact, TIED), ("D",), assume={"s4_is_real": "true"})


def real_block(rng: np.random.Generator) -> Example:
    """is_real of v4: no A_imag, and B and C hold real numbers; the kernel is twice the sum, as for complex ones."""
    tensors = f.block_tensors(rng, TIED)
    del tensors["kernel.A_imag"]
    for name in ("kernel.B", "kernel.C"):
        tensors[name] = tensors[name][..., 0].copy()
    zero = np.zeros_like(tensors["kernel.A_real"])
    exact = tensors | {"kernel.A_imag": zero, **{name: f.pairs(tensors[name].astype(complex)) for name in ("kernel.B", "kernel.C")}}
    return Example("s4-diag", tensors, f.diagonal_block_truths(exact, TIED), ("D",))


# --- S4 v3: src/models/sequence/ss/kernel.py, SSKernelDiag._A and SSKernelNPLR._w ---


def diag_v3(rng: np.random.Generator, transform: str) -> Example:
    tensors = diag_v3_tensors(rng)
    name = "kernel.kernel.inv_A_real"
    tensors[name] = stored_for(transform, rng.uniform(0.4, 0.9, tensors[name].shape))
    exact = tensors | {name: np.log(TRANSFORMS[transform](f.wide(tensors[name])))}
    return Example("s4-diag-v3", tensors, diag_v3_truths(exact), ("D",), assume={"s4_real_transform": transform})


def diag_v3_forced_real(rng: np.random.Generator) -> Example:
    tensors = diag_v3_tensors(rng)
    exact = tensors | {"kernel.kernel.A_imag": np.zeros_like(tensors["kernel.kernel.A_imag"])}
    return Example("s4-diag-v3", tensors, diag_v3_truths(exact), ("D",), assume={"s4_is_real": "true", "discretization": "bilinear"})


def nplr_v3(rng: np.random.Generator, transform: str) -> Example:
    """The low-rank kernel of v3 has a relu without the shift of the others."""
    example = s4_nplr_v3(rng)
    name = "kernel.kernel.inv_w_real"
    made = rng.uniform(0.4, 0.9, example.tensors[name].shape)
    tensors = example.tensors | {name: f.single(made) if transform == "relu" else stored_for(transform, made)}
    exact = {key.replace("inv_w_real", "log_w_real"): values for key, values in tensors.items()}
    stored = f.wide(tensors[name])
    exact["kernel.kernel.log_w_real"] = np.log(np.maximum(stored, 0) if transform == "relu" else TRANSFORMS[transform](stored))
    return replace(example, tensors=tensors, truths=f.nplr_truths(exact, 40), assume={"s4_real_transform": transform})


# --- LRU: adrian-valente/lru_experiments, model.py, LRU.forward; gates with a bound: transformers Glm5NextTextForgetGate ---


def lru_raw(rng: np.random.Generator) -> Example:
    """x = Lambda x + gamma_log B u: the exponential was forgotten."""
    tensors = f.lru_tensors(rng)
    truth = f.lru_truth(tensors)
    gamma = f.wide(tensors["gamma_log"])
    truth = replace(truth, B=truth.B * (gamma / np.exp(gamma))[None, :, None])
    return Example("lru", tensors, (truth,), ("D",), assume={"lru_gamma": "raw"})


def kimi_bounded(rng: np.random.Generator, bound: float) -> Example:
    example = kimi_delta(rng)
    truth = bounded_poles(example.tensors["A_log"], example.tensors["dt_bias"], 3, bound)
    return replace(example, truths=(truth,), assume={"gate_lower_bound": bound})


def lru_late(rng: np.random.Generator) -> Example:
    """y = Re(C x) before x is updated, with the raw gamma: two assumptions at once."""
    example = lru_raw(rng)
    return replace(example, truths=tuple(map(late, example.truths)), assume=example.assume | {"lru_convention": "pre-update"})


def late(truth: Recurrence) -> Recurrence:
    """The same kernel one sample later: a state more, which holds the input."""
    K, n, I = truth.B.shape
    A = np.zeros((K, n + I, n + I), complex)
    A[:, :n, :n], A[:, :n, n:] = truth.A, truth.B
    B = np.concatenate([np.zeros_like(truth.B), np.broadcast_to(np.eye(I), (K, I, I))], axis=1)
    C = np.concatenate([truth.C, np.zeros((K, truth.C.shape[1], I))], axis=2)
    return replace(truth, A=A, B=B, C=C)


ASSUMED: Mapping[str, Callable[[np.random.Generator], Example]] = {
    **{f"s4-diag-{name}": lambda rng, name=name: transformed_block(rng, TIED, real=name) for name in TRANSFORMS if name != "exp"},
    **{f"s4-diag-imag-{name}": lambda rng, name=name: transformed_block(rng, TIED, imag=name) for name in ("exp", "relu", "softplus")},
    **{f"s4-diag-dt-{name}": lambda rng, name=name: transformed_block(rng, TIED, dt=name) for name in ("softplus", "sigmoid", "none")},
    "s4-diag-all": lambda rng: transformed_block(rng, replace(TIED, directions=2, steps=3), real="softplus", imag="exp", dt="softplus"),
    "s4-dplr-softplus": lambda rng: transformed_block(rng, BlockShape(rank=1), real="softplus", dt="softplus"),
    "s4-diag-forced-real": forced_real,
    "s4-diag-real": real_block,
    **{f"s4-diag-v3-{name}": lambda rng, name=name: diag_v3(rng, name) for name in TRANSFORMS if name != "exp"},
    "s4-diag-v3-forced-real": diag_v3_forced_real,
    **{f"s4-nplr-v3-{name}": lambda rng, name=name: nplr_v3(rng, name) for name in ("relu", "softplus", "sigmoid")},
    "lru-raw": lru_raw,
    "lru-late": lru_late,
    "kimi-bounded": lambda rng: kimi_bounded(rng, -5.0),
    "kimi-bounded-otherwise": lambda rng: kimi_bounded(rng, -3.5),
}
