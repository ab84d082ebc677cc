"""A script that runs commands, kills them at chosen system calls of their writing, and prints in JSON what it found.

    python kill_at_system_calls.py FOLDER KILLS NAME...

A child traces itself and runs a command; the first call of `replacing.remove_leftovers`, with which all writing begins, is marked by a
system call that nothing else makes. Source: ptrace(2), PTRACE_GET_SYSCALL_INFO (Linux 5.3).
"""

import contextlib
import ctypes
import io
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from outputs import OUTPUTS, Output, carried_out, check, files, prepare
from program import command

from ssmspec.checkpoint.write import whole_folder as write_folder
from ssmspec.cli.terminal import run
from ssmspec.files import replacing

TRACEME, SYSCALL, SETOPTIONS, GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
TRACESYSGOOD, EXITKILL = 0x1, 0x100000
ENTRY = 1
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


class Info(ctypes.Structure):
    """struct ptrace_syscall_info, as far as the number of the call."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("arch", ctypes.c_uint32),
        ("ip", ctypes.c_uint64),
        ("sp", ctypes.c_uint64),
        ("nr", ctypes.c_uint64),
        ("args", ctypes.c_uint64 * 6),
    )


def trace(request: int, pid: int, address: int = 0, data: object = 0) -> int:
    """ptrace(2).

    Raises:
        OSError: it is not allowed here.
    """
    result = int(libc.ptrace(request, pid, address, data))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def type_it(output: Output, *more: str) -> int:
    """The command in this process, silently."""
    sys.argv = ["ssmspec", *output.typed, *more]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return run(command(), debug=False)


def marked(function: Callable[..., object]) -> Callable[..., object]:
    def call(*arguments: object) -> object:
        os.getppid()
        return function(*arguments)

    return call


def child(output: Output) -> None:
    """Runs the command and never returns."""
    trace(TRACEME, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    os.getppid()  # tells the parent the number of this call
    begin = marked(replacing.remove_leftovers)
    replacing.remove_leftovers = write_folder.remove_leftovers = begin  # type: ignore[assignment]
    code = 99
    try:
        code = type_it(output)
    finally:
        os._exit(code)


def killed_at(output: Output, at: int | None) -> int:
    """Kill a child at system call number `at` of its writing. Without a number, count the calls.

    Returns:
        How many calls there were, or -1 for a child that was killed.
    """
    pid = os.fork()
    if not pid:
        child(output)
    os.waitpid(pid, 0)
    trace(SETOPTIONS, pid, 0, TRACESYSGOOD | EXITKILL)
    info, mark, seen, deliver = Info(), -1, -1, 0
    while True:
        trace(SYSCALL, pid, 0, deliver)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            return seen
        stop = os.WSTOPSIG(status)
        deliver = 0 if stop in (signal.SIGTRAP | 0x80, signal.SIGTRAP, signal.SIGSTOP) else stop
        if stop != signal.SIGTRAP | 0x80:
            continue
        trace(GET_SYSCALL_INFO, pid, ctypes.sizeof(info), ctypes.addressof(info))
        if info.op != ENTRY:
            continue
        if mark < 0:
            mark = info.nr
        elif seen >= 0 or info.nr == mark:
            seen += 1
            if seen == at:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return -1


def kill(name: str, folder: Path, kills: int) -> dict[str, int]:
    """Kill a command at evenly spaced system calls, check the files, and finally let the command finish."""
    output = OUTPUTS[name]
    prepare(folder, output)
    before = files(folder)
    assert type_it(output) == 0
    after = files(folder)
    prepare(folder, output)
    count = killed_at(output, None)
    assert count > 0
    found = Counter(calls=count)
    for at in sorted({count * number // kills for number in range(kills)}):
        prepare(folder, output)
        found["killed"] += killed_at(output, at) < 0
        now = files(folder)
        check(output, before, after, now)
        found["changed"] += now != before
        assert type_it(output, *output.again) == 0
        carried_out(output, after, folder)
    return dict(found)


def main() -> None:
    """Names what was found per command."""
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    os.chdir(folder)
    found = {name: kill(name, folder, kills) for name in sys.argv[3:]}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
