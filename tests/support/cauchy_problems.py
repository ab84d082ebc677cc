"""Problems for the engines, and how far an engine is from the reference in units of rounding."""

from types import ModuleType

import numpy as np

from ssmspec.backends import reference

EXTREMES = {
    "axis": -1e-12 + 1j,
    "real": -1e-3 + 0j,
    "unstable": 0.2 + 1j,
    "slow": -1e-8 + 1e-8j,
    "fast": -1e8 + 1e8j,
    "aliased": -0.5 + 1e8j,
    "undamped and fast": -2e-20 + 1024j,
    "tiny": -1e-30 + 1e-30j,
    "huge": -1e30 + 1e30j,
}

SIZES = [(1, 1, 1, 1), (257, 1, 3, 65), (2, 1, 64, 1023), (1, 4, 3, 33753), (3, 5, 64, 1), (257, 2, 1, 1), (1, 1, 64, 33753)]
"""K, M, N, F."""

# Errors are counted in eps times the condition number that `conditioning` gives; 3 at most were seen over all tests of the engines.
ROUNDINGS = 8


def problem(rng: np.random.Generator, size: tuple[int, int, int, int], rows: int = 1) -> tuple[np.ndarray, ...]:
    """Residues, poles, x, y and a cotangent of K, M, N, F; the nodes of one row run from 0 to Nyquist."""
    K, M, N, F = size
    residues = rng.normal(size=(K, M, N)) + 1j * rng.normal(size=(K, M, N))
    poles = -np.exp(rng.normal(size=(K, N))) + 1j * rng.normal(size=(K, N)) * 3
    theta = np.linspace(0, np.pi, F)[None] if rows == 1 else rng.uniform(0, np.pi, size=(rows, F))
    cotangent = rng.normal(size=(K, M, F)) + 1j * rng.normal(size=(K, M, F))
    return residues, poles, np.cos(theta / 2), np.sin(theta / 2), cotangent


def extreme(pole: complex, points: int = 99) -> tuple[np.ndarray, ...]:
    """One pole at DC, on a geometric grid, on its resonance, and at Nyquist twice: there cos(pi/2) is 6e-17 and should be 0."""
    theta = np.concatenate([[0.0], np.geomspace(1e-6, np.pi, points), [2 * np.arctan(abs(pole))]])
    x, y = np.append(np.cos(theta / 2), 0.0)[None], np.append(np.sin(theta / 2), 1.0)[None]
    residue = abs(pole.real) * np.exp(0.4j)  # keeps sum and gradients within the range of float32
    return np.array([[[residue]]]), np.array([[pole]]), x, y, np.exp(1j * np.arange(x.size)).reshape(1, 1, -1)


def single(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return tuple(array.astype(np.complex64 if np.iscomplexobj(array) else np.float32) for array in arrays)


def double(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return tuple(array.astype(complex if np.iscomplexobj(array) else float) for array in arrays)


def conditioning(residues, poles, x, y, cotangent) -> tuple[np.ndarray, ...]:
    """How much one relative rounding of each pole and node can change the sum, the gradient of residues and the gradient of poles.

    phi = 1/(i y - sigma x) moves by |phi|^2 (|y| + |sigma| |x|); both members of a conjugate pair are counted, absolute values added up.
    """
    total, gradient, moved = np.zeros(cotangent.shape), np.zeros(residues.shape), np.zeros(poles.shape)
    for k in range(len(poles)):
        node, height = (rows[min(k, len(rows) - 1)] for rows in (x, y))
        scale = np.abs(height) + np.abs(poles[k])[:, None] * np.abs(node)
        members = [1 / np.abs(1j * height - sigma[:, None] * node) for sigma in (poles[k], poles[k].conj())]
        shift = sum(phi**2 * scale for phi in members)
        square = sum(2 * phi**3 * scale for phi in members)
        total[k] = np.abs(residues[k]) @ shift
        gradient[k] = np.abs(cotangent[k]) @ shift.T
        moved[k] = (np.abs(residues[k]) * (np.abs(cotangent[k] * node) @ square.T)).sum(axis=0)
    return total, gradient, moved


def differences(engine: ModuleType, arguments: tuple[np.ndarray, ...]) -> list[tuple[np.ndarray, ...]]:
    """For the sum and each gradient: the distance from the reference in float64, its values, and the largest effect of one rounding."""
    exact = double(arguments)
    wanted = reference.cauchy_sum(*exact[:4]), *reference.cauchy_vjp(*exact)
    found = engine.cauchy_sum(*arguments[:4]), *engine.cauchy_vjp(*arguments)
    assert [part.dtype for part in found] == [arguments[0].dtype] * 3
    assert [part.shape for part in found] == [part.shape for part in wanted]
    limits = np.finfo(arguments[2].dtype)
    units = [limits.eps * condition + limits.tiny for condition in conditioning(*exact)]
    return [(np.abs(ours - theirs), theirs, unit) for ours, theirs, unit in zip(found, wanted, units, strict=True)]


def roundings(engine: ModuleType, arguments: tuple[np.ndarray, ...]) -> float:
    """The largest error of sum and gradients, in roundings."""
    return max(float((error / unit).max()) for error, _, unit in differences(engine, arguments))
