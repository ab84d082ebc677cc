"""What a task is: settings with presets, and a problem that the loop can train on. A new task is one file and one line in `TASKS`."""

import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from ssmspec.errors import SsmspecError
from ssmspec.report.documents.train import Measure
from ssmspec.systems.sobolev import CONVENTIONS, Convention, Sobolev
from ssmspec.tuning.poles.initializations import INITIALIZATIONS, unknown

SCHEDULES = ("cosine", "constant")
OWN = "own"  # the initial poles with which the task was published

State = Mapping[str, Tensor]  # tensors of a model by name

Precision = Literal["float32", "bf16"]
PRECISIONS: tuple[Precision, ...] = typing.get_args(Precision)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of all tasks.

    Args:
        alpha: factor on Im of the initial poles. beta: Sobolev exponent. beta_convention: convention of the weight.
        theta_ref: knee [rad/sample] of the conventions "angular" and "causal", else None.
        init: "own", or a key of `INITIALIZATIONS`. seed: seed of every random draw.
        steps: number of optimizer steps. batch: examples per step.
        schedule: schedule of all learning rates: "constant", or "cosine" from 1 to 0 over the steps.
        warmup: number of first steps, during which the learning rates rise from 0.
        lr, weight_decay: for parameters that have no values of their own.

    Raises:
        SsmspecError: a name is unknown, or a number is out of range.
    """

    alpha: float
    beta: float = 0.0
    beta_convention: Convention
    theta_ref: float | None = None
    init: str = OWN
    seed: int = 0
    steps: int
    batch: int
    lr: float
    weight_decay: float = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: int = 0

    def __post_init__(self) -> None:
        if self.beta_convention not in CONVENTIONS:
            raise unknown("beta convention", self.beta_convention, CONVENTIONS)
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)
        if self.init != OWN and self.init not in INITIALIZATIONS:
            raise unknown("initialization", self.init, (OWN, *INITIALIZATIONS))
        if (self.theta_ref is None) == (self.beta_convention in ("angular", "causal")):
            raise SsmspecError(
                f"theta_ref is {self.theta_ref} and the beta convention is {self.beta_convention}; "
                "angular and causal need a knee in rad/sample, the others take none"
            )
        for name, value in ((each.name, getattr(self, each.name)) for each in fields(self)):
            _check_number(name, value)


_AT_LEAST_ZERO = (
    "alpha",
    "seed",
    "warmup",
    "examples",
    "tests",
    "width",
    "context",
    "absolute",
    "weight_decay",
    "dropout",
    "lr_ssm",
    "lr_beta",
)


def _check_number(name: str, value: object) -> None:
    """Refuse numbers that are not finite or out of range: beta may have any sign, some may be zero, and all others must be positive."""
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        sound = math.isfinite(number) and (name == "beta" or number > 0 or (number == 0 and name in _AT_LEAST_ZERO))
        if not sound:
            wanted = "number" if name == "beta" else "number of at least 0" if name in _AT_LEAST_ZERO else "positive number"
            raise SsmspecError(f"{name} is {number}; expected a finite {wanted}")


class Problem(Protocol):
    """A model and the data on which it is trained."""

    @property
    def model(self) -> nn.Module:
        """The model, whose state dict has the names of the checkpoint."""

    def draw(self, step: int, generator: torch.Generator) -> Any:
        """The batch of a step, counted from 0: a tensor, or a tuple of tensors, whose first axis is that of the examples.

        It depends only on step and generator, so that several processes draw the same batch.
        """

    def loss(self, batch: Any) -> Tensor:
        """The scalar that is minimized: a mean over the examples of the batch, which may be any number."""

    def opening(self) -> list[str]:
        """Lines of text to show before the first step."""

    def measures(self) -> list[Measure]:
        """Measures of the model on data that are the same for every run."""

    def heard(self) -> Tensor:
        """Training examples as the first layer of the initial model receives them, (B, L, I). The model may change, so use it no more."""

    def weights(self) -> dict[str, Sobolev]:
        """The beta weights of the model's layers, by name."""

    def about(self) -> dict[str, Any]:
        """What a checkpoint records about its model besides its tensors, as JSON values."""

    def marks(self) -> dict[str, float]:
        """Frequencies [rad/sample], by label, that a picture of |H| marks with a line."""

    def pictures(self, folder: Path, measures: Sequence[Measure]) -> list[Path]:
        """Draw the pictures that are specific to the task, from the final measures and the model."""


def inputs_of(layer: nn.Module, work: Callable[[], object]) -> Tensor:
    """The first input that a layer receives while `work` is done, without gradients.

    Args:
        layer: a module whose first argument is the input.
    """
    found: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, given: found.append(given[0].detach()))
    try:
        with torch.no_grad():
            work()
    finally:
        hook.remove()
    return found[0]


def load_start(model: nn.Module, start: State | None) -> None:
    """Copy tensors into a model where name and shape agree. The other tensors keep their initial values."""
    state = model.state_dict()
    model.load_state_dict(state | {name: tensor for name, tensor in (start or {}).items() if fits(name, tensor, state)})


def fits(name: str, tensor: Tensor, state: State) -> bool:
    """Whether a model with this state has a tensor of this name and shape."""
    return name in state and state[name].shape == tensor.shape


def check_tensors(model: nn.Module, tensors: State, task: str) -> None:
    """Refuse tensors that do not form a complete model.

    Raises:
        SsmspecError: the message names the first tensor that is missing or has a different shape.
    """
    for name, wanted in model.state_dict().items():
        if not fits(name, wanted, tensors):
            what = f"has {name} of shape {tuple(tensors[name].shape)}, not" if name in tensors else f"lacks {name} of shape"
            raise SsmspecError(
                f"the checkpoint {what} {tuple(wanted.shape)}, so it is not a model of {task} with these settings; start from one that "
                f"'ssmspec train {task}' wrote; regress, classify and forecast train around any S4D layers"
            )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sweep needs of a finished run: its settings, the problem with the trained model, and the final measures."""

    settings: Any
    problem: Any
    measures: tuple[Measure, ...]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a search improves: one final measure of a task, or the mean of several.

    Args:
        pattern: name of the measure, or a glob for several. larger: whether larger is better.
    """

    pattern: str
    larger: bool = False

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"mean of {self.pattern}" if "*" in self.pattern else self.pattern

    def value(self, measures: Sequence[Measure]) -> float:
        """The value for final measures of a run. It may be NaN."""
        found = [measure.value for measure in measures if fnmatchcase(measure.name, self.pattern)]
        return math.fsum(found) / len(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task with a name.

    Args:
        name: its name on the command line. title: a description in one line. source: paper and section, repository and path.
        presets: settings by name, including at least "small".
        problem: makes a problem from settings, device and initial tensors (or None). Its model is drawn from torch's global generator.
        goal: what `--search` improves. published: pairs of alpha and beta that `--sweep published` runs, by preset.
        prepare: completes settings before a new run with what follows from the files that they name.
        adopt: settings for a model of the task's own kind with given tensors; None for tasks that train around any S4D layers.
        solve: sets the model to the optimum of a closed form; None if there is no closed form.
        draw_sweep: draws pictures of a sweep that are specific to the task. precisions: precisions that make a difference for the task.
    """

    name: str
    title: str
    source: str
    presets: Mapping[str, Any]
    problem: Callable[[Any, torch.device, State | None], Problem]
    goal: Goal
    published: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    prepare: Callable[[Any], Any] = lambda settings: settings
    adopt: Callable[[Any, State], Any] | None = None
    solve: Callable[[Any], None] | None = None
    draw_sweep: Callable[[Sequence[Outcome], Path], list[Path]] = lambda outcomes, folder: []
    precisions: tuple[Precision, ...] = PRECISIONS

    def preset(self, name: str) -> Any:
        """The settings of a preset.

        Raises:
            SsmspecError: the name is unknown.
        """
        if name not in self.presets:
            raise unknown(f"preset of {self.name}", name, self.presets)
        return self.presets[name]


def setting_label(settings: Settings) -> str:
    """Alpha and beta in a few characters."""
    return f"alpha {settings.alpha:.4g}, beta {settings.beta:.4g}"


def changed(settings: Any, values: Mapping[str, Any]) -> Any:
    """Settings with some values replaced. A value of the wrong type is refused.

    Raises:
        SsmspecError: the settings have no such name, or a value has the wrong type or is out of range.
    """
    kinds = typing.get_type_hints(type(settings))
    known = [field.name for field in fields(settings)]
    for name in values:
        if name not in known:
            raise unknown("setting", name, known)
    checked = {name: _typed(name, value, kinds[name]) for name, value in values.items()}
    if "beta_convention" in checked and "theta_ref" not in checked and checked["beta_convention"] not in ("angular", "causal"):
        checked["theta_ref"] = None
    return replace(settings, **checked)


def optional(settings: Any) -> set[str]:
    """Names of the settings that may be None, which are then omitted from a file."""
    return {name for name, kind in typing.get_type_hints(type(settings)).items() if type(None) in typing.get_args(kind)}


def _typed(name: str, value: Any, kind: Any) -> Any:
    """A value from TOML or the command line, converted to the type of a field."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if value is None and type(None) in options:
        return None
    kind = options[0]
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        if isinstance(value, list | tuple) and value:
            return tuple(_typed(name, part, inner) for part in value)
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif type(value) is (str if typing.get_origin(kind) is Literal else kind):
        return value
    raise SsmspecError(f"{name} is {value!r}; expected {getattr(kind, '__name__', str(kind))}")
