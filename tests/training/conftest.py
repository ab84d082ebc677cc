from collections.abc import Iterator

import pytest

from ssmspec.training.engine.run import torch_threads


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """These models are too small for more, and the machines that test them have other work."""
    with torch_threads(1):
        yield
