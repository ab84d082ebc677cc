"""Tiny checkpoints of every family, and what the original module of each one computes.

A factory draws the tensors that a layer has in a file (float32, complex64 or int64, under suffixes) and states, from the original code and
not from ssmspec, the recurrence that the module runs in float64. Families whose state matrix is diagonal plus low rank form the whole
complex 2N x 2N matrix, discretize it bilinearly, and undo C~ with a dense solve.

    x_t = A x_{t-1} + B u_t,   y_t = Re(C x_t) + D u_t          (pre-update: y_t = Re(C x_{t-1}) + D u_t)

Letters of one example: K copies, I inputs, O outputs, n states of the dense recurrence.
"""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
Tensors = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of a file, as the readers ask for it."""

    values: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> str:
        return str(self.values.dtype)

    def read(self, rows: slice | None = None) -> Array:
        return self.values if rows is None else self.values[rows]


def stored(tensors: Mapping[str, Array]) -> dict[str, Stored]:
    return {name: Stored(np.asarray(values)) for name, values in tensors.items()}


@dataclass(frozen=True, slots=True)
class Recurrence:
    """The discrete system that a module steps: A (K, n, n), B (K, n, I), C (K, O, n) complex128, D (K, O, I) float64.

    Args:
        label: what ssmspec adds to the layer's name for this direction.
        beta: (K,) exponent of the weight (1 + theta/2pi)^beta that the module applies to its response, or None.
    """

    A: Array
    B: Array
    C: Array
    D: Array
    label: str = ""
    beta: Array | None = None

    def impulse(self, length: int) -> Array:
        """k[l] = Re(C A^l B); (K, O, I, length) float64. With l = j + m i: the rows C A^j and the states A^(m i) B, one step at a time."""
        m = math.isqrt(length)
        rows, states, jump = [self.C.astype(complex)], [self.B.astype(complex)], np.linalg.matrix_power(self.A, m)
        for _ in range(m - 1):
            rows.append(rows[-1] @ self.A)
        for _ in range(length // m):
            states.append(jump @ states[-1])
        row, state = np.stack(rows, axis=1), np.stack(states, axis=1)  # (K, m, O, n) and (K, length // m + 1, n, I)
        K, _, O, n = row.shape
        samples = row.reshape(K, m * O, n) @ np.moveaxis(state, 1, 2).reshape(K, n, -1)
        ordered = samples.real.reshape(K, m, O, len(states), -1).transpose(0, 2, 4, 3, 1)
        return ordered.reshape(K, O, -1, len(states) * m)[..., :length]

    def tail(self, length: int) -> float:
        """A bound on sum_{l >= length} |k[l]| of every entry.

        With m = length/8, q = |A^m| and S = sum_{j < m} |C A^j|:  sum_{l >= 8 m} |C A^l B| <= S q^8 |B| / (1 - q), spectral norms.
        """
        m = length // 8
        rows = [self.C]
        for _ in range(m - 1):
            rows.append(rows[-1] @ self.A)
        total = np.linalg.norm(np.stack(rows), 2, axis=(2, 3)).sum(axis=0)
        q = np.linalg.norm(np.linalg.matrix_power(self.A, m), 2, axis=(1, 2))
        assert (q < 1).all()
        return float((total * q**8 * np.linalg.norm(self.B, 2, axis=(1, 2)) / (1 - q)).max())


@dataclass(frozen=True, slots=True)
class Example:
    """One layer: its family, its tensors by suffix, the suffixes it can be read without, and what its module computes.

    Args:
        length: what the user must give with --length, where the kernel depends on it and the file does not hold it.
        assume: what the user says about the file.
    """

    family: str
    tensors: Tensors
    truths: tuple[Recurrence, ...]
    optional: tuple[str, ...] = ()
    length: int | None = None
    assume: Mapping[str, str | float] = field(default_factory=dict)

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(name for name in self.tensors if name not in self.optional)

    def under(self, prefix: str) -> Tensors:
        """The tensors with their full names."""
        return {f"{prefix}.{name}": values for name, values in self.tensors.items()}


def single(values: Array) -> Array:
    """As a file stores it: float32 or complex64."""
    return np.asarray(values).astype(np.complex64 if np.iscomplexobj(values) else np.float32)


def pairs(values: Array) -> Array:
    """Complex values as a trailing axis of (real, imaginary) in float32."""
    return single(np.stack([values.real, values.imag], axis=-1))


def wide(values: Array) -> Array:
    """A stored float32 tensor in float64; a trailing pair axis is not touched."""
    return np.asarray(values, dtype=np.float64)


def joined(values: Array) -> Array:
    """Stored pairs as complex128."""
    return wide(values)[..., 0] + 1j * wide(values)[..., 1]


def noise(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def diagonal(z: Array) -> Array:
    """(K, n) -> (K, n, n)."""
    return z[..., None] * np.eye(z.shape[-1])


# --- S4D and the stand-alone FreqBias models: models/s4/s4d.py, S4DKernel.forward ---


def s4d_tensors(rng: np.random.Generator, kernel: str, skips: int, H: int = 4, N: int = 3) -> Tensors:
    A_imag = np.pi * np.arange(N) * rng.uniform(0.7, 1.3, (H, N))  # the first one is zero, as in S4D-Lin
    A_imag[1, 1:] *= -1  # training moves some of them below the axis
    return {
        "D": single(rng.standard_normal(skips)),
        kernel + "C": pairs(noise(rng, H, N)),
        kernel + "log_dt": single(np.log(rng.uniform(0.05, 0.3, H))),
        kernel + "log_A_real": single(np.log(rng.uniform(0.4, 1.2, (H, N)))),
        kernel + "A_imag": single(A_imag),
    }


def s4d_truth(tensors: Tensors, kernel: str) -> Recurrence:
    """K = 2 Re sum_n C_n (exp(dt A_n) - 1)/A_n exp(l dt A_n), A = -exp(log_A_real) + i A_imag."""
    A = -np.exp(wide(tensors[kernel + "log_A_real"])) + 1j * wide(tensors[kernel + "A_imag"])
    dtA = A * np.exp(wide(tensors[kernel + "log_dt"]))[:, None]
    C = joined(tensors[kernel + "C"]) * (np.exp(dtA) - 1.0) / A
    D = np.broadcast_to(wide(tensors["D"]), (len(A),)) if "D" in tensors else np.zeros(len(A))
    return Recurrence(diagonal(np.exp(dtA)), np.ones((*A.shape, 1), complex), 2 * C[:, None, :], D[:, None, None])


def s4d(rng: np.random.Generator) -> Example:
    tensors = s4d_tensors(rng, "kernel.", 4)
    return Example("s4d", tensors, (s4d_truth(tensors, "kernel."),), ("D",))


def s4d_flat(rng: np.random.Generator) -> Example:
    tensors = s4d_tensors(rng, "", 4)
    return Example("s4d", tensors, (s4d_truth(tensors, ""),), ("D",))


def freqbias_standalone(rng: np.random.Generator) -> Example:
    tensors = s4d_tensors(rng, "kernel.", 1)
    tensors |= {"encoder.weight": single(rng.standard_normal((4, 1))), "encoder.bias": single(rng.standard_normal(4))}
    tensors |= {"decoder.weight": single(rng.standard_normal((4, 4))), "decoder.bias": single(rng.standard_normal(4))}
    others = tuple(name for name in tensors if not name.startswith("kernel"))
    return Example("freqbias-standalone", tensors, (s4d_truth(tensors, "kernel."),), others)


# --- S4 block v4 and the FreqBias block: models/s4/s4.py, SSMKernelDiag / SSMKernelDPLR / FFTConv; FreqBias s4block.py ---


@dataclass(frozen=True, slots=True)
class BlockShape:
    """H channels, N stored modes, S tied copies, ch kernels per channel, directions 1 or 2, R rank, step columns 1 or N."""

    H: int = 4
    N: int = 3
    S: int = 4
    channels: int = 1
    directions: int = 1
    rank: int = 0
    steps: int = 1


def block_tensors(rng: np.random.Generator, shape: BlockShape) -> Tensors:
    H, N, S = shape.H, shape.N, shape.S
    A_imag = np.pi * np.arange(N) * rng.uniform(0.7, 1.3, (S, N))
    A_imag[:, 0] = -0.0  # as the original code stores the first mode of S4D-Lin
    A_imag[0, 1] *= -1
    tensors = {
        "D": single(rng.standard_normal((shape.channels, H))),
        "kernel.inv_dt": single(np.log(rng.uniform(0.05, 0.3, (H, shape.steps)))),
        "kernel.C": pairs(noise(rng, shape.channels * shape.directions, H, N)),
        "kernel.B": pairs(noise(rng, 1, S, N)),
        "kernel.A_real": single(np.log(rng.uniform(0.4, 1.2, (S, N)))),
        "kernel.A_imag": single(A_imag),
    }
    if shape.rank:
        tensors["kernel.P"] = pairs(noise(rng, shape.rank, S, N) / 2)
    return tensors


def tiled(values: Array, copies: int) -> Array:
    """einops 't n -> (v t) n': copy h uses row h mod t."""
    return values[np.arange(copies) % len(values)]


def block_labels(shape: BlockShape) -> tuple[str, ...]:
    return ("",) if shape.directions == 1 else (":forward", ":backward")


def block_skip(tensors: Tensors, label: str) -> Array:
    D = wide(tensors["D"]).reshape(-1)
    return (np.zeros_like(D) if label == ":backward" else D)[:, None, None]


def diagonal_block_truths(tensors: Tensors, shape: BlockShape, rule: str = "zoh") -> tuple[Recurrence, ...]:
    """SSMKernelDiag.forward: A = -exp(A_real) - i A_imag, C B (exp(dt A) - 1)/A or dt/(1 - dt A/2), 2 Re; k '(s c) h l'."""
    H, N = shape.H, shape.N
    A = tiled(-np.exp(wide(tensors["kernel.A_real"])) - 1j * wide(tensors["kernel.A_imag"]), H)
    dt = np.exp(wide(tensors["kernel.inv_dt"]))
    if rule == "zoh":
        z, gain = np.exp(dt * A), (np.exp(dt * A) - 1.0) / A
    else:
        z, gain = (1 + dt * A / 2) / (1 - dt * A / 2), dt / (1 - dt * A / 2)
    B = tiled(joined(tensors["kernel.B"])[0], H) if "kernel.B" in tensors else np.ones((H, N))
    C = joined(tensors["kernel.C"]) * B * gain
    beta = wide(tensors["s"]).reshape(-1) if "s" in tensors else None
    truths = []
    for part, label in zip(np.split(C, shape.directions), block_labels(shape), strict=True):
        copies = len(part) * H
        output = 2 * part.reshape(copies, 1, N)
        skip = block_skip(tensors, label)
        truths.append(Recurrence(tiled(diagonal(z), copies), np.ones((copies, N, 1), complex), output, skip, label, beta))
    return tuple(truths)


def diagonal_block(rng: np.random.Generator, shape: BlockShape) -> Example:
    tensors = block_tensors(rng, shape)
    return Example("s4-diag", tensors, diagonal_block_truths(tensors, shape), ("D",))


TIED = BlockShape(H=6, S=2)


def s4_diag_tied(rng: np.random.Generator) -> Example:
    return diagonal_block(rng, TIED)


def s4_diag_bidirectional(rng: np.random.Generator) -> Example:
    return diagonal_block(rng, replace(TIED, directions=2, steps=3))


def s4_diag_two_channels(rng: np.random.Generator) -> Example:
    return diagonal_block(rng, BlockShape(channels=2))


def freqbias_block(rng: np.random.Generator, directions: int = 1) -> Example:
    shape = BlockShape(H=4, S=2, directions=directions)
    tensors = block_tensors(rng, shape)
    del tensors["kernel.B"]
    tensors["s"] = single(rng.uniform(-1.5, 1.5, (1, shape.H)))
    return Example("freqbias-block", tensors, diagonal_block_truths(tensors, shape), ("D",))


def freqbias_block_bidirectional(rng: np.random.Generator) -> Example:
    return freqbias_block(rng, directions=2)


def completed(values: Array, axis: int = -1) -> Array:
    """[x, conj x] along an axis: the module's _conj."""
    return np.concatenate([values, values.conj()], axis=axis)


def low_rank_recurrence(w: Array, P: Array, Q: Array, B: Array, dt: Array, C_tilde: Array, length: int) -> tuple[Array, Array, Array]:
    """Bilinear discretization of diag(w) - P Q^T on the completed set; C from C~ = C (I - Abar^length) where length > 0.

    w, B (K, N); P, Q (R, K, N), Q already conjugated as the original code holds it; dt (K,); C_tilde (K, N).
    """
    outer = np.einsum("rkm,rkn->kmn", completed(P), completed(Q))
    A = diagonal(completed(w)) - outer
    identity = np.eye(A.shape[-1])
    half = dt[:, None, None] / 2 * A
    Abar = np.linalg.solve(identity - half, identity + half)
    Bbar = np.linalg.solve(identity - half, dt[:, None, None] * completed(B)[:, :, None])
    C = completed(C_tilde)[:, None, :]
    if length > 0:
        power = np.broadcast_to(identity, Abar.shape).astype(complex)
        for _ in range(length):
            power = power @ Abar
        C = np.linalg.solve((identity - power).transpose(0, 2, 1), C.transpose(0, 2, 1)).transpose(0, 2, 1)
    return Abar, Bbar, C


def dplr_truths(tensors: Tensors, shape: BlockShape, length: int) -> tuple[Recurrence, ...]:
    """SSMKernelDPLR._setup_step: A = diag(a) - P P^*, as a dense matrix."""
    H = shape.H
    A = tiled(-np.exp(wide(tensors["kernel.A_real"])) - 1j * wide(tensors["kernel.A_imag"]), H)
    dt = np.exp(wide(tensors["kernel.inv_dt"]))[:, 0]
    B = tiled(joined(tensors["kernel.B"])[0], H)
    P = np.stack([tiled(row, H) for row in joined(tensors["kernel.P"])])
    truths = []
    for part, label in zip(np.split(joined(tensors["kernel.C"]), shape.directions), block_labels(shape), strict=True):
        steps = [low_rank_recurrence(A, P, P.conj(), B, dt, C, length) for C in part]
        Abar, Bbar, C = (np.concatenate(arrays) for arrays in zip(*steps, strict=True))
        truths.append(Recurrence(Abar, Bbar, C, block_skip(tensors, label), label))
    return tuple(truths)


def dplr(rng: np.random.Generator, shape: BlockShape, length: int) -> Example:
    tensors = block_tensors(rng, shape)
    tensors["kernel.l_kernel"] = np.array(length)  # a 0-d int64 buffer
    return Example("s4-dplr", tensors, dplr_truths(tensors, shape, length), ("D", "kernel.l_kernel"))


DPLR_TIED = BlockShape(H=4, S=2, rank=2)


def s4_dplr(rng: np.random.Generator) -> Example:
    return dplr(rng, BlockShape(rank=1), 48)


def s4_dplr_without_length(rng: np.random.Generator) -> Example:
    return dplr(rng, BlockShape(rank=1), 0)


def s4_dplr_tied(rng: np.random.Generator) -> Example:
    return dplr(rng, DPLR_TIED, 32)


def s4_dplr_bidirectional(rng: np.random.Generator) -> Example:
    return dplr(rng, replace(DPLR_TIED, directions=2, rank=1), 32)


# --- S4 v2 / v2.1: src/models/sequence/ss/kernel.py and standalone/s4.py, SSKernelNPLR ---


def nplr_tensors(rng: np.random.Generator, channels: int, length: int, H: int = 4, N: int = 3) -> Tensors:
    P = noise(rng, 1, H, N) / 2
    omega = np.exp(-2j * np.pi * np.arange(length // 2 + 1) / length)
    w = -rng.uniform(0.4, 1.2, (H, N)) + 1j * np.pi * (np.arange(N) * rng.uniform(0.7, 1.3, (H, N)) - 0.3)
    return {
        "D": single(rng.standard_normal((1, H))),
        "kernel.kernel.C": pairs(noise(rng, channels, H, N)),
        "kernel.kernel.omega": pairs(omega),
        "kernel.kernel.z": single(rng.standard_normal((length // 2 + 1, 2))),
        "kernel.kernel.log_dt": single(np.log(rng.uniform(0.05, 0.3, H))),
        "kernel.kernel.B": pairs(noise(rng, 1, H, N)),
        "kernel.kernel.P": pairs(P),
        "kernel.kernel.w": pairs(w),
        "kernel.kernel.Q": pairs((P + 0.1 * noise(rng, 1, H, N)).conj()),  # trained apart from conj P
    }


def nplr_truths(tensors: Tensors, length: int) -> tuple[Recurrence, ...]:
    """A = diag(w) - P Q^T; without a stored Q the module uses conj P."""
    part = {name.rsplit(".", 1)[-1]: values for name, values in tensors.items()}
    w = joined(part["w"]) if "w" in part else -np.exp(wide(part["log_w_real"])) + 1j * wide(part["w_imag"])
    P = joined(part["P"])
    Q = joined(part["Q"]) if "Q" in part else P.conj()
    dt, B, channels = np.exp(wide(part["log_dt"])), joined(part["B"])[0], joined(part["C"])
    labels = ("",) if len(channels) == 1 else (":forward", ":backward")
    truths = []
    for C, label in zip(channels, labels, strict=True):
        skip = wide(part["D"])[0] * (label != ":backward")
        truths.append(Recurrence(*low_rank_recurrence(w, P, Q, B, dt, C, length), skip[:, None, None], label))
    return tuple(truths)


def s4_nplr_bidirectional(rng: np.random.Generator) -> Example:
    tensors = nplr_tensors(rng, channels=2, length=32)
    return Example("s4-nplr-v2", tensors, nplr_truths(tensors, 32), ("D", "kernel.kernel.omega", "kernel.kernel.z"))


def s4_nplr_log_w(rng: np.random.Generator) -> Example:
    """Real and imaginary part of w apart, and the length as a buffer."""
    tensors = nplr_tensors(rng, channels=1, length=40)
    w = joined(tensors.pop("kernel.kernel.w"))
    del tensors["kernel.kernel.omega"], tensors["kernel.kernel.z"]
    tensors |= {"kernel.kernel.log_w_real": single(np.log(-w.real)), "kernel.kernel.w_imag": single(w.imag)}
    tensors["kernel.kernel.L"] = np.array(40)
    return Example("s4-nplr-v2", tensors, nplr_truths(tensors, 40), ("D", "kernel.kernel.L", "kernel.kernel.Q"))


def s4_nplr_hurwitz(rng: np.random.Generator) -> Example:
    """What the original code stores with w in two parts: no Q, because it is conj P (self.Q = None; v2.1: Q = P.conj())."""
    tensors = s4_nplr_log_w(rng).tensors
    del tensors["kernel.kernel.Q"]
    return Example("s4-nplr-v2", tensors, nplr_truths(tensors, 40), ("D", "kernel.kernel.L", "kernel.kernel.Q"))


# --- S5: s5/ssm.py, S5SSM and apply_ssm ---


def s5_tensors(rng: np.random.Generator, full: bool, H: int = 3, P: int = 6) -> Tensors:
    real = -rng.uniform(0.4, 1.2, P)
    imag = np.pi * (np.arange(P) * rng.uniform(0.7, 1.3, P) + 0.2)
    B, C = noise(rng, P, H), noise(rng, H, P)
    imag[0] *= 1 if full else -0.5  # training moved one below the axis
    if full:
        real, imag, B, C = np.tile(real, 2), np.concatenate([imag, -imag]), completed(B, 0), completed(C, 1)
        B += 0.1 * noise(rng, *B.shape)  # nothing keeps the halves conjugate while they are trained
    return {
        "Lambda_re": single(real),
        "Lambda_im": single(imag),
        "B": pairs(B),
        "C": pairs(C),
        "D": single(rng.standard_normal(H)),
        "log_step": single(np.log(rng.uniform(0.05, 0.3, (len(real), 1)))),
    }


def s5_truth(tensors: Tensors, full: bool, rule: str = "zoh") -> Recurrence:
    """discretize_zoh / discretize_bilinear, then 2 Re(C x) for conj_sym and Re(C x) otherwise; D is a vector."""
    Lambda = wide(tensors["Lambda_re"]) + 1j * wide(tensors["Lambda_im"])
    step = np.exp(wide(tensors["log_step"]).reshape(-1))
    if rule == "zoh":
        Lambda_bar = np.exp(Lambda * step)
        gain = (Lambda_bar - 1) / Lambda
    else:
        BL = 1 / (1 - step / 2 * Lambda)
        Lambda_bar, gain = BL * (1 + step / 2 * Lambda), BL * step
    B = gain[:, None] * joined(tensors["B"])
    C = joined(tensors["C"]) * (1 if full else 2)
    return Recurrence(diagonal(Lambda_bar[None]), B[None], C[None], np.diag(wide(tensors["D"]))[None])


def s5_half(rng: np.random.Generator) -> Example:
    tensors = s5_tensors(rng, full=False)
    return Example("s5", tensors, (s5_truth(tensors, full=False),), ("D",))


def s5_full(rng: np.random.Generator) -> Example:
    tensors = s5_tensors(rng, full=True)
    return Example("s5", tensors, (s5_truth(tensors, full=True),), ("D",))


def s5_flat_step(rng: np.random.Generator) -> Example:
    tensors = s5_tensors(rng, full=False)
    tensors["log_step"] = tensors["log_step"][:, 0]
    return Example("s5", tensors, (s5_truth(tensors, full=False),), ("D",))


# --- LRU: arXiv 2303.06349 appendix A; minimal-LRU lru/model.py; DecodEPFL/SSM lti_cells.py ---


def lru_tensors(rng: np.random.Generator, N: int = 5, I: int = 2, O: int = 3) -> Tensors:
    radius = rng.uniform(0.3, 0.98, N)
    phase = rng.uniform(0.1, 3.0, N)
    phase[:2] = np.pi + 0.4, 2 * np.pi + 1.1  # trained phases pass pi
    return {
        "nu_log": single(np.log(-np.log(radius))),
        "theta_log": single(np.log(phase)),
        "gamma_log": single(np.log(np.sqrt(1 - radius**2))),
        "B": single(noise(rng, N, I)),
        "C": single(noise(rng, O, N)),
        "D": single(rng.standard_normal((O, I))),
    }


def lru_truth(tensors: Tensors) -> Recurrence:
    """Lambda = exp(-exp(nu_log) + i exp(theta_log)), x = Lambda x + exp(gamma_log) B u, y = Re(C x) + D u."""
    radius = np.exp(-np.exp(wide(tensors["nu_log"])))
    angle = np.exp(wide(tensors["theta_log"]))
    Lambda = radius * (np.cos(angle) + 1j * np.sin(angle))
    matrices = {}
    for letter, names in (("B", ("B", "Bp")), ("C", ("C",))):
        name = next((n for n in names if n in tensors), None)
        matrices[letter] = tensors[name].astype(complex) if name else wide(tensors[f"{letter}_re"]) + 1j * wide(tensors[f"{letter}_im"])
    B = np.exp(wide(tensors["gamma_log"]))[:, None] * matrices["B"]
    D = wide(tensors["D"]) if "D" in tensors else np.zeros((len(matrices["C"]), B.shape[1]))
    return Recurrence(diagonal(Lambda[None]), B[None], matrices["C"][None], (np.diag(D) if D.ndim == 1 else D)[None])


def lru(rng: np.random.Generator) -> Example:
    tensors = lru_tensors(rng)
    return Example("lru", tensors, (lru_truth(tensors),), ("D",))


def lru_bp(rng: np.random.Generator) -> Example:
    tensors = lru_tensors(rng)
    tensors["Bp"] = tensors.pop("B")
    return Example("lru", tensors, (lru_truth(tensors),), ("D",))


def lru_pairs(rng: np.random.Generator) -> Example:
    """Real and imaginary parts as tensors of their own, D a vector."""
    tensors = lru_tensors(rng, I=3)
    for letter in "BC":
        matrix = tensors.pop(letter)
        tensors |= {f"{letter}_re": matrix.real.copy(), f"{letter}_im": matrix.imag.copy()}
    tensors["D"] = single(rng.standard_normal(3))
    return Example("lru", tensors, (lru_truth(tensors),), ("D",))


# --- Mamba-1 and Mamba-2 at the bias point with unit residues: mamba_ssm/modules/mamba_simple.py, mamba2.py ---


def softplus(x: Array) -> Array:
    return np.log1p(np.exp(x))


def mamba1(rng: np.random.Generator) -> Example:
    """h = exp(Delta A) h + Delta B u, y = C h + D u with Delta = softplus(dt_proj.bias) and B = C = 1."""
    d, N, r, m = 4, 3, 2, 5
    tensors = {
        "A_log": single(np.log(rng.uniform(0.5, 4.0, (d, N)))),
        "D": single(rng.standard_normal(d)),
        "conv1d.weight": single(rng.standard_normal((d, 1, 4))),
        "conv1d.bias": single(rng.standard_normal(d)),
        "in_proj.weight": single(rng.standard_normal((2 * d, m))),
        "x_proj.weight": single(rng.standard_normal((r + 2 * N, d))),
        "dt_proj.weight": single(rng.standard_normal((d, r))),
        "dt_proj.bias": single(rng.uniform(-3, -0.5, d)),
        "out_proj.weight": single(rng.standard_normal((m, d))),
    }
    dt = softplus(wide(tensors["dt_proj.bias"]))[:, None]
    A = -np.exp(wide(tensors["A_log"]))
    B = np.broadcast_to(dt, A.shape)[:, :, None].astype(complex)
    truth = Recurrence(diagonal(np.exp(dt * A)), B, np.ones((d, 1, N), complex), wide(tensors["D"])[:, None, None])
    return Example("mamba-1", tensors, (truth,), ("D", "conv1d.weight", "conv1d.bias", "in_proj.weight", "out_proj.weight"))


def mamba2(rng: np.random.Generator) -> Example:
    """The same with one real pole per head."""
    heads, hd, N, groups, m = 4, 2, 3, 2, 5
    d = heads * hd
    tensors = {
        "dt_bias": single(rng.uniform(-3, -0.5, heads)),
        "A_log": single(np.log(rng.uniform(0.5, 4.0, heads))),
        "D": single(rng.standard_normal(heads)),
        "in_proj.weight": single(rng.standard_normal((2 * d + 2 * groups * N + heads, m))),
        "conv1d.weight": single(rng.standard_normal((d + 2 * groups * N, 1, 4))),
        "conv1d.bias": single(rng.standard_normal(d + 2 * groups * N)),
        "norm.weight": single(rng.standard_normal(d)),
        "out_proj.weight": single(rng.standard_normal((m, d))),
    }
    dt = softplus(wide(tensors["dt_bias"]))[:, None]
    A = -np.exp(wide(tensors["A_log"]))[:, None]
    truth = Recurrence(
        diagonal(np.exp(dt * A)), dt[:, :, None].astype(complex), np.ones((heads, 1, 1), complex), wide(tensors["D"])[:, None, None]
    )
    return Example("mamba-2", tensors, (truth,), ("conv1d.bias", "norm.weight", "out_proj.weight"))


import examples_filters  # noqa: E402 - as above
import examples_gates  # noqa: E402 - as above
import examples_layouts  # noqa: E402 - as above
import examples_s5_gates  # noqa: E402 - as above
from examples_s4_history import S4_HISTORY  # noqa: E402 - it builds on what stands above
from examples_selective import SELECTIVE  # noqa: E402 - as above

FACTORIES: Mapping[str, Callable[[np.random.Generator], Example]] = {
    "s4d": s4d,
    "s4d-flat": s4d_flat,
    "freqbias-standalone": freqbias_standalone,
    "s4-diag-tied": s4_diag_tied,
    "s4-diag-bidirectional": s4_diag_bidirectional,
    "s4-diag-two-channels": s4_diag_two_channels,
    "s4-dplr": s4_dplr,
    "s4-dplr-without-length": s4_dplr_without_length,
    "s4-dplr-tied": s4_dplr_tied,
    "s4-dplr-bidirectional": s4_dplr_bidirectional,
    "freqbias-block": freqbias_block,
    "freqbias-block-bidirectional": freqbias_block_bidirectional,
    "s4-nplr-bidirectional": s4_nplr_bidirectional,
    "s4-nplr-log-w": s4_nplr_log_w,
    "s4-nplr-hurwitz": s4_nplr_hurwitz,
    "s5-half": s5_half,
    "s5-full": s5_full,
    "s5-flat-step": s5_flat_step,
    "lru": lru,
    "lru-bp": lru_bp,
    "lru-pairs": lru_pairs,
    "mamba-1": mamba1,
    "mamba-2": mamba2,
    **S4_HISTORY,
    **examples_s5_gates.EXAMPLES,
    **SELECTIVE,
    **examples_filters.EXAMPLES,
    **examples_gates.EXAMPLES,
    **examples_layouts.LAYOUTS,
}
CONSTRAINED = examples_s5_gates.CONSTRAINED | examples_layouts.CONSTRAINED | examples_filters.CONSTRAINED | examples_gates.CONSTRAINED


def make(name: str) -> Example:
    """The example of that name; the same one every time."""
    return FACTORIES[name](np.random.default_rng(zlib.crc32(name.encode())))
