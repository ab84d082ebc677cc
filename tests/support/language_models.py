"""Tiny random language models of transformers, as folders."""

import json
from pathlib import Path
from typing import Any

import torch

VOCABULARY = 40
SIZES: dict[str, dict[str, Any]] = {
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 128, "bos_token_id": 0, "eos_token_id": 0},
    "GPTNeoX": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 128,
    },
    "Mamba": {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
    "Mamba2": {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 8, "num_heads": 4, "head_dim": 8, "n_groups": 1, "chunk_size": 32},
    "FalconMamba": {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
    "Jamba": {
        **{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1},
        **{"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "num_experts": 2},
        **{"mamba_d_state": 4, "use_mamba_kernels": False, "num_experts_per_tok": 1},
    },
}


def model(kind: str) -> Any:
    """A model that is drawn anew, always the same."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(vocab_size=VOCABULARY, pad_token_id=0, **SIZES[kind])
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def folder(kind: str, place: Path) -> Path:
    """Its folder, with a tokenizer of single letters."""
    model(kind).save_pretrained(place)
    letters = {letter: number for number, letter in enumerate(" abcdefghijklmnopqrstuvwxyz?")}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": letters, "unk_token": "?"},
    }
    (place / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (place / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}), encoding="utf-8")
    return place
