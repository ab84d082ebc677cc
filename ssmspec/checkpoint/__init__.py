"""Bytes <-> named arrays: reads checkpoints of every usual container without torch and without running anything in them."""

from ssmspec.checkpoint.naming import natural_key
from ssmspec.checkpoint.reader import open_checkpoint
from ssmspec.checkpoint.tensors import Checkpoint, Span, StoredTensor

__all__ = ["Checkpoint", "Span", "StoredTensor", "natural_key", "open_checkpoint"]
