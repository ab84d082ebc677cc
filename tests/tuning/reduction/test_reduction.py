"""The numerics of reductions against scipy's Lyapunov equations, slycot, and what optimality asks for."""

from dataclasses import replace

import numpy as np
import pytest
from balancing import square_root_truncation

from ssmspec.errors import LayerError, SsmspecError
from ssmspec.systems.realization import discrete_realization
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import StateSpace, discrete_poles
from ssmspec.tuning.reduction.balanced import balance, truncation
from ssmspec.tuning.reduction.certificate import difference, norms
from ssmspec.tuning.reduction.discrete_modes import Modes, as_layer, modes_of
from ssmspec.tuning.reduction.h2_optimal import improve, squared_error
from ssmspec.tuning.reduction.orders import Places, in_places, keep
from ssmspec.tuning.reduction.reducer import Reducer
from ssmspec.tuning.reduction.request import Request
from ssmspec.tuning.reduction.single_modes import scores

SAMPLES = 400


def layer(rng: np.random.Generator, rule: str = "zoh", *, K: int = 3, N: int = 8, I: int = 1, O: int = 1, real: int = 0) -> StateSpace:
    """S4D-Lin with scattered decays; the first `real` poles are real."""
    poles = -0.5 * np.exp(rng.normal(0, 0.5, (K, N))) + 1j * np.pi * np.arange(N)
    B, C = (rng.standard_normal((*shape, 2)) @ [1, 1j] for shape in ((K, N, I), (K, O, N)))
    poles[:, :real] = poles[:, :real].real * np.arange(1, real + 1)
    B[:, :real], C[:, :, :real] = B[:, :real].real, C[:, :, :real].real
    step = np.exp(rng.uniform(np.log(0.02), np.log(0.2), (K, 1)))
    if rule == "direct":
        poles, step = np.exp(poles * step), np.ones((K, 1))
    return StateSpace(name="x", family="s4d", poles=poles, B=B, C=C, D=np.zeros((K, O, I)), step=step, discretization=rule)


def low_rank(rng: np.random.Generator) -> StateSpace:
    system = layer(rng, "bilinear", N=6)
    P = 0.4 * (rng.standard_normal((3, 6, 1, 2)) @ [1, 1j])
    return replace(system, P=P, Q=P)


SYSTEMS = {
    "zoh": lambda rng: layer(rng),
    "bilinear with real poles": lambda rng: layer(rng, "bilinear", real=3),
    "two outputs": lambda rng: layer(rng, O=2),
    "three inputs, two outputs": lambda rng: layer(rng, "direct", I=3, O=2, real=2),
    "low rank": low_rank,
}


def matrices(system: StateSpace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x[t+1] = A x[t] + B u[t], k[l] = C A^l B."""
    A, B, C, _ = discrete_realization(replace(system, delay=1))
    return A, B, C


def kernel(A: np.ndarray, B: np.ndarray, C: np.ndarray, length: int = SAMPLES) -> np.ndarray:
    state, samples = B, []
    for _ in range(length):
        samples.append(C @ state)
        state = A @ state
    return np.array(samples)


def kernel_of(modes: Modes, copy: int, length: int = SAMPLES) -> np.ndarray:
    powers = modes.poles[copy] ** np.arange(length)[:, None]
    return 2 * np.einsum("on,ln,ni->loi", modes.C[copy], powers, modes.B[copy]).real


@pytest.mark.parametrize("order", [4, 5])
@pytest.mark.parametrize("name", SYSTEMS)
def test_truncations_are_those_of_scipy(rng: np.random.Generator, name: str, order: int) -> None:
    system = SYSTEMS[name](rng)
    balanced = balance(system)
    modes = truncation(balanced, order)
    for copy, (A, B, C) in enumerate(zip(*matrices(system), strict=True)):
        *reduced, values = square_root_truncation(A, B, C, order)
        np.testing.assert_allclose(balanced.values[copy], values, rtol=0, atol=1e-7 * values[0])
        wanted = kernel(*reduced)
        np.testing.assert_allclose(kernel_of(modes, copy), wanted, rtol=0, atol=1e-9 * np.abs(wanted).max())
        assert balanced.bound(np.full(system.copies, order))[copy] == pytest.approx(
            2 * values[order:].sum(), rel=1e-5, abs=1e-6 * values[0]
        )


@pytest.mark.parametrize("name", ["zoh", "bilinear with real poles", "three inputs, two outputs"])
def test_truncations_are_those_of_slycot(rng: np.random.Generator, name: str) -> None:
    """AB09AD of SLICOT in discrete time: the same order for the same tolerance, and the same error."""
    slycot = pytest.importorskip("slycot", reason="slycot is not installed: it needs a Fortran compiler where there is no wheel")
    system = SYSTEMS[name](rng)
    balanced = balance(system)
    for copy, (A, B, C) in enumerate(zip(*matrices(system), strict=True)):
        tolerance = float(np.sqrt(balanced.values[copy, 4] * balanced.values[copy, 5]))
        nr, Ar, Br, Cr, hsv = slycot.ab09ad("D", "B", "N", len(A), B.shape[1], len(C), A.copy(), B.copy(), C.copy(), tol=tolerance)
        assert nr == int((balanced.values[copy] > tolerance).sum()) == 5
        np.testing.assert_allclose(balanced.values[copy], hsv, rtol=0, atol=1e-7 * hsv[0])
        mine, whole = kernel_of(truncation(balanced, nr), copy, 6000), kernel(A, B, C, 6000)
        theirs = kernel(Ar[:nr, :nr], Br[:nr], Cr[:, :nr], 6000)
        peaks = [np.linalg.svd(np.fft.rfft(whole - part, axis=0), compute_uv=False).max() for part in (mine, theirs)]
        assert peaks[0] == pytest.approx(peaks[1], rel=1e-7)


def test_the_bilinear_image_is_reduced_by_control_with_the_same_values(rng: np.random.Generator) -> None:
    """balred truncates continuous systems. Those with sigma in place of z have the same Hankel values, so the same order and bound."""
    control = pytest.importorskip("control")
    pytest.importorskip("slycot", reason="slycot is not installed: it needs a Fortran compiler where there is no wheel")
    system = layer(rng, "bilinear", K=1, N=6)
    balanced = balance(system)
    (A,), (B,), (C,) = matrices(system)
    inverse = np.linalg.inv(np.eye(len(A)) + A)
    image = control.ss(inverse @ (A - np.eye(len(A))), np.sqrt(2) * inverse @ B, np.sqrt(2) * C @ inverse, -C @ inverse @ B)
    values = np.sort(control.hankel_singular_values(image))[::-1]
    np.testing.assert_allclose(balanced.values[0], values, rtol=0, atol=1e-7 * values[0])
    order = 5
    reduced = control.balred(image, order)
    omega = np.tan(np.linspace(1e-4, np.pi / 2 - 1e-4, 4001))
    theirs = np.abs(control.frequency_response(image - reduced, omega).frdata).max()
    mine = norms(difference(system, as_layer(truncation(balanced, order), system))).peak[0]
    bound = balanced.bound(np.array([order]))[0]
    assert values[order] * 0.99 <= min(mine, theirs)
    assert max(mine, theirs) <= bound * (1 + 1e-9)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_bound_holds_and_the_error_is_that_of_the_kernels(rng: np.random.Generator, name: str) -> None:
    system = SYSTEMS[name](rng)
    balanced = balance(system)
    for count in range(1, system.modes):
        places = Places(count)
        kept = keep(balanced, places, "x")
        reduced = as_layer(in_places(kept.modes, places), system)
        error = norms(difference(system, reduced))
        assert (error.peak <= balanced.bound(kept.orders) * (1 + 1e-9)).all()
        assert (np.abs(discrete_poles(reduced)) < 1).all()
        if count == 2:
            for copy, (A, B, C) in enumerate(zip(*matrices(system), strict=True)):
                gap = kernel(A, B, C, 8000) - kernel_of(modes_of(replace(reduced, P=None, Q=None)), copy, 8000)
                spectrum = np.linalg.svd(np.fft.rfft(gap, 1 << 16, axis=0), compute_uv=False)[:, 0]
                assert error.peak[copy] == pytest.approx(spectrum.max(), rel=1e-5)
                assert error.energy[copy] == pytest.approx(np.sqrt((gap**2).sum()), rel=1e-8)


@pytest.mark.parametrize("count", range(1, 8))
def test_every_copy_fills_its_places(rng: np.random.Generator, count: int) -> None:
    """A real pole takes one place, as a pair does: copies of one number of modes have different numbers of states."""
    system = layer(rng, K=24, real=2)
    kept = keep(balance(system), Places(count), "x")
    modes = in_places(kept.modes, Places(count))
    assert modes.poles.shape == (24, count)
    assert (Places(count).taken(kept.modes) >= count - 1).all()
    assert set(kept.orders.tolist()) <= set(range(count, 2 * count + 1))
    for copy in range(3):
        assert (
            2 * np.count_nonzero(modes.poles[copy].imag) + np.count_nonzero(modes.alive[copy] & (modes.poles[copy].imag == 0))
            == (kept.orders[copy])
        )


def test_both_poles_of_a_pair_are_stored_where_the_file_needs_them(rng: np.random.Generator) -> None:
    system = layer(rng, K=5, real=1)
    kept = keep(balance(system), Places(6, both=True), "x")
    modes = in_places(kept.modes, Places(6, both=True))
    assert (kept.orders == 6).all()
    for copy in range(5):
        np.testing.assert_allclose(kernel_of(modes, copy), kernel_of(kept.modes, copy), rtol=0, atol=1e-12)
        pairs = modes.poles[copy][modes.poles[copy].imag != 0]
        np.testing.assert_array_equal(pairs[::2], pairs[1::2])


@pytest.mark.parametrize("rule", ["zoh", "bilinear", "direct"])
def test_negative_and_positive_real_poles_are_written_in_every_rule(rng: np.random.Generator, rule: str) -> None:
    modes = Modes(np.array([[-0.7, 0.4, 0.5 + 0.5j]] * 3, complex), np.ones((3, 3, 1), complex), np.full((3, 1, 3), 0.3 + 0j))
    system = as_layer(modes, layer(rng, rule))
    np.testing.assert_allclose(modes_of(system).poles, modes.poles, rtol=0, atol=1e-14)
    np.testing.assert_allclose(kernel_of(modes_of(system), 0), kernel_of(modes, 0), rtol=0, atol=1e-12)
    assert (system.poles.imag >= 0).all()


@pytest.mark.parametrize("name", ["zoh", "two outputs", "three inputs, two outputs"])
def test_h2_optimal_systems_interpolate_at_their_inverse_poles(rng: np.random.Generator, name: str) -> None:
    """At 1/z of every pole, in the directions of its residue, the system and its derivative are those of the whole one."""
    system = SYSTEMS[name](rng)
    whole, places = modes_of(system), Places(3)
    start = keep(balance(system), places, "x")
    found = improve(whole, start, places)
    before, after = (squared_error(whole, part.modes) for part in (start, found))
    assert (after <= before * (1 + 1e-12)).all()
    assert (after < 0.999 * before).any()
    assert places.fit(found.modes).all()

    def transfer(modes: Modes, copy: int, s: complex) -> np.ndarray:
        halves = ((modes.poles[copy], modes.B[copy], modes.C[copy]), (modes.poles[copy].conj(), modes.B[copy].conj(), modes.C[copy].conj()))
        return sum((C / (s - z)) @ B for z, B, C in halves)

    for copy in np.flatnonzero(after < 0.999 * before):
        for n in np.flatnonzero(found.modes.alive[copy]):
            s = 1 / found.modes.poles[copy, n]
            right, left = found.modes.B[copy, n], found.modes.C[copy, :, n]
            first, second = (transfer(modes, copy, s) for modes in (whole, found.modes))
            size = np.linalg.norm(first)
            assert np.linalg.norm((first - second) @ right) <= 3e-2 * size * np.linalg.norm(right)
            assert np.linalg.norm(left @ (first - second)) <= 3e-2 * size * np.linalg.norm(left)


def test_scores_are_the_norms_of_single_modes(rng: np.random.Generator) -> None:
    """A complex mode alone has its peak |g|/(1 - |z|) at its own angle; a real pole counts with all of its residue."""
    system = layer(rng, "direct", real=1)
    modes = modes_of(system)
    theta = np.angle(modes.poles)
    single = np.abs(modes.C[:, 0] * modes.B[:, :, 0] / (1 - modes.poles * np.exp(-1j * theta)))
    single[:, 0] *= 2
    np.testing.assert_allclose(scores(system), single, rtol=1e-10)


def test_the_error_of_a_weighted_layer_is_weighted(rng: np.random.Generator) -> None:
    system = replace(layer(rng), sobolev=Sobolev(np.array([0.5, -1.0, 1.0]), "lra"))
    reduced = as_layer(in_places(keep(balance(system), Places(4), "x").modes, Places(4)), system)
    found = norms(difference(system, reduced))
    theta = np.linspace(0, np.pi, 30001)
    for copy in range(3):
        turn = np.exp(-1j * theta)
        H = [np.zeros(len(theta), complex), np.zeros(len(theta), complex)]
        for place, modes in enumerate((modes_of(system), modes_of(reduced))):
            for z, g in zip(modes.poles[copy], modes.C[copy, 0] * modes.B[copy, :, 0], strict=True):
                H[place] += g / (1 - z * turn) + g.conjugate() / (1 - z.conjugate() * turn)
        gap = np.abs(H[0] - H[1]) * (1 + theta / (2 * np.pi)) ** system.sobolev.beta[copy]
        assert found.peak[copy] == pytest.approx(gap.max(), rel=1e-4)


def test_a_layer_without_a_response_stays_without_one(rng: np.random.Generator) -> None:
    system = layer(rng)
    system = replace(system, C=system.C * np.array([1.0, 0.0, 1.0])[:, None, None])
    kept = keep(balance(system), Places(3), "x")
    assert kept.orders[1] == 0
    assert not kept.modes.alive[1].any()


def test_real_places_are_refused_where_no_order_has_real_poles(rng: np.random.Generator) -> None:
    system = layer(rng, "direct", N=2)
    balanced = balance(replace(system, poles=np.full((3, 2), -0.9) + 0.1j * np.arange(1, 3)))
    with pytest.raises(LayerError, match=r"only real poles between 0 and 1.*--method modal"):
        keep(balanced, Places(1, real=True), "x")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "exactly one"),
        ({"tolerance": 0.1, "modes": 3}, "exactly one"),
        ({"tolerance": -1.0}, "positive"),
        ({"modes": 0}, "at least 1"),
        ({"keep": 1.5}, "between 0 and 1"),
        ({"keep": 0.5, "over": "median"}, "--tolerance"),
        ({"keep": 0.5, "method": "hankel"}, "balanced, modal, h2"),
    ],
)
def test_requests_that_contradict_themselves_are_refused(request_: dict[str, object], words: str) -> None:
    with pytest.raises(SsmspecError, match=words):
        Request(**request_)


def test_empty_places_take_modes_of_the_error() -> None:
    """Where no order has just as many modes as there are places, what is left is reduced in turn, if that lowers the error."""
    system = layer(np.random.default_rng(2), "direct", K=60, N=8, real=4)
    places = Places(6)
    kept = keep(balance(system), places, "x")
    wanting = places.taken(kept.modes) < 6
    assert wanting.sum() == 3
    filled = Reducer([system], 60, "balanced").reduced(places)
    plain = as_layer(in_places(kept.modes, places), system)
    before, after = (norms(difference(system, part)).peak for part in (plain, filled.systems[0]))
    assert (after[wanting] < before[wanting]).all()
    np.testing.assert_allclose(after[~wanting], before[~wanting], rtol=1e-9)
    assert (places.taken(modes_of(filled.systems[0])) == 6).all()


def test_directions_that_share_poles_are_reduced_as_one_system(rng: np.random.Generator) -> None:
    first = layer(rng, K=4)
    second = replace(first, C=first.C[:, :, ::-1] * 0.3)
    found = Reducer([first, second], 4, "balanced").reduced(Places(3))
    np.testing.assert_array_equal(found.systems[0].poles, found.systems[1].poles)
    np.testing.assert_array_equal(found.systems[0].B, found.systems[1].B)
    stacked = replace(first, C=np.concatenate([first.C, second.C], axis=1), D=np.zeros((4, 2, 1)))
    bound = balance(stacked).bound(found.orders[0])
    for system, part in zip((first, second), found.systems, strict=True):
        assert (norms(difference(system, part)).peak <= bound * (1 + 1e-9)).all()
    with pytest.raises(LayerError, match="poles of their own"):
        Reducer([first, layer(rng, K=4)], 4, "balanced")
