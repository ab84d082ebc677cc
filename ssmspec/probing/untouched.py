"""A block in which a model only answers: in eval mode, and afterwards exactly as it was, whatever happened."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Eval mode. Modes, attributes, buffers and random generators are restored at the end.

    Attributes are restored because some models keep states in them (RG-LRU), and RWKV divides weights in eval mode, which is
    switched off: it only prevents overflows of float16.
    """
    before = [(module, dict(vars(module)), dict(module._buffers)) for module in model.modules()]
    configs: dict[int, Any] = {id(module.config): module.config for module in model.modules() if _would_rescale(module)}
    every = {key: config.rescale_every for key, config in configs.items()}
    devices = sorted({tensor.device.index or 0 for tensor in model.parameters() if tensor.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            model.eval()
            for config in configs.values():
                config.rescale_every = 0
            yield
        finally:
            for key, config in configs.items():
                config.rescale_every = every[key]
            for module, attributes, buffers in before:
                state = vars(module)
                for name in [name for name in state if name not in attributes]:
                    del state[name]
                state.update(attributes)
                module._buffers.clear()
                module._buffers.update(buffers)


def _would_rescale(module: Any) -> bool:
    """Whether it divides its weights when it first runs in eval mode (transformers, models/rwkv)."""
    return getattr(module, "layers_are_rescaled", True) is False and hasattr(getattr(module, "config", None), "rescale_every")
