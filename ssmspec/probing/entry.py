"""Where a real signal enters a model: as its first argument, or behind the embedding of tokens. Hooks change or record it there."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ssmspec.errors import SsmspecError

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Entry:
    """The place where the signal enters.

    Args:
        module: the module whose output is the signal; None where it is the first tensor that the model receives. name: of the place.
    """

    module: nn.Module | None
    name: str

    @contextmanager
    def changed(self, model: nn.Module, change: Change) -> Iterator[None]:
        """A block in which the signal is replaced by a function of it, whenever the model is called."""
        if self.module is None:
            handle = model.register_forward_pre_hook(_before(change), with_kwargs=True)
        else:
            handle = self.module.register_forward_hook(_behind(change))
        try:
            yield
        finally:
            handle.remove()


def find_entry(model: nn.Module, given: Any, at: str | None) -> Entry:
    """Where the signal enters a model.

    Args:
        given: arguments of the model. at: name of the module whose output is the signal; None finds it.
    Raises:
        SsmspecError: there is no such module, no tensor is given, or the embedding of tokens is not known.
    """
    if at is not None:
        return Entry(named_module(model, at), at)
    first = first_tensor(given)
    if first is None:
        raise SsmspecError(f"the inputs are {type(given).__name__} without a tensor; give a tensor, or a tuple or dict of arguments")
    if first.is_floating_point():
        return Entry(None, "input")
    if first.is_complex():
        raise SsmspecError("the input is complex; give a real signal, or name with at= the module behind which it is real")
    embedding = _own_embedding(model)
    if embedding is None:
        every = [name for name, module in model.named_modules() if isinstance(module, nn.Embedding)]
        if len(every) != 1:
            raise SsmspecError(
                f"the input has integers, and the model has {len(every)} embeddings; name the one of the tokens with at=, such as "
                f"at={every[0] if every else 'embedding'!r}"
            )
        return Entry(model.get_submodule(every[0]), every[0])
    return Entry(embedding, next(name for name, module in model.named_modules() if module is embedding))


def _own_embedding(model: nn.Module) -> nn.Module | None:
    method = getattr(model, "get_input_embeddings", None)
    try:
        found = method() if callable(method) else None
    except NotImplementedError:
        return None
    return found if isinstance(found, nn.Module) else None


def named_module(model: nn.Module, name: str) -> nn.Module:
    """A module of the model.

    Raises:
        SsmspecError: there is none of this name.
    """
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        known = [each for each, _ in model.named_modules() if each][:8]
        raise SsmspecError(f"the model has no module {name!r}; its first modules are {', '.join(known)}") from error


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor in arguments or results: a tensor, or the first of a sequence, mapping or output object of transformers."""
    if isinstance(value, Tensor):
        return value
    inside: Sequence[Any] = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return next((found for each in inside if (found := first_tensor(each)) is not None), None)


def replaced(value: Any, change: Change) -> Any:
    """Arguments or results whose first tensor is replaced by a function of it."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        key = next((key for key, each in value.items() if first_tensor(each) is not None), None)
        if key is None:
            return value
        if type(value) is dict:
            return {**value, key: replaced(value[key], change)}
        value[key] = replaced(value[key], change)  # type: ignore[index]  # an output object of transformers
        return value
    if isinstance(value, list | tuple):
        place = next((place for place, each in enumerate(value) if first_tensor(each) is not None), None)
        if place is None:
            return value
        parts = [*value[:place], replaced(value[place], change), *value[place + 1 :]]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _before(change: Change) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        if first_tensor(args) is not None:
            return replaced(args, change), kwargs
        return args, replaced(kwargs, change)

    return hook


def _behind(change: Change) -> Callable[..., Any]:
    return lambda module, args, result: replaced(result, change)


def called(model: nn.Module, given: Any) -> Any:
    """What a model returns for a tensor, a tuple or list of arguments, or a dict of keyword arguments."""
    if isinstance(given, Mapping):
        return model(**given)
    return model(*given) if isinstance(given, list | tuple) else model(given)


def sliced(given: Any, rows: slice) -> Any:
    """Some of the examples of the inputs: the first axis of every tensor."""
    if isinstance(given, Tensor):
        return given[rows] if given.ndim else given
    if isinstance(given, Mapping):
        return {key: sliced(value, rows) for key, value in given.items()}
    return type(given)(sliced(each, rows) for each in given) if isinstance(given, list | tuple) else given


def at_most(given: Any, axis: int, length: int, whole: int) -> Any:
    """The inputs, of which only so many samples are kept: of every tensor that has all of them on this axis."""
    if isinstance(given, Tensor):
        return given.narrow(axis, 0, length) if given.ndim > axis and given.shape[axis] == whole else given
    if isinstance(given, Mapping):
        return {key: at_most(value, axis, length, whole) for key, value in given.items()}
    return type(given)(at_most(each, axis, length, whole) for each in given) if isinstance(given, list | tuple) else given


def to_device(given: Any, device: torch.device) -> Any:
    """The inputs on a device; those from inference mode are copied."""
    if isinstance(given, Tensor):
        return (given.clone() if given.is_inference() else given).to(device)
    if isinstance(given, Mapping):
        return {key: to_device(value, device) for key, value in given.items()}
    return type(given)(to_device(each, device) for each in given) if isinstance(given, list | tuple) else given
