"""Batches of tokens as they are run: checked, cut to a length and to a number of tokens, and hashed."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssmspec.errors import SsmspecError


@dataclass(slots=True)
class Seen:
    """What was run so far: tokens that count, sequences, the longest of them, and the digest of all tokens (int64, little endian)."""

    tokens: int = 0
    sequences: int = 0
    longest: int = 0
    cut: bool = False
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, tokens: Tensor, mask: Tensor | None) -> int:
        """Count a piece; returns how many of its tokens count."""
        counted = tokens if mask is None else tokens[mask]
        self.digest.update(counted.cpu().numpy().astype("<i8").tobytes())
        self.tokens += counted.numel()
        self.sequences += len(tokens)
        self.longest = max(self.longest, tokens.shape[1])
        return counted.numel()


def pieces(
    batches: Any, vocabulary: int | None, max_length: int | None, limit: int | None, seen: Seen
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Tokens (sequences, length) and which of them count (None: all), until `limit` tokens count.

    Args:
        batches: see `ssmspec.probing.calibrate.calibrate`. vocabulary: how many tokens there are, if it is known.
    Raises:
        SsmspecError: a batch that is not a batch of tokens.
    """
    whole = [batches] if isinstance(batches, Mapping) or hasattr(batches, "shape") else batches
    if not isinstance(whole, Iterable) or isinstance(whole, str | bytes):
        raise SsmspecError(f"batches is {type(batches).__name__}; give arrays or tensors of token numbers (sequences, length)")
    for number, batch in enumerate(whole):
        tokens, mask = _tokens(batch, number, vocabulary)
        for start in range(0, tokens.shape[1], max_length or tokens.shape[1]):
            stop = start + (max_length or tokens.shape[1])
            yield from _within(tokens[:, start:stop], None if mask is None else mask[:, start:stop], limit, seen)
            if seen.cut:
                return


def _within(tokens: Tensor, mask: Tensor | None, limit: int | None, seen: Seen) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The piece, or of one beyond the limit its first sequences and the beginning of the next."""
    size = tokens.numel() if mask is None else int(mask.sum())
    if not size:
        return
    if limit is None or seen.tokens + size <= limit:
        yield tokens, mask
        return
    seen.cut = True
    for row in range(len(tokens)):
        left = limit - seen.tokens
        if left <= 0:
            return
        last = left if mask is None else int(np.searchsorted(mask[row].cumsum(0).cpu().numpy(), left)) + 1
        if mask is None or mask[row, :last].any():
            yield tokens[row : row + 1, :last], None if mask is None else mask[row : row + 1, :last]


def _tokens(batch: Any, number: int, vocabulary: int | None) -> tuple[Tensor, Tensor | None]:
    given, mask = (batch, None) if not isinstance(batch, Mapping) else (batch.get("input_ids"), batch.get("attention_mask"))
    if isinstance(batch, Mapping) and given is None:
        raise SsmspecError(
            f"batch {number} has {', '.join(map(str, batch)) or 'no keys'}; expected input_ids, and attention_mask if it is padded"
        )
    try:
        tokens = given.detach() if isinstance(given, Tensor) else np.asarray(given)
        dtype = str(tokens.dtype).removeprefix("torch.")
        if not dtype.startswith(("int", "uint")):
            raise SsmspecError(f"batch {number} has dtype {dtype}; expected token numbers, which are integers")
        tokens = tokens if isinstance(tokens, Tensor) else torch.from_numpy(tokens.astype(np.int64))
    except (TypeError, ValueError, RuntimeError) as error:
        raise SsmspecError(f"batch {number} cannot be read as an array of token numbers ({type(given).__name__})") from error
    tokens = (tokens[None] if tokens.ndim == 1 else tokens).long()
    if tokens.ndim != 2 or not tokens.numel():
        raise SsmspecError(f"batch {number} has shape {tuple(tokens.shape)}; expected (sequences, length), with at least one token")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or (vocabulary is not None and high >= vocabulary):
        known = "0 or more" if vocabulary is None else f"0..{vocabulary - 1}, the vocabulary of the model"
        raise SsmspecError(f"batch {number} has token {low if low < 0 else high}; expected {known}")
    if mask is None:
        return tokens, None
    counts = torch.as_tensor(mask).bool()
    if counts.shape != tokens.shape:
        raise SsmspecError(f"batch {number}: attention_mask has shape {tuple(counts.shape)}, expected {tuple(tokens.shape)} like input_ids")
    return tokens, None if counts.all() else counts
