"""Every error that ssmspec raises on purpose. The command line turns each into one line and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

INTERRUPTED = 130  # what a shell reports for a program stopped by Ctrl-C


def printable(text: str) -> str:
    """The text with escapes for characters that a terminal would obey or cannot show, which names in a file may hold."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class SsmspecError(Exception):
    """Something that the user gave cannot be used. The message says what was given, what was expected and what to do.

    The message is one printable line, whatever the names of files and layers in it hold.
    """

    exit_code = 2

    def __str__(self) -> str:
        return " ".join(printable(line) for line in super().__str__().split("\n"))


class CheckpointError(SsmspecError):
    """A file is missing, unreadable, damaged or not in a known container format."""


class LayerError(SsmspecError):
    """The tensors of a layer contradict its family, or a selection matches no layer."""


class NoLayerError(SsmspecError):
    """A readable file has no SSM layer."""

    exit_code = 3


class BackendError(SsmspecError):
    """The requested engine does not exist or cannot run here."""


class MissingPackageError(SsmspecError, ImportError):
    """A package that is installed only on demand is not there."""


def needed(package: str, what: str, extra: str | None = None) -> ModuleType:
    """A package that is installed only on demand.

    Args:
        what: what needs it. extra: the name of the extra that installs it, by default that of the package.
    Raises:
        MissingPackageError: it is not installed; the message says what to type.
    """
    with needing(package, what, extra):
        return import_module(package)


@contextmanager
def needing(package: str, what: str, extra: str | None = None) -> Iterator[None]:
    """A block of imports that need a package; arguments and errors as in `needed`."""
    try:
        yield
    except ModuleNotFoundError as error:
        root = package.partition(".")[0]
        if (error.name or root).partition(".")[0] != root:
            raise
        raise missing_package(what, root, extra or root) from error


def missing_package(what: str, package: str, extra: str) -> MissingPackageError:
    """The error of something that needs a package that is not installed."""
    return MissingPackageError(f"{what} needs {package}, which is not installed; type: pip install 'ssmspec[{extra}]'", name=package)


@contextmanager
def about(path: object) -> Iterator[None]:
    """Prefix the message of an error of a layer with the name of its file, unless the message already has it.

    Raises:
        LayerError: the LayerError of the block; or memory is too small; or linear algebra cannot handle the numbers.
    """
    try:
        yield
    except MemoryError as error:
        raise LayerError(f"{path}: out of memory ({str(error) or 'no more'}); ask for fewer points, samples or layers") from error
    except ValueError as error:
        if type(error).__name__ != "LinAlgError":  # a class of NumPy, which is too slow to import here
            raise
        raise LayerError(f"{path}: a matrix of a layer has no decomposition ({error}); its values are too extreme") from error
    except LayerError as error:
        if str(path) in str(error):
            raise
        raise LayerError(f"{path}: {error}") from error
