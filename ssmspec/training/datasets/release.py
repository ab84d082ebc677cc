"""Files of published data sets in folders of the user."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ssmspec.errors import SsmspecError
from ssmspec.files.reading import require_regular


def find_files(folder: str, layouts: Sequence[Sequence[str]], what: str) -> tuple[int, list[Path]]:
    """The files of the first layout that a folder holds completely.

    Args:
        folder: a folder of the user. layouts: for each layout in which the data set is published, paths below the folder.
        what: the data set and its source.
    Returns:
        The number of the layout, and its files.
    Raises:
        SsmspecError: no layout is complete; the message names the expected paths.
    """
    place = Path(folder)
    for number, names in enumerate(layouts):
        paths = [place / name for name in names]
        if all(path.exists() for path in paths):
            for path in paths:
                if not path.is_dir():
                    require_regular(path)
            return number, paths
    expected = " or ".join(_listed(names) for names in layouts)
    raise SsmspecError(f"{folder} does not hold {what}; expected it to contain {expected}; give the folder that has them with --data")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 5 else f"{', '.join(names[:2])}, .., {names[-1]}"


def read_lines(path: Path) -> Iterable[str]:
    """Lines of a text file in UTF-8, without their line ends. Empty lines are skipped.

    Raises:
        SsmspecError: the file cannot be read, or has another encoding.
    """
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            yield from (line.rstrip("\r\n") for line in file if line.strip())
    except UnicodeDecodeError as error:
        raise SsmspecError(f"{path}: not valid UTF-8 text ({error.reason} at byte {error.start}); fetch the file again") from error
    except OSError as error:
        raise SsmspecError(f"{path}: {error.strerror or error}") from error
