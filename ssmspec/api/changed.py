"""What `ssmspec.retune` and `ssmspec.reduce` return has this in common: layers before and after, and the file that was written."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ssmspec.api.collection import Collection
from ssmspec.checkpoint import Checkpoint
from ssmspec.systems.statespace import StateSpace


class Change(Protocol):
    """What a plan says of one layer."""

    @property
    def before(self) -> StateSpace: ...
    @property
    def after(self) -> StateSpace: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


class Plan(Protocol):
    """What was planned for a checkpoint."""

    @property
    def checkpoint(self) -> Checkpoint: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


Found = TypeVar("Found", bound=Change, covariant=True)
Planned = TypeVar("Planned", bound=Plan)


class ChangedLayer(Generic[Found]):
    """One layer that was changed: `before` and `after` are its systems."""

    def __init__(self, found: Found) -> None:
        self._found = found

    @property
    def name(self) -> str:
        """Its name in the checkpoint."""
        return self._found.after.name

    @property
    def before(self) -> StateSpace:
        """The system that the checkpoint holds."""
        return self._found.before

    @property
    def after(self) -> StateSpace:
        """The system that the new tensors hold, after rounding."""
        return self._found.after

    @property
    def notes(self) -> tuple[str, ...]:
        """What the change means for this layer, in words."""
        return self._found.notes

    def summary(self) -> str:
        """The layer in one line."""
        return "; ".join([f"{self.name}: {self.after.family}, {self.after.shape_text}", *self.notes])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.summary()}>"


Layer = TypeVar("Layer", bound="ChangedLayer[Change]")


class Changed(Collection[Layer], Generic[Layer, Planned]):
    """A changed model: its changed layers, and the file that was written."""

    def __init__(self, plan: Planned, output: Path | None, layers: Iterable[Layer]) -> None:
        super().__init__(layers)
        self._plan = plan
        self._output = output

    @property
    def output(self) -> Path | None:
        """The file that was written; None if nothing was."""
        return self._output

    @property
    def notes(self) -> tuple[str, ...]:
        """Which layers are left unchanged, and why; and what else to know."""
        return self._plan.notes

    def _written(self) -> str:
        return "not written" if self._output is None else f"wrote {self._output}"

    def _remarks(self) -> Sequence[str]:
        return [f"note: {note}" for note in self.notes]
