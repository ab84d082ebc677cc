"""A trained layer of a checkpoint as a live `ssmspec.nn.S4D`, with the beta weight that its file, or the sidecar of the file, carries."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssmspec.checkpoint import Checkpoint, open_checkpoint
from ssmspec.errors import LayerError
from ssmspec.families import ReadOptions
from ssmspec.layers import ReadLayer, find_layers, read_layers, select_layers
from ssmspec.nn import S4D
from ssmspec.nn.settings import Layout

LAYOUTS: dict[str, Layout] = {"s4d": "minimal", "s4-diag": "s4-diag", "freqbias-block": "freqbias-block"}
State = dict[str, torch.Tensor]


def load_module(path: Path | str, layer: str | int = "0", options: ReadOptions | None = None, *, family: str | None = None) -> S4D:
    """One S4D layer of a checkpoint as a torch module: the function of the code that trained it, times the beta weight if there is one.

    Args:
        path: a checkpoint. layer: exact name or index of a layer; a direction stands for its whole block.
        options, family: as for `load_system`.
    Returns:
        The module in float32, or float64 where the file is; an output map that is not in the file is that of a new layer.
    Raises:
        SsmspecError: as `load_system`; LayerError for a family without such a module, or a file that lacks some of its tensors.
    """
    options = options or ReadOptions()
    checkpoint = open_checkpoint(path)
    layers, _ = read_layers(checkpoint, find_layers(checkpoint, family, options), options)
    chosen = select_layers([system for found in layers for system in found.systems], [str(layer)], checkpoint)
    wanted = chosen[0]
    if len({system.name.rsplit(":", 1)[0] for system in chosen}) > 1:
        raise LayerError(f"{layer} names {len(chosen)} layers: {', '.join(system.name for system in chosen[:8])}; choose one of them")
    found = next(found for found in layers if any(system is wanted for system in found.systems))
    if found.tensors.family not in LAYOUTS:
        raise LayerError(f"layer {wanted.name} ({found.tensors.family}) has no module; families that have one: {', '.join(LAYOUTS)}")
    state = _state(found, checkpoint)
    module = _empty(found, state)
    return _filled(module, found, state)


def _state(found: ReadLayer, checkpoint: Checkpoint) -> State:
    """The tensors of the layer by the names of its module; a block keeps its output map beside the inner `layer`."""
    own, inner = found.tensors.name, "" if found.tensors.family == "s4d" else "layer."
    outer = own if not inner else own.removesuffix("layer").removesuffix(".")
    state: State = {}
    for name, tensor in checkpoint.tensors.items():
        for place, start in ((outer, ""), (own, inner)):
            prefix = f"{place}." if place else ""
            if name.startswith(prefix):
                values = np.asarray(tensor.read())
                wide = values.astype(np.float64 if values.dtype == np.float64 else np.float32)
                state[start + name.removeprefix(prefix)] = torch.from_numpy(np.array(wide))
    return state


def _empty(found: ReadLayer, state: State) -> S4D:
    tensors, system = found.tensors, found.systems[0]
    layout = LAYOUTS[tensors.family]
    settings: dict[str, Any] = {"d_model": tensors.sizes["H"], "layout": layout, "discretization": system.discretization}
    settings["d_state"] = tensors.sizes["N"] * (1 if layout == "freqbias-block" else 2)
    if layout != "minimal":
        settings |= {"bidirectional": len(found.systems) == 2, "n_ssm": tensors.sizes["S"]}
        settings["tie_step"] = tensors.tensors["inv_dt"].shape[1] == 1
    if layout == "s4-diag":
        settings["channels"] = system.copies // tensors.sizes["H"]
    if system.sobolev is not None and layout != "freqbias-block":
        settings |= {"beta": 0.0, "beta_convention": system.sobolev.convention, "theta_ref": system.sobolev.theta_ref}
    module = S4D(**settings)
    return module.double() if any(value.dtype == torch.float64 for value in state.values()) else module


def _filled(module: S4D, found: ReadLayer, state: State) -> S4D:
    wanted, weight = module.state_dict(), found.systems[0].sobolev
    for name in ("beta", "layer.beta"):
        if name in wanted and weight is not None:
            state = {**state, name: torch.from_numpy(np.array(weight.beta)).reshape(wanted[name].shape)}
    missing = [name for name in wanted if name not in state and not name.startswith("output_linear.")]
    if missing:
        raise LayerError(f"layer {found.tensors.name}: the file lacks {', '.join(missing)}, which its module needs")
    given = {name: state.get(name, value) for name, value in wanted.items()}
    module.load_state_dict(given)
    return module
