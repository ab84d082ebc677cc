"""Every error that ssmspec raises on purpose; the command line turns each into one line and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # what a shell reports for a program stopped by Ctrl-C


def printable(text: str) -> str:
    """The text with escapes for characters that a terminal would obey or cannot show, which names in a file may hold."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class SsmspecError(Exception):
    """Something the user gave cannot be used. The text says what was given, what was expected and what to do.

    The text is one printable line, whatever the names of files and layers in it hold.
    """

    exit_code = 2

    def __str__(self) -> str:
        return " ".join(printable(line) for line in super().__str__().split("\n"))


class CheckpointError(SsmspecError):
    """A file that is missing, unreadable, damaged or of no known container."""


class LayerError(SsmspecError):
    """A layer whose tensors contradict its family, or a choice that names no layer."""


class NoLayerError(SsmspecError):
    """A readable file without any SSM layer."""

    exit_code = 3


class BackendError(SsmspecError):
    """A named engine that does not exist or cannot run here."""


@contextmanager
def about(path: object) -> Iterator[None]:
    """Gives what is wrong with a layer the name of its file in front, where the text does not have it.

    Raises:
        LayerError: the one of the block; too little memory; numbers that linear algebra cannot work with.
    """
    try:
        yield
    except MemoryError as error:
        raise LayerError(f"{path}: out of memory ({str(error) or 'no more'}); ask for fewer points, samples or layers") from error
    except ValueError as error:
        if type(error).__name__ != "LinAlgError":  # of NumPy, which is too heavy to be loaded here
            raise
        raise LayerError(f"{path}: a matrix of a layer has no decomposition ({error}); its values are too extreme") from error
    except LayerError as error:
        if str(path) in str(error):
            raise
        raise LayerError(f"{path}: {error}") from error
