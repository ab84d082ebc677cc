"""Statistics of the poles: memory, aliasing, and distance from the S4D-Lin initialization."""

import numpy as np

from ssmspec.statistics.quadrature import pole_distances
from ssmspec.statistics.spectra import Spectrum
from ssmspec.statistics.spectrum import LayerSpectrum
from ssmspec.statistics.values import Values
from ssmspec.systems.statespace import beyond_nyquist, padded_modes

MEMORY_TOKENS = (1024, 4096, 32768)

SHARPEST_STORED = 1e-9  # rad/sample; below this the decay of a stored z has fewer than six digits


def aliased_share(spectrum: LayerSpectrum) -> Values:
    """Share of poles with |Im a| Delta > pi, which alias to another frequency."""
    system = spectrum.system
    beyond = beyond_nyquist(system) if system.continuous_time else None
    if beyond is None:
        reason = "bilinear warps frequencies instead of aliasing them" if system.discretization == "bilinear" else "no continuous poles"
        return Values(np.full(system.copies, np.nan), reason)
    return Values(beyond.mean(axis=1))


def time_constant(spectrum: Spectrum) -> Values:
    """-1/log|z| of the slowest pole: 1/(|Re a| Delta) for zoh and euler."""
    decay = pole_distances(spectrum.modal)[1].min(axis=1)
    # a stored z is rounded to 1e-16, and so is its distance from the unit circle
    smallest = SHARPEST_STORED if spectrum.modal.discretization == "direct" else 0.0
    with np.errstate(divide="ignore", over="ignore"):
        constant = 1 / decay
    usable = np.isfinite(constant) & (decay > smallest)
    return Values(np.where(usable, constant, np.nan), "the slowest pole is closer to the unit circle than double precision can resolve")


def half_life(spectrum: Spectrum) -> Values:
    """ln 2 times the time constant."""
    constant = time_constant(spectrum)
    return Values(np.log(2) * constant.values, constant.reason)


def memory_shares(spectrum: Spectrum) -> dict[int, float]:
    """Share of copies with a half-life above 1024, 4096 and 32768 samples. One too long for double precision counts as longer."""
    lives = half_life(spectrum).values
    return {tokens: float((np.isnan(lives) | (lives > tokens)).mean()) for tokens in MEMORY_TOKENS}


def alpha_hat(spectrum: LayerSpectrum) -> Values:
    """Least-squares factor alpha in Im a_n = alpha pi n, n = 0..N-1, with Im a_n sorted."""
    return _fit_linear_poles(spectrum)[0]


def alpha_residual(spectrum: LayerSpectrum) -> Values:
    """Relative residual of that fit: |Im a - alpha pi n| / |Im a|."""
    return _fit_linear_poles(spectrum)[1]


def _fit_linear_poles(spectrum: LayerSpectrum) -> tuple[Values, Values]:
    system, copies = spectrum.system, spectrum.system.copies
    nothing = np.full(copies, np.nan)
    if not system.continuous_time:
        return (Values(nothing, "no continuous poles"),) * 2
    # rows padded by modal_form must not be counted as poles
    imag = np.sort(np.where(padded_modes(system, spectrum.modal), -1, np.abs(spectrum.modal.poles.imag)), axis=1)[:, -system.modes :]
    if not imag.any():
        return (Values(nothing, "all poles are real"),) * 2
    if system.modes == 1:
        return (Values(nothing, "there is only one mode: n = 0 alone fits any alpha"),) * 2
    lin = np.pi * np.arange(system.modes)
    alpha = imag @ lin / (lin @ lin)
    size = np.linalg.norm(imag, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        residual = np.linalg.norm(imag - alpha[:, None] * lin, axis=1) / size
    real = "all poles are real"
    return Values(np.where(size > 0, alpha, np.nan), real), Values(np.where(size > 0, residual, np.nan), real)
