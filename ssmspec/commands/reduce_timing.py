"""How long a training step of a reduced layer takes, before and after, for layers that `ssmspec.nn.S4D` can be."""

import time
from typing import Any

import torch

from ssmspec.commands.reduce import ReducePlan
from ssmspec.errors import LayerError
from ssmspec.families.layers import find_layers, read_layers
from ssmspec.nn import S4D
from ssmspec.nn.from_checkpoint import LAYOUTS, layer_options

BATCH, LENGTH = 8, 1024  # sequences of so many samples in one step
REPEATS = 5  # of which the fastest counts


def step_times(plan: ReducePlan) -> dict[str, tuple[float, float]]:
    """Milliseconds of one forward and backward pass before and after, by the name of the layer's first direction.

    The layers have random parameters of the sizes of those in the file; the time does not depend on the values.
    """
    checkpoint, options = plan.checkpoint, plan.options
    layers, _ = read_layers(checkpoint, find_layers(checkpoint, options.family, options.read), options.read)
    sizes = {layer.after.name: layer.stored for layer in plan.layers if layer.first}
    found: dict[str, tuple[float, float]] = {}
    known: dict[tuple[Any, ...], float] = {}
    for layer in layers:
        name = layer.systems[0].name
        if name not in sizes or layer.tensors.family not in LAYOUTS:
            continue
        try:
            given = layer_options(layer)
        except LayerError:  # read under an assumption that the module does not share
            continue
        before, after = sizes[name]
        smaller = {**given, "d_state": given["d_state"] // before * after}
        if any(layer.after.name == name and _untied(layer.notes) for layer in plan.layers):
            smaller["n_ssm"] = given["d_model"]
        pair = []
        for each in (given, smaller):
            key = tuple(sorted((option, str(value)) for option, value in each.items()))
            if key not in known:
                known[key] = _milliseconds(each)
            pair.append(known[key])
        found[name] = (pair[0], pair[1])
    return found


def _untied(notes: tuple[str, ...]) -> bool:
    return any("one set per channel" in note for note in notes)


def _milliseconds(options: dict[str, Any]) -> float:
    module = S4D(**options)
    signal = torch.randn(BATCH, options["d_model"], LENGTH)
    times = []
    for _ in range(REPEATS + 1):  # the first one compiles
        start = time.perf_counter()
        module.zero_grad()
        module(signal)[0].square().mean().backward()
        times.append(time.perf_counter() - start)
    return 1000 * min(times[1:])
