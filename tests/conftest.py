import gc
import os
import signal
import sys
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings

from ssmspec.backends import CauchySum, load_backend
from ssmspec.cli.freed_memory import keep_freed

if TYPE_CHECKING:
    from program import Type


# what the shell that starts the tests says about its terminal, and about other processes
TERMINAL = ("FORCE_COLOR", "NO_COLOR", "PY_COLORS", "CLICOLOR", "CLICOLOR_FORCE", "GITHUB_ACTIONS", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
GROUP = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def pytest_configure(config: pytest.Config) -> None:
    """Give every machine the same environment, before any module reads it, and the same examples.

    The default run draws the same examples every time, so that only a change can make it fail. Other runs draw more and new ones.
    """
    for name in (*TERMINAL, *GROUP):
        os.environ.pop(name, None)
    os.environ |= {"COLUMNS": "80", "LINES": "24"}
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for the worker processes: the matrices are too small for more threads
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads of torch that wait would keep their cores busy
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # in this process: for a few small graphs none is started
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes would compile the same modules
    sys.dont_write_bytecode = False
    keep_freed()  # as the program does
    settings.register_profile("same examples", derandomize=True, database=None, max_examples=40)
    settings.register_profile("new examples", derandomize=False, print_blob=True, max_examples=1000)
    settings.load_profile("same examples" if config.option.markexpr == "not nightly" else "new examples")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage in the meantime: next to everything that is made stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave what was collected to the end. Ten thousand tests are millions of objects, and the garbage collector would visit them all."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _signals() -> None:
    """Handle signals as in a terminal. A shell that runs this in the background ignores some, and so does an interrupted command."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _one_thread_of_torch() -> None:
    """Use one thread, so that sums have the same order on every machine. The models are too small for more."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


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
    """Write the files of pictures with nothing on them, which is not placed either: that is most of the time of a picture."""
    from drawing import Figure, blank

    monkeypatch.setattr("ssmspec.report.figures.style._lay_out", lambda figure, dpi: None)
    monkeypatch.setattr(Figure, "savefig", blank)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Type":
    """Run `ssmspec ...` in the test's own folder and in this process."""
    from program import ssmspec

    monkeypatch.chdir(tmp_path)
    return partial(ssmspec, cwd=Path())
