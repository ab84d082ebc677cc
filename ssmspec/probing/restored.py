"""A model as a probe needs it, and afterwards as it was: modes, gradients, caches, checkpointing and random generators."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from ssmspec.errors import SsmspecError


@contextmanager
def prepared(model: nn.Module) -> Iterator[None]:
    """A block in which the model is in eval mode and its parameters are frozen, and gradients are recorded whatever surrounds it.

    Caches of generation and gradient checkpointing are off, and cuDNN is off if there is an RNN, whose cuDNN kernels have no backward pass
    in eval mode. When the block ends or fails, everything is as it was, and the generators of torch are where they were.

    Raises:
        SsmspecError: weights were made in inference mode, which records no gradients.
    """
    for name, tensor in model.named_parameters():
        if tensor.is_inference():
            raise SsmspecError(f"the weight {name} was made in torch.inference_mode(), which allows no gradients; make the model elsewhere")
    devices = sorted({tensor.device.index or 0 for tensor in model.parameters() if tensor.device.type == "cuda"})
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.random.fork_rng(devices=devices))
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(_set(model))
        yield


@contextmanager
def _set(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(tensor, tensor.requires_grad) for tensor in model.parameters()]
    flags = [(module, "gradient_checkpointing") for module in model.modules() if getattr(module, "gradient_checkpointing", False) is True]
    configs = {id(config): config for module in model.modules() if (config := getattr(module, "config", None)) is not None}
    flags += [(config, "use_cache") for config in configs.values() if getattr(config, "use_cache", False) is True]
    try:
        model.eval()
        for tensor, _ in wanted:
            tensor.requires_grad_(False)
        for owner, name in flags:
            setattr(owner, name, False)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for tensor, mode in wanted:
            tensor.requires_grad_(mode)
        for owner, name in flags:
            setattr(owner, name, True)
