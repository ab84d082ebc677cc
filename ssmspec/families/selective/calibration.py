"""Recorded statistics of the selective layers of a model: an .npz file, whose arrays are read when a layer needs them.

Arrays are named `<layer name>/delta`, `<layer name>/log_z`, `<layer name>/B`, `<layer name>/C`, or `delta`, ... for all layers. Each
holds one value per copy or state, or a recording with samples (tokens) along axis 0. A recording is replaced by its arithmetic mean: over
L tokens a state decays by exp(a sum_t Delta_t) = exp(a L mean(Delta)), so no other average of Delta preserves the memory.

`ssmspec calibrate` writes means, and beside them what a mean does not say:

    <layer>/delta_deviation (K,), <layer>/delta_quantiles (Q, K)   over tokens; likewise log_z_deviation and log_z_quantiles
    <layer>/B_moments, <layer>/C_moments (groups, N, N)            means of B B^T and C C^T, for rms residues
    levels (Q,), provenance                                        levels of the quantiles; what was recorded, as JSON
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ssmspec.errors import LayerError, SsmspecError
from ssmspec.files.reading import numpy_reason, require_real, require_regular, shown
from ssmspec.systems.statespace import FloatArray

RATES = ("delta", "log_z")
KEYS = (*RATES, "B", "C")
BESIDE = (*(f"{rate}_{part}" for rate in RATES for part in ("deviation", "quantiles")), "B_moments", "C_moments")
LEVELS, PROVENANCE = "levels", "provenance"
BAND = (0.05, 0.5, 0.95)
AROUND = ("model", "backbone", "language_model", "transformer", "decoder", "rwkv")


@dataclass(frozen=True, slots=True)
class OverTokens:
    """How fast a layer forgets from token to token.

    Args:
        ratios: (3, K), the 5, 50 and 95 % quantiles over tokens of Delta, or of -log z, divided by its mean; NaN where the mean is 0.
        tokens: how many were recorded, of which quantiles are over `sampled`.
    """

    ratios: FloatArray
    tokens: int
    sampled: int

    @property
    def words(self) -> str:
        """The range in words, with medians over copies."""
        known = self.ratios[:, np.isfinite(self.ratios).all(axis=0)]
        if not known.size:
            return f"mean of {self.tokens} recorded tokens"
        low, _, high = np.median(known, axis=1)
        return f"mean of {self.tokens} recorded tokens, 5..95 % of them between {low:.2g} and {high:.2g} times the mean"


@dataclass(frozen=True, slots=True)
class NpzCalibration:
    """The file, the names of its arrays, and what was recorded."""

    path: Path
    names: tuple[str, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def record(self, layer: str, key: str) -> FloatArray | None:
        """The array of a layer, or else the one for all layers, or else None; float64, finite, positive for delta and not for log_z.

        Raises:
            LayerError: values that are not such numbers, or a file that has arrays by layer but none for this one.
        """
        name = self._name(layer, key)
        if name is None:
            if not any(self._name(layer, other) for other in KEYS):
                shown = ", ".join(self.names[:4]) + (", ..." if len(self.names) > 4 else "")
                raise LayerError(f"layer {layer}: calibration {self.path} has no array for it; it has {shown}")
            return None
        values = self._values(layer, name)
        if key == "delta" and (values <= 0).any():
            raise LayerError(f"layer {layer}: calibration {self.path}, array {name} must be positive; record it after the softplus")
        if key == "log_z" and (values > 0).any():
            raise LayerError(f"layer {layer}: calibration {self.path}, array {name} must not be positive; z is a decay of at most 1")
        return values

    def moments(self, layer: str, letter: str) -> FloatArray | None:
        """The mean of B B^T or C C^T of a layer, (groups, N, N), or None. Raises LayerError as `record`."""
        name = self._name(layer, f"{letter}_moments")
        return None if name is None else self._values(layer, name)

    def over_tokens(self, layer: str, copies: int) -> OverTokens | None:
        """The range of Delta or log z of a layer with so many copies over tokens; None where only single values are known.

        Raises:
            LayerError: the arrays of the layer contradict each other.
        """
        for rate in RATES:
            name = self._name(layer, rate)
            if name is not None:
                return self._over_tokens(layer, rate, name, copies)
        return None

    def _over_tokens(self, layer: str, rate: str, name: str, copies: int) -> OverTokens | None:
        values = self._values(layer, name)
        if f"{name}_quantiles" in self.names:
            mean, quantiles, levels = values.reshape(-1), self._values(layer, f"{name}_quantiles"), self._values(layer, LEVELS).reshape(-1)
            if quantiles.shape != (len(levels), copies) or mean.size != copies or not set(BAND) <= set(levels.round(6)):
                raise LayerError(
                    f"layer {layer}: calibration {self.path}: {name}_quantiles has shape {quantiles.shape}, expected one row for each of "
                    f"the levels {', '.join(map(str, BAND))} and one column for each of {copies} copies"
                )
            band = quantiles[[int(np.argmin(np.abs(levels - level))) for level in BAND]]
            tokens = self.tokens or 0
            sampled = self.provenance.get("sampled")
            sampled = sampled if isinstance(sampled, int) else tokens
        elif values.ndim > 1 and len(values) > 1 and values.size == len(values) * copies:
            band, mean, tokens = np.quantile(values, BAND, axis=0).reshape(len(BAND), -1), values.mean(axis=0).reshape(-1), len(values)
            sampled = tokens
        else:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.where(mean == 0, np.nan, band / mean)
        return OverTokens(ratios[::-1] if rate == "log_z" else ratios, tokens, sampled)

    @property
    def tokens(self) -> int | None:
        """How many tokens were recorded, if the file says so."""
        found = self.provenance.get("tokens")
        return found if isinstance(found, int) else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the file says about itself, in words."""
        told = self.provenance
        if not told:
            return (f"calibration {self.path}: arrays of unknown origin",)
        data, sampled = told.get("data"), told.get("sampled")
        of = f" of {data}" if isinstance(data, str) else ""
        some = f"; quantiles are over {sampled} of them, drawn at random" if sampled != self.tokens else ""
        digest = str(told.get("data_sha256" if of else "sha256"))[:12]
        line = f"calibration {self.path}: {self.tokens} tokens{of} (sha256 {digest}) through {told.get('model')}"
        return (f"{line}, in sequences of at most {told.get('sequence_length')}{some}",)

    def _name(self, layer: str, key: str) -> str | None:
        """The name of an array: of the layer itself, of one whose name differs in `AROUND` alone, or the one for all layers."""
        if f"{layer}/{key}" in self.names:
            return f"{layer}/{key}"
        ends = [name for name in self.names if name.endswith(f"/{key}") and _inner(name[: -len(key) - 1]) == _inner(layer)]
        return ends[0] if len(ends) == 1 else key if key in self.names else None

    def _values(self, layer: str, name: str) -> FloatArray:
        try:
            array = self._load(name)
            require_real(array, name)
            values = np.asarray(array, dtype=np.float64)
        except Exception as error:  # damaged files must never cause a traceback, whatever NumPy and zipfile raise
            reason = numpy_reason(error)
            raise LayerError(f"layer {layer}: calibration {self.path}, array {name}: cannot be read as real numbers ({reason})") from error
        if not np.isfinite(values).all():
            raise LayerError(f"layer {layer}: calibration {self.path}, array {name} holds NaN or infinite values")
        return values

    def _load(self, name: str) -> Any:
        with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return file[name]


def _inner(layer: str) -> str:
    """The name of a layer without the names of the modules around the stack: transformers writes some under others than a model has."""
    parts = layer.split(".")
    while len(parts) > 1 and parts[0] in AROUND:
        del parts[0]
    return ".".join(parts)


def open_calibration(path: Path) -> NpzCalibration:
    """Open a calibration file and read the names of its arrays; the values are read later.

    Raises:
        SsmspecError: the file is not a readable .npz file, or has arrays other than those of the module docstring.
    """
    try:
        require_regular(path)
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            names = tuple(file.files)
            text = str(file[PROVENANCE]) if PROVENANCE in names else "{}"
    except Exception as error:  # as above
        raise SsmspecError(f"calibration {path}: cannot be read as an .npz file ({numpy_reason(error)})") from error
    unknown = [name for name in names if name.rsplit("/", 1)[-1] not in (*KEYS, *BESIDE) and name not in (LEVELS, PROVENANCE)]
    if unknown or not names:
        what = f"array {unknown[0]!r} is unknown" if unknown else "it has no arrays"
        raise SsmspecError(f"calibration {path}: {what}; expected <layer name>/delta, <layer name>/B, <layer name>/C")
    try:
        provenance = json.loads(text)
        json.dumps(provenance, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise SsmspecError(f"calibration {path}: provenance is {shown(text)}; expected JSON") from error
    return NpzCalibration(path, names, provenance if isinstance(provenance, dict) else {})


def as_samples(values: FloatArray, shapes: Sequence[tuple[int, ...]], layer: str, key: str) -> FloatArray:
    """An array in the form (samples, *shape); it must have one of the shapes, with or without a leading axis of samples.

    Raises:
        LayerError: the array has any other shape.
    """
    if values.shape in shapes:
        return values[None]
    if values.ndim > 1 and values.shape[1:] in shapes and len(values):
        return values
    expected = " or ".join(str(shape) for shape in dict.fromkeys(shapes))
    raise LayerError(
        f"layer {layer}: calibration {key} has shape {values.shape}, expected {expected}, optionally with a leading axis of samples"
    )


def spread(samples: FloatArray, over_tokens: OverTokens | None = None) -> str:
    """The spread of recorded values around their mean, in words: 5th to 95th percentile over samples, median over copies."""
    if len(samples) == 1:
        return "as recorded" if over_tokens is None else over_tokens.words
    mean = samples.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = np.nanmedian((np.percentile(samples, [5, 95], axis=0) / mean).reshape(2, -1), axis=1)
    return f"mean of {len(samples)} recorded samples, 5..95 % of them between {low:.2g} and {high:.2g} times the mean"
