"""RG-LRU and gated delta nets against the modules of transformers, with gates that do not depend on the input."""

import importlib

import numpy as np
import pytest
from factories import stored

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5.0")

from ssmspec.commands.analyze import AnalysisOptions, analyze  # noqa: E402 - only useful where transformers is
from ssmspec.families import FAMILIES, OperatingPoint, ReadOptions, detect  # noqa: E402
from ssmspec.families.layers import read_layer  # noqa: E402
from ssmspec.systems.response import impulse_response  # noqa: E402
from ssmspec.systems.statespace import StateSpace  # noqa: E402

STEPS = 24
SINGLE = 1e-5  # the modules scan in float32; two dozen roundings of values below 1


def fill(parameter, values: np.ndarray | float) -> None:
    with torch.no_grad():
        parameter.copy_(torch.as_tensor(values, dtype=parameter.dtype).expand_as(parameter))


def read(module, **options: object) -> StateSpace:
    tensors = stored({f"layers.0.{name}": tensor.numpy() for name, tensor in module.state_dict().items()})
    (layer,) = detect(tensors, FAMILIES.values()).layers
    (system,) = read_layer(FAMILIES[layer.family], layer, ReadOptions(**options))
    return system


def recurrent_gemma():
    torch.manual_seed(1)
    config = transformers.RecurrentGemmaConfig(
        vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2, lru_width=8, head_dim=4
    )
    return transformers.RecurrentGemmaForCausalLM(config)


def test_rg_lru_answers_an_impulse_as_the_frozen_system_says():
    """Zero gate weights leave the biases; the first token is a document start without normalization, so the impulse is the second one."""
    rng = np.random.default_rng(2)
    module = recurrent_gemma().model.layers[0].temporal_block.rg_lru
    fill(module.recurrent_param, rng.uniform(-6, -2, 8))
    for gate in ("input_gate", "recurrent_gate"):
        fill(getattr(module, f"{gate}_weight"), 0.0)
        fill(getattr(module, f"{gate}_bias"), rng.normal(size=(2, 4)))
    activations = torch.zeros(1, STEPS + 1, 8)
    activations[0, 1] = 1.0
    with torch.no_grad():
        output = module(activations, torch.arange(STEPS + 1)[None])[0, 1:].numpy().T
    entrance = 1 / (1 + np.exp(-module.input_gate_bias.detach().double().numpy().reshape(-1)))
    system = read(module, operating_point=OperatingPoint(B=entrance))
    assert np.abs(impulse_response(system, STEPS)[:, 0, 0] - output).max() < SINGLE


def test_saved_recurrent_gemma_is_analyzed_layer_by_layer(tmp_path):
    """The third layer of its pattern is attention."""
    recurrent_gemma().save_pretrained(tmp_path)
    layers = analyze(tmp_path, AnalysisOptions(points=16)).layers
    assert [(layer.name, layer.family) for layer in layers] == [(f"model.layers.{i}.temporal_block.rg_lru", "rg-lru") for i in range(2)]
    assert [(layer.problem, layer.copies) for layer in layers] == [(None, 8)] * 2


def qwen3_next():
    torch.manual_seed(3)
    config = transformers.Qwen3NextConfig(
        vocab_size=32,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        linear_key_head_dim=4,
        linear_value_head_dim=3,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        num_experts=2,
        num_experts_per_tok=1,
        moe_intermediate_size=8,
        shared_expert_intermediate_size=8,
    )
    return transformers.Qwen3NextForCausalLM(config)


class WithoutNorm(torch.nn.Module):
    """Replaces the gated normalization, which is not linear."""

    def forward(self, hidden, gate):
        return hidden


def test_gated_delta_net_forgets_one_write_at_its_pole():
    """Hidden unit 0 opens beta at the first token and shuts it after, 1 makes constant keys and queries, 2 the value; a is zero."""
    rng = np.random.default_rng(5)
    module = qwen3_next().model.layers[0].linear_attn
    fill(module.A_log, np.log(rng.uniform(0.5, 4, 4)))
    fill(module.dt_bias, rng.uniform(-3, -1, 4))
    fill(module.conv1d.weight, 0.0)
    fill(module.conv1d.weight[:, :, -1], 1.0)
    rows = np.zeros((2, 2 * 4 + 4 * 3, 8))  # per key head: query, key, then value and z of its two value heads
    rows[:, :8, 1] = 1.0
    rows[:, 8:14, 2] = 1.0
    fill(module.in_proj_qkvz.weight, rows.reshape(-1, 8))
    rows = np.zeros((2, 4, 8))  # per key head: b, then a of its two value heads
    rows[:, :2, 0] = 1.0
    fill(module.in_proj_ba.weight, rows.reshape(-1, 8))
    module.norm, module.out_proj = WithoutNorm(), torch.nn.Identity()
    hidden = torch.zeros(1, STEPS, 8)
    hidden[0, :, 0], hidden[0, :, 1] = -80.0, 1.0
    hidden[0, 0, 0] = 80.0
    hidden[0, 0, 2] = 1.0
    with torch.no_grad():
        output = module(hidden)[0].numpy().T.reshape(4, 3, STEPS)
    kernel = impulse_response(read(module), STEPS)[:, 0, 0]
    assert np.abs(output / output[:, :, :1] - kernel[:, None]).max() < SINGLE


GLM = ("glm5_next.modeling_glm5_next", "Glm5NextTextForgetGate", "Glm5NextTextConfig")
LING = ("bailing_hybrid.modeling_bailing_hybrid", "BailingHybridForgetGate", "BailingHybridConfig")
GATES = {  # module of the gate, its class, that of the configuration, and what it is given
    "GLM-5-Next": (*GLM, {"linear_lower_bound": -5.0}),
    "GLM-5-Next, another bound": (*GLM, {"linear_lower_bound": -3.0}),
    "GLM-5-Next, none": (*GLM, {"linear_lower_bound": None}),
    "Ling-3": (*LING, {"kda_lower_bound": -5.0}),
    "Ling-3, off": (*LING, {"kda_safe_gate": False}),
    "Kimi Linear": ("kimi_linear.modeling_kimi_linear", "KimiLinearForgetGate", "KimiLinearConfig", {}),
}


@pytest.mark.parametrize("name", GATES)
def test_gates_per_channel_have_the_decay_of_their_modules(name):
    """A token of zeros leaves the bias alone; the module returns log z of every channel."""
    place, gate, settings, options = GATES[name]
    try:
        module = importlib.import_module(f"transformers.models.{place}")
    except ImportError:
        pytest.skip(f"this transformers has no {place}")
    config = getattr(module, settings)(hidden_size=8, linear_num_heads=2, linear_head_dim=3, num_hidden_layers=4, **options)
    rng = np.random.default_rng(6)
    attention = torch.nn.Module()
    attention.forget_gate, attention.b_proj = getattr(module, gate)(config), torch.nn.Linear(8, 2, bias=False)
    fill(attention.forget_gate.A_log, np.log(rng.uniform(0.5, 4, 2)).reshape(attention.forget_gate.A_log.shape))
    fill(attention.forget_gate.dt_bias, rng.uniform(-3, 1, 6))
    with torch.no_grad():
        log_z = attention.forget_gate(torch.zeros(1, 1, 8)).double().numpy().reshape(-1)
    for document in (config.to_dict(), {"text_config": config.to_dict()}):
        system = read(attention, config=document)
        np.testing.assert_allclose(system.poles[:, 0].real, log_z, rtol=SINGLE)
        assert [(each.name, each.by) for each in system.assumed] == [("gate_lower_bound", "file")]


def test_saved_qwen3_next_is_analyzed_layer_by_layer(tmp_path):
    """Every fourth layer is attention. Decay at its initialization: dt_bias is 1."""
    model = qwen3_next()
    model.save_pretrained(tmp_path)
    layers = analyze(tmp_path, AnalysisOptions(points=16)).layers
    assert [(layer.name, layer.family) for layer in layers] == [(f"model.layers.{i}.linear_attn", "gated-delta") for i in range(3)]
    rate = np.exp(model.model.layers[0].linear_attn.A_log.detach().double().numpy())
    assert np.allclose(layers[0].poles[:, 0], np.exp(-rate * np.log1p(np.e)), rtol=1e-5)
