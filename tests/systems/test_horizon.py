"""Kernels of a finite length, of poles inside and outside of the unit circle: against the recurrence, its DFT and its integrals."""

import json
from pathlib import Path

import numpy as np
import pytest
from program import Type
from safetensors.numpy import save_file

from ssmspec.families import FAMILIES, ReadOptions, detect
from ssmspec.families.layers import read_layer
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.horizon import first_samples
from ssmspec.systems.statespace import StateSpace

LENGTH = 300
THETA = np.array([1e-6, 1e-3, 0.1, 0.7, 1.5, 3.0, np.pi])
Z = np.array([[0.9, 0.5j, 0.7 - 0.2j], [1.01, 0.8 * np.exp(0.7j), 1.002 * np.exp(1.5j)], [1.0, np.exp(0.7j), 0.3]])
R = np.array([[1 + 1j, 2, -0.5j], [0.3, -1 + 2j, 0.1 + 0.1j], [1, 1j, 2]])


def tensors() -> dict[str, np.ndarray]:
    """Evo 1 in float64: rows with decaying poles, with growing ones, and with poles on the circle, two of them on the grid itself."""
    pairs = {name: np.stack([values.real, values.imag], -1)[:, :, None] for name, values in (("poles", Z), ("residues", R))}
    return pairs | {"D": np.array([0.5, 0.0, -1.0])}


class Held:
    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape, str(values.dtype)

    def read(self, rows: slice | None = None) -> np.ndarray:
        return self.values if rows is None else self.values[rows]


@pytest.fixture
def system() -> StateSpace:
    (layer,) = detect({f"f.{name}": Held(values) for name, values in tensors().items()}, FAMILIES.values()).layers
    (found,) = read_layer(FAMILIES["evo-1"], layer, ReadOptions())
    return found


def kernel(length: int = LENGTH) -> np.ndarray:
    """The recurrence, sample by sample."""
    state, samples = np.ones_like(Z), []
    for _ in range(length):
        samples.append((R * state).sum(axis=1).real)
        state = Z * state
    return np.stack(samples, axis=1)


def test_response_is_the_sum_over_the_samples(system: StateSpace) -> None:
    expected = kernel() @ np.exp(-1j * np.outer(np.arange(LENGTH), THETA))
    found = first_samples(system, LENGTH).response(FrequencyGrid(THETA, "theta")).dynamic[:, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_response_of_a_decaying_copy_over_a_long_horizon_is_its_transfer_function(system: StateSpace) -> None:
    from ssmspec.backends.reference import cauchy_sum
    from ssmspec.systems.response import frequency_response

    part = system.pick([0])
    expected = frequency_response(part, FrequencyGrid(THETA, "theta"), cauchy_sum).dynamic
    found = first_samples(part, 4000).response(FrequencyGrid(THETA, "theta")).dynamic
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_energy_is_that_of_the_kernel(system: StateSpace) -> None:
    np.testing.assert_allclose(first_samples(system, LENGTH).energy(), (kernel() ** 2).sum(axis=1), rtol=1e-12)


# --- commands ---


@pytest.fixture
def file(tmp_path: Path) -> str:
    save_file({f"blocks.0.filter.{name}": values for name, values in tensors().items()}, tmp_path / "evo.safetensors")
    return str(tmp_path / "evo.safetensors")


def layer_of(typed: Type, *arguments: str) -> dict:
    return json.loads(typed("analyze", *arguments, "--json").out)["layers"][0]


def test_without_a_horizon_growing_copies_have_no_numbers_and_the_reason_names_it(typed: Type, file: str) -> None:
    layer = layer_of(typed, file)
    assert (layer["sound_copies"], layer["copies"]) == (1, 3)
    assert any("--horizon L" in note for note in layer["notes"])


def test_with_a_horizon_all_copies_have_those_of_the_kernel(typed: Type, file: str) -> None:
    layer = layer_of(typed, file, "--horizon", str(LENGTH))
    assert (layer["sound_copies"], layer["problem"]) == (3, None)
    points = 1 << 16
    power = np.abs(np.fft.rfft(kernel(), 2 * points, axis=1)) ** 2
    theta = np.pi * np.arange(points + 1) / points
    centroids = np.trapezoid(power * theta, theta, axis=1) / np.trapezoid(power, theta, axis=1)
    assert layer["statistics"]["centroid"]["median"] == pytest.approx(np.median(centroids), rel=1e-6)
    low = theta <= np.pi / 4 + 1e-12
    shares = np.trapezoid(power[:, low], theta[low], axis=1) / np.trapezoid(power, theta, axis=1)
    assert layer["statistics"]["low_frequency_share"]["median"] == pytest.approx(np.median(shares), rel=1e-6)
    peaks = np.sqrt(power.max(axis=1))
    assert layer["statistics"]["peak_gain"]["median"] == pytest.approx(np.median(peaks), rel=1e-6)
    assert layer["statistics"]["bias_slope"]["median"] is None
    assert "--horizon" in layer["statistics"]["bias_slope"]["reason"]
    energy = (kernel() ** 2).sum(axis=1)
    assert any(f"2 of 3 copies have poles that do not decay: all numbers are those of the kernel of {LENGTH}" in n for n in layer["notes"])
    assert any(f"its energy has median {np.median(energy):.3g}" in note for note in layer["notes"])


def test_kernel_that_leaves_the_range_of_double_precision_has_no_numbers(typed: Type, file: str) -> None:
    layer = layer_of(typed, file, "--horizon", "100000")
    assert (layer["sound_copies"], layer["problem"]) == (2, None)
    assert any("are NaN or infinite within the first 100000 samples" in note for note in layer["notes"])


def test_response_with_a_horizon_is_written_with_the_skip_and_said(typed: Type, file: str, tmp_path: Path) -> None:
    done = typed("response", file, "--layer", "0", "-o", str(tmp_path / "h.npz"), "--horizon", str(LENGTH))
    found = np.load(tmp_path / "h.npz")
    expected = kernel() @ np.exp(-1j * np.outer(np.arange(LENGTH), found["theta"])) + tensors()["D"][:, None]
    np.testing.assert_allclose(found["H"][:, 0, 0], expected, rtol=0, atol=1e-11 * np.abs(expected).max())
    assert f"the response is that of the kernel of {LENGTH} samples (--horizon)" in done.err


def test_horizon_over_model_time_is_refused(typed: Type, file: str, tmp_path: Path) -> None:
    done = typed("response", file, "--layer", "0", "-o", str(tmp_path / "h.npz"), "--horizon", "9", "--axis", "omega")
    assert done.code == 2
    assert "over theta only" in done.err


def test_horizon_where_all_poles_decay_is_said_to_cut_nothing(typed: Type, tmp_path: Path) -> None:
    values = {f"f.{name}": rows[:1] for name, rows in tensors().items()}
    save_file(values, tmp_path / "sound.safetensors")
    assert (
        "--horizon 64: all poles decay, so no kernel was cut"
        in typed("analyze", str(tmp_path / "sound.safetensors"), "--horizon", "64").out
    )


def test_check_reports_the_pole(typed: Type, file: str) -> None:
    done = typed("check", file)
    assert done.code == 1
    assert "unstable-pole" in done.out
