"""Examples of layers with several directions, scans or axes: Vim and its relatives, VMamba, Hydra, S4ND, Mega; and ports of S4.

Merged into FACTORIES by factories.py. Every truth follows the formulas of the original code, named above its group.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import factories as f
import numpy as np
from factories import Array, BlockShape, Example, Recurrence, Tensors

# --- Mamba-1 in several directions: hustvl/Vim mamba_simple.py, SegMamba mamba_simple.py, mamba.py vim.py, LocalMamba multi_mamba.py ---

d, N, r, m = 4, 3, 2, 5  # channels, states, rank of dt, width of the model


def set_of_tensors(rng: np.random.Generator, end: str = "") -> Tensors:
    """What one direction has of its own, under the names of the first with an end added."""
    return {
        "A_log" + end: f.single(np.log(rng.uniform(0.5, 4.0, (d, N)))),
        "D" + end: f.single(rng.standard_normal(d)),
        f"conv1d{end}.weight": f.single(rng.standard_normal((d, 1, 4))),
        f"x_proj{end}.weight": f.single(rng.standard_normal((r + 2 * N, d))),
        f"dt_proj{end}.weight": f.single(rng.standard_normal((d, r))),
        f"dt_proj{end}.bias": f.single(rng.uniform(-3, -0.5, d)),
    }


def around(rng: np.random.Generator) -> Tensors:
    return {"in_proj.weight": f.single(rng.standard_normal((2 * d, m))), "out_proj.weight": f.single(rng.standard_normal((m, d)))}


def mamba_truth(A_log: Array, bias: Array, D: Array, label: str) -> Recurrence:
    """h = exp(Delta A) h + Delta B u, y = C h + D u with Delta = softplus(bias) and B = C = 1, over tokens in the direction's order."""
    dt = f.softplus(f.wide(bias))[:, None]
    A = -np.exp(f.wide(A_log))
    B = np.broadcast_to(dt, A.shape)[:, :, None].astype(complex)
    return Recurrence(f.diagonal(np.exp(dt * A)), B, np.ones((len(A), 1, A.shape[1]), complex), f.wide(D)[:, None, None], label)


OTHERS = ("in_proj.weight", "out_proj.weight")


def in_directions(family: str, tensors: Tensors, directions: Mapping[str, str]) -> Example:
    """The example of a block whose directions have names with these ends; what one lacks is that of the first."""
    first, truths = next(iter(directions.values())), []
    for label, end in directions.items():
        ways = ((f"A{end}_log", f"A_log{end}", f"A_log{first}"), (f"dt_proj{end}.bias", f"dt_proj{first}.bias"), (f"D{end}", f"D{first}"))
        A_log, bias, D = (next(tensors[name] for name in names if name in tensors) for names in ways)
        truths.append(mamba_truth(A_log, bias, D, label))
    optional = tuple(name for name in tensors if name in OTHERS or name.startswith(("conv1d", "D")))
    return Example(family, tensors, tuple(truths), optional)


def vim(rng: np.random.Generator) -> Example:
    tensors = set_of_tensors(rng) | set_of_tensors(rng, "_b") | around(rng)
    tensors["A_b_log"] = tensors.pop("A_log_b")
    return in_directions("vim", tensors, {":forward": "", ":backward": "_b"})


def vim_of_mamba_py(rng: np.random.Generator) -> Example:
    tensors = set_of_tensors(rng) | set_of_tensors(rng, "_b") | around(rng)
    return in_directions("vim", tensors, {":forward": "", ":backward": "_b"})


def segmamba(rng: np.random.Generator) -> Example:
    tensors = set_of_tensors(rng) | set_of_tensors(rng, "_b") | set_of_tensors(rng, "_s") | around(rng)
    for letter in "bs":
        tensors[f"A_{letter}_log"] = tensors.pop(f"A_log_{letter}")
    return in_directions("vim", tensors, {":forward": "", ":backward": "_b", ":slices": "_s"})


def vim_v1(rng: np.random.Generator) -> Example:
    """A second A alone; without it the layer is a Mamba-1."""
    tensors = set_of_tensors(rng) | around(rng)
    tensors["A_b_log"] = f.single(np.log(rng.uniform(0.5, 4.0, (d, N))))
    example = in_directions("vim-v1", tensors, {":forward": "", ":backward": "_b"})
    return replace(example, optional=(*example.optional, "A_b_log"))


def local_mamba(rng: np.random.Generator) -> Example:
    tensors = around(rng)
    for number in range(3):
        tensors |= set_of_tensors(rng, f"_{number}")
    return in_directions("local-mamba", tensors, {f":{number}": f"_{number}" for number in range(3)})


def mamba1_full_rank(rng: np.random.Generator) -> Example:
    """MambaStock.py: dt_proj takes the channels, x_proj yields B and C alone, and both have a bias."""
    tensors = set_of_tensors(rng) | around(rng)
    tensors["x_proj.weight"] = f.single(rng.standard_normal((2 * N, d)))
    tensors["x_proj.bias"] = f.single(rng.standard_normal(2 * N))
    tensors["dt_proj.weight"] = f.single(rng.standard_normal((d, d)))
    example = in_directions("mamba-1", tensors, {"": ""})
    return replace(example, optional=(*example.optional, "x_proj.bias"))


# --- VMamba: MzeroMiko/VMamba classification/models/vmamba.py, SS2Dv0, SS2Dv2 (vmamba.py) and SS2Dm0 ---


def vmamba(rng: np.random.Generator, K: int = 4, D: int = 6) -> Example:
    """As = -exp(A_logs) (k d, n), Ds (k d), delta_bias (k d): the scans of all directions one after the other."""
    tensors = {
        "x_proj_weight": f.single(rng.standard_normal((K, r + 2 * N, D))),
        "A_logs": f.single(np.log(rng.uniform(0.5, 4.0, (K * D, N)))),
        "Ds": f.single(rng.standard_normal(K * D)),
        "dt_projs_weight": f.single(rng.standard_normal((K, D, r))),
        "dt_projs_bias": f.single(rng.uniform(-3, -0.5, (K, D))),
        "in_proj.weight": f.single(rng.standard_normal((2 * D, m))),
        "conv2d.weight": f.single(rng.standard_normal((D, 1, 3, 3))),
        "out_norm.weight": f.single(rng.standard_normal(D)),
        "out_proj.weight": f.single(rng.standard_normal((m, D))),
    }
    others = ("Ds", "in_proj.weight", "conv2d.weight", "out_norm.weight", "out_proj.weight")
    return Example("vmamba", tensors, scans_of(tensors, K), others)


def scans_of(tensors: Tensors, K: int) -> tuple[Recurrence, ...]:
    A_logs = np.split(tensors["A_logs"].reshape(-1, tensors["A_logs"].shape[-1]), K)
    biases, skips = (np.split(tensors[name].reshape(-1), K) for name in ("dt_projs_bias", "Ds"))
    return tuple(mamba_truth(A_logs[k], biases[k], skips[k], f":{k}") for k in range(K))


def vmamba_v2(rng: np.random.Generator) -> Example:
    """Grouped projections: x_proj.weight (k (r + 2n), d), dt_projs.weight (k d, r); two scans, as a fork has."""
    example = vmamba(rng, K=2)
    tensors = dict(example.tensors)
    tensors["x_proj.weight"] = tensors.pop("x_proj_weight").reshape(-1, 6)
    tensors["dt_projs.weight"] = tensors.pop("dt_projs_weight").reshape(-1, r)
    return replace(example, tensors=tensors)


def vmamba_m0(rng: np.random.Generator, K: int = 4, R: int = 2, P: int = 3) -> Example:
    """One A and Delta per head, D per channel: As (k r), Ds (k r, p)."""
    tensors = {
        "x_proj_weight": f.single(rng.standard_normal((K, R + 2 * N, R * P))),
        "A_logs": f.single(np.log(rng.uniform(0.5, 4.0, (K, R)))),
        "Ds": f.single(rng.standard_normal((K, R, P))),
        "dt_projs_bias": f.single(rng.uniform(-3, -0.5, (K, R))),
        "in_proj.weight": f.single(rng.standard_normal((2 * R * P, m))),
        "out_proj.weight": f.single(rng.standard_normal((m, R * P))),
    }
    truths = []
    for k in range(K):
        A_log, bias = (np.repeat(tensors[name][k], P) for name in ("A_logs", "dt_projs_bias"))
        truths.append(mamba_truth(A_log[:, None], bias, tensors["Ds"][k].reshape(-1), f":{k}"))
    return Example("vmamba-m0", tensors, tuple(truths), ("in_proj.weight", "out_proj.weight"))


# --- Hydra: goombalab/hydra hydra/modules/hydra.py; states of the last step are read, so the delayed state is a second one ---


def hydra(rng: np.random.Generator) -> Example:
    """Without fc_D it is taken for a Mamba-2 whose projections contradict each other."""
    heads, hd, groups = 4, 2, 2
    inner = heads * hd
    tensors = {
        "A_log": f.single(np.log(rng.uniform(0.5, 4.0, heads))),
        "dt_bias": f.single(rng.uniform(-3, -0.5, heads)),
        "D": f.single(rng.standard_normal(heads)),
        "fc_D.weight": f.single(rng.standard_normal((heads, inner))),
        "in_proj.weight": f.single(rng.standard_normal((2 * inner + 4 * groups * N + 2 * heads, m))),
        "conv1d.weight": f.single(rng.standard_normal((inner + 4 * groups * N, 1, 7))),
        "norm.weight": f.single(rng.standard_normal(inner)),
        "out_proj.weight": f.single(rng.standard_normal((m, inner))),
    }
    dt = f.softplus(f.wide(tensors["dt_bias"]))
    a = np.exp(-dt * np.exp(f.wide(tensors["A_log"])))
    A, B = np.zeros((heads, 2, 2), complex), np.zeros((heads, 2, 1), complex)
    A[:, 0, 0], A[:, 1, 0], B[:, 0, 0] = a, 1, dt
    C = np.tile(np.array([[[0, 1]]], complex), (heads, 1, 1))
    D = f.wide(tensors["D"])[:, None, None]
    truths = (Recurrence(A, B, C, D, ":forward"), Recurrence(A, B, C, np.zeros_like(D), ":backward"))
    return Example("hydra", tensors, truths, ("norm.weight", "out_proj.weight", "fc_D.weight"))


# --- S4ND: state-spaces/s4 src/models/sequence/modules/s4nd.py; every kernel is that of an S4 block without a skip ---


def s4nd(rng: np.random.Generator, shapes: Sequence[BlockShape], lengths: Sequence[int]) -> Example:
    """One kernel per axis, in a ModuleList; the kernels of both directions of an axis are chunks of its channels."""
    tensors: Tensors = {"D": f.single(rng.standard_normal((1, shapes[0].H)))}
    optional = ["D"]
    for axis, (shape, length) in enumerate(zip(shapes, lengths, strict=True)):
        own = f.block_tensors(rng, shape)
        tensors |= {name.replace("kernel.", f"kernel.{axis}."): values for name, values in own.items() if name != "D"}
        if shape.rank:
            tensors[f"kernel.{axis}.l_kernel"] = np.array(length)
            optional.append(f"kernel.{axis}.l_kernel")
    return Example("s4nd", tensors, s4nd_truths(tensors, shapes, lengths), tuple(optional))


def s4nd_truths(tensors: Tensors, shapes: Sequence[BlockShape], lengths: Sequence[int]) -> tuple[Recurrence, ...]:
    truths: list[Recurrence] = []
    for axis, (shape, length) in enumerate(zip(shapes, lengths, strict=True)):
        own = {name.replace(f"kernel.{axis}.", "kernel."): values for name, values in tensors.items()}
        own["D"] = np.zeros((shape.channels, shape.H), np.float32)
        found = f.dplr_truths(own, shape, length) if shape.rank else f.diagonal_block_truths(own, shape)
        truths += [replace(truth, label=f":axis{axis}{truth.label}") for truth in found]
    return tuple(truths)


PLANE = [BlockShape(S=2, directions=2), BlockShape(N=4, directions=2, steps=4)]
SPACE = [BlockShape(rank=1, S=S) for S in (4, 2, 1)]
SPACE_LENGTHS = (32, 24, 40)


def s4nd_diagonal(rng: np.random.Generator) -> Example:
    """Two axes with different numbers of modes, both ways."""
    return s4nd(rng, PLANE, (0, 0))


def s4nd_low_rank(rng: np.random.Generator) -> Example:
    """Three axes, one way, each with the length of its own C~."""
    return s4nd(rng, SPACE, SPACE_LENGTHS)


# --- S4Torch: TariqAHassan/S4Torch s4torch/layer.py; A = diag(lambda) - p q^*, Re(conj(Ct) (I - Abar^L)^-1 Abar^l Bbar) ---


def s4_torch(rng: np.random.Generator, H: int = 4, n: int = 6, length: int = 36) -> Example:
    poles = unpaired(rng, n)
    p = f.noise(rng, n) / 2
    tensors = {
        "_lambda_": f.pairs(poles[None, None]),
        "_p": f.pairs(p),
        "_q": f.pairs(p + 0.1 * f.noise(rng, n)),
        "_B": f.pairs(f.noise(rng, H, n)),
        "_Ct": f.pairs(f.noise(rng, H, n)),
        "D": f.single(rng.standard_normal((1, 1, H))),
        "log_step": f.single(np.log(rng.uniform(0.05, 0.3, H))),
        "omega_l": f.single(np.exp(2j * np.pi * np.arange(length) / length)),
        "ifft_order": np.array([0, *range(length - 1, 0, -1)]),
    }
    return Example("s4-torch", tensors, (s4_torch_truth(tensors, length),), ("D", "omega_l", "ifft_order"))


def s4_torch_truth(tensors: Tensors, length: int) -> Recurrence:
    lambda_, p, q = (f.joined(tensors[name]).reshape(-1) for name in ("_lambda_", "_p", "_q"))
    A = np.diag(lambda_) - np.outer(p, q.conj())
    skip = f.wide(tensors["D"]).reshape(-1, 1, 1)
    return dense_bilinear(A, f.joined(tensors["_B"]), f.joined(tensors["_Ct"]), np.exp(f.wide(tensors["log_step"])), length, skip)


def dense_bilinear(A: Array, B: Array, Ct: Array, step: Array, length: int, skip: Array) -> Recurrence:
    """A (n, n) or (H, n, n); B, Ct (H, n); step (H,)."""
    half, identity = step[:, None, None] / 2 * A, np.eye(A.shape[-1])
    inverse = np.linalg.inv(identity - half)
    Ab, Bb = inverse @ (identity + half), inverse @ (step[:, None, None] * B[:, :, None])
    C = Ct[:, None, :].conj() @ np.linalg.inv(identity - np.linalg.matrix_power(Ab, length))
    return Recurrence(Ab, Bb, C, skip)


def unpaired(rng: np.random.Generator, *shape: int) -> Array:
    """Both halves of a spectrum, moved apart by training, along the last axis."""
    half = -rng.uniform(0.4, 1.2, (*shape[:-1], shape[-1] // 2)) + 1j * np.pi * rng.uniform(0.2, 2.5, (*shape[:-1], shape[-1] // 2))
    poles = np.concatenate([half, half.conj()], axis=-1)
    return poles + 0.1 * (rng.random(shape) - 0.5) * (1 + 1j)


# --- The Annotated S4 in flax nnx: binoygeorge97/s4dpc legacy/s4.py, S4LayerEnsemble and discrete_DPLR ---


def annotated_s4_nnx(rng: np.random.Generator, H: int = 4, n: int = 6, length: int = 20) -> Example:
    poles = unpaired(rng, H, n)
    tensors = {
        "Lambda_re": f.single(poles.real),
        "Lambda_im": f.single(poles.imag),
        "P": f.single(f.noise(rng, H, n) / 2),
        "B": f.single(f.noise(rng, H, n)),
        "C_real_imag": f.pairs(f.noise(rng, H, n)),
        "D": f.single(rng.standard_normal((H, 1))),
        "log_step": f.single(np.log(rng.uniform(0.05, 0.3, (H, 1)))),
    }
    return Example("annotated-s4", tensors, (nnx_truth(tensors, length),), ("D",), length=length)


def nnx_truth(tensors: Tensors, length: int) -> Recurrence:
    """Lambda_re clipped to <= -1e-4, the step to 0.001..1."""
    Lambda = np.minimum(f.wide(tensors["Lambda_re"]), -1e-4) + 1j * f.wide(tensors["Lambda_im"])
    P, B = (tensors[name].astype(complex) for name in ("P", "B"))
    A = f.diagonal(Lambda) - P[:, :, None] * P[:, None, :].conj()
    step = np.clip(np.exp(f.wide(tensors["log_step"]))[:, 0], 1e-3, 1)
    return dense_bilinear(A, B, f.joined(tensors["C_real_imag"]), step, length, f.wide(tensors["D"])[:, :, None])


# --- Mega: facebookresearch/mega fairseq/modules/exponential_moving_average.py, MultiHeadEMA.one_step and forward ---


def mega(rng: np.random.Generator, directions: int = 1, H: int = 5, n: int = 4) -> Example:
    rows = directions * H
    tensors = {
        "alpha": f.single(rng.normal(0, 0.7, (rows, n, 1))),
        "delta": f.single(rng.normal(0, 0.7, (rows, n, 1))),
        "beta": f.single(rng.normal(0, 0.5, (rows, n, 1)) + 1),
        "gamma": f.single(rng.normal(0, 1, (rows, n))),
        "omega": f.single(rng.normal(0, 1, H)),
    }
    return Example("mega-ema", tensors, mega_truths(tensors, directions))


def mega_truths(tensors: Tensors, directions: int = 1) -> tuple[Recurrence, ...]:
    """h = q h + p beta x, y = gamma sqrt(1/n) h; of the backward kernel k2 the code keeps k2[1:], that is C A (A^l B), one step late."""
    alpha, delta, beta = (f.wide(tensors[name])[:, :, 0] for name in ("alpha", "delta", "beta"))
    p = 1 / (1 + np.exp(-alpha))
    q = 1 - p / (1 + np.exp(-delta))
    B, C = (p * beta)[:, :, None].astype(complex), (f.wide(tensors["gamma"]) / np.sqrt(q.shape[1]))[:, None].astype(complex)
    skip = f.wide(tensors["omega"])[:, None, None]
    H = len(skip)
    forward = Recurrence(f.diagonal(q[:H]), B[:H], C[:H], skip, "" if directions == 1 else ":forward")
    if directions == 1:
        return (forward,)
    # the same kernel without its sample at lag 0: a second state that takes that sample away
    n = q.shape[1]
    A = np.zeros((H, n + 1, n + 1), complex)
    A[:, :n, :n] = f.diagonal(q[H:])
    inputs = np.concatenate([B[H:], np.ones((H, 1, 1), complex)], axis=1)
    outputs = np.concatenate([C[H:], -(C[H:] @ B[H:])], axis=2)
    return forward, Recurrence(A, inputs, outputs, np.zeros_like(skip), ":backward")


def mega_bidirectional(rng: np.random.Generator) -> Example:
    return mega(rng, directions=2)


def mega_of_transformers(rng: np.random.Generator) -> Example:
    """The names of models/mega, MegaMultiDimensionDampedEma."""
    names = {
        "alpha": "damping_factor",
        "delta": "decay_factor",
        "beta": "ema_expansion_matrix",
        "gamma": "kernel_projection_matrix",
        "omega": "residual_weight",
    }
    example = mega(rng)
    return replace(example, tensors={names[name]: values for name, values in example.tensors.items()})


def another_mega(system, rng: np.random.Generator):
    """Other decays, and real weights; the input weight of the backward direction has a q in it."""
    poles = system.poles**0.9
    B = system.B * (poles / system.poles)[:, :, None] if system.delay else system.B
    return replace(system, poles=poles, B=B, C=system.C * rng.uniform(0.5, 2, system.C.shape), D=0.7 * system.D)


LAYOUTS: Mapping[str, Callable[[np.random.Generator], Example]] = {
    "mamba-1-full-rank": mamba1_full_rank,
    "vim": vim,
    "vim-of-mamba-py": vim_of_mamba_py,
    "segmamba": segmamba,
    "vim-v1": vim_v1,
    "local-mamba": local_mamba,
    "vmamba": vmamba,
    "vmamba-v2": vmamba_v2,
    "vmamba-m0": vmamba_m0,
    "hydra": hydra,
    "s4nd-diagonal": s4nd_diagonal,
    "s4nd-low-rank": s4nd_low_rank,
    "s4-torch": s4_torch,
    "annotated-s4-nnx": annotated_s4_nnx,
    "mega": mega,
    "mega-bidirectional": mega_bidirectional,
    "mega-of-transformers": mega_of_transformers,
}
CONSTRAINED = {"mega-ema": another_mega}
