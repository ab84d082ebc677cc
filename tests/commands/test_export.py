"""`ssmspec export`: the matrices in the file are the layer, as SciPy sees them."""

from pathlib import Path

import numpy as np
import pytest
from locations import SAMPLES
from program import Type, checkpoint, s4d_tensors
from scipy import signal
from scipy.io import loadmat

from ssmspec.backends import load_backend
from ssmspec.families import ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.response import frequency_response, impulse_response

FILES = (
    "s4d_trained.safetensors",
    "s4_dplr_trained.pt",
    "s5_trained.msgpack",
    "lru_trained.npz",
    "mamba1_trained.safetensors",
    "mamba2_trained",
)
THETA = np.geomspace(1e-3, np.pi, 40)


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
@pytest.mark.parametrize("name", FILES)
def test_python_control_finds_the_frequency_response_of_the_layer_in_the_file(typed: Type, tmp_path: Path, name: str, suffix: str) -> None:
    import control

    path, system = SAMPLES / name, load_system(SAMPLES / name, "0", ReadOptions())
    copies = (0, system.copies - 1)
    grid = FrequencyGrid(THETA, "theta")
    wanted = frequency_response(system, grid, load_backend("reference"), with_beta=False).total
    for copy in copies:
        done = typed("export", path, "--layer", 0, "--copy", copy, "-o", f"x{suffix}")
        assert done.code == 0, done.err
        found = np.load(tmp_path / "x.npz") if suffix == ".npz" else loadmat(tmp_path / "x.mat")
        A, B, C, D = (np.atleast_2d(found[letter]) for letter in "ABCD")
        H = control.ss(A, B, C, D, True)(np.exp(1j * THETA), squeeze=False)
        np.testing.assert_allclose(H, wanted[copy], rtol=0, atol=1e-10 * np.abs(wanted[copy]).max())


def test_scipy_finds_the_frequency_response_of_the_layer_in_the_file(typed: Type, tmp_path: Path) -> None:
    steps = {"layers.0.kernel.log_dt": np.log([0.3, 0.5, 0.8, 1.0]).astype(np.float32)}
    path = checkpoint(tmp_path, s4d_tensors(H=4, N=3) | steps)  # SciPy goes through polynomials: poles near z = 1 would lose their digits
    wanted = frequency_response(load_system(path, "0", ReadOptions()), FrequencyGrid(THETA, "theta"), load_backend("reference")).total
    assert typed("export", path, "--layer", 0, "-o", "x.mat").code == 0
    found = loadmat(tmp_path / "x.mat")
    for copy in range(4):
        H = signal.dfreqresp((*(found[letter][copy] for letter in "ABCD"), 1), THETA)[1]
        np.testing.assert_allclose(H, wanted[copy, 0, 0], rtol=0, atol=1e-9 * np.abs(wanted[copy]).max())


@pytest.mark.parametrize("name", FILES)
def test_markov_parameters_of_the_matrices_are_the_kernel(typed: Type, tmp_path: Path, name: str) -> None:
    system = load_system(SAMPLES / name, "0", ReadOptions())
    assert typed("export", SAMPLES / name, "--layer", 0, "-o", "x.npz").code == 0
    found = np.load(tmp_path / "x.npz")
    A, B, C, D = (found[letter] if system.copies > 1 else found[letter][None] for letter in "ABCD")
    kernel = impulse_response(system, 9)
    scale = np.abs(kernel).max()
    np.testing.assert_allclose(D, kernel[..., 0] + system.D, atol=1e-12 * scale)
    for l in range(1, 9):
        np.testing.assert_allclose(C @ np.linalg.matrix_power(A, l - 1) @ B, kernel[..., l], atol=1e-11 * scale)


def test_sampling_the_continuous_matrices_gives_the_discrete_ones(typed: Type, tmp_path: Path) -> None:
    for name, method in (("s4d_trained.safetensors", "zoh"), ("s4_dplr_trained.pt", "bilinear")):
        assert typed("export", SAMPLES / name, "--layer", 0, "--copy", 1, "-o", "x.npz").code == 0
        found = dict(np.load(tmp_path / "x.npz"))
        assert str(found["discretization"]) == method
        step = float(found["step"].ravel()[0])
        parts = [found[f"{letter}_continuous"] for letter in "ABCD"]
        A, *_ = signal.cont2discrete(parts, step, method)
        np.testing.assert_allclose(A, found["A"], atol=1e-12)


def test_real_layers_have_one_state_per_mode_and_stored_discrete_poles_no_continuous_matrices(typed: Type, tmp_path: Path) -> None:
    assert typed("export", SAMPLES / "mamba1_trained.safetensors", "--layer", 0, "--copy", 0, "-o", "x.npz").code == 0
    system = load_system(SAMPLES / "mamba1_trained.safetensors", "0", ReadOptions())
    assert np.load(tmp_path / "x.npz")["A"].shape == (system.modes, system.modes)
    done = typed("export", SAMPLES / "lru_trained.npz", "--layer", 0, "-o", "y.npz")
    assert "stores discrete poles, so there are no continuous matrices" in done.err
    assert "A_continuous" not in np.load(tmp_path / "y.npz")


def test_what_cannot_be_exported_is_one_line(typed: Type, tmp_path: Path) -> None:
    path = SAMPLES / "s4d_trained.safetensors"
    (tmp_path / "weights.mat").write_bytes(b"mine")
    for arguments, text in (
        (("--layer", 0, "-o", "x.txt"), "matrices are written as .npz or .mat"),
        (("--layer", 0, "--copy", 16, "-o", "x.npz"), "has no copy 16; choose one of 0..15"),
        (("--layer", 7, "-o", "x.npz"), "7"),
        (("--layer", 0, "-o", "weights.mat"), "it exists and is not a MATLAB file"),
    ):
        done = typed("export", path, *arguments)
        assert done.code == 2
        assert text in done.err
    assert (tmp_path / "weights.mat").read_bytes() == b"mine"


def test_a_kernel_of_ones_own_is_compared(typed: Type, tmp_path: Path) -> None:
    path = SAMPLES / "s4d_trained.safetensors"
    kernel = impulse_response(load_system(path, "0", ReadOptions()), 32)[:, 0, 0]
    changed = kernel.copy()
    changed[3, 17] += 0.25
    np.save(tmp_path / "mine.npy", changed)
    done = typed("impulse", path, "--layer", 0, "--length", 64, "--against", "mine.npy")
    assert done.code == 0, done.err
    size = np.abs(kernel).max()
    assert f"largest difference to mine.npy: 0.25, {0.25 / size:.3g} of the largest value, at copy 3" in done.out
    assert "sample 17; 32 samples compared" in done.out
    np.save(tmp_path / "mine.npy", kernel[:5])
    refused = typed("impulse", path, "--layer", 0, "--length", 64, "--against", "mine.npy")
    assert refused.code == 2
    assert "has shape (5, 32); expected (16, 1, 1, 64), with or without axes of size one" in refused.err
    assert "-o, or compare it with --against" in typed("impulse", path, "--layer", 0, "--length", 8).err
