"""What the C library does with memory that arrays gave back."""

import ctypes
import os
import sys
from contextlib import suppress

KEPT = 256 << 20  # bytes of freed memory that stay with the process
MAPPED = 32 << 20  # bytes from which on an array has pages of its own, which go back to the system with it; glibc allows no more
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
CHOSEN = (
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TOP_PAD_",
    "GLIBC_TUNABLES",
)  # how users choose it


def keep_freed() -> None:
    """Keep freed memory for the next array, where the C library is glibc and the user set nothing.

    By default, glibc gives pages at the end of the heap back to the system as soon as an array there is deleted. The next one gets fresh
    pages, which have to be cleared first: 3 to 17 % of the time of `analyze`, and 10 % of that of `train`. The most memory that a process
    takes is about the same.
    """
    if sys.platform != "linux" or any(name in os.environ for name in CHOSEN):
        return
    with suppress(AttributeError, OSError):  # other C libraries have no such parameters
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, MAPPED)
        library.mallopt(_TRIM_THRESHOLD, KEPT)
