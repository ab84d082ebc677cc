"""Load a trained layer of a checkpoint as a live `ssmspec.nn.S4D`, with the beta weight stored in its file or in the file's sidecar."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ssmspec.checkpoint import Checkpoint, open_checkpoint
from ssmspec.errors import LayerError
from ssmspec.families import FAMILIES, ReadOptions
from ssmspec.families.layers import ReadLayer, find_layers, read_layers, select_layers
from ssmspec.families.provenance import trained_entry
from ssmspec.nn import S4D, SequenceModel
from ssmspec.nn.settings import Layout
from ssmspec.systems.sobolev import Sobolev

LAYOUTS: dict[str, Layout] = {"s4d": "minimal", "s4-diag": "s4-diag", "freqbias-block": "freqbias-block"}
AROUND = ("encoder", "norms", "norm", "decoder")  # modules of a SequenceModel around its layers
State = Mapping[str, torch.Tensor]


def load_module(path: Path | str, layer: str | int = "0", options: ReadOptions | None = None, *, family: str | None = None) -> S4D:
    """Load one S4D layer of a checkpoint as a torch module: the function of the code that trained it, and the beta weight if there is one.

    Args:
        path: a checkpoint. layer: exact name or index of a layer; a direction stands for its complete block.
        options, family: as for `load_system`.
    Returns:
        The module in float32, or in float64 if the file is; if the file has no output map, it is newly initialized.
    Raises:
        SsmspecError: the same errors as `load_system`; LayerError if the family has no such module, or the file lacks some of its tensors.
    """
    options = options or ReadOptions()
    checkpoint = open_checkpoint(path)
    layers, _ = read_layers(checkpoint, find_layers(checkpoint, family, options), options)
    chosen = select_layers([system for found in layers for system in found.systems], [str(layer)], checkpoint)
    wanted = chosen[0]
    if len({system.name.rsplit(":", 1)[0] for system in chosen}) > 1:
        raise LayerError(f"{layer} matches {len(chosen)} layers: {', '.join(system.name for system in chosen[:8])}; choose one of them")
    found = next(found for found in layers if any(system is wanted for system in found.systems))
    if found.tensors.family not in LAYOUTS:
        raise LayerError(no_module(wanted.name, found.tensors.family))
    module = S4D(**layer_options(found))
    names = tensor_names(found, checkpoint)
    state = {name: as_tensor(checkpoint.tensors[names[name]].read()) for name in module.state_dict() if name in names}
    if any(value.dtype == torch.float64 for value in state.values()):
        module = module.double()
    return _filled(module, found, state)


def tensor_names(found: ReadLayer, checkpoint: Checkpoint) -> dict[str, str]:
    """Tensor names in the module -> tensor names in the checkpoint; a block has its output map beside the inner `layer`."""
    own, inner = found.tensors.name, "" if found.tensors.family == "s4d" else "layer."
    outer = own if not inner else own.removesuffix("layer").removesuffix(".")
    names: dict[str, str] = {}
    for name in checkpoint.tensors:
        for place, start in ((outer, ""), (own, inner)):
            prefix = f"{place}." if place else ""
            if name.startswith(prefix):
                names[start + name.removeprefix(prefix)] = name
    return names


@dataclass(frozen=True, slots=True)
class Stack:
    """Layers of a checkpoint as the blocks of one `ssmspec.nn.SequenceModel`.

    Args:
        options: options of the model, as far as the tensors determine them.
        names: tensor names in the model -> tensor names in the checkpoint; a beta may be missing.
        layers: layers by their names in the model.
        whole: whether encoder, norms and decoder are present, too, under the names of the model.
    """

    options: Mapping[str, Any]
    names: Mapping[str, str]
    layers: Mapping[str, ReadLayer]
    whole: bool

    def state(self, checkpoint: Checkpoint, changes: Mapping[str, npt.NDArray[Any]], weights: Mapping[str, Sobolev]) -> State:
        """The tensors of the model that the checkpoint has, by their names in the model, and beta of layers with a separate weight.

        Args:
            changes: values by name in the checkpoint, which replace stored ones. weights: beta weights by layer name.
        """
        stored = {name: place for name, place in self.names.items() if place in changes or place in checkpoint.tensors}
        tensors = {name: as_tensor(_values(checkpoint, place, changes)) for name, place in stored.items()}
        beside = {place: weights.get(found.systems[0].name) for place, found in self.layers.items()}
        if any(weight is not None for weight in beside.values()):
            minimal = self.options["layout"] == "minimal"
            shape = (self.options["d_model"],) if minimal else (self.options.get("channels", 1), self.options["d_model"])
            for place, weight in beside.items():
                values = np.zeros(shape) if weight is None else weight.beta.reshape(shape)
                tensors[f"{place}.beta"] = as_tensor(values.astype(np.float32))
        return tensors


def stack(layers: Sequence[ReadLayer], checkpoint: Checkpoint) -> Stack:
    """One model of these layers, in this order.

    Raises:
        LayerError: a family has no module, layers have different sizes or conventions, or a layer lacks tensors.
    """
    for found in layers:
        if found.tensors.family not in LAYOUTS:
            raise LayerError(no_module(found.tensors.name, found.tensors.family))
    every = [layer_options(found) for found in layers]
    options = {**_agreed(layers, every), "n_layers": len(layers)}
    names: dict[str, str] = {}
    places: dict[str, ReadLayer] = {}
    for number, (found, own) in enumerate(zip(layers, every, strict=True)):
        place = f"s4_layers.{number}" + ("" if found.tensors.family == "s4d" else ".layer")
        beta = "s" if found.tensors.family == "freqbias-block" else "beta"
        places[place], names[f"{place}.{beta}"] = found, f"{found.tensors.name}.{beta}"
        names |= {f"s4_layers.{number}.{name}": each for name, each in _complete(found, checkpoint, S4D(**own)).items()}
    prefix = _prefix(layers, checkpoint)
    if prefix is None:
        return Stack(options, names, places, whole=False)
    around = [name for name in checkpoint.tensors if name.startswith(prefix) and name.removeprefix(prefix).partition(".")[0] in AROUND]
    names |= {name.removeprefix(prefix): name for name in around}
    options |= {"norm": "batch" if "norms.0.running_mean" in names else "layer", "final_norm": "norm.weight" in names}
    return Stack(options, names, places, whole=True)


def load_sequence_model(path: Path | str, options: ReadOptions | None = None) -> tuple[SequenceModel, Mapping[str, Any]]:
    """Load the model of a checkpoint with the names of `ssmspec.nn.SequenceModel`, with its beta, and what ssmspec recorded about it.

    Args:
        path: a checkpoint, for example from `ssmspec train regress`, or from the example of state-spaces/s4. For the latter, options that
            no tensor determines are as in that example: norms after the blocks, mean over time.
        options: as for `load_system`.
    Returns:
        The model, ready for inference; and its task, the normalization of its inputs and outputs and its classes, or an empty mapping.
    Raises:
        SsmspecError: the same errors as `load_system`; LayerError if the layers do not all belong to one such model.
    """
    options = options or ReadOptions()
    checkpoint = open_checkpoint(path)
    layers, _ = read_layers(checkpoint, find_layers(checkpoint, None, options), options)
    found = stack(layers, checkpoint)
    if not found.whole:
        raise LayerError(f"{path}: its layers are not between encoder, norms and decoder as in SequenceModel; load_module reads one layer")
    beside = [system for layer in layers for system in layer.state_spaces if layer.tensors.family != "freqbias-block"]
    state = found.state(checkpoint, {}, {system.name: system.sobolev for system in beside if system.sobolev is not None})
    about = trained_entry(checkpoint) or {}
    wide, linear = state["encoder.weight"].shape, "encoder.bias" in state
    sizes: dict[str, Any] = {"d_input": wide[1]} if linear else {"vocabulary": wide[0]}
    sizes |= {name: value for name, value in about.get("model", {}).items() if name in ("prenorm", "pooling")}
    model = SequenceModel(**sizes, d_output=len(state["decoder.bias"]), **found.options)
    model.load_state_dict(state)
    return model.eval(), about


def _values(checkpoint: Checkpoint, name: str, changes: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return changes[name] if name in changes else checkpoint.tensors[name].read()


def _agreed(layers: Sequence[ReadLayer], every: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The options that all layers have in common."""
    common: dict[str, tuple[str, Any]] = {}
    for found, options in zip(layers, every, strict=True):
        for name, value in options.items():
            first, other = common.setdefault(name, (found.tensors.name, value))
            if value != other:
                raise LayerError(
                    f"layer {first} has {name} {other}, but {found.tensors.name} has {value}; layers of one model must agree; "
                    "choose layers that do with --layer"
                )
    return {name: value for name, (_, value) in common.items()}


def no_module(name: str, family: str) -> str:
    """Why a layer of a family not in LAYOUTS cannot become a module."""
    return f"layer {name} ({family}) cannot become a module; supported families: {', '.join(LAYOUTS)}"


def _prefix(layers: Sequence[ReadLayer], checkpoint: Checkpoint) -> str | None:
    """The prefix of the names of a `SequenceModel` in the checkpoint; None if the layers do not all belong to one."""
    prefixes = set()
    for number, found in enumerate(layers):
        match = re.fullmatch(rf"(.*?)s4_layers\.{number}(\.layer)?", found.tensors.name)
        prefixes.add(match[1] if match else None)
    (prefix, *others) = prefixes
    parts = [f"{prefix}{part}" for part in ("encoder.weight", "decoder.weight", "decoder.bias", "norms.0.weight")]
    return prefix if not others and prefix is not None and all(part in checkpoint.tensors for part in parts) else None


def _complete(found: ReadLayer, checkpoint: Checkpoint, module: S4D) -> dict[str, str]:
    """`tensor_names` restricted to the module. The output map may be missing, and so may a beta, which can be stored elsewhere."""
    given = tensor_names(found, checkpoint)
    for name, tensor in module.state_dict().items():
        shape = tuple(checkpoint.tensors[given[name]].shape) if name in given else None
        if shape is None and not name.startswith("output_linear.") and name.rpartition(".")[2] not in ("beta", "s"):
            raise LayerError(f"layer {found.tensors.name}: the file lacks {name}, which its module needs")
        if shape not in (None, tuple(tensor.shape)):
            raise LayerError(f"{given[name]} has shape {shape}, but the module of {found.tensors.name} needs {tuple(tensor.shape)}")
    return {name: place for name, place in given.items() if name in module.state_dict()}


def as_tensor(values: npt.NDArray[Any]) -> torch.Tensor:
    """Stored values, in float64 if they are stored so, otherwise in float32."""
    return torch.from_numpy(np.array(values.astype(np.float64 if values.dtype == np.float64 else np.float32)))


def layer_options(found: ReadLayer) -> dict[str, Any]:
    """The options of `ssmspec.nn.S4D` that match the tensors of a layer of one of the LAYOUTS.

    Raises:
        LayerError: the layer was read under an assumption that the module does not share.
    """
    tensors, system = found.tensors, found.state_spaces[0]
    for each in system.assumed:
        usual = FAMILIES[tensors.family].usual(each.name)
        if each.name != "discretization" and each.value != usual:
            raise LayerError(f"layer {tensors.name}: {each.name}={each.value}, and ssmspec.nn.S4D has {usual} and nothing else")
    layout = LAYOUTS[tensors.family]
    options: dict[str, Any] = {"d_model": tensors.sizes["H"], "layout": layout, "discretization": system.discretization}
    options["d_state"] = tensors.sizes["N"] * (1 if layout == "freqbias-block" else 2)
    if layout != "minimal":
        options |= {"bidirectional": len(found.systems) == 2, "n_ssm": tensors.sizes["S"]}
        options["tie_step"] = tensors.tensors["inv_dt"].shape[1] == 1
    if layout == "s4-diag":
        options["channels"] = system.copies // tensors.sizes["H"]
    if system.sobolev is not None and layout != "freqbias-block":
        options |= {"beta": 0.0, "beta_convention": system.sobolev.convention, "theta_ref": system.sobolev.theta_ref}
    return options


def _filled(module: S4D, found: ReadLayer, state: State) -> S4D:
    wanted, weight = module.state_dict(), found.state_spaces[0].sobolev
    for name in ("beta", "layer.beta"):
        if name in wanted and weight is not None:
            state = {**state, name: torch.from_numpy(np.array(weight.beta)).reshape(wanted[name].shape)}
    missing = [name for name in wanted if name not in state and not name.startswith("output_linear.")]
    if missing:
        raise LayerError(f"layer {found.tensors.name}: the file lacks {', '.join(missing)}, which its module needs")
    given = {name: state.get(name, value) for name, value in wanted.items()}
    module.load_state_dict(given)
    return module
