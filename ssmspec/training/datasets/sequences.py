"""The user's sequences: one array, or a folder of sounds that may differ in length. They are read once and normalized by the training part.

A folder holds .wav files, or subfolders of .wav files whose names are the labels of the sounds in them, as in Speech Commands.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssmspec.errors import SsmspecError
from ssmspec.files.reading import require_real, require_regular
from ssmspec.systems.statespace import FloatArray
from ssmspec.tuning.spectra.signal_files import check_bytes, read_array, split_name
from ssmspec.tuning.spectra.signals import in_order

KEPT = 2**26  # up to this many values (256 MB of float32), normalized sequences stay on the device; else they are read as drawn
CHUNK = 2**22  # number of values that are converted to float64 at once
SHORTEST = 2  # least number of samples in a sequence

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sequences:
    """B sequences of real numbers with C features.

    Args:
        values: (B, L, C), memory-mapped if possible; or (T, C), with all sequences one after the other.
        starts: (B,) starts of the sequences in T; None for (B, L, C). lengths: (B,) number of samples of each.
        source: name of the source for messages. names: names of the sounds. labels: names of the subfolders that hold them.
        notes: what was assumed or skipped, as text.
    """

    values: npt.NDArray[Any]
    starts: Rows | None
    lengths: Rows
    source: str
    names: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def features(self) -> int:
        """C."""
        return self.values.shape[-1]

    def name(self, row: int) -> str:
        """The name of a sequence, for messages."""
        return self.names[row] if self.names else f"sequence {row}"

    def piece(self, row: int, start: int, stop: int) -> npt.NDArray[Any]:
        """Samples of a sequence as stored, (stop - start, C)."""
        if self.starts is None:
            return self.values[row, start:stop]
        first = int(self.starts[row])
        return self.values[first + start : first + stop]

    def parts(self, rows: Rows) -> Iterator[tuple[Rows, npt.NDArray[Any]]]:
        """The sequences with these numbers, a few at a time: their numbers, and their values (b, L, C) as stored."""
        if self.starts is not None:
            yield from ((rows[i : i + 1], self.piece(row, 0, self.lengths[row])[None]) for i, row in enumerate(rows))
            return
        size = max(1, CHUNK // max(1, self.values[:1].size))
        for first in range(0, len(rows), size):
            chosen = rows[first : first + size]
            yield chosen, self.values[chosen]

    def spans(self, starts: Rows, stops: Rows) -> Iterator[tuple[Rows, npt.NDArray[Any]]]:
        """The part of every sequence from a start to a stop, in the form of `parts`."""
        size = max(1, CHUNK // self.features)
        for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            for first in range(start, stop, size):
                yield np.array([row]), self.piece(row, first, min(first + size, stop))[None]


def read_sequences(path: str, *, axes: str | None = None, flat: str | None = None, longest: int | None = None) -> Sequences:
    """Sequences from a file that `read_array` reads, or from a folder of sounds.

    Args:
        path: "file.npz:name" names an array. axes: letters of the axes, B sequences, L samples, C features.
        flat: letters of two axes that are not named; None means LC in tables and sounds, and BL elsewhere.
        longest: number of samples after which sequences are cut; None cuts nothing.
    Raises:
        SsmspecError: as `read_array`, or there are no sequences, sequences are too short, or sounds differ in kind.
    """
    if Path(path).is_dir():
        if axes is not None:
            raise SsmspecError(f"{path}: axes do not apply to a folder of sounds; leave axes out")
        found = _read_sounds(Path(path))
    else:
        raw = read_array(path)
        whole, _, assumed = in_order(raw.values, layout=axes, source=path, default=flat or raw.layout)
        found = Sequences(whole, None, np.full(len(whole), whole.shape[1]), path, notes=(*raw.notes, *assumed))
    if not found.values.size:
        raise SsmspecError(f"{path}: an array of shape {found.values.shape} has no values")
    short = np.flatnonzero(found.lengths < SHORTEST)
    if short.size:
        raise SsmspecError(f"{path}: {found.name(short[0])} has {found.lengths[short[0]]} samples; expected at least {SHORTEST}")
    return found if longest is None else cut(found, longest)


def cut(sequences: Sequences, longest: int) -> Sequences:
    """The sequences, cut after this many samples."""
    values = sequences.values[:, :longest] if sequences.starts is None else sequences.values
    lengths = np.minimum(sequences.lengths, longest)
    return Sequences(values, sequences.starts, lengths, sequences.source, sequences.names, sequences.labels, sequences.notes)


def _sounds(folder: Path) -> tuple[list[Path], list[str]]:
    """The sounds of a folder by name, and the subfolders that are skipped, such as _background_noise_ of Speech Commands."""
    hidden = [entry.name for entry in sorted(folder.iterdir()) if entry.is_dir() and entry.name.startswith(("_", "."))]
    places = [folder, *(entry for entry in sorted(folder.iterdir()) if entry.is_dir() and entry.name not in hidden)]
    return [path for place in places for path in sorted(place.iterdir()) if path.suffix.lower() == ".wav"], hidden


def find_sounds(folder: Path) -> tuple[list[Path], tuple[str, ...] | None, tuple[str, ...]]:
    """The sounds of a folder by name, their subfolders as labels (or None), and notes on what was skipped.

    Raises:
        SsmspecError: there are no sounds, or some are in the folder and some in subfolders.
    """
    paths, hidden = _sounds(folder)
    if not paths:
        raise SsmspecError(f"{folder}: no .wav files in it or in its subfolders; expected subfolders named after their labels, or sounds")
    inside = [path.parent != folder for path in paths]
    if any(inside) != all(inside):
        raise SsmspecError(
            f"{folder}: it has both sounds and subfolders with sounds; expected either subfolders named after labels, or only sounds"
        )
    labels = tuple(path.parent.name for path in paths) if all(inside) else None
    return paths, labels, (f"skipped: {', '.join(hidden)}",) if hidden else ()


def read_sound(path: Path) -> tuple[npt.NDArray[Any], str]:
    """Samples (L, C) as stored, and the kind of sound, such as "16000 Hz, 1 channel, int16".

    Raises:
        SsmspecError: as `read_array`.
    """
    raw = read_array(path)
    values = raw.values[:, None] if raw.values.ndim == 1 else raw.values
    channels = values.shape[1]
    return values, f"{raw.sample_rate:g} Hz, {channels} channel{'s' * (channels > 1)}, {values.dtype}"


def _read_sounds(folder: Path) -> Sequences:
    paths, labels, notes = find_sounds(folder)
    check_bytes(sum(path.stat().st_size for path in paths), f"{folder}: its sounds")
    arrays: list[npt.NDArray[Any]] = []
    first = ""
    for path in paths:
        values, kind = read_sound(path)
        first = first or kind
        if kind != first:
            raise SsmspecError(f"{path}: it has {kind}, but the first sound has {first}; convert all to one kind")
        arrays.append(values)
    lengths = np.array([len(values) for values in arrays], dtype=np.int64)
    names = tuple(path.relative_to(folder).as_posix() for path in paths)
    return Sequences(np.concatenate(arrays), np.cumsum(lengths) - lengths, lengths, str(folder), names, labels, notes)


def digest(path: str) -> str:
    """Hexadecimal SHA-256 of a file, or of the names and digests of the sounds in a folder.

    Raises:
        SsmspecError: the file does not exist, or is not a regular file.
    """
    file, _ = split_name(path)
    if not file.is_dir():
        require_regular(file)
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    whole = hashlib.sha256()
    for sound in _sounds(file)[0]:
        whole.update(f"{sound.relative_to(file).as_posix()} {digest(str(sound))}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


class Normalization(NamedTuple):
    """x -> (x - mean)/scale per feature, both (C,) float64."""

    mean: FloatArray
    scale: FloatArray


def normalization(sequences: Sequences, parts: Iterable[tuple[Rows, npt.NDArray[Any]]]) -> Normalization:
    """Mean and standard deviation of every feature over some parts. A feature that is constant there keeps its scale.

    Args:
        parts: numbers of sequences, and their values (b, L, C).
    Raises:
        SsmspecError: values are NaN, infinite, too large to square, or all equal.
    """
    count, mean, squares = 0, np.zeros(sequences.features), np.zeros(sequences.features)
    for rows, values in parts:
        require_real(values, sequences.source)
        wide = np.asarray(values, dtype=np.float64)
        bad = ~np.isfinite(wide).all(axis=(1, 2))
        if bad.any():
            where = sequences.name(int(rows[bad][0]))
            raise SsmspecError(f"{sequences.source}: NaN or infinite values in {where}; expected finite values; fill or remove them")
        with np.errstate(over="ignore", invalid="ignore"):
            own, size = wide.mean(axis=(0, 1)), wide.shape[0] * wide.shape[1]
            squares += ((wide - own) ** 2).sum(axis=(0, 1)) + (own - mean) ** 2 * (count * size / (count + size))
            mean += (own - mean) * (size / (count + size))
        count += size
    deviation = np.sqrt(squares / count)
    if not np.isfinite(deviation).all():
        raise SsmspecError(f"{sequences.source}: the values are so large that their squares overflow; rescale them")
    if not deviation.any():
        raise SsmspecError(f"{sequences.source}: all values are {mean[0]:.6g}; expected values that vary")
    return Normalization(mean, np.where(deviation > 0, deviation, 1))


class Examples:
    """Normalized sequences on the device of the model.

    Args:
        sequences, normal: what is normalized, and how. device: device of the tensors.
    """

    def __init__(self, sequences: Sequences, normal: Normalization, device: torch.device) -> None:
        self.sequences, self.normal, self.device = sequences, normal, device
        self._kept = self._tensor(sequences.values) if sequences.values.size <= KEPT else None

    @property
    def inputs(self) -> dict[str, int]:
        """The input size of a model, as an option of `ssmspec.nn.SequenceModel`."""
        return {"d_input": self.sequences.features}

    @property
    def longest(self) -> int:
        """Number of samples of the longest sequence."""
        return int(self.sequences.lengths.max())

    def about(self) -> dict[str, Any]:
        """How values become inputs, as JSON values."""
        return {"mean": self.normal.mean.tolist(), "scale": self.normal.scale.tolist()}

    def take(self, rows: Rows) -> tuple[Tensor, ...]:
        """x (b, L, C) float32 of whole sequences. If they differ in length, x is padded with zeros, and lengths (b,) are returned too."""
        sequences = self.sequences
        if sequences.starts is None:
            return (self._tensor(sequences.values[rows]) if self._kept is None else self._kept[torch.from_numpy(rows)],)
        lengths = sequences.lengths[rows]
        x = torch.zeros(len(rows), int(lengths.max()), sequences.features, device=self.device)
        for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            x[place, :length] = self._piece(row, 0, length)
        return x, torch.from_numpy(lengths).to(self.device)

    def pieces(self, rows: Sequence[int] | Rows, starts: Sequence[int] | Rows, length: int) -> Tensor:
        """Pieces of one length, (b, length, C) float32."""
        return torch.stack([self._piece(int(row), int(start), int(start) + length) for row, start in zip(rows, starts, strict=True)])

    def _piece(self, row: int, start: int, stop: int) -> Tensor:
        sequences = self.sequences
        if self._kept is None:
            return self._tensor(sequences.piece(row, start, stop))
        if sequences.starts is None:
            return self._kept[row, start:stop]
        first = int(sequences.starts[row])
        return self._kept[first + start : first + stop]

    def _tensor(self, values: npt.NDArray[Any]) -> Tensor:
        wide = (np.asarray(values, dtype=np.float64) - self.normal.mean) / self.normal.scale
        return torch.from_numpy(wide.astype(np.float32)).to(self.device)
