"""What the tasks on the user's own data share: settings, the model around S4D layers, the split, and the order of the examples."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor

from ssmspec.errors import SsmspecError
from ssmspec.nn import SequenceModel
from ssmspec.nn.settings import Layout
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import ComplexArray
from ssmspec.training.datasets.sequences import Rows, Sequences, digest
from ssmspec.training.task import OWN, Outcome, Settings, State, inputs_of, load_start, setting_label
from ssmspec.tuning.poles.initializations import INITIALIZATIONS, initial_poles, unknown
from ssmspec.tuning.poles.initializations import Settings as Sizes

FEWEST = 10  # least number of sequences that can be divided into two useful parts
EVALUATED = 2**23  # samples of all channels that an evaluation holds at once
MOST_HEARD = 64  # sequences that `heard` collects
COUNTED = ("denoising", "waves")  # beta conventions that depend on the length

Pooling = Literal["mean", "last", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings(Settings):
    """The additional settings of tasks on the user's own data.

    Args:
        data, target: absolute paths of the files. data_sha256, target_sha256: their digests, or the digest of the bundled series if
            `forecast` has no data. axes: letters of the axes of the data, B sequences, L samples, C features; None infers them.
            length: number of samples after which sequences are cut; None cuts nothing.
        held_out: share that is kept out of training. horizon: samples that `forecast` looks ahead. context: longest piece it trains on.
        d_model, n_layers, norm, prenorm, final_norm, pooling: options of `ssmspec.nn.SequenceModel`; pooling "none" gives an output per
            sample.
        d_state, layout, discretization, bidirectional, channels, n_ssm, tie_step, dropout, tie_dropout, step_min, step_max: options of
            its `ssmspec.nn.S4D`.
        trainable_beta: None does what the original of the layout does. lr_beta: learning rate of beta.
        lr_ssm: learning rate of poles and steps, and in s4-diag also of B and C; zero freezes them. They have no weight decay.
        lr_step: learning rate of the steps, if given; in s4-diag, C then has the learning rate of the other parameters.
    """

    data: str = ""
    data_sha256: str = ""
    target: str | None = None
    target_sha256: str | None = None
    axes: str | None = None
    length: int | None = None
    held_out: float = 0.2
    horizon: int = 1
    context: int = 128
    d_model: int
    n_layers: int
    norm: Literal["layer", "batch"] = "layer"
    prenorm: bool = False
    final_norm: bool = False
    pooling: Pooling = "mean"
    d_state: int
    layout: Layout = "minimal"
    discretization: Literal["zoh", "bilinear"] = "zoh"
    bidirectional: bool = False
    channels: int = 1
    n_ssm: int | None = None
    tie_step: bool = True
    dropout: float = 0.0
    tie_dropout: bool | None = None
    step_min: float = 1e-3
    step_max: float = 1e-1
    trainable_beta: bool | None = None
    lr_beta: float = 1e-2
    lr_ssm: float = 1e-3
    lr_step: float | None = None

    def __post_init__(self) -> None:
        super(DataSettings, self).__post_init__()
        if self.pooling not in get_args(Pooling):
            raise unknown("pooling", self.pooling, get_args(Pooling))
        if not self.held_out < 1:
            raise SsmspecError(f"held_out is {self.held_out}; it must be a share between 0 and 1")
        if self.layout == "freqbias-block" and self.weighted and self.beta_convention != "lra":
            raise SsmspecError(
                f"layout freqbias-block needs the beta convention lra, not {self.beta_convention}; add --beta-convention lra"
            )

    @property
    def weighted(self) -> bool:
        """Whether layers get a beta in addition to what their layout has."""
        return self.beta != 0 or bool(self.trainable_beta)

    @property
    def causal(self) -> bool:
        """Whether no output depends on later inputs."""
        if self.layout == "freqbias-block":
            return not self.bidirectional and self.beta == 0 and self.trainable_beta is False
        return not self.bidirectional and (not self.weighted or self.beta_convention == "causal")


def with_digests(settings: DataSettings) -> DataSettings:
    """The settings with the digests of their files.

    Raises:
        SsmspecError: no data were given, or a file is missing.
    """
    if not settings.data:
        raise SsmspecError("this task learns from your own data; give them with --data X.npy (or .npz, .csv, a folder of .wav files)")
    target = None if settings.target is None else digest(settings.target)
    return replace(settings, data_sha256=digest(settings.data), target_sha256=target)


def check_digests(settings: DataSettings) -> None:
    """Refuse files that differ from those of the settings.

    Raises:
        SsmspecError: a file is missing or has changed.
    """
    for path, wanted in ((settings.data, settings.data_sha256), (settings.target, settings.target_sha256)):
        if path is not None and (found := digest(path)) != wanted:
            raise SsmspecError(
                f"{path} has changed since the run began (SHA-256 {found[:12]}.., was {wanted and wanted[:12]}..); "
                "restore the old data, or start anew with --force"
            )


def structure(settings: DataSettings, inputs: Mapping[str, int], d_output: int) -> dict[str, Any]:
    """The options of `SequenceModel` that determine which tensors it has and what it computes with them."""
    options: dict[str, Any] = {**inputs, "d_output": d_output}
    for name in ("d_model", "n_layers", "norm", "prenorm", "final_norm", "d_state", "layout", "discretization", "bidirectional"):
        options[name] = getattr(settings, name)
    options |= {"pooling": None if settings.pooling == "none" else settings.pooling}
    options |= {name: getattr(settings, name) for name in ("channels", "n_ssm", "tie_step")}
    if settings.layout == "freqbias-block":
        options |= {"beta": settings.beta, "trainable_beta": settings.trainable_beta}
    elif settings.weighted:
        options |= {"beta": settings.beta, "trainable_beta": settings.trainable_beta}
        options |= {"beta_convention": settings.beta_convention, "theta_ref": settings.theta_ref}
    return options


def make_model(
    settings: DataSettings, inputs: Mapping[str, int], d_output: int, start: State | None, kind: type[SequenceModel] = SequenceModel
) -> SequenceModel:
    """A model drawn from torch's global generator, with those tensors of `start` that have its names and shapes.

    Args:
        inputs: d_input or vocabulary. kind: class of the model, which takes the arguments of `ssmspec.nn.SequenceModel`.

    Raises:
        SsmspecError: options contradict each other, or an initialization needs a single step.
    """
    first: dict[str, Any] = {"alpha": settings.alpha} if settings.init == OWN else {"poles": _poles(settings)}
    moved: float | dict[str, float] = settings.lr_ssm
    if settings.lr_step is not None:
        moved = {"dt": settings.lr_step, "A": settings.lr_ssm} | ({"B": settings.lr_ssm} if settings.layout == "s4-diag" else {})
    first |= {"lr": moved, "lr_beta": settings.lr_beta}
    first |= {name: getattr(settings, name) for name in ("dropout", "tie_dropout", "step_min", "step_max")}
    model = kind(**structure(settings, inputs, d_output), **first)
    load_start(model, start)
    return model


def _poles(settings: DataSettings) -> ComplexArray:
    """(layers, S, N) poles of a named initialization, scaled by alpha."""
    if INITIALIZATIONS[settings.init].plane == "z" and settings.step_min != settings.step_max:
        raise SsmspecError(
            f"init {settings.init} places poles per sample and needs a single step; add --set step_min={settings.step_max} "
            f"--set step_max={settings.step_max}"
        )
    copies = settings.n_ssm or settings.d_model
    modes = settings.d_state if settings.layout == "freqbias-block" else settings.d_state // 2
    found = []
    for layer in range(1, settings.n_layers + 1):
        sizes = Sizes(copies=copies, modes=modes, layer=layer, layers=settings.n_layers)
        start = initial_poles(settings.init, sizes, alpha=settings.alpha, rng=np.random.default_rng([settings.seed, layer]))
        found.append(start.continuous(np.full((copies, 1), settings.step_max)))
    return np.stack(found)


def split(count: int, share: float, seed: int, source: str, groups: np.ndarray | None = None) -> tuple[Rows, Rows]:
    """Numbers of the training sequences and of the held-out sequences. They depend only on the seed.

    Args:
        count: number of sequences. share: share to hold out. source: name of the source for messages.
        groups: (count,) class of each sequence; the share is then taken of every class.
    Raises:
        SsmspecError: there are too few sequences, or a class has only one.
    """
    if count < FEWEST:
        raise SsmspecError(f"{source}: {count} sequences; expected at least {FEWEST}, to train on some and hold out some")
    order = np.random.default_rng(seed).permutation(count)
    held: list[Rows] = []
    for group in (np.zeros(1),) if groups is None else np.unique(groups):
        members = order if groups is None else order[groups[order] == group]
        if len(members) < 2:
            raise SsmspecError(f"{source}: a class has one sequence; expected at least two, one to train on and one to hold out")
        held.append(members[: min(len(members) - 1, max(1, round(share * len(members))))])
    chosen = np.sort(np.concatenate(held))
    return np.setdiff1d(order, chosen), chosen


class Order:
    """The sequences of every step: epoch after epoch, in random orders that depend only on the seed."""

    def __init__(self, rows: Rows, batch: int, seed: int) -> None:
        self.rows, self.batch, self.seed = rows, batch, seed
        self._epochs: dict[int, Rows] = {}

    def at(self, step: int) -> Rows:
        """The numbers of the sequences of a step, (batch,)."""
        places = np.arange(step * self.batch, (step + 1) * self.batch)
        epochs = places // len(self.rows)
        self._epochs = {int(epoch): self._epoch(int(epoch)) for epoch in np.unique(epochs)}
        return np.array([self._epochs[int(epoch)][place % len(self.rows)] for epoch, place in zip(epochs, places, strict=True)])

    def _epoch(self, epoch: int) -> Rows:
        known = self._epochs.get(epoch)
        return np.random.default_rng([self.seed, epoch]).permutation(self.rows) if known is None else known


class Source(Protocol):
    """Sequences in the form that a model takes."""

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""

    @property
    def inputs(self) -> dict[str, int]:
        """d_input or vocabulary of the model."""

    @property
    def longest(self) -> int:
        """Number of samples of the longest sequence."""

    def take(self, rows: Rows) -> tuple[Tensor, ...]:
        """The arguments of the model for the sequences with these numbers. The first axis of each argument is that of the sequences."""

    def about(self) -> dict[str, Any]:
        """How values become inputs, as JSON values."""


Given = TypeVar("Given", bound=Source)


class SequenceProblem(ABC, Generic[Given]):
    """A model of sequences, and what all tasks around `ssmspec.nn.SequenceModel` have in common.

    Args:
        settings: settings of the task. examples: the data. d_output: number of outputs of the model. start: its initial tensors.
        kind: class of the model, which takes the arguments of `ssmspec.nn.SequenceModel`.
    """

    def __init__(
        self, settings: DataSettings, examples: Given, d_output: int, start: State | None, kind: type[SequenceModel] = SequenceModel
    ) -> None:
        self.settings, self.examples = settings, examples
        self.model = make_model(settings, examples.inputs, d_output, start, kind).to(examples.device)

    def answers(self, batches: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
        """The outputs of the model for batches (x,) or (x, lengths), without dropout, on the CPU."""
        self.model.eval()
        with torch.no_grad():
            found = [self.model(*batch).float().cpu() for batch in batches]
        self.model.train()
        return found

    def answers_to(self, rows: Rows) -> Tensor:
        """The outputs for whole sequences, (b, ...)."""
        size = max(1, EVALUATED // (self.examples.longest * self.settings.d_model))
        parts = [rows[first : first + size] for first in range(0, len(rows), size)]
        return torch.cat([answer for part in parts for answer in self.answers([self.examples.take(part)])])

    def heard(self) -> Tensor:
        """Encoded sequences of the first steps, padded to equal length, (B, L, d_model)."""
        layers: Any = self.model.s4_layers
        found: list[Tensor] = []
        generator = torch.Generator().manual_seed(self.settings.seed)
        while sum(map(len, found)) < MOST_HEARD and (not found or sum(each.numel() for each in found) < EVALUATED):
            batch = self.draw(len(found), generator)
            found.append(inputs_of(layers[0], partial(self.loss, batch)).transpose(1, 2))
        shortest = min(each.shape[1] for each in found)
        return torch.cat([each[:, :shortest] for each in found])

    @abstractmethod
    def draw(self, step: int, generator: torch.Generator) -> Any:
        """See `Problem`."""

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """See `Problem`."""

    def weights(self) -> dict[str, Sobolev]:
        """The beta weights that no tensor of the family holds, by name of the layer."""
        if self.settings.layout == "freqbias-block":
            return {}
        inner = "" if self.settings.layout == "minimal" else ".layer"
        length = self.examples.longest if self.settings.beta_convention in COUNTED else None
        layers: Any = self.model.s4_layers
        systems = [system for i, layer in enumerate(layers) for system in layer.state_spaces(f"s4_layers.{i}{inner}", length=length)]
        return {system.name: system.sobolev for system in systems if system.sobolev is not None}

    def marks(self) -> dict[str, float]:
        """Empty, because nothing is known about the frequencies of the user's data."""
        return {}

    def about(self) -> dict[str, Any]:
        """What is needed to use the model: its options and the normalization of its inputs."""
        options = structure(self.settings, self.examples.inputs, self.model.frame.d_output)
        return {"model": options, "input": self.examples.about()}


def described(sequences: Sequences, training: int, held_out: int) -> list[str]:
    """Lines of text on what was read and what was assumed."""
    low, high = int(sequences.lengths.min()), int(sequences.lengths.max())
    samples = f"{high} samples" if low == high else f"{low} to {high} samples"
    count = f"{len(sequences)} sequence{'s' * (len(sequences) > 1)}"
    features = f"{sequences.features} feature{'s' * (sequences.features > 1)}"
    head = f"{sequences.source}: {count} of {samples}, {features}; {training} to train on, {held_out} held out"
    return [head, *(f"{sequences.source}: {note}" for note in sequences.notes)]


def named(name: str, place: int, count: int) -> str:
    """The key of one of several measures of the same kind."""
    return name if count == 1 else f"{name}_{place}"


def presets(**options: Any) -> Mapping[str, DataSettings]:
    """The presets small (seconds on two cores) and large (the size of the example of state-spaces/s4), with the options of a task.

    Source: state-spaces/s4, example.py (large, except for its number of steps).
    """
    small = DataSettings(
        alpha=1.0,
        **{"beta_convention": "lra"} | options,
        steps=500,
        batch=32,
        lr=1e-2,
        weight_decay=0.01,
        d_model=16,
        n_layers=2,
        d_state=16,
    )
    return {"small": small, "large": replace(small, steps=20_000, batch=64, d_model=128, n_layers=4, d_state=64, dropout=0.1, context=1024)}


def draw_sweep(outcomes: Sequence[Outcome], folder: Path) -> list[Path]:
    """Draw the first measure of every setting, with one point per seed and the baseline."""
    from ssmspec.report.figures.style import save
    from ssmspec.report.figures.training import bars_figure

    values: dict[str, list[float]] = {}
    for outcome in outcomes:
        values.setdefault(setting_label(outcome.settings), []).append(outcome.measures[0].value)
    first = outcomes[0].measures[0]
    figure = bars_figure(values, axis="setting", value=first.name, reference=("baseline", first.baseline or 0.0))
    return [save(figure, folder / f"{first.name}.png")]
