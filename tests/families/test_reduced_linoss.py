"""LinOSS reduced: whole oscillators, where a balanced or H2-optimal system consists of them, and the reason where it does not."""

import re
from collections.abc import Callable
from pathlib import Path

import factories as f
import numpy as np
import pytest
from balancing import square_root_truncation
from examples_s5_gates import linoss_tensors, linoss_truth
from factories import Tensors
from safetensors.numpy import load_file, save_file

from ssmspec.commands.reduce import ReducePlan, plan_reduce
from ssmspec.commands.reduce_writing import write_reduced
from ssmspec.errors import LayerError
from ssmspec.systems.statespace import StateSpace
from ssmspec.tuning.reduction.request import Request

THETA = np.linspace(0, np.pi, 2001)
METHODS = ("balanced", "h2")


@pytest.fixture
def reduced(tmp_path: Path) -> Callable[..., tuple[ReducePlan, Tensors, StateSpace]]:
    def run(tensors: Tensors, **request: object) -> tuple[ReducePlan, Tensors, StateSpace]:
        save_file({f"m.{name}": np.ascontiguousarray(values) for name, values in tensors.items()}, tmp_path / "in.safetensors")
        plan = plan_reduce(tmp_path / "in.safetensors", Request(**request))
        ((stored,), _) = write_reduced(plan, tmp_path / "out.safetensors", command="test", replace_target=True)
        return plan, {name.removeprefix("m."): values for name, values in load_file(tmp_path / "out.safetensors").items()}, stored

    return run


def double(tensors: Tensors) -> Tensors:
    return {name: values.astype(np.float64) for name, values in tensors.items()}


def response(tensors: Tensors) -> np.ndarray:
    """Of the code of LinOSS, whose outputs are real, without D: (F, O, I)."""
    truth, found = linoss_truth(tensors), []
    for sign in (1, -1):
        turn = np.exp(-1j * sign * THETA)[:, None, None]
        H = truth.C[0] @ np.linalg.solve(
            np.eye(len(truth.A[0])) - turn * truth.A[0], np.broadcast_to(truth.B[0], (len(THETA), *truth.B[0].shape))
        )
        found.append(H if sign == 1 else H.conj())
    return (found[0] + found[1]) / 2


def peak(H: np.ndarray) -> float:
    return float(np.linalg.svd(H, compute_uv=False)[:, 0].max())


def real_system(tensors: Tensors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real and imaginary parts of the state as one real system."""
    truth = linoss_truth(tensors)
    A, B, C = truth.A[0], truth.B[0], truth.C[0]
    return np.kron(np.eye(2), A.real), np.concatenate([B.real, B.imag]), np.concatenate([C.real, -C.imag], axis=1)


def redundant(rng: np.random.Generator, H: int) -> Tensors:
    """Six oscillators of which three can go: one is not driven, one is not heard, and one repeats another with another step."""
    tensors = double(linoss_tensors(rng, H, 6))
    tensors["B"][1], tensors["C"][:, 3] = 0, 0
    step = 1 / (1 + np.exp(-tensors["steps"]))
    tensors["A_diag"][5] = tensors["A_diag"][0] * (step[0] / step[5]) ** 2
    tensors["B"][5] = tensors["B"][0] if H > 1 else tensors["B"][5]
    return tensors


def in_channels_of_their_own(rng: np.random.Generator, count: int = 4) -> Tensors:
    """Every oscillator has an input and an output that no other has, each ten times weaker than the one before."""
    tensors = double(linoss_tensors(rng, count, count))
    sizes = 10.0 ** -np.arange(count)
    for role, scale in (("B", sizes), ("C", np.ones(count))):
        tensors[role] = f.pairs(np.diag(np.diag(f.joined(tensors[role])) * scale)).astype(np.float64)
    return tensors


@pytest.mark.parametrize("H", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_oscillators_that_do_nothing_go_without_an_error(
    rng: np.random.Generator, reduced: Callable[..., object], method: str, H: int
) -> None:
    tensors = redundant(rng, H)
    plan, after, stored = reduced(tensors, method=method, tolerance=1e-3)
    certificate = plan.layers[0].certificate
    assert after["A_diag"].shape == after["steps"].shape == (3,)
    assert after["B"].shape == (3, H, 2)
    assert after["C"].shape == (H, 3, 2)
    H_before = response(tensors)
    np.testing.assert_allclose(response(after), H_before, rtol=0, atol=2e-9 * peak(H_before))
    assert certificate.relative.max() < 2e-9
    assert certificate.holds in ((True,) if method == "balanced" else (None,))
    np.testing.assert_array_equal(stored.poles, plan.layers[0].after.poles)


def test_oscillators_that_stay_keep_their_steps_and_stiffness(rng: np.random.Generator, reduced: Callable[..., object]) -> None:
    tensors = redundant(rng, 3)
    _, after, _ = reduced(tensors, modes=3)
    for A, step in zip(after["A_diag"], after["steps"], strict=True):
        same = np.flatnonzero(tensors["steps"] == step)
        assert len(same) == 1
        np.testing.assert_allclose(A, tensors["A_diag"][same[0]], rtol=1e-6)


def test_more_places_than_oscillators_are_filled_with_silent_ones(rng: np.random.Generator, reduced: Callable[..., object]) -> None:
    tensors = redundant(rng, 1)
    _, after, _ = reduced(tensors, modes=5)
    assert (np.abs(f.joined(after["C"])) > 0).sum() == 3
    H = response(tensors)
    np.testing.assert_allclose(response(after), H, rtol=0, atol=1e-9 * peak(H))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("modes", [1, 2, 3])
def test_oscillators_with_channels_of_their_own_are_truncated_one_by_one(
    rng: np.random.Generator, reduced: Callable[..., object], method: str, modes: int
) -> None:
    """Both Gramians fall into blocks: a balanced truncation drops oscillators, and the error is the peak of the strongest."""
    tensors = in_channels_of_their_own(rng)
    plan, after, _ = reduced(tensors, method=method, modes=modes)
    certificate = plan.layers[0].certificate
    H, error = response(tensors), response(tensors) - response(after)
    assert certificate.norm == pytest.approx(peak(H), rel=2e-3)
    assert certificate.error.peak[0] == pytest.approx(peak(error), rel=2e-3)
    strongest = max(np.abs(H[:, k, k]).max() for k in range(modes, 4))
    assert certificate.error.peak[0] == pytest.approx(strongest, rel=2e-3)
    if method == "balanced":
        assert certificate.holds
        assert certificate.bound is not None
        *_, values = square_root_truncation(*real_system(tensors), 2 * modes)
        assert certificate.bound[0] == pytest.approx(2 * values[2 * modes :].sum(), rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_system_that_has_no_form_of_oscillators_is_refused_with_numbers(
    rng: np.random.Generator, reduced: Callable[..., object], method: str
) -> None:
    tensors = double(linoss_tensors(rng, 3, 8))
    with pytest.raises(LayerError, match=r"no balanced truncation that fits into 3 stored modes has the form of LinOSS-IM") as raised:
        reduced(tensors, method=method, modes=3)
    text = str(raised.value)
    assert "that to 12 states has" in text
    assert "--method modal keeps some of its own modes" in text
    real, imag, size = map(float, re.search(r"a pair of poles ([\d.-]+) \+- ([\d.]+)i, whose \|z\|\^2 = ([\d.]+)", text).groups())
    A, *_ = square_root_truncation(*real_system(tensors), 12)
    poles = np.linalg.eigvals(A)
    assert np.abs(poles - (real + 1j * imag)).min() < 1e-3
    assert size == pytest.approx(real**2 + imag**2, abs=1e-3)
    assert abs(size - real) > 1e-3
    off = float(re.search(r"off by ([\d.e-]+) of its H-infinity norm", text)[1])
    assert off > 1e-6


def test_a_tolerance_that_no_form_meets_leaves_the_layer_with_the_reason(rng: np.random.Generator, reduced: Callable[..., object]) -> None:
    tensors = double(linoss_tensors(rng, 3, 8))
    with pytest.raises(
        LayerError, match=r"no smaller number meets 0\.1 \(no balanced truncation that fits into 7 stored modes has the form"
    ):
        reduced(tensors, tolerance=0.1)


def test_fewer_places_than_oscillators_that_act_are_refused_with_their_number(
    rng: np.random.Generator, reduced: Callable[..., object]
) -> None:
    with pytest.raises(LayerError, match="that to 6 states takes 3"):
        reduced(redundant(rng, 1), modes=2)


def test_a_layer_without_a_response_keeps_silent_oscillators(rng: np.random.Generator, reduced: Callable[..., object]) -> None:
    tensors = double(linoss_tensors(rng, 2, 4))
    tensors["B"][:] = 0
    _, after, _ = reduced(tensors, modes=2)
    assert after["C"].shape == (2, 2, 2)
    assert not response(after).any()
