"""Initial poles and steps of state space layers, under their names in the literature; B and C are in `matrices`.

Symbols: K copies, N stored modes, a pole [1/model time], Delta step [model time per sample], z = exp(a Delta).

Poles are the upper half of a real system, Im a >= 0, so the full state has 2N modes. Code that stores the lower half (S4, S5) has the
conjugates of these poles and of the corresponding B. To add an initialization, write one function and add one line to a dict.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ssmspec.errors import SsmspecError
from ssmspec.systems.statespace import ComplexArray, FloatArray
from ssmspec.tuning.poles.hippo import legs_normal_part

Plane = Literal["s", "z"]
Rng = np.random.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Sizes of a layer, and constants used by some initializations.

    Args:
        copies: K. modes: N stored modes, half of the state. inputs: I. outputs: O.
        blocks: for "s5-hippo" and the S5 matrices, J equal blocks of N/J stored modes.
        layer, layers: for "dfout", the number of this layer, from 1, and the number of layers of the model.
        decay: for "dfout", range of xi = -2 log|z| [1/sample].
        radius: for "lru-ring", range of |z|, narrow and near 1 for long sequences; (0, 1) is the default of minimal-LRU.
        max_phase: for "lru-ring", largest stored phase [rad/sample], at most 2 pi.

    Raises:
        SsmspecError: a size below 1, blocks that do not divide the modes, a layer number above `layers`, or an empty or unstable range.
    """

    copies: int
    modes: int
    inputs: int = 1
    outputs: int = 1
    blocks: int = 1
    layer: int = 1
    layers: int = 1
    decay: tuple[float, float] = (1e-3, 1e-1)
    radius: tuple[float, float] = (0.9, 0.999)
    max_phase: float = 2 * math.pi

    def __post_init__(self) -> None:
        for label in ("copies", "modes", "inputs", "outputs", "blocks", "layers"):
            _check_size(label, getattr(self, label))
        if self.modes % self.blocks:
            raise SsmspecError(f"{self.modes} modes cannot be divided into {self.blocks} equal blocks; choose a divisor of the modes")
        if not 1 <= self.layer <= self.layers:
            raise SsmspecError(f"layer is {self.layer}, expected 1..{self.layers}, the number of layers")
        _check_range("decay", self.decay)
        low, high = self.radius
        if not (0 <= low <= high <= 1 and low < 1 and high > 0):
            raise SsmspecError(f"radius is {low}..{high}, expected two values within 0..1, the smaller one first and below 1")
        if not 0 < self.max_phase <= 2 * math.pi:
            raise SsmspecError(f"max_phase is {self.max_phase}, expected a phase in rad/sample above 0 and at most 2 pi")


@dataclass(frozen=True, slots=True)
class Poles:
    """Initial poles, stored as the exponents of their modes, from which poles in both planes follow without loss.

    Args:
        exponents: (K, N) complex128, Re < 0, Im >= 0: a [1/model time] for the plane "s"; log z [1/sample], Im <= pi, for "z".
        plane: where the initialization places its poles.
        clamped: number of phases that alpha would have moved beyond pi and that stay at pi.
    """

    exponents: ComplexArray
    plane: Plane
    clamped: int

    def continuous(self, step: FloatArray) -> ComplexArray:
        """a, (K, N) [1/model time]; for "z" log(z)/Delta, so that zoh (and euler) with this step gives exactly these z.

        Args:
            step: (K, 1) or (K, N), Delta [model time per sample]; not used by "s".
        Raises:
            SsmspecError: the step is not positive and finite.
        """
        if self.plane == "s":
            return self.exponents
        if not ((step > 0) & np.isfinite(step)).all():
            raise SsmspecError(f"step ranges from {step.min()} to {step.max()}, expected positive finite values")
        return self.exponents / step

    def discrete(self) -> ComplexArray:
        """z, (K, N), |z| < 1, for layers of "direct" discretization.

        Raises:
            SsmspecError: the poles are continuous; their z depends on a step, which such a layer does not have.
        """
        return np.exp(self._per_sample())

    def normalization(self) -> FloatArray:
        """gamma = sqrt(1 - |z|^2), (K, N), LRU's factor on B. Raises like `discrete`. Source: arXiv 2303.06349, section 3.4."""
        return np.sqrt(-np.expm1(2 * self._per_sample().real))

    def _per_sample(self) -> ComplexArray:
        if self.plane == "s":
            raise SsmspecError("these poles are continuous, but the layer stores discrete ones; choose an initialization of the plane 'z'")
        return self.exponents


@dataclass(frozen=True, slots=True)
class Initialization:
    """A named initialization of poles.

    Args:
        name: key of `INITIALIZATIONS`. title: name in words. source: paper and section, repository and path.
        plane: "s" for continuous poles, "z" for poles of the sampled system.
        families: keys of `ssmspec.families.FAMILIES` for which it was published.
        function: (settings, generator) -> exponents (K, N), complex128, at alpha = 1.
        real: whether all poles are real, so that alpha has no frequency to scale.
    """

    name: str
    title: str
    source: str
    plane: Plane
    families: tuple[str, ...]
    function: Callable[[Settings, Rng], ComplexArray]
    real: bool = False


def initial_poles(name: str, settings: Settings, *, alpha: float = 1.0, rng: Rng) -> Poles:
    """Poles of a layer with the initialization `name`, with frequencies scaled by alpha.

        plane "s": Im a <- alpha Im a;      plane "z": arg z <- min(alpha arg z, pi)

    Args:
        name: key of `INITIALIZATIONS`. settings: sizes and constants. alpha: factor, at least 0. rng: source of all random numbers.
    Raises:
        SsmspecError: an unknown name, an alpha that is negative or not finite, or alpha != 1 if all poles are real.
    Source: arXiv 2410.02035, section 4.1; the rule for z is ours.
    """
    if name not in INITIALIZATIONS:
        raise unknown("initialization", name, INITIALIZATIONS)
    chosen = INITIALIZATIONS[name]
    if not (math.isfinite(alpha) and alpha >= 0):
        raise SsmspecError(f"alpha is {alpha}, expected a finite factor of at least 0")
    if chosen.real and alpha != 1:
        raise SsmspecError(f"alpha has no effect on {name}: its poles are real; scale the step instead to move the band of the layer")
    start = chosen.function(settings, rng)
    phase = alpha * start.imag
    limit = math.pi if chosen.plane == "z" else math.inf
    return Poles(start.real + 1j * np.minimum(phase, limit), chosen.plane, int((phase > limit).sum()))


def sample_step(copies: int, low: float, high: float, rng: Rng, *, modes: int = 1) -> FloatArray:
    """Steps Delta [model time per sample], log-uniform in low..high: (K, 1), or (K, modes) for one step per mode as in S5.

    Raises:
        SsmspecError: a size below 1, or a range that is not positive, finite and increasing.
    Source: state-spaces/s4, src/models/sequence/kernels/ssm.py, `init_dt`; lindermanlab/S5, s5/ssm_init.py, `init_log_steps`.
    """
    _check_size("copies", copies)
    _check_size("modes", modes)
    _check_range("step", (low, high))
    return _log_uniform((copies, modes), (low, high), rng)


def _check_size(label: str, value: int) -> None:
    if value < 1:
        raise SsmspecError(f"{label} is {value}, expected at least 1")


def _check_range(label: str, bounds: tuple[float, float]) -> None:
    low, high = bounds
    if not 0 < low <= high < math.inf:
        raise SsmspecError(f"{label} is {low}..{high}, expected two positive finite values, the smaller one first")


def unknown(what: str, name: str, choices: Iterable[str]) -> SsmspecError:
    """The error for a name that is not one of the choices."""
    return SsmspecError(f"{what} {name!r} is unknown; choose one of {', '.join(choices)}")


def _log_uniform(shape: tuple[int, ...], bounds: tuple[float, float], rng: Rng) -> FloatArray:
    low, high = bounds
    return np.clip(low * (high / low) ** rng.random(shape), low, high)


def _exponents(real: object, imag: object, settings: Settings) -> ComplexArray:
    return np.broadcast_to(np.asarray(real) + 1j * np.asarray(imag), (settings.copies, settings.modes)).copy()


def _linear(settings: Settings, rng: Rng) -> ComplexArray:
    """a_n = -1/2 + i pi n."""
    return _exponents(-0.5, np.pi * np.arange(settings.modes), settings)


def _inverse(settings: Settings, rng: Rng) -> ComplexArray:
    """a_n = -1/2 + i M/pi (M/(2n + 1) - 1), M = 2N the size of the full state."""
    M = 2 * settings.modes
    return _exponents(-0.5, M / np.pi * (M / (2 * np.arange(settings.modes) + 1) - 1), settings)


def _real(settings: Settings, rng: Rng) -> ComplexArray:
    """a_n = -(n + 1)."""
    return _exponents(-1.0 - np.arange(settings.modes), 0.0, settings)


def _random(settings: Settings, rng: Rng) -> ComplexArray:
    """a = -1/2 + i exp(normal)."""
    return _exponents(-0.5, np.exp(rng.standard_normal((settings.copies, settings.modes))), settings)


def _fourier(settings: Settings, rng: Rng) -> ComplexArray:
    """a_n = -1/2 + 2 pi i n: HiPPO-FouT in its diagonal form (`foud`).

    This is not the diagonal part of the low-rank form (`fout`), a_n = i pi n, which is damped only by its low-rank part; with a damping of
    1/2 that part would be S4D-Lin.
    """
    return _exponents(-0.5, 2 * np.pi * np.arange(settings.modes), settings)


def _legs(settings: Settings, rng: Rng) -> ComplexArray:
    """a = -1/2 + i omega: the eigenvalues of the normal part of HiPPO-LegS, fastest first."""
    return _exponents(-0.5, legs_normal_part(settings.modes)[0], settings)


def _legs_blocks(settings: Settings, rng: Rng) -> ComplexArray:
    """The eigenvalues of J diagonal blocks, each the normal part of a separate HiPPO-LegS (HiPPO-N)."""
    return _exponents(-0.5, np.tile(legs_normal_part(settings.modes // settings.blocks)[0], settings.blocks), settings)


def _discrete_fourier(settings: Settings, rng: Rng) -> ComplexArray:
    """log z_n = -xi/2 + i (2 pi n/M + 2 pi (h - 1)/(M H)), M = 2N the size of the full state, h of H layers, n = 0..N-1.

    In the paper n runs over 0..M-1, a full circle. A real system also has the conjugate of every pole, so only the first half of the n is
    kept, and conjugation gives the rest. In the first layer this gives every pole of the paper except z_N on the negative real axis, which
    would need an (N+1)-th mode, because z_0 is its own conjugate. In later layers the lower half rotates in the opposite direction; all
    layers together have all points of the paper's finer circle of M H points except that one. The paper gives only the range of xi; here xi
    is drawn log-uniformly, one per copy, like the Delta in exp(-Delta/2) of S4D, which it replaces.
    """
    xi = _log_uniform((settings.copies, 1), settings.decay, rng)
    index = np.arange(settings.modes) + (settings.layer - 1) / settings.layers
    return _exponents(-xi / 2, np.pi * index / settings.modes, settings)


def _ring(settings: Settings, rng: Rng) -> ComplexArray:
    """|z|^2 uniform in r_min^2..r_max^2, arg z uniform in 0..max_phase and folded into the upper half (B and C are symmetric in law)."""
    low, high = settings.radius
    shape = (settings.copies, settings.modes)
    squared = low**2 + (high**2 - low**2) * rng.random(shape)
    phase = settings.max_phase * rng.random(shape)
    return _exponents(np.log(squared) / 2, np.pi - np.abs(np.pi - phase), settings)


_S4 = "state-spaces/s4, src/models/sequence/kernels/dplr.py, `dplr`"
_S4D_PAPER = "arXiv 2206.11893, section 4"
_S4_BLOCKS = ("s4-diag", "s4-diag-v3", "s4-diag-v2")

INITIALIZATIONS: dict[str, Initialization] = {
    initialization.name: initialization
    for initialization in (
        Initialization(
            "s4d-lin",
            "S4D-Lin",
            f"{_S4D_PAPER}; {_S4}, 'lin'; models/s4/s4d.py",
            "s",
            ("s4d", *_S4_BLOCKS, "annotated-s4d", "freqbias-block"),
            _linear,
        ),
        Initialization("s4d-inv", "S4D-Inv", f"{_S4D_PAPER}; {_S4}, 'inv'", "s", ("s4d", *_S4_BLOCKS), _inverse),
        Initialization("s4d-legs", "S4D-LegS, normal part of HiPPO-LegS", f"{_S4D_PAPER}; {_S4}, 'legs'", "s", ("s4d", *_S4_BLOCKS), _legs),
        Initialization("s4d-real", "S4D-Real", f"{_S4D_PAPER}; {_S4}, 'real'", "s", ("s4d", *_S4_BLOCKS), _real, real=True),
        Initialization(
            "fout", "HiPPO-FouT, diagonal form", "state-spaces/s4, src/models/hippo/hippo.py, 'foud'", "s", ("s4d", *_S4_BLOCKS), _fourier
        ),
        Initialization("random", "Random frequencies", f"{_S4}, 'random'", "s", ("s4d", *_S4_BLOCKS), _random),
        Initialization(
            "s5-hippo",
            "HiPPO-N in blocks, S5",
            "arXiv 2208.04933; lindermanlab/S5, s5/ssm_init.py, `make_DPLR_HiPPO`, and s5/train.py",
            "s",
            ("s5", "s5-torch"),
            _legs_blocks,
        ),
        Initialization("dfout", "S4D-DFouT, discrete Fourier", "arXiv 2508.20441", "z", ("s4d", *_S4_BLOCKS), _discrete_fourier),
        Initialization(
            "lru-ring", "Ring of LRU", "arXiv 2303.06349, lemma 3.2; NicolasZucchet/minimal-LRU, lru/model.py", "z", ("lru",), _ring
        ),
    )
}
