"""Every engine equals the reference in signature and values, forward and backward."""

import inspect
import sys
from importlib import import_module
from types import ModuleType

import numpy as np
import pytest
from cauchy_problems import EXTREMES, ROUNDINGS, SIZES, double, extreme, problem, roundings, single

from ssmspec.backends import BACKENDS, COMPILE_WORTHWHILE, choose_backend, load_backend, reference
from ssmspec.errors import BackendError


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def compiled(request: pytest.FixtureRequest) -> ModuleType:
    """Every engine except the reference; the GPU engine only if there is a GPU."""
    module = import_module(BACKENDS[request.param])
    missing = module.obstacle() if request.param == "gpu" else None
    if missing:
        pytest.skip(missing)
    return module


@pytest.mark.parametrize("function", ["cauchy_sum", "cauchy_vjp"])
@pytest.mark.parametrize("name", BACKENDS)
def test_engines_have_one_signature(name: str, function: str) -> None:
    wanted = inspect.signature(getattr(reference, function))
    assert inspect.signature(getattr(import_module(BACKENDS[name]), function)) == wanted


@pytest.mark.parametrize("size", SIZES)
def test_float64_equals_the_reference(compiled: ModuleType, size: tuple[int, int, int, int], rng) -> None:
    assert roundings(compiled, problem(rng, size)) < ROUNDINGS


@pytest.mark.parametrize("size", SIZES)
def test_float32_is_within_the_stated_error(compiled: ModuleType, size: tuple[int, int, int, int], rng) -> None:
    assert roundings(compiled, single(problem(rng, size))) < ROUNDINGS


def test_nodes_may_differ_between_copies(compiled: ModuleType, rng) -> None:
    residues, poles, x, y, cotangent = problem(rng, (5, 2, 4, 77), rows=5)
    assert roundings(compiled, (residues, poles, x, y, cotangent)) < ROUNDINGS
    alone = reference.cauchy_sum(residues[[3]], poles[[3]], x[[3]], y[[3]])
    np.testing.assert_array_equal(reference.cauchy_sum(residues, poles, x, y)[[3]], alone)


@pytest.mark.parametrize("kind", [single, double])
@pytest.mark.parametrize("pole", EXTREMES.values(), ids=EXTREMES)
def test_extreme_poles_agree_to_their_conditioning(compiled: ModuleType, pole: complex, kind) -> None:
    assert roundings(compiled, kind(extreme(pole))) < ROUNDINGS


def test_poles_whose_squares_leave_float64_are_finite(compiled: ModuleType) -> None:
    arguments = extreme(-1e200 + 1e200j)
    np.testing.assert_allclose(compiled.cauchy_sum(*arguments[:4]), reference.cauchy_sum(*arguments[:4]), rtol=1e-13)


@pytest.mark.parametrize(("size", "distance"), [(1e-36, 1e-5), (1e30, 1.0)])
@pytest.mark.parametrize("sums", [1, 3])
def test_residues_of_any_size_keep_their_precision(compiled: ModuleType, size: float, distance: float, sums: int, rng) -> None:
    residues, poles, x, y, cotangent = problem(rng, (2, sums, 3, 40))
    factors = np.geomspace(size, 1, sums)[None, :, None]
    assert roundings(compiled, single((residues * factors, poles * distance, x, y, cotangent))) < ROUNDINGS


@pytest.mark.parametrize(("node", "distance"), [(1e-20, 1.0), (1e20, 1.0), (1e7, 1e7)])
def test_nodes_of_any_size_keep_their_precision(compiled: ModuleType, node: float, distance: float, rng) -> None:
    residues, poles, x, y, cotangent = problem(rng, (1, 1, 3, 40))
    assert roundings(compiled, single((residues, poles * distance, x * node, y * node, cotangent))) < ROUNDINGS


def test_steep_nodes_may_stand_anywhere(compiled: ModuleType, rng) -> None:
    residues, poles, _, _, cotangent = problem(rng, (3, 1, 5, 1300))
    theta = rng.permutation(np.concatenate([np.linspace(-np.pi, np.pi, 1000), np.pi - np.geomspace(1e-12, 1e-5, 300)]))
    assert roundings(compiled, single((residues, poles, np.cos(theta / 2)[None], np.sin(theta / 2)[None], cotangent))) < ROUNDINGS


def test_poles_that_are_steep_and_lightly_damped_keep_their_precision(compiled: ModuleType, rng) -> None:
    residues, _, _, _, cotangent = problem(rng, (1, 1, 4, 900))
    poles = np.array([[-1e-2 + 30j, -1e-5 + 1j, -1e3 + 3e6j, -1e-1 + 1e7j]])
    near = np.concatenate([abs(pole) * (1 + np.array([-1, 1])[:, None] * np.geomspace(1e-6, 0.5, 112)).ravel() for pole in poles[0]])
    w = np.sort(np.concatenate([near, [0.0, 1e-3, 1e9, 1e12]]))  # y/x
    x = 1 / np.hypot(1, w)
    assert roundings(compiled, single((residues, poles, x[None], (w * x)[None], cotangent))) < ROUNDINGS


def test_continuous_time_spans_thirty_decades(compiled: ModuleType, rng) -> None:
    residues, poles, x, _, cotangent = problem(rng, (2, 1, 3, 61))
    arguments = residues, poles * 1e3, np.ones_like(x), np.geomspace(1e-15, 1e15, x.size)[None], cotangent
    assert roundings(compiled, single(arguments)) < ROUNDINGS
    assert roundings(compiled, arguments) < ROUNDINGS


@pytest.mark.parametrize("part", [0, 1])
def test_a_nan_stays_in_its_own_copy(compiled: ModuleType, part: int, rng) -> None:
    arguments = problem(rng, (3, 2, 4, 20))
    arguments[part][1] = np.nan
    wanted = reference.cauchy_sum(*arguments[:4])
    found = compiled.cauchy_sum(*arguments[:4])
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[[0, 2]], wanted[[0, 2]], rtol=1e-12)
    gradient, moved = compiled.cauchy_vjp(*arguments)
    assert np.isnan(moved[1]).all()
    assert np.isfinite(moved[[0, 2]]).all()
    assert np.isfinite(gradient[[0, 2]]).all()


def test_a_node_on_a_pole_is_not_finite(compiled: ModuleType) -> None:
    one = np.ones((1, 1))
    for engine in (reference, compiled):
        assert not np.isfinite(engine.cauchy_sum(np.ones((1, 1, 1), complex), 1j * one, one, one)).any()
        assert not np.isfinite(engine.cauchy_vjp(np.ones((1, 1, 1), complex), 1j * one, one, one, np.ones((1, 1, 1), complex))[0]).any()


@pytest.mark.parametrize("size", [(0, 1, 2, 3), (1, 0, 2, 3), (1, 2, 0, 3), (1, 2, 3, 0)], ids=["K", "M", "N", "F"])
def test_nothing_sums_to_nothing(compiled: ModuleType, size: tuple[int, int, int, int], rng) -> None:
    arguments = problem(rng, size)
    for engine in (reference, compiled):
        results = engine.cauchy_sum(*arguments[:4]), *engine.cauchy_vjp(*arguments)
        assert [part.shape for part in results] == [arguments[4].shape, arguments[0].shape, arguments[1].shape]
        assert not any(part.any() for part in results)


def test_arrays_may_be_views_that_nobody_may_write_to(compiled: ModuleType, rng) -> None:
    plain = problem(rng, (2, 3, 4, 50))
    views = tuple(np.asfortranarray(array[..., ::-1])[..., ::-1] for array in plain)
    for view in views:
        view.flags.writeable = False
    np.testing.assert_array_equal(compiled.cauchy_sum(*views[:4]), compiled.cauchy_sum(*plain[:4]))
    for ours, theirs in zip(compiled.cauchy_vjp(*views), compiled.cauchy_vjp(*plain), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_equal_arguments_give_equal_bits(compiled: ModuleType, rng) -> None:
    arguments = single(problem(rng, (16, 1, 16, 4001)))
    first, second = (compiled.cauchy_vjp(*arguments) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    np.testing.assert_array_equal(compiled.cauchy_sum(*arguments[:4]), compiled.cauchy_sum(*arguments[:4]))


def test_reference_and_engines_equal_arbitrary_precision(compiled: ModuleType) -> None:
    mpmath = pytest.importorskip("mpmath")
    residue, pole, theta = 0.3 - 0.7j, -1e-5 + 0.4j, 0.761
    with mpmath.workdps(40):
        x, y = mpmath.cos(mpmath.mpf(theta) / 2), mpmath.sin(mpmath.mpf(theta) / 2)
        terms = [mpmath.mpc(r) / (1j * y - mpmath.mpc(s) * x) for r, s in ((residue, pole), (residue.conjugate(), pole.conjugate()))]
        wanted = complex(sum(terms))
    nodes = np.array([[np.cos(theta / 2)]]), np.array([[np.sin(theta / 2)]])
    for engine in (reference, compiled):
        found = engine.cauchy_sum(np.array([[[residue]]]), np.array([[pole]]), *nodes)[0, 0, 0]
        assert abs(found - wanted) < 1e-11 * abs(wanted)


def test_a_named_backend_that_does_not_exist_is_an_error_that_lists_the_choices() -> None:
    with pytest.raises(BackendError, match=r"'cuda' is unknown; choose one of reference, cpu, gpu"):
        load_backend("cuda")


def test_the_gpu_backend_without_a_gpu_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = import_module(BACKENDS["gpu"])
    monkeypatch.setattr(gpu, "INTERPRETED", False)
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        BackendError, match=r"^backend 'gpu' cannot run here \(torch finds no CUDA device.*\); choose one of reference, cpu$"
    ):
        load_backend("gpu")


@pytest.mark.parametrize("package", ["torch", "triton"])
def test_the_gpu_backend_without_its_packages_is_an_error_of_one_line(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, BACKENDS["gpu"], raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BackendError, match=rf"^backend 'gpu' cannot run here \([^\n]*{package}[^\n]*\); choose one of reference, cpu$"):
        load_backend("gpu")


def test_small_work_is_not_compiled() -> None:
    assert choose_backend(COMPILE_WORTHWHILE / 2) == "reference"
    assert choose_backend(COMPILE_WORTHWHILE * 2) == "cpu"
