"""Trained public checkpoints, which are not in the repository. SSMSPEC_REAL_CHECKPOINTS names the folder that holds them."""

import os
from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch

from ssmspec.checkpoint import open_checkpoint

FOLDER = os.environ.get("SSMSPEC_REAL_CHECKPOINTS")
FILES = sorted(
    path
    for path in (Path(FOLDER).glob("*/*") if FOLDER else ())
    if path.name != "README.md" and not path.name.startswith("reference_") and path.is_file()
)
needs_files = pytest.mark.skipif(not FILES, reason="SSMSPEC_REAL_CHECKPOINTS names no folder with trained checkpoints")


def flatten(node: object, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], np.ndarray]:
    if isinstance(node, torch.Tensor):
        return {path: node.detach().numpy()}
    if isinstance(node, np.ndarray):
        return {path: node}
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, tuple | list) else ()
    return {name: leaf for key, child in children for name, leaf in flatten(child, (*path, str(key))).items()}


def array(code: int, data: bytes) -> object:
    shape, dtype, values = msgpack.unpackb(data)
    return np.frombuffer(values, dtype).reshape(shape) if code == 1 else None


def independent(path: Path) -> dict[tuple[str, ...], np.ndarray]:
    """Every tensor except those of the optimizer, read by the library that wrote the file."""
    if path.read_bytes()[:2] == b"PK":
        tree = torch.load(path, weights_only=True, map_location="cpu")
    else:
        tree = msgpack.unpackb(path.read_bytes(), ext_hook=array)
    return {name: leaf for name, leaf in flatten(tree).items() if not name[0].startswith("opt")}


@needs_files
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_tensor_equals_what_the_writing_library_reads(path):
    tensors = open_checkpoint(path).tensors
    expected = independent(path)
    assert len(tensors) == len(expected)
    for name, values in expected.items():
        candidates = [".".join(name[start:]) for start in range(len(name))]
        tensor = next(tensors[candidate] for candidate in candidates if candidate in tensors)
        assert tensor.dtype == values.dtype.name
        assert tensor.shape == values.shape
        assert tensor.read().tobytes() == np.ascontiguousarray(values).tobytes()


def test_the_folder_of_real_checkpoints_is_known():
    if not FOLDER:
        pytest.skip("SSMSPEC_REAL_CHECKPOINTS is not set: no trained checkpoints to compare with")
    assert FILES
