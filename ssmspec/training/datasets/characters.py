"""Texts encoded as character numbers, and the release files of the arena that hold texts.

The numbers 0, 1 and 2 stand for padding, characters outside the vocabulary, and the end of a text.

Source: state-spaces/s4, src/dataloaders/lra.py (IMDB, AAN); arXiv 2011.04006, sections 2.2 and 2.3.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssmspec.errors import SsmspecError
from ssmspec.training.datasets.release import find_files, read_lines

Tokens = npt.NDArray[np.int16]

PADDING, UNKNOWN, END = range(3)
SPECIAL = 3
REVIEWS = [f"{part}/{kind}" for part in ("train", "test") for kind in ("neg", "pos")]
PAIRS = [f"new_aan_pairs.{part}.tsv" for part in ("train", "eval", "test")]


class Vocabulary:
    """Characters by number, the most frequent first.

    Args:
        texts: texts in which characters are counted. fewest: least number of times that a character must occur.
    """

    def __init__(self, texts: Iterable[str], fewest: int = 1) -> None:
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text)
        ordered = sorted((-count, character) for character, count in counts.items() if count >= fewest)
        self.numbers = {character: SPECIAL + place for place, (_, character) in enumerate(ordered)}

    def __len__(self) -> int:
        return SPECIAL + len(self.numbers)

    def encode(self, text: str, longest: int) -> Tokens:
        """The numbers of a text, int16. They are cut so that, including the end, there are at most `longest`."""
        numbers = [self.numbers.get(character, UNKNOWN) for character in text[: longest - 1]]
        return np.array([*numbers, END], np.int16)


def read_reviews(folder: str) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Reviews of IMDB with 0 (negative) or 1 (positive), for training and for testing, from aclImdb/{train,test}/{neg,pos}/*.txt.

    Raises:
        SsmspecError: the layout is different, or a file cannot be read.
    """
    layouts = [[f"aclImdb/{name}" for name in REVIEWS], REVIEWS]
    _, places = find_files(folder, layouts, "the reviews of IMDB (aclImdb, the Large Movie Review Dataset)")
    parts = [_reviews(place, label) for place, label in zip(places, (0, 1, 0, 1), strict=True)]
    return parts[0] + parts[1], parts[2] + parts[3]


def _reviews(place: Path, label: int) -> list[tuple[str, int]]:
    paths = sorted(place.glob("*.txt"))
    if not paths:
        raise SsmspecError(f"{place} has no .txt files; expected one per review")
    return [("\n".join(read_lines(path)), label) for path in paths]


def read_pairs(folder: str) -> list[list[tuple[str, str, int]]]:
    """Pairs of papers, with 1 if one cites the other, for training, validation and testing, from new_aan_pairs.{train,eval,test}.tsv.

    Raises:
        SsmspecError: the layout is different, or a line is not valid.
    """
    layouts = [PAIRS, [f"tsv_data/{name}" for name in PAIRS], [f"lra_release/tsv_data/{name}" for name in PAIRS]]
    _, paths = find_files(folder, layouts, "the ACL anthology pairs of the Long Range Arena (lra_release, tsv_data)")
    return [[_pair(path, number, line) for number, line in enumerate(read_lines(path), start=1)] for path in paths]


def _pair(path: Path, number: int, line: str) -> tuple[str, str, int]:
    """A pair from a line with a label, two identifiers and two texts, separated by tabs."""
    cells = line.split("\t")
    label = cells[0].strip().strip('"').removesuffix(".0")
    if len(cells) != 5 or label not in ("0", "1"):
        raise SsmspecError(f"{path}, line {number}: expected five cells between tabs, the first one 0 or 1; fetch the file again")
    return cells[3].strip('"'), cells[4].strip('"'), int(label)


def pad(rows: Sequence[npt.NDArray[np.integer]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows padded with PADDING to one length, (B, L), and their original lengths, (B,)."""
    lengths = np.array([len(row) for row in rows], np.int64)
    table = np.full((len(rows), int(lengths.max())), PADDING, np.int64)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table, lengths
