"""A causal language model of transformers in a folder, and the tokens that it reads: of a text, or of a file of token numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import CheckpointError, SsmspecError, needed
from ssmspec.files.reading import numpy_reason, require_regular

TOKENIZERS = ("tokenizer", "vocab", "merges", "spiece")  # how the names of their files begin


def transformers_for(folder: Path, what: str) -> Any:
    """The package, for a folder that it can load a model from.

    Args:
        what: what runs the model, for the messages.
    Raises:
        CheckpointError: there is no such folder, or it has no config.json. MissingPackageError: transformers is not installed.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "is not there"
        raise CheckpointError(
            f"{folder}: {found}; {what} runs a model, so it needs a folder of transformers, with config.json, weights and, for --text, "
            "a tokenizer"
        )
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: has no config.json, so transformers cannot load a model from it; give a folder of transformers")
    return needed("transformers", what, "transformers")


@contextmanager
def silent(transformers: Any) -> Iterator[None]:
    """A block in which transformers warns of nothing and shows no progress of its own."""
    log = transformers.utils.logging
    verbosity, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bar:
            log.enable_progress_bar()


def tokens_of_file(path: Path) -> npt.NDArray[Any]:
    """Token numbers (tokens,) or (sequences, tokens) of a .npy file, which is read as they are needed.

    Raises:
        SsmspecError: the file holds something else.
    """
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
    if not tokens.size:
        raise SsmspecError(f"{path}: has no tokens; give a file with some")
    return tokens


def tokens_of_text(transformers: Any, folder: Path, path: Path) -> npt.NDArray[Any]:
    """Token numbers (tokens,) of a text by the tokenizer of the folder.

    Raises:
        SsmspecError: the text cannot be read or is empty, or there is no tokenizer that works.
    """
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
    if not len(found):
        raise SsmspecError(f"{path}: has no tokens that the tokenizer knows; give a file with some")
    return np.asarray(found, dtype=np.int64)


def load_model(transformers: Any, folder: Path, device: str = "cpu") -> Any:
    """The model with all of its weights, in the dtype in which they are stored.

    Raises:
        CheckpointError: transformers cannot load it, or some weights are missing.
    """
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


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
