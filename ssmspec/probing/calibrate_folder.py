"""Operating points of a model in a folder of transformers, recorded on a text or on token numbers in a file."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import CheckpointError, SsmspecError, needed
from ssmspec.families.configuration import context_length
from ssmspec.files.reading import numpy_reason, require_regular
from ssmspec.probing.calibrate import Progress, calibrate
from ssmspec.probing.calibrate_result import Calibration

LONGEST = 2048  # tokens of a sequence, where the context of the model is longer or not known
EXTRA = "transformers"
TOKENIZERS = ("tokenizer", "vocab", "merges", "spiece")  # how the names of their files begin


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
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        raise CheckpointError(
            f"{folder}: {what}; calibrate runs a model, so it needs a folder of transformers, with config.json, weights and, for --text, "
            "a tokenizer"
        )
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: has no config.json, so transformers cannot load a model from it; give a folder of transformers")
    transformers: Any = needed("transformers", "calibrate", EXTRA)
    with _silent(transformers.utils.logging):
        return _calibrate(transformers, folder, options, progress)


@contextmanager
def _silent(log: Any) -> Iterator[None]:
    """A block in which transformers warns of nothing and shows no progress of its own."""
    verbosity, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bar:
            log.enable_progress_bar()


def _calibrate(transformers: Any, folder: Path, options: FolderOptions, progress: Progress | None) -> Calibration:
    data = options.text or options.tokens
    assert data is not None
    rows = _of_text(transformers, folder, data) if options.text is not None else [_of_file(data)]
    total = sum(row.size for row in rows)
    if not total:
        raise SsmspecError(f"{data}: has no tokens{'' if options.text is None else ' that the tokenizer knows'}; give a file with some")
    model = _loaded(transformers, folder, options.device)
    length = options.max_length or min(_context(model) or LONGEST, LONGEST)
    told = {"folder": str(folder), "data": data.name, "data_sha256": _digest(data), "transformers": transformers.__version__}
    limit = None if options.limit is None or options.limit >= total else options.limit
    shown = _shown(progress, limit or total)
    return calibrate(model, _sequences(rows, length), max_length=length, limit=limit, about=told, progress=shown)


def _shown(progress: Progress | None, total: int) -> Progress | None:
    """Progress out of a known number of tokens."""
    return None if progress is None else lambda words, done, _: progress(words, done, total)


def _sequences(rows: list[npt.NDArray[Any]], length: int) -> Iterator[npt.NDArray[Any]]:
    """Rows one by one, cut to a length, so that no more than one sequence runs at a time."""
    for row in rows:
        for sequence in row[None] if row.ndim == 1 else row:
            for start in range(0, len(sequence), length):
                yield np.asarray(sequence[start : start + length])


def _of_file(path: Path) -> npt.NDArray[Any]:
    """Token numbers of a .npy file, which is read as they are needed."""
    require_regular(path)
    try:
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # damaged files must never cause a traceback, whatever NumPy raises
        raise SsmspecError(f"{path}: {numpy_reason(error)}; expected token numbers in a .npy file") from error
    if not isinstance(tokens, np.ndarray):
        raise SsmspecError(f"{path}: an .npz archive; expected one array of token numbers in a .npy file")
    if tokens.dtype.kind not in "iu":
        raise SsmspecError(f"{path}: values of type {tokens.dtype}; expected token numbers, which are integers")
    if tokens.ndim not in (1, 2):
        raise SsmspecError(f"{path}: has shape {tokens.shape}; expected (tokens,) or (sequences, tokens)")
    return tokens


def _of_text(transformers: Any, folder: Path, path: Path) -> list[npt.NDArray[Any]]:
    """Token numbers of a text by the tokenizer of the folder."""
    require_regular(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SsmspecError(f"{path}: is not UTF-8 text (byte {error.start}); give a text, or token numbers with --tokens X.npy") from error
    except OSError as error:
        raise SsmspecError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not text.strip():
        raise SsmspecError(f"{path}: is empty; give a file with some text")
    if not any(entry.name.startswith(TOKENIZERS) or entry.suffix == ".model" for entry in folder.iterdir()):
        raise SsmspecError(f"{folder}: has no tokenizer (tokenizer.json, ...), which --text needs; add its files, or give --tokens X.npy")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        found = tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    except Exception as error:  # transformers raises what it finds: OSError, ValueError, KeyError, ImportError, ...
        raise SsmspecError(
            f"{folder}: its tokenizer cannot be loaded or fails on {path} ({_reason(error)}); repair it, or give --tokens X.npy"
        ) from error
    return [np.asarray(found, dtype=np.int64)]


def _loaded(transformers: Any, folder: Path, device: str) -> Any:
    """The model with all of its weights, in the dtype in which they are stored."""
    try:
        model, told = transformers.AutoModelForCausalLM.from_pretrained(
            str(folder), local_files_only=True, dtype="auto", output_loading_info=True
        )
        missing = sorted(told.get("missing_keys") or ())
        wrong = sorted(str(key) for key in told.get("mismatched_keys") or ())
        if not (missing or wrong):
            model = model.to(device)
    except Exception as error:  # as above
        raise CheckpointError(f"{folder}: transformers cannot load a causal language model from it: {_reason(error)}") from error
    if missing or wrong:
        first = (missing or wrong)[0]
        raise CheckpointError(
            f"{folder}: {len(missing) + len(wrong)} tensors of the model are missing or have another shape, the first {first}; they would "
            "be random numbers, so give a folder with all weights"
        )
    return model


def _context(model: Any) -> int | None:
    found = context_length(model.config.to_dict())
    return None if found is None else found[0]


def _digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
