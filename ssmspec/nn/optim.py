"""Parameters with their own learning rate and weight decay, marked in the usual way: by an attribute `_optim` of the parameter."""

from typing import Any

from torch import Tensor, nn


def register(module: nn.Module, name: str, tensor: Tensor, *, lr: float | None, weight_decay: float | None = 0.0) -> None:
    """Adds a parameter with `_optim` to the module, or a buffer if its learning rate is zero.

    Args:
        module: the module. name: name of the parameter. tensor: its initial value.
        lr: its learning rate; None means that of the other parameters. weight_decay: its weight decay; None likewise.
    Source: state-spaces/s4, models/s4/s4.py, `Kernel.register`.
    """
    if lr == 0:
        module.register_buffer(name, tensor)
        return
    parameter = nn.Parameter(tensor)
    options = {key: value for key, value in (("lr", lr), ("weight_decay", weight_decay)) if value is not None}
    if options:
        mark(parameter, options)
    module.register_parameter(name, parameter)


def mark(parameter: Tensor, options: dict[str, float]) -> None:
    """Sets the attribute `_optim`."""
    parameter._optim = options  # type: ignore[attr-defined]


def marks(module: nn.Module) -> dict[str, dict[str, float]]:
    """`_optim` of every parameter of the module that has one, by the parameter's name."""
    return {name: parameter._optim for name, parameter in module.named_parameters() if hasattr(parameter, "_optim")}


def optimizer_groups(module: nn.Module, *, lr: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer of torch.optim: one per distinct set of options in `_optim`, the group without options first.

    Args:
        module: any module; every parameter that requires a gradient appears once, in the module's order.
        lr, weight_decay: defaults for parameters that do not specify their own.
    Returns:
        Dicts with params, lr, weight_decay and any other entries of `_optim`.
    Source: state-spaces/s4, example.py, `setup_optimizer`.
    """
    plain: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
    groups: dict[frozenset[tuple[str, Any]], dict[str, Any]] = {}
    for parameter in sorted(module.parameters(), key=lambda each: bool(getattr(each, "_optim", {}))):
        if parameter.requires_grad:
            options = plain | getattr(parameter, "_optim", {})
            groups.setdefault(frozenset(options.items()), {"params": [], **options})["params"].append(parameter)
    return list(groups.values())
