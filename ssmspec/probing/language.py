"""Causal language models of transformers, with text or tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssmspec.errors import SsmspecError, needed
from ssmspec.files.reading import one_line
from ssmspec.probing.subjects import Given, Subject
from ssmspec.tuning.spectra.signal_files import read_array

LENGTH = 512  # tokens of a piece, unless --max-length says otherwise
SHORTEST = 16


def language_subject(folder: Path, given: Given) -> Subject:
    """A model of a folder as transformers writes it, with pieces of a text.

    Raises:
        SsmspecError: transformers is missing or cannot read the folder, or the text is too short.
    """
    if given.text is None and given.tokens is None:
        raise SsmspecError(f"{folder}: a language model needs --text FILE or --tokens X.npy")
    if given.text is not None and given.tokens is not None:
        raise SsmspecError("--text and --tokens are two inputs; give one of them")
    ids = _tokens(folder, given)
    pieces = _pieces(ids, given)
    model = _model(folder)
    vocabulary = model.get_input_embeddings().num_embeddings
    if ids.min() < 0 or ids.max() >= vocabulary:
        raise SsmspecError(f"{given.tokens or given.text}: tokens from {ids.min()} to {ids.max()}; the model has 0..{vocabulary - 1}")
    inputs = torch.from_numpy(pieces.astype(np.int64))
    note = f"{len(pieces)} pieces of {pieces.shape[1]} tokens of {given.text or given.tokens}"
    return Subject(str(folder), model, {"input_ids": inputs}, (note,), folder, task=NextToken(model, inputs))


def _model(folder: Path) -> Any:
    transformers = needed("transformers", "a language model")
    log = transformers.utils.logging
    shown = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise SsmspecError(f"{folder}: transformers cannot load it as a causal language model ({one_line(str(error), 160)})") from error
    finally:
        if shown:
            log.enable_progress_bar()
    missing = sorted(map(str, (*info["missing_keys"], *info["mismatched_keys"])))
    if missing:
        raise SsmspecError(f"{folder}: its files lack {missing[0]} ({len(missing)} in all), which transformers would draw at random")
    return model.eval()


def _tokens(folder: Path, given: Given) -> np.ndarray:
    if given.tokens is not None:
        raw = read_array(given.tokens).values
        if raw.dtype.kind not in "iu" or raw.ndim not in (1, 2) or not raw.size:
            raise SsmspecError(f"{given.tokens}: shape {raw.shape} of {raw.dtype}; expected integers (T,) or (B, L)")
        return np.asarray(raw)
    assert given.text is not None
    try:
        text = given.text.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SsmspecError(f"{given.text}: {getattr(error, 'strerror', None) or 'is not UTF-8 text'}") from error
    transformers = needed("transformers", "a language model")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise SsmspecError(f"{folder}: it has no tokenizer ({one_line(str(error), 120)}); give --tokens X.npy") from error
    return np.array(tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int64)


def _pieces(ids: np.ndarray, given: Given) -> np.ndarray:
    """(B, L) pieces of a stream of tokens, evenly spaced, or rows as they are."""
    length = given.max_length or LENGTH
    if ids.ndim == 2:
        rows = ids[np.unique(np.linspace(0, len(ids) - 1, given.count).astype(int)), :length]
        if rows.shape[1] < SHORTEST:
            raise SsmspecError(f"the rows have {rows.shape[1]} tokens; expected at least {SHORTEST}")
        return rows
    length = min(length, len(ids))
    if length < SHORTEST:
        raise SsmspecError(f"the text has {len(ids)} tokens; expected at least {SHORTEST}")
    starts = np.unique(np.linspace(0, len(ids) - length, given.count).astype(int))
    return np.stack([ids[start : start + length] for start in starts])


@dataclass(frozen=True)
class NextToken:
    """The loss of the next token."""

    model: nn.Module
    inputs: Tensor
    metric: str = "loss"
    meaning: str = "mean cross-entropy of the next token [nats]"

    @property
    def batches(self) -> int:
        """One per piece."""
        return len(self.inputs)

    def answer(self, batch: int) -> tuple[Tensor, Tensor]:
        """The loss of one piece, twice."""
        piece = self.inputs[batch : batch + 1]
        logits = self.model(input_ids=piece, use_cache=False).logits
        loss = nn.functional.cross_entropy(logits[0, :-1].float(), piece[0, 1:])
        return loss, loss.detach()[None]

    def value(self, answers: Sequence[Tensor]) -> float:
        """The mean loss."""
        return float(torch.cat(list(answers)).mean())
