"""Classification of sequences as in published benchmarks: settings, tokens and pixels as inputs, and the data sets of the arena.

Without data from the user, a preset draws examples by the rules of `ssmspec.training.datasets`. Its settings then give their number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssmspec.errors import SsmspecError
from ssmspec.nn import SequenceModel
from ssmspec.training.datasets.characters import pad
from ssmspec.training.datasets.sequences import Rows
from ssmspec.training.datasets.targets import Labels
from ssmspec.training.kinds.classification import Classification
from ssmspec.training.kinds.own_data import DataSettings, Source
from ssmspec.training.task import State

Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSettings(DataSettings):
    """The additional settings of published tasks.

    Args:
        examples, tests: number of examples that are drawn if no data are given. width: size of an example, in the unit of the task; 0 is
            the size of the release.
    """

    examples: int = 0
    tests: int = 0
    width: int = 0

    @property
    def drawn(self) -> bool:
        """Whether examples are drawn instead of read."""
        return not self.data and self.examples > 0


class Dataset(NamedTuple):
    """Sequences in the form that a model takes, their classes, and the training and held-out numbers. `lines` describe the data."""

    source: Source
    labels: Labels
    parts: tuple[Rows, Rows]
    lines: Sequence[str]


Read = Callable[[Any, torch.device], Dataset]


def problem(read: Read, kind: type[SequenceModel] = SequenceModel) -> Callable[[Any, torch.device, State | None], Classification[Source]]:
    """The function that makes the problem of a task, from the function that reads its data set and the class of its model."""

    def make(settings: PublishedSettings, device: torch.device, start: State | None = None) -> Classification[Source]:
        found = read(settings, device)
        return Classification(settings, found.source, found.labels, found.parts, found.lines, start, kind)

    return make


def in_turn(sizes: Sequence[int]) -> tuple[Rows, Rows]:
    """Numbers of the training sequences, and of the held-out sequences that follow them."""
    training, held_out = sizes
    return np.arange(training), np.arange(training, training + held_out)


class Local(Protocol):
    """Settings that may name a folder of the user."""

    @property
    def data(self) -> str:
        """The folder, or "" for none."""


def require_data(settings: Local, what: str) -> str:
    """The user's folder.

    Raises:
        SsmspecError: no folder was given.
    """
    if not settings.data:
        raise SsmspecError(f"this preset learns from {what}; give the folder that has it with --data, or use --preset small")
    return settings.data


def absolute(settings: PublishedSettings) -> PublishedSettings:
    """The settings with the absolute path of the folder."""
    return replace(settings, data=str(Path(settings.data).absolute())) if settings.data else settings


class Tokens:
    """Sequences of symbols, (B, L) in all, or (B, 2, L) for pairs. Symbol 0 is padding.

    Args:
        table, lengths: as `pad` returns them, with B rows, or with 2 B rows for pairs, where the first members of all pairs come first.
        vocabulary: number of symbols. pairs: whether the sequences are pairs. device: device of the tensors.
    """

    def __init__(self, table: Whole, lengths: Whole, vocabulary: int, device: torch.device, *, pairs: bool = False) -> None:
        shape = (2, len(table) // 2) if pairs else (len(table),)
        self._table = torch.from_numpy(table.astype(np.int32)).reshape(*shape, -1)
        self._lengths = torch.from_numpy(lengths).reshape(shape)
        if pairs:
            self._table, self._lengths = self._table.transpose(0, 1).contiguous(), self._lengths.T.contiguous()
        self.device, self.vocabulary = device, vocabulary

    @property
    def inputs(self) -> dict[str, int]:
        """The size of the vocabulary."""
        return {"vocabulary": self.vocabulary}

    @property
    def longest(self) -> int:
        """Number of symbols of the longest sequence."""
        return int(self._table.shape[-1])

    def take(self, rows: Rows) -> tuple[Tensor, ...]:
        """The symbols, cut to the longest of these sequences, and the lengths."""
        lengths = self._lengths[torch.from_numpy(rows)]
        symbols = self._table[torch.from_numpy(rows), ..., : int(lengths.max())]
        return symbols.to(self.device, torch.int64), lengths.to(self.device)

    def about(self) -> dict[str, Any]:
        """The size of the vocabulary."""
        return {"vocabulary": self.vocabulary}


def tokens(rows: Sequence[npt.NDArray[np.integer[Any]]], vocabulary: int, device: torch.device, *, pairs: bool = False) -> Tokens:
    """Sequences of symbols from rows of different lengths."""
    return Tokens(*pad(rows), vocabulary, device, pairs=pairs)


class Pixels:
    """Normalized pictures as sequences, row by row, with one gray value per sample.

    Args:
        read: maps numbers of pictures to (b, side, side) in 0..255. side: side of a picture. mean, scale: those of gray values in 0..1.
    """

    def __init__(
        self, read: Callable[[Rows], npt.NDArray[Any]], side: int, device: torch.device, *, mean: float = 0.5, scale: float = 0.5
    ) -> None:
        self._read, self.side, self.device = read, side, device
        self.mean, self.scale = mean, scale

    @property
    def inputs(self) -> dict[str, int]:
        """One input feature."""
        return {"d_input": 1}

    @property
    def longest(self) -> int:
        """Number of pixels of a picture."""
        return self.side**2

    def take(self, rows: Rows) -> tuple[Tensor, ...]:
        """x (b, L, 1)."""
        gray = self._read(rows).reshape(len(rows), -1, 1).astype(np.float32) / 255
        return (torch.from_numpy((gray - self.mean) / self.scale).to(self.device),)

    def about(self) -> dict[str, Any]:
        """How gray values become inputs, as JSON values."""
        return {"gray": "0..1", "mean": self.mean, "scale": self.scale}
