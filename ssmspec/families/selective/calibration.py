"""Recorded statistics of the selective layers of a model: an .npz file, whose arrays are read when a layer needs them.

Arrays are named `<layer name>/delta`, `<layer name>/B`, `<layer name>/C`, or `delta`, `B`, `C` for all layers. Each holds one value per
copy or state, or a recording with samples (tokens) along axis 0. A recording is replaced by its arithmetic mean: over L tokens a state
decays by exp(a sum_t Delta_t) = exp(a L mean(Delta)), so the arithmetic mean of Delta is the only average that preserves the memory.
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
        """The array of a layer, or else the one for all layers, or else None; float64, finite, and positive for delta.

        Raises:
            LayerError: values that are not finite real numbers (or not positive), or a file that has arrays by layer but none for this one.
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
        except Exception as error:  # damaged files must never cause a traceback, whatever NumPy and zipfile raise
            reason = numpy_reason(error)
            raise LayerError(f"layer {layer}: calibration {self.path}, array {name}: cannot be read as real numbers ({reason})") from error
        if not np.isfinite(values).all():
            raise LayerError(f"layer {layer}: calibration {self.path}, array {name} holds NaN or infinite values")
        if key == "delta" and (values <= 0).any():
            raise LayerError(f"layer {layer}: calibration {self.path}, array {name} must be positive; record it after the softplus")
        return values


def open_calibration(path: Path) -> NpzCalibration:
    """Open a calibration file and read the names of its arrays; the values are read later.

    Raises:
        SsmspecError: the file is not a readable .npz file, or has arrays other than delta, B and C.
    """
    try:
        require_regular(path)
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            names = tuple(file.files)
    except Exception as error:  # as above
        raise SsmspecError(f"calibration {path}: cannot be read as an .npz file ({numpy_reason(error)})") from error
    unknown = [name for name in names if name.rsplit("/", 1)[-1] not in KEYS]
    if unknown or not names:
        what = f"array {unknown[0]!r} is unknown" if unknown else "it has no arrays"
        raise SsmspecError(f"calibration {path}: {what}; expected <layer name>/delta, <layer name>/B, <layer name>/C")
    return NpzCalibration(path, names)


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


def spread(samples: FloatArray) -> str:
    """The spread of recorded values around their mean, in words: 5th to 95th percentile over samples, median over copies."""
    if len(samples) == 1:
        return "as recorded"
    mean = samples.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = np.nanmedian((np.percentile(samples, [5, 95], axis=0) / mean).reshape(2, -1), axis=1)
    return f"mean of {len(samples)} recorded samples, 5..95 % of them between {low:.2g} and {high:.2g} times the mean"
