"""What the generic tests of test_families.py cannot ask of decay gates: digits of slow decays, assumptions, refusals."""

from dataclasses import replace

import factories  # noqa: F401 - it imports the examples in its own order
import ml_dtypes
import mpmath
import numpy as np
import pytest
from examples_gates import gla_poles
from factories import Example, make, stored

from ssmspec.backends.reference import cauchy_sum
from ssmspec.errors import LayerError
from ssmspec.families import FAMILIES, LayerTensors, OperatingPoint, ReadOptions, detect
from ssmspec.families.known import DECAY_GATES
from ssmspec.families.layers import read_layer
from ssmspec.statistics import LayerSpectrum
from ssmspec.statistics.poles import half_life
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.response import frequency_response, impulse_response
from ssmspec.systems.statespace import StateSpace, discrete_poles
from ssmspec.systems.trust import untrustworthy

PREFIX = "layers.0"


def layer_of(example: Example) -> LayerTensors:
    (layer,) = detect(stored(example.under(PREFIX)), FAMILIES.values()).layers
    return layer


def read(example: Example, **options: object) -> list[StateSpace]:
    layer = layer_of(example)
    return read_layer(FAMILIES[layer.family], layer, ReadOptions(**options))


def with_tensors(example: Example, **tensors: np.ndarray) -> Example:
    return replace(example, tensors=example.tensors | tensors)


def test_every_row_of_the_table_is_a_family_of_real_decays():
    for gate in DECAY_GATES:
        family = FAMILIES[gate.name]
        assert family.decay_gate
        assert family.selective
        assert gate.source == family.source


@pytest.mark.parametrize("w0", [-8.0, -16.0, -30.0])
def test_half_lives_keep_their_digits_where_one_minus_z_is_tiny(w0):
    """-16: 1 - z is 7e-8, where z in double precision has nine digits of its decay left; -30: none to speak of."""
    example = with_tensors(make("rwkv-7"), w0=np.full((1, 1, 6), w0, np.float32))
    (system,) = read(example)
    with mpmath.workdps(40):
        log_z = -mpmath.exp(mpmath.mpf(-1) / 2) / (1 + mpmath.exp(-mpmath.mpf(w0)))
        expected = float(mpmath.log(2) / -log_z)
    found = half_life(LayerSpectrum(system, FrequencyGrid.default(64), cauchy_sum)).values
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_response_of_a_slow_decay_is_that_of_exact_arithmetic():
    example = with_tensors(make("rwkv-7"), w0=np.full((1, 1, 6), -16.0, np.float32))
    (system,) = read(example)
    theta = np.array([1e-9, 1e-7, 1e-3, 3.0])
    with mpmath.workdps(40):
        log_z = -mpmath.exp(mpmath.mpf(-1) / 2) / (1 + mpmath.exp(16))
        expected = np.array([complex(1 / (1 - mpmath.exp(log_z - 1j * mpmath.mpf(float(each))))) for each in theta])
    found = frequency_response(system, FrequencyGrid(theta, "theta"), cauchy_sum).dynamic[0, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


# --- what no tensor tells ---


@pytest.mark.parametrize(
    ("options", "normalizer", "by"),
    [({}, 16.0, "default"), ({"config": {"gate_logit_normalizer": 8}}, 8.0, "file"), ({"assume": {"gla_normalizer": "4"}}, 4.0, "user")],
)
def test_normalizer_of_gla_comes_from_the_user_then_the_configuration_then_the_default(options, normalizer, by):
    example = make("gla")
    (system,) = read(example, **options)
    truth = gla_poles(example.tensors["gk_proj.1.bias"], normalizer)
    np.testing.assert_allclose(impulse_response(system, 50), truth.impulse(50), rtol=1e-12)
    found = {each.name: each for each in system.assumed}["gla_normalizer"]
    assert (float(found.value), found.by) == (normalizer, by)
    assert any(line.startswith(f"gla_normalizer={normalizer:g} (") for line in system.assumptions)


def test_clamp_of_gla_cuts_its_fastest_decays():
    (system,) = read(make("gla"), config={"clamp_min": -0.05})
    assert system.poles.real.min() == -0.05
    assert any(line.startswith("gla_clamp_min=-0.05 (clamp_min of the configuration)") for line in system.assumptions)


@pytest.mark.parametrize("cap", [30.0, "none"])
@pytest.mark.parametrize("name", ["mlstm-large", "mlstm-fused"])
def test_soft_cap_of_xlstm_is_an_assumption(name, cap):
    example = make(name)
    bias = next(values for key, values in example.tensors.items() if key.endswith("bias"))[-4:].astype(float)
    (system,) = read(example, assume={"gate_soft_cap": str(cap)})
    argument = bias if cap == "none" else cap * np.tanh(bias / cap)
    np.testing.assert_allclose(discrete_poles(system)[:, 0], 1 / (1 + np.exp(-argument)), rtol=1e-13)


def test_mlstm_cell_has_no_soft_cap():
    (system,) = read(make("mlstm"))
    assert system.assumed == ()


def test_hgrn_without_its_lower_bounds_forgets_half_everywhere():
    systems = read(make("hgrn"), config={"use_lower_bound": False})
    for system in systems:
        np.testing.assert_allclose(discrete_poles(system), 0.5, rtol=1e-15)
        assert "use_lower_bound=false (use_lower_bound of the configuration)" in system.assumptions


# --- names that look alike, operating points, refusals ---


def test_early_rwkv_5_is_not_taken_for_rwkv_4():
    """It has one decay per head under the same names, and a norm."""
    example = make("rwkv-4")
    assert detect(stored(example.under(PREFIX) | {f"{PREFIX}.ln_x.weight": np.ones(6, np.float32)}), FAMILIES.values()).layers == ()


@pytest.mark.parametrize("name", ["rwkv-7", "gla", "mlstm"])
def test_given_delta_is_the_decay_per_token(name):
    (system,) = read(make(name), operating_point=OperatingPoint(delta=np.array(0.25)))
    assert (system.poles == -0.25).all()
    assert "delta = -log z as given" in system.operating_point


def test_decays_that_do_not_fit_the_heads_are_refused():
    with pytest.raises(LayerError, match="has 6 values, expected those of 2 heads of 5"):
        read(with_tensors(make("rwkv-6"), time_faaaa=np.ones((2, 5), np.float32)))


def test_pole_below_what_a_soft_cap_allows_cannot_be_written():
    example = make("mlstm-large")
    (system,) = read(example)
    with pytest.raises(LayerError, match="soft cap 15"):
        FAMILIES["mlstm"].write(layer_of(example), [replace(system, poles=np.full_like(system.poles, -40))], ReadOptions())


def test_coarse_dtype_of_a_gate_says_how_well_its_decays_are_known():
    """A w of -3.5..0.5 in bfloat16 is known to 2^-8 of itself, and log z = -exp(w) to that part of w."""
    example = make("rwkv-5")
    coarse = {name: values.astype(ml_dtypes.bfloat16) for name, values in example.tensors.items()}
    (system,) = read(replace(example, tensors=coarse))
    largest = np.abs(coarse["time_decay"].astype(float)).max()
    (line,) = [line for line in system.assumptions if line.startswith("time_decay is stored in bfloat16: log z is known to ")]
    assert float(line.split()[-4]) == pytest.approx(100 * np.expm1(largest * 2.0**-8), rel=0.05)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 200.0])
@pytest.mark.parametrize("name", ["rwkv-4", "rwkv-5", "rwkv-7", "mlstm", "mlstm-large", "gla", "hgrn"])
def test_gate_whose_stored_numbers_are_not_finite_or_absurd_is_read_and_not_trusted_or_sound(name, value):
    example = make(name)
    layer = layer_of(example)
    suffix = layer.tensor_names[next(gate.bias for gate in DECAY_GATES if gate.name == layer.family)].removeprefix(f"{PREFIX}.")
    with np.errstate(all="ignore"):
        systems = read(with_tensors(example, **{suffix: np.full_like(example.tensors[suffix], value)}))
    assert all(system.poles.shape[0] for system in systems)
    assert np.isfinite(value) or all(untrustworthy(system) for system in systems)
