import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from program import Type, ssmspec

from ssmspec.backends import CauchySum, load_backend


def pytest_configure(config: pytest.Config) -> None:
    """Let the default run draw the same examples every time, so that only a change can make it fail. Other runs draw more and new ones."""
    settings.register_profile("same examples", derandomize=True, database=None, max_examples=40)
    settings.register_profile("new examples", derandomize=False, print_blob=True, max_examples=1000)
    settings.load_profile("same examples" if config.option.markexpr == "not nightly" else "new examples")


@pytest.fixture(autouse=True)
def _signals() -> None:
    """Handle signals as in a terminal. A shell that runs this in the background ignores some, and so does an interrupted command."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20241002)


@pytest.fixture(scope="session")
def engine() -> CauchySum:
    return load_backend("reference")


@pytest.fixture(scope="session")
def real_checkpoints() -> Callable[[str], Path]:
    """Path of a real checkpoint by its name below the folder that SSMSPEC_REAL_CHECKPOINTS names."""
    folder = os.environ.get("SSMSPEC_REAL_CHECKPOINTS")
    if not folder:
        pytest.skip("SSMSPEC_REAL_CHECKPOINTS does not name the folder of real checkpoints")

    def path(name: str) -> Path:
        found = Path(folder) / name
        if not found.exists():
            pytest.skip(f"{name} is not among the real checkpoints")
        return found

    return path


@pytest.fixture
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of pictures are written, and nothing is on them."""
    from drawing import Figure, blank

    monkeypatch.setattr(Figure, "savefig", blank)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Type:
    """Runs `ssmspec ...` in the test's own folder and in this process."""
    monkeypatch.chdir(tmp_path)
    return partial(ssmspec, cwd=Path())
