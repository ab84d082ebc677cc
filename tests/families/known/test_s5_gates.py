"""What the generic tests of test_families.py cannot ask of S5, LinOSS, LRU, RG-LRU and gated delta nets: options and refusals."""

from dataclasses import replace

import factories
import ml_dtypes
import numpy as np
import pytest
from factories import Example, Recurrence, make, stored
from factories import examples_s5_gates as examples

from ssmspec.errors import LayerError
from ssmspec.families import FAMILIES, LayerTensors, OperatingPoint, ReadOptions, detect
from ssmspec.families.layers import read_layer
from ssmspec.systems.response import impulse_response
from ssmspec.systems.statespace import StateSpace, discrete_poles
from ssmspec.systems.trust import untrustworthy

PREFIX = "blocks.0"


def detected(example: Example) -> LayerTensors:
    (layer,) = detect(stored(example.under(PREFIX)), FAMILIES.values()).layers
    return layer


def read(example: Example, **options: object) -> list[StateSpace]:
    layer = detected(example)
    return read_layer(FAMILIES[layer.family], layer, ReadOptions(**options))


def with_tensors(example: Example, **tensors: np.ndarray) -> Example:
    return replace(example, tensors=example.tensors | tensors)


def assert_kernel(system: StateSpace, truth: Recurrence, length: int = 60) -> None:
    expected = truth.impulse(length)
    assert np.abs(impulse_response(system, length) - expected).max() <= 1e-10 * np.abs(expected).max()


# --- S5 ---


def test_s5_torch_by_the_bilinear_rule_is_the_bilinear_recurrence():
    example = make("s5-torch-bidirectional")
    for system, truth in zip(
        read(example, assume={"discretization": "bilinear"}), examples.s5_torch_truths(example.tensors, "bilinear"), strict=True
    ):
        assert_kernel(system, truth)


def test_s5_torch_does_not_clip_and_is_not_trusted_with_a_growing_pole():
    example = make("s5-torch")
    (system,) = read(with_tensors(example, Lambda=example.tensors["Lambda"] + np.complex64(2)))
    assert "do not decay" in str(untrustworthy(system))


def test_second_direction_of_s5_has_no_skip():
    _, backward = read(make("s5-bidirectional"))
    assert not backward.D.any()


def test_equinox_s5_that_does_not_clip_keeps_its_real_parts():
    example = make("s5-with-constants")
    real = example.tensors["Lambda_re"].copy()
    real[1] = 0.5
    (system,) = read(with_tensors(example, Lambda_re=real))
    assert system.poles[0, 1].real == 0.5
    assert not any("conj_sym" in line for line in system.assumptions)


def test_a_constant_of_s5_that_is_no_real_number_is_refused():
    example = make("s5-with-constants")
    with pytest.raises(LayerError, match="conj_sym has dtype complex64, expected real numbers"):
        read(with_tensors(example, conj_sym=np.complex64(1j)))


def test_output_matrix_of_neither_one_nor_two_directions_is_a_near_miss():
    example = with_tensors(make("s5-half"), C=np.ones((3, 9, 2), np.float32))
    detection = detect(stored(example.under(PREFIX)), FAMILIES.values())
    assert detection.layers == ()
    assert "H 2P" in detection.near_misses[0].describe()


# --- LinOSS ---


def test_imex_linoss_is_its_recurrence():
    example = make("linoss")
    (system,) = read(example, assume={"linoss_scheme": "imex"})
    assert_kernel(system, examples.linoss_truth(example.tensors, "imex"))
    assert np.allclose(np.abs(system.poles), 1, rtol=1e-15)


def test_imex_linoss_beyond_its_stability_limit_has_real_poles_and_is_its_recurrence():
    example = make("linoss")
    stiff = with_tensors(example, A_diag=np.array([0.5, 40, 20, 0.7], np.float32), steps=np.full(4, 2, np.float32))
    (system,) = read(stiff, assume={"linoss_scheme": "imex"})
    assert (system.poles.imag == 0).any()
    assert_kernel(system, examples.linoss_truth(stiff.tensors, "imex"), length=8)


@pytest.mark.parametrize("scheme", ["im", "imex"])
def test_linoss_is_written_as_it_was_read_by_either_scheme(scheme):
    example, options = make("linoss"), ReadOptions(assume={"linoss_scheme": scheme})
    layer = detected(example)
    values = FAMILIES["linoss"].write(layer, FAMILIES["linoss"].read(layer, options), options)
    for name, array in example.tensors.items():
        assert np.array_equal(values[name].astype(array.dtype), array), name


def test_oscillator_without_a_restoring_force_is_said_not_trusted_and_written_back():
    example = make("linoss")
    A_diag = example.tensors["A_diag"].copy()
    A_diag[2] = -0.25  # relu makes it 0
    slack = with_tensors(example, A_diag=A_diag)
    (system,) = read(slack)
    assert any("1 of 4 oscillators" in line for line in system.assumptions)
    assert "do not decay" in str(untrustworthy(system))
    values = FAMILIES["linoss"].write(detected(slack), [system], ReadOptions())
    for name, array in slack.tensors.items():
        assert np.array_equal(values[name].astype(array.dtype), array), name


def test_scheme_of_linoss_comes_from_the_option_then_the_configuration_then_the_default():
    example = make("linoss")
    assert "linoss_scheme=im (the file does not say; --assume linoss_scheme=imex for the other)" in read(example)[0].assumptions
    by_config = read(example, config={"linoss_discretization": "IMEX"})[0]
    assert "linoss_scheme=imex (linoss_discretization of the configuration)" in by_config.assumptions
    assert np.array_equal(by_config.poles, read(example, assume={"linoss_scheme": "imex"})[0].poles)
    assert read(example, assume={"linoss_scheme": "im"}, config={"linoss_discretization": "IMEX"})[0].assumptions == (
        "linoss_scheme=im (as asked)",
    )


def test_unknown_linoss_scheme_is_an_error_that_lists_the_choices():
    with pytest.raises(LayerError, match=r"linoss_scheme=im\|imex"):
        read(make("linoss"), assume={"linoss_scheme": "ex"})


def test_damped_linoss_is_refused():
    example = make("linoss")
    with pytest.raises(LayerError, match="damped LinOSS"):
        read(with_tensors(example, G_diag=np.ones(4, np.float32)))


def test_poles_off_the_circle_of_im_oscillators_cannot_be_written():
    example = make("linoss")
    (system,) = read(example)
    with pytest.raises(LayerError, match="LinOSS-IM"):
        FAMILIES["linoss"].write(detected(example), [replace(system, poles=0.9 * system.poles)], ReadOptions())


def test_modes_of_an_oscillator_that_were_changed_differently_cannot_be_written():
    example = make("linoss")
    (system,) = read(example)
    C = system.C * np.linspace(1, 2, system.modes)
    with pytest.raises(LayerError, match="change together"):
        FAMILIES["linoss"].write(detected(example), [replace(system, C=C)], ReadOptions())


# --- RG-LRU and gated delta nets ---


def test_rg_lru_at_given_gates_is_its_recurrence():
    """delta is the recurrence gate, B the input gate, per channel."""
    example, rng = make("rg-lru"), np.random.default_rng(4)
    gate, entrance = rng.uniform(0.1, 1, 6), rng.uniform(0.1, 1, 6)
    log_a = -8 * gate * factories.softplus(factories.wide(example.tensors["recurrent_param"]))
    truth = examples.real_poles(np.exp(log_a), entrance * np.sqrt(1 - np.exp(2 * log_a)))
    options = ReadOptions(operating_point=OperatingPoint(delta=gate, B=entrance))
    layer = detected(example)
    (system,) = FAMILIES["rg-lru"].read(layer, options)
    assert_kernel(system, truth)
    written = FAMILIES["rg-lru"].write(layer, [system], options)["param"]
    assert np.array_equal(written.astype(np.float32), example.tensors["recurrent_param"])


def test_recurrence_gate_above_one_is_refused():
    with pytest.raises(LayerError, match="delta <= 1"):
        read(make("rg-lru"), operating_point=OperatingPoint(delta=np.array(1.5)))


def test_gate_bias_of_another_width_is_refused():
    example = make("rg-lru")
    odd = {
        f"{gate}_{end}": np.ones((2, 4, 4)[: 3 if end == "weight" else 2])
        for gate in ("recurrent_gate", "input_gate")
        for end in ("bias", "weight")
    }
    with pytest.raises(LayerError, match="one per channel"):
        read(with_tensors(example, **odd))


def test_rg_lru_in_bfloat16_says_how_well_its_poles_are_known():
    example = make("rg-lru")
    coarse = {name: values.astype(ml_dtypes.bfloat16) for name, values in example.tensors.items()}
    (system,) = read(replace(example, tensors=coarse))
    assert any("bfloat16" in line and "%" in line for line in system.assumptions)


@pytest.mark.parametrize("name", ["gated-delta", "gated-delta-fla", "kimi-delta", "kimi-delta-converted"])
def test_gated_delta_net_says_that_it_is_only_a_decay_gate(name):
    (system,) = read(make(name))
    assert any("(I - beta k k^T) is not included" in line for line in system.assumptions)
    assert "not a full SSM" in FAMILIES[system.family].title


@pytest.mark.parametrize("name", ["gated-delta", "kimi-delta"])
def test_gated_delta_net_at_a_given_delta_has_that_pole_and_does_not_write_it_into_the_bias(name):
    example = make(name)
    options = ReadOptions(operating_point=OperatingPoint(delta=np.array(0.1)))
    layer = detected(example)
    (system,) = FAMILIES["gated-delta"].read(layer, options)
    rate = np.exp(factories.wide(example.tensors["A_log"])).reshape(-1)
    assert np.allclose(discrete_poles(system)[:, 0], np.repeat(np.exp(-0.1 * rate), system.copies // rate.size), rtol=1e-12)
    assert set(FAMILIES["gated-delta"].write(layer, [system], options)) == {"A_log"}


@pytest.mark.parametrize(
    ("name", "pole"),
    [*(("rg-lru", pole) for pole in (1.1, -0.5, 0.5 + 0.1j)), *(("gated-delta", pole) for pole in (0.1, 0.0, -0.5 + 0.1j))],
)
def test_pole_that_no_decay_gate_has_cannot_be_written(name, pole):
    """z itself of an RG-LRU, and log z of the others."""
    example = make(name)
    (system,) = read(example)
    with pytest.raises(LayerError, match="between 0 and 1"):
        FAMILIES[system.family].write(detected(example), [replace(system, poles=np.full_like(system.poles, pole))], ReadOptions())


@pytest.mark.parametrize("name", ["rg-lru", "gated-delta"])
def test_operating_point_of_another_size_is_refused(name):
    with pytest.raises(LayerError, match="operating point delta"):
        read(make(name), operating_point=OperatingPoint(delta=np.ones(7)))


@pytest.mark.parametrize(
    ("name", "suffix"), [("s5-torch", "Lambda"), ("linoss", "steps"), ("rg-lru", "recurrent_gate_bias"), ("gated-delta", "A_log")]
)
def test_value_that_is_not_finite_is_read_and_not_trusted(name, suffix):
    example = make(name)
    poisoned = example.tensors[suffix].copy()
    poisoned.flat[1] = np.nan
    assert isinstance(untrustworthy(read(with_tensors(example, **{suffix: poisoned}))[0]), str)
