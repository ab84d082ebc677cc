"""Code shared by the selective families. A layer is a linear system only while Delta, B and C are fixed; the output says at which values.

    state:  h_t = exp(a Delta_t) h_{t-1} + Delta_t B_t u_t,   y_t = C_t h_t + D u_t      (exact on A, Euler on B)

Default: Delta = softplus(dt bias), which is its value when the input-dependent part of Delta is zero, and unit residues (B = C = 1). The
result is the response of the state alone; the short convolution and the gate are not included.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.families.parameterization import inverse_softplus, softplus
from ssmspec.families.selective.calibration import as_samples, spread
from ssmspec.families.selective.residues import sample_moments
from ssmspec.families.template import LayerTensors, OperatingPoint, ReadOptions
from ssmspec.systems.statespace import FloatArray, StateSpace

Shape = tuple[int, ...]
COARSE = {"bfloat16": "0.8", "float16": "0.1"}  # percent of a pole, for A_log between 2 and 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """Where a layer is frozen.

    Args:
        delta: (K,) step of every copy.
        B, C: given values or the mean of recordings; None means ones.
        moments: second moments of B and of C for rms residues, each (groups, N, N); None for unit or given residues.
        words: description of the operating point, for the output.
        assumptions: what was assumed in the process.
    """

    delta: FloatArray
    B: FloatArray | None
    C: FloatArray | None
    moments: tuple[FloatArray, FloatArray] | None
    words: str
    assumptions: tuple[str, ...] = ()


def freeze(
    layer: LayerTensors,
    options: ReadOptions,
    *,
    copies: Shape,
    states: Sequence[Shape],
    limits: tuple[float, float] = (0.0, np.inf),
) -> Frozen:
    """The operating point that the options specify.

    Args:
        copies: shape of Delta. states: shapes that B and C may have, (groups, N) first.
        limits: range to which the code of the family clamps Delta.
    Raises:
        LayerError: values do not fit the layer or contradict each other.
    """
    point = options.operating_point or OperatingPoint()
    delta, delta_words, assumptions = _delta(layer, options, copies, limits)
    recorded = _recorded_states(layer, options, states)
    if options.residues == "rms":
        moments, words = _moments(layer, options, recorded)
        text = f"{delta_words}, {words}"
        return Frozen(delta=delta, B=None, C=None, moments=moments, words=text, assumptions=assumptions)
    values: dict[str, FloatArray | None] = {"B": point.B, "C": point.C}
    for letter, samples in recorded.items():
        if values[letter] is None:
            values[letter] = samples.mean(axis=0)
    words = ", unit residues (B = C = 1)"
    if point.B is not None or point.C is not None:
        words = ", B and C as given"
    elif recorded:
        words = "".join(f", {letter} {spread(samples)}" for letter, samples in recorded.items())
    return Frozen(delta=delta, B=values["B"], C=values["C"], moments=None, words=delta_words + words, assumptions=assumptions)


def _delta(layer: LayerTensors, options: ReadOptions, shape: Shape, limits: tuple[float, float]) -> tuple[FloatArray, str, tuple[str, ...]]:
    count = int(np.prod(shape))
    point = options.operating_point
    if point is not None and point.delta is not None:
        given = point.delta.reshape(-1) if point.delta.shape == shape else point.delta
        return values_of(given, (count,), "delta", layer), "delta as given", ()
    recorded = None if options.calibration is None else options.calibration.record(layer.name, "delta")
    if recorded is not None:
        samples = as_samples(recorded, [shape, (count,)], layer.name, "delta")
        assert options.calibration is not None
        return samples.mean(axis=0).reshape(-1), f"delta {spread(samples, options.calibration.over_tokens(layer.name, count))}", ()
    free = softplus(layer.array("dt_bias").reshape(-1))
    delta = np.clip(free, *limits)
    moved = int((free != delta).sum())
    note = f"delta is clamped to {limits[0]:g}..{limits[1]:g}, as the model's code does with this config; {moved} of {count} copies changed"
    return delta, "bias point, delta = softplus(dt bias)", (note,) if moved else ()


def _recorded_states(layer: LayerTensors, options: ReadOptions, shapes: Sequence[Shape]) -> dict[str, FloatArray]:
    found = {}
    for letter in ("B", "C") if options.calibration is not None else ():
        assert options.calibration is not None
        record = options.calibration.record(layer.name, letter)
        if record is not None:
            samples = as_samples(record, shapes, layer.name, letter)
            found[letter] = samples.reshape(len(samples), *shapes[0]) if samples[0].ndim == 1 else samples
    return found


def _moments(
    layer: LayerTensors, options: ReadOptions, recorded: dict[str, FloatArray]
) -> tuple[tuple[FloatArray, FloatArray] | None, str]:
    """Second moments from recordings, or None if the reader must compute them from weights; and a description."""
    point = options.operating_point or OperatingPoint()
    if point.B is not None or point.C is not None:
        raise LayerError(f"layer {layer.name}: rms residues come from second moments of B and C; give no B or C at the operating point")
    if not recorded:
        return None, "rms residues: B and C for white input of unit variance to their projection"
    assert options.calibration is not None
    held = [options.calibration.moments(layer.name, letter) for letter in "BC"]
    if set(recorded) == {"B", "C"} and held[0] is not None and held[1] is not None:
        shapes = [(*recorded[letter].shape[1:], recorded[letter].shape[-1]) for letter in "BC"]
        if [held[0].shape, held[1].shape] != shapes:
            raise LayerError(
                f"layer {layer.name}: the calibration has moments of shape {held[0].shape} and {held[1].shape}, expected {shapes[0]}"
            )
        return (held[0], held[1]), f"rms residues: B and C of {options.calibration.tokens} recorded tokens"
    if set(recorded) != {"B", "C"} or min(len(samples) for samples in recorded.values()) < 2:
        raise LayerError(f"layer {layer.name}: rms residues need recordings (samples, states) of both B and C; the calibration has fewer")
    B, C = (sample_moments(recorded[letter]) for letter in "BC")
    if B.shape != C.shape:
        raise LayerError(f"layer {layer.name}: the calibration has B for {B.shape[:2]} groups and states, and C for {C.shape[:2]}")
    return (B, C), f"rms residues: B and C of {len(recorded['B'])} recorded samples"


def values_of(given: FloatArray | None, shape: Shape, letter: str, layer: LayerTensors) -> FloatArray:
    """A number or an array of the given shape, broadcast to that shape; ones if nothing is given."""
    if given is None:
        return np.ones(shape)
    try:
        return np.broadcast_to(given, shape)
    except ValueError:
        raise LayerError(f"layer {layer.name}: operating point {letter} has shape {given.shape}, expected a number or {shape}") from None


def selective_system(
    layer: LayerTensors,
    options: ReadOptions,
    frozen: Frozen,
    *,
    poles: FloatArray,
    C: FloatArray,
    mean: FloatArray | None = None,
    notes: Sequence[str] = (),
) -> StateSpace:
    """K copies with real poles (K, N) and outputs C (K, O, N). Each pole is stored once, with half of its residue.

    With rms residues, D has an output of its own, which comes first (`ssmspec.families.selective.residues`).

    Args:
        mean: of the residues over inputs, (K, N), which the output of D then has; None: zero.
    """
    skip = layer.array("D").reshape(-1) if "D" in layer else np.zeros(len(poles))
    D = skip[:, None, None]
    if options.residues == "rms":
        D = np.concatenate([D, np.zeros((len(poles), C.shape[1], 1))], axis=1)
        first = np.zeros((len(poles), C.shape[2])) if mean is None else mean
        C = np.concatenate([first[:, None], C], axis=1)
    return StateSpace(
        name=layer.name,
        family=layer.family,
        poles=poles.astype(complex),
        B=np.broadcast_to(np.complex128(1), (*poles.shape, 1)),  # models of thousands of channels: no memory is needed for ones
        C=np.broadcast_to((C[:1] if C.strides[0] == 0 else C) / 2 + 0j, C.shape),
        D=D,
        step=frozen.delta[:, None],
        discretization="euler",
        operating_point=f"{frozen.words}; delta in {frozen.delta.min():.3g}..{frozen.delta.max():.3g}",
        assumptions=(*_assumptions(layer, options, frozen), *notes),
    )


def _assumptions(layer: LayerTensors, options: ReadOptions, frozen: Frozen) -> list[str]:
    lines = [f"operating point: {frozen.words}; response of the state alone, without conv1d and gate"]
    if options.residues == "rms":
        lines.append("rms response: the outputs give the square root of its power, D is the first output; only their norm is meaningful")
    lines += frozen.assumptions
    dtype = layer.tensors["A_log"].dtype if "A_log" in layer else ""
    if dtype in COARSE:
        lines.append(f"A_log is stored in {dtype}: each pole is known to {COARSE[dtype]} % at best")
    return lines


def at_bias_point(layer: LayerTensors, options: ReadOptions) -> bool:
    """Whether Delta is that of the stored bias: nobody gave another one."""
    if options.operating_point is not None and options.operating_point.delta is not None:
        return False
    return options.calibration is None or options.calibration.record(layer.name, "delta") is None


def stored_bias(
    layer: LayerTensors, system: StateSpace, options: ReadOptions, limits: tuple[float, float] = (0.0, np.inf)
) -> FloatArray | None:
    """The bias of Delta that gives the steps of a system, in its stored shape; None if Delta was not computed from the bias.

    A bias that already gives the requested step (after clamping) stays unchanged.
    """
    if not at_bias_point(layer, options):
        return None
    bias, step = layer.array("dt_bias"), system.step[:, 0]
    kept = np.clip(softplus(bias.reshape(-1)), *limits) == step
    result: FloatArray = np.where(kept, bias.reshape(-1), inverse_softplus(step)).reshape(bias.shape)
    return result
