"""Layers at their initialization, and data with a spectrum that is known."""

from collections.abc import Callable

import numpy as np
from scipy import signal

from ssmspec.systems.statespace import StateSpace
from ssmspec.tuning.spectra.signals import Signals, as_signals

BATCH, LENGTH, WARM_UP = 64, 4096, 2000
RESONANCE = [1, -2 * 0.97 * np.cos(0.8), 0.97**2]
BAND = signal.butter(6, [0.2, 0.4], btype="band", output="sos")


def s4d_lin(copies: int, modes: int, *, discretization: str = "zoh", step: tuple[float, float] = (1e-3, 1e-1)) -> StateSpace:
    """S4D-Lin with random C and log-uniform steps, written out from the paper."""
    rng = np.random.default_rng(7)
    C = (rng.normal(size=(copies, 1, modes)) + 1j * rng.normal(size=(copies, 1, modes))) / np.sqrt(2)
    return StateSpace(
        name="layer",
        family="s4d",
        poles=np.tile(-0.5 + 1j * np.pi * np.arange(modes), (copies, 1)),
        B=np.ones((copies, modes, 1), complex),
        C=C,
        D=np.zeros((copies, 1, 1)),
        step=np.exp(rng.uniform(*np.log(step), size=(copies, 1))),
        discretization=discretization,
    )


def ring(size: int, modes: int) -> StateSpace:
    """A layer of LRU: one system with as many inputs as outputs, poles on a ring."""
    rng = np.random.default_rng(7)
    radius = np.sqrt(rng.uniform(0.5**2, 0.95**2, size=(1, modes)))
    B, C = (rng.normal(size=shape) + 1j * rng.normal(size=shape) for shape in ((1, modes, size), (1, size, modes)))
    return StateSpace(
        name="layer",
        family="lru",
        poles=radius * np.exp(1j * rng.uniform(0, np.pi, size=(1, modes))),
        B=B * np.sqrt(1 - radius**2)[:, :, None],
        C=C,
        D=np.zeros((1, size, size)),
        step=np.ones((1, 1)),
        discretization="direct",
    )


def _power_of_theta(noise: np.ndarray, gamma: float) -> np.ndarray:
    theta = np.linspace(0, np.pi, noise.shape[1] // 2 + 1)
    shape = np.divide(1, theta, out=np.zeros_like(theta), where=theta > 0) ** (gamma / 2)
    return np.fft.irfft(np.fft.rfft(noise) * shape)


TASKS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "resonance": (lambda e: signal.lfilter([1], RESONANCE, e), lambda theta: np.abs(signal.freqz([1], RESONANCE, theta)[1]) ** 2),
    "1/f": (lambda e: _power_of_theta(e, 1.0), lambda theta: 1 / theta),
    "band": (lambda e: signal.sosfilt(BAND, e), lambda theta: np.abs(signal.sosfreqz(BAND, theta)[1]) ** 2),
    "1/f^2": (lambda e: _power_of_theta(e, 2.0), lambda theta: 1 / theta**2),
    "white": (lambda e: e, lambda theta: np.ones_like(theta)),
}


def task(name: str, *, batch: int = BATCH, seed: int = 1) -> Signals:
    """Sequences whose power spectrum is TASKS[name][1], up to a factor."""
    noise = np.random.default_rng(seed).normal(size=(batch, LENGTH + WARM_UP))
    return as_signals(TASKS[name][0](noise)[:, WARM_UP:], layout="BL")
