"""Mixed models of transformers, tiny and random, saved in shards: which layers are selective, and their poles and steps.

Each is compared with the modules of the model itself: A from the module's A_log, Delta from what its forward makes of the bias.
"""

import ast
import importlib
import inspect
import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ssmspec.checkpoint import open_checkpoint  # noqa: E402
from ssmspec.commands.analyze import AnalysisOptions, analyze  # noqa: E402 - only useful where transformers is
from ssmspec.commands.inspect import inspect_checkpoint  # noqa: E402
from ssmspec.commands.retune import ChangeOptions, plan_retune  # noqa: E402
from ssmspec.commands.retune_writing import write_retuned  # noqa: E402
from ssmspec.families import FAMILIES, ReadOptions  # noqa: E402
from ssmspec.families.layers import find_layers, read_systems  # noqa: E402 - only useful where transformers is
from ssmspec.systems.statespace import StateSpace  # noqa: E402
from ssmspec.tuning.poles.scaling import Scaling  # noqa: E402
from ssmspec.tuning.recipe import Recipe  # noqa: E402

BASE = {"vocab_size": 32, "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 24}
ROWS = {"mamba_d_state": 4, "mamba_expand": 2}
HEADS = ROWS | {"mamba_n_heads": 4, "mamba_d_head": 8}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "expert_layer_period": 2, "expert_layer_offset": 1}

MODELS: dict[str, tuple[str, dict]] = {
    "falcon-mamba": (
        "FalconMamba",
        {"vocab_size": 32, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2, "time_step_rank": 2},
    ),
    "jamba": (
        "Jamba",
        BASE | ROWS | EXPERTS | {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 2},
    ),
    "zamba": (
        "Zamba",
        BASE | ROWS | {"num_hidden_layers": 6, "attn_layer_period": 3, "attn_layer_offset": 1, "mamba_dt_rank": 2, "n_mamba_heads": 2},
    ),
    "zamba2": (
        "Zamba2",
        BASE
        | ROWS
        | {"num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "mamba_ngroups": 2, "n_mamba_heads": 4}
        | {"num_mem_blocks": 1, "adapter_rank": 2, "time_step_min": 0.01},
    ),
    "bamba": ("Bamba", BASE | HEADS | {"num_hidden_layers": 3, "attn_layer_indices": [1], "mamba_n_groups": 2}),
    "granite-4": (
        "GraniteMoeHybrid",
        BASE
        | HEADS
        | {"num_hidden_layers": 3, "layer_types": ["mamba", "attention", "mamba"], "mamba_n_groups": 1, "num_local_experts": 2}
        | {"num_experts_per_tok": 1, "shared_intermediate_size": 8, "time_step_limit": (0.005, 0.05)},
    ),
    "falcon-h1": (
        "FalconH1",
        BASE
        | HEADS
        | {"num_hidden_layers": 2, "mamba_d_ssm": 32, "mamba_n_groups": 1, "head_dim": 8, "ssm_multipliers": [1.0, 2.0, 3.0, 4.0, 5.0]},
    ),
    "nemotron-h": (
        "NemotronH",
        BASE
        | {"hybrid_override_pattern": "M*-M", "num_hidden_layers": 4, "mamba_num_heads": 4, "mamba_head_dim": 8, "n_groups": 2}
        | {"ssm_state_size": 4, "head_dim": 8, "time_step_min": 0.01},
    ),
}

LAYERS = {  # where the selective mixers are, and their family
    "falcon-mamba": ("mamba-1", ["backbone.layers.0.mixer", "backbone.layers.1.mixer"]),
    "jamba": ("mamba-1", ["model.layers.0.mamba", "model.layers.2.mamba"]),
    "zamba": (
        "zamba",
        [f"model.layers.{name}" for name in ("0.mamba", "1.mamba", "2.mamba_decoder.mamba", "3.mamba", "4.mamba_decoder.mamba", "5.mamba")],
    ),
    "zamba2": ("mamba-2", [f"model.layers.{name}" for name in ("0.mamba", "1.mamba_decoder.mamba", "2.mamba", "3.mamba_decoder.mamba")]),
    "bamba": ("mamba-2", ["model.layers.0.mamba", "model.layers.2.mamba"]),
    "granite-4": ("mamba-2", ["model.layers.0.mamba", "model.layers.2.mamba"]),
    "falcon-h1": ("mamba-2", ["model.layers.0.mamba", "model.layers.1.mamba"]),
    "nemotron-h": ("mamba-2", ["backbone.layers.0.mixer", "backbone.layers.3.mixer"]),
}
SLOW = ReadOptions(assume={"delta_clamp": "slow"})  # as this transformers has it on every path
OPTIONS = {"zamba2": SLOW, "nemotron-h": SLOW}
WITH_ATTENTION = [name for name in MODELS if name != "falcon-mamba"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[object, Path]]:
    """A random model by its name and the folder where it lies in shards; every one is built once."""
    made: dict[str, tuple[object, Path]] = {}

    def get(name: str) -> tuple[object, Path]:
        if name not in made:
            short, options = MODELS[name]
            if not hasattr(transformers, f"{short}ForCausalLM"):
                pytest.skip(f"this transformers has no {short}")
            torch.manual_seed(7)
            model = getattr(transformers, f"{short}ForCausalLM")(getattr(transformers, f"{short}Config")(**options)).eval()
            generator = torch.Generator().manual_seed(8)
            with torch.no_grad():
                for key, parameter in model.named_parameters():
                    if key.endswith(("dt_bias", "dt_proj.bias", "dt_proj_bias")):
                        parameter.copy_(torch.empty(parameter.shape).uniform_(-7, 0, generator=generator))
                    elif key.endswith("A_log"):
                        parameter.add_(torch.empty(parameter.shape).uniform_(-0.5, 0.5, generator=generator))
            folder = tmp_path_factory.mktemp(name)
            model.save_pretrained(folder, max_shard_size="10KB")
            made[name] = model, folder
        return made[name]

    return get


def systems_of(folder: Path, options: ReadOptions | None = None) -> list[StateSpace]:
    checkpoint = open_checkpoint(folder)
    options = options or ReadOptions()
    systems, _ = read_systems(checkpoint, find_layers(checkpoint, options=options), options)
    return systems


def mixers(model: object) -> list[object]:
    """The selective modules in model order, each once."""
    return [module for _, module in model.named_modules() if hasattr(module, "A_log")]


def bias(mixer: object):
    """The bias of Delta, whatever the module calls it."""
    if hasattr(mixer, "dt_proj"):
        return mixer.dt_proj.bias
    return mixer.dt_bias if hasattr(mixer, "dt_bias") else mixer.dt_proj_bias


@pytest.mark.parametrize("name", MODELS)
def test_selective_layers_of_a_sharded_model_are_found_under_their_names(saved, name):
    folder = saved(name)[1]
    assert len(list(folder.glob("*.safetensors"))) > 1
    family, expected = LAYERS[name]
    assert [(layer["name"], layer["family"]) for layer in inspect_checkpoint(folder)["layers"]] == [(layer, family) for layer in expected]


@pytest.mark.parametrize("name", MODELS)
def test_poles_and_steps_are_those_of_the_modules(saved, name):
    model, folder = saved(name)
    systems = systems_of(folder, OPTIONS.get(name))
    assert len(systems) == len(mixers(model))
    for system, mixer in zip(systems, mixers(model), strict=True):
        A = -torch.exp(mixer.A_log.double()).detach().numpy()
        delta_bias = bias(mixer)
        delta = torch.nn.functional.softplus(delta_bias.double())
        if hasattr(mixer, "time_step_limit"):
            delta = torch.clamp(delta, *mixer.time_step_limit)
        states = A.shape[-1] if A.ndim > 1 else 1
        np.testing.assert_allclose(system.poles, A.reshape(-1, states), rtol=1e-14)
        np.testing.assert_allclose(system.step[:, 0], delta.detach().numpy().reshape(-1), rtol=1e-14)
        np.testing.assert_array_equal(system.D[:, 0, 0], mixer.D.detach().numpy().reshape(-1))


@pytest.mark.parametrize("name", MODELS)
def test_shards_with_doubled_steps_load_into_the_model(saved, tmp_path, name):
    """from_pretrained of what `retune --step-scale 2` writes: Delta of every mixer, and all other parameters to the bit."""
    model, folder = saved(name)
    plan = plan_retune(folder, Recipe(scaling=Scaling(step_scale=2)), ChangeOptions(read=OPTIONS.get(name, ReadOptions())))
    write_retuned(plan, tmp_path / "out", command="test")
    loaded = type(model).from_pretrained(tmp_path / "out").eval()
    for before, after in zip(mixers(model), mixers(loaded), strict=True):
        steps = [torch.nn.functional.softplus(bias(mixer).detach().double()) for mixer in (before, after)]
        low, high = getattr(before, "time_step_limit", (0.0, float("inf")))
        wanted = torch.clamp(2 * torch.clamp(steps[0], low, high), low, high)
        torch.testing.assert_close(torch.clamp(steps[1], low, high), wanted, rtol=1e-5, atol=0)
    biases = {id(bias(mixer)) for mixer in mixers(model)}
    others = [key for key, parameter in model.named_parameters() if id(parameter) not in biases]
    new = loaded.state_dict()
    assert others
    assert all(torch.equal(new[key], model.state_dict()[key]) for key in others)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(("name", "low"), [("zamba2", 0.01), ("granite-4", 0.005), ("nemotron-h", 0.01)])
def test_a_clamp_of_the_step_in_the_config_is_applied_and_said(saved, name, low):
    systems = systems_of(saved(name)[1], OPTIONS.get(name))
    assert min(system.step.min() for system in systems) == low
    assert any("clamped" in line for system in systems for line in system.assumptions)


@pytest.mark.parametrize("name", MODELS)
def test_no_clamp_is_spoken_of_where_the_config_has_none(saved, name):
    if name not in {"zamba2", "granite-4", "nemotron-h"}:
        assert not any("clamped" in line for system in systems_of(saved(name)[1]) for line in system.assumptions)


@pytest.mark.parametrize("name", MODELS)
def test_norms_of_delta_b_and_c_are_among_the_assumptions(saved, name):
    told = [any("RMS norms" in line for line in system.assumptions) for system in systems_of(saved(name)[1])]
    assert told == [name in {"jamba", "falcon-mamba"}] * len(told)


@pytest.mark.parametrize("name", MODELS)
def test_inspect_tells_the_mixers_from_everything_else(saved, name):
    document = inspect_checkpoint(saved(name)[1])
    kinds = {item["name"]: item["kind"] for item in document["other"]}
    assert "other" not in {kind for key, kind in kinds.items() if ".linear." not in key}
    assert ("attention" in kinds.values()) == (name in WITH_ATTENTION)
    assert ("MLP" in kinds.values()) == (name in WITH_ATTENTION)
    assert all(kind == "short convolution" for key, kind in kinds.items() if "conv1d" in key)
    assert not any(word in key for layer in document["layers"] for key in layer["tensors"] for word in ("attn", "q_proj", "mlp"))


def test_shared_module_that_a_file_holds_twice_is_told_once(saved, tmp_path):
    """Zamba ties its attention blocks; a file written without knowledge of the ties holds every copy, and so might one of mixers."""
    from safetensors.numpy import load_file, save_file

    tensors = {key: value for shard in saved("zamba2")[1].glob("*.safetensors") for key, value in load_file(shard).items()}
    first, second = "model.layers.0.mamba.", "model.layers.2.mamba."
    tensors |= {second + key.removeprefix(first): value.copy() for key, value in tensors.items() if key.startswith(first)}
    save_file(tensors, tmp_path / "model.safetensors")
    analysis = analyze(tmp_path, AnalysisOptions(points=16))
    assert [layer.name for layer in analysis.layers] == [name for name in LAYERS["zamba2"][1] if name != second[:-1]]
    assert [(item.name, item.reason) for item in analysis.skipped] == [(second[:-1], f"the same tensors as {first[:-1]} (shared module)")]


@pytest.mark.parametrize("name", MODELS)
def test_rms_residues_and_memory_exist_for_every_model(saved, name):
    analysis = analyze(saved(name)[1], AnalysisOptions(points=16, read=ReadOptions(residues="rms")))
    for layer in analysis.layers:
        assert layer.problem is None
        assert layer.statistics["peak_gain"].median > 0
        assert set(layer.memory) == {1024, 4096, 32768}


def test_groups_of_b_and_c_come_from_the_config(saved):
    model, folder = saved("bamba")
    assert json.loads((folder / "config.json").read_text())["mamba_n_groups"] == 2
    system = systems_of(folder, ReadOptions(residues="rms"))[0]
    weights = mixers(model)[0].in_proj.weight.detach().double().numpy()[64:80]
    B, C = (part.reshape(2, 4, 16) for part in np.split(weights, 2))
    total = np.sqrt([((b @ b.T) * (c @ c.T)).sum() for b, c in zip(B, C, strict=True)])
    np.testing.assert_allclose(2 * system.C[:, 1, 0].real, np.repeat(total, 2), rtol=1e-12)


def test_multipliers_of_falcon_h1_scale_its_rms_residues(saved):
    model, folder = saved("falcon-h1")
    weights = mixers(model)[0].in_proj.weight.detach().double().numpy()[64:72]
    B, C = 3 * weights[:4], 4 * weights[4:]
    total = np.sqrt(((B @ B.T) * (C @ C.T)).sum())
    np.testing.assert_allclose(2 * systems_of(folder, ReadOptions(residues="rms"))[0].C[:, 1, 0].real, total, rtol=1e-12)


MIXERS = {  # the module that reads the configuration of a mixer, and the family that reads its tensors
    "mamba": (("MambaMixer",), "mamba-1"),
    "falcon_mamba": (("FalconMambaMixer",), "mamba-1"),
    "jamba": (("JambaMambaMixer",), "mamba-1"),
    "zamba": (("ZambaMambaMixer",), "zamba"),
    "mamba2": (("Mamba2Mixer",), "mamba-2"),
    "bamba": (("BambaMixer",), "mamba-2"),
    "granitemoehybrid": (("GraniteMoeHybridMambaLayer",), "mamba-2"),
    "falcon_h1": (("FalconH1Mixer",), "mamba-2"),
    "nemotron_h": (("NemotronHMamba2Mixer",), "mamba-2"),
    "zamba2": (("Zamba2MambaMixer",), "mamba-2"),
    "recurrent_gemma": (("RecurrentGemmaRglru", "RecurrentGemmaRecurrentBlock"), "rg-lru"),
    "qwen3_next": (("Qwen3NextGatedDeltaNet",), "gated-delta"),
    "olmo_hybrid": (("OlmoHybridGatedDeltaNet",), "gated-delta"),
    "kimi_linear": (("KimiLinearForgetGate", "KimiLinearDeltaAttention"), "gated-delta"),
    "glm5_next": (("Glm5NextTextForgetGate",), "gated-delta"),
    "bailing_hybrid": (("BailingHybridForgetGate", "BailingHybridDeltaAttention"), "gated-delta"),
}
USED = {"n_groups", "mamba_n_groups", "mamba_ngroups", "time_step_limit", "ssm_in_multiplier", "ssm_multipliers"}
TOLD_BY_TENSORS = {  # sizes, which biases there are, and which layers are of the kind
    *("hidden_size", "intermediate_size", "state_size", "ssm_state_size", "mamba_d_state", "mamba_d_ssm", "expand", "mamba_expand"),
    *("num_heads", "n_mamba_heads", "mamba_n_heads", "mamba_num_heads", "num_attention_heads", "head_dim", "mamba_d_head", "mamba_headdim"),
    *("mamba_head_dim", "time_step_rank", "mamba_dt_rank", "conv_kernel", "mamba_d_conv", "conv1d_width", "lru_width", "layer_types"),
    *("use_bias", "use_conv_bias", "mamba_conv_bias", "mamba_proj_bias", "projectors_bias", "add_bias_linear"),
    *("linear_conv_kernel_dim", "linear_head_dim", "linear_num_heads", "linear_key_head_dim", "linear_value_head_dim"),
    *("linear_num_key_heads", "linear_num_value_heads"),
}


@pytest.mark.parametrize("model", MIXERS)
def test_every_key_of_a_configuration_that_a_mixer_uses_is_used_or_said_to_be_unused(model):
    classes, name = MIXERS[model]
    try:
        module = importlib.import_module(f"transformers.models.{model}.modeling_{model}")
    except ImportError:
        pytest.skip(f"this transformers has no {model}")
    keys = set()
    for each in classes:
        tree = ast.parse(textwrap.dedent(inspect.getsource(getattr(module, each))))
        keys |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("config")}
    assert keys
    looked_at = {key for assumption in FAMILIES[name].assumptions for key in assumption.keys}
    assert keys - TOLD_BY_TENSORS - USED - looked_at - set(FAMILIES[name].unused) == set()
