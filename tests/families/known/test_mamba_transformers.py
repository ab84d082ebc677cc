"""Mamba-1 and Mamba-2 against the modules of transformers, which run their slow path here.

A mixer becomes linear in its input when nothing it selects with depends on the input: the convolution is an identity without activation,
the gate is a constant that is divided out, and B, C and Delta come from biases. Weights alone do that; no method is replaced.
"""

import numpy as np
import pytest
from factories import stored

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5.0")

from ssmspec.commands.analyze import AnalysisOptions, analyze  # noqa: E402 - only useful where transformers is
from ssmspec.families import FAMILIES, OperatingPoint, ReadOptions, detect  # noqa: E402
from ssmspec.systems.response import impulse_response  # noqa: E402
from ssmspec.systems.statespace import StateSpace  # noqa: E402

GATE = 1.3  # what the gate branch holds, before its silu
STEPS = 24


@pytest.fixture
def double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers calls .float() on A and B even in a double model; here that keeps float64, so that the algebra is what is compared."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def fill(parameter, values: np.ndarray | float) -> None:
    with torch.no_grad():
        parameter.copy_(torch.as_tensor(values, dtype=parameter.dtype).expand_as(parameter))


def identity_convolution(mixer) -> None:
    """Only the newest sample, no bias, no activation."""
    fill(mixer.conv1d.weight, 0.0)
    fill(mixer.conv1d.weight[:, :, -1], 1.0)
    fill(mixer.conv1d.bias, 0.0)
    mixer.activation = None


def run(mixer, hidden: np.ndarray) -> np.ndarray:
    """Output (L, d) of the mixer for one sequence of hidden states (L, m)."""
    with torch.no_grad():
        return mixer(torch.as_tensor(hidden, dtype=mixer.in_proj.weight.dtype)[None])[0].double().numpy()


def read_mixer(mixer, point: OperatingPoint | None) -> StateSpace:
    tensors = stored({f"layers.0.mixer.{name}": tensor.numpy() for name, tensor in mixer.state_dict().items()})
    (layer,) = detect(tensors, FAMILIES.values()).layers
    (system,) = FAMILIES[layer.family].read(layer, ReadOptions(operating_point=point))
    return system


def kernel_with_skip(system: StateSpace) -> np.ndarray:
    """(K, L): what one copy answers to one impulse."""
    kernel = impulse_response(system, STEPS)
    kernel[..., 0] += system.D
    return kernel[:, 0, 0]


def mamba1_mixer(rng: np.random.Generator, dt_rows: float, dtype=torch.float64):
    """A mixer whose channel 0 always holds 1 and drives x_proj; the others hold the first hidden unit. Also its B, C and Delta."""
    config = transformers.MambaConfig(
        vocab_size=16, hidden_size=4, state_size=3, num_hidden_layers=1, time_step_rank=2, use_bias=True, use_cache=False
    )
    mixer = transformers.MambaModel(config).eval().to(dtype).layers[0].mixer
    d, N = config.intermediate_size, config.state_size
    identity_convolution(mixer)
    u_of_hidden, bias = np.zeros((2 * d, 4)), np.zeros(2 * d)
    u_of_hidden[1:d, 0] = 1.0
    bias[0], bias[d:] = 1.0, GATE
    fill(mixer.in_proj.weight, u_of_hidden)
    fill(mixer.in_proj.bias, bias)
    selected = np.zeros((2 + 2 * N, d))
    selected[:2, 0] = dt_rows * rng.normal(size=2)
    selected[2:, 0] = rng.normal(size=2 * N)
    fill(mixer.x_proj.weight, selected)
    fill(mixer.dt_proj.weight, rng.normal(size=(d, 2)))
    fill(mixer.dt_proj.bias, rng.uniform(-2.5, -0.5, d))
    fill(mixer.A_log, np.log(rng.uniform(0.5, 6.0, (d, N))))
    fill(mixer.D, rng.normal(size=d))
    mixer.out_proj = torch.nn.Identity()
    rows = mixer.x_proj.weight.detach().double().numpy()[:, 0]
    before = mixer.dt_proj.weight.detach().double().numpy() @ rows[:2] + mixer.dt_proj.bias.detach().double().numpy()
    return mixer, OperatingPoint(delta=np.log1p(np.exp(before)), B=rows[2 : 2 + N], C=rows[2 + N :])


def mamba1_response(mixer) -> np.ndarray:
    """(d - 1, L): the answer of every channel but the constant one to an impulse in the first hidden unit, without the gate."""
    impulse = np.zeros((STEPS, 4))
    impulse[0, 0] = 1.0
    silu = GATE / (1 + np.exp(-GATE))
    return run(mixer, impulse)[:, 1:].T / silu


@pytest.mark.usefixtures("double_precision")
def test_mamba_1_mixer_answers_an_impulse_as_the_frozen_system_says():
    mixer, point = mamba1_mixer(np.random.default_rng(1), dt_rows=0.5)
    assert np.allclose(kernel_with_skip(read_mixer(mixer, point))[1:], mamba1_response(mixer), rtol=1e-8, atol=1e-12)


@pytest.mark.usefixtures("double_precision")
def test_mamba_1_bias_point_is_the_step_where_the_selected_part_is_zero():
    mixer, point = mamba1_mixer(np.random.default_rng(2), dt_rows=0.0)
    system = read_mixer(mixer, OperatingPoint(B=point.B, C=point.C))
    assert np.allclose(kernel_with_skip(system)[1:], mamba1_response(mixer), rtol=1e-8, atol=1e-12)


def test_mamba_1_mixer_in_its_own_precision_agrees_to_single_rounding():
    mixer, point = mamba1_mixer(np.random.default_rng(3), dt_rows=0.5, dtype=torch.float32)
    expected = kernel_with_skip(read_mixer(mixer, point))[1:]
    assert np.abs(mamba1_response(mixer) - expected).max() < 1e-5 * np.abs(expected).max()


class WithoutNorm(torch.nn.Module):
    """Replaces the gated normalization, which is not linear."""

    def forward(self, hidden, gate):
        return hidden


def mamba2_mixer(rng: np.random.Generator, dt_bias: float):
    """A mixer whose channels all hold the first hidden unit, with B, C and the rest of Delta from biases."""
    config = transformers.Mamba2Config(
        vocab_size=16,
        hidden_size=4,
        num_heads=4,
        head_dim=2,
        state_size=3,
        n_groups=2,
        num_hidden_layers=1,
        chunk_size=8,
        use_bias=True,
        use_cache=False,
    )
    mixer = transformers.Mamba2Model(config).eval().double().layers[0].mixer
    d, heads, both = mixer.intermediate_size, mixer.num_heads, mixer.n_groups * mixer.ssm_state_size
    identity_convolution(mixer)
    rows, bias = np.zeros((2 * d + 2 * both + heads, 4)), np.zeros(2 * d + 2 * both + heads)
    rows[d : 2 * d, 0] = 1.0
    bias[2 * d : 2 * d + 2 * both] = rng.normal(size=2 * both)
    bias[2 * d + 2 * both :] = dt_bias * rng.normal(size=heads)
    fill(mixer.in_proj.weight, rows)
    fill(mixer.in_proj.bias, bias)
    fill(mixer.dt_bias, rng.uniform(-2.5, -0.5, heads))
    fill(mixer.A_log, np.log(rng.uniform(0.5, 6.0, heads)))
    fill(mixer.D, rng.normal(size=heads))
    mixer.norm, mixer.out_proj = WithoutNorm(), torch.nn.Identity()
    B, C = (part.reshape(2, 3) for part in np.split(bias[2 * d : 2 * d + 2 * both], 2))
    before = bias[2 * d + 2 * both :] + mixer.dt_bias.detach().numpy()
    return mixer, OperatingPoint(delta=np.log1p(np.exp(before)), B=B, C=C)


def mamba2_response(mixer) -> np.ndarray:
    """(heads, L): both channels of a head hold the same."""
    impulse = np.zeros((STEPS, 4))
    impulse[0, 0] = 1.0
    output = run(mixer, impulse).T.reshape(mixer.num_heads, mixer.head_dim, STEPS)
    assert np.array_equal(output[:, 0], output[:, 1])
    return output[:, 0]


@pytest.mark.usefixtures("double_precision")
def test_mamba_2_mixer_answers_an_impulse_as_the_frozen_system_says():
    mixer, point = mamba2_mixer(np.random.default_rng(4), dt_bias=0.5)
    assert np.allclose(kernel_with_skip(read_mixer(mixer, point)), mamba2_response(mixer), rtol=1e-8, atol=1e-12)


@pytest.mark.usefixtures("double_precision")
def test_mamba_2_bias_point_is_the_step_where_the_selected_part_is_zero():
    mixer, point = mamba2_mixer(np.random.default_rng(5), dt_bias=0.0)
    system = read_mixer(mixer, OperatingPoint(B=point.B, C=point.C))
    assert np.allclose(kernel_with_skip(system), mamba2_response(mixer), rtol=1e-8, atol=1e-12)


def tiny_model(family: str):
    torch.manual_seed(6)
    if family == "mamba-1":
        return transformers.MambaModel(transformers.MambaConfig(vocab_size=16, hidden_size=4, state_size=3, num_hidden_layers=2))
    config = transformers.Mamba2Config(vocab_size=16, hidden_size=4, num_heads=4, head_dim=2, state_size=3, n_groups=2, num_hidden_layers=2)
    return transformers.Mamba2Model(config)


@pytest.mark.parametrize("family", ["mamba-1", "mamba-2"])
def test_saved_model_folder_is_analyzed_layer_by_layer(tmp_path, family):
    tiny_model(family).save_pretrained(tmp_path)
    layers = analyze(tmp_path, AnalysisOptions(points=16)).layers
    assert [(layer.name, layer.family) for layer in layers] == [(f"layers.{i}.mixer", family) for i in range(2)]
    assert [layer.problem for layer in layers] == [None, None]


@pytest.mark.parametrize("family", ["mamba-1", "mamba-2"])
def test_saved_model_keeps_the_poles_of_its_initialization(tmp_path, family):
    """A_log = log(1, 2, ...) over states (Mamba-1) or heads (Mamba-2), in float32."""
    tiny_model(family).save_pretrained(tmp_path)
    layer = analyze(tmp_path, AnalysisOptions(points=16)).layers[0]
    expected = -np.tile(np.arange(1.0, 4.0), (8, 1)) if family == "mamba-1" else -np.arange(1.0, 5.0)[:, None]
    assert np.allclose(layer.poles, expected, rtol=1e-6)
