"""HDF5 files, of Keras above all: every dataset is a tensor, named by its path.

Keras 3 calls variables by their number below a layer's path ("layers/mamba_layer/vars/0"), Keras 2 by their names
("model_weights/mamba/mamba/A_log:0"). Source: keras-team/keras, src/saving/saving_lib.py (H5IOStore) and
src/legacy/saving/legacy_h5_format.py.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ssmspec.checkpoint.derived import JoinedTensor
from ssmspec.checkpoint.formats.keras_names import Path, names_in_pytorch
from ssmspec.checkpoint.formats.native import NativeProcess, NativeTensor, whole
from ssmspec.checkpoint.formats.tree import put_leaf
from ssmspec.checkpoint.naming import name_tree
from ssmspec.checkpoint.remote.path import Location, RemotePath
from ssmspec.checkpoint.tensors import ITEMSIZE, MAX_DIMENSIONS, Contents, problem, short

MAGIC = b"\x89HDF\r\n\x1a\n"
MOST_RATIO = 1100  # of values to bytes in the file: deflate makes at most 1032 bytes of one
WEIGHTS, OPTIMIZER = "model_weights", "optimizer_weights"  # of Keras 2


def read_hdf5(path: Location, size: int) -> Contents:
    """Names, shapes and dtypes of all datasets; values are read when they are asked for.

    Raises:
        CheckpointError: remote, h5py is not installed, damaged, or a dataset that the file cannot bear out.
    """
    if isinstance(path, RemotePath):
        raise problem(path, "an HDF5 file is read from a local file only: --download fetches it")
    process, place = NativeProcess(path, "h5"), str(path.absolute())
    answer, _ = process.ask("the list of the datasets of the HDF5 file", do="datasets", path=place)
    skipped: dict[str, str] = dict.fromkeys(answer["links"], "a link, perhaps to another file")
    good: dict[Path, Mapping[str, Any]] = {}
    for entry in answer["datasets"]:
        reason = entry["reason"] or _unread(entry, size, path)
        if reason or (keys := _keys(entry["path"])) in good:
            skipped["/".join(entry["path"])] = reason or "another one has its name"
        else:
            good[keys] = entry
    shapes = {keys: tuple(entry["shape"]) for keys, entry in good.items()}
    in_pytorch = names_in_pytorch(shapes)
    root: dict[str, object] = {}
    for keys, entry in good.items():
        name, flipped = in_pytorch.get(keys, (keys, False))
        request = {"do": "dataset", "path": place, "names": entry["path"], "dtype": entry["dtype"]}
        shape = shapes[keys][::-1] if flipped else shapes[keys]
        leaf = whole(NativeTensor("/".join(entry["path"]), shape, entry["dtype"], process, request, flipped))
        if not put_leaf(root, name, leaf):
            put_leaf(root, ("/".join(keys),), leaf)
    named = name_tree(root, lambda text: problem(path, text))
    tensors = {name: replace(leaf, name=name) for name, leaf in named.leaves.items() if isinstance(leaf, JoinedTensor)}
    notes = [f"HDF5 of Keras: {len(in_pytorch)} tensors of Mamba layers have their names in PyTorch"] if in_pytorch else []
    if skipped:
        first = next(iter(skipped))
        notes.append(f"datasets were skipped: {len(skipped)}, such as {short(first, 60)} ({skipped[first]})")
    return Contents("hdf5", tensors, named.config, (*notes, *named.notes))


def _keys(names: list[str]) -> Path:
    """The path of a dataset without what Keras 2 adds."""
    keys = tuple("optimizer" if key == OPTIMIZER else key.removesuffix(":0") for key in names)
    return keys[1:] if keys[0] == WEIGHTS and len(keys) > 1 else keys


def _unread(entry: Mapping[str, Any], size: int, path: Location) -> str:
    """Why a dataset is not read; "" if it is.

    Raises:
        CheckpointError: it tells more values than the file can hold.
    """
    if entry["dtype"] not in ITEMSIZE or len(entry["shape"]) > MAX_DIMENSIONS:
        return f"dtype {short(entry['dtype'], 40)}"
    nbytes = math.prod(entry["shape"]) * ITEMSIZE[entry["dtype"]]
    if nbytes > MOST_RATIO * min(size, max(entry["stored"], 1)):
        name = short("/".join(entry["path"]))
        raise problem(path, f"dataset '{name}' tells {nbytes} bytes of values and has {entry['stored']} in the file; fetch it again")
    return ""
