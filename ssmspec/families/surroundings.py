"""Labels for the tensors around SSM layers, guessed from the words in their names. They are for display only; no code depends on them."""

ATTENTION = {"attn", "self_attn", "self_attention", "attention", "q_proj", "k_proj", "v_proj", "o_proj", "qkv", "qkv_proj", "mha", "wqkv"}
MLP = {"mlp", "shared_mlp", "feed_forward", "ffn", "moe", "block_sparse_moe", "experts", "shared_experts", "router", "gate_proj", "up_proj"}
MLP |= {"down_proj", "gate_up_proj", "fc1", "fc2"}
EMBEDDING = {"embed", "embed_tokens", "embedding", "embeddings", "word_embeddings", "wte", "wpe", "lm_head"}


def kind_of(name: str) -> str:
    """What a tensor outside SSM layers seems to belong to, by its name."""
    words = name.split(".")[:-1] or [name]
    if any("norm" in word for word in words):
        return "normalization"
    if any(word.startswith("conv") for word in words) or "short_conv" in name:
        return "short convolution"
    for kind, known in (("embedding or head", EMBEDDING), ("attention", ATTENTION), ("MLP", MLP)):
        if known & set(words):
            return kind
    return "linear attention" if "linear_attn" in words else "other"
