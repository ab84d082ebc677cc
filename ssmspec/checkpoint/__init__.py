"""Bytes <-> named arrays: reads and changes checkpoints of every usual container without torch and without running anything in them."""

from ssmspec.checkpoint.naming import natural_key
from ssmspec.checkpoint.reader import open_checkpoint
from ssmspec.checkpoint.tensors import Checkpoint, Span, StoredTensor
from ssmspec.checkpoint.write import write_changed

__all__ = ["Checkpoint", "Span", "StoredTensor", "natural_key", "open_checkpoint", "write_changed"]
