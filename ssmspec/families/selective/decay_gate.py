"""Decay gates: recurrences that forget at a rate of their own, as one table of rows; a row becomes a family.

    S_t = z_t S_{t-1} + k_t v_t^T,   o_t = q_t S_t

The decay z_t is a function of the input and of a stored bias. A layer is frozen where the input-dependent part is zero, at unit keys and
queries unless its row says otherwise. What remains are real poles: how long the state remembers what nothing overwrites. log z is computed
from the stored numbers and carried, because 1 - z may be 1e-8, where z itself has few digits left.

`--operating-point delta=V` takes the place of -log z, the decay per token, unless a row says what else delta is. A calibration has log z.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.assumption import Assumption
from ssmspec.families.parameterization import logarithm_of_decay
from ssmspec.families.selective.calibration import as_samples, spread
from ssmspec.families.selective.frozen_system import values_of
from ssmspec.families.template import Family, Held, LayerTensors, OperatingPoint, ReadOptions, Template
from ssmspec.systems.statespace import FloatArray, StateSpace

ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11}  # relative, of a stored number


@dataclass(frozen=True, slots=True)
class Decays:
    """log z of a layer, (K, N), and where it was frozen: in words, and as the range of what determines it."""

    log_z: FloatArray
    words: str
    span: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecayGate:
    """One row of the table.

    Args:
        name, title, source, templates, assumptions, unused, absent, initial_decays: as in `Family`.
        bias: role of the tensor that decides the decay, for what its dtype leaves of log z.
        log_z: log z of every copy and mode, (K, N), from the tensors of a layer.
        at: the same at the operating point of the options, where delta is not -log z.
        words: where the layer is frozen, in words.
        skip: D of every copy, (K,), from the tensors and log z. gain: factor on every mode, (K, N), likewise. None: zero, and one.
        delay: 1 where an output does not see the input of its own token.
        left_out: what the analysis does not include, one line each.
        labels: names of the parts of a layer, into equally many copies each, that are layers of the model.
        stored: new values of the stored tensors, by role, for log z (K, N). fixed: why there is no such function.
    """

    name: str
    title: str
    source: str
    templates: tuple[Template, ...]
    log_z: Callable[[LayerTensors, ReadOptions], FloatArray]
    at: Callable[[LayerTensors, ReadOptions], Decays] | None = None
    words: str = "bias point"
    bias: str = "bias"
    skip: Callable[[LayerTensors, FloatArray], FloatArray] | None = None
    gain: Callable[[LayerTensors, FloatArray], FloatArray] | None = None
    delay: int = 0
    left_out: Callable[[LayerTensors], Sequence[str]] = field(default=lambda layer: ())
    labels: Callable[[LayerTensors], Sequence[str]] = field(default=lambda layer: ("",))
    stored: Callable[[LayerTensors, FloatArray, ReadOptions], dict[str, npt.NDArray[Any]]] | None = None
    fixed: str = ""
    assumptions: tuple[Assumption, ...] = ()
    unused: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    initial_decays: tuple[float, float] | None = None

    def family(self) -> Family:
        """The family of the row."""
        return Family(
            name=self.name,
            title=self.title,
            source=self.source,
            templates=self.templates,
            read=partial(_read, self),
            write=partial(_write, self),
            fixed=self.fixed,
            assumptions=self.assumptions,
            unused=self.unused,
            absent=self.absent,
            selective=True,
            decay_gate=True,
            initial_decays=self.initial_decays,
        )


def _decays(gate: DecayGate, layer: LayerTensors, options: ReadOptions) -> Decays:
    log_z = gate.log_z(layer, options)
    recorded = recorded_decay(layer, options, log_z.size)
    if recorded is None and gate.at is not None:
        return gate.at(layer, options)
    given = (options.operating_point or OperatingPoint()).delta
    words = gate.words
    if recorded is not None:
        log_z, words = recorded[0].reshape(log_z.shape), recorded[1]
    if given is not None:
        shape = log_z.shape if log_z.shape[1] > 1 else log_z.shape[:1]
        log_z, words = -values_of(given, shape, "delta", layer).reshape(log_z.shape), "delta = -log z as given"
    with np.errstate(divide="ignore", invalid="ignore"):
        lives = np.log(2) / -log_z
    known = lives[np.isfinite(lives)]
    span = f"half-lives in {known.min():.3g}..{known.max():.3g} tokens" if known.size else "no half-life is finite"
    return Decays(log_z, words, span)


def recorded_decay(layer: LayerTensors, options: ReadOptions, copies: int) -> tuple[FloatArray, str] | None:
    """The mean of the recorded log z of a layer, (copies,), in words, too; None without a recording, or where delta is given.

    Raises:
        LayerError: the recording has another shape than the layer, or is one of delta.
    """
    if options.calibration is None or (options.operating_point is not None and options.operating_point.delta is not None):
        return None
    record = options.calibration.record(layer.name, "log_z")
    if record is None and options.calibration.record(layer.name, "delta") is not None:
        raise LayerError(f"layer {layer.name}: the calibration has delta, but the decays of {layer.family} are recorded as log_z")
    if record is None:
        return None
    samples = as_samples(record, [(copies,)], layer.name, "log_z")
    return samples.mean(axis=0), f"log z {spread(samples, options.calibration.over_tokens(layer.name, copies))}"


def _read(gate: DecayGate, layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per head or channel, with real poles."""
    found, labels = _decays(gate, layer, options), gate.labels(layer)
    log_z, point = found.log_z, options.operating_point or OperatingPoint()
    shape = log_z.shape if log_z.shape[1] > 1 else log_z.shape[:1]
    B, C = (values_of(given, shape, letter, layer).reshape(log_z.shape) for letter, given in (("B", point.B), ("C", point.C)))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        gain = np.ones(log_z.shape) if gate.gain is None else gate.gain(layer, log_z)
        skip = np.zeros(len(log_z)) if gate.skip is None else gate.skip(layer, log_z)
    words = found.words + (", unit residues (B = C = 1)" if point.B is None and point.C is None else ", B and C as given")
    notes = _notes(gate, layer, options, words)
    parts = [np.split(array, len(labels)) for array in (log_z, gain * B, C, skip)]
    return [
        StateSpace(
            name=layer.name + label,
            family=layer.family,
            poles=poles.astype(complex),
            B=inputs.astype(complex)[:, :, None],
            C=(outputs / 2).astype(complex)[:, None, :],
            D=D[:, None, None],
            step=np.ones((len(poles), 1)),
            discretization="euler",
            unit_step=True,
            delay=gate.delay,
            operating_point=f"{words}; {found.span}",
            assumptions=notes,
        )
        for label, poles, inputs, outputs, D in zip(labels, *parts, strict=True)
    ]


def _notes(gate: DecayGate, layer: LayerTensors, options: ReadOptions, words: str) -> tuple[str, ...]:
    first, *rest = [*gate.left_out(layer), ""]
    lines = [first, f"operating point: {words}; without conv1d, keys, queries and output gate", *rest[:-1]]
    if options.residues == "rms":
        lines.append("unit residues instead of rms: B and C of this layer are not projections of its input")
    dtype = layer.tensors[gate.bias].dtype
    if dtype in ROUNDOFF:
        name, error = layer.tensor_names[gate.bias].rsplit(".", 1)[-1], _rounding(gate, layer, options, ROUNDOFF[dtype])
        lines.append(f"{name} is stored in {dtype}: log z is known to {100 * error:.2g} % at best")
    return tuple(lines)


def _rounding(gate: DecayGate, layer: LayerTensors, options: ReadOptions, roundoff: float) -> float:
    """The largest relative change of a log z if the stored numbers change by their rounding."""
    bias = layer.array(gate.bias)
    moved = [replace(layer, tensors={**layer.tensors, gate.bias: Held(bias * (1 + side * roundoff), "float64")}) for side in (0, -1, 1)]
    with np.errstate(all="ignore"):
        log_z, *others = [gate.log_z(each, options) for each in moved]
        changes = np.abs(np.array([other / log_z - 1 for other in others]))
    return float(np.max(changes, where=np.isfinite(changes), initial=0.0))


def _write(gate: DecayGate, layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The stored tensors for the given poles. With a user-given delta, no stored value needs to change.

    Raises:
        LayerError: a pole that the gate cannot have, or poles at a recorded operating point.
    """
    log_z = np.concatenate([logarithm_of_decay(system) for system in systems])
    if gate.stored is None:
        return {}
    if recorded_decay(layer, options, log_z.size) is not None:
        raise LayerError(
            f"layer {layer.name}: a gate stores its decay at zero input, and the calibration gives its mean over tokens; "
            "leave --calibration out to change it"
        )
    return gate.stored(layer, log_z, options)
