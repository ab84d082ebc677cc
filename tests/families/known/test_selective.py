"""Operating points of selective layers: rms residues against random input, calibration files, Mamba-3 against its recurrence."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import make, softplus, stored, wide

from ssmspec.backends.reference import cauchy_sum
from ssmspec.errors import LayerError, SsmspecError
from ssmspec.families import FAMILIES, LayerTensors, OperatingPoint, ReadOptions, detect
from ssmspec.families.selective.calibration import open_calibration
from ssmspec.families.selective.residues import factor, gram, norm_gain
from ssmspec.systems.response import impulse_response, squared_magnitude
from ssmspec.systems.statespace import StateSpace

PREFIX = "layers.0.mixer"
THETA = np.array([[0.01, 0.1, 0.6, 3.0]])
GROUPED = {"n_groups": 2}
SHAPES = {"mamba-1": ((3,), 4), "zamba": ((2, 4), 3), "mamba-2": ((2, 3), 4)}  # of B and C; channels that choose them


def layer_of(name: str) -> LayerTensors:
    (layer,) = detect(stored(make(name).under(PREFIX)), FAMILIES.values()).layers
    return layer


def read(name: str, **options: object) -> StateSpace:
    layer = layer_of(name)
    (system,) = FAMILIES[layer.family].read(layer, ReadOptions(config=GROUPED, **options))
    return system


def power(system: StateSpace) -> np.ndarray:
    """|H|_F^2 on THETA, (K, F)."""
    return squared_magnitude(system, THETA, cauchy_sum)


def weights(name: str) -> tuple[np.ndarray, np.ndarray]:
    """W_B and W_C (groups, N, m), cut out of the projection by the rules of the modules."""
    tensors = make(name).tensors
    if name == "mamba-1":
        rows = wide(tensors["x_proj.weight"])[None]
        return rows[:, 2:5], rows[:, 5:]
    if name == "zamba":
        rows = wide(tensors["x_proj_weight"])
        return rows[:, 2:6], rows[:, 6:]
    rows = wide(tensors["in_proj.weight"])[16:28].reshape(4, 3, -1)
    return rows[:2], rows[2:]


# --- rms residues ---


@pytest.mark.parametrize("name", ["mamba-1", "zamba", "mamba-2"])
def test_rms_response_is_the_sum_over_all_directions_of_the_input(name):
    """Independent unit vectors for B and for C have the second moments of white input, so their powers add up to it exactly."""
    W_B, W_C = weights(name)
    total = np.zeros_like(power(read(name)))
    for i in range(W_B.shape[2]):
        for j in range(W_C.shape[2]):
            B, C = (W[..., index].reshape(SHAPES[name][0]) for W, index in ((W_B, i), (W_C, j)))
            total += power(read(name, operating_point=OperatingPoint(B=B, C=C)))
    np.testing.assert_allclose(power(read(name, residues="rms")), total, rtol=1e-9)


@pytest.mark.parametrize("name", ["mamba-1", "zamba", "mamba-2"])
def test_rms_response_is_the_mean_over_random_input(name, rng):
    """100 000 draws, straight from the recurrence: one scatters by up to 3 times the mean, so the mean of all is known to 1 %."""
    W_B, W_C = weights(name)
    B, C = (np.einsum("gnm,sgm->sgn", W, rng.standard_normal((100_000, len(W), W.shape[2]))) for W in (W_B, W_C))
    system = read(name)
    z, delta = np.exp(system.poles.real * system.step), system.step
    group = np.arange(system.copies) * len(W_B) // system.copies
    wanted = np.empty((system.copies, THETA.shape[1]))
    for k, g in enumerate(group):
        H = (B[:, g] * C[:, g]) @ (delta[k] / (1 - z[k][:, None] * np.exp(-1j * THETA)) * np.ones((B.shape[2], 1)))
        wanted[k] = (np.abs(H) ** 2).mean(axis=0)
    np.testing.assert_allclose(power(read(name, residues="rms")), wanted, rtol=0.05)


def test_product_of_weights_is_no_residue(rng):
    """Why rms: the mean of C_t B_s over white input vanishes at lag 1, so diag(W_C W_B^T) describes nothing."""
    W_B, W_C = (W[0] for W in weights("mamba-1"))
    x = rng.standard_normal((200_000, W_B.shape[1]))
    mean = ((x[1:] @ W_C.T) * (x[:-1] @ W_B.T)).mean(axis=0)
    assert np.abs(mean).max() < 0.02 * np.abs((W_C * W_B).sum(axis=1)).max()


@pytest.mark.parametrize("name", ["mamba-1", "zamba", "mamba-2"])
def test_skip_adds_to_rms_power_alone(name):
    plain = read(name, residues="rms")
    with_skip = squared_magnitude(plain, THETA, cauchy_sum, with_skip=True)
    np.testing.assert_allclose(with_skip - power(plain), np.tile(read(name).D[:, 0] ** 2, (1, 4)), rtol=1e-10)


@pytest.mark.parametrize("name", ["mamba-1", "zamba", "mamba-2"])
def test_rms_changes_neither_poles_nor_steps_and_is_said(name):
    unit, rms = read(name), read(name, residues="rms")
    np.testing.assert_array_equal(unit.poles, rms.poles)
    np.testing.assert_array_equal(unit.step, rms.step)
    assert "rms residues" in str(rms.operating_point)
    assert "unit residues" in str(unit.operating_point)


@pytest.mark.parametrize("name", ["mamba-1", "zamba", "mamba-2"])
def test_rms_system_is_written_back_bit_for_bit(name):
    layer, options = layer_of(name), ReadOptions(residues="rms", config=GROUPED)
    family = FAMILIES[layer.family]
    for role, values in family.write(layer, family.read(layer, options), options).items():
        np.testing.assert_array_equal(values.astype(np.float32), layer.tensors[role].read())


def test_norms_bring_second_moments_to_unit_size():
    moments = gram(np.random.default_rng(0).standard_normal((2, 3, 7)))
    weight = np.array([1.0, 2.0, 0.5])
    gain = norm_gain(moments, None)
    np.testing.assert_allclose(np.trace(moments * gain[:, :, None] * gain[:, None, :], axis1=1, axis2=2), 3)
    np.testing.assert_allclose(norm_gain(moments, weight), gain * weight)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_factor_gives_back_the_matrix_with_as_many_rows_as_its_rank(rank, rng):
    W = rng.standard_normal((3, 5, rank))
    V = factor(gram(W))
    assert V.shape == (3, rank, 5)
    np.testing.assert_allclose(V.transpose(0, 2, 1) @ V, gram(W), atol=1e-12)


def test_rms_with_given_b_is_refused():
    with pytest.raises(LayerError, match="give no B or C"):
        read("mamba-1", residues="rms", operating_point=OperatingPoint(B=np.ones(3)))


def test_only_the_rows_of_b_and_c_are_read():
    """in_proj of Mamba-2 is most of a model's bytes."""

    class Watched:
        def __init__(self, tensor):
            self.tensor, self.shape, self.dtype, self.rows = tensor, tensor.shape, tensor.dtype, 0

        def read(self, rows=None):
            values = self.tensor.read(rows)
            self.rows += len(values)
            return values

    layer = layer_of("mamba-2")
    watched = Watched(layer.tensors["in_proj"])
    layer = replace(layer, tensors={**layer.tensors, "in_proj": watched})
    FAMILIES["mamba-2"].read(layer, ReadOptions(config=GROUPED))
    assert watched.rows == 0
    FAMILIES["mamba-2"].read(layer, ReadOptions(config=GROUPED, residues="rms"))
    assert watched.rows == 12


# --- calibration ---


@pytest.fixture
def calibrated(tmp_path: Path) -> Callable[..., ReadOptions]:
    def options(arrays: dict[str, np.ndarray], **more: object) -> ReadOptions:
        np.savez(tmp_path / "c.npz", **arrays)
        return ReadOptions(calibration=open_calibration(tmp_path / "c.npz"), config=GROUPED, **more)

    return options


def read_with(name: str, options: ReadOptions) -> StateSpace:
    layer = layer_of(name)
    (system,) = FAMILIES[layer.family].read(layer, options)
    return system


@pytest.mark.parametrize("name", ["mamba-1", "zamba", "mamba-2"])
def test_means_of_recordings_are_the_operating_point(name, calibrated, rng):
    shape, copies = SHAPES[name][0], read(name).copies
    delta = rng.uniform(0.01, 0.2, (50, copies))
    B, C = rng.normal(size=(2, 50, *shape))
    point = OperatingPoint(delta=delta.mean(axis=0), B=B.mean(axis=0), C=C.mean(axis=0))
    wanted = impulse_response(read(name, operating_point=point), 20)
    for prefix in ("", f"{PREFIX}/"):
        options = calibrated({f"{prefix}delta": delta, f"{prefix}B": B.reshape(50, -1), f"{prefix}C": C})
        system = read_with(name, options)
        np.testing.assert_allclose(impulse_response(system, 20), wanted, rtol=1e-12)
        assert "mean of 50 recorded samples, 5..95 % of them between" in system.operating_point
        means = calibrated({f"{prefix}{key}": getattr(point, key) for key in ("delta", "B", "C")})
        np.testing.assert_allclose(impulse_response(read_with(name, means), 20), wanted, rtol=1e-12)


def test_mean_of_delta_keeps_the_decay_over_a_recording(calibrated, rng):
    """exp(a sum Delta_t) over the recorded tokens is the product of the decays that the model went through."""
    delta = rng.lognormal(-3, 1, (40, 4))
    system = read_with("mamba-2", calibrated({"delta": delta}))
    gone = np.exp(system.poles[:, 0].real * delta).prod(axis=0)
    np.testing.assert_allclose(np.exp(system.poles[:, 0].real * system.step[:, 0] * 40), gone, rtol=1e-12)


def test_operating_point_goes_before_calibration(calibrated):
    options = calibrated({"delta": np.full(4, 0.5)}, operating_point=OperatingPoint(delta=np.array(0.125)))
    assert set(read_with("mamba-2", options).step.flat) == {0.125}


@pytest.mark.parametrize("name", ["mamba-1", "zamba", "mamba-2"])
def test_rms_residues_of_recordings_are_their_second_moments(name, calibrated, rng):
    shape = SHAPES[name][0]
    B, C = rng.normal(size=(2, 6, *shape))
    total = np.zeros_like(power(read(name)))
    for b in B:
        for c in C:
            total += power(read(name, operating_point=OperatingPoint(B=b, C=c))) / 36
    system = read_with(name, calibrated({"B": B, "C": C}, residues="rms"))
    np.testing.assert_allclose(power(system), total, rtol=1e-9)
    assert "6 recorded samples" in str(system.operating_point)


def test_recorded_delta_is_not_written_into_the_bias(calibrated):
    layer, options = layer_of("mamba-1"), calibrated({"delta": np.full(4, 0.5)})
    family = FAMILIES["mamba-1"]
    assert "dt_bias" not in family.write(layer, family.read(layer, options), options)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"delta": np.ones(3)}, "calibration delta has shape (3,), expected (4,), optionally with a leading axis of samples"),
        ({"B": np.ones((2, 2, 2))}, "calibration B has shape (2, 2, 2), expected (1, 3) or (3,)"),
        ({"delta": np.array([1, 1, np.nan, 1])}, "array delta holds NaN"),
        ({"delta": np.array([1, 1, -1, 1])}, "array delta must be positive; record it after the softplus"),
        ({"delta": np.array(["a"] * 4)}, "array delta: cannot be read as real numbers"),
        ({"delta": np.array([None] * 4)}, "array delta: cannot be read as real numbers"),
        ({"layers.1.mixer/delta": np.ones(4)}, f"layer {PREFIX}: calibration"),
    ],
)
def test_unfitting_calibration_is_one_clear_line(calibrated, arrays, words):
    with pytest.raises(LayerError, match=re.escape(words)) as caught:
        read_with("mamba-1", calibrated(arrays))
    assert "\n" not in str(caught.value)


def test_rms_of_means_is_refused(calibrated):
    with pytest.raises(LayerError, match="need recordings"):
        read_with("mamba-1", calibrated({"B": np.ones(3), "C": np.ones(3)}, residues="rms"))


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "cannot be read"), (b"PK\x03\x04nonsense", "cannot be read"), (b"\x93NUMPY", "cannot be read"), (None, "cannot")],
)
def test_file_that_is_no_npz_is_one_clear_line(tmp_path, content, words):
    if content is not None:
        (tmp_path / "c.npz").write_bytes(content)
    with pytest.raises(SsmspecError, match=words):
        open_calibration(tmp_path / "c.npz")


@pytest.mark.parametrize(("arrays", "words"), [({"a/gamma": np.ones(2)}, "'a/gamma' is unknown"), ({}, "has no arrays")])
def test_file_with_other_arrays_is_one_clear_line(tmp_path, arrays, words):
    np.savez(tmp_path / "c.npz", **arrays)
    with pytest.raises(SsmspecError, match=words):
        open_calibration(tmp_path / "c.npz")


# --- limits of the step ---


@pytest.mark.parametrize(
    ("config", "limits"),
    [
        ({"time_step_limit": [0.05, 0.1]}, (0.05, 0.1)),
        ({"time_step_limit": [0.05, {"__float__": "Infinity"}]}, (0.05, np.inf)),
        ({"ssm_cfg": {"layer": "Mamba2", "dt_limit": [0.05, 0.1]}}, (0.05, 0.1)),
        ({"model_type": "zamba2", "time_step_min": 0.08, "time_step_limit": [0.0, 1.0]}, (0.08, np.inf)),
        ({"time_step_limit": "nonsense"}, (0, np.inf)),
        ({"time_step_limit": [0.1, 0.05]}, (0, np.inf)),
        ({}, (0, np.inf)),
    ],
)
def test_limits_in_a_config_clamp_the_step_and_leave_the_bias(config, limits):
    layer, family = layer_of("mamba-2"), FAMILIES["mamba-2"]
    options = ReadOptions(config=config)
    (system,) = family.read(layer, options)
    bias = wide(make("mamba-2").tensors["dt_bias"])
    np.testing.assert_allclose(system.step[:, 0], np.clip(softplus(bias), *limits), rtol=1e-14)
    np.testing.assert_array_equal(family.write(layer, [system], options)["dt_bias"], bias)


def test_groups_that_divide_nothing_are_refused():
    with pytest.raises(LayerError, match="5 groups"):
        FAMILIES["mamba-2"].read(layer_of("mamba-2"), ReadOptions(config={"n_groups": 5}))


def test_an_unknown_number_of_groups_is_assumed_to_be_one_and_said():
    (system,) = FAMILIES["mamba-2"].read(layer_of("mamba-2"), ReadOptions(residues="rms"))
    assert any("one group" in line for line in system.assumptions)


# --- Mamba-3 ---


def mamba3_steps(tensors: dict[str, np.ndarray], u: np.ndarray) -> np.ndarray:
    """(heads, L): the recurrence of mamba3_siso_step_ref for zero projections, written out with its states."""
    dt = softplus(wide(tensors["dt_bias"]))
    B, C = (wide(tensors[name])[:, 0] for name in ("B_bias", "C_bias"))
    alpha, trap = np.exp(-1.0 * dt), 1 / (1 + np.exp(0.0))
    state, last, outputs = np.zeros_like(B), np.zeros_like(B), []
    for value in u:
        state = alpha[:, None] * state + ((1 - trap) * dt * alpha)[:, None] * last + (trap * dt)[:, None] * B * value
        last = B * value
        outputs.append((C * state).sum(axis=1) + wide(tensors["D"]) * value)
    return np.stack(outputs, axis=1)


def test_mamba_3_without_input_dependent_parts_is_its_recurrence():
    system = read("mamba-3")
    kernel = impulse_response(system, 30)[:, 0, 0]
    kernel[:, 0] += system.D[:, 0, 0]
    np.testing.assert_allclose(kernel, mamba3_steps(make("mamba-3").tensors, np.eye(30)[0]), rtol=1e-12, atol=1e-14)


def test_mamba_3_says_what_its_file_cannot_tell():
    lines = " ".join(read("mamba-3").assumptions)
    assert "depend on the input and are not stored" in lines
    assert "at most" in lines


def test_mamba_3_at_a_given_point_has_its_residues():
    heads, states = 4, 6
    B, C = np.random.default_rng(4).normal(size=(2, heads, states))
    system = read("mamba-3", operating_point=OperatingPoint(delta=np.array(0.1), B=B, C=C))
    np.testing.assert_allclose(impulse_response(system, 1)[:, 0, 0, 0], 0.1 * (B * C).sum(axis=1), rtol=1e-12)


def test_mamba_3_with_several_ranks_has_unit_residues_and_says_so():
    tensors = make("mamba-3").under(PREFIX)
    tensors |= {f"{PREFIX}.{name}": np.ones((4, 2, 6), np.float32) for name in ("B_bias", "C_bias")}
    (layer,) = detect(stored(tensors), FAMILIES.values()).layers
    (system,) = FAMILIES["mamba-3"].read(layer, ReadOptions())
    np.testing.assert_array_equal(2 * system.C.real, np.ones((4, 1, 1)))
    assert any("2 ranks" in line for line in system.assumptions)


def test_mamba_3_has_no_rms_residues_and_no_poles_to_write():
    with pytest.raises(LayerError, match="no rms residues"):
        read("mamba-3", residues="rms")
    layer, system = layer_of("mamba-3"), read("mamba-3")
    with pytest.raises(LayerError, match="no tensor can store new ones"):
        FAMILIES["mamba-3"].write(layer, [replace(system, poles=2 * system.poles)], ReadOptions())
