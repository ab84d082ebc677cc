"""The task `moving-mnist`: the next frame of clips in which a fast digit moves in red and a slow one in blue.

    frame_{t+1} from frames 0..t;   loss: (1 - w) mean (p - v)^2 + w mean |p - v|, values in -1..1

The colors separate the digits, so the error in red is that of the fast digit, and the error in blue is that of the slow one.

Source: arXiv 2410.02035, the experiment on moving digits; AnnanYu/FreqBiasSSM, MovingMNIST_gen.py (the clips). Its README says that the
model and its training are those of NVlabs/ConvSSM: configs/Moving-MNIST/600_train_len/mnist_convS5_novq.yaml, for clips of the 600 frames
that the generator makes. Neither of the two states alpha, beta and its convention; those here are our choice.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssmspec.errors import SsmspecError
from ssmspec.nn import VideoModel
from ssmspec.report.documents.train import Measure
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import ComplexArray, FloatArray
from ssmspec.training.datasets.digits import read_digits
from ssmspec.training.datasets.idx import read_mnist
from ssmspec.training.datasets.moving import COLORS, FAST, PUBLISHED_SPEEDS, SLOW, Clips
from ssmspec.training.kinds.own_data import Order, split
from ssmspec.training.kinds.published import absolute, require_data
from ssmspec.training.task import OWN, Goal, Outcome, Settings, State, Task, inputs_of, load_start, setting_label
from ssmspec.tuning.poles.initializations import Settings as Sizes
from ssmspec.tuning.poles.initializations import initial_poles

DIGITS = {"fast": FAST, "slow": SLOW}
DIGITS_HELD_OUT = 0.25  # share of the digits of scikit-learn
HELD_OUT_SEED = 2**20  # seed of the clips from which measures are computed
AT_ONCE = 2**21  # values of frames that an evaluation holds at once
SHOWN = 6  # number of frames in a picture


@dataclass(frozen=True, slots=True, kw_only=True)
class MovingSettings(Settings):
    """The additional settings of `moving-mnist`.

    Args:
        data: folder with the files of MNIST. bundled: whether the digits of scikit-learn are used if `data` is "".
        examples: number of training clips. tests: number of held-out clips.
        frames: L, the number of frames of a clip. context: first frames of a clip, whose errors no measure includes. side: side of a frame
            [pixels]. speeds: speeds of the fast and the slow digit, in units of the free room of a digit in a frame, per frame.
        absolute: w in the loss. depths, d_model, n_layers, groups, bounded: options of `ssmspec.nn.VideoModel`.
        d_state, blocks, step_min, step_max: options of its `ssmspec.nn.ConvS5`. lr_ssm: learning rate of poles and steps.
    """

    data: str = ""
    bundled: bool = False
    examples: int
    tests: int
    frames: int
    context: int
    side: int
    speeds: tuple[float, ...] = PUBLISHED_SPEEDS
    absolute: float = 0.5
    depths: tuple[int, ...]
    d_model: int
    n_layers: int
    groups: int
    bounded: bool = True
    d_state: int
    blocks: int = 1
    step_min: float = 1e-3
    step_max: float = 1e-1
    lr_ssm: float

    def __post_init__(self) -> None:
        super(MovingSettings, self).__post_init__()
        if len(self.speeds) != len(DIGITS):
            raise SsmspecError(f"speeds has {len(self.speeds)} values; expected two, for the fast and the slow digit")
        if self.context + 2 > self.frames:
            raise SsmspecError(f"context is {self.context}, but clips have {self.frames} frames; clips need at least two more than context")
        if self.absolute > 1:
            raise SsmspecError(f"absolute is {self.absolute}; it must be a share of the loss, at most 1")
        if self.beta != 0 and self.beta_convention != "causal":
            raise SsmspecError(
                f"the beta convention {self.beta_convention} lets a frame depend on later frames, which are to be predicted; "
                "leave --beta-convention at causal"
            )


class Moving:
    """The problem: model, digits, and which clips are drawn in every step."""

    def __init__(self, settings: MovingSettings, device: torch.device, start: State | None = None) -> None:
        self.settings, self.device = settings, device
        training, held_out = _glyphs(settings)
        options: Any = {"frames": settings.frames, "side": settings.side, "speeds": settings.speeds}
        self.clips = Clips(training, seed=settings.seed, **options)
        self.held_out = Clips(held_out, seed=HELD_OUT_SEED, **options)
        self.model = _model(settings).to(device)
        load_start(self.model, start)
        self.order = Order(np.arange(settings.examples), settings.batch, settings.seed)

    def opening(self) -> list[str]:
        """Lines on sizes, and on the errors of simple baselines."""
        settings, digits = self.settings, f"{len(self.clips.glyphs)} digits to train on, {len(self.held_out.glyphs)} held out"
        source = settings.data or "digits of scikit-learn"
        text = "; ".join(f"{name} {', '.join(f'{value:.3g}' for value in values)}" for name, values in self.baselines.items())
        return [
            f"{source}: {digits}; clips of {settings.frames} frames of {settings.side} x {settings.side} pixels",
            f"baselines, root mean square error of the {' and the '.join(DIGITS)} digit: {text}",
        ]

    def draw(self, step: int, generator: torch.Generator) -> Tensor:
        """Clips (b, L, 3, side, side) in -1..1."""
        return self._take(self.clips, self.order.at(step))

    def _take(self, clips: Clips, numbers: Any) -> Tensor:
        return torch.from_numpy(clips.take(numbers)).to(self.device) * 2 - 1

    def loss(self, batch: Tensor) -> Tensor:
        """The error of every frame except the first."""
        difference = self.model(batch[:, :-1]) - batch[:, 1:]
        share = self.settings.absolute
        return (1 - share) * difference.square().mean() + share * difference.abs().mean()

    def held_out_clips(self, first: int, count: int) -> Tensor:
        """Some held-out clips, (count, L, 3, side, side) in -1..1."""
        return self._take(self.held_out, range(first, first + count))

    def predictions(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Held-out clips, and the outputs of the model for all frames except the last: (b, L, 3, side, side) and (b, L - 1, ..) in 0..1."""
        clips = self.held_out_clips(first, count)
        self.model.eval()
        with torch.no_grad():
            given = self.model(clips[:, :-1])
        self.model.train()
        return (clips.cpu() + 1) / 2, (given.float().cpu() + 1) / 2

    def errors(self) -> FloatArray:
        """Root mean square errors (2,) of the fast and the slow digit in the frames after the context, in 0..1."""
        total = np.zeros(len(DIGITS))
        for first, count in self.parts():
            clips, given = self.predictions(first, count)
            total += _squares((given - clips[:, 1:])[:, self.settings.context :]).sum((1, 2))
        return np.sqrt(total / self._values)

    @cached_property
    def baselines(self) -> dict[str, FloatArray]:
        """The same errors for two baselines: the last frame, and the mean of all frames."""
        settings = self.settings
        shape = (len(DIGITS), settings.side, settings.side)
        copied, squares, sums = np.zeros(len(DIGITS)), np.zeros(shape), np.zeros(shape)
        for first, count in self.parts():
            clips = torch.from_numpy(self.held_out.take(range(first, first + count)))[:, settings.context :]
            copied += _squares(clips[:, 1:] - clips[:, :-1]).sum((1, 2))
            squares += _squares(clips[:, 1:])
            sums += clips[:, 1:, list(DIGITS.values())].double().sum((0, 1)).numpy()
        spread = (squares - sums**2 / (self._values / settings.side**2)).sum((1, 2))
        return {"last frame": np.sqrt(copied / self._values), "mean frame": np.sqrt(spread / self._values)}

    @property
    def _values(self) -> int:
        """Number of values of one color over which errors are averaged."""
        settings = self.settings
        return settings.tests * (settings.frames - 1 - settings.context) * settings.side**2

    def parts(self) -> Iterator[tuple[int, int]]:
        """The first clip and the number of clips of each part that is evaluated at once."""
        settings = self.settings
        size = max(1, AT_ONCE // (settings.frames * settings.side**2 * settings.depths[0]))
        for first in range(0, settings.tests, size):
            yield first, min(size, settings.tests - first)

    def measures(self) -> list[Measure]:
        """The error of each digit, their ratio, and how much better the model is than a simple baseline."""
        errors, guesses = self.errors(), self.baselines
        best = np.minimum(*guesses.values())
        (ratio, copied), skills = (np.log10(each[0] / each[1]) for each in (errors, guesses["last frame"])), 1 - (errors / best) ** 2
        meaning = "error of the fast digit / error of the slow digit; baseline: the last frame"
        found = [Measure("log10_ratio", float(ratio), "decades", meaning, float(copied))]
        for name, error, guess in zip(DIGITS, errors.tolist(), best.tolist(), strict=True):
            meaning = f"root mean square error of the {name} digit in the next frame, in 0..1; baseline: the better of last and mean frame"
            found.append(Measure(f"error_{name}", error, "", meaning, guess))
        for name, skill in zip(DIGITS, skills.tolist(), strict=True):
            meaning = f"1 - squared error of the {name} digit / that of the better of last and mean frame; 0: no better"
            found.append(Measure(f"skill_{name}", skill, "", meaning))
        return found

    def heard(self) -> Tensor:
        """Encoded clips, (B, L, U height width)."""
        layers: Any = self.model.layers
        clips = self.draw(0, torch.Generator())
        return inputs_of(layers[0].seq, lambda: self.model(clips[:, :-1])).flatten(2)

    def weights(self) -> dict[str, Sobolev]:
        """The beta weight of every layer."""
        layers: Any = self.model.layers
        return {f"layers.{place}.seq": layer.seq.weight for place, layer in enumerate(layers) if layer.seq.weight is not None}

    def about(self) -> dict[str, Any]:
        """The settings, which determine the model and its data."""
        return {"task": "moving-mnist", "settings": asdict(self.settings)}

    def marks(self) -> dict[str, float]:
        """The frequency at which a digit moves along an axis and back again, with a period of 2/speed frames."""
        return {f"{name} digit": min(math.pi, math.pi * speed) for name, speed in zip(DIGITS, self.settings.speeds, strict=True)}

    def shown(self) -> tuple[list[FloatArray], list[FloatArray]]:
        """The last frames of the first held-out clip, and the prediction of each by the model: (side, side, 3), in 0..1."""
        clips, given = self.predictions(0, 1)
        last = len(_columns(self.settings))
        return [_picture(frame) for frame in clips[0, -last:]], [_picture(frame) for frame in given[0, -last:]]

    def pictures(self, folder: Path, measures: Sequence[Measure]) -> list[Path]:
        """Draw true and predicted frames of a clip, and the error of each digit."""
        from ssmspec.report.figures.style import save
        from ssmspec.report.figures.training import bars_figure, grid_figure

        wanted, given = self.shown()
        frames = grid_figure({"frame": wanted, "predicted": given}, _columns(self.settings))
        models = {"model": self.errors(), **self.baselines}
        errors = {f"{name}, {model}": float(each[place]) for place, name in enumerate(DIGITS) for model, each in models.items()}
        bars = bars_figure(errors, axis="digit", value="root mean square error")
        return [save(frames, folder / "frames.png"), save(bars, folder / "errors.png")]


def _columns(settings: MovingSettings) -> list[str]:
    """The frames that a picture shows: the last ones of a clip, but never the first frame."""
    return [f"frame {at}" for at in range(max(1, settings.frames - SHOWN), settings.frames)]


def _squares(frames: Tensor) -> FloatArray:
    """Sums of squares over clips and frames for both digits: (b, L, 3, side, side) to (2, side, side)."""
    return np.asarray(frames[:, :, list(DIGITS.values())].double().square().sum((0, 1)).numpy())


def _picture(frame: Tensor) -> FloatArray:
    return np.asarray(frame.permute(1, 2, 0).clamp(0, 1).double().numpy())


def _glyphs(settings: MovingSettings) -> tuple[FloatArray, FloatArray]:
    """Training digits and held-out digits, (G, h, h) in 0..1."""
    if settings.data or not settings.bundled:
        training, held_out = read_mnist(require_data(settings, "the pictures of MNIST (idx files)"))
        return training.astype(np.float32) / 255, held_out.astype(np.float32) / 255
    pictures, codes = read_digits()
    parts = split(len(codes), DIGITS_HELD_OUT, settings.seed, "the digits of scikit-learn", codes)
    return pictures[parts[0]] / 255, pictures[parts[1]] / 255


def _model(settings: MovingSettings) -> VideoModel:
    """A model drawn from torch's global generator."""
    names = ("depths", "d_model", "n_layers", "groups", "bounded", "d_state", "blocks", "beta", "theta_ref", "step_min", "step_max")
    options: dict[str, Any] = {name: getattr(settings, name) for name in names}
    start: dict[str, Any] = {"alpha": settings.alpha} if settings.init == OWN else {"poles": _poles(settings)}
    return VideoModel(channels=COLORS, lr=settings.lr_ssm, **options, **start)


def _poles(settings: MovingSettings) -> ComplexArray:
    """(layers, P) poles of a named initialization, scaled by alpha."""
    found = []
    for layer in range(1, settings.n_layers + 1):
        sizes = Sizes(copies=1, modes=settings.d_state // 2, blocks=settings.blocks, layer=layer, layers=settings.n_layers)
        start = initial_poles(settings.init, sizes, alpha=settings.alpha, rng=np.random.default_rng([settings.seed, layer]))
        if start.plane == "z" and settings.step_min != settings.step_max:
            raise SsmspecError(
                f"init {settings.init} places poles per frame and needs a single step; add --set step_min={settings.step_max} "
                f"--set step_max={settings.step_max}"
            )
        found.append(start.continuous(np.full((1, 1), settings.step_max))[0])
    return np.stack(found)


def _draw_sweep(outcomes: Sequence[Outcome], folder: Path) -> list[Path]:
    """Draw the frames that every setting predicts (its first seed), the ratio of the errors, and the error and skill of each digit."""
    from ssmspec.report.figures.style import save
    from ssmspec.report.figures.training import bars_figure, grid_figure, sweep_figure

    figures = [{measure.name: measure.value for measure in outcome.measures} for outcome in outcomes]
    rows: dict[str, list[FloatArray]] = {}
    ratios: dict[str, list[float]] = {}
    for outcome, found in zip(outcomes, figures, strict=True):
        label = setting_label(outcome.settings)
        ratios.setdefault(label, []).append(found["log10_ratio"])
        if label not in rows:
            wanted, rows[label] = outcome.problem.shown()
    frames = grid_figure({"frame": wanted, **rows}, _columns(outcomes[0].settings))
    bars = bars_figure(ratios, axis="setting", value="error, log10(fast/slow) [decades]", reference=("both alike", 0.0))
    written = [save(frames, folder / "frames.png"), save(bars, folder / "ratios.png")]
    for what, quantity in (("error", "root mean square error"), ("skill", "1 - squared error / baseline's")):
        groups: dict[tuple[float, float], list[list[float]]] = {}
        for outcome, found in zip(outcomes, figures, strict=True):
            key = (outcome.settings.alpha, outcome.settings.beta)
            groups.setdefault(key, []).append([found[f"{what}_{name}"] for name in DIGITS])
        means = {key: np.mean(values, axis=0) for key, values in groups.items()}
        ends = np.concatenate([np.zeros(1), *means.values()])
        figure = sweep_figure(means, [f"{name} digit" for name in DIGITS], quantity=quantity, limits=(ends.min(), ends.max()))
        written.append(save(figure, folder / f"{what}s.png"))
    return written


_SMALL = MovingSettings(
    alpha=1.0,
    beta_convention="causal",
    theta_ref=0.1,
    steps=400,
    batch=4,
    lr=1e-2,
    warmup=20,
    bundled=True,
    examples=4096,
    tests=64,
    frames=16,
    context=5,
    side=16,
    absolute=0.0,  # with a bounded output and absolute errors, a small model predicts black frames for hundreds of steps
    bounded=False,
    depths=(8,),
    d_model=8,
    n_layers=2,
    groups=4,
    d_state=16,
    lr_ssm=1e-3,
)
_PAPER = MovingSettings(
    alpha=1.0,
    beta_convention="causal",
    theta_ref=0.1,
    steps=300_000,
    batch=8,
    lr=5e-4,
    weight_decay=1e-5,
    warmup=5000,
    examples=2000,
    tests=64,
    frames=600,
    context=99,  # the published results start after 100 frames
    side=64,
    depths=(64, 128, 256),
    d_model=128,
    n_layers=8,
    groups=32,
    d_state=128,
    lr_ssm=5e-4,
)
_PUBLISHED = tuple(itertools.product((0.1, 1.0, 10.0), (-1.0, 0.0, 1.0)))

MOVING_MNIST = Task(
    name="moving-mnist",
    title="the next frame of clips of a fast and a slow digit; the error of each shows which motions were learned",
    source="arXiv 2410.02035; AnnanYu/FreqBiasSSM, MovingMNIST_gen.py; arXiv 2310.19694",
    presets={"small": _SMALL, "paper": _PAPER},
    problem=Moving,
    goal=Goal("skill_*", larger=True),
    published=dict.fromkeys(("small", "paper"), _PUBLISHED),
    prepare=absolute,
    draw_sweep=_draw_sweep,
)
