"""Layers of several directions, scans and axes: rms residues of each, what contradicts, what is shared, and what the commands do."""

import json
from dataclasses import replace
from pathlib import Path

import factories as f
import numpy as np
import pytest
from examples_layouts import mega_truths, nnx_truth
from factories import Tensors, make, stored, wide
from program import Type
from safetensors.numpy import load_file, save_file

from ssmspec.backends.reference import cauchy_sum
from ssmspec.errors import LayerError
from ssmspec.families import FAMILIES, LayerTensors, OperatingPoint, ReadOptions, detect, known_families
from ssmspec.families.mapping.mapping_file import parse_mapping
from ssmspec.families.selective.calibration import open_calibration
from ssmspec.systems.response import impulse_response, squared_magnitude
from ssmspec.systems.statespace import StateSpace
from ssmspec.systems.trust import assess

PREFIX = "blocks.1.op"
THETA = np.array([[0.01, 0.1, 0.6, 3.0]])


def layer_of(tensors: Tensors) -> LayerTensors:
    (layer,) = detect(stored({f"{PREFIX}.{name}": values for name, values in tensors.items()}), FAMILIES.values()).layers
    return layer


def read(tensors: Tensors, **options: object) -> list[StateSpace]:
    layer = layer_of(tensors)
    return FAMILIES[layer.family].read(layer, ReadOptions(**options))


# --- rms residues ---


def rows_of_b_and_c(name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """W_B and W_C (groups, N, m) of every direction, cut out of the projections by the rules of the modules."""
    t = {key: wide(values) for key, values in make(name).tensors.items() if values.dtype == np.float32}
    if name == "hydra":
        rows = t["in_proj.weight"][16:40].reshape(2, 2, 2, 3, -1)  # behind z and x: two directions of B and C, two groups, three states
        return [(part[0], part[1]) for part in rows]
    if name.startswith("vmamba"):
        both = t["x_proj_weight"] if "x_proj_weight" in t else t["x_proj.weight"].reshape(2, 8, 6)
        return [(part[2:5][None], part[5:][None]) for part in both]
    names = {
        "vim": ("x_proj.weight", "x_proj_b.weight"),
        "vim-v1": ("x_proj.weight",) * 2,
        "segmamba": ("x_proj.weight", "x_proj_b.weight", "x_proj_s.weight"),
        "local-mamba": ("x_proj_0.weight", "x_proj_1.weight", "x_proj_2.weight"),
    }[name]
    return [(t[key][2:5][None], t[key][5:][None]) for key in names]


@pytest.mark.parametrize("name", ["vim", "vim-v1", "segmamba", "local-mamba", "vmamba", "vmamba-v2", "vmamba-m0", "hydra"])
def test_rms_response_of_every_direction_is_the_sum_over_all_directions_of_its_input(name: str) -> None:
    """Independent unit vectors for B and for C have the second moments of white input, so their powers add up to it exactly."""
    tensors, config = make(name).tensors, {"n_groups": 2} if name == "hydra" else {}
    unit, rms = read(tensors, config=config), read(tensors, config=config, residues="rms")
    for system, found, (W_B, W_C) in zip(unit, rms, rows_of_b_and_c(name), strict=True):
        z = np.exp(system.poles.real * system.step)
        phi = system.step[:, :, None] / (1 - z[:, :, None] * np.exp(-1j * THETA))  # (K, N or 1, F)
        group = np.arange(system.copies) * len(W_B) // system.copies
        wanted = np.zeros((system.copies, THETA.shape[1]))
        for i in range(W_B.shape[2]):
            for j in range(W_C.shape[2]):
                residues = (W_B[:, :, i] * W_C[:, :, j])[group]
                wanted += np.abs((residues[:, :, None] * phi).sum(axis=1)) ** 2
        np.testing.assert_allclose(squared_magnitude(found, THETA, cauchy_sum), wanted, rtol=1e-9)


def test_rms_response_of_a_projection_with_bias_is_that_of_its_second_moments() -> None:
    """A bias is one more input that is always 1: B = W x + b. Its mean product adds to D in amplitude, the rest in power."""
    tensors = make("mamba-1-full-rank").tensors
    (unit,), (found,) = read(tensors), read(tensors, residues="rms")
    W, b = wide(tensors["x_proj.weight"]), wide(tensors["x_proj.bias"])
    B, C = (np.concatenate([W[rows], b[rows, None]], axis=1) for rows in (slice(0, 3), slice(3, 6)))
    z = np.exp(unit.poles.real * unit.step)
    phi = unit.step[:, :, None] / (1 - z[:, :, None] * np.exp(-1j * THETA))
    responses = np.einsum("ni,nj,knf->kijf", B, C, phi)
    np.testing.assert_allclose(squared_magnitude(found, THETA, cauchy_sum), (np.abs(responses) ** 2).sum(axis=(1, 2)), rtol=1e-9)
    responses[:, -1, -1] += wide(tensors["D"])[:, None]
    with_skip = squared_magnitude(found, THETA, cauchy_sum, with_skip=True)
    np.testing.assert_allclose(with_skip, (np.abs(responses) ** 2).sum(axis=(1, 2)), rtol=1e-9)
    assert any("x_proj has a bias" in line for line in found.assumptions)


def contradicting(name: str, **shapes: tuple[int, ...]) -> Tensors:
    """An example with some tensors of other shapes."""
    changed = {key.replace("__", "."): np.ones(shape, np.float32) for key, shape in shapes.items()}
    return {**make(name).tensors, **changed}


CONTRADICTIONS = {
    "Hydra without fc_D": (lambda: {k: v for k, v in make("hydra").tensors.items() if k != "fc_D.weight"}, "norm.weight has 8 rows"),
    "in_proj of Hydra": (lambda: contradicting("hydra", in_proj__weight=(49, 5)), "in_proj has 49 rows, expected 48"),
    "norm of Hydra": (lambda: contradicting("hydra", norm__weight=(9,)), "norm.weight has 9 rows, expected 8"),
    "norm of Mamba-2": (lambda: contradicting("mamba-2", norm__weight=(7,)), "norm.weight has 7 rows, expected 8"),
    "out_proj of Mamba-2": (lambda: contradicting("mamba-2", out_proj__weight=(5, 6)), "out_proj.weight has 6 columns, expected 8"),
    "in_proj of Mamba-2": (lambda: contradicting("mamba-2", in_proj__weight=(34, 5)), "norm.weight has 8 rows, expected 10"),
    "heads of Mamba-2": (
        lambda: {k: v for k, v in contradicting("mamba-2", in_proj__weight=(34, 5)).items() if k not in ("norm.weight", "out_proj.weight")},
        "10 channels, which 4 heads do not divide",
    ),
    "x_proj of Mamba-1": (lambda: contradicting("mamba-1", x_proj__weight=(9, 4)), "x_proj has 9 rows and dt_proj 2 columns"),
    "in_proj of Mamba-1": (lambda: contradicting("mamba-1", in_proj__weight=(9, 5)), "in_proj.weight has 9 rows, expected 8 or 4"),
    "conv1d of Mamba-1": (lambda: contradicting("mamba-1", conv1d__weight=(3, 1, 4)), "conv1d.weight has 3 rows, expected 4"),
    "out_proj of Vim": (lambda: contradicting("vim", out_proj__weight=(5, 3)), "out_proj.weight has 3 columns, expected 4"),
    "x_proj of VMamba": (lambda: contradicting("vmamba", x_proj_weight=(4, 9, 6)), "x_proj has 9 rows and dt_proj 2 columns"),
    "in_proj of VMamba": (lambda: contradicting("vmamba-m0", in_proj__weight=(13, 5)), "in_proj.weight has 13 rows, expected 12 or 6"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_projections_that_contradict_each_other_are_told_and_have_no_rms_residues(name: str) -> None:
    tensors, words = CONTRADICTIONS[name][0](), CONTRADICTIONS[name][1]
    for system in read(tensors):
        assert any("contradict each other" in line and words in line for line in system.assumptions)
        assert assess(system).problem is None
    with pytest.raises(LayerError, match="no rms residues") as caught:
        read(tensors, residues="rms")
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["mamba-1", "mamba-2", "zamba", "vim", "vmamba", "vmamba-m0", "hydra", "mamba-1-full-rank", "local-mamba"])
def test_projections_that_fit_are_not_spoken_of(name: str) -> None:
    assert not any("contradict" in line for system in read(make(name).tensors) for line in system.assumptions)


def test_mamba_2_with_an_mlp_of_its_own_has_b_and_c_behind_it() -> None:
    """mamba2.py with d_ssm < d_inner: rows z0, x0 (d_mlp each), z, x (d_ssm), B, C, dt; out_proj takes d_ssm + d_mlp."""
    plain = make("mamba-2").tensors
    rows, extra = plain["in_proj.weight"], np.full((6, 5), 7, np.float32)
    tensors = {**plain, "in_proj.weight": np.concatenate([extra, rows]), "out_proj.weight": np.ones((5, 11), np.float32)}
    config = {"n_groups": 2}
    (found,), (wanted,) = (read(each, residues="rms", config=config) for each in (tensors, plain))
    np.testing.assert_array_equal(found.C, wanted.C)
    assert found.assumptions == wanted.assumptions


# --- directions ---


def test_scans_of_vmamba_say_that_no_tensor_tells_their_path() -> None:
    assert all(any("which path each takes" in line for line in system.assumptions) for system in read(make("vmamba").tensors))


def test_a_direction_with_a_letter_that_is_not_known_is_not_passed_over() -> None:
    tensors = {**make("vim").tensors, "A_x_log": make("vim").tensors["A_b_log"]}
    with pytest.raises(LayerError, match="A_x_log belong to directions that vim does not have"):
        read(tensors)


def test_a_direction_without_one_of_its_tensors_is_a_near_miss() -> None:
    tensors = {f"{PREFIX}.{name}": values for name, values in make("segmamba").tensors.items() if name != "x_proj_s.weight"}
    detection = detect(stored(tensors), FAMILIES.values())
    assert detection.layers == ()
    assert [(miss.family, miss.missing) for miss in detection.near_misses] == [("vim", ("x_proj_s.weight",))]


def test_layouts_of_the_stacked_tensors_are_read_alike() -> None:
    """A_logs (k, d, n) and Ds (k, d) in place of (k d, n) and (k d); grouped projections as kernels of a convolution."""
    tensors, wanted = make("vmamba").tensors, read(make("vmamba").tensors)
    unmerged = {**tensors, "A_logs": tensors["A_logs"].reshape(4, 6, 3), "Ds": tensors["Ds"].reshape(4, 6)}
    grouped = {key: values for key, values in tensors.items() if key not in ("x_proj_weight", "dt_projs_weight", "dt_projs_bias")}
    grouped["x_proj.weight"] = tensors["x_proj_weight"].reshape(32, 6, 1)
    grouped["dt_projs.weight"] = tensors["dt_projs_weight"].reshape(24, 2, 1)
    grouped["dt_projs.bias"] = tensors["dt_projs_bias"].reshape(24)
    for other in (unmerged, grouped):
        for system, known in zip(read(other), wanted, strict=True):
            assert system.name == known.name
            for part in ("poles", "B", "C", "D", "step"):
                np.testing.assert_array_equal(getattr(system, part), getattr(known, part))


@pytest.mark.parametrize("name", ["vim-v1", "hydra"])
def test_directions_that_share_a_tensor_must_change_together(name: str) -> None:
    layer = layer_of(make(name).tensors)
    first, second = FAMILIES[layer.family].read(layer, ReadOptions())
    with pytest.raises(LayerError, match="they must change together"):
        FAMILIES[layer.family].write(layer, [replace(first, step=2 * first.step), second], ReadOptions())


def test_channels_of_one_head_must_change_together() -> None:
    layer = layer_of(make("vmamba-m0").tensors)
    systems = FAMILIES[layer.family].read(layer, ReadOptions())
    step = systems[0].step * np.arange(1, 7)[:, None]
    with pytest.raises(LayerError, match="channels of one head"):
        FAMILIES[layer.family].write(layer, [replace(systems[0], step=step), *systems[1:]], ReadOptions())


def test_every_direction_has_an_operating_point_of_its_own_in_a_calibration(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    deltas = {label: rng.uniform(0.01, 0.2, 4) for label in ("forward", "backward")}
    np.savez(tmp_path / "c.npz", **{f"{PREFIX}:{label}/delta": values for label, values in deltas.items()})
    systems = read(make("vim").tensors, calibration=open_calibration(tmp_path / "c.npz"))
    for system, delta in zip(systems, deltas.values(), strict=True):
        np.testing.assert_array_equal(system.step[:, 0], delta)


def test_hydra_at_an_operating_point_has_a_residue_per_group() -> None:
    B, C = np.random.default_rng(3).normal(size=(2, 2, 3))
    for system in read(make("hydra").tensors, operating_point=OperatingPoint(delta=np.array(0.1), B=B, C=C), config={"n_groups": 2}):
        kernel = impulse_response(system, 3)[:, 0, 0]
        np.testing.assert_array_equal(kernel[:, 0], 0)  # neither direction sees its own token
        np.testing.assert_allclose(kernel[:, 1], 0.1 * np.repeat((B * C).sum(axis=1), 2), rtol=1e-12)


def test_backward_moving_average_without_shift_begins_with_its_first_sample() -> None:
    """MultiHeadEMA with shift=False pads the whole k2 behind the sequence, so that lag 1 has k2[0]."""
    tensors = make("mega-bidirectional").tensors
    _, backward = read(tensors, assume={"mega_shift": "false"})
    halves = {key: values[5:] if len(values) == 10 else values for key, values in tensors.items()}
    (truth,) = mega_truths(halves)
    kernel = impulse_response(backward, 40)
    assert not kernel[..., 0].any()
    np.testing.assert_allclose(kernel[..., 1:], truth.impulse(39), rtol=1e-10, atol=1e-12)
    layer = layer_of(tensors)
    options = ReadOptions(assume={"mega_shift": "false"})
    for role, values in FAMILIES["mega-ema"].write(layer, FAMILIES["mega-ema"].read(layer, options), options).items():
        np.testing.assert_array_equal(values.astype(np.float32), layer.tensors[role].read())


def test_moving_averages_for_half_as_many_channels_and_one_more_are_refused() -> None:
    tensors = {**make("mega-bidirectional").tensors, "omega": np.ones(4, np.float32)}
    with pytest.raises(LayerError, match="10 moving averages for 4 channels"):
        read(tensors)


def test_steps_that_the_nnx_port_clips_are_clipped_and_told_and_kept() -> None:
    tensors = dict(make("annotated-s4-nnx").tensors)
    tensors["log_step"] = tensors["log_step"].copy()
    tensors["log_step"][:2, 0] = np.log([1e-5, 3.0])
    (system,) = read(tensors, length=20)
    np.testing.assert_allclose(impulse_response(system, 60), nnx_truth(tensors, 20).impulse(60), rtol=1e-9, atol=1e-9)
    assert any("2 steps outside 0.001..1" in line for line in system.assumptions)
    layer = layer_of(tensors)
    stored_steps = FAMILIES["annotated-s4"].write(layer, [system], ReadOptions(length=20))["log_step"]
    np.testing.assert_array_equal(stored_steps.astype(np.float32), tensors["log_step"])


# --- mappings ---

VMAMBA_MAP = """
[[layer]]
match = "blocks.*.op"
kind = "siso"
discretization = "euler"
output = "Re"
directions = 4
pole_real = {tensor = "A_logs", transform = "-exp", axes = "K*H N"}
step = {tensor = "dt_projs_bias", transform = "softplus", axes = "K H"}
D = {tensor = "Ds", axes = "K*H"}
"""
NNX_MAP = """
[[layer]]
match = "blocks.*.op"
kind = "siso"
discretization = "bilinear"
output = "Re"
kernel_length = 20
pole_real = {tensor = "Lambda_re", axes = "H N"}
pole_imag = {tensor = "Lambda_im", axes = "H N"}
step = {tensor = "log_step", transform = "exp", axes = "H 1"}
B = {tensor = "B", axes = "H N"}
C = {tensor = "C_real_imag", transform = "conj", axes = "H N"}
D = {tensor = "D", axes = "H 1"}
P = {tensor = "P", axes = "H N"}
"""
TORCH_MAP = (
    NNX_MAP.replace("kernel_length = 20", "kernel_length = 36")
    .replace('pole_real = {tensor = "Lambda_re", axes = "H N"}\npole_imag = {tensor = "Lambda_im", axes = "H N"}', "")
    .replace('"C_real_imag"', '"_Ct"')
    .replace('tensor = "B"', 'tensor = "_B"')
    .replace('"log_step", transform = "exp", axes = "H 1"', '"log_step", transform = "exp", axes = "H"')
    .replace('"D", axes = "H 1"', '"D", axes = "1 1 H"')
    .replace('P = {tensor = "P", axes = "H N"}', 'P = {tensor = "_p", axes = "N"}\nQ = {tensor = "_q", axes = "N"}')
    + 'pole = {tensor = "_lambda_", axes = "1 1 N"}\n'
)
MAPPED = {"vmamba": VMAMBA_MAP, "annotated-s4-nnx": NNX_MAP, "s4-torch": TORCH_MAP}


def mapped(name: str) -> tuple[LayerTensors, object]:
    families = parse_mapping(MAPPED[name], "m")
    tensors = make(name).under(PREFIX)
    found = detect(stored(tensors), known_families(ReadOptions(mapping=families)).values())
    assert [layer.family for layer in found.layers] == ["mapped"]
    return found.layers[0], families[0]


@pytest.mark.parametrize("name", MAPPED)
def test_a_mapping_says_what_the_family_says(name: str) -> None:
    layer, family = mapped(name)
    length = make(name).length
    for system, known in zip(family.read(layer, ReadOptions()), read(make(name).tensors, length=length), strict=True):
        assert system.name == known.name
        np.testing.assert_allclose(impulse_response(system, 60), impulse_response(known, 60), rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(system.D, known.D)


@pytest.mark.parametrize("name", MAPPED)
def test_what_a_mapping_of_several_directions_or_low_rank_reads_is_written_bit_for_bit(name: str) -> None:
    layer, family = mapped(name)
    options = ReadOptions()
    values = family.write(layer, family.read(layer, options), options)
    assert set(values) == set(layer.tensors)
    for role, array in values.items():
        tensor = layer.tensors[role].read()
        np.testing.assert_array_equal(array.astype(tensor.dtype), tensor)


@pytest.mark.parametrize("name", MAPPED)
def test_other_systems_are_written_through_such_mappings(name: str) -> None:
    layer, family = mapped(name)
    options = ReadOptions()
    wanted = [replace(system, step=1.3 * system.step) for system in family.read(layer, options)]
    changed = layer.with_values(family.write(layer, wanted, options))
    for system, expected in zip(family.read(changed, options), wanted, strict=True):
        kernel = impulse_response(expected, 40)
        np.testing.assert_allclose(impulse_response(system, 40), kernel, rtol=0, atol=1e-5 * np.abs(kernel).max())


def test_two_tables_describe_two_directions_under_one_prefix(typed: Type, tmp_path: Path) -> None:
    """The tensors of Vim have names of their own for each direction; a single name of a direction is what a table reads."""
    table = """
    [[layer]]
    match = "blocks.*.op"
    kind = "siso"
    discretization = "euler"
    output = "Re"
    directions = ["LABEL"]
    pole_real = {tensor = "A_log", transform = "-exp"}
    step = {tensor = "dt_proj.bias", transform = "softplus"}
    D = {tensor = "D"}
    """
    second = table.replace("LABEL", "backward").replace("A_log", "A_b_log").replace("dt_proj", "dt_proj_b").replace('"D"', '"D_b"')
    (tmp_path / "m.toml").write_text(table.replace("LABEL", "forward") + second, encoding="utf-8")
    write_file("vim", tmp_path / "x.safetensors")
    found = []
    for more in (["--map", "m.toml"], []):
        layers = json.loads(typed("analyze", "x.safetensors", "--json", "--points", 16, *more).out)["layers"]
        found.append({layer["name"]: layer["statistics"] for layer in layers})
    assert found[0] == found[1]
    retuned = typed("retune", "x.safetensors", "--map", "m.toml", "--step-scale", "2", "-o", "y.safetensors")
    assert retuned.code == 0, retuned.err
    before, after = load_file(tmp_path / "x.safetensors"), load_file(tmp_path / "y.safetensors")
    assert {key for key in before if before[key].tobytes() != after[key].tobytes()} == {f"{PREFIX}.dt_proj{end}.bias" for end in ("", "_b")}


def test_a_given_length_takes_the_place_of_that_of_a_mapping() -> None:
    layer, family = mapped("annotated-s4-nnx")
    (system,) = family.read(layer, ReadOptions(length=31))
    np.testing.assert_allclose(impulse_response(system, 40), nnx_truth(make("annotated-s4-nnx").tensors, 31).impulse(40), rtol=1e-9)


def test_a_tensor_that_mapped_directions_share_must_change_for_all() -> None:
    text = VMAMBA_MAP.replace(
        'step = {tensor = "dt_projs_bias", transform = "softplus", axes = "K H"}', 'step = {tensor = "s", axes = "H"}'
    )
    (family,) = parse_mapping(text, "m")
    tensors = {**make("vmamba").tensors, "s": np.full(6, 0.1, np.float32)}
    (layer,) = detect(stored({f"{PREFIX}.{key}": values for key, values in tensors.items()}), [family]).layers
    systems = family.read(layer, ReadOptions())
    np.testing.assert_array_equal(systems[3].step, systems[0].step)
    with pytest.raises(LayerError, match=r"directions that share .*they must change together"):
        family.write(layer, [replace(systems[0], step=2 * systems[0].step), *systems[1:]], ReadOptions())


# --- the commands ---


def write_file(name: str, path: Path) -> Tensors:
    tensors = {f"{PREFIX}.{key}": np.array(values) for key, values in make(name).tensors.items()}
    save_file(tensors, path)
    return tensors


@pytest.mark.parametrize(
    ("name", "tensor", "poisoned"),
    [
        ("vim", "A_b_log", ":backward"),
        ("segmamba", "D_s", ":slices"),
        ("vmamba", "dt_projs_bias", ":3"),
        ("s4nd-diagonal", "kernel.1.A_real", ":axis1"),
        ("mega-bidirectional", "gamma", ":backward"),
    ],
)
def test_nan_in_one_direction_blanks_that_one_and_check_names_the_tensor(
    name: str, tensor: str, poisoned: str, typed: Type, tmp_path: Path
) -> None:
    tensors = write_file(name, tmp_path / "x.safetensors")
    values = tensors[f"{PREFIX}.{tensor}"]
    shared = len(make(name).truths) if name.startswith("vmamba") else 2 if name.startswith("mega") else 1
    values.reshape(shared, -1)[-1] = np.nan
    save_file(tensors, tmp_path / "x.safetensors")
    analyzed = typed("analyze", "x.safetensors", "--json", "--points", 16)
    assert analyzed.code == 0
    problems = {layer["name"]: layer["problem"] for layer in json.loads(analyzed.out)["layers"]}
    assert len(problems) == len(make(name).truths)
    assert {layer for layer, problem in problems.items() if problem} == {
        each for each in problems if f"{each}:".startswith(PREFIX + poisoned)
    }
    checked = typed("check", "x.safetensors", "--format", "json")
    assert checked.code == 1
    found = [item for item in json.loads(checked.out)["checkpoints"][0]["findings"] if item["rule"] == "not-finite"]
    assert found
    assert all(item["layer"].startswith(PREFIX + poisoned) and f"{PREFIX}.{tensor}" in item["message"] for item in found)


@pytest.mark.parametrize("name", ["vim", "vmamba", "hydra"])
def test_retune_changes_the_steps_of_every_direction_and_nothing_else(name: str, typed: Type, tmp_path: Path) -> None:
    before = write_file(name, tmp_path / "x.safetensors")
    done = typed("retune", "x.safetensors", "--step-scale", "2", "-o", "y.safetensors")
    assert done.code == 0, done.err
    after = load_file(tmp_path / "y.safetensors")
    changed = {key.removeprefix(f"{PREFIX}.") for key, values in before.items() if values.tobytes() != after[key].tobytes()}
    biases = {key for key in make(name).tensors if key.startswith("dt_") and key.endswith("bias")}
    assert changed == biases
    for key in biases:
        old, new = (f.softplus(wide(part[f"{PREFIX}.{key}"])) for part in (before, after))
        np.testing.assert_allclose(new, 2 * old, rtol=1e-5)
    compared = typed("compare", "x.safetensors", "y.safetensors", "--json", "--points", 16)
    assert len(json.loads(compared.out)["layers"]) == len(make(name).truths)


def test_the_name_of_a_block_chooses_all_of_its_systems(typed: Type, tmp_path: Path) -> None:
    write_file("s4nd-diagonal", tmp_path / "x.safetensors")
    names = [f"{PREFIX}:axis{axis}:{label}" for axis in (0, 1) for label in ("forward", "backward")]
    for chosen, wanted in ((PREFIX, names), (f"{PREFIX}:axis1", names[2:]), (names[1], names[1:2])):
        done = typed("analyze", "x.safetensors", "--layer", chosen, "--json", "--points", 16)
        assert [layer["name"] for layer in json.loads(done.out)["layers"]] == wanted


def test_axes_are_retuned_by_alpha_and_weighed_by_beta_each_by_itself(typed: Type, tmp_path: Path) -> None:
    before = write_file("s4nd-diagonal", tmp_path / "x.safetensors")
    assert typed("retune", "x.safetensors", "--alpha", "2", "--beta", "0.5", "--beta-convention", "lra", "-o", "y.safetensors").code == 0
    after = load_file(tmp_path / "y.safetensors")
    for axis in (0, 1):
        key = f"{PREFIX}.kernel.{axis}.A_imag"
        np.testing.assert_array_equal(after[key], 2 * before[key])
    layers = json.loads(typed("analyze", "y.safetensors", "--json", "--points", 16).out)["layers"]
    assert all(any("beta comes from" in line for line in layer["assumptions"]) for layer in layers)


def test_directions_with_poles_of_their_own_match_no_spectrum(typed: Type, tmp_path: Path) -> None:
    write_file("s4nd-diagonal", tmp_path / "x.safetensors")
    np.save(tmp_path / "signals.npy", np.random.default_rng(0).standard_normal((8, 256)))
    done = typed("retune", "x.safetensors", "--match-spectrum", "signals.npy", "-o", "y.safetensors")
    assert done.code == 2
    assert "poles of their own" in done.err


def test_diagonalized_axes_have_the_response_that_they_had(typed: Type, tmp_path: Path) -> None:
    before = write_file("s4nd-low-rank", tmp_path / "x.safetensors")
    assert typed("retune", "x.safetensors", "--diagonalize", "--max-diagonalize-error", "1", "-o", "y.safetensors").code == 0
    after = load_file(tmp_path / "y.safetensors")
    assert all(not after[f"{PREFIX}.kernel.{axis}.P"].any() for axis in range(3))
    assert before[f"{PREFIX}.D"].tobytes() == after[f"{PREFIX}.D"].tobytes()


def test_suggested_map_of_a_low_rank_layer_uses_or_names_every_tensor(typed: Type, tmp_path: Path) -> None:
    names = {"Lambda_re": "lam_real", "Lambda_im": "lam_imag", "log_step": "log_dt"}
    tensors = {f"layers.{n}.cell.{names.get(k, k)}": v for n in range(2) for k, v in make("annotated-s4-nnx").tensors.items()}
    extra = {
        "layers.0.cell.cache.x": np.zeros((4, 6)),
        "layers.1.cell.mask": np.zeros(3),
        "layers.1.cell.dt_scale.weight": np.ones((3, 2, 2)),
    }
    np.savez(tmp_path / "own.npz", **tensors, **extra)
    draft = typed("inspect", "own.npz", "--suggest-map")
    assert draft.code == 0
    assert 'discretization = "bilinear"' in draft.out
    for name in (*tensors, *extra):
        assert f'"{name.split(".", 3)[3]}"' in draft.out
    (left_out,) = [line for line in draft.out.splitlines() if line.startswith("# Left out")]
    assert all(word in left_out for word in ("cache.x", "mask", "dt_scale.weight"))
    text = draft.out.replace("delay = 0", "kernel_length = 20\ndelay = 0")
    C_table = '[layer.C]\ntensor = "C_real_imag"'
    assert C_table in text
    text = text.replace('discretization = "bilinear"', 'discretization = "bilinear"', 1).replace(
        "[layer.C]", '[layer.C]\ntransform = "conj"', 1
    )
    (tmp_path / "m.toml").write_text(text, encoding="utf-8")
    done = typed("impulse", "own.npz", "--layer", "layers.0.cell", "--length", 60, "--map", "m.toml", "-o", "k.npz")
    assert done.code == 0, done.err
    truth = nnx_truth(make("annotated-s4-nnx").tensors, 20).impulse(60)
    np.testing.assert_allclose(np.load(tmp_path / "k.npz")["kernel"], truth, rtol=0, atol=1e-9 * np.abs(truth).max())
