"""Families under what their tensors do not say: each against the kernel of the code that has the option, and written back under it."""

from dataclasses import replace

import numpy as np
import pytest
from examples_assumed import ASSUMED
from factories import Example, make, stored
from family_layers import PREFIX, assert_close, assert_kernels, only_layer, perturbed, written

from ssmspec.errors import LayerError
from ssmspec.families import FAMILIES, ReadOptions, detect
from ssmspec.families.assumption import shown
from ssmspec.families.layers import read_layer
from ssmspec.systems.response import impulse_response
from ssmspec.systems.statespace import Assumed, StateSpace
from ssmspec.systems.trust import GROWING, UNDAMPED, assess, untrustworthy

ALL = tuple(ASSUMED)


def example_of(name: str) -> Example:
    return ASSUMED[name](np.random.default_rng(len(name)))


def options_of(example: Example) -> ReadOptions:
    return ReadOptions(length=example.length, assume=example.assume)


def read(example: Example, **options: object) -> list[StateSpace]:
    layer = only_layer(example.under(PREFIX))
    assert layer.family == example.family
    return read_layer(FAMILIES[layer.family], layer, replace(options_of(example), **options))


@pytest.mark.parametrize("name", ALL)
def test_kernel_is_that_of_the_code_with_the_option(name):
    example = example_of(name)
    assert_kernels(read(example), example.truths)


@pytest.mark.parametrize("name", [name for name in ALL if example_of(name).assume])
def test_without_the_option_the_kernel_is_another_one(name):
    example = example_of(name)
    usual = [impulse_response(system, 20) for system in read(example, assume={})]
    wanted = [truth.impulse(20) for truth in example.truths]
    assert all(np.abs(a - b).max() > 1e-6 * np.abs(b).max() for a, b in zip(usual, wanted, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_what_was_said_is_printed_and_kept_with_the_systems(name):
    example = example_of(name)
    for system in read(example):
        assert {(each.name, each.value) for each in system.assumed if each.by == "user"} == set(example.assume.items())
        for key, value in example.assume.items():
            assert any(line.startswith(f"{key}={shown(value)} (as asked") for line in system.assumptions)


@pytest.mark.parametrize("name", ALL)
def test_writing_what_was_read_gives_the_stored_bits(name):
    example = example_of(name)
    tensors = example.under(PREFIX)
    result = written(tensors, read(example), options_of(example))
    for key, values in tensors.items():
        rounding = 4 * np.finfo(values.dtype).eps if values.dtype.kind in "fc" else 0  # relu of S4: 1e-4 is added and taken away
        np.testing.assert_allclose(result[key], values, rtol=rounding, atol=0, err_msg=key)


@pytest.mark.parametrize("name", ALL)
def test_reading_a_written_system_gives_that_system(name):
    example = example_of(name)
    dtypes = {np.dtype(np.float32): np.float64, np.dtype(np.complex64): np.complex128}
    tensors = {key: values.astype(dtypes.get(values.dtype, values.dtype)) for key, values in example.tensors.items()}
    example, rng = replace(example, tensors=tensors), np.random.default_rng(3)
    wanted = [other(system, name, rng) for system in read(example)]
    result = written(example.under(PREFIX), wanted, options_of(example))
    again = replace(example, tensors={key.removeprefix(f"{PREFIX}."): values for key, values in result.items()})
    for system, expected in zip(read(again), wanted, strict=True):
        for part in ("poles", "step", "B", "C", "D"):
            assert_close(getattr(system, part), getattr(expected, part), 1e-11)
        assert_close(impulse_response(system, 60), impulse_response(expected, 60), 1e-11)


def other(system: StateSpace, name: str, rng: np.random.Generator) -> StateSpace:
    """Another system that the tensors can hold: no complex B or C where they are real."""
    found = perturbed(system, rng)
    return replace(found, C=system.C * rng.uniform(0.5, 2, system.C.shape)) if name == "s4-diag-real" else found


@pytest.mark.parametrize("name", ["s4-diag-forced-real", "s4-diag-real", "s4-diag-v3-forced-real"])
def test_complex_poles_cannot_be_written_where_poles_are_real(name):
    example = example_of(name)
    systems = [replace(system, poles=system.poles + 1j) for system in read(example)]
    with pytest.raises(LayerError, match="s4_is_real=true"):
        written(example.under(PREFIX), systems, options_of(example))


def test_a_real_block_is_told_by_its_tensors_and_can_be_nothing_else():
    example = example_of("s4-diag-real")
    (system,) = read(example)
    assert Assumed("s4_is_real", "true", "file") in system.assumed
    assert "s4_is_real=true (there is no kernel.A_imag)" in system.assumptions
    with pytest.raises(LayerError, match=r"no kernel\.A_imag; only real poles"):
        read(example, assume={"s4_is_real": False})


def test_complex_residues_cannot_be_written_into_real_tensors():
    example = example_of("s4-diag-real")
    systems = [replace(system, C=system.C * 1j) for system in read(example)]
    with pytest.raises(LayerError, match=r"kernel\.C holds real numbers"):
        written(example.under(PREFIX), systems, options_of(example))


# --- S5 with a growing mode ---


@pytest.mark.parametrize("name", ["s5-half", "s5-bidirectional", "conv-s5"])
def test_a_growing_mode_of_s5_grows_and_the_reason_names_the_option(name):
    growing = grown(make(name))
    for system in read(growing):
        assert system.poles.real.max() == np.float32(0.02)
        problem = untrustworthy(system)
        assert problem is not None
        assert "1 of" in problem
        assert "--assume s5_clip=true" in problem
        assert any(line.startswith("s5_clip=false (the file does not say; --assume s5_clip=true") for line in system.assumptions)


@pytest.mark.parametrize("name", ["s5-half", "s5-bidirectional", "conv-s5"])
def test_a_growing_mode_of_s5_is_clipped_where_the_user_says_so(name):
    growing = replace(grown(make(name)), assume={"s5_clip": "true"})
    at_the_limit = grown(make(name), -1e-4)
    for system, clipped in zip(read(growing), read(at_the_limit), strict=True):
        assert untrustworthy(system) is None
        np.testing.assert_allclose(system.poles, clipped.poles, rtol=1e-7)
        assert "1 real parts above -0.0001 were clipped, as clip_eigs does" in system.assumptions


def test_healthy_layers_of_s5_say_nothing_about_clipping():
    assert not any("clip" in line for line in read(make("s5-half"))[0].assumptions)


def test_the_half_of_the_spectrum_that_s5_stores_can_be_overruled():
    example = make("s5-half")
    usual, other = read(example)[0], read(replace(example, assume={"s5_conj_sym": False}))[0]
    np.testing.assert_allclose(other.C, usual.C / 2)


def grown(example: Example, real: float = 0.02) -> Example:
    values = example.tensors["Lambda_re"].copy()
    values[1] = real
    return replace(example, tensors=example.tensors | {"Lambda_re": values})


# --- LinOSS of scheme IMEX ---


def test_imex_oscillators_are_undamped_by_design_and_do_not_grow():
    (system,) = read(replace(make("linoss"), assume={"linoss_scheme": "imex"}))
    phases = np.abs(np.angle(system.poles))
    (fault,) = assess(system).faults
    text = fault.text
    assert fault.kind == UNDAMPED
    assert text == untrustworthy(system)
    assert f"8 of 8 poles are undamped by design (IMEX, |z| = 1), at {phases.min():.3g}..{phases.max():.3g} rad/sample" in text


def test_an_imex_oscillator_beyond_its_limit_grows():
    stiff = {"A_diag": np.array([0.5, 40, 0.3, 0.7], np.float32), "steps": np.full(4, 2, np.float32)}
    example = make("linoss")
    (system,) = read(replace(example, tensors=example.tensors | stiff, assume={"linoss_scheme": "imex"}))
    (fault,) = assess(system).faults
    assert fault.kind == GROWING
    assert "1 of 8 poles do not decay (|z| >= 1)" in fault.text
    assert fault.text == untrustworthy(system)


def test_damped_oscillators_have_nothing_to_say_about_undamped_ones():
    assert assess(read(make("linoss"))[0]).faults == ()


# --- gates with a bound ---

CONFIGURATIONS = {  # what a configuration says, and the bound that it means
    "linear_lower_bound": ({"linear_lower_bound": -4.0}, -4.0),
    "in text_config": ({"text_config": {"linear_lower_bound": -4.0}}, -4.0),
    "gate_lower_bound": ({"linear_attn_config": {"gate_lower_bound": -5.0, "num_heads": 2}}, -5.0),
    "lower_bound": ({"linear_attn_config": {"lower_bound": -3, "safe_gate": True}}, -3.0),
    "safe_gate alone": ({"text_config": {"linear_attn_config": {"safe_gate": True}}}, -5.0),
    "safe_gate off": ({"linear_attn_config": {"safe_gate": False}}, "none"),
    "of Ling-3": ({"kda_safe_gate": True, "kda_lower_bound": -6.0}, -6.0),
    "of Ling-3, off": ({"kda_safe_gate": False, "kda_lower_bound": -5.0}, "none"),
    "of fla": ({"model_type": "kda", "safe_gate": True, "lower_bound": -5.0}, -5.0),
    "of fla, the bound without the switch": ({"model_type": "kda", "safe_gate": False, "lower_bound": -5.0}, -5.0),
    "of fla, neither": ({"model_type": "kda", "safe_gate": False, "lower_bound": None}, "none"),
    "GLM-5-Next by its name": ({"model_type": "glm5_next_text"}, -5.0),
    "GLM-5-Next without a bound": ({"model_type": "glm5_next_text", "linear_lower_bound": None}, "none"),
    "GLM-5-Next with a null in the table": ({"model_type": "glm5_next", "linear_attn_config": {"gate_lower_bound": None}}, -5.0),
    "Ling-3 by its name": ({"model_type": "bailing_hybrid"}, -5.0),
    "plain Kimi Linear": ({"model_type": "kimi_linear", "linear_attn_config": {"num_heads": 2, "head_dim": 3}}, "none"),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_bound_of_a_gate_is_that_of_the_configuration(name):
    config, bound = CONFIGURATIONS[name]
    example = make("kimi-delta")
    (system,) = read(example, config=config)
    assert Assumed("gate_lower_bound", bound, "file") in system.assumed
    (wanted,) = read(example, assume={"gate_lower_bound": bound})
    assert np.array_equal(system.poles, wanted.poles)


def test_a_gate_without_a_configuration_is_assumed_to_have_no_bound_and_said():
    (system,) = read(make("kimi-delta"))
    assert "gate_lower_bound=none (the file does not say; --assume gate_lower_bound=-5 for others)" in system.assumptions
    assert Assumed("gate_lower_bound", "none", "default") in system.assumed


def test_the_gate_of_one_full_matrix_is_assumed_to_have_the_bound_of_its_code():
    (system,) = read(make("kimi-delta-full"))
    assert Assumed("gate_lower_bound", -5.0, "default") in system.assumed


def test_gates_per_head_have_no_bound_and_nothing_to_assume():
    assert read(make("gated-delta"))[0].assumed == ()


def test_the_half_lives_of_a_bounded_gate():
    """ln 2/(5 sigmoid(x)) samples, x = exp(A_log) dt_bias; by softplus they would be five times as long."""
    example = replace(make("kimi-delta"), assume={"gate_lower_bound": -5})
    (system,) = read(example)
    x = np.repeat(np.exp(example.tensors["A_log"].reshape(-1).astype(float)), 3) * example.tensors["dt_bias"]
    np.testing.assert_allclose(-np.log(2) / system.poles[:, 0].real, np.log(2) * (1 + np.exp(-x)) / 5, rtol=1e-12)


def test_delta_of_a_bounded_gate_is_its_sigmoid():
    from ssmspec.families import OperatingPoint

    example = replace(make("kimi-delta"), assume={"gate_lower_bound": -4.0})
    (system,) = read(example, operating_point=OperatingPoint(delta=np.array(0.25)))
    np.testing.assert_allclose(system.poles, -1.0)
    with pytest.raises(LayerError, match="expected 0 < delta <= 1"):
        read(example, operating_point=OperatingPoint(delta=np.array(1.5)))


def test_poles_beyond_the_bound_of_a_gate_cannot_be_written():
    example = replace(make("kimi-delta"), assume={"gate_lower_bound": -2.0})
    systems = [replace(system, poles=np.full_like(system.poles, np.log(0.1))) for system in read(example)]
    with pytest.raises(LayerError, match=r"a pole of 0\.1 is beyond the lower bound -2 of its gate, which keeps poles above 0\.135"):
        written(example.under(PREFIX), systems, options_of(example))


def test_tensors_beside_a_gate_that_change_the_state_are_named():
    (system,) = read(make("comba"))
    assert any("decay scales the key" in line and f"{PREFIX}.decay" in line for line in system.assumptions)
    assert any(f"({PREFIX}.D)" in line for line in system.assumptions)


# --- clamps of Delta ---

NEMOTRON = {"model_type": "nemotron_h", "time_step_min": 0.001, "time_step_max": 0.1, "time_step_limit": [0.0, {"__float__": "Infinity"}]}


def nemotron(**assume: str) -> StateSpace:
    """Delta 1e-4, 2e-4, 5e-3, 5e-2 and A 1, 1, 2, 4."""
    example = make("mamba-2")
    delta = np.array([1e-4, 2e-4, 5e-3, 5e-2])
    tensors = {"dt_bias": np.log(np.expm1(delta)), "A_log": np.log([1.0, 1.0, 2.0, 4.0])}
    return read(replace(example, tensors=example.tensors | tensors), config=NEMOTRON, assume=assume)[0]


def half_lives(system: StateSpace) -> np.ndarray:
    return np.log(2) / (-system.poles[:, 0].real * system.step[:, 0])


def test_delta_is_clamped_as_on_gpus_and_both_paths_are_said():
    system = nemotron()
    np.testing.assert_allclose(half_lives(system), [6931.47, 3465.74, 69.3147, 3.46574], rtol=1e-5)
    assert "delta_clamp=fast (the file does not say; --assume delta_clamp=slow for the other)" in system.assumptions
    both = next(line for line in system.assumptions if "slow path" in line)
    assert "time_step_limit 0..inf" in both
    assert "time_step_min 0.001: 2 of 4 heads differ" in both
    assert "unused keys of the configuration: time_step_max (only for the start of training)" in system.assumptions


def test_the_slow_path_floors_delta():
    np.testing.assert_allclose(half_lives(nemotron(delta_clamp="slow")), [693.147, 693.147, 69.3147, 3.46574], rtol=1e-5)


def test_other_models_have_one_path_and_no_choice():
    (system,) = read(make("mamba-2"), config={**NEMOTRON, "model_type": "mamba2"})
    assert system.assumed == ()
    assert any("time_step_min, time_step_max" in line for line in system.assumptions)


@pytest.mark.parametrize("table", ["text_config", "ssm_cfg"])
def test_limits_are_found_in_inner_tables_of_a_configuration(table):
    (system,) = read(make("mamba-2"), config={table: {"model_type": "mamba2", "time_step_limit": [0.2, 0.3]}})
    assert 0.2 <= system.step.min() <= system.step.max() <= 0.3


def test_assumed_examples_are_layers_of_their_families_alone():
    for name in ALL:
        example = example_of(name)
        assert detect(stored(example.under(PREFIX)), FAMILIES.values()).near_misses == ()
