"""Classes of sequences as published benchmarks have them: settings, tokens and pixels as inputs, and the data sets of the arena.

Without data of the user's a preset draws examples by the rules of `ssmspec.training.datasets`; then its settings say how many there are.
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
    """What published tasks have besides.

    Args:
        examples, tests: how many are drawn where no data are given. width: of one, in the unit of the task; 0 for that of the release.
    """

    examples: int = 0
    tests: int = 0
    width: int = 0

    @property
    def drawn(self) -> bool:
        """Whether examples are drawn and not read."""
        return not self.data and self.examples > 0


class Dataset(NamedTuple):
    """Sequences as a model takes them, their classes, and which are trained on and held out; `lines` say what they are."""

    source: Source
    labels: Labels
    parts: tuple[Rows, Rows]
    lines: Sequence[str]


Read = Callable[[Any, torch.device], Dataset]


def problem(read: Read, kind: type[SequenceModel] = SequenceModel) -> Callable[[Any, torch.device, State | None], Classification[Source]]:
    """What a task needs to make its problem: settings and device to a data set, and the kind of model."""

    def make(settings: PublishedSettings, device: torch.device, start: State | None = None) -> Classification[Source]:
        found = read(settings, device)
        return Classification(settings, found.source, found.labels, found.parts, found.lines, start, kind)

    return make


def in_turn(sizes: Sequence[int]) -> tuple[Rows, Rows]:
    """Numbers of the sequences to train on and of those held out, which follow them."""
    training, held_out = sizes
    return np.arange(training), np.arange(training, training + held_out)


class Local(Protocol):
    """Settings that may name a folder of the user's."""

    @property
    def data(self) -> str:
        """The folder, or "" for none."""


def require_data(settings: Local, what: str) -> str:
    """The user's folder.

    Raises:
        SsmspecError: none was given.
    """
    if not settings.data:
        raise SsmspecError(f"this preset learns from {what}; name the folder that has it with --data, or take --preset small")
    return settings.data


def absolute(settings: PublishedSettings) -> PublishedSettings:
    """The settings with the folder as it can be found from anywhere."""
    return replace(settings, data=str(Path(settings.data).absolute())) if settings.data else settings


class Tokens:
    """Sequences of symbols, 0 for padding: (B, L) in all, or (B, 2, L) for pairs.

    Args:
        table, lengths: as `pad` gives them, of B or 2 B rows, the first members of all pairs first. vocabulary: symbols.
        pairs: whether they are pairs. device: of the tensors.
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
        """Symbols of the longest sequence."""
        return int(self._table.shape[-1])

    def take(self, rows: Rows) -> tuple[Tensor, ...]:
        """Symbols, cut after the longest of these sequences, and lengths."""
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
    """Pictures read row by row, one gray value a sample, normalized.

    Args:
        read: numbers of pictures to (b, side, side) in 0..255. side: of a picture. mean, scale: of gray values in 0..1.
    """

    def __init__(
        self, read: Callable[[Rows], npt.NDArray[Any]], side: int, device: torch.device, *, mean: float = 0.5, scale: float = 0.5
    ) -> None:
        self._read, self.side, self.device = read, side, device
        self.mean, self.scale = mean, scale

    @property
    def inputs(self) -> dict[str, int]:
        """One feature."""
        return {"d_input": 1}

    @property
    def longest(self) -> int:
        """Pixels of a picture."""
        return self.side**2

    def take(self, rows: Rows) -> tuple[Tensor, ...]:
        """x (b, L, 1)."""
        gray = self._read(rows).reshape(len(rows), -1, 1).astype(np.float32) / 255
        return (torch.from_numpy((gray - self.mean) / self.scale).to(self.device),)

    def about(self) -> dict[str, Any]:
        """How gray values become inputs."""
        return {"gray": "0..1", "mean": self.mean, "scale": self.scale}
