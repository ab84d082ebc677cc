"""Layers of examples as systems, and comparisons with their recurrences."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import factories
import numpy as np
from examples_selective import other_mamba3
from factories import Recurrence, stored

from ssmspec.families import FAMILIES, Detection, LayerTensors, ReadOptions, detect
from ssmspec.systems.response import impulse_response
from ssmspec.systems.statespace import StateSpace

PREFIX = "encoder.layers.0"


def detected(tensors: dict[str, np.ndarray]) -> Detection:
    return detect(stored(tensors), FAMILIES.values())


@cache
def whole(name: str) -> Detection:
    """What is detected in an example of which nothing was changed."""
    return detected(factories.make(name).under(PREFIX))


def only_layer(tensors: dict[str, np.ndarray]) -> LayerTensors:
    return _only(detected(tensors))


def example_layer(name: str) -> LayerTensors:
    """The layer of an example of which nothing was changed."""
    return _only(whole(name))


def _only(detection: Detection) -> LayerTensors:
    assert [layer.name for layer in detection.layers] == [PREFIX], detection
    return detection.layers[0]


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float = 1e-10) -> None:
    """Within a share of the largest expected value: kernels are float64 arithmetic on the same stored numbers, a few dozen roundings."""
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


def assert_kernels(systems: Sequence[StateSpace], truths: Sequence[Recurrence], tolerance: float = 1e-10, length: int = 100) -> None:
    for system, truth in zip(systems, truths, strict=True):
        assert_close(impulse_response(system, length), truth.impulse(length), tolerance)


def written(tensors: dict[str, np.ndarray], systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, np.ndarray]:
    """The tensors of a file after `write`, in their stored dtypes."""
    layer = only_layer(tensors)
    values = FAMILIES[layer.family].write(layer, systems, options)
    result = dict(tensors)
    for role, array in values.items():
        name = layer.tensor_names[role]
        assert array.shape == tensors[name].shape, name
        result[name] = array.astype(tensors[name].dtype)
    return result


def perturbed(system: StateSpace, rng: np.random.Generator) -> StateSpace:
    """Another system that the same tensors can hold: tied copies change together."""
    if system.family == "mamba-3":
        return other_mamba3(system, rng)
    if system.family in factories.CONSTRAINED:
        return factories.CONSTRAINED[system.family](system, rng)
    if system.discretization == "direct":
        poles = np.abs(system.poles) ** 0.9 * np.exp(0.9j * np.angle(system.poles))
    else:
        poles = 0.9 * system.poles.real + 1.3j * system.poles.imag
    step = 1.1 * system.step if system.has_step else system.step
    C = system.C if system.operating_point else system.C * (rng.uniform(0.5, 2, system.C.shape) + 1j * rng.normal(size=system.C.shape))
    sobolev = system.sobolev and replace(system.sobolev, beta=1.2 * system.sobolev.beta)
    return replace(system, poles=poles, step=step, C=C, D=0.7 * system.D, sobolev=sobolev)
