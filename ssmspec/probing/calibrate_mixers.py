"""Where the layers of each family compute Delta or log z, B and C, in the modules of transformers: what to hook, and what to make of it.

A recorder takes the module of a layer and returns the submodule to hook, and a function of its inputs and output that gives

    delta or log_z (sequences, tokens, K),   B and C (sequences, tokens, groups, N)

Sources: transformers, models/mamba, falcon_mamba, jamba, zamba, mamba2, zamba2, bamba, granitemoehybrid, falcon_h1, nemotron_h,
recurrent_gemma, qwen3_next, qwen3_5, olmo_hybrid, kimi_linear, glm5_next, bailing_hybrid, rwkv, xlstm (modeling files).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, logsigmoid, softplus

Found = Mapping[str, Tensor]
Read = Callable[[tuple[Any, ...], Mapping[str, Any], Tensor], Found]
Recorder = Callable[[nn.Module], tuple[nn.Module, Read]]


def _convolved(mixer: Any, values: Tensor, first: int, last: int) -> Tensor:
    """Channels first..last-1 of the causal depthwise convolution and activation of a mixer, (sequences, tokens, channels)."""
    weight, bias = mixer.conv1d.weight, mixer.conv1d.bias
    width, length = weight.shape[-1], values.shape[1]
    found = conv1d(
        values.transpose(1, 2).to(weight.dtype),
        weight[first:last],
        None if bias is None else bias[first:last],
        padding=width - 1,
        groups=last - first,
    )
    return torch.as_tensor(mixer.act(found[..., :length].transpose(1, 2)))


def mamba1(mixer: Any) -> tuple[nn.Module, Read]:
    """Mamba-1, Falcon-Mamba and Jamba: the output of x_proj, behind norms where there are any."""
    states = mixer.A_log.shape[-1]
    norms = [getattr(mixer, name, None) for name in ("dt_layernorm", "b_layernorm", "c_layernorm")]

    def read(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> Found:
        parts = torch.split(output, [output.shape[-1] - 2 * states, states, states], dim=-1)
        dt, B, C = (part if norm is None else norm.forward(part) for part, norm in zip(parts, norms, strict=True))
        free = mixer.dt_proj.forward(dt)
        return {"delta": softplus(free.float()), "B": B[:, :, None], "C": C[:, :, None]}

    return mixer.x_proj, read


def zamba(mixer: Any) -> tuple[nn.Module, Read]:
    """Zamba: the output of in_proj, whose rows of x and gate alternate, through the convolution and the projections of every head."""
    heads, channels, states = mixer.A_log.shape

    def read(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> Found:
        sequences, length = output.shape[:2]
        inner = output.reshape(sequences, length, -1, 2)[..., 0]
        if inner.shape[-1] != heads * channels:
            raise ValueError(f"in_proj gives {inner.shape[-1]} channels, expected {heads * channels}")
        x = _convolved(mixer, inner, 0, heads * channels).reshape(sequences, length, heads, channels)
        rows = torch.einsum("hrc,blhc->blhr", mixer.x_proj_weight, x)
        dt, B, C = torch.split(rows, [rows.shape[-1] - 2 * states, states, states], dim=-1)
        free = torch.einsum("hcr,blhr->blhc", mixer.dt_proj_weight, dt).float() + mixer.dt_proj_bias.float()
        return {"delta": softplus(free).flatten(2), "B": B, "C": C}

    return mixer.in_proj, read


def mamba2(mixer: Any) -> tuple[nn.Module, Read]:
    """Mamba-2 and the hybrids with it: the last rows of in_proj, and its rows of B and C behind the convolution.

    Delta is clamped as in the code of the mixer, and the rows of Falcon-H1 are scaled by its multipliers.
    """
    heads, channels = mixer.dt_bias.shape[0], mixer.conv1d.weight.shape[0]
    low, high = getattr(mixer, "time_step_limit", (0.0, float("inf")))
    groups, states = mixer.n_groups, mixer.ssm_state_size
    inner = channels - 2 * groups * states

    def read(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> Found:
        rows = output * mixer.mup_vector if hasattr(mixer, "mup_vector") else output
        delta = softplus(rows[..., -heads:].float() + mixer.dt_bias.float()).clamp(low, high)
        BC = _convolved(mixer, rows[..., -heads - channels + inner : -heads], inner, channels)
        B, C = (part.reshape(*part.shape[:2], groups, states) for part in BC.chunk(2, dim=-1))
        return {"delta": delta, "B": B, "C": C}

    return mixer.in_proj, read


def rg_lru(mixer: Any) -> tuple[nn.Module, Read]:
    """RG-LRU: log z and the input gate (as B), from the input of the module."""
    heads, width = mixer.recurrent_gate_bias.shape

    def gate(x: Tensor, name: str) -> Tensor:
        weight, bias = getattr(mixer, f"{name}_gate_weight"), getattr(mixer, f"{name}_gate_bias")
        return torch.sigmoid((torch.einsum("blhi,hij->blhj", x, weight) + bias).flatten(2).float())

    def read(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> Found:
        given = args[0] if args else kwargs["activations"]
        x = given.reshape(*given.shape[:2], heads, width)
        log_z = -8.0 * gate(x, "recurrent") * softplus(mixer.recurrent_param.float())
        return {"log_z": log_z, "B": gate(x, "input")}

    return mixer, read


def gated_delta(mixer: Any) -> tuple[nn.Module, Read]:
    """Gated delta nets: the gate module of Kimi and the like gives log z itself; Qwen3-Next and others project to one number per head."""
    if hasattr(mixer, "forget_gate"):
        return mixer.forget_gate, lambda args, kwargs, output: {"log_z": output.float().flatten(2)}
    heads = mixer.A_log.numel()
    name = next(name for name in ("in_proj_ba", "in_proj_a", "a_proj") if hasattr(mixer, name))

    def read(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> Found:
        a = output
        if name == "in_proj_ba":  # of every group of heads: first b, then a
            keys = mixer.num_k_heads
            a = output.reshape(*output.shape[:2], keys, 2, heads // keys)[..., 1, :].flatten(2)
        return {"log_z": -mixer.A_log.float().exp() * softplus(a.float() + mixer.dt_bias)}

    return getattr(mixer, name), read


def mlstm(block: Any) -> tuple[nn.Module, Read]:
    """xLSTM: the forget gate of a block, behind the soft cap."""
    layer = block.mlstm_layer
    fused = not hasattr(layer, "fgate_preact")
    cap = layer.config.gate_soft_cap

    def read(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> Found:
        gate = (output.chunk(2, dim=-1)[1] if fused else output).float()
        return {"log_z": logsigmoid(gate if cap is None else cap * torch.tanh(gate / cap))}

    return (layer.ifgate_preact if fused else layer.fgate_preact), read


def rwkv4(mixer: Any) -> tuple[nn.Module, Read]:
    """RWKV-4: decays that do not depend on the input."""

    def read(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> Found:
        return {"log_z": -torch.exp(mixer.time_decay.float()).expand(*output.shape[:2], -1)}

    return mixer.key, read


RECORDERS: dict[str, Recorder] = {
    "mamba-1": mamba1,
    "zamba": zamba,
    "mamba-2": mamba2,
    "rg-lru": rg_lru,
    "gated-delta": gated_delta,
    "mlstm": mlstm,
    "rwkv-4": rwkv4,
}
CONSTANT = {"rwkv-4": "its decays do not depend on the input"}
