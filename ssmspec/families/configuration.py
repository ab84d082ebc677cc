"""What readers of families look up in the configuration of a checkpoint (config.json), and what of it they leave alone."""

from collections.abc import Iterator, Mapping

START = dict.fromkeys(
    (
        *("time_step_min", "time_step_max", "time_step_floor", "time_step_init_scheme", "time_step_scale"),
        *("mamba_dt_min", "mamba_dt_max", "mamba_dt_init_floor"),
        *("linear_a_log_min", "linear_a_log_max", "linear_dt_min", "linear_dt_max", "linear_dt_init_floor"),
    ),
    "only for the start of training",
)
ACTIVATIONS = dict.fromkeys(
    (
        *("hidden_act", "mamba_hidden_act", "hidden_mamba_act", "layer_norm_epsilon", "mixer_rms_eps", "rms_norm_eps"),
        *("hidden_activation", "rms_norm", "mamba_rms_norm", "mamba_norm_before_gate", "norm_before_gate"),
    ),
    "of conv1d, gates, norms and output, which are not part of the response",
)
COMPUTING = dict.fromkeys(
    ("chunk_size", "mamba_chunk_size", "use_mamba_kernels", "use_mambapy", "use_associative_scan"), "how the model computes, not what"
)
UNUSED = START | ACTIVATIONS | COMPUTING
CONTEXT = ("max_position_embeddings", "context_length", "ctx_len", "n_ctx", "max_seqlen", "seqlen", "max_sequence_length", "n_positions")
NESTED = ("text_config", "ssm_cfg", "linear_attn_config")  # tables inside others that describe the layers of a model


def places(config: Mapping[str, object], nested: tuple[str, ...] = NESTED) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The tables of a configuration that may describe its layers, the outermost first, each with what stands before its keys."""
    yield "", config
    for name in nested:
        inner = config.get(name)
        if isinstance(inner, dict):
            for prefix, place in places(inner, nested):
                yield f"{name}.{prefix}", place


def model_types(config: Mapping[str, object]) -> list[str]:
    """What a configuration calls its model, the inner ones last."""
    found = (place.get("model_type") for _, place in places(config))
    return [name for name in found if isinstance(name, str)]


def context_length(config: Mapping[str, object]) -> tuple[int, str] | None:
    """The tokens that a model is made for, and the key that says so."""
    for prefix, place in places(config):
        for key in CONTEXT:
            length = number_of(place.get(key))
            if length is not None and 0 < length < 2**40 and length == int(length):
                return int(length), f"{prefix}{key} of the configuration"
    return None


def number_of(value: object) -> float | None:
    """A finite or infinite number of a configuration, or None; transformers writes infinity as {"__float__": "Infinity"}."""
    if isinstance(value, dict):
        value = value.get("__float__")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return None if number != number else number


def unused_keys(config: Mapping[str, object], unused: Mapping[str, str]) -> tuple[str, ...]:
    """A line with the keys of a configuration that a model's code uses and the reader does not, and why; none where there are none."""
    by_reason: dict[str, dict[str, None]] = {}
    for _, place in places(config):
        for key in place:
            if key in unused and place[key] is not None:
                by_reason.setdefault(unused[key], {})[key] = None
    groups = "; ".join(f"{', '.join(keys)} ({reason})" for reason, keys in by_reason.items())
    return (f"unused keys of the configuration: {groups}",) if groups else ()
