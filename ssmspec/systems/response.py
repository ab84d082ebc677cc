"""Frequency and impulse response of a state space, computed with the homogeneous Cauchy sum or powers of the discrete poles."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssmspec.backends import CauchySum
from ssmspec.errors import LayerError
from ssmspec.systems.grid import FrequencyGrid, theta_nodes
from ssmspec.systems.statespace import (
    ComplexArray,
    FloatArray,
    StateSpace,
    bilinear_realization,
    cayley_poles,
    discrete_poles,
    discrete_residues,
    homogeneous_scale,
    log_poles,
)

# Complex numbers in memory at once where the complete result would be too large: 64 MB.
CHUNK = 1 << 22


MOST_BYTES = 4 * 2**30  # limit for one result


@dataclass(frozen=True, slots=True)
class FrequencyResponse:
    """Response of one layer on a grid.

    Args:
        dynamic: (K, O, I, F) complex128, without the skip connection.
        skip: (K, O, I) float64, D.
        grid: the F frequencies.
    """

    dynamic: ComplexArray
    skip: FloatArray
    grid: FrequencyGrid

    @property
    def total(self) -> ComplexArray:
        """dynamic + D, (K, O, I, F)."""
        return self.dynamic + self.skip[..., None]


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # overflow gives inf or NaN
def frequency_response(system: StateSpace, grid: FrequencyGrid, cauchy_sum: CauchySum, *, with_beta: bool = True) -> FrequencyResponse:
    """Response of every copy on a grid.

        H(theta) = e^{-i theta delay} sum_n [ g_n/(1 - z_n e^{-i theta}) + conj-pair ] + D      (axis theta)
        G(i omega) = sum_n [ r_n/(i omega - a_n) + conj-pair ] + D                              (axis omega)

    Args:
        system: K copies with N stored modes, I inputs and O outputs; a low-rank part is included by the Woodbury identity.
        grid: F frequencies, theta [rad/sample] or omega [rad per model time].
        cauchy_sum: the engine, see `ssmspec.backends`.
        with_beta: apply the layer's own Sobolev weight to the dynamic part.
    Returns:
        FrequencyResponse with (K, O, I, F) complex128.
    Raises:
        LayerError: omega for a layer that exists only in discrete time, a low-rank part with a discretization other than bilinear, or a
            result of more than MOST_BYTES.
    Source: Gu et al. 2022 (S4, arXiv 2111.00396), section 3.2 and appendix C.3; Yu et al. 2025 (arXiv 2410.02035), section 4.
    """
    _check_size(system, grid.values.size, 16, "frequencies")
    x, y = grid.nodes()
    values = grid.values[None, :]
    if grid.axis == "omega":
        dynamic = _continuous(system, x, y, cauchy_sum)
        theta = values * system.step if system.step.shape[1] == 1 else values
    else:
        dynamic = discrete_response(system, x, y, cauchy_sum)
        theta = values
    if with_beta and system.sobolev is not None:
        if grid.axis == "omega" and system.step.shape[1] != 1:
            raise LayerError(f"layer {system.name} has one step per mode, so its beta weight has no meaning on the axis omega; use theta")
        dynamic = dynamic * system.sobolev.weight(theta, system.step)[:, None, None, :]
    return FrequencyResponse(dynamic, system.D, grid)


def _check_size(system: StateSpace, count: int, itemsize: int, what: str) -> None:
    """Refuse a result (K, O, I, count) that would not fit in memory, before any of it is computed."""
    each = system.copies * system.outputs * system.inputs * itemsize
    if each * count > MOST_BYTES:
        raise LayerError(
            f"layer {system.name}: {count} {what} of {system.copies} x {system.outputs} x {system.inputs} systems take "
            f"{each * count / 2**30:.4g} GiB; ask for at most {MOST_BYTES // each} ({MOST_BYTES / 2**30:g} GiB)"
        )


@dataclass(frozen=True, slots=True)
class DiscreteSums:
    """What the discrete response of a system takes from its parameters, formed once for many evaluations.

    Args:
        system: K copies.
        sigma: (K, N) poles of the sums.
        residues: (K, M, N): M = O I of a diagonal system; with a low-rank part (O + R)(I + R) sums, and a factor step/2 apart.
    """

    system: StateSpace
    sigma: ComplexArray
    residues: ComplexArray

    @classmethod
    def of(cls, system: StateSpace) -> "DiscreteSums":
        """Those of a system."""
        sigma = cayley_poles(system)
        if system.rank:
            _require_bilinear(system)
            return cls(system, sigma, _products(*_bordered(system)))
        return cls(system, sigma, _products(system.C, system.B * homogeneous_scale(system, sigma)[:, :, None]))

    def unturned(self, x: FloatArray, y: FloatArray, cauchy_sum: CauchySum) -> ComplexArray:
        """The dynamic part at x = cos theta/2, y = sin theta/2 of shape (1|K, F) without beta and without its `turn`; (K, O, I, F)."""
        system, sums = self.system, cauchy_sum(self.residues, self.sigma, x, y)
        if system.rank:
            half = system.step[:, :, None, None] / 2
            return half * _woodbury(system, sums, half[..., 0] * x[:, None, :])
        return sums.reshape(system.copies, system.outputs, system.inputs, -1)

    def squared(self, theta: FloatArray, cauchy_sum: CauchySum, *, with_skip: bool = False) -> FloatArray:
        """As `squared_magnitude`, from all entries at once."""
        x, y = theta_nodes(theta)
        H = self.unturned(x, y, cauchy_sum)
        if not with_skip:
            squared = np.asarray((H.real**2 + H.imag**2).sum(axis=(1, 2)))
            return squared if self.system.sobolev is None else squared * self.system.sobolev.gain(theta, self.system.step) ** 2
        factor = turn(x, y, self.system.delay)
        if self.system.sobolev is not None:
            factor = factor * self.system.sobolev.weight(theta, self.system.step)
        H = H * factor[:, None, None, :] + self.system.D[..., None]
        return np.asarray((H.real**2 + H.imag**2).sum(axis=(1, 2)))


def turn(x: FloatArray, y: FloatArray, delay: int) -> ComplexArray:
    """e^{i theta/2} e^{-i theta delay}: what the response is beside the homogeneous sums."""
    return np.asarray(x + 1j * y if delay == 0 else (x + 1j * y) * (x - 1j * y) ** (2 * delay))


def discrete_response(system: StateSpace, x: FloatArray, y: FloatArray, cauchy_sum: CauchySum) -> ComplexArray:
    """Dynamic part in discrete time at nodes x = cos theta/2, y = sin theta/2 of shape (1|K, F), without beta; (K, O, I, F)."""
    return DiscreteSums.of(system).unturned(x, y, cauchy_sum) * turn(x, y, system.delay)[:, None, None, :]


def _require_bilinear(system: StateSpace) -> None:
    if system.discretization != "bilinear":
        raise LayerError(
            f"layer {system.name}: a low-rank state matrix must be discretized bilinearly; {system.discretization!r} cannot be applied"
        )


def _continuous(system: StateSpace, x: FloatArray, y: FloatArray, cauchy_sum: CauchySum) -> ComplexArray:
    if not system.continuous_time:
        raise LayerError(f"layer {system.name} ({system.family}) exists only in discrete time; use the axis theta")
    if system.rank:
        return _woodbury(system, cauchy_sum(_products(*_bordered(system)), system.poles, x, y), x[:, None, :])
    sums = cauchy_sum(_products(system.C, system.B), system.poles, x, y)
    return sums.reshape(system.copies, system.outputs, system.inputs, -1)


def _products(C: ComplexArray, B: ComplexArray) -> ComplexArray:
    """Residues C_on B_ni of all sums over the same poles, (K, O I, N)."""
    return np.einsum("kon,kni->koin", C, B).reshape(len(C), -1, C.shape[2])


def _bordered(system: StateSpace) -> tuple[ComplexArray, ComplexArray]:
    """C above Q^*, (K, O + R, N), and B beside P, (K, N, I + R)."""
    assert system.P is not None
    assert system.Q is not None
    return np.concatenate([system.C, system.Q.conj().transpose(0, 2, 1)], axis=1), np.concatenate([system.B, system.P], axis=2)


def _woodbury(system: StateSpace, sums: ComplexArray, coupling: FloatArray) -> ComplexArray:
    """S_CB - h S_CP (1 + h S_QP)^{-1} S_QB with h = coupling (1|K, 1, F), from the sums of `_bordered`; (K, O, I, F)."""
    O, I = system.outputs, system.inputs
    table = np.moveaxis(sums.reshape(system.copies, O + system.rank, I + system.rank, -1), -1, 1)  # (K, F, O + R, I + R)
    h = coupling.transpose(0, 2, 1)[..., None]
    inner = np.eye(system.rank) + h * table[:, :, O:, I:]
    correction = h * table[:, :, :O, I:] @ np.linalg.solve(inner, table[:, :, O:, :I])
    return np.moveaxis(table[:, :, :O, :I] - correction, 1, -1)


def squared_magnitude(system: StateSpace, theta: FloatArray, cauchy_sum: CauchySum, *, with_skip: bool = False) -> FloatArray:
    """Squared Frobenius norm of the response, including the beta weight, (K, F); |H|^2 for one input and one output.

    Args:
        system: as in `frequency_response`.
        theta: (1, F) or (K, F) [rad/sample] in [0, pi].
        cauchy_sum: the engine.
        with_skip: add D before computing the norm.
    """
    result = np.empty((system.copies, theta.shape[1]))
    for copies, columns in _blocks(system, theta):
        part = system.copy_slice(copies.start, copies.stop)
        nodes = theta[copies, columns] if len(theta) > 1 else theta[:, columns]
        result[copies, columns] = _squared_block(part, nodes, cauchy_sum, with_skip)
    return result


def _blocks(system: StateSpace, theta: FloatArray) -> Iterator[tuple[slice, slice]]:
    """Blocks of (K, F) whose responses fit the memory budget."""
    width = min(theta.shape[1], max(64, CHUNK // max(1, 4 * system.modes)))
    sums = 4 * system.modes if _uses_gram(system) else (system.outputs + system.rank) * (system.inputs + system.rank)
    per_copy = width * max(1, sums)
    copies = max(1, CHUNK // per_copy)
    for k in range(0, system.copies, copies):
        for f in range(0, theta.shape[1], width):
            yield slice(k, min(k + copies, system.copies)), slice(f, min(f + width, theta.shape[1]))


def _uses_gram(system: StateSpace) -> bool:
    """Whether the pair sum over 2N modes takes less work than O I sums over N modes."""
    return not system.rank and system.outputs * system.inputs > 4 * system.modes


def _squared_block(system: StateSpace, theta: FloatArray, cauchy_sum: CauchySum, with_skip: bool) -> FloatArray:
    if not _uses_gram(system):
        return DiscreteSums.of(system).squared(theta, cauchy_sum, with_skip=with_skip)
    x, y = theta_nodes(theta)
    weight = np.ones_like(x) if system.sobolev is None else system.sobolev.weight(theta, system.step)
    return _gram_block(system, x, y, weight, with_skip)


def completed_response(system: StateSpace, x: FloatArray, y: FloatArray) -> ComplexArray:
    """phi (K, F, 2N) such that H = [C, conj C] diag(phi) [B; conj B]: the response of every mode of a diagonal system."""
    sigma = cayley_poles(system)
    scale = homogeneous_scale(system, sigma)
    both = np.concatenate([sigma, sigma.conj()], axis=1)[:, None, :]
    scales = np.concatenate([scale, scale.conj()], axis=1)[:, None, :]
    rotation = (x + 1j * y) * (x - 1j * y) ** (2 * system.delay)
    result: ComplexArray = rotation[:, :, None] * scales / (1j * y[:, :, None] - both * x[:, :, None])
    return result


def _gram_block(system: StateSpace, x: FloatArray, y: FloatArray, weight: FloatArray, with_skip: bool) -> FloatArray:
    """||C phi B + D||^2 through the pair matrix of modes, which never forms the O x I response.

    A frequency at which the pair sum cancels to less than 1e-6 of its terms (relative error above about 1e-10) is computed in full.
    """
    phi = completed_response(system, x, y) * weight[:, :, None]
    U = np.concatenate([system.C, system.C.conj()], axis=2)
    V = np.concatenate([system.B, system.B.conj()], axis=1)
    pairs = (U.conj().transpose(0, 2, 1) @ U) * (V.conj() @ V.transpose(0, 2, 1))
    result = np.einsum("kfn,kfn->kf", (phi.conj() @ pairs), phi).real
    size = np.einsum("kfn,kfn->kf", (np.abs(phi) @ np.abs(pairs)), np.abs(phi))
    if with_skip:
        cross = np.einsum("kni,koi,kon->kn", V, system.D, U)
        result += 2 * (phi @ cross[:, :, None])[..., 0].real + (system.D**2).sum(axis=(1, 2))[:, None]
        size += 2 * (np.abs(phi) @ np.abs(cross)[:, :, None])[..., 0]
    for k, f in zip(*np.nonzero(result < 1e-6 * size), strict=True):
        H = (U[k] * phi[k, f]) @ V[k] + (system.D[k] if with_skip else 0)
        result[k, f] = np.linalg.norm(H) ** 2
    return result


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # as above
def impulse_response(system: StateSpace, length: int) -> FloatArray:
    """The convolution kernel of every copy, without D and without a beta weight.

        k[l] = 2 Re sum_n g_n z_n^(l - delay),  l >= delay

    Args:
        system: K copies; with a low-rank part, the dense state matrix is used.
        length: L samples, at least 1.
    Returns:
        (K, O, I, L) float64; sample 0 is the effect of an input on the output of the same time step.
    Raises:
        LayerError: the length is below 1, or the kernel would take more than MOST_BYTES.
    """
    if length < 1:
        raise LayerError(f"a kernel of length {length} was requested; expected at least 1")
    _check_size(system, length, 8, "samples")
    kernel = np.zeros((system.copies, system.outputs, system.inputs, length))
    steps = length - system.delay
    if steps < 1:
        return kernel
    kernel[..., system.delay :] = _dense_powers(system, steps) if system.rank else _modal_powers(system, steps)
    return kernel


def _modal_powers(system: StateSpace, length: int) -> FloatArray:
    """2 Re sum_n C_n B_n g_n z_n^l in blocks l = j + J b, which need only 2 sqrt(L) powers per mode instead of L."""
    block = int(np.ceil(np.sqrt(length)))
    inner = _powers(system, np.arange(block))
    result = np.empty((system.copies, system.outputs, system.inputs, length))
    scaled = system.B * discrete_residues(system)[:, :, None]
    for start in range(0, length, block):
        stop = min(start + block, length)
        outer = _powers(system, np.array([start]))[:, :, 0]
        shifted = scaled * outer[:, :, None]
        residues = np.einsum("kon,kni->koin", system.C, shifted)
        result[..., start:stop] = 2 * (residues.reshape(system.copies, -1, system.modes) @ inner[:, :, : stop - start]).real.reshape(
            system.copies, system.outputs, system.inputs, -1
        )
    return result


def _powers(system: StateSpace, exponents: npt.NDArray[np.integer]) -> ComplexArray:
    """z^l (K, N, len) without loss of accuracy in the angle: exp(l log z) if the exponent is known."""
    if system.discretization in ("zoh", "euler"):
        return np.exp(log_poles(system)[:, :, None] * exponents)
    return discrete_poles(system)[:, :, None] ** exponents


def _dense_powers(system: StateSpace, length: int) -> FloatArray:
    """C Abar^l Bbar in blocks l = j + J b."""
    _require_bilinear(system)
    A, B, C = bilinear_realization(system)
    block = int(np.ceil(np.sqrt(length)))
    rows = [C]
    for _ in range(block - 1):
        rows.append(rows[-1] @ A)
    observations = np.concatenate(rows, axis=1)  # (K, J O, 2N)
    jump = np.linalg.matrix_power(A, block)
    result = np.empty((system.copies, system.outputs, system.inputs, block * block))
    for b in range(block):
        samples = (observations @ B).reshape(system.copies, block, system.outputs, system.inputs)
        result[..., b * block : (b + 1) * block] = np.moveaxis(samples, 1, -1)
        B = jump @ B
    return result[..., :length]
