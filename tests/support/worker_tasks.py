"""Functions that tests let other processes do."""

import os
import signal
import time
from pathlib import Path

from ssmspec.errors import SsmspecError


def square(number: int) -> int:
    """Its square."""
    return number * number


def first_is_last(given: tuple[int, str]) -> int:
    """The number; that of 0 only after that of all others, which leave files."""
    number, folder = given
    if number:
        (Path(folder) / str(number)).touch()
    else:
        while len(list(Path(folder).iterdir())) < 5:
            time.sleep(0.01)
    return number


def deadly(given: tuple[int, str]) -> int:
    """The number. 2 kills its process the first time, which a file in the folder remembers; 5 every time."""
    number, folder = given
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 2 and not (Path(folder) / "killed").exists():
        (Path(folder) / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refused(number: int) -> int:
    """An error for 3."""
    if number == 3:
        raise SsmspecError("three is refused")
    return number


def threads(number: int) -> dict[str, str]:
    """The variables of the process that limit threads, and the number of the engine."""
    from ssmspec.backends.threads import thread_count

    found = {name: value for name, value in os.environ.items() if name.endswith(("_NUM_THREADS", "_MAXIMUM_THREADS"))}
    return found | {"engine": str(thread_count()), "folder": str(Path.cwd())}


def unfinished(given: tuple[int, str]) -> None:
    """Begins to write a file, says so, and never ends."""
    from ssmspec.files.writing import Kind, whole_file

    number, folder = given
    with whole_file(Path(folder) / f"{number}.csv", Kind.table) as file:
        file.write(b"half of it")
        file.flush()
        (Path(folder) / f"{number}.begun").touch()
        time.sleep(3600)
