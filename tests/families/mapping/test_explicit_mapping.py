"""Mappings of explicit kernels, and drafts of layouts whose tensors are called poles and residues."""

from pathlib import Path

import numpy as np
import pytest
from factories import stored
from program import Type
from safetensors.numpy import save_file

from ssmspec.errors import SsmspecError
from ssmspec.families import FAMILIES, ReadOptions, detect
from ssmspec.families.layers import read_layer
from ssmspec.families.mapping.draft import draft_mapping
from ssmspec.families.mapping.mapping_file import parse_mapping

BASIC = '[[layer]]\nmatch = "blocks.*"\nkind = "kernel"\n[layer.kernel]\ntensor = "taps"\n'


def read(text: str, tensors: dict[str, np.ndarray]):
    families = parse_mapping(text, "own.toml")
    (layer,) = detect(stored(tensors), (*families, *FAMILIES.values())).layers
    (system,) = read_layer(families[0], layer, ReadOptions(mapping=families))
    return system


def test_rows_are_kernels_in_time_order(rng):
    taps, skip = rng.standard_normal((3, 5)).astype(np.float32), rng.standard_normal(3).astype(np.float32)
    system = read(BASIC + '[layer.D]\ntensor = "skip"\n', {"blocks.0.taps": taps, "blocks.0.skip": skip})
    np.testing.assert_array_equal(system.impulse(5)[:, 0, 0], taps.astype(float))
    np.testing.assert_array_equal(system.D[:, 0, 0], skip.astype(float))
    assert "as own.toml says: an explicit kernel, in time order" in system.assumptions


def test_groups_in_reverse_order_that_look_ahead(rng):
    taps = rng.standard_normal((2, 1, 4)).astype(np.float32)
    options = BASIC.replace("[layer.kernel]", 'order = "reversed"\nrepeat = 3\nfirst_lag = -2\n[layer.kernel]')
    system = read(options + 'axes = "H 1 L"\n', {"blocks.0.taps": taps})
    wanted = [[taps[channel // 3, 0, 3 - place] for place in range(4)] for channel in range(6)]
    np.testing.assert_array_equal(system.impulse(4)[:, 0, 0], np.array(wanted, float))
    assert (system.copies, system.first_lag) == (6, -2)


def test_outputs_and_inputs_of_one_system_in_any_order_of_axes(rng):
    taps = rng.uniform(1, 2, (4, 2, 3)).astype(np.float32)
    system = read(BASIC + 'axes = "L I O"\ntransform = "-log"\n', {"blocks.0.taps": taps})
    assert system.shape == (1, 3, 2, 4)
    wanted = -np.log(taps.astype(float))
    for o in range(3):
        for i in range(2):
            np.testing.assert_allclose(system.impulse(4)[0, o, i], [wanted[place, i, o] for place in range(4)], rtol=1e-14)


@pytest.mark.parametrize("order", ["time", "reversed"])
def test_only_the_first_samples_may_be_used(rng, order):
    taps = rng.standard_normal((2, 6)).astype(np.float32)
    system = read(BASIC.replace("[layer.kernel]", f'order = "{order}"\nlength = 4\n[layer.kernel]'), {"blocks.0.taps": taps})
    assert system.length == 4
    np.testing.assert_array_equal(system.impulse(6)[:, 0, 0], [[*row[:: 1 if order == "time" else -1][:4], 0, 0] for row in taps.tolist()])
    assert any(line.endswith("of which the first 4 of 6 samples are used") for line in system.assumptions)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BASIC.replace('kind = "kernel"', 'kind = "kernel"\nlength = 0'), "length is 0, expected a whole number from 1"),
        (BASIC.replace('kind = "kernel"', 'kind = "kernel"\norder = "odd"'), "order 'odd' is unknown; choose one of time, reversed"),
        (BASIC.replace('kind = "kernel"', 'kind = "kernel"\nrepeat = 0'), "repeat is 0, expected a whole number from 1"),
        (BASIC.replace('kind = "kernel"', 'kind = "kernel"\nfirst_lag = 1.5'), "first_lag is 1.5, expected a whole number"),
        (BASIC + 'axes = "H N"\n', "axes are 'H N', expected a list such as H L"),
        (BASIC + 'axes = "H O L"\n', "axes are 'H O L', expected a list such as H L"),
        (BASIC + 'transform = "exq"\n', "transform 'exq' is unknown"),
        (BASIC + "[layer.step]\n", "step"),
        ('[[layer]]\nmatch = "a"\nkind = "kernel"\n', "kernel missing; a layer of kind 'kernel' needs match and kernel"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_in_one_line(text, message):
    with pytest.raises(SsmspecError) as refusal:
        parse_mapping(text, "own.toml")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def summed(z: np.ndarray, residues: np.ndarray, length: int) -> np.ndarray:
    """Re sum_n R_n z_n^l, one step after the other."""
    state, kernel = residues.astype(complex), []
    for _ in range(length):
        kernel.append(state.sum(axis=1).real)
        state = state * z
    return np.array(kernel).T


def test_a_draft_of_poles_and_residues_reads_the_kernel_as_it_is(rng):
    pairs = [rng.uniform(-0.6, 0.6, (3, 4, 1, 2)).astype(np.float32), rng.standard_normal((3, 4, 1, 2)).astype(np.float32)]
    tensors = {"blocks.0.mix.poles": pairs[0], "blocks.0.mix.residues": pairs[1]}
    z, residues = (part[:, :, 0, 0].astype(float) + 1j * part[:, :, 0, 1] for part in pairs)
    text = draft_mapping(stored(tensors))
    assert text is not None
    np.testing.assert_allclose(read(text, tensors).impulse(30)[:, 0, 0], summed(z, residues, 30), atol=1e-12)


def test_a_draft_of_logarithms_of_poles_reads_the_kernel_as_it_is(rng):
    logs, residues = -rng.uniform(0.1, 1, (3, 4, 1)).astype(np.float32), rng.standard_normal((3, 4)).astype(np.float32)
    tensors = {"blocks.0.mix.log_poles": logs, "blocks.0.mix.residues": residues}
    text = draft_mapping(stored(tensors))
    assert text is not None
    wanted = summed(np.exp(logs[:, :, 0].astype(float)), residues.astype(float), 30)
    np.testing.assert_allclose(read(text, tensors).impulse(30)[:, 0, 0], wanted, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "axes"), [((3, 20), "H L"), ((3, 1, 20), "H 1 L"), ((1, 3, 20), "1 H L"), ((20,), "L"), ((2, 3, 20), "O I L")]
)
def test_a_draft_of_a_stored_kernel_can_be_used_as_it_is(rng, shape, axes):
    tensors = {f"blocks.{n}.mix.taps": rng.standard_normal(shape).astype(np.float32) for n in range(2)}
    text = draft_mapping(stored(tensors))
    assert text is not None
    assert f'axes = "{axes}"' in text
    families = parse_mapping(text, "own.toml")
    layers = detect(stored(tensors), (*families, *FAMILIES.values())).layers
    assert [layer.name for layer in layers] == ["blocks.0.mix", "blocks.1.mix"]
    (system,) = read_layer(families[0], layers[0], ReadOptions(mapping=families))
    np.testing.assert_array_equal(system.impulse(20).reshape(shape), tensors["blocks.0.mix.taps"].astype(float))


def test_a_draft_of_a_kernel_has_its_skip_its_envelope_and_its_groups(rng):
    tensors = {name: rng.standard_normal((3, 20)).astype(np.float32) for name in ("m.filter", "m.decay")}
    tensors["m.D"] = rng.standard_normal(6).astype(np.float32)
    text = draft_mapping(stored(tensors))
    assert text is not None
    system = read(text, tensors)
    product = tensors["m.filter"].astype(float) * tensors["m.decay"]
    np.testing.assert_allclose(system.impulse(20)[:, 0, 0], np.repeat(product, 2, axis=0), rtol=1e-14)
    np.testing.assert_array_equal(system.D.ravel(), tensors["m.D"].astype(float))


def test_a_draft_takes_a_long_depthwise_convolution_in_reverse(rng):
    tensors = {"m.long_conv.weight": rng.standard_normal((3, 1, 64)), "m.short_conv.weight": rng.standard_normal((3, 1, 64))}
    text = draft_mapping(stored(tensors))
    assert text is not None
    np.testing.assert_array_equal(read(text, tensors).impulse(64)[:, 0, 0], tensors["m.long_conv.weight"][:, 0, ::-1])
    assert "short_conv" not in text


@pytest.mark.parametrize(
    "tensors",
    [
        {"dense.kernel": np.ones((8, 32)), "dense.bias": np.ones(32)},
        {"conv1d.weight": np.ones((8, 1, 4)), "conv1d.bias": np.ones(8)},
        {"conv1.weight": np.ones((8, 3, 7, 7))},
        {"attention.q.weight": np.ones((8, 8))},
        {"att.time_mix_k": np.ones((1, 1, 8)), "att.weight_h": np.ones((8, 8))},
    ],
    ids=["dense", "short convolution", "picture", "projection", "recurrence"],
)
def test_modules_of_other_kinds_are_no_kernels(tensors):
    assert draft_mapping(stored(tensors)) is None


@pytest.mark.parametrize(
    "tensors",
    [
        {"m.poles": np.ones((3, 4, 5)), "m.residues": np.ones((2, 7))},
        {"m.pole_logits": np.ones((3, 4)), "m.residues": np.ones((3, 4))},
        {"m.residues": np.ones((3, 4, 2))},
        {"filters.0.eigenvalues": np.ones((5, 2))},
    ],
    ids=["shapes", "words", "residues alone", "eigenvalues alone"],
)
def test_a_draft_names_poles_and_residues_that_fit_no_table(tensors):
    text = draft_mapping(stored(tensors))
    assert text is not None
    for name, values in tensors.items():
        assert f'#   "{name}"  shape {values.shape}, float64' in text


def test_a_draft_that_is_a_comment_alone_is_printed(typed: Type, tmp_path: Path) -> None:
    save_file({"m.poles": np.ones((3, 4, 5), np.float32), "m.residues": np.ones((2, 7), np.float32)}, tmp_path / "own.safetensors")
    done = typed("inspect", "own.safetensors", "--suggest-map")
    assert (done.code, done.err) == (0, "")
    assert "These tensors are called poles or residues" in done.out


def test_commands_read_a_mapped_kernel(typed: Type, tmp_path: Path, rng) -> None:
    save_file({"blocks.0.taps": rng.standard_normal((3, 5)).astype(np.float32)}, tmp_path / "own.safetensors")
    (tmp_path / "own.toml").write_text(BASIC)
    done = typed("analyze", "own.safetensors", "--map", "own.toml")
    assert done.code == 0
    assert "3 x 5 samples" in done.out
