"""Labels for the tensors around SSM layers, guessed from the words in their names. They are for display only; no code depends on them."""

import re
from collections.abc import Set as AbstractSet

ATTENTION = {"attn", "self_attn", "self_attention", "attention", "q_proj", "k_proj", "v_proj", "o_proj", "qkv", "qkv_proj", "mha", "wqkv"}
MLP = {"mlp", "shared_mlp", "feed_forward", "ffn", "moe", "block_sparse_moe", "experts", "shared_experts", "router", "gate_proj", "up_proj"}
MLP |= {"down_proj", "gate_up_proj", "fc1", "fc2"}
EMBEDDING = {"embed", "embed_tokens", "embedding", "embeddings", "word_embeddings", "wte", "wpe", "lm_head"}


def kind_of(name: str, layers: AbstractSet[str]) -> str:
    """The kind of a tensor that is not part of an SSM layer's template.

    Args:
        name: name of the tensor.
        layers: names of the SSM layers. A tensor below one of them with no other known meaning belongs to that layer.
    """
    words = name.split(".")[:-1] or [name]
    if any("norm" in word for word in words):
        return "normalization"
    if any(word.startswith("conv") for word in words) or "short_conv" in name:
        return "short convolution"
    for kind, known in (("embedding or head", EMBEDDING), ("attention", ATTENTION), ("MLP", MLP)):
        if known & set(words):
            return kind
    if "linear_attn" in words:
        return "linear attention"
    if not layers:
        return "other"
    above = (name[: match.start()] for match in re.finditer(r"\.", name))
    return "rest of an SSM layer" if any(layer in layers for layer in above) else "other"
