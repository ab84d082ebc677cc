"""What is special about the S4 generations other than v4: their own kernels, and what their files do not hold."""

import factories
import numpy as np
import pytest
from examples_s4_history import diag_v3_truths, v1, v1_truth
from factories import Example, joined, make, wide

from ssmspec.errors import LayerError
from ssmspec.families import FAMILIES, LayerTensors, ReadOptions, detect
from ssmspec.families.layers import read_layer
from ssmspec.systems.response import impulse_response
from ssmspec.systems.statespace import StateSpace
from ssmspec.systems.trust import untrustworthy


def layer_of(tensors: dict[str, np.ndarray]) -> LayerTensors:
    (layer,) = detect(factories.stored(tensors), FAMILIES.values()).layers
    return layer


def read(tensors: dict[str, np.ndarray], **options: object) -> list[StateSpace]:
    layer = layer_of(tensors)
    return read_layer(FAMILIES[layer.family], layer, ReadOptions(**options))


def poisoned(example: Example, suffix: str, value: float) -> dict[str, np.ndarray]:
    tensors = dict(example.tensors)
    tensors[suffix] = tensors[suffix].copy()
    tensors[suffix].flat[1] = value
    return tensors


def cauchy(v: np.ndarray, g: np.ndarray, w: np.ndarray) -> np.ndarray:
    """sum_n v_n/(g - w_n) over the last axis of v and w, for every g; (.., L)."""
    return (v[..., None] / (g - w[..., None])).sum(-2)


def assert_kernel(actual: np.ndarray, expected: np.ndarray) -> None:
    """The stored float32 nodes are not used, so that only float64 roundings are left."""
    assert np.abs(actual - expected).max() <= 1e-10 * np.abs(expected).max()


# --- the frequency-domain kernels of the original code, in its own steps ---


@pytest.mark.parametrize("length", [32, 31])
def test_v1_kernel_is_the_inverse_fft_over_the_nodes_of_the_file(length):
    """SSKernelNPLR.forward of v1; an FFT of all L samples where L is odd."""
    tensors = v1(np.random.default_rng(1), rank=1, tied=True, length=length).tensors
    part = {name.rsplit(".", 1)[-1]: values for name, values in tensors.items()}
    dt, w, B, C = np.exp(wide(part["log_dt"]))[:, None], joined(part["w"]), joined(part["B"]), joined(part["C"])
    node = np.exp(-2j * np.pi * np.arange(length // 2 + 1) / length)
    node[length // 2] += 1e-12 * (length % 2 == 0)  # the formula is singular at Nyquist
    g = 2 * (1 - node) / (1 + node)
    v = B[None, None] * C[:, :, None].conj()  # (H, [C, q], [B, p], N)
    completed = np.concatenate([v, v.conj()], axis=-1)
    poles = np.concatenate([w, w.conj()]) * dt
    r = cauchy(completed, g, poles[:, None, None]) * dt[..., None, None]
    response = (r[:, 0, 0] - r[:, 0, 1] * r[:, 1, 0] / (1 + r[:, 1, 1])) * 2 / (1 + node)
    (system,) = read(tensors)
    assert np.abs(impulse_response(system, length)[:, 0, 0] - np.fft.irfft(response, n=length)).max() <= 1e-9 * np.abs(response).max()
    assert any("odd" in line for line in system.assumptions) == (length % 2 == 1)


def test_annotated_kernel_is_the_inverse_fft_of_its_generating_function():
    """kernel_DPLR of annotated-s4 at an odd length, which has no node at the singular z = -1."""
    tensors, length = make("annotated-s4").tensors, 21
    Lambda = (wide(tensors["Lambda_re"]) + 1j * wide(tensors["Lambda_im"])).T
    P, B, C = tensors["P"].astype(complex).T, tensors["B"].astype(complex).T, joined(tensors["C"]).T
    node = np.exp(-2j * np.pi * np.arange(length) / length)
    step = np.exp(wide(tensors["log_step"])).T
    g = (2 / step)[..., None] * (1 - node) / (1 + node)
    k00, k01, k10, k11 = (cauchy(a.conj() * b, g[:, 0, None, :], Lambda) for a in (C, P) for b in (B, P))
    kernel = np.fft.ifft(2 / (1 + node) * (k00 - k01 * k10 / (1 + k11))).real
    (system,) = read(tensors, length=length)
    assert_kernel(impulse_response(system, length)[:, 0, 0], kernel)


@pytest.mark.parametrize("length", [5, 40])
def test_dss_softmax_kernel_is_the_weighted_softmax(length):
    """dss_kernel of annotated-s4: (W/Lambda) @ softmax; the epsilon of the reciprocal is 1e-7 beside |(z^L - 1) Lambda|^2 > 0.01."""
    tensors = make("dss-softmax-bidirectional").tensors
    Lambda, W = joined(tensors["kernel.Lambda"]), joined(tensors["kernel.W"])
    waves = np.exp(np.exp(wide(tensors["kernel.log_dt"]))[:, None, None] * Lambda[:, None] * np.arange(length))
    kernel = np.einsum("chn,hnl->chl", W / Lambda, waves / waves.sum(-1, keepdims=True)).real
    for system, expected in zip(read(tensors, length=length), kernel, strict=True):
        actual = impulse_response(system, length)[:, 0, 0]
        assert np.abs(actual - expected).max() <= 2e-5 * np.abs(expected).max()


def test_h3_shift_kernel_is_named_and_left_out():
    example = make("h3")
    (system,) = read(example.tensors)
    assert any("shift" in line and "5 taps" in line for line in system.assumptions)
    changed = example.tensors | {"ssm_k_kernel.kernel.C": 2 * example.tensors["ssm_k_kernel.kernel.C"]}
    assert np.array_equal(read(changed)[0].C, system.C)


# --- what a file does not hold ---


@pytest.mark.parametrize("name", ["dss-softmax", "annotated-s4"])
def test_kernel_that_depends_on_an_unknown_length_asks_for_it(name):
    with pytest.raises(LayerError, match=r"root.*--length"):
        read(make(name).tensors)


@pytest.mark.parametrize("name", ["dss-exp", "dss-exp-re-im", "annotated-s4d", "h3", "s4-diag-v3"])
def test_kernel_that_does_not_depend_on_a_length_ignores_it(name):
    tensors = make(name).tensors
    assert np.array_equal(read(tensors, length=7)[0].C, read(tensors)[0].C)


def test_v1_without_nodes_asks_for_the_length():
    example = make("s4-nplr-v1")
    tensors = {name: values for name, values in example.tensors.items() if not name.endswith("nodes")}
    with pytest.raises(LayerError, match="--length"):
        read(tensors)
    assert_kernel(impulse_response(read(tensors, length=32)[0], 50), example.truths[0].impulse(50))


@pytest.mark.parametrize(("name", "length"), [("s4-nplr-v1", 17), ("s4-nplr-v1-untied", 64)])
def test_given_length_takes_the_place_of_the_nodes(name, length):
    tensors = make(name).tensors
    (system,) = read(tensors, length=length)
    assert_kernel(impulse_response(system, 50), v1_truth(tensors, length).impulse(50))


@pytest.mark.parametrize("name", ["s4-diag-v3", "s4-diag-v2"])
def test_diagonal_v3_by_zoh_is_the_zoh_recurrence(name):
    tensors = make(name).tensors
    (system,) = read(tensors, assume={"discretization": "zoh"})
    (truth,) = diag_v3_truths(tensors, rule="zoh")
    assert_kernel(impulse_response(system, 50), truth.impulse(50))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("s4-nplr-v3", ("s4_real_transform=exp",)),
        ("s4-diag-v3", ("s4_real_transform=exp", "discretization=bilinear")),
        ("s4-diag-v2", ("bilinear",)),
        ("h3", ("s4_real_transform=exp", "discretization=bilinear")),
        ("dss-softmax", ("clip", "two steps")),
        ("dss-exp", ("exp-no-scale",)),
    ],
)
def test_what_is_assumed_is_said(name, words):
    example = make(name)
    for system in read(example.tensors, length=example.length):
        assert all(any(word in line for line in system.assumptions) for word in words)


# --- values that cannot be trusted, and systems that cannot be written ---


@pytest.mark.parametrize(("name", "suffix"), [("annotated-s4", "Lambda_re"), ("annotated-s4d", "A_re")])
def test_growing_poles_of_the_annotated_s4_are_clipped_as_its_code_does_and_that_is_said(name, suffix):
    (system,) = read(poisoned(make(name), suffix, 0.5), length=20)
    assert system.poles.real.max() == -1e-4
    assert any("clipped" in line for line in system.assumptions)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("s4-nplr-v1", "kernel.krylov.w"),
        ("s4-nplr-v1", "kernel.krylov.C"),
        ("s4-nplr-v3", "kernel.kernel.inv_w_real"),
        ("s4-diag-v3", "kernel.kernel.A_imag"),
        ("h3", "kernel.kernel.log_dt"),
        ("dss-softmax", "kernel.Lambda"),
        ("dss-softmax", "kernel.log_dt"),
        ("dss-exp", "kernel.W"),
        ("annotated-s4", "Lambda_im"),
        ("annotated-s4", "P"),
        ("annotated-s4", "C"),
        ("dss-softmax", "kernel.W"),
        ("annotated-s4d", "log_step"),
    ],
)
def test_layer_with_a_value_that_is_not_finite_is_read_and_not_trusted(name, suffix, value):
    systems = read(poisoned(make(name), suffix, value), length=20)
    assert any(isinstance(untrustworthy(system), str) for system in systems)


def test_growing_pole_of_dss_is_read_and_not_trusted():
    example = make("dss-softmax")
    (system,) = read(poisoned(example, "kernel.Lambda", 0.0) | {"kernel.Lambda": -example.tensors["kernel.Lambda"]}, length=12)
    assert "do not decay" in str(untrustworthy(system))


@pytest.mark.parametrize(
    ("name", "part", "match"), [("s4-nplr-v1", "poles", "change together"), ("dss-exp", "poles", "change them together")]
)
def test_shared_poles_that_were_changed_differently_cannot_be_written(name, part, match):
    layer = layer_of(make(name).tensors)
    family = FAMILIES[layer.family]
    system = family.read(layer, ReadOptions())[0]
    system.poles[...] *= np.linspace(0.9, 1.1, system.copies)[:, None]
    with pytest.raises(LayerError, match=match):
        family.write(layer, [system], ReadOptions())


def test_low_rank_part_of_the_annotated_s4_that_is_no_single_column_cannot_be_written():
    layer = layer_of(make("annotated-s4").tensors)
    family, options = FAMILIES[layer.family], ReadOptions(length=20)
    (system,) = family.read(layer, options)
    assert system.P is not None
    system.P[:, :, 1] *= 2
    with pytest.raises(LayerError, match=r"\[P, iP\] for one matrix P, and must stay so"):
        family.write(layer, [system], options)
