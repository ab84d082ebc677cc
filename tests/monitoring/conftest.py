from collections.abc import Iterator

import pytest

from ssmspec.training.engine.run import torch_threads


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread, since these models are too small for more."""
    with torch_threads(1):
        yield
