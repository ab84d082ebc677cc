"""Helpers shared by the tests of ssmspec.checkpoint."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssmspec.checkpoint import Checkpoint, open_checkpoint
from ssmspec.errors import CheckpointError


def read_all(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    return {name: tensor.read() for name, tensor in checkpoint.tensors.items()}


@pytest.fixture
def arrays() -> Callable[[Path], dict[str, np.ndarray]]:
    """Open a checkpoint and read every tensor."""
    return lambda path: read_all(open_checkpoint(path))


@pytest.fixture
def refusal() -> Callable[[Path], str]:
    """The error of a checkpoint that must not open: one line that begins with the file."""

    def refuse(path: Path) -> str:
        with pytest.raises(CheckpointError) as caught:
            read_all(open_checkpoint(path))
        line = str(caught.value)
        assert line.isprintable()
        assert path.name in line
        return line

    return refuse


@pytest.fixture
def bytes_read() -> Callable[[], int]:
    """Bytes that this process has read from files so far."""
    counter = Path("/proc/self/io")
    if not counter.exists():
        pytest.skip("this system does not count read bytes in /proc/self/io")
    return lambda: int(counter.read_text().split()[1])
