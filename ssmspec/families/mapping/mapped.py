"""A layer whose layout a mapping file describes: its tensors to a state space, and back.

Every quantity is brought to the layout that `StateSpace` has, with H for the copies K; a letter that the tensor lacks has one value for
all. A layer of kind "siso" has H channels of N modes, one of kind "mimo" is a single system with I inputs and O outputs. With low rank the
state matrix is diag(pole) - P Q^*, with R columns in P and Q. A tensor of several directions is cut by `ssmspec.families.mapping.stacked`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.mapping.combined import Other
from ssmspec.families.mapping.transform import IDENTITY, Transform
from ssmspec.families.parameterization import (
    fold,
    fold_rows,
    stored_output_matrix,
    true_output_matrix,
    unpaired_low_rank,
    unpaired_rows,
)
from ssmspec.families.template import LayerTensors, ReadOptions, Slot, Template, as_complex
from ssmspec.systems.statespace import ComplexArray, Discretization, FloatArray, StateSpace

POLE = ("pole", "pole_real", "pole_imag", "pole_abs", "pole_phase")
COMPLEX = ("pole", "B", "C", "P", "Q")  # the other quantities are real
LETTERS: dict[str, str] = dict.fromkeys(POLE, "HN") | {"step": "HN", "B": "HNI", "B_scale": "HNI", "C": "HON", "D": "HOI"}
LETTERS |= {"P": "HNR", "Q": "HNR"}
"""Quantity -> the axes that it has in a StateSpace."""


@dataclass(frozen=True, slots=True)
class Part:
    """How one quantity is stored.

    Args:
        names: name below the layer's prefix: one tensor, or one of the real and one of the imaginary parts.
        axes: what its axes are, "1" for one of that size, "K" for the directions of a layer, "K*H" for the H of all of them one after the
            other; a trailing pair of (real, imaginary) is not counted.
        transform: from the stored numbers to a real quantity.
        conjugate: the conjugate of a complex quantity is stored.
        sides: from the stored real and imaginary parts of a complex quantity to its own.
        other: a second tensor, by which the first one is multiplied or to which it is added. then: from the result to a real quantity.
        multiples_from: mode n has n + multiples_from times the value of the tensor, which lacks the axis N; 0: all have its value.
    """

    names: tuple[str, ...]
    axes: tuple[str, ...]
    transform: Transform
    conjugate: bool = False
    sides: tuple[Transform, Transform] = (IDENTITY, IDENTITY)
    other: Other | None = None
    then: Transform = IDENTITY
    multiples_from: int = 0

    def multiples(self, layer: LayerTensors) -> FloatArray:
        """By what the value of every mode is multiplied, (N,) or a single 1."""
        return self.multiples_from + np.arange(float(layer.sizes["N"])) if self.multiples_from else np.ones(1)

    def value(self, layer: LayerTensors, quantity: str, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The quantity in the axes of its first tensor, from what the transforms of that tensor give."""
        if self.other is None:
            return stored
        return self.then.apply(self.other.combine(stored, self.other.values(layer, quantity, self.axes)))

    def first(self, layer: LayerTensors, quantity: str, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The inverse of `value`."""
        if self.other is None:
            return value
        return self.other.separate(self.then.invert(value), self.other.values(layer, quantity, self.axes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a mapping file says of one kind of layer.

    Args:
        source: the file, for messages.
        match: glob of the prefixes of such layers.
        discretization, delay: as in `StateSpace`.
        half: half of each conjugate pair is stored and the output is 2 Re; otherwise it is Re.
        step: Delta where it is a constant of the code and in no tensor.
        kernel_length: L where C is stored as C (I - Abar^L); 0: it is the true C.
        directions: name ends of the directions that its tensors hold; empty: one.
        parts: quantity -> how it is stored.
    """

    source: str
    match: str
    discretization: Discretization
    half: bool
    delay: int = 0
    step: float | None = None
    kernel_length: int = 0
    directions: tuple[str, ...] = ()
    parts: Mapping[str, Part]


def template(layout: Layout) -> Template:
    """The tensors of a layer by role, all of them required."""
    slots: dict[str, Slot] = {}
    for quantity, part in layout.parts.items():
        count = str(len(layout.directions))
        axes, others = (
            " ".join(axis.replace("K*", count).replace("K", count) for axis in each)
            for each in (part.axes, () if part.other is None else part.other.axes)
        )
        if len(part.names) == 2:
            slots |= {f"{quantity}.{name}": Slot(stored, axes) for name, stored in zip(("real", "imag"), part.names, strict=True)}
        else:
            slots[quantity] = Slot(part.names[0], f"{axes} ~|{axes}" if quantity in COMPLEX else axes)
        if part.other is not None:
            slots[part.other.role(quantity)] = Slot(part.other.name, others)
    return slots


def read(layout: Layout, layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Tensors of one layer to its state space, as the layout says."""
    K, N, I, O = (layer.sizes.get(letter, 1) for letter in "HNIO")
    stored = _stored_poles(layout, layer)
    B = np.broadcast_to(_complex(layout, layer, "B"), (K, N, I))
    if "B_scale" in layout.parts:
        with np.errstate(all="ignore"):
            B = B * _real(layout, layer, "B_scale")
    C = np.broadcast_to(_complex(layout, layer, "C"), (K, O, N))
    poles, B, C = fold(stored.imag < 0, stored, B, C if layout.half else C / 2)
    P, Q = _low_rank(layout, layer, (K, N)) if "P" in layout.parts else (None, None)
    length = _length(layout, options)
    ones = [name for name in "BC" if name not in layout.parts]
    system = StateSpace(
        name=layer.name,
        family=layer.family,
        poles=poles,
        B=B,
        C=C,
        D=_skip(layout, layer, (K, O, I)),
        step=_step(layout, layer, K, N),
        discretization=layout.discretization,
        delay=layout.delay,
        P=None if P is None else fold_rows(stored.imag < 0, P),
        Q=None if Q is None else fold_rows(stored.imag < 0, Q),
        assumptions=(
            f"as {layout.source} says: {layout.discretization}, output {'2 Re' if layout.half else 'Re'}"
            + (", pre-update" if layout.delay else "")
            + (f", C for a kernel of length {length}" if length else "")
            + "".join(f", {name} = 1" for name in ones),
        ),
    )
    finite = all(np.isfinite(part).all() for part in (poles, B, C, system.step, *(() if P is None or Q is None else (P, Q))))
    return [replace(system, C=true_output_matrix(system, length)) if length and finite else system]


def _length(layout: Layout, options: ReadOptions) -> int:
    """L of C (I - Abar^L), which the user may have given otherwise; 0: C is the true one."""
    return options.length if layout.kernel_length and options.length is not None else layout.kernel_length


def _low_rank(layout: Layout, layer: LayerTensors, shape: tuple[int, int]) -> tuple[ComplexArray, ComplexArray]:
    """P and Q (K, N, R), or of an unpaired spectrum (K, N, 2R), before they are folded; without a Q it is P."""
    P, Q = (_complex(layout, layer, name if name in layout.parts else "P") for name in "PQ")
    P, Q = (np.broadcast_to(part, (*shape, layer.sizes.get("R", 1))) for part in (P, Q))
    return (P, Q) if layout.half else (unpaired_low_rank(P), unpaired_low_rank(Q))


def _spread(array: npt.NDArray[Any], axes: Sequence[str], letters: str) -> npt.NDArray[Any]:
    """The array with its axes in the order of `letters`, and size 1 for those that it lacks."""
    sizes = {axis: size for axis, size in zip(axes, array.shape, strict=True) if axis != "1"}
    order = [list(sizes).index(letter) for letter in letters if letter in sizes]
    return array.reshape(tuple(sizes.values())).transpose(order).reshape([sizes.get(letter, 1) for letter in letters])


def _gather(array: npt.NDArray[Any], axes: Sequence[str], letters: str, layer: LayerTensors, quantity: str) -> npt.NDArray[Any]:
    """The inverse of `_spread` for an array with all of the axes in full.

    Raises:
        LayerError: numbers that share one stored value have become different.
    """
    kept = [axis for axis in axes if axis != "1"]
    for index, letter in enumerate(letters):
        if letter not in kept:
            first = array.take([0], axis=index)
            if not np.array_equal(np.broadcast_to(first, array.shape), array, equal_nan=True):
                raise LayerError(
                    f"layer {layer.name}: {quantity} has one value for all {letter} in the file, and they must change together"
                )
            array = first
    array = array.reshape([size for size, letter in zip(array.shape, letters, strict=True) if letter in kept])
    order = [letter for letter in letters if letter in kept]
    array = array.transpose([order.index(axis) for axis in kept])
    sizes = iter(array.shape)
    return array.reshape([1 if axis == "1" else next(sizes) for axis in axes])


def _real(layout: Layout, layer: LayerTensors, quantity: str) -> FloatArray:
    part = layout.parts[quantity]
    return _spread(part.value(layer, quantity, part.transform.apply(layer.array(quantity))), part.axes, LETTERS[quantity])


def _stored_complex(part: Part, layer: LayerTensors, quantity: str) -> ComplexArray:
    """Values of a complex quantity in the axes of its tensor, without a second one."""
    values = _raw_complex(part, layer, quantity)
    values = values.conj() if part.conjugate else values
    if part.sides == (IDENTITY, IDENTITY):
        return values
    return as_complex(*(side.apply(each) for side, each in zip(part.sides, (values.real, values.imag), strict=True)))


def _raw_complex(part: Part, layer: LayerTensors, quantity: str) -> ComplexArray:
    """The stored numbers, from a complex tensor, a trailing pair, two tensors, or real numbers."""
    if len(part.names) == 2:
        return as_complex(layer.array(f"{quantity}.real"), layer.array(f"{quantity}.imag"))
    return layer.array(quantity).astype(np.complex128) if _is_real(part, layer, quantity) else layer.complex_array(quantity)


def _is_real(part: Part, layer: LayerTensors, quantity: str) -> bool:
    tensor = layer.tensors[quantity]
    return not tensor.dtype.startswith("complex") and len(tensor.shape) == len(part.axes)


def _complex(layout: Layout, layer: LayerTensors, quantity: str) -> ComplexArray:
    """A complex quantity in the axes of a StateSpace; ones if the mapping does not name it."""
    if quantity not in layout.parts:
        return np.ones((1, 1, 1), complex)
    part = layout.parts[quantity]
    return _spread(part.value(layer, quantity, _stored_complex(part, layer, quantity)), part.axes, LETTERS[quantity])


def _stored_poles(layout: Layout, layer: LayerTensors) -> ComplexArray:
    """The poles (K, N) before they are folded."""
    if "pole" in layout.parts:
        poles = _complex(layout, layer, "pole")
    elif "pole_abs" in layout.parts:
        phase = _real(layout, layer, "pole_phase") * layout.parts["pole_phase"].multiples(layer)
        part = layout.parts["pole_abs"]
        logarithm = part.transform.log() if part.other is None else None
        with np.errstate(all="ignore"):
            if logarithm is None:
                poles = _real(layout, layer, "pole_abs") * np.exp(1j * phase)
            else:  # one exponential, as in the usual code of an LRU
                poles = np.exp(_spread(logarithm.apply(layer.array("pole_abs")), part.axes, "HN") + 1j * phase)
    else:
        real = _real(layout, layer, "pole_real")
        poles = as_complex(real, _real(layout, layer, "pole_imag") if "pole_imag" in layout.parts else np.zeros((1, 1)))
    return np.broadcast_to(poles, (layer.sizes.get("H", 1), layer.sizes.get("N", 1)))


def _step(layout: Layout, layer: LayerTensors, copies: int, modes: int) -> FloatArray:
    if "step" not in layout.parts:
        return np.full((copies, 1), 1.0 if layout.step is None else layout.step)
    step = _real(layout, layer, "step")
    return np.broadcast_to(step, (copies, modes if "N" in layout.parts["step"].axes else 1))


def _skip(layout: Layout, layer: LayerTensors, shape: tuple[int, int, int]) -> FloatArray:
    if "D" not in layout.parts:
        return np.zeros(shape)
    if not _is_diagonal(layout):
        return np.broadcast_to(_real(layout, layer, "D"), shape)
    if shape[1] != shape[2]:
        raise LayerError(
            f"layer {layer.name}: {layer.tensor_names['D']} is a vector, but there are {shape[2]} inputs and {shape[1]} outputs"
        )
    return np.diag(_real(layout, layer, "D").reshape(-1))[None]


def _is_diagonal(layout: Layout) -> bool:
    """Whether D is stored as a vector, with one entry for each input and the output of the same index."""
    return sum(axis in "IO" for axis in layout.parts["D"].axes) == 1


def write(layout: Layout, layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`.

    The stored number of an unchanged value is returned exactly, even if the transform would round it.

    Raises:
        LayerError: the stored tensors cannot hold a change.
    """
    (system,) = systems
    (before,) = read(layout, layer, options)
    length = _length(layout, options)
    truncated = [replace(s, C=stored_output_matrix(s, length)) if length else s for s in (system, before)]
    wanted, known = (_quantities(layout, layer, each) for each in truncated)
    _refuse_lost_changes(layout, layer, wanted, known)
    stored: dict[str, npt.NDArray[Any]] = {}
    for quantity, part in layout.parts.items():
        if quantity == "D" and _is_diagonal(layout):
            shape = [size if axis in "IO" else 1 for axis, size in zip(part.axes, layer.tensors["D"].shape, strict=True)]
            new, old = (np.diagonal(values["D"][0]).reshape(shape) for values in (wanted, known))
        else:
            new, old = (_gather(values[quantity], part.axes, LETTERS[quantity], layer, quantity) for values in (wanted, known))
        if quantity in COMPLEX:
            stored |= _store_complex(part, layer, quantity, new, old)
        else:
            stored[quantity] = _kept(layer.array(quantity), new, old, partial(_undone, part, layer, quantity))
            _refuse_lost_values(layer, quantity, stored[quantity], new)
    return stored


def _undone(part: Part, layer: LayerTensors, quantity: str, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The stored numbers of a real quantity."""
    return part.transform.invert(part.first(layer, quantity, value))


def _quantities(layout: Layout, layer: LayerTensors, system: StateSpace) -> dict[str, npt.NDArray[Any]]:
    """Every quantity in the axes of a StateSpace, with modes below the real axis if the file stores them there."""
    below = _stored_poles(layout, layer)
    poles, B, C = fold(below.imag < 0, system.poles, system.B, system.C)
    C = C if layout.half else C * 2
    values: dict[str, npt.NDArray[Any]] = {"pole": poles, "pole_real": poles.real, "pole_imag": poles.imag, "pole_abs": np.abs(poles)}
    if "pole_phase" in layout.parts:
        turned = np.angle(poles) - np.angle(below)  # added to the stored phase, which may differ from the principal value by full turns
        values["pole_phase"] = _real(layout, layer, "pole_phase") + turned / layout.parts["pole_phase"].multiples(layer)
    if "B_scale" in layout.parts:
        scale = np.broadcast_to(_real(layout, layer, "B_scale"), B.shape)
        with np.errstate(all="ignore"):
            B = B / scale
        values["B_scale"] = scale
    if "B" not in layout.parts:  # then I is 1, and a change of B is moved into C, or vice versa
        C, B = C * B.transpose(0, 2, 1), np.ones_like(B)
    elif "C" not in layout.parts:
        B, C = B * C.transpose(0, 2, 1), np.ones_like(C)
    if system.P is not None and system.Q is not None:
        for name, rows in (("P", system.P), ("Q", system.Q)):
            unfolded = fold_rows(below.imag < 0, rows)
            values[name] = unfolded if layout.half else unpaired_rows(unfolded, layer.name)
    step = system.step
    if "step" in layout.parts or layout.step is not None:
        step = np.broadcast_to(step, poles.shape)
    return values | {"B": B, "C": C, "D": system.D, "step": step}


def _refuse_lost_changes(
    layout: Layout, layer: LayerTensors, wanted: Mapping[str, npt.NDArray[Any]], known: Mapping[str, npt.NDArray[Any]]
) -> None:
    """A quantity that no tensor holds must not change."""
    fixed = [name for name in ("step", "C", "D") if name not in layout.parts and not (name == "C" and "B" in layout.parts)]
    if "pole_real" in layout.parts and "pole_imag" not in layout.parts:
        fixed.append("pole_imag")
    for name in fixed:
        if not np.array_equal(wanted[name], known[name], equal_nan=True):
            raise LayerError(f"layer {layer.name}: {name} was changed, but {layout.source} names no tensor that holds it")
    if "P" in layout.parts and "Q" not in layout.parts and not np.array_equal(wanted["P"], wanted["Q"], equal_nan=True):
        raise LayerError(f"layer {layer.name}: {layout.source} names no Q, which is P then; the two must change together")
    if "D" in layout.parts and _is_diagonal(layout) and np.count_nonzero(wanted["D"] - np.diag(np.diagonal(wanted["D"][0]))):
        raise LayerError(f"layer {layer.name}: {layer.tensor_names['D']} is a vector and cannot hold a full matrix D")


def _refuse_lost_values(layer: LayerTensors, quantity: str, stored: npt.NDArray[Any], value: npt.NDArray[Any]) -> None:
    """A finite value of a quantity needs a finite stored number."""
    if not np.isfinite(stored[np.isfinite(value)]).all():
        raise LayerError(f"layer {layer.name}: {layer.tensor_names[quantity]} cannot hold the new values of {quantity}")


def _store_complex(
    part: Part, layer: LayerTensors, quantity: str, new: ComplexArray, old: ComplexArray
) -> dict[str, npt.NDArray[np.generic]]:
    def plain(values: ComplexArray) -> ComplexArray:
        """What the tensors hold."""
        values = part.first(layer, quantity, values)
        if part.sides != (IDENTITY, IDENTITY):
            values = as_complex(*(side.invert(each) for side, each in zip(part.sides, (values.real, values.imag), strict=True)))
        return values.conj() if part.conjugate else values

    values = _kept(_raw_complex(part, layer, quantity), new, old, plain)
    if part.other is not None or part.sides != (IDENTITY, IDENTITY):
        _refuse_lost_values(layer, quantity, values, new)
    if len(part.names) == 2:
        return {f"{quantity}.real": values.real, f"{quantity}.imag": values.imag}
    if not _is_real(part, layer, quantity):
        return {quantity: layer.as_stored(quantity, values)}
    if np.count_nonzero(values.imag):
        raise LayerError(f"layer {layer.name}: {layer.tensor_names[quantity]} holds real numbers, but the new {quantity} is complex")
    return {quantity: values.real}


def _kept(
    stored: npt.NDArray[Any], new: npt.NDArray[Any], old: npt.NDArray[Any], invert: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    """The stored numbers where a quantity did not change, and the inverse transform of its new value elsewhere."""
    return np.where((new == old) | (np.isnan(new) & np.isnan(old)), stored, invert(new))
