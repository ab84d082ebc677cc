"""Examples of the S4 generations before and beside v4: S4 v1, v2.1 and v3, DSS, H3 and the Annotated S4; see factories.py.

Each truth follows the formulas of the original code, named above its group. Low-rank families are stepped as dense matrices.
"""

import numpy as np
from factories import (
    Array,
    BlockShape,
    Example,
    Recurrence,
    Tensors,
    block_labels,
    block_skip,
    diagonal,
    joined,
    low_rank_recurrence,
    noise,
    nplr_tensors,
    nplr_truths,
    pairs,
    single,
    tiled,
    wide,
)


def steps(rng: np.random.Generator, *shape: int) -> Array:
    return single(np.log(rng.uniform(0.05, 0.3, shape)))


def spectrum(rng: np.random.Generator, *shape: int) -> Array:
    """Poles of S4D-Lin after some training: the first is near the real axis, one is below it."""
    imag = np.pi * np.arange(shape[-1]) * rng.uniform(0.7, 1.3, shape)
    imag[..., 1] *= -1
    return -rng.uniform(0.4, 1.2, shape) + 1j * imag


# --- S4 v1: state-spaces/s4 048b3e6, src/models/sequence/ss/standalone/s4.py, SSKernelNPLR ---


def v1(rng: np.random.Generator, rank: int, tied: bool, H: int = 4, N: int = 3, length: int = 32) -> Example:
    """v = [B, p] * conj [C, q], Woodbury, inverse FFT over `nodes`: A = diag(w) - p q^*, and conj C is C~."""
    own = (1,) if tied else (H,)
    low_rank = noise(rng, *own, rank, N) / 2
    q = low_rank + 0.1 * noise(rng, H, rank, N)  # q has a row per channel always, since it is stored with C
    w, B = spectrum(rng, *own, N), np.concatenate([noise(rng, *own, 1, N), low_rank], axis=1)
    nodes = np.exp(-2j * np.pi * np.arange(length // 2 + 1) / length)
    tensors = {
        "D": single(rng.standard_normal(H)),
        "kernel.krylov.log_dt": steps(rng, H),
        "kernel.krylov.w": pairs(w[0] if tied else w),
        "kernel.krylov.B": pairs(B[0] if tied else B),
        "kernel.krylov.C": pairs(np.concatenate([noise(rng, H, 1, N), q], axis=1)),
        "kernel.krylov.nodes": pairs(nodes),
        "kernel.krylov.z": single(rng.standard_normal((length // 2 + 1, 2))),
    }
    others = ("D", "kernel.krylov.nodes", "kernel.krylov.z")
    return Example("s4-nplr-v1", tensors, (v1_truth(tensors, length),), others)


def v1_truth(tensors: Tensors, length: int) -> Recurrence:
    dt, C = np.exp(wide(tensors["kernel.krylov.log_dt"])), joined(tensors["kernel.krylov.C"])
    w, B = joined(tensors["kernel.krylov.w"]), joined(tensors["kernel.krylov.B"])
    w, B = np.broadcast_to(w, (len(dt), w.shape[-1])), np.broadcast_to(B, (len(dt), *B.shape[-2:]))
    p, q = np.moveaxis(B[:, 1:], 1, 0), np.moveaxis(C[:, 1:], 1, 0)
    return Recurrence(*low_rank_recurrence(w, p, q.conj(), B[:, 0], dt, C[:, 0].conj(), length), wide(tensors["D"])[:, None, None])


def s4_nplr_v1(rng: np.random.Generator) -> Example:
    return v1(rng, rank=1, tied=True)


def s4_nplr_v1_untied(rng: np.random.Generator) -> Example:
    return v1(rng, rank=2, tied=False)


# --- S4 v3: state-spaces/s4 b766e87, src/models/sequence/ss/kernel.py, SSKernelNPLR and SSKernelDiag; v2.1: 643a518 ---


def s4_nplr_v3(rng: np.random.Generator) -> Example:
    """w = -exp(inv_w_real) + i w_imag and Q = conj P; two directions."""
    tensors = nplr_tensors(rng, channels=2, length=40)
    w = joined(tensors.pop("kernel.kernel.w"))
    for name in ("omega", "z", "Q"):
        del tensors["kernel.kernel." + name]
    old = tensors | {"kernel.kernel.log_w_real": single(np.log(-w.real)), "kernel.kernel.w_imag": single(w.imag)}
    tensors |= {"kernel.kernel.inv_w_real": old["kernel.kernel.log_w_real"], "kernel.kernel.w_imag": old["kernel.kernel.w_imag"]}
    tensors["kernel.kernel.L"] = np.array(40)
    return Example("s4-nplr-v3", tensors, nplr_truths(old, 40), ("D", "kernel.kernel.L"))


DIAG_V3 = BlockShape(H=6, S=2)


def diag_v3_tensors(rng: np.random.Generator, shape: BlockShape = DIAG_V3) -> Tensors:
    A = spectrum(rng, shape.S, shape.N)
    return {
        "D": single(rng.standard_normal((shape.channels, shape.H))),
        "kernel.kernel.C": pairs(noise(rng, shape.channels * shape.directions, shape.H, shape.N)),
        "kernel.kernel.log_dt": steps(rng, shape.H),
        "kernel.kernel.B": pairs(noise(rng, shape.S, shape.N)),
        "kernel.kernel.inv_A_real": single(np.log(-A.real)),
        "kernel.kernel.A_imag": single(A.imag),
    }


def diag_v3_truths(tensors: Tensors, shape: BlockShape = DIAG_V3, rule: str = "bilinear") -> tuple[Recurrence, ...]:
    """C B/(1 - dt A/2) dt or C B (exp(dt A) - 1)/A, 2 Re (log_vandermonde); k '(s c) h l'."""
    part = {name.rsplit(".", 1)[-1]: values for name, values in tensors.items() if not name.startswith("ssm_k")}
    real, imag = (part[name] for name in (("inv_A_real", "A_imag") if "A_imag" in part else ("log_w_real", "w_imag")))
    A = tiled(-np.exp(wide(real)) + 1j * wide(imag), shape.H)
    dt = np.exp(wide(part["log_dt"]))[:, None]
    z, gain = (1 + dt * A / 2) / (1 - dt * A / 2), dt / (1 - dt * A / 2)
    if rule == "zoh":
        z, gain = np.exp(dt * A), (np.exp(dt * A) - 1) / A
    B = tiled(joined(part["B"]), shape.H) if "B" in part else np.ones_like(A)
    C = 2 * joined(part["C"]) * B * gain
    truths = []
    for outputs, label in zip(np.split(C, shape.directions), block_labels(shape), strict=True):
        copies = len(outputs) * shape.H
        rows = outputs.reshape(copies, 1, shape.N)
        skip = block_skip(tensors, label)
        truths.append(Recurrence(tiled(diagonal(z), copies), np.ones((copies, shape.N, 1), complex), rows, skip, label))
    return tuple(truths)


def s4_diag_v3(rng: np.random.Generator) -> Example:
    tensors = diag_v3_tensors(rng)
    tensors["kernel.kernel.A"] = pairs(noise(rng, 2, 3))  # registered by raminmh/liquid-s4, used by nobody
    return Example("s4-diag-v3", tensors, diag_v3_truths(tensors), ("D", "kernel.kernel.A"))


def s4_diag_v3_bidirectional(rng: np.random.Generator) -> Example:
    shape = BlockShape(H=4, S=4, directions=2, channels=2)
    tensors = diag_v3_tensors(rng, shape)
    return Example("s4-diag-v3", tensors, diag_v3_truths(tensors, shape), ("D",))


def s4_diag_v2(rng: np.random.Generator) -> Example:
    """No B; the names of the NPLR kernel of its time."""
    tensors = diag_v3_tensors(rng)
    del tensors["kernel.kernel.B"]
    for old, new in (("inv_A_real", "log_w_real"), ("A_imag", "w_imag")):
        tensors["kernel.kernel." + new] = tensors.pop("kernel.kernel." + old)
    return Example("s4-diag-v2", tensors, diag_v3_truths(tensors), ("D",))


# --- H3: HazyResearch/H3, src/models/ssm/h3.py with mode='diag', measure='diag-lin'; D is a vector ---


def h3(rng: np.random.Generator) -> Example:
    shape = BlockShape(H=4, S=4)
    tensors = diag_v3_tensors(rng, shape)
    tensors["D"] = tensors["D"][0]
    tensors |= {
        "ssm_k_kernel.kernel.B": single(rng.standard_normal((8, 5))),
        "ssm_k_kernel.kernel.C": single(rng.standard_normal((1, 8, 5))),
        "ssm_k_D": single(rng.standard_normal(8)),
        "q_proj.weight": single(rng.standard_normal((8, 8))),
    }
    return Example("h3", tensors, diag_v3_truths(tensors, shape), ("D", "ssm_k_D", "q_proj.weight"))


# --- DSS: ag1988/dss, src/models/sequence/ss/standalone/dss.py, DSSKernel.forward ---


def dss_tensors(rng: np.random.Generator, version: str, columns: int, channels: int, skips: int, H: int = 4, N: int = 3) -> Tensors:
    Lambda = spectrum(rng, N)
    log_dt = steps(rng, H, columns)
    tensors = {
        "D": single(rng.standard_normal((skips, H))),
        "kernel.log_dt": log_dt if columns == 2 else log_dt[:, 0],
        "kernel.W": pairs(noise(rng, channels, H, N)),
    }
    if version == "softmax":
        return tensors | {"kernel.Lambda": pairs(Lambda)}
    tensors["kernel.Lambda_log_neg_re"] = single(np.log(-Lambda.real))
    if version == "exp":
        return tensors | {"kernel.Lambda_im": single(Lambda.imag)}
    return tensors | {"kernel.Lambda_log_im": single(np.log(np.abs(Lambda.imag) + 0.1))}


def dss_truths(tensors: Tensors, directions: int = 1, length: int = 0) -> tuple[Recurrence, ...]:
    """softmax: W/Lambda softmax_l(l dt Lambda), with the reciprocal that is bounded by epsilon; exp: W (exp(dt Lambda) - 1)/Lambda; Re."""
    if "kernel.Lambda" in tensors:
        Lambda = joined(tensors["kernel.Lambda"])
    else:
        imag = tensors.get("kernel.Lambda_im")
        imag = np.exp(wide(tensors["kernel.Lambda_log_im"])) if imag is None else wide(imag)
        Lambda = -np.exp(wide(tensors["kernel.Lambda_log_neg_re"])) + 1j * imag
    dt = np.exp(wide(tensors["kernel.log_dt"]))
    dt = dt[:, None] if dt.ndim == 1 else dt
    exponent = dt[:, :1] * Lambda.real + 1j * dt[:, -1:] * Lambda.imag
    if length:
        denominator = (np.exp(exponent * length) - 1) * Lambda
        inverse = denominator.conj() / (np.abs(denominator) ** 2 + 1e-7)
    else:
        inverse = 1 / Lambda
    W = joined(tensors["kernel.W"]) * (np.exp(exponent) - 1) * inverse
    H, N = exponent.shape
    truths = []
    for part, label in zip(np.split(W, directions), ("",) if directions == 1 else (":forward", ":backward"), strict=True):
        copies = len(part) * H
        z = tiled(np.exp(exponent), copies)
        ones = np.ones((copies, N, 1), complex)
        truths.append(Recurrence(diagonal(z), ones, part.reshape(copies, 1, N), block_skip(tensors, label), label))
    return tuple(truths)


def dss_softmax(rng: np.random.Generator) -> Example:
    tensors = dss_tensors(rng, "softmax", columns=2, channels=1, skips=1)
    return Example("dss", tensors, dss_truths(tensors, length=12), ("D",), length=12)


def dss_softmax_bidirectional(rng: np.random.Generator) -> Example:
    tensors = dss_tensors(rng, "softmax", columns=1, channels=2, skips=1)
    return Example("dss", tensors, dss_truths(tensors, directions=2, length=9), ("D",), length=9)


def dss_exp(rng: np.random.Generator) -> Example:
    tensors = dss_tensors(rng, "exp", columns=1, channels=2, skips=2)
    return Example("dss", tensors, dss_truths(tensors), ("D",))


def dss_exp_re_im(rng: np.random.Generator) -> Example:
    tensors = dss_tensors(rng, "exp-re-im", columns=2, channels=1, skips=1)
    return Example("dss", tensors, dss_truths(tensors), ("D",))


# --- The Annotated S4: srush/annotated-s4, s4/s4.py, S4Layer and discrete_DPLR; s4/s4d.py, S4DLayer and s4d_kernel_zoh ---


def unpaired(rng: np.random.Generator, N: int, H: int) -> Array:
    """Both halves of a spectrum, moved apart by training, (N, H)."""
    poles = spectrum(rng, N // 2, H)
    poles = np.concatenate([poles, poles.conj()]) + 0.2 * (rng.random((N, H)) - 0.5) * (1 + 1j)
    poles.real = np.minimum(poles.real, -0.2)
    return poles


def annotated_tensors(rng: np.random.Generator, names: tuple[str, str], N: int = 6, H: int = 4) -> Tensors:
    poles = unpaired(rng, N, H)
    return {
        names[0]: single(poles.real),
        names[1]: single(poles.imag),
        "C": pairs(noise(rng, N, H)),
        "D": single(rng.standard_normal((1, H))),
        "log_step": steps(rng, 1, H),
    }


def annotated_truth(tensors: Tensors, length: int) -> Recurrence:
    """A = diag(Lambda) - P P^*, bilinear; output Re(conj(Ct) (I - Ab^L)^{-1} x) over the whole spectrum."""
    Lambda = np.minimum(wide(tensors["Lambda_re"]), -1e-4).T + 1j * wide(tensors["Lambda_im"]).T
    P, B = (tensors[name].astype(complex).T for name in ("P", "B"))
    Ct = joined(tensors["C"]).T
    step = np.exp(wide(tensors["log_step"])).T[:, :, None]
    A = diagonal(Lambda) - P[:, :, None] * P[:, None, :].conj()
    identity = np.eye(A.shape[-1])
    inverse = np.linalg.inv(identity - step / 2 * A)
    Ab, Bb = inverse @ (identity + step / 2 * A), inverse @ (step * B[:, :, None])
    C = Ct[:, None, :].conj() @ np.linalg.inv(identity - np.linalg.matrix_power(Ab, length))
    return Recurrence(Ab, Bb, C, wide(tensors["D"])[0][:, None, None])


def annotated_s4(rng: np.random.Generator) -> Example:
    tensors = annotated_tensors(rng, ("Lambda_re", "Lambda_im"))
    P = noise(rng, 6, 4) / 2
    tensors |= {"P": single(P), "B": single(noise(rng, 6, 4))}
    return Example("annotated-s4", tensors, (annotated_truth(tensors, 20),), ("D",), length=20)


def annotated_s4d(rng: np.random.Generator) -> Example:
    """k[l] = Re sum C (exp(step A) - 1)/A exp(l step A); B_re and B_im are parameters that the kernel does not use."""
    tensors = annotated_tensors(rng, ("A_re", "A_im"))
    A = np.minimum(wide(tensors["A_re"]), -1e-4).T + 1j * wide(tensors["A_im"]).T
    exponent = np.exp(wide(tensors["log_step"])).T * A
    C = joined(tensors["C"]).T * (np.exp(exponent) - 1) / A
    skip = wide(tensors["D"])[0][:, None, None]
    truth = Recurrence(diagonal(np.exp(exponent)), np.ones((*A.shape, 1), complex), C[:, None, :], skip)
    tensors |= {"B_re": single(rng.standard_normal((6, 4))), "B_im": single(rng.standard_normal((6, 4)))}
    return Example("annotated-s4d", tensors, (truth,), ("D", "B_re", "B_im"))


S4_HISTORY = {
    "s4-nplr-v1": s4_nplr_v1,
    "s4-nplr-v1-untied": s4_nplr_v1_untied,
    "s4-nplr-v3": s4_nplr_v3,
    "s4-diag-v3": s4_diag_v3,
    "s4-diag-v3-bidirectional": s4_diag_v3_bidirectional,
    "s4-diag-v2": s4_diag_v2,
    "h3": h3,
    "dss-softmax": dss_softmax,
    "dss-softmax-bidirectional": dss_softmax_bidirectional,
    "dss-exp": dss_exp,
    "dss-exp-re-im": dss_exp_re_im,
    "annotated-s4": annotated_s4,
    "annotated-s4d": annotated_s4d,
}
