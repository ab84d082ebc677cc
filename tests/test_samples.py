"""The committed sample checkpoints: readable, what their README says, and made by their command."""

import sys

import numpy as np
import pytest
from locations import SAMPLES

from ssmspec.analysis import analyze
from ssmspec.checkpoint import open_checkpoint

FILES = {
    "s4d_initial.safetensors": ("s4d", 2),
    "s4d_trained.safetensors": ("s4d", 2),
    "s4_dplr_trained.pt": ("s4-dplr", 2),
    "s5_trained.msgpack": ("s5", 2),
    "lru_trained.npz": ("lru", 2),
    "mamba1_trained.safetensors": ("mamba-1", 2),
    "mamba2_trained": ("mamba-2", 2),
}


@pytest.mark.parametrize("name", FILES)
def test_sample_is_read_as_its_family(name: str) -> None:
    family, layers = FILES[name]
    found = analyze(SAMPLES / name)
    assert [layer.family for layer in found.layers] == [family] * layers
    for layer in found.layers:
        assert layer.problem is None
        assert all(summary.median is not None or summary.reason for summary in layer.statistics.values())
        assert layer.statistics["bias_slope"].median is not None


@pytest.mark.parametrize("name", FILES)
def test_sample_is_small(name: str) -> None:
    assert open_checkpoint(SAMPLES / name).size < 60_000


@pytest.mark.slow
def test_the_command_in_the_readme_still_makes_the_s4d_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Same torch, any machine: rounding differences of 1e-12 grow to 1e-9 in the poles over the training, far below this bound."""
    monkeypatch.syspath_prepend(str(SAMPLES))
    try:
        from make import as_float32, train_family

        state = as_float32(train_family("s4d", seed=0).model.state_dict())
    finally:
        for name in ("make", "models", "s5", "inits", "training", "containers"):
            sys.modules.pop(name, None)
    stored = open_checkpoint(SAMPLES / "s4d_trained.safetensors").tensors
    assert set(stored) == set(state)
    for name in stored:
        if name.endswith(("log_A_real", "A_imag", "log_dt")):
            np.testing.assert_allclose(state[name].numpy(), stored[name].read(), rtol=1e-4, atol=1e-4)
