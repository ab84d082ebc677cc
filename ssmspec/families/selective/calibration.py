"""Recorded statistics of the selective layers of a model: an .npz file, read array by array when a layer asks.

Arrays are called `<layer name>/delta`, `<layer name>/B`, `<layer name>/C`, or without the name for all layers. Each is one value per copy
or state, or a recording with samples (tokens) along axis 0. Of a recording the arithmetic mean is taken: a state decays over L tokens by
exp(a sum_t Delta_t) = exp(a L mean(Delta)), so the mean of Delta, and no other average, keeps the memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssmspec.errors import LayerError, SsmspecError
from ssmspec.files.reading import numpy_reason, require_real, require_regular
from ssmspec.systems.statespace import FloatArray

KEYS = ("delta", "B", "C")


@dataclass(frozen=True, slots=True)
class NpzCalibration:
    """The file and the names of its arrays."""

    path: Path
    names: tuple[str, ...]

    def record(self, layer: str, key: str) -> FloatArray | None:
        """The array of a layer, else the one for all layers, else None; float64, finite, delta positive.

        Raises:
            LayerError: values that are no such numbers, or a file that speaks of layers and leaves this one out.
        """
        name = next((name for name in (f"{layer}/{key}", key) if name in self.names), None)
        if name is None:
            if not any(f"{layer}/{other}" in self.names or other in self.names for other in KEYS):
                shown = ", ".join(self.names[:4]) + (", ..." if len(self.names) > 4 else "")
                raise LayerError(f"layer {layer}: calibration {self.path} has no array for it; it has {shown}")
            return None
        try:
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                array = file[name]
            require_real(array, name)
            values = np.asarray(array, dtype=np.float64)
        except Exception as error:  # bad bytes must never end in a traceback, whatever NumPy and zipfile raise for them
            reason = numpy_reason(error)
            raise LayerError(f"layer {layer}: calibration {self.path}, array {name}: cannot be read as real numbers ({reason})") from error
        if not np.isfinite(values).all():
            raise LayerError(f"layer {layer}: calibration {self.path}, array {name} holds NaN or infinite values")
        if key == "delta" and (values <= 0).any():
            raise LayerError(f"layer {layer}: calibration {self.path}, array {name} must be positive; record it after the softplus")
        return values


def open_calibration(path: Path) -> NpzCalibration:
    """The names of the arrays of a calibration file; their values are read later.

    Raises:
        SsmspecError: no readable .npz file, or one with other arrays than delta, B and C.
    """
    try:
        require_regular(path)
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            names = tuple(file.files)
    except Exception as error:  # as above
        raise SsmspecError(f"calibration {path}: cannot be read as an .npz file ({numpy_reason(error)})") from error
    unknown = [name for name in names if name.rsplit("/", 1)[-1] not in KEYS]
    if unknown or not names:
        what = f"array {unknown[0]!r} is not understood" if unknown else "it has no arrays"
        raise SsmspecError(f"calibration {path}: {what}; expected <layer name>/delta, <layer name>/B, <layer name>/C")
    return NpzCalibration(path, names)


def as_samples(values: FloatArray, shapes: Sequence[tuple[int, ...]], layer: str, key: str) -> FloatArray:
    """(samples, *shape) of an array that has one of the shapes, or one of them behind an axis of samples.

    Raises:
        LayerError: any other shape.
    """
    if values.shape in shapes:
        return values[None]
    if values.ndim > 1 and values.shape[1:] in shapes and len(values):
        return values
    expected = " or ".join(str(shape) for shape in dict.fromkeys(shapes))
    raise LayerError(f"layer {layer}: calibration {key} has shape {values.shape}, expected {expected}, or samples before it")


def spread(samples: FloatArray) -> str:
    """How far recorded values are from their mean, in words: 5..95 % over samples, the median over copies."""
    if len(samples) == 1:
        return "as recorded"
    mean = samples.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = np.nanmedian((np.percentile(samples, [5, 95], axis=0) / mean).reshape(2, -1), axis=1)
    return f"mean of {len(samples)} recorded samples, 5..95 % of them between {low:.2g} and {high:.2g} times the mean"
