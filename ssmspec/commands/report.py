"""From checkpoints to everything that a report shows: analyses, the comparison of two, and the findings of the rules."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ssmspec.checking.findings import CheckpointCheck
from ssmspec.checkpoint.remote.path import is_address
from ssmspec.commands.analyze import AnalysisOptions, Progress, analyze
from ssmspec.commands.check import check
from ssmspec.commands.compare import checkpoints_in, compare, history, steps_of_run
from ssmspec.errors import SsmspecError
from ssmspec.statistics import STATISTICS, CheckpointAnalysis
from ssmspec.statistics.changes import CheckpointComparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One checkpoint, two of them before and after, or the checkpoints of a run.

    Args:
        analyses: with all statistics and details, in the order given.
        comparison: of two checkpoints. It has the layers that were paired, their distances and the verdict.
        steps: of a run, the step of each checkpoint, where the names of all of them say it.
        checks: of every checkpoint, but of a run of the last one only; None where the rules could not be applied.
        unchecked: why they could not, one line for each None.
    """

    analyses: tuple[CheckpointAnalysis, ...]
    comparison: CheckpointComparison | None = None
    steps: Sequence[int] | None = None
    checks: tuple[CheckpointCheck | None, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def last(self) -> CheckpointAnalysis:
        """The checkpoint that the report is about in the first place."""
        return self.analyses[-1]


def report(
    checkpoints: Sequence[Path | str],
    options: AnalysisOptions | None = None,
    *,
    by_order: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Everything that a report shows of one checkpoint, of two (before and after), or of a run (three or more, or a folder of them).

    Args:
        checkpoints: as for `analyze`, or the folder of a run.
        options: as for `analyze`; statistics and details are all computed.
        by_order: pair the layers of two checkpoints by their order instead of their names.
        progress: as for `analyze`.
    Raises:
        SsmspecError: as `analyze`, `compare` and `history`; or `by_order` is given for other than two checkpoints.
    """
    options = replace(options or AnalysisOptions(), statistics=tuple(STATISTICS), details="all")
    paths = _steps(checkpoints)
    if by_order and len(paths) != 2:
        raise SsmspecError(f"--by-order pairs the layers of two checkpoints, and {len(paths)} are given; leave it out")
    if len(paths) > 2 or (len(paths) == 2 and len(checkpoints) == 1):
        run = tuple(history(paths, options))
        checks, unchecked = _checks(paths[-1:], options)
        return Report(analyses=run, steps=steps_of_run(paths), checks=checks, unchecked=unchecked)
    analyses = tuple(analyze(path, options, progress=progress) for path in paths)
    checks, unchecked = _checks(paths, options)
    comparison = None
    if len(paths) == 2:
        needed = replace(options, statistics=("bias_slope",), details=None)  # for the verdict; the others are known
        comparison = compare(paths[0], paths[1], needed, by_order=by_order, progress=progress)
    return Report(analyses=analyses, comparison=comparison, checks=checks, unchecked=unchecked)


def _steps(checkpoints: Sequence[Path | str]) -> Sequence[Path | str]:
    """The checkpoints of a folder in its place. A folder of something else is left to the reader, which says what it is."""
    if len(checkpoints) == 1 and not is_address(checkpoints[0]) and Path(checkpoints[0]).is_dir():
        with suppress(SsmspecError):
            return checkpoints_in(Path(checkpoints[0]))
    return checkpoints


def _checks(paths: Sequence[Path | str], options: AnalysisOptions) -> tuple[tuple[CheckpointCheck | None, ...], tuple[str, ...]]:
    """What the built-in rules find; rules that cannot be applied do not keep a report from being written."""
    found: list[CheckpointCheck | None] = []
    reasons = []
    for path in paths:
        try:
            found.append(check(path, options=replace(options, statistics=(), details=None)))
        except SsmspecError as error:
            found.append(None)
            reasons.append(str(error))
    return tuple(found), tuple(reasons)
