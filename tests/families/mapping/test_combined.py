"""Quantities of a mapping that are a product or a sum of two tensors, and pairs whose parts have transforms of their own."""

from dataclasses import replace

import numpy as np
import pytest
from factories import stored

from ssmspec.errors import LayerError, SsmspecError
from ssmspec.families import FAMILIES, ReadOptions, detect
from ssmspec.families.layers import read_layer
from ssmspec.families.mapping.mapping_file import parse_mapping
from ssmspec.families.rewrite import changed_values

HEAD = '[[layer]]\nmatch = "m.*"\nkind = "siso"\ndiscretization = "{rule}"\noutput = "Re"\n'
KERNEL = '[[layer]]\nmatch = "m.*"\nkind = "kernel"\n'


def layer_of(text: str, tensors: dict[str, np.ndarray]):
    (family,) = parse_mapping(text, "own.toml")
    (layer,) = detect(stored({f"m.0.{name}": values for name, values in tensors.items()}), (family, *FAMILIES.values())).layers
    return family, layer


def read(text: str, tensors: dict[str, np.ndarray]):
    family, layer = layer_of(text, tensors)
    (system,) = read_layer(family, layer, ReadOptions(mapping=(family,)))
    return system


def summed(z: np.ndarray, residues: np.ndarray, length: int = 40) -> np.ndarray:
    """Re sum_n R_n z_n^l, one step after the other."""
    state, kernel = residues.astype(complex), []
    for _ in range(length):
        kernel.append(state.sum(axis=1).real)
        state = state * z
    return np.array(kernel).T


# log z = -exp(p) exp(gamma), as Evo 2 in training
LOG_Z = HEAD.format(rule="euler") + (
    'step = 1.0\n[layer.pole_real]\ntensor = "p"\ntransform = "-exp"\ntimes = {tensor = "gamma", transform = "exp"}\n'
    '[layer.C]\ntensor = "R"\n'
)
# -exp(p + gamma) is the same
SUM = HEAD.format(rule="euler") + ('step = 1.0\n[layer.pole_real]\ntensor = "p"\nplus = "gamma"\nthen = "-exp"\n[layer.C]\ntensor = "R"\n')


@pytest.fixture
def rates(rng) -> dict[str, np.ndarray]:
    return {name: rng.uniform(-1, 0.3, (3, 4)).astype(np.float32) for name in ("p", "gamma", "R")}


@pytest.mark.parametrize("text", [LOG_Z, SUM], ids=["product", "sum"])
def test_product_or_sum_of_two_tensors(text, rates):
    wide = {name: values.astype(float) for name, values in rates.items()}
    wanted = summed(np.exp(-np.exp(wide["p"]) * np.exp(wide["gamma"])), wide["R"])
    np.testing.assert_allclose(read(text, rates).impulse(40)[:, 0, 0], wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("text", [LOG_Z, SUM], ids=["product", "sum"])
def test_changed_poles_are_written_to_the_first_tensor(text, rates):
    family, layer = layer_of(text, rates)
    (before,) = read_layer(family, layer, ReadOptions())
    poles = before.poles.copy()
    poles[1] *= 2
    values = changed_values(family, layer, [before], [replace(before, poles=poles)], ReadOptions())
    assert set(values) == {"pole_real"}
    np.testing.assert_allclose(values["pole_real"][1], rates["p"][1].astype(float) + np.log(2), rtol=1e-12)
    np.testing.assert_array_equal(values["pole_real"][[0, 2]], rates["p"][[0, 2]])


def test_moduli_that_are_one_less_a_product_and_factors_that_lack_axes(rng):
    """q = 1 - sigmoid(alpha) sigmoid(delta), gamma times sigmoid(alpha), as the moving averages of Mega and Megalodon."""
    tensors = {name: rng.standard_normal((3, 4)).astype(np.float32) for name in ("alpha", "delta", "theta", "gamma")}
    tensors["scale"] = rng.uniform(0.5, 2, (1, 3)).astype(np.float32)
    text = HEAD.format(rule="direct") + (
        '[layer.pole_abs]\ntensor = "delta"\ntransform = "sigmoid"\ntimes = {tensor = "alpha", transform = "sigmoid"}\n'
        'then = "complement"\n'
        '[layer.pole_phase]\ntensor = "theta"\n[layer.C]\ntensor = "gamma"\ntimes = {tensor = "scale", axes = "1 H"}\n'
    )
    wide = {name: values.astype(float) for name, values in tensors.items()}
    modulus = 1 - 1 / (1 + np.exp(-wide["alpha"])) / (1 + np.exp(-wide["delta"]))
    wanted = summed(modulus * np.exp(1j * wide["theta"]), wide["gamma"] * wide["scale"].T)
    np.testing.assert_allclose(read(text, tensors).impulse(40)[:, 0, 0], wanted, rtol=1e-12, atol=1e-12)


MULTIPLES = HEAD.format(rule="direct") + (
    '[layer.pole_abs]\ntensor = "alpha"\ntransform = "sigmoid"\n[layer.C]\ntensor = "gamma"\n'
    '[layer.pole_phase]\ntensor = "theta"\naxes = "H 1"\ntransform = "sigmoid"\nscale = 1.5707963267948966\nmultiples_from = 1\n'
)


@pytest.fixture
def angles(rng) -> dict[str, np.ndarray]:
    tensors = {name: rng.standard_normal((3, 4)).astype(np.float32) for name in ("alpha", "gamma")}
    return tensors | {"theta": rng.uniform(-4, -2, (3, 1)).astype(np.float32)}


def test_phases_are_multiples_of_one_angle(angles):
    """Megalodon: the phase of mode n = 1..N is n sigmoid(theta) 2 pi/N."""
    alpha, gamma, theta = (angles[name].astype(float) for name in ("alpha", "gamma", "theta"))
    q = np.array(
        [
            [1 / (1 + np.exp(-alpha[h, n])) * np.exp(1j * (n + 1) * 2 * np.pi / 4 / (1 + np.exp(-theta[h, 0]))) for n in range(4)]
            for h in range(3)
        ]
    )
    np.testing.assert_allclose(read(MULTIPLES, angles).impulse(40)[:, 0, 0], summed(q, gamma), rtol=1e-12, atol=1e-13)


def test_multiples_of_an_angle_that_stay_so_are_written_and_others_refused(angles):
    family, layer = layer_of(MULTIPLES, angles)
    (before,) = read_layer(family, layer, ReadOptions())
    assert changed_values(family, layer, [before], [before], ReadOptions()) == {}
    moduli = replace(before, poles=before.poles * 0.5)
    assert set(changed_values(family, layer, [before], [moduli], ReadOptions())) == {"pole_abs"}
    turned = replace(before, poles=before.poles * np.exp(0.1j))
    with pytest.raises(LayerError, match="pole_phase has one value for all N"):
        changed_values(family, layer, [before], [turned], ReadOptions())


@pytest.mark.parametrize(("key", "value"), [("multiples_from = 1", "multiples_from = 0"), ('axes = "H 1"', 'axes = "H N"')])
def test_multiples_need_a_whole_number_and_a_tensor_without_modes(key, value):
    with pytest.raises(SsmspecError, match="expected a whole number from 1, and no axis N"):
        parse_mapping(MULTIPLES.replace(key, value), "own.toml")


PAIR = HEAD.format(rule="zoh") + (
    'step = 0.1\n[layer.pole]\ntensor = "A"\ntransform_real = "-softplus"\ntransform_imag = "exp"\n[layer.C]\ntensor = "E"\ntimes = "g"\n'
)


@pytest.fixture
def pairs(rng) -> dict[str, np.ndarray]:
    tensors = {name: rng.standard_normal((3, 4, 2)).astype(np.float32) for name in "AE"}
    return tensors | {"g": rng.uniform(0.5, 2, (3, 4)).astype(np.float32)}


def test_parts_of_a_pair_have_transforms_of_their_own(pairs):
    system = read(PAIR, pairs)
    A, E, g = (pairs[name].astype(float) for name in "AEg")
    a = -np.log1p(np.exp(A[..., 0])) + 1j * np.exp(A[..., 1])
    wanted = summed(np.exp(0.1 * a), (E[..., 0] + 1j * E[..., 1]) * g * np.expm1(0.1 * a) / a)
    np.testing.assert_allclose(system.impulse(40)[:, 0, 0], wanted, rtol=1e-11, atol=1e-12)


def test_changed_pairs_are_written_back(pairs):
    family, layer = layer_of(PAIR, pairs)
    (before,) = read_layer(family, layer, ReadOptions())
    assert changed_values(family, layer, [before], [before], ReadOptions()) == {}
    after = replace(before, poles=before.poles * 1.5, C=before.C * 3)
    values = changed_values(family, layer, [before], [after], ReadOptions())
    (found,) = read_layer(family, layer.with_values(values), ReadOptions())
    np.testing.assert_allclose(found.poles, after.poles, rtol=1e-6)  # the tensors are float32
    np.testing.assert_allclose(values["C"], 3 * pairs["E"].astype(float), rtol=1e-12)
    np.testing.assert_allclose(np.exp(values["pole"][..., 1]), 1.5 * np.exp(pairs["A"][..., 1].astype(float)), rtol=1e-12)


def test_value_that_the_first_tensor_cannot_hold_is_refused(pairs):
    pairs["g"][1, 2] = 0
    family, layer = layer_of(PAIR, pairs)
    (before,) = read_layer(family, layer, ReadOptions())
    with pytest.raises(LayerError, match="cannot hold the new values of C"):
        changed_values(family, layer, [before], [replace(before, C=before.C + 1)], ReadOptions())


def test_directions_are_taken_from_both_tensors(rng):
    tensors = {"p": rng.uniform(-1, 0, (2, 3, 4)), "gamma": rng.uniform(-1, 0, (2 * 3, 4)), "R": rng.standard_normal((2, 3, 4))}
    text = HEAD.format(rule="euler") + (
        'directions = 2\nstep = 1.0\n[layer.pole_real]\ntensor = "p"\naxes = "K H N"\ntransform = "-exp"\n'
        'times = {tensor = "gamma", transform = "exp", axes = "K*H N"}\n[layer.C]\ntensor = "R"\naxes = "K H N"\n'
    )
    (family,) = parse_mapping(text, "own.toml")
    (layer,) = detect(stored({f"m.0.{name}": values for name, values in tensors.items()}), (family,)).layers
    for number, system in enumerate(read_layer(family, layer, ReadOptions())):
        z = np.exp(-np.exp(tensors["p"][number]) * np.exp(tensors["gamma"][3 * number : 3 * number + 3]))
        np.testing.assert_allclose(system.impulse(40)[:, 0, 0], summed(z, tensors["R"][number]), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ('times = "decay"', lambda h, decay, rate: h * decay),
        ('plus = {tensor = "decay", transform = "-exp"}', lambda h, decay, rate: h - np.exp(decay)),
        ('times = {tensor = "rate", axes = "H"}', lambda h, decay, rate: h * rate[:, None]),
    ],
    ids=["product", "sum", "per channel"],
)
def test_kernels_are_products_or_sums_too(rng, entry, wanted):
    tensors = {"h": rng.standard_normal((3, 6)), "decay": rng.standard_normal((3, 6)), "rate": rng.standard_normal(3)}
    system = read(KERNEL + f'[layer.kernel]\ntensor = "h"\n{entry}\n', tensors)
    np.testing.assert_allclose(system.impulse(6)[:, 0, 0], wanted(**tensors), rtol=1e-14)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SUM.replace('then = "-exp"', 'times = "q"'), "times and plus are given; expected one of them"),
        (SUM.replace('plus = "gamma"\n', ""), "then applies to a product or a sum"),
        (SUM.replace('plus = "gamma"', 'plus = "R"'), "is the plus of pole_real and the tensor of C; exchange"),
        (SUM.replace('plus = "gamma"', 'plus = {tensor = "gamma", axes = "H H"}'), "axes are 'H H', expected some of 'H N'"),
        (SUM.replace('plus = "gamma"', "plus = 3"), "plus is 3, expected the name of a tensor below the prefix"),
        (SUM.replace('plus = "gamma"', 'plus = {tensor = "gamma", transform = "exq"}'), "transform 'exq' is unknown"),
        (PAIR.replace('"-softplus"', "2"), "transform is 2, expected a text"),
        (PAIR.replace('transform_imag = "exp"', 'plus = "g"'), "key 'plus' is unknown"),
        (PAIR.replace('transform_imag = "exp"', 'transform = "exp"'), "expected none or conj, or transform_real and transform_imag"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text, message):
    with pytest.raises(SsmspecError) as refusal:
        parse_mapping(text, "own.toml")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
