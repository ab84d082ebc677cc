"""The task `forecast`: the next samples of a series from earlier ones, for the user's own data or the potential of a neuron.

At every sample, the model predicts the `horizon` samples that follow, so it has to be causal. If there are few series, their ends are held
out. If there are many, some whole series are held out.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ssmspec.errors import SsmspecError
from ssmspec.report.documents.train import Measure
from ssmspec.systems.statespace import FloatArray
from ssmspec.training.datasets.membrane import NAME, SAMPLE_RATE, SAMPLES, membrane_file, read_membrane
from ssmspec.training.datasets.sequences import Examples, Rows, Sequences, cut, normalization, read_sequences
from ssmspec.training.kinds.own_data import (
    EVALUATED,
    FEWEST,
    DataSettings,
    SequenceProblem,
    check_digests,
    described,
    draw_sweep,
    named,
    presets,
    split,
    with_digests,
)
from ssmspec.training.task import Goal, State, Task

MOST_NAMED = 8  # at most this many features have measures of their own
MOST_TARGETS = 2**16  # at most this many held-out samples, of all series, are forecast for the measures
SHOWN = 200  # number of samples in the picture
BASELINES = ("last value", "mean")
ABOUT = f"membrane potential of a neuron that fires, mV at {SAMPLE_RATE:g} Hz; your own series: --data"


class Stretch(NamedTuple):
    """Consecutive samples of a series (T, C), the samples that follow each (T, horizon, C), and forecasts of the latter."""

    known: FloatArray
    wanted: FloatArray
    given: FloatArray


class Forecast(SequenceProblem[Examples]):
    """The problem: model, series normalized by the training part, and which pieces of them are drawn and held out."""

    def __init__(self, settings: DataSettings, device: torch.device, start: State | None = None) -> None:
        check_digests(_with_file(settings))
        _check_settings(settings)
        series = _read(settings)
        self.cuts = _cuts(series, settings)
        normal = normalization(series, series.spans(np.zeros_like(self.cuts), self.cuts))
        normalization(series, series.spans(self.cuts, series.lengths))  # also refuses values there that are not finite
        super().__init__(settings, Examples(series, normal, device), settings.horizon * series.features, start)
        longest = int(self.cuts.max()) - settings.horizon
        self.context = min(settings.context, longest)
        self.window = self.context + settings.horizon
        self.places = np.cumsum(np.maximum(self.cuts - self.window + 1, 0))

    def opening(self) -> list[str]:
        """Lines on sizes, and on the errors of the last value and of the mean."""
        series = self.examples.sequences
        if (self.cuts == 0).any():
            lines = described(series, int((self.cuts > 0).sum()), int((self.cuts == 0).sum()))
        else:
            lines = described(series, len(series), 0)
            lines[0] = lines[0].partition(";")[0] + f"; the last {1 - self.cuts[0] / series.lengths[0]:.0%} held out"
        errors = {name: np.sqrt(each.mean()) for name, each in self._errors().items()}
        text = ", ".join(f"{name} {errors[name]:.4g}" for name in BASELINES)
        return [*lines, f"baselines, held-out root mean square error in standard deviations of the training part: {text}"]

    def draw(self, step: int, generator: torch.Generator) -> Tensor:
        """Pieces (b, context + horizon, C), drawn uniformly from the whole training part."""
        numbers = torch.randint(int(self.places[-1]), (self.settings.batch,), generator=generator).numpy()
        rows = np.searchsorted(self.places, numbers, side="right")
        return self.examples.pieces(rows, numbers - np.concatenate([[0], self.places])[rows], self.window)

    def loss(self, batch: Tensor) -> Tensor:
        """Mean square error of the normalized samples that follow every sample."""
        answers = self.model(batch[:, : self.context])
        return nn.functional.mse_loss(answers, following(batch, self.settings.horizon))

    def batches(self, row: int) -> Iterator[tuple[Tensor, int]]:
        """Batches (b, heard + asked + horizon, C) of the held-out part of a series, and `heard`: samples before the first one after which a
        forecast is asked for. Before its first sample, the model receives at least half of its context.
        """
        horizon, half, stride = self.settings.horizon, self.context // 2, self.context - self.context // 2
        length = int(self.examples.sequences.lengths[row])
        first = max(int(self.cuts[row]), min(half, (length - horizon) // 2), 1) - 1
        last = min(length - horizon, first + max(1, MOST_TARGETS // len(self.held_out())))
        pieces = [(max(0, now - half), now, min(now + stride, last)) for now in range(first, last, stride)]
        size = max(1, EVALUATED // (self.window * self.settings.d_model))
        for (heard, asked), group in itertools.groupby(pieces, key=lambda piece: (piece[1] - piece[0], piece[2] - piece[1])):
            starts = [start for start, _, _ in group]
            for some in (starts[at : at + size] for at in range(0, len(starts), size)):
                yield self.examples.pieces([row] * len(some), some, heard + asked + horizon), heard

    def forecasts(self, row: int) -> Stretch:
        """The held-out part of a series, normalized."""
        horizon = self.settings.horizon
        known, wanted, given = [], [], []
        for batch, heard in self.batches(row):
            inputs = batch[:, :-horizon]
            known.append(inputs[:, heard:].flatten(0, 1).cpu())
            wanted.append(following(batch, horizon)[:, heard:].flatten(0, 1).cpu())
            given.append(self.answers([(inputs,)])[0][:, heard:].flatten(0, 1))
        shape = (-1, horizon, self.examples.sequences.features)
        stretch = [torch.cat(part).double().numpy() for part in (known, wanted, given)]
        return Stretch(stretch[0], stretch[1].reshape(shape), stretch[2].reshape(shape))

    def _errors(self) -> dict[str, FloatArray]:
        """Normalized mean square errors (horizon, C) of the model and the baselines."""
        parts: dict[str, list[FloatArray]] = {"model": [], "last value": [], "mean": []}
        for stretch in map(self.forecasts, self.held_out()):
            parts["model"].append(stretch.given - stretch.wanted)
            parts["last value"].append(stretch.known[:, None] - stretch.wanted)
            parts["mean"].append(stretch.wanted)
        return {name: np.mean(np.concatenate(each) ** 2, axis=0) for name, each in parts.items()}

    def baseline(self) -> float:
        """The normalized mean square error of the better of last value and mean, by which the skill is measured."""
        return _better(self._errors())

    def held_out(self) -> Rows:
        """The series that have a held-out part."""
        return np.flatnonzero(self.cuts < self.examples.sequences.lengths)

    def measures(self) -> list[Measure]:
        """How much better the model is than the better baseline, and the error of every feature, on held-out samples."""
        errors = self._errors()
        base = _better(errors)
        meaning = "1 - squared error / that of the better of last value and mean, held out; 0: no better"
        found = [Measure("skill", float(1 - errors["model"].mean() / base), "", meaning, 0.0)]
        scale = self.examples.normal.scale
        for feature in range(min(len(scale), MOST_NAMED)):
            values = {name: float(scale[feature] * np.sqrt(each[:, feature].mean())) for name, each in errors.items()}
            which = "" if len(scale) == 1 else f" of feature {feature}"
            text = f"root mean square error{which}, held out, in units of the data; baseline: the better of last value and mean"
            found.append(Measure(named("error", feature, len(scale)), values["model"], "", text, min(values[name] for name in BASELINES)))
        return found

    def about(self) -> dict[str, Any]:
        """The model, the normalization of its inputs and outputs, and how far it looks ahead."""
        return {"task": "forecast", **super().about(), "horizon": self.settings.horizon}

    def pictures(self, folder: Path, measures: Sequence[Measure]) -> list[Path]:
        """Draw a held-out section with its forecasts, and the error by number of samples ahead."""
        from ssmspec.report.figures.predictions import forecast_figure
        from ssmspec.report.figures.style import save

        stretch = self.forecasts(int(self.held_out()[0]))
        mean, scale = self.examples.normal
        ahead = "one sample ahead"
        curves = {"data": stretch.wanted[:, 0], f"forecast {ahead}": stretch.given[:, 0], f"baseline: last value, {ahead}": stretch.known}
        shown = {label: values[:SHOWN, 0] * scale[0] + mean[0] for label, values in curves.items()}
        errors = {name: np.sqrt(each.mean(axis=1)) for name, each in self._errors().items()}
        value, unit = ("first feature", "its unit") if self.settings.data else ("membrane potential", "mV")
        if len(scale) == 1:
            errors = {name: scale[0] * each for name, each in errors.items()}
        units = (f"{value} [{unit}]", unit if len(scale) == 1 else "standard deviations, all features")
        return [save(forecast_figure(shown, errors, units), folder / "predictions.png")]


def _better(errors: Mapping[str, FloatArray]) -> float:
    return max(float(min(errors[name].mean() for name in BASELINES)), 1e-24)


def following(pieces: Tensor, horizon: int) -> Tensor:
    """The samples that follow every sample except the last ones: (b, L, C) to (b, L - horizon, horizon C)."""
    return pieces[:, 1:].unfold(1, horizon, 1).transpose(2, 3).flatten(2)


def _with_file(settings: DataSettings) -> DataSettings:
    """The settings with the file that is read if none is given."""
    return settings if settings.data else replace(settings, data=str(membrane_file()))


def _prepared(settings: DataSettings) -> DataSettings:
    """The settings with the digest of their file. The name of the file is kept only if the user gave it."""
    return replace(with_digests(_with_file(settings)), data=settings.data)


def _read(settings: DataSettings) -> Sequences:
    if settings.data:
        return read_sequences(settings.data, axes=settings.axes, longest=settings.length)
    if settings.axes is not None:
        raise SsmspecError("axes describes the axes of your own data; leave axes out, or give the data with --data")
    series = Sequences(read_membrane()[None, :, None], None, np.array([SAMPLES]), NAME, notes=(ABOUT,))
    return series if settings.length is None else cut(series, settings.length)


def _cuts(series: Sequences, settings: DataSettings) -> Rows:
    """How many first samples of every series are used for training: all or none if there are many series, a part if there are few."""
    if len(series) >= FEWEST:
        cuts = series.lengths.copy()
        cuts[split(len(series), settings.held_out, settings.seed, series.source)[1]] = 0
    else:
        cuts = series.lengths - np.maximum(settings.horizon + 1, np.round(settings.held_out * series.lengths)).astype(np.int64)
    shortest = settings.horizon + 2
    if cuts.max() < shortest:
        raise SsmspecError(
            f"{series.source}: series of {series.lengths.max()} samples, of which {max(0, int(cuts.max()))} are for training; a horizon of "
            f"{settings.horizon} needs at least {shortest}"
        )
    return cuts


def _check_settings(settings: DataSettings) -> None:
    if settings.target is not None:
        raise SsmspecError("forecast learns to predict the data themselves; leave --target out, or choose regress")
    if settings.pooling != "none":
        raise SsmspecError(f"pooling is {settings.pooling!r}, but forecast gives an output at every sample; leave pooling at none")
    if not settings.causal:
        raise SsmspecError(
            "forecast needs a model whose output does not depend on later samples; leave bidirectional out, and keep beta at 0 or in the "
            "convention causal (in freqbias-block, at 0 with --set trainable_beta=false)"
        )


_OWN = presets(beta_convention="causal", theta_ref=0.1, pooling="none")
_PAPER = replace(  # for ETTh1, 96 hours ahead: ten epochs of its twelve months
    _OWN["large"],
    d_model=128,
    n_layers=2,
    d_state=64,
    layout="s4-diag",
    n_ssm=1,
    prenorm=True,
    final_norm=True,
    dropout=0.25,
    tie_dropout=True,
    lr=0.01,
    lr_ssm=1e-3,
    lr_step=1e-3,
    weight_decay=0.0,
    schedule="constant",
    batch=50,
    steps=1630,
    horizon=96,
    context=384,
)

FORECAST = Task(
    name="forecast",
    title="the next samples of series of your own, or of the potential of a neuron",
    source="arXiv 2206.11893; state-spaces/s4, example.py (small, large) and configs/experiment/forecasting/s4-informer-etth.yaml (paper)",
    presets={**_OWN, "paper": _PAPER},
    problem=Forecast,
    goal=Goal("skill", larger=True),
    prepare=_prepared,
    draw_sweep=draw_sweep,
)
