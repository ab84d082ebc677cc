"""Causal language models of transformers, with text or tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ssmspec.errors import SsmspecError
from ssmspec.probing.model_folder import load_model, silent, tokens_of_file, tokens_of_text, transformers_for
from ssmspec.probing.subjects import Given, Subject

LENGTH = 512  # tokens of a piece, unless --max-length says otherwise
SHORTEST = 16


def language_subject(folder: Path, given: Given) -> Subject:
    """A model of a folder as transformers writes it, with pieces of a text.

    Raises:
        SsmspecError: transformers is missing or cannot read the folder, or the text is too short.
    """
    if given.text is not None and given.tokens is not None:
        raise SsmspecError("--text and --tokens are two inputs; give one of them")
    transformers = transformers_for(folder, "probe")
    with silent(transformers):
        if given.text is not None:
            ids = tokens_of_text(transformers, folder, given.text)
        elif given.tokens is not None:
            ids = tokens_of_file(given.tokens)
        else:
            raise SsmspecError(f"{folder}: a language model needs --text FILE or --tokens X.npy")
        pieces = _pieces(ids, given)
        model = load_model(transformers, folder, given.device).eval()
    vocabulary = model.get_input_embeddings().num_embeddings
    if ids.min() < 0 or ids.max() >= vocabulary:
        raise SsmspecError(f"{given.tokens or given.text}: tokens from {ids.min()} to {ids.max()}; the model has 0..{vocabulary - 1}")
    inputs = torch.from_numpy(pieces.astype(np.int64))
    note = f"{len(pieces)} pieces of {pieces.shape[1]} tokens of {given.text or given.tokens}"
    return Subject(str(folder), model, {"input_ids": inputs}, (note,), folder, task=NextToken(model, inputs))


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
        piece = self.inputs[batch : batch + 1].to(next(self.model.parameters()).device)
        logits = self.model(input_ids=piece, use_cache=False).logits
        loss = nn.functional.cross_entropy(logits[0, :-1].float(), piece[0, 1:])
        return loss, loss.detach()[None]

    def value(self, answers: Sequence[Tensor]) -> float:
        """The mean loss."""
        return float(torch.cat(list(answers)).mean())
