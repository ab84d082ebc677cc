"""The user's data: real signals of equal length, and the interpretation of their axes."""

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import SsmspecError
from ssmspec.files.reading import require_real
from ssmspec.tuning.spectra.signal_files import RawArray, read_array

AXES = {"B": "sequences", "L": "samples", "C": "channels"}
DEFAULT_LAYOUTS = {1: "L", 2: "BL", 3: "BLC"}
SHORTEST = 16  # samples of a sequence; shorter ones have no useful spectrum
MOST_SAMPLES = 2**24  # samples used per channel, a few seconds of work; the estimate has converged long before
LARGEST = 1e140  # largest amplitude, because a power spectrum sums squares
CHUNK = 2**22  # values converted to float64 at once


@dataclass(frozen=True, slots=True)
class Signals:
    """Sequences of equal length, (batch, L, channels).

    Args:
        values: (batch, L, channels), real, in the units and the type of the file; memory-mapped if possible.
        source: where they come from, for messages.
        sample_rate: [Hz], or None if the file has none.
        assumptions: what was assumed because it was not specified, in words.
    """

    values: npt.NDArray[Any]
    source: str = "data"
    sample_rate: float | None = None
    assumptions: tuple[str, ...] = ()

    @property
    def batch(self) -> int:
        return self.values.shape[0]

    @property
    def length(self) -> int:
        return self.values.shape[1]

    @property
    def channels(self) -> int:
        return self.values.shape[2]

    def part(self, sequences: slice, samples: slice) -> npt.NDArray[np.float64]:
        """Some samples of some sequences in float64, (sequences, samples, channels)."""
        with np.errstate(invalid="ignore"):  # a signaling NaN, which is detected like any other NaN
            return np.asarray(self.values[sequences, samples], dtype=np.float64)


def read_signals(path: str | Path, *, name: str | None = None, layout: str | None = None) -> Signals:
    """Read signals from a file.

    Args:
        path: .npy, .npz, .wav, .csv, .tsv or .txt; "file.npz:name" chooses an array, "file.csv:name" a column.
        name: the same choice, as a separate argument.
        layout: the axes in order: B sequences, L samples, C channels, e.g. "BLC", "BCL", "LC". By default, one axis is "L", two axes are
            "BL" in NumPy arrays and "LC" in sounds and tables, and three axes are "BLC"; the result says which was assumed.
    Returns:
        Signals (batch, L, channels). Of more than MOST_SAMPLES samples, only evenly spaced sequences or the start of one are kept.
    Raises:
        SsmspecError: the file cannot be read; values are complex, strings, objects, NaN, infinite or all equal; the axes do not fit the
            layout; there are no values, or fewer than SHORTEST samples.
    """
    raw = read_array(path, name)
    signals = as_signals(raw.values, layout=layout, source=str(path), default=raw.layout)
    return replace(signals, sample_rate=raw.sample_rate, assumptions=(*raw.notes, *_integer_note(raw), *signals.assumptions))


def as_signals(values: npt.NDArray[Any], *, layout: str | None = None, source: str = "data", default: str | None = None) -> Signals:
    """Make signals from an array; the rules for its axes and the errors are those of `read_signals`.

    Args:
        values: one to three axes, real.
        layout: letters of its axes.
        source: its name in messages.
        default: the layout of two axes if none is given, instead of "BL".
    """
    whole, chosen, assumed = in_order(values, layout=layout, source=source, default=default)
    _check_size(whole, chosen, values.shape, source)
    kept, notes = _within_budget(whole)
    signals = Signals(kept, source, assumptions=(*assumed, *notes))
    _check_values(signals)
    return signals


def in_order(
    values: npt.NDArray[Any], *, layout: str | None, source: str, default: str | None = None
) -> tuple[npt.NDArray[Any], str, tuple[str, ...]]:
    """An array as (batch, L, channels), without a copy; the layout that was used; and what was assumed, in words.

    Args:
        values, layout, source, default: as for `as_signals`.
    Raises:
        SsmspecError: the values are not real, or the axes do not fit the layout.
    """
    require_real(values, source)
    chosen = layout or _default_layout(values, source, default)
    _check_layout(chosen, values.shape, source)
    assumed = () if layout or values.ndim == 1 else (_assumption(values.shape, chosen),)
    missing = [letter for letter in "BLC" if letter not in chosen]
    ordered = values.transpose([chosen.index(letter) for letter in "BLC" if letter in chosen])
    return np.expand_dims(ordered, ["BLC".index(letter) for letter in missing]), chosen, assumed


def _default_layout(values: npt.NDArray[Any], source: str, default: str | None) -> str:
    if values.ndim not in DEFAULT_LAYOUTS:
        raise SsmspecError(
            f"{source}: an array of shape {values.shape}; expected (L,), (batch, L) or (batch, L, channels); "
            "flatten images first, x.reshape(len(x), -1)"
        )
    return default if default and values.ndim == 2 else DEFAULT_LAYOUTS[values.ndim]


def _check_layout(layout: str, shape: tuple[int, ...], source: str) -> None:
    if len(set(layout)) != len(layout) or not set(layout) <= set(AXES) or "L" not in layout:
        raise SsmspecError(
            f"layout {layout!r} is unknown; expected the letters B (sequences), L (samples), C (channels), e.g. BLC, with an L"
        )
    if len(layout) != len(shape):
        raise SsmspecError(f"{source}: shape {shape} has {len(shape)} axes, but layout {layout!r} has {len(layout)}; expected as many")


def _assumption(shape: tuple[int, ...], layout: str) -> str:
    axes = ", ".join(f"{size} {AXES[letter][: None if size != 1 else -1]}" for size, letter in zip(shape, layout, strict=True))
    return f"shape {shape} read as {axes} (layout {layout!r})"


def _check_size(values: npt.NDArray[Any], layout: str, shape: tuple[int, ...], source: str) -> None:
    if not values.size:
        raise SsmspecError(f"{source}: an array of shape {shape} has no values; expected at least {SHORTEST} samples")
    if values.shape[1] < SHORTEST:
        advice = f"; if {max(shape)} is the number of samples, give a layout other than {layout!r}" if max(shape) >= SHORTEST else ""
        raise SsmspecError(
            f"{source}: sequences of {values.shape[1]} samples in shape {shape}; expected at least {SHORTEST} samples{advice}"
        )


def _within_budget(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """At most MOST_SAMPLES samples per channel. The choice depends only on the shape, so an input and its target keep the same samples."""
    batch, length = values.shape[:2]
    if batch * length <= MOST_SAMPLES:
        return values, ()
    if length > MOST_SAMPLES:
        return values[:1, :MOST_SAMPLES], (f"the first {MOST_SAMPLES} of {length} samples of the first of {batch} sequences used",)
    kept = values[:: -(-batch * length // MOST_SAMPLES)]
    return kept, (f"{len(kept)} of {batch} sequences used, evenly spaced",)


def _check_values(signals: Signals) -> None:
    low, high = np.inf, -np.inf
    rows, width = max(1, CHUNK // (signals.length * signals.channels)), max(1, CHUNK // signals.channels)
    for start, first in product(range(0, signals.batch, rows), range(0, signals.length, width)):
        part = signals.part(slice(start, start + rows), slice(first, first + width))
        bad = int((~np.isfinite(part)).sum())
        if bad:
            where = f"from sequence {start}, sample {first}"
            raise SsmspecError(f"{signals.source}: {bad} NaN or infinite values, starting {where}; expected finite ones; fill or cut them")
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    if low == high:
        raise SsmspecError(f"{signals.source}: all values are {low:.6g}, and a constant has no spectrum; expected values that vary")
    if not (max(-low, high) < LARGEST and high - low > 1 / LARGEST):
        raise SsmspecError(f"{signals.source}: values range from {low:.3g} to {high:.3g}, so their squares overflow; rescale them")


def _integer_note(raw: RawArray) -> tuple[str, ...]:
    """A note about integer data, which may be token ids, unless they are bytes (pixels) or come from a sound file."""
    if raw.layout is None and raw.values.dtype.kind in "iu" and raw.values.dtype.itemsize > 1:
        return ("integers are read as amplitudes; for tokens give the embeddings instead, because token ids have no meaningful spectrum",)
    return ()
