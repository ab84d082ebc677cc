"""Convert tuned systems back to stored tensors. Values that the tuning did not change stay exactly as the file holds them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.template import Family, LayerTensors, ReadOptions
from ssmspec.systems.statespace import FloatArray, StateSpace

SAME = 1e-9  # relative tolerance; a polar form (LRU) reproduces a modulus only to the rounding of a logarithm near zero
LOST = 0.01  # relative tolerance; above the rounding of any float32 layer, below what a clamp removes
EPSILON = {
    **dict.fromkeys(("float64", "complex128"), 2.0**-52),
    **dict.fromkeys(("float32", "complex64"), 2.0**-23),
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
}


def changed_values(
    family: Family,
    layer: LayerTensors,
    before: Sequence[StateSpace],
    after: Sequence[StateSpace],
    options: ReadOptions,
    *,
    anew: bool = False,
) -> dict[str, npt.NDArray[Any]]:
    """New values of the stored tensors that must change, by role, in float64 or complex128.

    The results of `write` for both versions are compared with each other, not with the stored values, because recomputing a stored value
    rounds it. An element for which both results agree to SAME keeps its stored value exactly.

    Args:
        before, after: the directions of the layer as read, and as tuned.
        anew: the tuned systems are a new initialization, so parameters that do not appear in a system are initialized again, too.
    Raises:
        LayerError: the family's parameters cannot hold these values.
    """
    if family.fixed:
        raise LayerError(f"layer {layer.name} ({family.name}) cannot be changed: {family.fixed}")
    with np.errstate(all="ignore"):
        renewed = family.anew(layer, after) if anew and family.anew is not None else layer
        old, new = family.write(layer, before, options), family.write(renewed, after, options)
    changes = {}
    for role, values in new.items():
        tensor = layer.tensors[role]
        start, end = (np.asarray(part).reshape(tensor.shape) for part in (old[role], values))
        same = np.isclose(end, start, rtol=SAME, atol=0, equal_nan=True)
        if same.all():
            continue
        if not np.isfinite(end[~same]).all():
            raise LayerError(
                f"layer {layer.name}: {layer.tensor_names[role]} would become infinite or NaN, which {family.name} cannot hold"
            )
        changes[role] = np.where(same, tensor.read(), end)
    return changes


def systems_as_stored(
    family: Family, layer: LayerTensors, values: Mapping[str, npt.NDArray[Any]], asked: Sequence[StateSpace], options: ReadOptions
) -> tuple[list[StateSpace], list[str]]:
    """The systems that will be read back once the new values are stored, with the requested weights, and notes on what will differ.

    Args:
        values: from `changed_values`. asked: the tuned systems that the values were computed from.
    Raises:
        LayerError: no tensor can store a requested change, or the file would be read as something else.
    """
    with np.errstate(all="ignore"):
        found = [system.state_space() for system in family.read(layer.with_values(values), options)]
    limit = max([LOST, *(64 * EPSILON.get(layer.tensors[role].dtype, 1.0) for role in values)])
    notes = []
    for system, wanted in zip(found, asked, strict=True):
        for what, errors in _deviations(system, wanted).items():
            count = int((errors > limit).sum())
            if count == errors.size or (count and what == "residues"):
                raise LayerError(
                    f"layer {wanted.name} ({wanted.family}): the requested {what} cannot be stored; the reader would find other values "
                    "(because of a fixed operating point, a limit in the model's code, or a layout that does not allow such values)"
                )
            if count:
                notes.append(f"{count} of {errors.size} {what} of {wanted.name} cannot be stored as requested: the code limits them")
    return [replace(system, sobolev=wanted.sobolev) for system, wanted in zip(found, asked, strict=True)], notes


def _deviations(found: StateSpace, wanted: StateSpace) -> dict[str, FloatArray]:
    """Relative deviations by quantity. Residues are compared only where stored, by magnitude, and relative to the largest."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        exponents = [
            np.log(np.abs(s.poles)) + 1j * np.abs(np.angle(s.poles)) if s.discretization == "direct" else s.poles for s in (found, wanted)
        ]
        deviations = {
            "poles": np.maximum(
                np.abs(exponents[0] - exponents[1]) / np.abs(exponents[1]),
                np.abs(exponents[0].real / exponents[1].real - 1),  # the decay of a fast oscillation is small compared with its frequency
            ),
            "steps": np.abs(found.step - wanted.step) / wanted.step,
        }
        if wanted.operating_point is None:
            strength = [np.linalg.norm(s.C, axis=1) * np.linalg.norm(s.B, axis=2) for s in (found, wanted)]
            scale = np.maximum(strength[1].max(axis=1, keepdims=True), np.finfo(float).tiny)
            deviations["residues"] = np.abs(strength[0] - strength[1]) / scale / 10  # C~ may lose a digit or two
    return deviations
