"""Tiny random language models of transformers with selective layers, and what their own scans are called with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import transformers

VOCABULARY = 16
COMMON: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2}
ATTENTION: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 16}
MAMBA2: dict[str, Any] = {"mamba_d_state": 4, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 2, "mamba_chunk_size": 8}
DELTA: dict[str, Any] = {
    **{"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 4, "linear_value_head_dim": 4},
    "layer_types": ["linear_attention", "full_attention"],
}

Settings = dict[str, Any]
MODELS: dict[str, tuple[str, Settings]] = {
    "mamba": ("Mamba", {**COMMON, "state_size": 4}),
    "falcon_mamba": ("FalconMamba", {**COMMON, "state_size": 4}),
    "jamba": (
        "Jamba",
        {**COMMON, **ATTENTION, "mamba_d_state": 4, "mamba_dt_rank": 3, "attn_layer_period": 2, "attn_layer_offset": 1}
        | {"num_experts": 1, "num_experts_per_tok": 1},
    ),
    "zamba": (
        "Zamba",
        {**COMMON, **ATTENTION, "num_hidden_layers": 3, "layers_block_type": ["mamba", "hybrid", "hybrid"], "mamba_d_state": 4}
        | {"mamba_dt_rank": 3, "n_mamba_heads": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "attention_head_dim": 8},
    ),
    "mamba2": ("Mamba2", {**COMMON, "state_size": 4, "num_heads": 4, "head_dim": 8, "n_groups": 2, "chunk_size": 8}),
    "bamba": ("Bamba", {**COMMON, **ATTENTION, **MAMBA2, "attn_layer_indices": [1]}),
    "granitemoehybrid": (
        "GraniteMoeHybrid",
        {**COMMON, **ATTENTION, **MAMBA2, "layer_types": ["mamba", "attention"], "num_local_experts": 0, "shared_intermediate_size": 16},
    ),
    "falcon_h1": (
        "FalconH1",
        {**COMMON, **ATTENTION, **MAMBA2, "mamba_d_ssm": 32, "ssm_multipliers": [0.5, 0.7, 1.5, 2.0, 3.0], "ssm_in_multiplier": 1.3},
    ),
    "nemotron_h": (
        "NemotronH",
        {**COMMON, **ATTENTION, "num_hidden_layers": 3, "head_dim": 4, "ssm_state_size": 4, "mamba_num_heads": 4, "mamba_head_dim": 8}
        | {"n_groups": 2, "chunk_size": 8, "layers_block_type": ["mamba", "attention", "mlp"], "time_step_min": 0.05},
    ),
    "zamba2": (
        "Zamba2",
        {**COMMON, **ATTENTION, "mamba_d_state": 4, "n_mamba_heads": 4, "mamba_headdim": 8, "mamba_ngroups": 2, "chunk_size": 8}
        | {"layers_block_type": ["mamba", "hybrid"], "time_step_min": 0.05},
    ),
    "recurrent_gemma": (
        "RecurrentGemma",
        {**COMMON, "num_attention_heads": 2, "lru_width": 16, "intermediate_size": 32, "block_types": ["recurrent", "attention"]}
        | {"head_dim": 8, "attention_window_size": 8},
    ),
    "qwen3_next": (
        "Qwen3Next",
        {**COMMON, **ATTENTION, **DELTA, "head_dim": 8, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}
        | {"shared_expert_intermediate_size": 8},
    ),
    "olmo_hybrid": ("OlmoHybrid", {**COMMON, **ATTENTION, **DELTA, "linear_num_key_heads": 4, "pad_token_id": 0}),
    "kimi_linear": (
        "KimiLinear",
        {
            **COMMON,
            **ATTENTION,
            "num_key_value_heads": 4,
            "linear_head_dim": 4,
            "linear_num_heads": 4,
            "layer_types": DELTA["layer_types"],
            "kv_lora_rank": 4,
        }
        | {"qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4, "mlp_layer_types": ["dense", "dense"], "pad_token_id": 0},
    ),
    "rwkv": ("Rwkv", {**COMMON, "attention_hidden_size": 16, "context_length": 32, "rescale_every": 1}),
    "xlstm": ("xLSTM", {**COMMON, "num_heads": 2, "chunk_size": 8, "mode": "inference"}),
}


def language_model(name: str) -> Any:
    """A model with random weights, also where its initialization has constants."""
    kind, settings = MODELS[name]
    torch.manual_seed(7)
    model = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**settings))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() > 1 and parameter.std() == 0:
                parameter += 0.3 * torch.randn_like(parameter)
            elif parameter.ndim > 1 and parameter.std() < 0.1:
                parameter *= 0.3 / parameter.std()
    return model


@dataclass(frozen=True)
class Call:
    """Arguments of one call of the scan of a layer, as NumPy arrays where they are tensors."""

    args: tuple[Any, ...]
    named: dict[str, Any]


def _kept(value: Any) -> Any:
    return value.detach().double().numpy() if isinstance(value, torch.Tensor) else value


@contextmanager
def calls_of(name: str, function: str) -> Iterator[list[Call]]:
    """All calls of a function of the modeling file of a model, in order: `function`, or `Class.method`."""
    module: Any = import_module(f"transformers.models.{name}.modeling_{name}")
    *owner, last = function.split(".")
    target = getattr(module, owner[0]) if owner else module
    real: Callable[..., Any] = getattr(target, last)
    calls: list[Call] = []

    def told(*args: Any, **named: Any) -> Any:
        calls.append(Call(tuple(_kept(value) for value in args), {key: _kept(value) for key, value in named.items()}))
        return real(*args, **named)

    with patch.object(target, last, told):
        yield calls


def softplus(values: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(-np.abs(values))) + np.maximum(values, 0)
