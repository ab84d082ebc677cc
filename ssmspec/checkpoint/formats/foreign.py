"""Checkpoints that are recognized and not read: what each is called, and what to do to have one that is."""

import re
from collections.abc import Collection

from ssmspec.checkpoint.formats.tree import TensorRef
from ssmspec.checkpoint.remote.path import Location, entries
from ssmspec.checkpoint.tensors import problem, short

RANK_FILE = re.compile(r"(bf16_|fp16_)?zero_pp_rank_\d+_mp_rank_\d+_(model|optim)_states\.pt")
ZERO = (
    "it holds one rank's part of the weights; in the folder of the checkpoint run 'python zero_to_fp32.py . consolidated' (a script that"
    " DeepSpeed puts there) and give the result"
)
ORBAX = (
    "in which there are no arrays: give the folder of the item that has them, or restore it with"
    " orbax.checkpoint.PyTreeCheckpointer().restore(folder) and save the arrays with numpy.savez"
)
ORBAX_NAMES = ("_CHECKPOINT_METADATA", "manifest.ocdbt", "_METADATA", "ocdbt.process_0")
SAVED_MODEL = (
    "which is not read: load it with tf.saved_model.load(folder), or its variables with tf.train.load_checkpoint, and save the arrays with"
    " numpy.savez"
)
FLAT = (
    "save with FSDP.set_state_dict_type(model, StateDictType.FULL_STATE_DICT), or with torch.distributed.checkpoint.state_dict"
    " get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))"
)
SHOWN = 3


def refuse_folder(folder: Location, *, below: bool) -> None:
    """Refuses folders of Orbax, TensorFlow and zarr, with `below` also where they are one level below.

    Raises:
        CheckpointError: naming the format and what to do.
    """
    for place in (folder, *(_subfolders(folder) if below else ())):
        inside = f" (in {place.name})" if place != folder else ""
        found = next((name for name in ORBAX_NAMES if (place / name).exists()), None)
        if found is not None:
            raise problem(folder, f"an Orbax checkpoint of JAX ({found}){inside}, {ORBAX}")
        if (place / "saved_model.pb").exists() or (place / "saved_model.pbtxt").exists():
            raise problem(folder, f"a TensorFlow SavedModel{inside}, {SAVED_MODEL}")
        index = next(place.glob("*.index"), None)
        if index is not None and (place / f"{index.stem}.data-00000-of-00001").exists():
            raise problem(folder, f"a TensorFlow checkpoint ({short(index.name, 60)}){inside}, {SAVED_MODEL}")
        if (place / ".zmetadata").exists() or next(place.glob("*/.zarray"), None) is not None:
            raise problem(
                folder, f"a distributed checkpoint in zarr{inside}, which is not read: save it as torch_dist (--ckpt-format) instead"
            )


def _subfolders(folder: Location) -> list[Location]:
    return sorted(entry for entry in entries(folder) if entry.is_dir() and not entry.name.startswith("."))[:64]


def refuse_file(path: Location, head: bytes) -> None:
    """Refuses files by their first bytes, or where those say nothing by their name.

    Raises:
        CheckpointError: naming the format and what to do.
    """
    if head[4:8] == b"TFL3":
        raise problem(
            path, "a TensorFlow Lite model (.tflite), quantized and stripped of names, which is not read: give the weights it was made of"
        )
    if path.name in ("saved_model.pb", "saved_model.pbtxt"):
        raise problem(path, f"the graph of a TensorFlow SavedModel, {SAVED_MODEL}")
    if path.name in ORBAX_NAMES:
        raise problem(path, "a part of an Orbax checkpoint of JAX: give the folder that it is in")


def refuse_rank_file(path: Location, root: object) -> None:
    """Refuses what DeepSpeed's ZeRO writes for each rank, by the content: names of files may have changed.

    Raises:
        CheckpointError: with the command that consolidates the ranks.
    """
    if not isinstance(root, dict):
        return
    called = f" ({path.name})" if RANK_FILE.fullmatch(path.name) else ""
    weights = root.get("module")
    if "param_shapes" in root and isinstance(weights, dict):
        sizes = [0 in tensor.shape for tensor in weights.values() if isinstance(tensor, TensorRef)]
        if sizes and 2 * sum(sizes) > len(sizes):
            raise problem(path, f"a rank file of DeepSpeed ZeRO-3{called} with {sum(sizes)} empty tensors: {ZERO}")
    state = root.get("optimizer_state_dict")
    if isinstance(state, dict) and "zero_stage" in state:
        raise problem(path, f"the optimizer state of one rank of DeepSpeed ZeRO{called}: {ZERO}")


def refuse_names(path: Location, names: Collection[str]) -> None:
    """Refuses weights that FSDP has flattened: only the model that was wrapped knows their shapes.

    Raises:
        CheckpointError: with how to save them whole.
    """
    flat = [name for name in names if "_flat_param" in name or name.rpartition(".")[2] == "flat_param"]
    if flat:
        shown = ", ".join(short(name, 80) for name in flat[:SHOWN])
        raise problem(
            path, f"{len(flat)} flat parameter{'' if len(flat) == 1 else 's'} of FSDP ({shown}), whose shapes are not stored: {FLAT}"
        )


def rank_file_in(names: Collection[str]) -> str | None:
    """The first of DeepSpeed's rank files among the names of a folder."""
    return next((name for name in sorted(names) if RANK_FILE.fullmatch(name)), None)
