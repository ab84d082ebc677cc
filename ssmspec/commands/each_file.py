"""What is done with each of many files: tasks that other processes can do, too. An expected error of a file is a result."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.remote.traffic import Opened, told_of_bytes
from ssmspec.commands.analyze import AnalysisOptions, Progress, analyze, analyze_chosen
from ssmspec.commands.cache import ResultCache
from ssmspec.commands.chosen_layers import ChosenLayers, choose_layers
from ssmspec.errors import SsmspecError
from ssmspec.statistics import CheckpointAnalysis

Result = TypeVar("Result")
Made = TypeVar("Made", covariant=True)


@dataclass(frozen=True, slots=True)
class Failure:
    """A file of which there is no result: why, in one line, and the exit code of that."""

    path: str
    text: str
    exit_code: int

    @classmethod
    def of(cls, path: object, error: SsmspecError) -> "Failure":
        """The failure that an error is."""
        return cls(str(path), " ".join(str(error).split()), error.exit_code)

    def error(self) -> SsmspecError:
        """The error again, where one file is enough to end everything."""
        error = SsmspecError(self.text)
        error.exit_code = self.exit_code
        return error

    @classmethod
    def lost(cls, path: object, times: int) -> "Failure":
        """The failure of a file whose process was ended from outside so many times."""
        text = f"{path}: the process that worked on it died {times} times, as it does when memory is too small; try it alone, or fewer jobs"
        return cls(str(path), text, SsmspecError.exit_code)


class Renderer(Protocol[Made]):
    """What is made of an analysis, in one step or in two with a document in between that can be kept."""

    def __call__(self, analysis: CheckpointAnalysis, stem: str) -> Made: ...
    def document(self, analysis: CheckpointAnalysis) -> dict[str, Any]: ...
    def of_document(self, document: dict[str, Any], problem: str | None) -> Made: ...


@dataclass(frozen=True, slots=True)
class AnalyzeFile(Generic[Result]):
    """Analyze a file, and make of the analysis what is wanted of it. `item`: the path, and the stem of its pictures."""

    options: AnalysisOptions
    render: Renderer[Result]
    cache: ResultCache | None = None

    def run(self, item: tuple[str, str], progress: Progress | None = None) -> Result:
        """Raises as `analyze`."""
        path, stem = item
        if self.cache is None:
            return self.render(analyze(path, self.options, progress=progress), stem)

        def choose(location: Location) -> ChosenLayers:
            return choose_layers(location, self.options.layers, self.options.family, self.options.read)

        def make(chosen: ChosenLayers) -> dict[str, Any]:
            analysis = analyze_chosen(chosen, self.options, progress=progress)
            return {"document": self.render.document(analysis), "problem": analysis.problem}

        kept, cached = self.cache.result(path, choose, make)
        document = kept["document"]
        document["checkpoint"]["cached"] = cached
        return self.render.of_document(document, kept["problem"])

    def __call__(self, item: tuple[str, str], progress: Progress | None = None) -> Result | Failure:
        try:
            return self.run(item, progress)
        except SsmspecError as error:
            return Failure.of(item[0], error)


@dataclass(frozen=True, slots=True)
class HistoryFile:
    """Analyze a checkpoint of a run. The error of one is that of the history."""

    options: AnalysisOptions

    def __call__(self, path: Path | str, progress: Progress | None = None) -> tuple[CheckpointAnalysis, list[Opened]] | Failure:
        try:
            with told_of_bytes(lambda name, count, total: None) as opened:
                return analyze(path, self.options, progress=progress), opened
        except SsmspecError as error:
            return Failure.of(path, error)
