"""The task `denoise`: a bank with frozen poles learns to reproduce clean images. The noise that it then passes shows its frequency bias.

    y_o = sum_h W_oh (bank_h u_h) + b_o,   u: an image flattened row by row, one sequence per color;   loss: mean (y - u)^2

Poles and step are frozen, so every color of an image gives the same 2N real signals in every step, and the model is a combination of
them. The loss of an image needs only the scalar products of these signals with each other and with the image. They are computed once, in
float64, so the cost of a step does not depend on the length.

Source: arXiv 2410.02035, section 5.2; AnnanYu/FreqBiasSSM, denoising.py.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssmspec.report.documents.train import Measure
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import FloatArray
from ssmspec.training.banks.bank import Bank
from ssmspec.training.banks.choices import bank_poles, bank_sobolev, bank_weighting
from ssmspec.training.banks.frozen import FrozenBank, least_squares
from ssmspec.training.datasets.images import load_crops
from ssmspec.training.task import Goal, Outcome, Settings, State, Task, changed, check_tensors, load_start, setting_label

COLORS = 3
NOISE = 0.3  # root mean square of the stripes; the range of images is -1..1


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiseSettings(Settings):
    """The additional settings of `denoise`.

    Args:
        rows, columns: size of an image; L = rows columns. step: Delta [model time per sample]. modes: N, stored; Im a_n = alpha n.
        decay: -Re a_n for n > 0; for n = 0 it is exp(-5). low_period: period of horizontal stripes [rows]. high_period: period of vertical
            stripes [columns]. pictures: keys of `PICTURES`. crops: number of crops per picture. crop: side of a crop [pixels].
    """

    rows: int
    columns: int
    step: float
    modes: int
    decay: float
    low_period: int
    high_period: int
    pictures: tuple[str, ...]
    crops: int
    crop: int

    @property
    def length(self) -> int:
        """L."""
        return self.rows * self.columns


class DenoiseModel(nn.Module):
    """One bank per color, followed by a linear map of the colors."""

    def __init__(self, settings: DenoiseSettings) -> None:
        super().__init__()
        order = np.arange(settings.modes)
        own = np.where(order == 0, -math.exp(-5), -settings.decay) + 1j * order
        poles = bank_poles(settings, own, COLORS, settings.step)
        self.layer = Bank(poles, settings.step, rates={"log_A_real": None, "A_imag": None, "C": None})
        size = self.layer.kernel.A_imag.abs()[..., None] / 1000
        self.layer.kernel.C.data = torch.view_as_real(torch.randn(COLORS, settings.modes, dtype=torch.cfloat)) * size
        self.mixing = nn.Conv1d(COLORS, COLORS, kernel_size=1)

    def combination(self) -> Tensor:
        """The coefficients of every color, (3, S) float64, for the signals of red, green and blue and a constant one."""
        C = self.layer.kernel.C.double()
        parts = torch.cat([2 * C[..., 0], -2 * C[..., 1]], dim=1)
        mixing: Tensor = self.mixing.weight.double()[..., 0]
        bias: Tensor = self.mixing.bias.double()  # type: ignore[union-attr]
        return torch.cat([(mixing[..., None] * parts).flatten(1), bias[:, None]], dim=1)


class Denoise:
    """The problem: model, images, and the scalar products that represent the images."""

    def __init__(self, settings: DenoiseSettings, device: torch.device, start: State | None = None) -> None:
        self.settings = settings
        self.model = DenoiseModel(settings).to(device)
        load_start(self.model, start)
        self.bank = FrozenBank(self.model.layer, settings.length, bank_weighting(settings), settings.beta)
        shape = {"rows": settings.rows, "columns": settings.columns}
        self.images = torch.from_numpy(load_crops(settings.pictures, crops=settings.crops, size=settings.crop, **shape))
        self.products = self.bank.products(list(self.images))

    def opening(self) -> list[str]:
        """Empty, because the settings say everything."""
        return []

    def about(self) -> dict[str, Any]:
        """The settings, which determine the model and its data."""
        return {"task": "denoise", "settings": asdict(self.settings)}

    def draw(self, step: int, generator: torch.Generator) -> Tensor:
        """Numbers of different images, (B,), or of all images."""
        return torch.randperm(len(self.images), generator=generator)[: self.settings.batch].to(self.products.gram.device)

    def loss(self, batch: Tensor) -> Tensor:
        """Mean square difference between output and image."""
        gram, cross, energy = (part[batch].mean(0) for part in self.products)
        weights: Tensor = self.model.combination()
        squares = (weights @ gram * weights).sum() - 2 * (weights * cross.T).sum() + energy
        return squares / (COLORS * self.settings.length)

    def output(self, image: Tensor, *, constant: bool = True) -> Tensor:
        """The output of the model for an image, (3, L) float64, without its constant part if not `constant`."""
        with torch.no_grad():
            weights: Tensor = self.model.combination()
            return (weights @ self.bank.signals(image) if constant else weights[:, :-1] @ self.bank.signals(image)[:-1]).cpu()

    def stripes(self) -> dict[str, Tensor]:
        """Noise by name, (3, L). Along the flattened image, horizontal stripes are low frequencies and vertical stripes high ones."""
        settings = self.settings
        row, column = torch.arange(settings.length).div(settings.columns, rounding_mode="floor"), torch.arange(settings.length)
        phases = {"low": row / settings.low_period, "high": column % settings.columns / settings.high_period}
        waves = {name: torch.sin(2 * math.pi * phase.double()) for name, phase in phases.items()}
        return {name: (NOISE * wave / wave.square().mean().sqrt()).expand(COLORS, -1) for name, wave in waves.items()}

    def measures(self) -> list[Measure]:
        """How much of each noise survives, and how well clean images are reproduced."""
        noise = self.stripes()
        energies = {name: float(self.output(wave, constant=False).square().sum() / wave.square().sum()) for name, wave in noise.items()}
        with torch.no_grad():
            error = float(self.loss(torch.arange(len(self.images))).clamp(min=0).sqrt())
        ratio = math.log10(energies["high"] / energies["low"])
        return [
            Measure("log10_ratio", ratio, "decades", "surviving high energy / surviving low energy; above 0 the bias is reversed"),
            Measure("surviving_low", energies["low"], "", "energy of horizontal stripes, output / input"),
            Measure("surviving_high", energies["high"], "", "energy of vertical stripes, output / input"),
            Measure("clean_error", error, "", "root mean square error on the clean images, whose range is -1..1"),
        ]

    def heard(self) -> Tensor:
        """The flattened images, (B, L, 3)."""
        return self.images.transpose(1, 2)

    def weights(self) -> dict[str, Sobolev]:
        """The weight of the bank."""
        return {"layer": bank_sobolev(self.settings, COLORS, self.settings.length)}

    def marks(self) -> dict[str, float]:
        """The frequencies of the stripes."""
        settings = self.settings
        return {
            "horizontal stripes": 2 * math.pi / (settings.low_period * settings.columns),
            "vertical stripes": 2 * math.pi / settings.high_period,
        }

    def shown(self) -> tuple[list[FloatArray], list[FloatArray]]:
        """The first image clean, with low noise and with high noise, and the three outputs of the model: (rows, columns, 3), in 0..1."""
        image, noise = self.images[0], self.stripes()
        inputs = [image, *(image + noise[name] for name in ("low", "high"))]
        clean = self.output(image)
        outputs = [clean, *(clean + self.output(noise[name], constant=False) for name in ("low", "high"))]
        return [self._picture(part) for part in inputs], [self._picture(part) for part in outputs]

    def _picture(self, image: Tensor) -> FloatArray:
        shape = (COLORS, self.settings.rows, self.settings.columns)
        return ((image + 1) / 2).clamp(0, 1).reshape(shape).permute(1, 2, 0).numpy()

    def pictures(self, folder: Path, measures: Sequence[Measure]) -> list[Path]:
        """Draw inputs and outputs."""
        from ssmspec.report.figures.style import save
        from ssmspec.report.figures.training import grid_figure

        inputs, outputs = self.shown()
        rows = {"input": inputs, setting_label(self.settings): outputs}
        return [save(grid_figure(rows, COLUMNS), folder / "images.png")]


COLUMNS = ("clean", "low noise: horizontal stripes", "high noise: vertical stripes")


def adopt(settings: DenoiseSettings, tensors: State) -> DenoiseSettings:
    """Settings for a model with these tensors, as far as the tensors determine them.

    Raises:
        SsmspecError: the tensors do not belong to such a model.
    """
    name = "layer.kernel.A_imag"
    settings = changed(settings, {"modes": tensors[name].shape[-1]} if name in tensors else {})
    with torch.random.fork_rng(devices=[]):
        check_tensors(DenoiseModel(settings), tensors, "denoise")
    return settings


def solve(problem: Denoise) -> None:
    """Set C to the least-squares solution over all images, color by color, with W = 1 and b = 0."""
    model, modes = problem.model, problem.settings.modes
    gram, cross = problem.products.gram.sum(0).cpu().numpy(), problem.products.cross.sum(0).cpu().numpy()
    solution = np.empty((COLORS, 2 * modes))
    for color in range(COLORS):
        own = slice(color * 2 * modes, (color + 1) * 2 * modes)
        solution[color] = least_squares(gram[own, own], cross[own, color])
    C = np.stack([solution[:, :modes] / 2, -solution[:, modes:] / 2], axis=-1)
    with torch.no_grad():
        model.layer.kernel.C.copy_(torch.from_numpy(C))
        model.mixing.weight.copy_(torch.eye(COLORS)[..., None])
        assert model.mixing.bias is not None
        model.mixing.bias.zero_()


def _draw_sweep(outcomes: Sequence[Outcome], folder: Path) -> list[Path]:
    """Draw the first image for every setting (its first seed), and the ratio of surviving noise."""
    from ssmspec.report.figures.style import save
    from ssmspec.report.figures.training import bars_figure, grid_figure

    rows: dict[str, list[FloatArray]] = {}
    ratios: dict[str, list[float]] = {}
    for outcome in outcomes:
        label = setting_label(outcome.settings)
        ratios.setdefault(label, []).append(outcome.measures[0].value)
        if label not in rows:
            inputs, rows[label] = outcome.problem.shown()
    figure = bars_figure(ratios, axis="setting", value="surviving energy,\nlog10(high/low) [decades]", reference=("no preference", 0.0))
    return [save(grid_figure({"input": inputs, **rows}, COLUMNS), folder / "images.png"), save(figure, folder / "ratios.png")]


_SMALL_STEP, _SMALL_COLUMNS = 1.6e-3, 32
_ROW = 2 * math.pi / (_SMALL_COLUMNS * _SMALL_STEP)  # rad per model time: one period per row, whose multiples carry vertical structure
_SMALL = DenoiseSettings(
    alpha=math.pi,
    beta_convention="angular",
    theta_ref=2.44 * _ROW * _SMALL_STEP,  # as many row frequencies as the knee of the published ramp
    steps=300,
    batch=8,
    lr=1e-2,
    schedule="constant",
    rows=256,
    columns=_SMALL_COLUMNS,
    step=_SMALL_STEP,
    modes=16,
    decay=3.0,
    low_period=32,
    high_period=4,
    pictures=("grace_hopper",),
    crops=16,
    crop=178,
)
_PAPER = DenoiseSettings(
    alpha=math.pi,
    beta_convention="denoising",
    steps=101_740,  # 20 epochs of 5087 batches of CelebA's training set
    batch=32,
    lr=1e-3,
    rows=2048,
    columns=128,
    step=1e-4,
    modes=64,
    decay=3.0,
    low_period=256,
    high_period=4,
    pictures=("grace_hopper",),
    crops=32,
    crop=178,
)

_FLIP = 490.52  # published: spreads 64 modes over [0, Nyquist]; the row frequency there is 490.87 rad per model time


def _published(flip: float) -> tuple[tuple[float, float], ...]:
    return (math.pi / 3, -1.0), (math.pi, 0.0), (10 * math.pi, 1.0), (flip, 0.0), (flip, 1.0)


DENOISE = Task(
    name="denoise",
    title="reproduce clean images with frozen poles; which stripes survive shows the frequency bias",
    source="arXiv 2410.02035, section 5.2; AnnanYu/FreqBiasSSM, denoising.py",
    presets={"small": _SMALL, "paper": _PAPER},
    problem=Denoise,
    goal=Goal("clean_error"),
    published={"small": _published(_ROW), "paper": _published(_FLIP)},
    solve=solve,
    adopt=adopt,
    draw_sweep=_draw_sweep,
    precisions=("float32",),  # the products of signals are computed once, in float64, so a step has nothing to narrow
)
