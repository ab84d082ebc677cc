"""Tensors that only native libraries can decode: they are read by another process, whose end is one line and not the end of this one."""

import atexit
import contextlib
import json
import math
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ssmspec.checkpoint.derived import JoinedTensor, Piece
from ssmspec.checkpoint.tensors import ITEMSIZE, numpy_dtype, problem, short

WORKER = Path(__file__).with_name("native_worker.py")
PATIENCE = 120.0  # seconds for an answer
SLOWEST = 1e6  # bytes per second that an answer brings at least
MOST_LINE = 1 << 28  # bytes of an answer's line


@dataclass
class _Started:
    """A process, its program, the process that started it, and whether every answer so far was a proper one."""

    process: subprocess.Popen[bytes]
    program: Path
    owner: int
    proper: bool = True


_waiting: list[_Started] = []  # at most one, which read a checkpoint without an error: it takes half a second to load the libraries


class NativeProcess:
    """The process that reads one checkpoint; it is started when it is first asked. Without an error it reads the next checkpoint, too.

    Args:
        path: what errors name. extra: the extra of ssmspec that has the library.
    """

    def __init__(self, path: Path, extra: str) -> None:
        self.path, self.extra = path, extra
        self._lock = threading.Lock()
        self._started: _Started | None = None

    def ask(self, what: str, nbytes: int = 0, /, **request: object) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        """The answer to a request, and the bytes that belong to it.

        Args:
            what: the tensor or file that an error names. nbytes: how many bytes the answer must bring.
        Raises:
            CheckpointError: the library refuses the file, is not installed, or did not survive it.
        """
        with self._lock:
            started = self._running()
            process, proper, started.proper = started.process, started.proper, False
            assert process.stdin is not None
            assert process.stdout is not None
            timer = threading.Timer(PATIENCE + nbytes / SLOWEST, process.kill)
            timer.start()
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                line = process.stdout.readline(MOST_LINE)
                header = json.loads(line) if line.endswith(b"\n") else None
                data = np.empty(nbytes if header and "answer" in header else 0, np.uint8)
                whole = header is not None and header.get("bytes", 0) == len(data) and _fill(process, data)
            except (OSError, ValueError):
                header, whole = None, False
            finally:
                timer.cancel()
            if header is None or not whole:
                raise problem(self.path, self._ended(what))
            started.proper = proper and "answer" in header
        if "missing" in header:
            text = f"needs a package that is not installed ({header['missing']}): pip install 'ssmspec[{self.extra}]'"
            raise problem(self.path, text)
        if "error" in header:
            text = f"{what} cannot be read ({short(header['error'], 300)})"
            raise problem(self.path, f"{text}: damaged, or of another version; fetch it again")
        return header["answer"], data

    def _running(self) -> _Started:
        if self._started is None:
            self._started = _idle() or _Started(_start(), WORKER, os.getpid())
            weakref.finalize(self, _release, self._started)
        return self._started

    def _ended(self, what: str) -> str:
        """What to say of a process that gave no proper answer; another one is started for the next request."""
        assert self._started is not None
        self._started.process.kill()
        code = self._started.process.wait()
        _end(self._started)
        self._started = None
        how = f"with signal {-code}" if code < 0 else f"with exit code {code}"
        return f"the process that reads {what} ended {how}: the file is damaged, or too large for the memory; fetch it again"


def _idle() -> _Started | None:
    """The process that waits for the next checkpoint, if there is one."""
    with contextlib.suppress(IndexError):
        found = _waiting.pop()
        if (found.program, found.owner) == (WORKER, os.getpid()) and found.process.poll() is None:
            return found
        _end(found)
    return None


def _start() -> subprocess.Popen[bytes]:
    command, pipe = [sys.executable, "-P", str(WORKER)], subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, cwd=WORKER.anchor)


def _fill(process: subprocess.Popen[bytes], data: NDArray[np.uint8]) -> bool:
    """Reads the bytes behind an answer; whether all came."""
    assert process.stdout is not None
    return not len(data) or cast(BufferedReader, process.stdout).readinto(data.data) == len(data)


def _release(started: _Started) -> None:
    """Keep a process for the next checkpoint, or end it."""
    if started.proper and not _waiting:
        _waiting.append(started)
    else:
        _end(started)


@atexit.register
def _end_waiting() -> None:
    while _waiting:
        _end(_waiting.pop())


def _end(started: _Started) -> None:
    process = started.process
    if os.getpid() != started.owner:  # a copy of this object in a forked process
        return
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    process.kill()
    process.wait()


@dataclass(frozen=True, slots=True)
class NativeTensor:
    """A tensor in a file of a native library.

    Args:
        request: what reads its rows, but for the rows. flipped: the file has its axes in the opposite order; it is then read whole.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    process: NativeProcess = field(repr=False)
    request: Mapping[str, object] = field(repr=False)
    flipped: bool = False

    def read(self, rows: slice | None = None) -> NDArray[Any]:
        """The values; arguments and errors as those of `StoredTensor.read`."""
        if self.flipped:
            stored = replace(self, shape=self.shape[::-1], flipped=False).read()
            return np.ascontiguousarray(stored.T if rows is None else stored.T[rows])
        picked = range(*(rows or slice(None)).indices(self.shape[0])) if self.shape else range(1)
        first, last = (min(picked[0], picked[-1]), max(picked[0], picked[-1]) + 1) if picked else (0, 0)
        shape = (last - first, *self.shape[1:]) if self.shape else ()
        dtype = numpy_dtype(self.dtype)
        if 0 in shape:
            return np.empty(shape, dtype)
        asked = {**self.request, "shape": list(self.shape), "rows": [first, last] if self.shape else None}
        _, data = self.process.ask(f"tensor '{short(self.name)}'", math.prod(shape) * ITEMSIZE[self.dtype], **asked)
        values: NDArray[Any] = data.view(dtype).reshape(shape)
        return values if picked.step == 1 else values[:: picked.step].copy()


def whole(tensor: NativeTensor) -> JoinedTensor:
    """The tensor as one that is assembled from pieces: such are read, and never written where they are."""
    start = (0,) * len(tensor.shape)
    return JoinedTensor(tensor.name, tensor.shape, tensor.dtype, tensor.process.path, (Piece(tensor, start, tensor.shape, start),))
