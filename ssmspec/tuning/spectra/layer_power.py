"""Mean |H|^2 of a layer, smoothed by a spectral window, as a differentiable function of Delta, Re a, Im a and C.

The autocorrelation of the impulse response of a copy is again a sum over its modes (theory: partial fractions of |H|^2),

    c[l] = 2 Re sum_n R_n z_n^l,    R_n = sum over completed m of <C_m, C_n> <B_m, B_n> kappa_n conj(kappa_m)/(1 - z_n conj(z_m)),

kappa = g/(C B). With the lag window q(l) = 2 e^(-eta l) - e^(-2 eta l), the spectrum consists of two Cauchy sums over poles moved inward:

    P(theta) = sum_l q(|l|) c[|l|] e^(-i theta l) = 2 Re [2 T(eta) - T(2 eta)] - c[0]
    T(eta) = sum_n R_n/(1 - z_n e^(-eta - i theta)) + conj-pair

The spectral window, 6 eta^3/(pi (theta^2 + eta^2)(theta^2 + 4 eta^2)), is positive, has variance 2 eta^2 and preserves the power of every
peak, so a line narrower than the bins of an estimate cannot hide between them. Gradients are d/d Re + i d/d Im, as in `ssmspec.backends`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np

from ssmspec.backends import BACKENDS, CauchySum, load_backend
from ssmspec.systems.grid import theta_nodes
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace

SMALLEST = 1e-30  # |z| that stands for a mode without memory
SMALL = 1e-3  # |lambda| below which 1/expm1 and 1/lambda cancel; there the series is accurate to 1e-14
LAG_WINDOW = ((2.0, 1), (-1.0, 2))  # factor, and multiple of eta

PullBack = Callable[[FloatArray, FloatArray], "Parameters"]


@dataclass(frozen=True, slots=True)
class Engine:
    """A backend's Cauchy sum and its vector-Jacobian product."""

    cauchy_sum: CauchySum
    cauchy_vjp: Callable[..., tuple[Any, Any]]

    @classmethod
    def named(cls, name: str) -> "Engine":
        """The engine of that name.

        Raises:
            BackendError: the engine is unknown or cannot run here.
        """
        return cls(load_backend(name), import_module(BACKENDS[name]).cauchy_vjp)


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of a fit: a = -exp(log_decay) + i frequency, Delta = exp(log_step); for "direct", log z instead of a.

    Args:
        log_step: (K, 1) or (K, N). log_decay, frequency: (K, N). C: (K, O, N) complex128.
    """

    log_step: FloatArray
    log_decay: FloatArray
    frequency: FloatArray
    C: ComplexArray

    @classmethod
    def of(cls, system: StateSpace) -> "Parameters":
        """The parameters of a stable diagonal system."""
        exponents = np.log(np.where(system.poles == 0, SMALLEST, system.poles)) if system.discretization == "direct" else system.poles
        return cls(np.log(system.step), np.log(-exponents.real), exponents.imag, system.C)

    def exponents(self) -> ComplexArray:
        """a, or log z for "direct"; (K, N)."""
        return -np.exp(self.log_decay) + 1j * self.frequency

    def system(self, start: StateSpace) -> StateSpace:
        """The starting system with these parameters, folded into the upper half: a pole with Im a < 0 is replaced by its conjugate."""
        exponents = self.exponents()
        if start.discretization == "direct":
            exponents = np.log(np.exp(exponents))
        lower = exponents.imag < 0
        exponents = np.where(lower, exponents.conj(), exponents)
        return replace(
            start,
            poles=np.exp(exponents) if start.discretization == "direct" else exponents,
            step=np.exp(self.log_step) if start.has_step else start.step,
            B=np.where(lower[:, :, None], start.B.conj(), start.B),
            C=np.where(lower[:, None, :], self.C.conj(), self.C),
        )


def layer_power(
    start: StateSpace, at: Parameters, theta: FloatArray, eta: float, engine: Engine
) -> tuple[FloatArray, FloatArray, PullBack]:
    """P of every copy (without D, with the beta weight), its power c[0] (without the weight), and the pull-back of gradients.

    Args:
        start: diagonal system that gives B, beta weight and discretization.
        at: the parameters at which to evaluate.
        theta: (F,) [rad/sample]. eta: width of the window [rad/sample]; 0 gives ||H_k||_F^2 itself. engine: for the sums.
    Returns:
        (K, F), (K, 1), and the function from the gradients of a loss, of these shapes, to its gradient in the parameters.
    """
    modes = _Modes.of(start, at)
    correlation = _Correlation.of(start.B, at.C, modes)
    power, pull_back_sums = _windowed(correlation.R, modes, theta, eta, engine)
    weight = np.ones((1, len(theta))) if start.sobolev is None else start.sobolev.gain(theta[None, :], np.exp(at.log_step)) ** 2
    total = 2 * correlation.R.real.sum(axis=1, keepdims=True)

    def pull_back(of_power: FloatArray, of_total: FloatArray) -> Parameters:
        of_R, of_logz = pull_back_sums(of_power * weight)
        of_C, of_kappa, of_logz_too = correlation.pull_back(of_R + 2 * of_total)
        of_lambda = modes.logz_slope.conj() * (of_logz + of_logz_too) + modes.kappa_slope.conj() * of_kappa
        of_step = (modes.exponents.conj() * of_lambda).real + of_kappa.real
        if at.log_step.shape[1] == 1:
            of_step = of_step.sum(axis=1, keepdims=True) + _through_weight(start, at, theta, of_power * power * weight)
        return Parameters(of_step, of_lambda.real * modes.exponents.real, of_lambda.imag * modes.step, of_C)

    return power * weight, total, pull_back


def _windowed(
    R: ComplexArray, modes: "_Modes", theta: FloatArray, eta: float, engine: Engine
) -> tuple[FloatArray, Callable[[FloatArray], tuple[ComplexArray, ComplexArray]]]:
    """P (K, F), and the function from its gradient to those of R and log z."""
    x, y = theta_nodes(theta[None, :])
    rotation = (x + 1j * y)[:, None, :]  # (1, 1, F)
    power = -2 * R.real.sum(axis=1, keepdims=True)
    terms = []
    for factor, multiple in LAG_WINDOW:
        z = np.exp(modes.logz - multiple * eta)
        sigma = (z - 1) / (z + 1)
        residues = (R * (1 - sigma) / 2)[:, None, :]
        power = power + 2 * factor * (rotation * engine.cauchy_sum(residues, sigma, x, y))[:, 0].real
        terms.append((factor, z, sigma, residues))

    def pull_back(gradient: FloatArray) -> tuple[ComplexArray, ComplexArray]:
        of_R: ComplexArray = np.zeros(R.shape, complex) - 2 * gradient.sum(axis=1, keepdims=True)
        of_logz = np.zeros(R.shape, complex)
        for factor, z, sigma, residues in terms:
            of_residues, of_sigma = engine.cauchy_vjp(residues, sigma, x, y, 2 * factor * gradient[:, None, :] * rotation.conj())
            of_R += ((1 - sigma) / 2).conj() * of_residues[:, 0]
            of_sigma = of_sigma - (R / 2).conj() * of_residues[:, 0]
            of_logz += ((1 - sigma) ** 2 / 2 * z).conj() * of_sigma
        return of_R, of_logz

    return power, pull_back


@dataclass(frozen=True, slots=True)
class _Correlation:
    """The residues R_n = sum_m Q_nm of the autocorrelation, and the two halves of Q: m in the upper half, and its conjugate."""

    C: ComplexArray
    R: ComplexArray  # (K, N)
    upper: "_Pairs"
    lower: "_Pairs"

    @classmethod
    def of(cls, B: ComplexArray, C: ComplexArray, modes: "_Modes") -> "_Correlation":
        z, scaled = np.exp(modes.logz), modes.kappa[:, :, None] * B  # (K, N), (K, N, I)
        turned = C.transpose(0, 2, 1)
        upper = _Pairs.of(z[:, :, None] * z.conj()[:, None, :], scaled @ scaled.conj().transpose(0, 2, 1), turned @ C.conj())
        lower = _Pairs.of(z[:, :, None] * z[:, None, :], scaled @ scaled.transpose(0, 2, 1), turned @ C)
        return cls(C, (upper.Q + lower.Q).sum(axis=2), upper, lower)

    def pull_back(self, of_R: ComplexArray) -> tuple[ComplexArray, ComplexArray, ComplexArray]:
        """Gradients of C, log kappa and log z."""
        seeds = of_R.conj()[:, :, None]
        T, S = seeds * self.upper.scale, seeds * self.lower.scale
        of_C = self.C @ (T.conj().transpose(0, 2, 1) + T) + (self.C @ (S + S.transpose(0, 2, 1))).conj()
        upper, lower = seeds * self.upper.Q, seeds * self.lower.Q
        return of_C, _of_both(upper, lower), _of_both(upper * self.upper.slope, lower * self.lower.slope)


def _of_both(upper: ComplexArray, lower: ComplexArray) -> ComplexArray:
    """Gradient in v, (K, N), if the loss changes by Re sum [ upper_nm (dv_n + conj dv_m) + lower_nm (dv_n + dv_m) ]."""
    result: ComplexArray = (upper + lower).sum(axis=2).conj() + upper.sum(axis=1) + lower.sum(axis=1).conj()
    return result


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Terms Q_nm of R_n, (K, N, N); their scale, which is Q without the factor of C; and the derivative of log Q in log z_n z_m."""

    Q: ComplexArray
    scale: ComplexArray
    slope: ComplexArray

    @classmethod
    def of(cls, z: ComplexArray, of_B: ComplexArray, of_C: ComplexArray) -> "_Pairs":
        inverse = 1 / (1 - z)
        scale = of_B * inverse
        return cls(scale * of_C, scale, inverse - 1)


@dataclass(frozen=True, slots=True)
class _Modes:
    """Quantities of every stored mode, (K, N) each; slopes are d/d lambda, lambda = a Delta (log z for "direct")."""

    exponents: ComplexArray  # lambda
    step: FloatArray
    logz: ComplexArray
    logz_slope: ComplexArray
    kappa: ComplexArray  # g/(C B)
    kappa_slope: ComplexArray  # of its logarithm, at fixed Delta

    @classmethod
    def of(cls, start: StateSpace, at: Parameters) -> "_Modes":
        step = np.exp(at.log_step)
        exponents = at.exponents() * step
        kappa, kappa_slope = _kappa(start.discretization, exponents)
        if start.discretization == "bilinear":
            half = exponents / 2
            return cls(exponents, step, 2 * np.arctanh(half), 1 / (1 - half**2), kappa * step, kappa_slope)
        return cls(exponents, step, exponents, np.ones_like(exponents), kappa * step, kappa_slope)


def _kappa(discretization: str, exponents: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
    """kappa/Delta as a function of lambda, and the derivative of its logarithm."""
    if discretization == "zoh":
        small = np.abs(exponents) < SMALL
        safe = np.where(small, 1, exponents)
        grown = np.expm1(safe)
        ratio = np.where(small, 1 + exponents / 2 + exponents**2 / 6 + exponents**3 / 24, grown / safe)
        return ratio, np.where(small, 0.5 + exponents / 12 - exponents**3 / 720, 1 + 1 / grown - 1 / safe)
    if discretization == "bilinear":
        return 1 / (1 - exponents / 2), 0.5 / (1 - exponents / 2)
    return np.ones_like(exponents), np.zeros_like(exponents)


def _through_weight(start: StateSpace, at: Parameters, theta: FloatArray, gradient: FloatArray) -> FloatArray:
    """What a beta weight with the step as its knee adds to the gradient in log Delta, (K, 1): d log w^2 = -2 beta theta/(Delta + theta)."""
    if start.sobolev is None or start.sobolev.convention != "paper":
        return np.zeros_like(at.log_step)
    share = theta / (np.exp(at.log_step) + theta)
    result: FloatArray = (gradient * -2 * start.sobolev.beta[:, None] * share).sum(axis=1, keepdims=True)
    return result
