"""Folders of torch.distributed.checkpoint: as torch itself writes them, and with tensors in several pieces, as several processes would.

Functions import `torch.distributed.checkpoint`, since that takes seconds and every worker of the tests imports this module.
"""

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

Box = tuple[tuple[int, ...], tuple[int, ...]]  # offsets, sizes


def save(folder: Path, content: Mapping[str, object], *, safetensors: bool = False) -> Path:
    """What `torch.distributed.checkpoint.save` writes in one process."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.filesystem import FileSystemWriter, SerializationFormat

    kind = SerializationFormat.SAFETENSORS if safetensors else SerializationFormat.TORCH_SAVE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(dict(content), storage_writer=FileSystemWriter(folder, serialization_format=kind), no_dist=True)
    return folder


def load(folder: Path, names: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors as torch reads them: what a folder made here means to torch."""
    import torch.distributed.checkpoint as dcp

    found = {name: torch.zeros_like(tensor) for name, tensor in names.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(found, checkpoint_id=folder, no_dist=True)
    return found


def halves(shape: Sequence[int], axis: int = 0) -> list[Box]:
    """Two pieces along an axis, the first one the larger."""
    cut = -(-shape[axis] // 2)
    zeros = [0] * len(shape)
    first, second = list(shape), list(shape)
    first[axis], second[axis] = cut, shape[axis] - cut
    there = list(zeros)
    there[axis] = cut
    return [(tuple(zeros), tuple(first)), (tuple(there), tuple(second))]


def save_pieces(folder: Path, tensors: Mapping[str, torch.Tensor], boxes: Mapping[str, list[Box]]) -> Path:
    """A folder in which every tensor is in the given pieces, piece i in file __i_0.distcp; whole where no boxes are given."""
    from torch.distributed.checkpoint.filesystem import _StorageInfo
    from torch.distributed.checkpoint.metadata import (
        ChunkStorageMetadata,
        Metadata,
        MetadataIndex,
        TensorProperties,
        TensorStorageMetadata,
    )

    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    entries, places = {}, {}
    for name, tensor in tensors.items():
        pieces = boxes.get(name, [((0,) * tensor.ndim, tuple(tensor.shape))])
        chunks = [ChunkStorageMetadata(torch.Size(offset), torch.Size(size)) for offset, size in pieces]
        entries[name] = TensorStorageMetadata(TensorProperties(dtype=tensor.dtype), tensor.shape, chunks)
        for number, (offset, size) in enumerate(pieces):
            if number not in files:
                files[number] = (folder / f"__{number}_0.distcp").open("wb")
            file = files[number]
            part = tensor[tuple(slice(o, o + s) for o, s in zip(offset, size, strict=True))].clone()
            start = file.tell()
            torch.save(part, file)
            index = MetadataIndex(name, torch.Size(offset), number)
            places[index] = _StorageInfo(Path(file.name).name, start, file.tell() - start)
    for file in files.values():
        file.close()
    metadata = Metadata(entries, storage_data=places)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    return folder


def change_metadata(folder: Path, change) -> None:
    """Writes `.metadata` anew after a change of the object."""
    path = folder / ".metadata"
    metadata = pickle.loads(path.read_bytes())
    change(metadata)
    path.write_bytes(pickle.dumps(metadata))
