"""Writes checkpoints with orbax-checkpoint in every layout that it has; a program of its own, as JAX counts its devices when it starts.

python orbax_files.py ARRAYS.npz FOLDER [LAYOUT ...]
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LAYOUTS = (
    "ocdbt",
    "folders",
    "zarr3",
    "zarr3 folders",
    "standard",
    "sharded",
    "sharded folders",
    "manager",
    "composite",
    "no default",
    "v1",
)


def write(arrays: Path, folder: Path, layouts: Sequence[str] = LAYOUTS) -> None:
    """One folder for every layout, in a process with four devices."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, str(arrays), str(folder), *layouts]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def nested(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """Dotted names as a tree."""
    tree: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        *path, last = name.split(".")
        place = tree
        for key in path:
            place = place.setdefault(key, {})
        place[last] = value
    return tree


def _main(arrays: Path, folder: Path, layouts: Sequence[str]) -> None:
    import jax
    import jax.numpy as jnp
    import ml_dtypes
    import orbax.checkpoint as ocp
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    half = np.dtype(ml_dtypes.bfloat16)
    with np.load(arrays) as file:
        values = {name: file[name].view(half) if file[name].dtype == np.uint16 else file[name] for name in file.files}
    mesh = Mesh(np.array(jax.devices()).reshape(4), ("x",))

    def split(array: np.ndarray) -> Any:
        axis = next((axis for axis, size in enumerate(array.shape) if size % 4 == 0), None)
        spec = PartitionSpec(*("x" if axis == number else None for number in range(array.ndim)))
        return jax.device_put(array, NamedSharding(mesh, spec))

    def state(put: Callable[[np.ndarray], Any] = jnp.asarray) -> dict[str, Any]:
        params = nested(list(values), [put(value) for value in values.values()])
        moments = jax.tree.map(jnp.zeros_like, params)
        return {"params": params, "opt_state": [{"mu": moments}, None], "step": 7}

    def save(handler: Any, tree: Any) -> Callable[[Path], None]:
        return lambda path: ocp.Checkpointer(handler).save(path, args=ocp.args.PyTreeSave(tree))

    def standard(path: Path) -> None:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path, state())
            checkpointer.wait_until_finished()

    def manager(items: Any, **options: Any) -> Callable[[Path], None]:
        def run(path: Path) -> None:
            with ocp.CheckpointManager(path, **options) as checkpoints:
                for step in (10, 20):
                    checkpoints.save(step, args=items())
                checkpoints.wait_until_finished()

        return run

    def v1(path: Path) -> None:
        from orbax.checkpoint import v1 as orbax

        getattr(orbax, "save", orbax.save_pytree)(path, state())

    handler, save_item = ocp.PyTreeCheckpointHandler, ocp.args.StandardSave
    writers: dict[str, Callable[[Path], None]] = {
        "ocdbt": save(handler(), state()),
        "folders": save(handler(use_ocdbt=False), state()),
        "zarr3": save(handler(use_zarr3=True), state()),
        "zarr3 folders": save(handler(use_ocdbt=False, use_zarr3=True), state()),
        "standard": standard,
        "sharded": save(handler(), state(split)),
        "sharded folders": save(handler(use_ocdbt=False), state(split)),
        "manager": manager(lambda: save_item(state())),
        "composite": manager(
            lambda: ocp.args.Composite(state=save_item(state()), extra=ocp.args.JsonSave({"a": 1})), item_names=("state", "extra")
        ),
        "no default": manager(lambda: ocp.args.Composite(model_x=save_item(state())), item_names=("model_x",)),
        "v1": v1,
    }
    for layout in layouts:
        writers[layout](folder / layout)
    sys.stdout.write(json.dumps(list(layouts)))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]).absolute(), sys.argv[3:])
