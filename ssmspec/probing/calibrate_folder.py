"""Operating points of a model in a folder of transformers, recorded on a text or on token numbers in a file."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import SsmspecError
from ssmspec.families.configuration import context_length
from ssmspec.probing.calibrate import Progress, calibrate
from ssmspec.probing.calibrate_result import Calibration
from ssmspec.probing.model_folder import load_model, silent, tokens_of_file, tokens_of_text, transformers_for

LONGEST = 2048  # tokens of a sequence, where the context of the model is longer or not known


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderOptions:
    """What a model reads, and how much of it.

    Args:
        text: a file of text in UTF-8. tokens: a .npy file of token numbers, (tokens,) or (sequences, tokens). One of the two.
        max_length: tokens per sequence; None: the context of the model, at most `LONGEST`. limit: tokens in all.
    """

    text: Path | None = None
    tokens: Path | None = None
    max_length: int | None = None
    limit: int | None = None
    device: str = "cpu"


def calibrate_folder(folder: Path, options: FolderOptions, *, progress: Progress | None = None) -> Calibration:
    """Load a causal language model from a folder, let it read, and record what its selective layers do.

    Args:
        progress: called with (words, tokens done, tokens in all).
    Raises:
        CheckpointError: the folder holds no complete model that transformers can load. SsmspecError: the text or the tokens cannot be
            used. NoLayerError: as `ssmspec.calibrate`.
    """
    if (options.text is None) == (options.tokens is None):
        raise SsmspecError("give one of --text FILE and --tokens X.npy")
    transformers = transformers_for(folder, "calibrate")
    with silent(transformers):
        return _calibrate(transformers, folder, options, progress)


def _calibrate(transformers: Any, folder: Path, options: FolderOptions, progress: Progress | None) -> Calibration:
    data = options.text or options.tokens
    assert data is not None
    rows = tokens_of_file(data) if options.text is None else tokens_of_text(transformers, folder, data)
    total = rows.size
    model = load_model(transformers, folder, options.device)
    length = options.max_length or min(_context(model) or LONGEST, LONGEST)
    told = {"folder": str(folder), "data": data.name, "data_sha256": _digest(data), "transformers": transformers.__version__}
    limit = None if options.limit is None or options.limit >= total else options.limit
    shown = _shown(progress, limit or total)
    return calibrate(model, _sequences(rows, length), max_length=length, limit=limit, about=told, progress=shown)


def _shown(progress: Progress | None, total: int) -> Progress | None:
    """Progress out of a known number of tokens."""
    return None if progress is None else lambda words, done, _: progress(words, done, total)


def _sequences(rows: npt.NDArray[Any], length: int) -> Iterator[npt.NDArray[Any]]:
    """Rows one by one, cut to a length, so that no more than one sequence runs at a time."""
    for sequence in np.atleast_2d(rows):
        for start in range(0, len(sequence), length):
            yield np.asarray(sequence[start : start + length])


def _context(model: Any) -> int | None:
    found = context_length(model.config.to_dict())
    return None if found is None else found[0]


def _digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
