"""Recordings with samples, made with hooks of one's own on tiny random models of transformers."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ssmspec.commands.analyze import AnalysisOptions, analyze  # noqa: E402 - only useful where transformers is
from ssmspec.families import ReadOptions  # noqa: E402
from ssmspec.families.selective.calibration import open_calibration  # noqa: E402


def record_mamba1(model, tokens) -> dict[str, np.ndarray]:
    """Delta, B and C of every Mamba-1 layer for a batch of tokens: (samples, channels) and (samples, states)."""
    recorded = {}

    def hook(name, mixer):
        def keep(module, inputs, output):  # output: (batch, time, rows of dt, B, C)
            dt, B, C = output.flatten(0, 1).split([mixer.time_step_rank, mixer.ssm_state_size, mixer.ssm_state_size], dim=-1)
            recorded[f"{name}/delta"] = torch.nn.functional.softplus(mixer.dt_proj(dt)).float().numpy()
            recorded[f"{name}/B"], recorded[f"{name}/C"] = B.float().numpy(), C.float().numpy()

        return keep

    handles = [m.x_proj.register_forward_hook(hook(name, m)) for name, m in model.named_modules() if hasattr(m, "x_proj")]
    with torch.no_grad():
        model(tokens)
    for handle in handles:
        handle.remove()
    return recorded


def record_mamba2(model, tokens) -> dict[str, np.ndarray]:
    """The same for Mamba-2: Delta (samples, heads), and B and C (samples, groups x states) behind the convolution."""
    recorded = {}

    def hook(name, mixer):
        def keep(module, inputs, output):  # output: (batch, time, rows of z, x, B, C, dt)
            xBC, dt = output.split([output.shape[-1] - mixer.num_heads, mixer.num_heads], dim=-1)
            xBC = xBC[..., -mixer.conv_dim :].transpose(1, 2)
            xBC = mixer.act(mixer.conv1d(xBC)[..., : xBC.shape[-1]]).transpose(1, 2).flatten(0, 1)
            B, C = xBC[:, mixer.intermediate_size :].chunk(2, dim=-1)
            recorded[f"{name}/delta"] = torch.nn.functional.softplus(dt + mixer.dt_bias).flatten(0, 1).float().numpy()
            recorded[f"{name}/B"], recorded[f"{name}/C"] = B.float().numpy(), C.float().numpy()

        return keep

    handles = [m.in_proj.register_forward_hook(hook(name, m)) for name, m in model.named_modules() if hasattr(m, "dt_bias")]
    with torch.no_grad():
        model(tokens)
    for handle in handles:
        handle.remove()
    return recorded


@pytest.mark.parametrize("family", ["mamba-1", "mamba-2"])
def test_recorded_statistics_are_read_back(tmp_path: Path, family: str) -> None:
    torch.manual_seed(3)
    common = {"vocab_size": 16, "hidden_size": 8, "state_size": 4, "num_hidden_layers": 2}
    if family == "mamba-1":
        model, record = transformers.MambaForCausalLM(transformers.MambaConfig(**common)), record_mamba1
    else:
        config = transformers.Mamba2Config(**common, num_heads=4, head_dim=4, n_groups=2, chunk_size=8)
        model, record = transformers.Mamba2ForCausalLM(config), record_mamba2
    recorded = record(model.eval(), torch.arange(16)[None])
    assert {key.rsplit("/")[-1]: value.shape[0] for key, value in recorded.items()} == {"delta": 16, "B": 16, "C": 16}
    np.savez(tmp_path / "c.npz", **recorded)
    model.save_pretrained(tmp_path / "model")
    for residues in ("unit", "rms"):
        options = ReadOptions(calibration=open_calibration(tmp_path / "c.npz"), residues=residues)
        layers = analyze(tmp_path / "model", AnalysisOptions(points=16, read=options)).layers
        assert [layer.name for layer in layers] == ["backbone.layers.0.mixer", "backbone.layers.1.mixer"]
        for layer in layers:
            assert layer.problem is None
            assert "16 recorded samples" in layer.operating_point
            mean = recorded[f"{layer.name}/delta"].astype(float).mean(axis=0)
            assert layer.step_range == pytest.approx((mean.min(), mean.max()))
            assert layer.over_tokens is not None
            ratios = np.quantile(recorded[f"{layer.name}/delta"].astype(float), (0.95, 0.5, 0.05), axis=0) / mean
            rates = -layer.poles.real.max(axis=1) * mean  # of the slowest pole, per token
            np.testing.assert_allclose(layer.over_tokens.half_lives, np.log(2) / (rates * ratios), rtol=1e-9)
