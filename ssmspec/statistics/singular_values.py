"""The largest singular value of the response of several inputs and outputs, H = U diag(phi) V + D, at single frequencies."""

from dataclasses import dataclass, replace

import numpy as np

from ssmspec.systems.grid import FloatArray, theta_nodes
from ssmspec.systems.response import completed_response
from ssmspec.systems.statespace import ComplexArray, StateSpace

SMALL = 24  # inputs or outputs up to which the singular values are computed at once
POWER_ITERATIONS = 6
MOST_ITERATIONS = 60
CONVERGED = 1e-9  # of the residual over the squared singular value, whose error is the square of that over the gap to the next
NUMBERS_AT_ONCE = 1 << 21


@dataclass
class Operator:
    """One copy of a diagonal system, the completed set of its modes.

    Args:
        system: poles, weights.
        U: (O, 2N). V: (2N, I). D: (O, I), or None where it does not count.
    """

    system: StateSpace
    U: ComplexArray
    V: ComplexArray
    D: FloatArray | None

    def __post_init__(self) -> None:
        self._vector = self.V.conj().sum(axis=0) + 1e-3 * np.arange(1, self.V.shape[1] + 1)

    @classmethod
    def of(cls, system: StateSpace, with_skip: bool) -> "Operator":
        """That of a system of one copy."""
        compact = system if with_skip else _compressed(system)
        U = np.concatenate([compact.C[0], compact.C[0].conj()], axis=1)
        V = np.concatenate([compact.B[0], compact.B[0].conj()], axis=0)
        return cls(compact, U, V, system.D[0] if with_skip else None)

    def exact(self, theta: FloatArray) -> FloatArray:
        """Squared largest singular values at theta of any shape [rad/sample], from the whole matrix."""
        flat = theta.ravel()
        result = np.empty(len(flat))
        count = max(1, NUMBERS_AT_ONCE // (self.V.size + self.U.shape[0] * self.V.shape[1]))
        for start in range(0, len(flat), count):
            part = slice(start, start + count)
            H = (self.U * self._gains(flat[part])[:, None, :]) @ self.V + (0 if self.D is None else self.D)
            known = np.asarray(np.isfinite(H).all(axis=(1, 2)))
            usable: ComplexArray = np.where(known[:, None, None], H, 0)
            result[part] = np.where(known, np.linalg.svd(usable, compute_uv=False)[:, 0] ** 2, np.nan)
        return result.reshape(theta.shape)

    def iterated(self, theta: FloatArray) -> FloatArray:
        """The same by power iterations from where those before ended; exact for small systems, and where they do not converge."""
        if min(self.U.shape[0], self.V.shape[1]) <= SMALL:
            return self.exact(theta)
        return np.array([self._iterated(at) for at in theta.ravel()]).reshape(theta.shape)

    def _iterated(self, theta: float) -> float:
        phi = self._gains(np.array([theta]))
        vector = self._vector
        for _ in range(MOST_ITERATIONS):
            vector = vector / np.linalg.norm(vector)
            image = self._applied(phi, vector[None])
            value = float((image.real**2 + image.imag**2).sum())
            following = self._returned(phi, image)[0]
            if not np.linalg.norm(following - value * vector) > CONVERGED * value:
                self._vector = vector
                return value
            vector = following
        return float(self.exact(np.array([theta]))[0])

    def lower_bounds(self, theta: FloatArray) -> FloatArray:
        """Lower bounds of the squared largest singular values at theta (F,), by a few power iterations; exact for small systems."""
        if min(self.U.shape[0], self.V.shape[1]) <= SMALL:
            return self.exact(theta)
        result = np.empty(len(theta))
        count = max(1, NUMBERS_AT_ONCE // self.U.shape[1])
        strength = np.linalg.norm(self.U, axis=0) * np.linalg.norm(self.V, axis=1)
        for start in range(0, len(theta), count):
            part = slice(start, start + count)
            phi = self._gains(theta[part])
            vector = self.V.conj()[np.argmax(np.abs(phi) * strength, axis=1)]  # the input of the strongest mode
            bound = np.zeros(len(phi))
            for _ in range(POWER_ITERATIONS):
                vector = vector / np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), np.finfo(float).tiny)
                image = self._applied(phi, vector)
                bound = np.maximum(bound, (image.real**2 + image.imag**2).sum(axis=1))
                vector = self._returned(phi, image)
            result[part] = bound
        return result

    def _gains(self, theta: FloatArray) -> ComplexArray:
        """phi (F, 2N), beta weight included."""
        phi = completed_response(self.system, *theta_nodes(theta[None]))[0]
        sobolev = self.system.sobolev
        return phi if sobolev is None else phi * sobolev.weight(theta[None], self.system.step)[0][:, None]

    def _applied(self, phi: ComplexArray, vector: ComplexArray) -> ComplexArray:
        """H v, (F, O), for v (F, I)."""
        return np.asarray(((vector @ self.V.T) * phi) @ self.U.T + (0 if self.D is None else vector @ self.D.T))

    def _returned(self, phi: ComplexArray, image: ComplexArray) -> ComplexArray:
        """H^* w, (F, I), for w (F, O)."""
        return np.asarray(((image @ self.U.conj()) * phi.conj()) @ self.V.conj() + (0 if self.D is None else image @ self.D))


def _compressed(system: StateSpace) -> StateSpace:
    """The same singular values with at most 2N inputs and outputs: C and B are replaced by their coordinates in the space they span."""
    C, B = system.C, system.B
    if system.outputs > 2 * system.modes:
        basis = np.linalg.qr(np.concatenate([C.real, C.imag], axis=2))[0]
        C = basis.transpose(0, 2, 1) @ C
    if system.inputs > 2 * system.modes:
        basis = np.linalg.qr(np.concatenate([B.real, B.imag], axis=1).transpose(0, 2, 1))[0]
        B = B @ basis
    return replace(system, B=B, C=C, D=np.zeros((system.copies, C.shape[1], B.shape[2])))
