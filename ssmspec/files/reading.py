"""Read small files that a user names in options (numeric arrays and TOML) without blocking, guessing or executing anything."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import SsmspecError

LARGEST_TOML = 1 << 20  # bytes; a larger file is probably a wrong file
MOST_DOTS = 500  # per line; for keys with thousands of parts, the time of tomllib grows with the square of their number


def exists(path: Path) -> bool:
    """Whether a path exists; a name that cannot be looked up counts as missing."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def require_regular(path: Path) -> None:
    """Refuse files that could make a reader wait forever.

    Raises:
        SsmspecError: the path does not exist, cannot be looked up, or is not a regular file.
    """
    try:
        regular = path.is_file()
        missing = not path.exists()
    except (OSError, ValueError) as error:
        raise SsmspecError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if missing:
        raise SsmspecError(f"{path}: no such file")
    if not regular:
        raise SsmspecError(f"{path}: not a regular file; NumPy cannot read folders, pipes or devices")


def read_numbers(path: Path) -> npt.NDArray[np.float64]:
    """The real numbers of a .npy file.

    Raises:
        SsmspecError: the file does not exist, is not a regular file, is damaged, or holds values that are not real numbers.
    """
    require_regular(path)
    try:
        with np.errstate(all="ignore"):  # sizes in headers that overflow integers
            array: Any = np.load(path, allow_pickle=False)
    except Exception as error:  # damaged files must never cause a traceback, whatever NumPy raises
        raise SsmspecError(f"{path}: {numpy_reason(error)}") from error
    if not isinstance(array, np.ndarray):
        raise SsmspecError(f"{path}: an .npz archive; expected one array in a .npy file")
    require_real(array, str(path))
    return array.astype(np.float64)


def require_real(array: npt.NDArray[Any], where: str) -> None:
    """Refuse complex numbers, strings and objects.

    Raises:
        SsmspecError: the values are not real numbers.
    """
    if array.dtype.kind not in "fiub" and not np.can_cast(array.dtype, np.float64):  # bfloat16 and similar types have a kind of their own
        raise SsmspecError(f"{where}: values of type {array.dtype}; expected real numbers")


def numpy_reason(error: BaseException) -> str:
    """Why NumPy could not read a file, in one line, without NumPy's unsafe advice to allow pickles."""
    text = " ".join(str(error).split())
    if "pickle" in text.lower():
        return "not a NumPy file of numbers (Python objects are not read)"
    return text or type(error).__name__


def read_toml(path: Path, advice: str = "") -> dict[str, Any]:
    """The content of a TOML file.

    Args:
        advice: what to do if it cannot be read; appended to the message.
    Raises:
        SsmspecError: the same errors as `parse_toml`; also a file that cannot be read, is too long, or is not UTF-8 text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_TOML + 1)
        text = data.decode()
    except UnicodeDecodeError as error:
        raise SsmspecError(f"{path}: is not UTF-8 text (byte {error.start}); expected a TOML file") from error
    except (OSError, ValueError) as error:
        raise SsmspecError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}{advice}") from error
    if len(data) > LARGEST_TOML:
        raise SsmspecError(f"{path}: has more than {LARGEST_TOML} bytes; expected a TOML file of a few lines")
    return parse_toml(text, str(path))


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """The content of a TOML text; messages refer to it as `source`.

    Raises:
        SsmspecError: the text is not valid TOML, or tomllib would take minutes to parse it.
    """
    import tomllib  # here, since most commands read no TOML, and its patterns take longer to compile than a small file to read

    if any(line.count(".") > MOST_DOTS for line in text.splitlines()):
        raise SsmspecError(f"{source}: has a line with more than {MOST_DOTS} dots; expected keys of a few words")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise SsmspecError(f"{source}: is not valid TOML: {one_line(str(error)) or 'nested too deeply'}") from error


def known_keys(table: Mapping[str, Any], known: Sequence[str], where: str, what: str = "key") -> None:
    """Refuse unknown keys of a TOML table.

    Raises:
        SsmspecError: names the first unknown key and lists the known ones.
    """
    unknown = [key for key in table if key not in known]
    if unknown:
        raise SsmspecError(f"{where}: {what} {shown(unknown[0])} is unknown; choose one of {', '.join(known)}")


def shown(value: object) -> str:
    """A value from a file, as it is shown in a message."""
    try:
        return one_line(repr(value))
    except ValueError:  # an integer too long to print
        return "a number with thousands of digits"


def one_line(text: str, limit: int = 80) -> str:
    """The text as part of one line."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def characters(text: str) -> str:
    """A path or command as printable text: bytes that are invalid in the locale are decoded as UTF-8, or else escaped."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")
