"""Every engine equals the reference in signature and values."""

import inspect
from importlib import import_module

import numpy as np
import pytest

from ssmspec.backends import BACKENDS, COMPILE_WORTHWHILE, choose_backend, load_backend
from ssmspec.errors import BackendError

OTHERS = [name for name in BACKENDS if name != "reference"]
SIZES = [(1, 1, 1, 1), (257, 1, 3, 65), (2, 1, 64, 1023), (1, 4, 3, 33753), (3, 5, 64, 1)]


def problem(rng: np.random.Generator, size: tuple[int, int, int, int]) -> tuple[np.ndarray, ...]:
    K, M, N, F = size
    residues = rng.normal(size=(K, M, N)) + 1j * rng.normal(size=(K, M, N))
    poles = -np.exp(rng.normal(size=(K, N))) + 1j * rng.normal(size=(K, N)) * 3
    theta = np.linspace(0, np.pi, F)[None]
    return residues, poles, np.cos(theta / 2), np.sin(theta / 2)


@pytest.mark.parametrize("name", OTHERS)
def test_engines_have_one_signature(name: str) -> None:
    wanted = list(inspect.signature(import_module(BACKENDS["reference"]).cauchy_sum).parameters)
    assert list(inspect.signature(import_module(BACKENDS[name]).cauchy_sum).parameters) == wanted


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", OTHERS)
def test_float64_equals_the_reference(name: str, size: tuple[int, int, int, int], rng) -> None:
    arguments = problem(rng, size)
    wanted, found = load_backend("reference")(*arguments), load_backend(name)(*arguments)
    assert found.dtype == np.complex128
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-13 * np.abs(wanted).max())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", OTHERS)
def test_float32_is_within_the_stated_error(name: str, size: tuple[int, int, int, int], rng) -> None:
    residues, poles, x, y = problem(rng, size)
    wanted = load_backend("reference")(residues, poles, x, y)
    single = residues.astype(np.complex64), poles.astype(np.complex64), x.astype(np.float32), y.astype(np.float32)
    found = load_backend(name)(*single)
    assert found.dtype == np.complex64
    # rounding the poles alone moves a resonance by eps |sigma|/|Re sigma|; N terms add up
    amplification = (np.abs(poles) / np.abs(poles.real)).max()
    bound = 4 * np.finfo(np.float32).eps * amplification * (np.abs(residues).sum(axis=2).max() / np.abs(poles.real).min())
    assert np.abs(found - wanted).max() < bound


@pytest.mark.parametrize("name", OTHERS)
def test_nodes_may_differ_between_copies(name: str, rng) -> None:
    residues, poles, _, _ = problem(rng, (5, 2, 4, 1))
    theta = rng.uniform(0, np.pi, size=(5, 77))
    nodes = np.cos(theta / 2), np.sin(theta / 2)
    wanted = np.stack([load_backend("reference")(residues[[k]], poles[[k]], nodes[0][[k]], nodes[1][[k]])[0] for k in range(5)])
    for engine in ("reference", name):
        np.testing.assert_allclose(load_backend(engine)(residues, poles, *nodes), wanted, rtol=1e-12, atol=1e-13 * np.abs(wanted).max())


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(
    "pole", [-1e-12 + 1j, -1e-3 + 0j, -1e8 + 1e8j, -1e-8 + 1e-8j, -0.5 + 1e8j], ids=["axis", "real", "huge", "tiny", "aliased"]
)
def test_extreme_poles_agree_to_their_conditioning(name: str, pole: complex) -> None:
    theta = np.concatenate([[0.0], np.geomspace(1e-6, np.pi, 999)])[None]
    x, y = np.where(theta == np.pi, 0, np.cos(theta / 2)), np.sin(theta / 2)
    arguments = np.array([[[0.3 - 0.7j]]]), np.array([[pole]]), x, y
    wanted, found = load_backend("reference")(*arguments), load_backend(name)(*arguments)
    condition = max(1.0, abs(pole) / abs(pole.real))
    np.testing.assert_allclose(found, wanted, rtol=1e-13 * condition, atol=1e-15 * np.abs(wanted).max())


def test_reference_equals_arbitrary_precision() -> None:
    mpmath = pytest.importorskip("mpmath")
    residue, pole, theta = 0.3 - 0.7j, -1e-5 + 0.4j, 0.761
    with mpmath.workdps(40):
        x, y = mpmath.cos(mpmath.mpf(theta) / 2), mpmath.sin(mpmath.mpf(theta) / 2)
        terms = [mpmath.mpc(r) / (1j * y - mpmath.mpc(s) * x) for r, s in ((residue, pole), (residue.conjugate(), pole.conjugate()))]
        wanted = complex(sum(terms))
    nodes = np.array([[np.cos(theta / 2)]]), np.array([[np.sin(theta / 2)]])
    for name in BACKENDS:
        found = load_backend(name)(np.array([[[residue]]]), np.array([[pole]]), *nodes)[0, 0, 0]
        assert abs(found - wanted) < 1e-11 * abs(wanted)


def test_a_named_backend_that_does_not_exist_is_an_error_that_lists_the_choices() -> None:
    with pytest.raises(BackendError, match=r"'cuda' is unknown; choose one of reference, cpu"):
        load_backend("cuda")


def test_small_work_is_not_compiled() -> None:
    assert choose_backend(COMPILE_WORTHWHILE / 2) == "reference"
    assert choose_backend(COMPILE_WORTHWHILE * 2) == "cpu"
