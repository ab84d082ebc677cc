"""Bytes <-> named arrays: read and change checkpoints in all common containers, without torch and without executing anything in them."""

from ssmspec.checkpoint.naming import average_in, common_name, count_of_layers, kind_of_average, natural_key, plain_name
from ssmspec.checkpoint.reader import is_folder_checkpoint, open_checkpoint
from ssmspec.checkpoint.tensors import Checkpoint, Described, Span, StoredTensor

__all__ = [
    "Checkpoint",
    "Described",
    "Span",
    "StoredTensor",
    "average_in",
    "common_name",
    "count_of_layers",
    "is_folder_checkpoint",
    "kind_of_average",
    "natural_key",
    "open_checkpoint",
    "plain_name",
]
