"""Initializations against closed forms, HiPPO matrices built here from their definition, and the laws of their random draws."""

import math

import numpy as np
import pytest

from ssmspec.errors import SsmspecError
from ssmspec.families import FAMILIES
from ssmspec.systems.statespace import StateSpace, discrete_poles, real_realization
from ssmspec.tuning.poles.hippo import legs_normal_part
from ssmspec.tuning.poles.initializations import INITIALIZATIONS, Settings, initial_poles, sample_step
from ssmspec.tuning.poles.matrices import (
    CLIP,
    INPUT_INITIALIZATIONS,
    OUTPUT_INITIALIZATIONS,
    initial_inputs,
    initial_outputs,
)

NAMES = sorted(INITIALIZATIONS)
RANDOM = {"random", "dfout", "lru-ring"}
REAL = {"s4d-real"}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def exponents(name: str, *, alpha: float = 1.0, seed: int = 0, copies: int = 3, modes: int = 8, **more: object) -> np.ndarray:
    return initial_poles(name, Settings(copies=copies, modes=modes, **more), alpha=alpha, rng=rng(seed)).exponents


def hippo_legs(size: int) -> tuple[np.ndarray, np.ndarray]:
    """A and B of HiPPO-LegS entry by entry (arXiv 2008.07669, theorem 2)."""
    A = np.zeros((size, size))
    for i in range(size):
        for j in range(i):
            A[i, j] = -math.sqrt((2 * i + 1) * (2 * j + 1))
        A[i, i] = -(i + 1)
    return A, np.sqrt([2 * i + 1 for i in range(size)])


def kolmogorov_distance(uniform: np.ndarray) -> float:
    """Largest distance between the empirical law of the numbers and that of U[0, 1], times sqrt n; above 1.63 in 1 % of all draws."""
    ordered = np.sort(uniform.ravel())
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return math.sqrt(len(ordered)) * max(np.max(steps[1:] - ordered), np.max(ordered - steps[:-1]))


@pytest.mark.parametrize("registry", [INITIALIZATIONS, INPUT_INITIALIZATIONS, OUTPUT_INITIALIZATIONS])
def test_registries_are_keyed_by_name_and_carry_sources(registry) -> None:
    for name, entry in registry.items():
        assert entry.name == name
        assert entry.title
        assert "arXiv" in entry.source or "/" in entry.source


@pytest.mark.parametrize("name", NAMES)
def test_initializations_name_known_families(name) -> None:
    families = INITIALIZATIONS[name].families
    assert families
    assert set(families) <= set(FAMILIES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("modes", [1, 2, 32])
def test_poles_are_stable_and_in_the_upper_half(name, modes) -> None:
    poles = exponents(name, modes=modes)
    assert poles.shape == (3, modes)
    assert poles.dtype == np.complex128
    assert (poles.real < 0).all()
    assert (poles.imag >= 0).all()
    if INITIALIZATIONS[name].plane == "z":
        z = initial_poles(name, Settings(copies=3, modes=modes), rng=rng()).discrete()
        assert (np.abs(z) < 1).all()
        assert (z.imag >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_determines_the_poles_and_only_random_initializations_use_it(name) -> None:
    np.testing.assert_array_equal(exponents(name, seed=5), exponents(name, seed=5))
    assert np.array_equal(exponents(name, seed=5), exponents(name, seed=6)) == (name not in RANDOM)


@pytest.mark.parametrize("name", NAMES)
def test_alpha_one_changes_nothing(name) -> None:
    np.testing.assert_array_equal(exponents(name, alpha=1.0), INITIALIZATIONS[name].function(Settings(copies=3, modes=8), rng()))


@pytest.mark.parametrize("name", sorted(set(NAMES) - REAL))
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_alpha_scales_the_imaginary_part_only(name, alpha) -> None:
    start, scaled = exponents(name), exponents(name, alpha=alpha)
    assert start.imag.max() > 0
    np.testing.assert_array_equal(scaled.real, start.real)
    np.testing.assert_allclose(scaled.imag, alpha * start.imag, rtol=1e-15)


@pytest.mark.parametrize("name", sorted(set(NAMES) - REAL - {"dfout", "lru-ring"}))
def test_alpha_above_one_is_not_bounded_for_continuous_poles(name) -> None:
    chosen = initial_poles(name, Settings(copies=2, modes=4), alpha=100, rng=rng())
    assert chosen.clamped == 0
    np.testing.assert_allclose(chosen.exponents.imag, 100 * exponents(name, copies=2, modes=4).imag, rtol=1e-14)


@pytest.mark.parametrize("name", ["dfout", "lru-ring"])
def test_alpha_clamps_phases_at_pi_and_counts_them(name) -> None:
    start = exponents(name, copies=5, modes=64)
    chosen = initial_poles(name, Settings(copies=5, modes=64), alpha=1.7, rng=rng())
    beyond = start.imag > math.pi / 1.7
    assert chosen.clamped == beyond.sum() > 0
    np.testing.assert_allclose(np.angle(chosen.discrete()), np.where(beyond, math.pi, 1.7 * start.imag), rtol=1e-12)
    np.testing.assert_allclose(np.abs(chosen.discrete()), np.exp(start.real), rtol=1e-14)


def test_a_phase_that_alpha_brings_to_pi_exactly_is_not_clamped() -> None:
    chosen = initial_poles("dfout", Settings(copies=1, modes=2), alpha=2.0, rng=rng())
    np.testing.assert_array_equal(chosen.exponents.imag, [[0, math.pi]])
    assert chosen.clamped == 0


def test_alpha_on_real_poles_is_an_error() -> None:
    with pytest.raises(SsmspecError, match="s4d-real: its poles are real; scale the step"):
        exponents("s4d-real", alpha=2.0)


def test_s4d_lin_and_real_are_arithmetic_progressions() -> None:
    np.testing.assert_allclose(exponents("s4d-lin", modes=3)[0], [-0.5, -0.5 + 3.141592653589793j, -0.5 + 6.283185307179586j])
    np.testing.assert_array_equal(exponents("s4d-real", modes=4)[2], [-1, -2, -3, -4])


def test_s4d_inv_has_the_published_frequencies_of_the_full_state_size() -> None:
    # N = 4 states, 2 stored: 4/pi (4/1 - 1) and 4/pi (4/3 - 1)
    np.testing.assert_allclose(exponents("s4d-inv", modes=2)[0], [-0.5 + 12j / math.pi, -0.5 + 4j / (3 * math.pi)], rtol=1e-15)


def test_s4d_legs_is_the_spectrum_of_the_normal_part_of_hippo() -> None:
    modes = 16
    A, B = hippo_legs(2 * modes)
    normal = A + np.outer(B, B) / 2
    np.testing.assert_allclose(normal @ normal.T, normal.T @ normal, atol=1e-10)
    spectrum = np.linalg.eigvals(normal)
    upper = spectrum[spectrum.imag > 0]
    assert len(upper) == modes
    np.testing.assert_allclose(exponents("s4d-legs", modes=modes)[0], upper[np.argsort(-upper.imag)], rtol=1e-10)


def test_s4d_legs_follows_the_inverse_law_of_s4d_inv() -> None:
    # arXiv 2206.11893, section 4: the fastest modes of LegS approach N^2/((2n + 1) pi), N states, and S4D-Inv is modeled on them
    size = 256
    legs, inverse = exponents("s4d-legs", modes=size // 2)[0].imag, exponents("s4d-inv", modes=size // 2)[0].imag
    np.testing.assert_allclose(legs[:8] * (2 * np.arange(8) + 1), size**2 / math.pi, rtol=0.01)
    assert np.abs(legs - inverse).max() < size / math.pi


def test_hippo_basis_rebuilds_the_dense_system() -> None:
    modes = 3
    A, b = hippo_legs(2 * modes)
    frequencies, V = legs_normal_part(modes)
    B = (V.conj().T @ b)[None, :, None]
    c = rng().normal(size=2 * modes)
    C = (c @ V)[None, None, :]
    P = B / math.sqrt(2)
    kind = {"name": "layer", "family": "test", "discretization": "bilinear"}
    system = StateSpace(poles=-0.5 + 1j * frequencies[None], B=B, C=C, D=np.zeros((1, 1, 1)), step=np.ones((1, 1)), P=P, Q=P, **kind)
    dense, inputs, outputs = (part[0] for part in real_realization(system))
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(dense).real), -np.arange(6.0, 0, -1), rtol=1e-9)
    for power in range(4):
        expected = c @ np.linalg.matrix_power(A, power) @ b
        np.testing.assert_allclose((outputs @ np.linalg.matrix_power(dense, power) @ inputs)[0, 0], expected, rtol=1e-11)


def test_legs_inputs_are_the_hippo_vector_with_clipped_imaginary_part() -> None:
    modes = 32
    _, V = legs_normal_part(modes)
    np.testing.assert_allclose(2 * (V @ V.conj().T).real, np.eye(2 * modes), atol=1e-12)
    assert (V[0].real > 0).all()
    np.testing.assert_allclose(V[0].imag, 0, atol=1e-15)
    exact = V.conj().T @ hippo_legs(2 * modes)[1]
    B = initial_inputs("legs", Settings(copies=2, modes=modes), rng=rng())[1, :, 0]
    np.testing.assert_allclose(B.real, exact.real, atol=1e-12)
    beyond = np.abs(exact.imag) > CLIP
    assert beyond.any()
    assert not beyond.all()
    np.testing.assert_array_equal(np.abs(B.imag[beyond]), CLIP)
    np.testing.assert_allclose(B.imag[~beyond], exact.imag[~beyond], atol=1e-12)


def test_fout_is_the_diagonal_fourier_hippo() -> None:
    modes = 5
    A = -0.5 * np.eye(2 * modes)
    for n in range(modes):
        A[2 * n, 2 * n + 1], A[2 * n + 1, 2 * n] = -2 * np.pi * n, 2 * np.pi * n
    b = np.zeros(2 * modes)
    b[::2] = math.sqrt(2)
    b[0] = 1
    poles = exponents("fout", modes=modes)[0]
    completed = np.concatenate([poles, poles.conj()])
    np.testing.assert_allclose(np.sort(completed.imag), np.sort(np.linalg.eigvals(A).imag), atol=1e-12)
    np.testing.assert_array_equal(poles.real, -0.5)
    # b A^k b, which no choice of eigenvectors changes
    B = initial_inputs("fout", Settings(copies=1, modes=modes), rng=rng())[0, :, 0]
    for power in range(5):
        np.testing.assert_allclose(2 * (np.abs(B) ** 2 * poles**power).real.sum(), b @ np.linalg.matrix_power(A, power) @ b, rtol=1e-12)


def test_s5_blocks_each_have_the_spectrum_of_a_smaller_hippo() -> None:
    A, B = hippo_legs(8)
    spectrum = np.linalg.eigvals(A + np.outer(B, B) / 2)
    block = np.sort(spectrum.imag[spectrum.imag > 0])[::-1]
    np.testing.assert_allclose(exponents("s5-hippo", modes=12, blocks=3)[0], -0.5 + 1j * np.tile(block, 3), rtol=1e-10)
    np.testing.assert_array_equal(exponents("s5-hippo", modes=12), exponents("s4d-legs", modes=12))


def test_random_frequencies_are_log_normal() -> None:
    poles = exponents("random", copies=50, modes=80)
    np.testing.assert_array_equal(poles.real, -0.5)
    below = 0.5 * np.vectorize(math.erfc)(-np.log(poles.imag) / math.sqrt(2))
    assert kolmogorov_distance(below) < 1.63


def circle(layers: int, modes: int) -> np.ndarray:
    """The completed set of z/|z| of all layers of a DFouT model, as turns, sorted; a pole that is its own conjugate counts once."""
    turns = []
    for layer in range(1, layers + 1):
        z = initial_poles("dfout", Settings(copies=1, modes=modes, layer=layer, layers=layers), rng=rng()).discrete()[0]
        turns += [np.angle(z), -np.angle(z)]
    return np.unique(np.round(np.mod(np.concatenate(turns) / (2 * np.pi), 1), 12))


@pytest.mark.parametrize("layers", [1, 4])
def test_dfout_has_every_point_of_the_circle_but_minus_one(layers) -> None:
    points = 2 * 8 * layers
    expected = np.delete(np.arange(points) / points, points // 2)
    np.testing.assert_allclose(circle(layers, 8), expected, atol=1e-12)


def test_dfout_layers_are_shifted_by_their_share_of_the_spacing() -> None:
    first = exponents("dfout", modes=8, layers=4)
    third = exponents("dfout", modes=8, layer=3, layers=4)
    np.testing.assert_array_equal(third.real, first.real)
    np.testing.assert_allclose(third.imag - first.imag, 2 * np.pi * 2 / (16 * 4), rtol=1e-12)


def test_dfout_draws_its_decay_log_uniformly_once_per_copy() -> None:
    xi = -2 * exponents("dfout", copies=4000, modes=2).real
    np.testing.assert_array_equal(xi[:, 0], xi[:, 1])
    assert kolmogorov_distance(np.log(xi[:, 0] / 1e-3) / math.log(100)) < 1.63


@pytest.mark.parametrize("radius", [(0.9, 0.999), (0.0, 1.0)])
def test_ring_is_uniform_in_area_and_phase(radius) -> None:
    poles = initial_poles("lru-ring", Settings(copies=50, modes=80, radius=radius), rng=rng())
    low, high = radius
    z = poles.discrete()
    assert kolmogorov_distance((np.abs(z) ** 2 - low**2) / (high**2 - low**2)) < 1.63
    assert kolmogorov_distance(np.angle(z) / np.pi) < 1.63


def test_ring_folds_phases_beyond_pi_and_keeps_a_narrower_range() -> None:
    narrow = exponents("lru-ring", copies=50, modes=80, max_phase=0.3)
    assert 0.299 < narrow.imag.max() < 0.3
    wide = exponents("lru-ring", copies=50, modes=80, max_phase=1.5 * np.pi)
    assert (wide.imag > np.pi / 2).mean() == pytest.approx(2 / 3, abs=0.03)


def test_lru_normalization_is_that_of_white_noise() -> None:
    poles = initial_poles("lru-ring", Settings(copies=2, modes=3), rng=rng())
    powers = np.abs(poles.discrete()[..., None]) ** (2 * np.arange(20000))
    np.testing.assert_allclose(poles.normalization() ** 2 * powers.sum(axis=-1), 1, rtol=1e-10)


@pytest.mark.parametrize("name", ["dfout", "lru-ring"])
def test_zero_order_hold_of_a_continuous_layer_has_exactly_the_discrete_poles(name) -> None:
    poles = initial_poles(name, Settings(copies=3, modes=8), rng=rng())
    step = sample_step(3, 1e-3, 1e-1, rng(1))
    ones = {"B": np.ones((3, 8, 1), complex), "C": np.ones((3, 1, 8), complex), "D": np.zeros((3, 1, 1))}
    system = StateSpace(name="layer", family="s4d", poles=poles.continuous(step), step=step, discretization="zoh", **ones)
    np.testing.assert_allclose(discrete_poles(system), poles.discrete(), rtol=1e-14)


def test_continuous_poles_do_not_depend_on_the_step() -> None:
    poles = initial_poles("s4d-lin", Settings(copies=1, modes=2), rng=rng())
    np.testing.assert_allclose(poles.continuous(np.array([[0.01]])), [[-0.5, -0.5 + 1j * np.pi]])


def test_continuous_poles_have_no_discrete_form_without_a_step() -> None:
    poles = initial_poles("s4d-lin", Settings(copies=1, modes=2), rng=rng())
    for convert in (poles.discrete, poles.normalization):
        with pytest.raises(SsmspecError, match="choose an initialization of the plane 'z'"):
            convert()


@pytest.mark.parametrize("bad", [0.0, -0.1, np.nan, np.inf])
def test_discrete_poles_need_a_usable_step(bad) -> None:
    with pytest.raises(SsmspecError, match="expected positive finite values"):
        initial_poles("dfout", Settings(copies=1, modes=2), rng=rng()).continuous(np.array([[bad]]))


def test_steps_are_log_uniform_per_copy_or_per_mode() -> None:
    step = sample_step(4000, 1e-3, 1e-1, rng())
    assert step.shape == (4000, 1)
    assert kolmogorov_distance(np.log10(step / 1e-3) / 2) < 1.63
    assert sample_step(3, 1e-3, 1e-1, rng(), modes=5).shape == (3, 5)
    np.testing.assert_array_equal(sample_step(3, 0.01, 0.01, rng()), np.full((3, 1), 0.01))


def test_constant_matrices() -> None:
    np.testing.assert_array_equal(initial_inputs("ones", Settings(copies=2, modes=3, inputs=4), rng=rng()), np.ones((2, 3, 4)))


SIZES = Settings(copies=20, modes=16, inputs=12, outputs=10, blocks=2)


@pytest.mark.parametrize("name", sorted(INPUT_INITIALIZATIONS))
def test_inputs_have_their_shape_and_follow_the_seed(name) -> None:
    B = initial_inputs(name, SIZES, rng=rng(1))
    assert B.shape == (20, 16, 12)
    assert B.dtype == np.complex128
    np.testing.assert_array_equal(B, initial_inputs(name, SIZES, rng=rng(1)))
    assert np.array_equal(B, initial_inputs(name, SIZES, rng=rng(2))) == (name in {"ones", "legs", "fout"})


@pytest.mark.parametrize("name", sorted(OUTPUT_INITIALIZATIONS))
def test_outputs_have_their_shape_and_follow_the_seed(name) -> None:
    C = initial_outputs(name, SIZES, rng=rng(1))
    assert C.shape == (20, 10, 16)
    assert C.dtype == np.complex128
    np.testing.assert_array_equal(C, initial_outputs(name, SIZES, rng=rng(1)))
    assert not np.array_equal(C, initial_outputs(name, SIZES, rng=rng(2)))


@pytest.mark.parametrize(
    ("name", "variance"), [("normal", 1), ("lru", 1 / 12), ("xavier", 2 / (12 + 16)), ("kaiming", 2 / 12), ("s5", 1 / 32)]
)
def test_inputs_have_the_published_variance(name, variance) -> None:
    B = initial_inputs(name, SIZES, rng=rng())
    assert np.mean(np.abs(B) ** 2) == pytest.approx(variance, rel=0.06)
    assert abs(np.mean(B)) < 0.06 * math.sqrt(variance)


@pytest.mark.parametrize(
    ("name", "variance"),
    [("normal", 1), ("lru", 2 / 16), ("xavier", 2 / (16 + 10)), ("kaiming", 2 / 16), ("s5", 2 / 32), ("s5-lecun", 2 / (32 * 10))],
)
def test_outputs_have_the_published_variance(name, variance) -> None:
    C = initial_outputs(name, SIZES, rng=rng())
    assert np.mean(np.abs(C) ** 2) == pytest.approx(variance, rel=0.06)
    assert abs(np.mean(C)) < 0.06 * math.sqrt(variance)
    assert abs(np.mean(C**2)) < 0.06 * variance  # Re and Im alike and independent


def test_s5_inputs_are_real_in_the_basis_of_hippo() -> None:
    # V stacks to a unitary matrix with its conjugate, so 2 Re(V B) recovers the real draw, truncated at two deviations
    B = initial_inputs("s5", SIZES, rng=rng())
    _, V = legs_normal_part(8)
    real = np.concatenate([2 * (V @ B[:, :8]).real, 2 * (V @ B[:, 8:]).real], axis=1)
    np.testing.assert_allclose(np.mean(real**2), 1 / 32, rtol=0.05)
    limit = 2 / 0.8796256610342398 / math.sqrt(32)
    assert 0.95 * limit < np.abs(real).max() <= limit + 1e-12
    np.testing.assert_allclose(V.conj().T @ real[:, 16:], B[:, 8:], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "registry"),
    [(initial_poles, INITIALIZATIONS), (initial_inputs, INPUT_INITIALIZATIONS), (initial_outputs, OUTPUT_INITIALIZATIONS)],
)
def test_an_unknown_name_is_an_error_that_lists_the_choices(call, registry) -> None:
    with pytest.raises(SsmspecError, match="'s4d-linear' is unknown") as caught:
        call("s4d-linear", Settings(copies=1, modes=1), rng=rng())
    text = str(caught.value)
    assert text.endswith(", ".join(registry))
    assert "\n" not in text


@pytest.mark.parametrize("alpha", [-1.0, math.nan, math.inf])
def test_a_negative_or_infinite_alpha_is_an_error(alpha) -> None:
    with pytest.raises(SsmspecError, match="expected a finite factor"):
        exponents("s4d-lin", alpha=alpha)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"copies": 0}, "copies is 0, expected at least 1"),
        ({"modes": 0}, "modes is 0, expected at least 1"),
        ({"inputs": -1}, "inputs is -1, expected at least 1"),
        ({"blocks": 3}, "8 modes cannot be divided into 3 equal blocks"),
        ({"layer": 5, "layers": 4}, "layer is 5, expected 1..4"),
        ({"layer": 0}, "layer is 0, expected 1..1"),
        ({"decay": (0.0, 0.1)}, "decay is 0.0..0.1"),
        ({"decay": (0.1, math.inf)}, "decay is 0.1..inf"),
        ({"radius": (0.9, 1.1)}, "radius is 0.9..1.1"),
        ({"radius": (1.0, 1.0)}, "radius is 1.0..1.0"),
        ({"radius": (0.99, 0.9)}, "radius is 0.99..0.9"),
        ({"max_phase": 7.0}, "max_phase is 7.0"),
        ({"max_phase": math.nan}, "max_phase is nan"),
    ],
)
def test_settings_without_meaning_are_an_error(wrong, text) -> None:
    with pytest.raises(SsmspecError, match=text):
        Settings(**({"copies": 1, "modes": 8} | wrong))


@pytest.mark.parametrize(("copies", "low", "high"), [(0, 0.1, 0.2), (1, 0.0, 0.2), (1, 0.2, 0.1), (1, 0.1, math.inf), (1, math.nan, 0.1)])
def test_steps_without_meaning_are_an_error(copies, low, high) -> None:
    with pytest.raises(SsmspecError, match="expected"):
        sample_step(copies, low, high, rng())
