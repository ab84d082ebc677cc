"""What a run loads, loaded before a process forks, so that the forks need not load it again."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch._dynamo  # noqa: F401  (optimizers and DistributedDataParallel load it)

from ssmspec.training.engine.run import run
from ssmspec.training.engine.run_folder import read_config, write_config


def preload(folder: Path) -> None:
    """Do two steps of a run like that of the folder, elsewhere."""
    config = read_config(folder)
    with TemporaryDirectory() as place:
        config = replace(config, settings=replace(config.settings, steps=2))
        write_config(Path(place), config)
        run(config, Path(place), pictures=False)
