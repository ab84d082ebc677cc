"""The check of one of many files, as a task that other processes can do, too."""

from dataclasses import dataclass

from ssmspec.checking.findings import CheckpointCheck
from ssmspec.checking.rules_file import RuleSet
from ssmspec.commands.analyze import AnalysisOptions, Progress
from ssmspec.commands.check import check
from ssmspec.commands.each_file import Failure
from ssmspec.errors import SsmspecError


@dataclass(frozen=True, slots=True)
class CheckFile:
    """Check a file."""

    rules: RuleSet
    options: AnalysisOptions
    shallow: bool

    def run(self, path: str, progress: Progress | None = None) -> CheckpointCheck:
        """Raises as `check`."""
        return check(path, self.rules, self.options, shallow=self.shallow, progress=progress)

    def __call__(self, path: str, progress: Progress | None = None) -> CheckpointCheck | Failure:
        try:
            return self.run(path, progress)
        except SsmspecError as error:
            return Failure.of(path, error)
