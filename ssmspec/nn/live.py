"""A torch model in memory as a source of named tensors, in which layers are found and read as in an open checkpoint."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ssmspec.checkpoint import natural_key, plain_name
from ssmspec.checkpoint.tensors import ITEMSIZE, numpy_dtype
from ssmspec.errors import LayerError
from ssmspec.families import LayerTensors
from ssmspec.families.template import join
from ssmspec.nn import S4D
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.system import System

ADVICE = "analyze checkpoints of this run instead"
OWN_BETA = "beta is that of the module"


class LiveModel:
    """The tensors of a model's state dict, by their plain names (`plain_name`) in natural order, as in a checkpoint of the model.

    Only the values of tensors that are read are copied. Gradients, training mode and random generators are not changed.

    Args:
        model: any module, wrapped or not; only the dense tensors of its `state_dict` are used.
        config: configuration for facts that no tensor holds; by default that of the model, if it is a transformers model.

    Raises:
        LayerError: its parameters are sharded over processes, so that no process holds complete tensors.
    """

    def __init__(self, model: nn.Module, config: Mapping[str, object]) -> None:
        refuse_sharded(model)
        self.model = model
        self.path = f"model {type(unwrapped(model)).__name__}"
        self.config = config or own_config(model)
        self._values: dict[str, torch.Tensor] = {}
        with self.snapshot():
            self.tensors = {name: LiveTensor(self, name, value) for name, value in self._values.items()}

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A context in which tensors can be read; the model keeps its own references, which training may replace."""
        with torch.no_grad():
            self._values = named_tensors(self.model)
            try:
                yield
            finally:
                self._values = {}

    def value(self, name: str) -> torch.Tensor:
        """The present value of a tensor.

        Raises:
            LayerError: the model no longer has a tensor of that name.
        """
        if name not in self._values:
            raise LayerError(f"the model no longer has a tensor {name}")
        return self._values[name]

    def originals(self, layers: Sequence[LayerTensors]) -> list[str]:
        """For every layer, the name of the first layer that is the same module, that is, whose tensors share its memory."""
        places: dict[tuple[int, ...], str] = {}
        return [places.setdefault(tuple(self.value(name).data_ptr() for name in _names(layer)), layer.name) for layer in layers]


class LiveTensor:
    """One tensor of a live model: its original shape and dtype, and its values within a snapshot."""

    def __init__(self, model: LiveModel, name: str, value: torch.Tensor) -> None:
        self.name = name
        self.shape = tuple(value.shape)
        self.dtype = str(value.dtype).removeprefix("torch.")
        self._model = model

    def read(self, rows: slice | None = None) -> npt.NDArray[Any]:
        """The values in their own dtype, or some rows of them, as a new array.

        Raises:
            LayerError: the tensor no longer exists, or its shape has changed.
        """
        value = self._model.value(self.name)
        if tuple(value.shape) != self.shape:
            raise LayerError(f"tensor {self.name} now has shape {tuple(value.shape)}, but had {self.shape}")
        return as_array(value if rows is None else value[rows])


class FrozenTensor:
    """One tensor in memory that must not change between reads, as a checkpoint has it. It is not copied before it is read."""

    def __init__(self, name: str, value: torch.Tensor) -> None:
        self.name = name
        self.shape = tuple(value.shape)
        self.dtype = str(value.dtype).removeprefix("torch.")
        self._value = value.detach()
        self._version = _version(value)

    def read(self, rows: slice | None = None) -> npt.NDArray[Any]:
        """The values in their own dtype, or some rows of them, as a new array.

        Raises:
            LayerError: the values were changed after they were handed over.
        """
        if _version(self._value) != self._version:
            raise LayerError(f"tensor {self.name} was changed after the analysis began; analyze the model again")
        return as_array(self._value if rows is None else self._value[rows])


def _version(tensor: torch.Tensor) -> int:
    """Counts changes in place; tensors made in inference mode do not count them."""
    return 0 if tensor.is_inference() else tensor._version


def named_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The dense tensors of a model by their plain names in natural order; by their own names where two would get the same."""
    stored = {name: value for name, value in model.state_dict().items() if readable(value)}
    naming = _naming(stored)
    found = {naming(name): value for name, value in stored.items()}
    return {name: found[name] for name in sorted(found, key=natural_key)}


def _naming(stored: Collection[str]) -> Callable[[str], str]:
    return plain_name if len({plain_name(name) for name in stored}) == len(stored) else str


def beta_weights(model: nn.Module, length: int | None) -> dict[str, Sobolev]:
    """The beta weights of `ssmspec.nn.S4D` layers for which their family has no tensor, by layer name.

    Raises:
        LayerError: a convention needs the length of the inputs [samples], but none is given.
    """
    found: dict[str, Sobolev] = {}
    naming = _naming([name for name, value in model.state_dict().items() if readable(value)])
    for name, module in model.named_modules():
        if isinstance(module, S4D) and module.settings.layout != "freqbias-block":
            weight, inner = module.sobolev(length), "D" if module.settings.layout == "minimal" else "layer.D"
            layer = naming(join(name, inner)).rpartition(".")[0] or "root"
            directions = [f"{layer}:forward", f"{layer}:backward"] if module.settings.bidirectional else [layer]
            found |= dict.fromkeys(directions, weight) if weight is not None else {}
    return found


def with_weight(system: System, weights: Mapping[str, Sobolev]) -> System:
    """The system with the beta weight of its module, if that has one."""
    if system.name not in weights or system.no_poles:
        return system
    return replace(system, sobolev=weights[system.name], assumptions=(*system.assumptions, OWN_BETA))


def as_array(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """A bit-exact copy of the values for NumPy; bfloat16 and float8 become ml_dtypes types."""
    own = tensor.detach().to("cpu", copy=True).resolve_conj().resolve_neg().contiguous()
    name = str(tensor.dtype).removeprefix("torch.")
    if name.startswith(("bfloat", "float8")):
        bits = torch.int16 if own.element_size() == 2 else torch.uint8
        return own.view(bits).numpy().view(numpy_dtype(name))
    return np.asarray(own.numpy())


def readable(value: object) -> bool:
    """Whether an entry of a state dict is a dense tensor of numbers."""
    if not isinstance(value, torch.Tensor) or is_lazy(value) or value.layout != torch.strided or value.is_meta:
        return False
    return str(value.dtype).removeprefix("torch.") in ITEMSIZE


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's own module inside DistributedDataParallel and torch.compile."""
    inner: nn.Module | None = model
    while isinstance(inner, nn.Module):
        model, inner = inner, inner._modules.get("_orig_mod") or _distributed(inner)
    return model


def _distributed(model: nn.Module) -> nn.Module | None:
    return model._modules.get("module") if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel) else None


def own_config(model: nn.Module) -> Mapping[str, object]:
    """The configuration that a transformers model would write to its config.json."""
    config: Any = getattr(unwrapped(model), "config", None)
    found = config.to_dict() if callable(getattr(config, "to_dict", None)) else {}
    return found if isinstance(found, dict) else {}


def refuse_sharded(model: nn.Module) -> None:
    """Refuse models with tensors that no process holds completely: reading them is a collective operation, and one process would hang.

    Raises:
        LayerError: FullyShardedDataParallel, or DTensor parameters.
    """
    for name, module in model.named_modules():
        if type(module).__name__ == "FullyShardedDataParallel":
            raise LayerError(f"{name or 'the model'} is sharded (FullyShardedDataParallel), so no process holds complete tensors; {ADVICE}")
    for name, parameter in model.named_parameters():
        if hasattr(parameter, "device_mesh"):
            raise LayerError(f"parameter {name} is a DTensor, so no process holds all of it; {ADVICE}")


def _names(layer: LayerTensors) -> list[str]:
    return list(layer.tensor_names.values())
