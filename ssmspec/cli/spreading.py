"""Many files at once: the options that say where, and their results in order with one progress bar."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

import typer

from ssmspec.cli.app import COMPUTING
from ssmspec.cli.terminal import message

if TYPE_CHECKING:
    from ssmspec.commands.each_file import Failure
    from ssmspec.parallel.workplace import Workplace

Item = TypeVar("Item")
Result = TypeVar("Result")
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        help="Work on so many files at once, each in a process of its own. Default: 1. Results and their order do not depend on it.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spreading:
    """Over which processes files are spread."""

    PANEL: ClassVar[str] = COMPUTING
    jobs: Jobs = None
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="CLUSTER",
            help="Let a cluster do it: ray or dask (started on this machine), ray://HOST:PORT or dask://HOST:PORT.",
            show_default=False,
        ),
    ] = None

    def place(self, threads: int | None) -> "Workplace":
        """Where to work, with a note on what was reduced so that no more threads run than there are cores.

        Args:
            threads: as given with --threads.
        """
        from ssmspec.parallel.workplace import workplace

        found = workplace(self.jobs, threads, self.cluster)
        for note in found.notes:
            message(note)
        return found


def outcomes(
    task: "Callable[..., Result | Failure]",
    items: Sequence[Item],
    place: "Workplace",
    name_of: Callable[[Item], Any] = str,
) -> "Generator[Result | Failure]":
    """task(item) of every item in turn; a file whose process died every time is a failure like others.

    Args:
        task: takes an item, and a callback for its progress. name_of: the path of an item.
    """
    from ssmspec.commands.each_file import Failure
    from ssmspec.report.progress import LayerProgress

    if place.alone:
        for item in items:
            with LayerProgress() as progress:
                found = task(item, progress)
            yield found
            del found  # before the next one is made
        return
    from ssmspec.parallel.in_order import Lost, each_in_order

    with LayerProgress() as progress:
        for done, result in enumerate(each_in_order(task, items, place), start=1):
            progress(f"{done} of {len(items)} done", done, len(items))
            yield Failure.lost(name_of(result.item), result.times) if isinstance(result, Lost) else result
