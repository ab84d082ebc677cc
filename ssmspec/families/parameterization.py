"""Transforms that several families share: folding to the upper half, tiling of tied copies, C~, softplus."""

from collections.abc import Callable
from typing import cast

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.families.assumption import Assumption
from ssmspec.families.template import LayerTensors, ReadOptions, as_complex
from ssmspec.systems.statespace import ComplexArray, Discretization, FloatArray, StateSpace, bilinear_realization

MOST_GROWTH = 1e8  # largest growth of a mode over the kernel length of C~; beyond it I - Abar^L leaves C too few digits


def discretization(*rules: Discretization, source: str, quiet: bool = False) -> Assumption:
    """The assumption about the rule of a family; its default first."""
    about = "how the sampled layer follows from the continuous one"
    return Assumption(name="discretization", about=about, values=rules, source=source, quiet=quiet)


def chosen_rule(assumption: Assumption, layer: LayerTensors, options: ReadOptions) -> Discretization:
    """The rule of a layer."""
    return cast("Discretization", assumption.value(layer, options))


def softplus(x: FloatArray) -> FloatArray:
    """log(1 + e^x) without overflow."""
    with np.errstate(invalid="ignore"):
        return np.logaddexp(0, x)


def inverse_softplus(y: FloatArray) -> FloatArray:
    """x with softplus(x) = y > 0, accurate for tiny and for large y."""
    result: FloatArray = y + np.log(-np.expm1(-y))
    return result


Transform = tuple[Callable[[FloatArray], FloatArray], Callable[[FloatArray], FloatArray]]
RELU_SHIFT = 1e-4  # what the code of S4 adds, so that no decay is zero
POSITIVE: dict[str | float, Transform] = {
    "exp": (np.exp, np.log),
    "relu": (lambda x: np.maximum(x, 0) + RELU_SHIFT, lambda y: y - RELU_SHIFT),
    "softplus": (softplus, inverse_softplus),
    "sigmoid": (lambda x: np.exp(-softplus(-x)), lambda y: np.log(y) - np.log1p(-y)),
    "none": (lambda x: x, lambda y: y),
}
"""How S4 makes a positive quantity of a stored number, and the inverse; param_transform and inv_transform of models/s4/s4.py."""


def positive(name: str, about: str, *, source: str, first: str = "exp") -> Assumption:
    """The assumption about one of these transforms; its default first."""
    words = (first, *(str(word) for word in POSITIVE if word != first))
    return Assumption(name=name, about=about, values=words, source=source)


def fold(lower: np.ndarray, poles: ComplexArray, B: ComplexArray, C: ComplexArray) -> tuple[ComplexArray, ComplexArray, ComplexArray]:
    """Reflect the modes marked by `lower` (K, N) across the real axis: conjugate poles, rows of B (K, N, I) and columns of C (K, O, N).

    The operation is its own inverse. It does not change the real system, because 2 Re gives the same for either half of a pair.
    """
    return (
        np.where(lower, poles.conj(), poles),
        np.where(lower[:, :, None], B.conj(), B),
        np.where(lower[:, None, :], C.conj(), C),
    )


def fold_rows(lower: np.ndarray, rows: ComplexArray) -> ComplexArray:
    """The same reflection for the rows of P or Q (K, N, R)."""
    return np.where(lower[:, :, None], rows.conj(), rows)


def tile(array: np.ndarray, copies: int, layer: str) -> np.ndarray:
    """Repeat S tied copies along axis 0 to H copies in the order '(v s)': copy h is tied copy h mod S."""
    if copies % len(array):
        raise LayerError(f"layer {layer}: {len(array)} tied copies cannot be tiled over {copies} channels")
    return np.tile(array, (copies // len(array),) + (1,) * (array.ndim - 1))


def untile(array: np.ndarray, tied: int, layer: str) -> np.ndarray:
    """The S rows that `tile` repeated; its inverse.

    Raises:
        LayerError: rows that share one tensor in the file are no longer equal.
    """
    rows = array[:tied]
    if not np.array_equal(np.tile(rows, (len(array) // tied,) + (1,) * (array.ndim - 1)), array, equal_nan=True):
        raise LayerError(f"layer {layer}: copies that share one tensor in the file were changed differently; they must change together")
    return rows


def logarithm_of_decay(system: StateSpace) -> FloatArray:
    """log z of real poles z, (K, N), for families that can store real decays only.

    Raises:
        LayerError: a pole is not a real number between 0 and 1.
    """
    stored = system.poles.real
    sound = (stored > 0) & (stored < 1) if system.discretization == "direct" else stored < 0
    if (system.poles.imag != 0).any() or not sound.all():
        raise LayerError(f"layer {system.name}: a decay gate can only store real poles between 0 and 1")
    return np.asarray(np.log(stored) if system.discretization == "direct" else stored * system.step)


def missing_length(layer: LayerTensors, options: ReadOptions, what: str = "C is stored for a kernel length") -> LayerError:
    """The error of a layer that cannot be read without a length that its file does not have."""
    return LayerError(f"layer {layer.name}: {what} that the file does not store; give it with {options.length_option}")


def stored_length(layer: LayerTensors, role: str, options: ReadOptions) -> int:
    """The kernel length stored in a tensor with a single value.

    Raises:
        LayerError: the value is not a whole number of samples.
    """
    value = float(layer.array(role).reshape(-1)[0])
    if not (np.isfinite(value) and value == int(value) and 0 <= value < 2**40):
        text = f"{layer.tensor_names[role]} is {value:g}, expected a kernel length in samples; give {options.length_option}"
        raise LayerError(f"layer {layer.name}: {text}")
    return int(value)


def true_output_matrix(system: StateSpace, length: int) -> ComplexArray:
    """C recovered from the stored C~ = C (I - Abar^L), (K, O, N), for a system whose C still holds C~.

    A copy gets NaN if it has a pole at z = 1, so that no true C exists, or a pole that grows by more than MOST_GROWTH over L samples, so
    that no accurate digits are left. A copy with values that are not finite keeps its C~.

    Source: Gu et al. 2022 (arXiv 2111.00396), appendix C.3; state-spaces/s4, models/s4/s4.py, SSMKernelDPLR._setup_C.
    """
    parts = (system.poles, system.step, system.B, system.C, *(part for part in (system.P, system.Q) if part is not None))
    finite = np.logical_and.reduce([np.isfinite(part.reshape(system.copies, -1)).all(axis=1) for part in parts])
    if finite.all():
        return _untruncated(system, length)
    result = system.C.copy()
    if finite.any():
        result[finite] = _untruncated(system.pick(finite), length)
    return result


def _untruncated(system: StateSpace, length: int) -> ComplexArray:
    try:
        A, _, C = bilinear_realization(system)
        with np.errstate(over="ignore", invalid="ignore"):
            power = np.linalg.matrix_power(A, length)
            usable = np.abs(power).max(axis=(1, 2)) <= MOST_GROWTH
        correction = np.eye(A.shape[1]) - np.where(usable[:, None, None], power, 0)
        solved = np.asarray(np.linalg.solve(correction.transpose(0, 2, 1), C.transpose(0, 2, 1)), dtype=np.float64)
        return np.where(usable[:, None, None], _upper_half(solved.transpose(0, 2, 1)), np.nan)
    except np.linalg.LinAlgError:  # a copy has a pole at z = 1, or a state matrix out of bounds
        if system.copies == 1:
            return np.full_like(system.C, np.nan)
        return np.concatenate([_untruncated(system.copy_slice(copy, copy + 1), length) for copy in range(system.copies)])


def stored_output_matrix(system: StateSpace, length: int) -> ComplexArray:
    """C~ = C (I - Abar^L) for a system that holds the true C; the inverse of `true_output_matrix`."""
    A, _, C = bilinear_realization(system)
    return _upper_half(C - C @ np.linalg.matrix_power(A, length))


def _upper_half(C: FloatArray) -> ComplexArray:
    """The complex output matrix whose real realization is C = 2 (Re, -Im)."""
    modes = C.shape[2] // 2
    return np.asarray(C[:, :, :modes] - 1j * C[:, :, modes:], dtype=np.complex128) / 2


def unpaired_low_rank(rows: ComplexArray) -> ComplexArray:
    """[P, iP]/sqrt 2 (K, N, 2R) for the rows of P (K, N, R) that couple a whole, unpaired spectrum.

    P' 2 Re(Q'^* x) = P Re(Q^* x) + i P Im(Q^* x) = P Q^* x, so the real system of rank 2R has the output of the complex one of rank R.
    """
    with np.errstate(invalid="ignore"):
        return np.concatenate([rows, as_complex(-rows.imag, rows.real)], axis=2) / np.sqrt(2)


def unpaired_rows(rows: ComplexArray, layer: str) -> ComplexArray:
    """The rows of P (K, N, R) from [P, iP]/sqrt 2; the inverse of `unpaired_low_rank`.

    Raises:
        LayerError: rows that are not of this form.
    """
    first, second = np.split(rows, 2, axis=2)
    if not np.allclose(second, 1j * first, rtol=1e-12, atol=0):
        raise LayerError(f"layer {layer}: the low-rank part is [P, iP] for one matrix P, and must stay so")
    return np.asarray(first * np.sqrt(2))
