"""Processes that train one model together: how they find each other, what they exchange, and what happens when one is gone.

torchrun starts them and sets their ranks in the environment. All draw the same batches and do the same steps, each on its own part of the
examples. Only the first process reads and writes the run folder, and prints messages. Everything except gradients is exchanged through
gloo, which notices at once when another process has ended. A process that exists but does not answer is waited for TIMEOUT seconds.
"""

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from ssmspec.errors import SsmspecError
from ssmspec.files.reading import characters

TIMEOUT = 300.0  # seconds

Result = TypeVar("Result")


class SharedError(SsmspecError):
    """An error that ends the run in all processes alike, so that only the first has to report it."""


@dataclass(frozen=True, slots=True)
class Team:
    """The processes of a run, as seen by one of them.

    Args:
        rank: rank of this process. count: number of processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process reads and writes the run folder."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.count == 1

    def from_first(self, work: Callable[[], Result]) -> Result:
        """Call `work` in the first process, and return its result in all of them.

        Raises:
            SharedError: `work` raised an error.
        """
        if self.alone:
            return work()
        box: list[Any] = [None, None]
        if self.first:
            try:
                box[0] = work()
            except SsmspecError as error:
                box[1] = error
        with contact("before the first step"):
            distributed.broadcast_object_list(box)
        if box[1] is not None:
            raise SharedError(str(box[1])) from box[1]
        return box[0]

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """The numbers of every process, returned in all of them. Each process must give the same count."""
        if self.alone:
            return [list(values)]
        own = torch.tensor(values, dtype=torch.float64)
        found = [torch.empty_like(own) for _ in range(self.count)]
        distributed.all_gather(found, own)
        return [each.tolist() for each in found]


@contextmanager
def contact(when: str) -> Iterator[None]:
    """A block that needs the other processes. If they cannot be reached, the message contains `when`.

    Raises:
        SsmspecError: a process has ended, or did not answer in time.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        ignore_end()
        reason = _WHERE.sub("", " ".join(str(error).split())).partition(". This")[0]
        lost = f"lost contact with another process {when} ({reason[:120]})"
        raise SsmspecError(f"{lost}; start all of them again with --resume, which continues from the last saved state") from error


def ignore_end() -> None:
    """Ignore SIGTERM. This process is about to end by itself with a message, which the SIGTERM that torchrun sends would cut off."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


_WHERE = re.compile(r"^\[[^\]]*\] ")  # the file and line of gloo's own code


@contextmanager
def joined() -> Iterator[Team]:
    """Join the processes that torchrun started, or only this one without torchrun. They disconnect at the end of the block.

    Raises:
        SsmspecError: the others cannot be reached. Every error of the block that is not shared is prefixed with the rank of its process.
    """
    if processes() == 1:
        yield Team()
        return
    with _mortal():
        try:
            distributed.init_process_group("gloo", timeout=timedelta(seconds=TIMEOUT))
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise SsmspecError(f"cannot reach the other processes ({reason}); start them all with torchrun") from error
        team = Team(distributed.get_rank(), distributed.get_world_size())
        try:
            yield team
        except SharedError:
            distributed.destroy_process_group()
            raise
        except SsmspecError as error:
            raise SsmspecError(f"rank {team.rank} of {team.count}: {error}") from error
        distributed.destroy_process_group()


@contextmanager
def _mortal() -> Iterator[None]:
    """Let Ctrl-C end the process at once when nothing has to be saved. Python could react only after the other processes answer."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def gradient_group(device: torch.device) -> distributed.ProcessGroup | None:
    """The group that exchanges gradients: nccl for a GPU, which becomes the GPU of this process, or None for gloo."""
    if device.type != "cuda":
        return None
    torch.cuda.set_device(device)
    return distributed.new_group(backend="nccl", timeout=timedelta(seconds=TIMEOUT))


def processes() -> int:
    """How many processes torchrun started, or 1.

    Raises:
        SsmspecError: the variable in the environment is not a number.
    """
    return _number("WORLD_SIZE", 1)


def local_device(name: str) -> str:
    """The device of this process: its own GPU if there are several processes.

    Raises:
        SsmspecError: one GPU is given for all processes.
    """
    if processes() == 1 or not name.startswith("cuda"):
        return name
    if name != "cuda":
        raise SsmspecError(f"the device is {name} for {processes()} processes; give cuda, and each process takes a GPU of its own")
    return f"cuda:{_number('LOCAL_RANK', 0)}"


def command_line() -> str:
    """The command that started this process, or all of them."""
    here = _number("LOCAL_WORLD_SIZE", 1)
    if processes() == 1:
        return characters(shlex.join(["ssmspec", *sys.argv[1:]]))
    machines = [] if here == processes() else ["--nnodes", str(processes() // max(1, here))]
    return characters(shlex.join(["torchrun", *machines, "--nproc-per-node", str(here), "-m", "ssmspec", *sys.argv[1:]]))


def _number(variable: str, otherwise: int) -> int:
    text = os.environ.get(variable, str(otherwise))
    if not text.isdecimal():
        raise SsmspecError(f"{variable} is {text!r} in the environment; expected a number as torchrun sets it, or unset it")
    return int(text)
