"""The retuning of one of many files, as a task that other processes can do, too."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from ssmspec.commands.analyze import AnalysisOptions, Progress
from ssmspec.commands.each_file import Failure
from ssmspec.commands.retune import ChangeOptions, RetunePlan, plan_retune
from ssmspec.commands.retune_writing import compared_and_written
from ssmspec.errors import SsmspecError
from ssmspec.statistics.changes import CheckpointComparison
from ssmspec.tuning.recipe import Recipe

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RetuneFile(Generic[Result]):
    """Retune a file and write it. `item`: the checkpoint, and where the result goes (None: nowhere).

    Args:
        compared: what is compared before and after. command: what the user typed. force, in_place: as for one file.
        render: what is made of the plan, the comparison, the target (None if nothing was written) and notes on its writing.
    """

    recipe: Recipe
    options: ChangeOptions
    compared: AnalysisOptions
    command: str
    force: bool
    in_place: bool
    render: Callable[[RetunePlan, CheckpointComparison, Path | None, tuple[str, ...]], Result]

    def __call__(self, item: tuple[Path, Path | None], progress: Progress | None = None) -> Result | Failure:
        source, target = item
        try:
            plan = plan_retune(source, self.recipe, self.options)
            target = None if plan.changes_nothing else target
            found, notes = compared_and_written(
                plan,
                target,
                self.compared,
                command=self.command,
                replace_target=self.force,
                in_place=self.in_place,
                progress=progress,
            )
            return self.render(plan, found, target, notes)
        except SsmspecError as error:
            return Failure.of(source, error)
