"""The definition of a family (tensor-name templates, a reader and its inverse), and how names and shapes are matched against it.

Names are matched by their suffix; the part before it is the layer's name. `ssmspec.families.shapes` says what a shape can be.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.assumption import Assumption
from ssmspec.families.selective.calibration import NpzCalibration
from ssmspec.families.shapes import fitting_symbols
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace
from ssmspec.systems.system import System
from ssmspec.tuning.reduction.form import Form


class Tensor(Protocol):
    """The interface that families need from a stored tensor."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    def read(self, rows: slice | None = None) -> npt.NDArray[Any]: ...


def flat_values(tensor: Tensor, start: int, stop: int) -> npt.NDArray[Any]:
    """Values start..stop-1 of a tensor in C order; no others are read where its bytes lie together."""
    read = getattr(tensor, "read_flat", None)
    found = None if read is None else read(start, stop)
    return np.asarray(tensor.read().reshape(-1)[start:stop] if found is None else found)


@dataclass(frozen=True, slots=True)
class Held:
    """A tensor in memory, in the stored dtype."""

    values: npt.NDArray[Any]
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def read(self, rows: slice | None = None) -> npt.NDArray[Any]:
        return self.values if rows is None else self.values[rows]


@dataclass(frozen=True, slots=True)
class Slot:
    """One tensor of a template.

    Args:
        names: the possible suffixes of its name. shape: see `ssmspec.families.shapes`.
        optional: whether a layer can be read without it.
        group: slots that a layer has together or not at all, such as those of a second direction. A slot that is also optional may be
            missing even if the others are there.
    """

    names: str
    shape: str
    optional: bool = False
    group: str | None = None

    def suffixes(self) -> list[str]:
        return self.names.split("|")

    @property
    def required(self) -> bool:
        """Whether every layer of the template has it."""
        return not self.optional and self.group is None


Template = Mapping[str, Slot]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Where a selective layer is frozen: Delta per channel or head, B and C per state. None keeps the default."""

    delta: FloatArray | None = None
    B: FloatArray | None = None
    C: FloatArray | None = None


Residues = Literal["unit", "rms"]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the user specifies about facts that a file may not contain. With None, the family assumes a default and says so.

    Args:
        assume: values of what families declare as assumptions, by name.
        length: kernel length for which a layer stores its output matrix. length_option: what messages call the option for it.
        operating_point: where selective layers are frozen.
        residues: for selective layers without given B and C: B = C = 1, or the rms over inputs (`ssmspec.families.selective.residues`).
        calibration: recorded delta (or log z), B and C of selective layers; an explicit operating point takes precedence.
        config: configuration of the checkpoint, for facts that no tensor holds (limits of the step, groups, a norm without weights).
        mapping: families of a mapping file, which take precedence over the built-in ones.
    """

    assume: Mapping[str, str | float | bool] = field(default_factory=dict)
    length: int | None = None
    length_option: str = "--length"
    operating_point: OperatingPoint | None = None
    residues: Residues = "unit"
    calibration: NpzCalibration | None = None
    config: Mapping[str, object] = field(default_factory=dict)
    mapping: tuple["Family", ...] = ()


CODES = ("int8", "uint8", "int16", "uint16", "int32", "uint32")  # the numbers of a matrix in such a dtype are codes, not values
MOST_VALUES = 1 << 24  # limit for a tensor that is read completely; a small compressed file can expand to more


@dataclass(frozen=True, slots=True)
class LayerTensors:
    """The tensors of one layer, by their role in the template, and the sizes that the template's symbols stand for.

    Args:
        beside: other tensors under the layer's prefix, by the suffix of their names; readers use only their shapes.
    """

    name: str
    family: str
    tensors: Mapping[str, Tensor]
    tensor_names: Mapping[str, str]
    sizes: Mapping[str, int]
    beside: Mapping[str, Tensor] = field(default_factory=dict)

    def __contains__(self, role: object) -> bool:
        return role in self.tensors

    @property
    def start(self) -> str:
        """What the names of all tensors under the layer's prefix begin with."""
        return "" if self.name == "root" else f"{self.name}."

    def with_values(self, values: Mapping[str, npt.NDArray[Any]]) -> "LayerTensors":
        """The layer with new values of some tensors, by role, rounded to the dtype in the file."""
        with np.errstate(all="ignore"):
            held = {role: Held(array.astype(self.tensors[role].read().dtype), self.tensors[role].dtype) for role, array in values.items()}
        return replace(self, tensors={**self.tensors, **held})

    def array(self, role: str) -> FloatArray:
        """A real tensor in float64. An infinite value, which no parameter has, becomes NaN: exp would make a number of minus infinity.

        Raises:
            LayerError: the values are not real numbers, or there are more of them than a layer can have.
        """
        values = np.asarray(self._whole(self._real(role), role).read(), dtype=np.float64)
        return np.where(np.isinf(values), np.nan, values) if np.isinf(values).any() else values

    def shape(self, role: str) -> tuple[int, ...]:
        """The shape of a tensor.

        Raises:
            LayerError: nothing tells it: the tensor is stored in a form that cannot be read.
        """
        tensor = self.tensors[role]
        return (tensor if all(size >= 0 for size in tensor.shape) else self._real(role)).shape

    def rows(self, role: str, start: int, stop: int) -> FloatArray:
        """Rows start..stop-1 of a real tensor in float64; no other bytes of the tensor are read.

        Raises:
            LayerError: the values are not real numbers, or not finite.
        """
        values = np.asarray(self._real(role).read(slice(start, stop)), dtype=np.float64)
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise LayerError(
                f"layer {self.name}: {bad} of {values.size} values in rows {start}..{stop - 1} of {self.tensor_names[role]} are NaN or "
                "infinite, and so are the residues that they would give"
            )
        return values

    def flat(self, role: str, start: int, stop: int) -> FloatArray:
        """Values start..stop-1 of a real tensor in C order, in float64; an infinite value becomes NaN, as in `array`.

        Raises:
            LayerError: the values are not real numbers.
        """
        values = np.asarray(flat_values(self._real(role), start, stop), dtype=np.float64)
        return np.where(np.isinf(values), np.nan, values) if np.isinf(values).any() else values

    def _whole(self, tensor: Tensor, role: str) -> Tensor:
        if math.prod(tensor.shape) > MOST_VALUES:
            raise LayerError(
                f"layer {self.name}: tensor {self.tensor_names[role]} has shape {tensor.shape}; expected at most {MOST_VALUES} values"
            )
        return tensor

    def _real(self, role: str) -> Tensor:
        tensor = self.tensors[role]
        label = f"layer {self.name}: tensor {self.tensor_names[role]}"
        if getattr(tensor, "refusal", ""):
            raise LayerError(f"{label}: {getattr(tensor, 'refusal', '')}; give a checkpoint with plain values")
        if not tensor.dtype.startswith(("float", "bfloat", "int", "uint")):
            raise LayerError(f"{label} has dtype {tensor.dtype}, expected real numbers")
        if len(tensor.shape) > 1 and tensor.dtype in CODES:
            raise LayerError(f"{label} has dtype {tensor.dtype}: codes of a quantization, whose scales are not known; give values")
        return tensor

    def complex_array(self, role: str) -> ComplexArray:
        """A complex tensor, or a real one with a trailing axis of (real, imaginary), in complex128."""
        if self.tensors[role].dtype.startswith("complex"):
            values = np.asarray(self._whole(self.tensors[role], role).read(), dtype=np.complex128)
            return np.where(np.isinf(values), np.nan, values) if np.isinf(values).any() else values
        pair = self.array(role)
        return as_complex(pair[..., 0], pair[..., 1])

    def as_stored(self, role: str, values: ComplexArray) -> npt.NDArray[Any]:
        """Complex values in the layout of the stored tensor; the inverse of `complex_array`."""
        if self.tensors[role].dtype.startswith("complex"):
            return values
        return np.stack([values.real, values.imag], axis=-1)


def _no_values(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    return {}


Asked = Callable[[LayerTensors, ReadOptions], bool]


def _nothing(layer: LayerTensors) -> str:
    return ""


def _never(layer: LayerTensors, options: ReadOptions) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Resizing:
    """How layers of a family are written with fewer modes.

    Args:
        state: symbol of the number of stored modes in the shapes of the templates.
        sets: symbol of the number of tied sets of poles, if the code can also hold one per channel, "H".
        refused: why a layer must keep its number of modes, and what to do; empty if it need not.
        only_modal: why stored modes can only be removed, not replaced; empty if they can.
        form: what modes a layer can hold, if not any.
        both: whether a layer must store both poles of a complex pair. real: whether it can only store real poles and residues.
        beside: shapes of tensors, by suffix, that a module of another size has in another shape, and the reader does not use.
        counts: suffixes of tensors that hold the number of stored modes itself.
        blank: what the tensors of a new size need before the family writes into them; of an empty layer, the layer before, and the systems.
    """

    state: str = "N"
    sets: str = ""
    refused: Callable[[LayerTensors], str] = _nothing
    only_modal: str = ""
    form: Callable[[LayerTensors, ReadOptions], Form] | None = None
    both: Asked = _never
    real: Asked = _never
    beside: Mapping[str, str] = field(default_factory=dict)
    counts: tuple[str, ...] = ()
    blank: Callable[[LayerTensors, LayerTensors, Sequence[StateSpace]], LayerTensors] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A checkpoint family.

    Args:
        name: short key, printed in tables.
        title: name in words.
        source: repository and path, or paper, from which names and formulas were taken.
        templates: alternative layouts, the preferred one first; the keys (roles) are names that the reader uses.
        read: tensors -> one system, or several (two directions of one block).
        write: the inverse: the values that every stored tensor must have for the given systems, by role, in float64 or complex128.
        fixed: why no other systems can be stored, for families without `write`.
        one_set: all copies of a layer have the same poles.
        resizing: how fewer modes are written; None where that is not possible or not known. unreduced: why it is None, and what to do.
        assumptions: what its tensors do not state and a user can.
        unused: keys of a configuration that the code of the family uses and its reader does not, each with the reason.
        anew: returns the layer with the parameters that do not appear in its state spaces initialized to fit the given systems.
        absent: name suffixes whose presence under the same prefix means that this is another family.
        not_under: last words that a prefix must not have, because another template of the family ends with them.
        when_named: layouts that are used only if the user names the family, because an incomplete layer of another family looks the same.
        hints: last words of a layer name that suggest this family.
        selective: the layer is linear only at an operating point. explicit: it is its kernel, a `KernelSystem`.
        decay_gate: all of its poles are real decays per token, so that half-lives say what it does.
        initial_steps, initial_decays: ranges from which published code draws Delta and A = exp(A_log).
        match: glob of the prefixes that it may claim. A family with a glob is tried before those without, and must match a layer.
    """

    name: str
    title: str
    source: str
    templates: tuple[Template, ...]
    read: Callable[[LayerTensors, ReadOptions], Sequence[System]]
    write: Callable[[LayerTensors, Sequence[StateSpace], ReadOptions], dict[str, npt.NDArray[Any]]] = _no_values
    fixed: str = ""
    one_set: bool = False
    resizing: Resizing | None = None
    unreduced: str = ""
    assumptions: tuple[Assumption, ...] = ()
    unused: Mapping[str, str] = field(default_factory=dict)
    anew: Callable[[LayerTensors, Sequence[StateSpace]], LayerTensors] | None = None
    absent: tuple[str, ...] = ()
    not_under: tuple[str, ...] = ()
    when_named: tuple[Template, ...] = ()
    hints: tuple[str, ...] = ()
    selective: bool = False
    explicit: bool = False
    decay_gate: bool = False
    initial_steps: tuple[float, float] | None = None
    initial_decays: tuple[float, float] | None = None
    match: str | None = None

    @property
    def group(self) -> str:
        """What kind of system it is read as."""
        return "explicit kernels" if self.explicit else "at an operating point" if self.selective else "time invariant"

    def usual(self, assumption: str) -> str:
        """The default of one of its assumptions."""
        return next(each.usual for each in self.assumptions if each.name == assumption)


@dataclass(frozen=True, slots=True)
class Fit:
    """How well the tensors under one prefix fit one template."""

    prefix: str
    names: Mapping[str, str]
    sizes: Mapping[str, int]
    missing: tuple[str, ...]
    wrong: tuple[str, ...]
    foreign: tuple[str, ...] = field(default=())

    @property
    def complete(self) -> bool:
        return not (self.missing or self.wrong or self.foreign)


def as_complex(real: FloatArray, imag: FloatArray) -> ComplexArray:
    """real + i imag, assembled without arithmetic so that an infinite part does not turn the other one into NaN."""
    result = np.empty(np.broadcast_shapes(real.shape, imag.shape), np.complex128)
    result.real, result.imag = real, imag
    return result


def join(prefix: str, suffix: str) -> str:
    """The full name of a tensor under a prefix; at the root of the file the prefix is empty."""
    return f"{prefix}.{suffix}" if prefix else suffix


def fit(family: Family, template: Template, prefix: str, tensors: Mapping[str, Tensor]) -> Fit:
    """Look up every slot of a template under a prefix and check that the shapes agree."""
    names: dict[str, str] = {}
    sizes: dict[str, int] = {}
    missing: list[str] = []
    wrong: list[str] = []
    present = {role: join(prefix, s) for role, slot in template.items() for s in reversed(slot.suffixes()) if join(prefix, s) in tensors}
    groups = {None, *(template[role].group for role in present)}
    for role, slot in template.items():
        name = present.get(role)
        if name is None:
            if not slot.optional and slot.group in groups:
                missing.append(slot.names)
            continue
        tensor = tensors[name]
        if fitting_symbols(slot.shape, tensor.shape, sizes, parts=not tensor.dtype.startswith("complex")) is not None:
            names[role] = name
        else:
            known = ", ".join(f"{symbol}={size}" for symbol, size in sizes.items())
            wrong.append(f"{name} has shape {tensor.shape}, expected ({slot.shape})" + (f" with {known}" if known else ""))
    foreign = tuple(s for s in family.absent if join(prefix, s) in tensors)
    if prefix.rsplit(".", 1)[-1] in family.not_under:
        foreign += (prefix,)
    return Fit(prefix, names, sizes, tuple(missing), tuple(wrong), foreign)
