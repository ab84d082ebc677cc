"""The kernel of the first L samples of a system, which has a response and an energy even where poles do not decay.

    H_L(theta) = sum_{l < L} k[l] e^{-i theta l} = sum_n r_n e^{-i theta delay} (w_n^M - 1)/(w_n - 1) + conj-pair,   w_n = z_n e^{-i theta}

with M = L - delay. Both differences are exponentials less one, so nothing cancels where a pole comes close to the unit circle.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.systems.response import CHUNK, impulse_response
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace, discrete_residues, log_poles

FASTEST = -745.0  # the logarithm of the smallest double


def truncated_response(system: StateSpace, theta: FloatArray, length: int) -> ComplexArray:
    """The response of the first samples of every copy, without D and without a beta weight.

    Args:
        system: K diagonal copies. theta: (F,) [rad/sample]. length: L samples.
    Returns:
        (K, O, I, F) complex128; not finite where a kernel leaves the range of double precision.
    Raises:
        LayerError: a low-rank part.
    """
    if system.rank:
        raise LayerError(f"layer {system.name} ({system.family}) has a low-rank part; --horizon is for diagonal systems")
    samples = max(0, length - system.delay)
    with np.errstate(all="ignore"):
        log_z = log_poles(system)
        log_z = np.maximum(log_z.real, FASTEST) + 1j * log_z.imag
        scaled = system.B * discrete_residues(system)[:, :, None]
    parts = []
    for copies in _blocks(system.copies, 4 * system.modes * theta.size):
        both = np.concatenate([log_z[copies], log_z[copies].conj()], axis=1)
        inputs = np.concatenate([scaled[copies], scaled[copies].conj()], axis=1)
        outputs = np.concatenate([system.C[copies], system.C[copies].conj()], axis=2)
        with np.errstate(all="ignore"):
            exponent = both[:, :, None] - 1j * theta
            sums = np.where(exponent == 0, samples, np.expm1(samples * exponent) / np.expm1(exponent))
            parts.append(np.einsum("kon,kni,knf->koif", outputs, inputs, sums) * np.exp(-1j * theta * system.delay))
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class TruncatedEnergy:
    """Energies of the first samples of every copy, (K,): the sum of k^2, its share below a corner, and its centroid over theta."""

    total: FloatArray
    low_share: FloatArray
    centroid: FloatArray


def truncated_energy(system: StateSpace, length: int, corner: float) -> TruncatedEnergy:
    """Energies of a kernel of a finite length, by its autocorrelation r: |H|^2 = r_0 + 2 sum_m r_m cos(m theta).

    All integrals over theta are closed forms in r. The kernel is made in blocks of copies.

    Args:
        corner: theta below which the low share is counted [rad/sample].
    """
    parts = []
    lag = np.arange(1, length)
    below, first = np.sin(lag * corner) / lag, ((-1.0) ** lag - 1) / lag**2
    for copies in _blocks(system.copies, 4 * length * system.outputs * system.inputs):
        with np.errstate(all="ignore"):
            kernel = impulse_response(system.pick(copies), length)
            power = np.abs(np.fft.rfft(kernel, 2 * length, axis=-1)) ** 2
            r = np.fft.irfft(power.sum(axis=(1, 2)), axis=-1)[:, :length]
            total = np.pi * r[:, 0]
            low = corner * r[:, 0] + 2 * r[:, 1:] @ below
            moment = np.pi**2 / 2 * r[:, 0] + 2 * r[:, 1:] @ first
            parts.append((r[:, 0], low / total, moment / total))
    return TruncatedEnergy(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _blocks(copies: int, numbers: int) -> Iterator[slice]:
    """Slices of copies, each of which takes so many numbers, that fit in memory."""
    width = max(1, CHUNK // max(1, numbers))
    for start in range(0, copies, width):
        yield slice(start, min(start + width, copies))
