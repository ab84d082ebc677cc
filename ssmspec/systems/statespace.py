"""The canonical object of the package: K independent copies of a real linear system, stored as its upper half.

These symbols mean the same everywhere in ssmspec:

    K copies   N stored modes per copy   I inputs   O outputs   R rank of the low-rank part   F frequencies   L samples

The impulse response of a copy is real, so half of its conjugate-paired modes are sufficient:

    k(t) = 2 Re sum_n r_n exp(a_n t),   r_n = C_n B_n,   Re a_n < 0,   Im a_n >= 0

A real pole is stored once, with half of its residue. Only the readers resolve factors of two and conjugation; no later code does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.systems.rounded_products import circle, squared_modulus_less_one
from ssmspec.systems.sobolev import Sobolev

if TYPE_CHECKING:
    from ssmspec.backends import CauchySum
    from ssmspec.systems.grid import FrequencyGrid
    from ssmspec.systems.response import FrequencyResponse

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]

Discretization = Literal["zoh", "bilinear", "euler", "direct"]
MOST_MODES, MOST_POLES = 1 << 13, 1 << 22  # per copy, per layer: real models have under a tenth; statistics would take many gigabytes
DISCRETIZATIONS: tuple[Discretization, ...] = ("zoh", "bilinear", "euler", "direct")


@dataclass(frozen=True, slots=True)
class Assumed:
    """One thing that the tensors of a layer do not say, as it was taken.

    Args:
        name, value: as typed after `--assume`.
        by: who said so: the user, the file (its configuration or another tensor), or nobody, so that it is the default.
    """

    name: str
    value: str | float
    by: Literal["user", "file", "default"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSpace:
    """K copies of a real system, stored as their upper half; see the module docstring for the symbols.

    Args:
        name: the layer's name in its checkpoint.
        family: key of `ssmspec.families.FAMILIES`.
        poles: (K, N) complex128, Im >= 0; continuous [1/model time], or discrete (on the z-plane) for "direct".
        B: (K, N, I) complex128. C: (K, O, N) complex128. D: (K, O, I) float64, the skip connection.
        step: (K, 1) or (K, N) float64, Delta [model time per sample]; ones for "direct".
        discretization: how the continuous system is sampled (`zoh`, `bilinear`, `euler`, `direct`).
        unit_step: the poles are log z per sample: the step is 1 by definition, no tensor holds it, and factors on it go to the poles.
        delay: samples between an input and its first effect: 0 (y[0] depends on u[0]) or 1 (pre-update outputs).
        P, Q: (K, N, R) complex128: the state matrix is diag(poles) - P Q^* on the completed set; None for diagonal systems.
        sobolev: the weight that the layer applies to its response, or None.
        operating_point: where a selective layer was frozen to get this linear system, in words; None for linear layers.
        assumptions: what was assumed because the file does not specify it, in words.
        assumed: those of them that a user can set, by name.
        if_growing: what a user can do about a pole that does not decay; empty if nothing helps.
        undamped: why poles on the unit circle are not a fault; empty if they are.

    Raises:
        LayerError: the shapes of the arrays contradict each other, an array is empty, there are more modes than any real layer has, or a
            low-rank part couples modes with different steps.
    """

    name: str
    family: str
    poles: ComplexArray
    B: ComplexArray
    C: ComplexArray
    D: FloatArray
    step: FloatArray
    discretization: Discretization
    unit_step: bool = False
    delay: int = 0
    P: ComplexArray | None = None
    Q: ComplexArray | None = None
    sobolev: Sobolev | None = None
    operating_point: str | None = None
    assumptions: tuple[str, ...] = field(default=())
    assumed: tuple[Assumed, ...] = field(default=())
    if_growing: str = ""
    undamped: str = ""
    _known: dict[str, ComplexArray] = field(default_factory=dict, init=False, repr=False, compare=False)  # see `_remembered`
    no_poles: ClassVar[str] = ""
    earliest_lag: ClassVar[int] = 0
    sized_in: ClassVar[str] = "modes"
    zeros: ClassVar[str] = "zero residues"

    def __post_init__(self) -> None:
        K, N = self.poles.shape
        if N > MOST_MODES or K * N > MOST_POLES:
            raise LayerError(
                f"layer {self.name}: {K} copies of {N} modes; expected at most {MOST_MODES} modes, and {MOST_POLES} in all copies"
            )
        O, I = self.C.shape[1], self.B.shape[2]
        if not K * N * O * I:
            raise LayerError(f"layer {self.name}: {K} copies, {N} modes, {O} outputs, {I} inputs; expected at least one of each")
        expected = {"B": (K, N, I), "C": (K, O, N), "D": (K, O, I)}
        if self.P is not None:
            expected |= dict.fromkeys("PQ", (K, N, self.P.shape[2]))
        for letter, shape in expected.items():
            actual = getattr(self, letter).shape
            if actual != shape:
                raise LayerError(f"layer {self.name}: {letter} has shape {actual}, expected {shape} to fit poles of shape {(K, N)}")
        if self.sobolev is not None and self.sobolev.beta.shape != (K,):
            raise LayerError(f"layer {self.name}: beta has shape {self.sobolev.beta.shape}, expected {(K,)}, one per copy")
        if self.step.shape not in {(K, 1), (K, N)}:
            raise LayerError(f"layer {self.name}: step has shape {self.step.shape}, expected {(K, 1)} or {(K, N)}")
        if self.discretization == "direct" and self.P is not None:
            raise LayerError(f"layer {self.name}: a low-rank part needs continuous poles, but 'direct' stores discrete ones")
        if self.P is not None and self.step.shape[1] != 1:
            raise LayerError(f"layer {self.name}: a low-rank state matrix needs one step per copy, but the file has one per mode")

    @property
    def has_step(self) -> bool:
        """Whether the step is a parameter of the layer."""
        return self.discretization != "direct" and not self.unit_step

    @property
    def continuous_time(self) -> bool:
        """Whether the layer is a sampled continuous system; otherwise its poles are z, or log z per sample."""
        return self.discretization != "direct" and not (self.unit_step and self.discretization == "euler")

    @property
    def decay_gate(self) -> bool:
        """Whether its poles are decays per token at an operating point, and nothing else."""
        return self.unit_step and self.operating_point is not None

    @property
    def copies(self) -> int:
        return self.poles.shape[0]

    @property
    def modes(self) -> int:
        return self.poles.shape[1]

    @property
    def inputs(self) -> int:
        return self.B.shape[2]

    @property
    def outputs(self) -> int:
        return self.C.shape[1]

    @property
    def rank(self) -> int:
        return 0 if self.P is None else self.P.shape[2]

    @property
    def shape_text(self) -> str:
        return f"{self.copies} x {self.modes}"

    @property
    def form(self) -> dict[str, Any]:
        stored = {name: getattr(self, name) for name in ("modes", "rank", "discretization", "delay")}
        return {**stored, "continuous_poles": self.continuous_time}

    # these methods are those of `ssmspec.systems.system.System`; the modules that compute a result import this one

    def copy_slice(self, start: int, stop: int) -> "StateSpace":
        return self.pick(slice(start, stop))

    def pick(self, copies: Any) -> "StateSpace":
        if isinstance(copies, slice) and copies.indices(self.copies) == (0, self.copies, 1):
            return self
        low_rank = () if self.P is None else ("P", "Q")
        part: dict[str, Any] = {name: getattr(self, name)[copies] for name in ("poles", "B", "C", "D", "step", *low_rank)}
        if self.sobolev is not None:
            part["sobolev"] = self.sobolev.pick(copies)
        return replace(self, **part)

    def response(self, grid: "FrequencyGrid", cauchy_sum: "CauchySum", *, with_beta: bool = True) -> "FrequencyResponse":
        from ssmspec.systems.response import frequency_response

        return frequency_response(self, grid, cauchy_sum, with_beta=with_beta)

    def impulse(self, length: int) -> FloatArray:
        from ssmspec.systems.response import impulse_response

        return impulse_response(self, length)

    def export(self) -> tuple[dict[str, FloatArray], dict[str, Any], list[str]]:
        from ssmspec.systems.realization import exported

        return exported(self)

    def acting(self) -> npt.NDArray[np.bool_]:
        reads, writes = self.B != 0, self.C != 0
        if self.rank:  # modes are coupled: each of them reaches every other
            reads, writes = reads.any(axis=1, keepdims=True), writes.any(axis=2, keepdims=True)
        return (writes.astype(np.float32) @ reads.astype(np.float32)) > 0

    def not_finite(self) -> dict[str, tuple[npt.NDArray[np.intp], int]]:
        arrays = {"the poles": self.poles} | {name: getattr(self, name) for name in ("step", "B", "C", "D", "P", "Q")}
        arrays |= {} if self.sobolev is None else {"beta": self.sobolev.beta}
        bad = {label: ~np.isfinite(array).reshape(self.copies, -1) for label, array in arrays.items() if array is not None}
        return {label: (each.sum(axis=1), each.size) for label, each in bad.items()}

    def state_space(self) -> "StateSpace":
        return self

    def detached(self, copy: int) -> "StateSpace":
        return self.pick([copy])  # numbers chosen by a list are copied


def _remembered(make: Callable[[StateSpace], ComplexArray]) -> Callable[[StateSpace], ComplexArray]:
    """Keep the result (K, N) of a function with the system, whose statistics ask for it up to ten times; nobody may write into it."""

    @wraps(make)
    def known(system: StateSpace) -> ComplexArray:
        found = system._known.get(make.__name__)
        if found is None:
            found = make(system)
            found.flags.writeable = False
            system._known[make.__name__] = found
        return found

    return known


@_remembered
def cayley_poles(system: StateSpace) -> ComplexArray:
    """sigma = (z - 1)/(z + 1) of every stored pole, (K, N): the pole of the homogeneous Cauchy sum.

    sigma = tanh(a Delta/2) for zoh and euler, a Delta/2 for bilinear. Unlike z, it keeps an accurate real part however close the pole is to
    the unit circle, and an accurate distance to Nyquist. Both parts have 15 digits, no matter how many full turns a Delta contains. For a
    system with a low-rank part these are only the poles of the diagonal part.
    """
    if system.discretization == "bilinear":
        return system.poles * (system.step / 2)
    if system.discretization == "direct":
        x, y = system.poles.real, system.poles.imag
        below = (1 + x) ** 2 + y**2
        return np.asarray((squared_modulus_less_one(x, y) + 2j * y) / below)
    # tanh(u + i v) = (t + i s c (1 - t^2))/(t^2 + c^2 (1 - t^2)) with t = tanh u, s = sin v, c = cos v: sums of positive terms alone
    half = system.poles.real * (system.step / 2)
    t, rest = np.tanh(half), np.cosh(np.clip(half, -350, 350)) ** -2.0
    c, s = circle(system.poles.imag, system.step / 2)
    return np.asarray((t + 1j * (s * c * rest)) / (t * t + c * c * rest))


@_remembered
def log_poles(system: StateSpace) -> ComplexArray:
    """log z of every stored pole of a diagonal system, (K, N): minus the decay per sample, and the angle in (-pi, pi].

    Neither 1 - |z| nor the angle is computed from z, so both keep their accuracy.
    """
    if system.discretization in ("zoh", "euler"):
        c, s = circle(system.poles.imag, system.step / 2)
        return np.asarray(system.poles.real * system.step + 2j * np.arctan2(np.copysign(1, c) * s, np.abs(c)))
    if system.discretization == "direct":
        x, y = system.poles.real, system.poles.imag
        return np.asarray(_log_modulus(np.hypot(x, y), squared_modulus_less_one(x, y)) + 1j * np.arctan2(y, x))
    sigma = cayley_poles(system)
    below, above = np.hypot(1 - sigma.real, sigma.imag), np.hypot(1 + sigma.real, sigma.imag)
    angle = np.arctan2(sigma.imag, 1 + sigma.real) + np.arctan2(sigma.imag, 1 - sigma.real)
    return np.asarray(_log_modulus(above / below, 4 * (sigma.real / below) / below) + 1j * angle)


def _log_modulus(modulus: FloatArray, squared_less_one: FloatArray) -> FloatArray:
    """log |z| from |z| and |z|^2 - 1; the former is accurate for |z| near 0, the latter for |z| near 1."""
    with np.errstate(divide="ignore"):
        return np.where(modulus < 0.5, np.log(modulus), 0.5 * np.log1p(np.maximum(squared_less_one, -0.9)))


def homogeneous_scale(system: StateSpace, sigma: ComplexArray) -> ComplexArray:
    """g/((1 + z) r) of every stored mode, (K, N): the factor from the residue C B to that of the homogeneous Cauchy sum.

    For zoh it is computed as sigma/a, because 1 + z cancels when |a| Delta is large. The limit at a = 0 is Delta/2.
    """
    if system.discretization == "zoh":
        safe = np.where(system.poles == 0, 1, system.poles)
        return np.where(system.poles == 0, system.step / 2 + 0j, sigma / safe)
    if system.discretization == "bilinear":
        return np.broadcast_to(system.step / 2 + 0j, system.poles.shape)
    inverse = (1 - sigma) / 2  # 1/(1 + z)
    return inverse * system.step if system.discretization == "euler" else inverse


def mode_sizes(system: StateSpace) -> FloatArray:
    """|C_n| |B_n| of every stored mode, (K, N)."""
    outputs = np.abs(system.C[:, 0]) if system.outputs == 1 else np.linalg.norm(system.C, axis=1)
    inputs = np.abs(system.B[:, :, 0]) if system.inputs == 1 else np.linalg.norm(system.B, axis=2)
    return np.asarray(outputs * inputs)


def discrete_poles(system: StateSpace) -> ComplexArray:
    """z of every stored pole, (K, N), according to the system's discretization."""
    if system.discretization == "direct":
        return system.poles
    if system.discretization == "bilinear":
        half = system.poles * (system.step / 2)
        return (1 + half) / (1 - half)
    return np.exp(log_poles(system))


@_remembered
def discrete_residues(system: StateSpace) -> ComplexArray:
    """g/(C B) of every stored mode of a diagonal system, (K, N): k[l] = 2 Re sum_n C_n B_n scale_n z_n^(l - delay)."""
    if system.discretization == "zoh":
        safe = np.where(system.poles == 0, 1, system.poles)
        return np.where(system.poles == 0, system.step + 0j, np.expm1(log_poles(system)) / safe)
    if system.discretization == "bilinear":
        return system.step / (1 - system.poles * (system.step / 2))
    if system.discretization == "euler":
        return np.broadcast_to(system.step + 0j, system.poles.shape)
    return np.ones(system.poles.shape, complex)


def real_realization(system: StateSpace) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Dense real matrices A (K, 2N, 2N), B (K, 2N, I), C (K, O, 2N) of the same system, with the state (Re x, Im x).

    x' = a x - P 2 Re(Q^* x) + B u,  y = 2 Re(C x). Continuous unless the discretization is "direct".
    """
    diagonal = np.eye(system.modes) * system.poles[:, None, :]
    A = np.block([[diagonal.real, -diagonal.imag], [diagonal.imag, diagonal.real]])
    if system.P is not None and system.Q is not None:
        P = np.concatenate([system.P.real, system.P.imag], axis=1)
        Q = np.concatenate([system.Q.real, system.Q.imag], axis=1)
        A = A - 2 * P @ Q.transpose(0, 2, 1)
    B = np.concatenate([system.B.real, system.B.imag], axis=1)
    C = 2 * np.concatenate([system.C.real, -system.C.imag], axis=2)
    return A, B, C


def common_step(system: StateSpace) -> FloatArray:
    """Delta of every copy, (K,), of a system with coupled modes, which therefore has one step per copy."""
    return system.step[:, 0]


def bilinear_realization(system: StateSpace) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Dense real matrices Abar, Bbar, C of the bilinearly discretized system; there must be one step per copy."""
    step = common_step(system)[:, None, None]
    A, B, C = real_realization(system)
    half = step / 2 * A
    identity = np.eye(A.shape[1])
    solved = np.linalg.solve(identity - half, np.concatenate([identity + half, step * B], axis=2))
    return solved[:, :, : A.shape[1]], solved[:, :, A.shape[1] :], C


def modal_form(system: StateSpace) -> tuple[StateSpace, FloatArray]:
    """The same system with a diagonal state matrix, and the condition number of the eigenvectors, (K,).

    The eigenpairs are those of the real realization, so complex ones come in exact conjugate pairs; real ones keep half of their residue.
    If copies have different numbers of real poles, the shorter rows are padded with modes of residue zero. Diagonal systems are returned
    unchanged.
    """
    if system.P is None:
        return system, np.ones(system.copies)
    A, B, C = real_realization(system)
    unique, inverse = np.unique(A.reshape(len(A), -1), axis=0, return_inverse=True)
    values, vectors = (part.astype(complex) for part in np.linalg.eig(unique.reshape(-1, *A.shape[1:])))  # real if all poles are
    condition = np.linalg.cond(vectors)
    values, vectors = values[inverse], vectors[inverse]
    inputs = np.linalg.solve(vectors, B.astype(complex))
    outputs = C @ vectors
    half = np.where(values.imag > 0, 1.0, np.where(values.imag == 0, 0.5, 0.0))
    order = np.argsort(half == 0, axis=1, kind="stable")
    keep = int((half > 0).sum(axis=1).max())
    order, half = order[:, :keep], np.take_along_axis(half, order, axis=1)[:, :keep]
    poles = np.take_along_axis(values, order, axis=1)
    poles = np.where(half > 0, poles, poles[:, :1])
    B_modal = np.take_along_axis(inputs, order[:, :, None], axis=1) * half[:, :, None]
    C_modal = np.take_along_axis(outputs, order[:, None, :], axis=2)
    return replace(system, poles=poles, B=B_modal, C=C_modal, P=None, Q=None), condition[inverse]


def padded_modes(system: StateSpace, modal: StateSpace) -> np.ndarray:
    """Which modes of the `modal_form` (K, M modes) of a system (K, N) are padding, (K, M).

    Padding comes last and repeats the first pole of its copy. It fills the places left over by the 2N eigenvalues (real ones and pairs).
    """
    if system.P is None:
        return np.zeros(modal.poles.shape, bool)
    pairs = modal.poles.imag != 0
    surplus = modal.modes + pairs.sum(axis=1) - 2 * system.modes
    count = np.where(pairs[:, 0], surplus // 2, surplus)
    return np.asarray(np.arange(modal.modes) >= modal.modes - count[:, None])


def beyond_nyquist(system: StateSpace) -> np.ndarray | None:
    """Which modes (K, N) alias to another frequency, |Im a| Delta > pi; None if no mode can (bilinear, direct)."""
    if system.discretization in ("bilinear", "direct"):
        return None
    return np.asarray(np.abs(system.poles.imag) * system.step > np.pi)
