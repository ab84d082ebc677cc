"""The task `waves`: the amplitudes of four superposed waves. Their errors show which frequencies a model has learned.

    u(t_l) = sum_j a_j cos(f_j t_l),   t_l = l step;    decoder(mean over l of GELU(bank(encoder(u))))  ->  a

Encoder and bank are linear. The response of the bank to the waves (and to a bias of the encoder) is therefore computed once per channel,
and mixed with the amplitudes of every example. This is the same function of the parameters as sending every example through the bank.

Source: arXiv 2410.02035, section 5.1; AnnanYu/FreqBiasSSM, waves.py, waves_gen.py and models/s4/s4d.py.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ssmspec.errors import SsmspecError
from ssmspec.nn.mamba import Mamba
from ssmspec.report.documents.train import Measure
from ssmspec.systems.sobolev import Sobolev
from ssmspec.training.banks.bank import Bank, FixedSources, mean_gelu
from ssmspec.training.banks.choices import bank_sobolev, bank_weighting, weight_step
from ssmspec.training.banks.mixtures import mean_gelu_of_mixtures
from ssmspec.training.banks.wave_layers import ARCHITECTURES, LinearLayer, check_architecture, sizes_of
from ssmspec.training.task import OWN, Goal, Outcome, Settings, State, Task, changed, check_tensors, load_start

HELD_OUT = 1024  # number of examples for the final measures
HELD_OUT_SEED = 2**20
CHUNK = 2**22  # samples of all channels that the measures of a layer that depends on its input hold at once
CHANCE = 0.25  # mean |a - 1/2| for a uniform in 0..1: the error of a model that always answers 1/2


@dataclass(frozen=True, slots=True, kw_only=True)
class WavesSettings(Settings):
    """The additional settings of `waves`.

    Args:
        length: L [samples]. step: Delta [model time per sample]. tones: f_j [rad per model time].
        channels: H. modes: N, stored. lr_real, lr_imag: learning rates of log(-Re a) and Im a.
        offset: whether the encoder has a bias. skip: whether there is a trained skip weight, shared by all channels, which leaks the total
            energy. amplitudes: "uniform", a new draw from [0, 1) in every step; or "grid", all of {0.1, .., 1}^J once per epoch in random
            order. architecture: architecture of the layer, see `wave_layers`. matrices: how its B and C are initialized, "own", "xavier"
            or "kaiming".
    """

    length: int
    step: float
    tones: tuple[float, ...]
    channels: int
    modes: int
    lr_real: float
    lr_imag: float
    offset: bool
    skip: bool
    amplitudes: str
    architecture: str = "s4d"
    matrices: str = OWN

    def __post_init__(self) -> None:
        super(WavesSettings, self).__post_init__()
        if self.amplitudes not in ("uniform", "grid"):
            raise SsmspecError(f"amplitudes is {self.amplitudes!r}; choose uniform or grid")
        if self.length < 2 or max(self.tones) * self.step > math.pi:
            raise SsmspecError(
                f"tone {max(self.tones):g} and step {self.step:g} give {max(self.tones) * self.step:g} rad/sample, beyond pi"
            )
        check_architecture(self)


class WaveModel(nn.Module):
    """Encoder, bank, GELU, decoder, and mean over time."""

    def __init__(self, settings: WavesSettings) -> None:
        super().__init__()
        self.encoder = nn.Linear(1, settings.channels, bias=settings.offset)
        self.layer = ARCHITECTURES[settings.architecture](settings)
        self.decoder = nn.Linear(settings.channels, len(settings.tones))

    def answer(self, amplitudes: Tensor, waves: FixedSources, constant: FixedSources) -> Tensor:
        """The output (B, J) for waves with the given amplitudes (B, J). `constant` is used if the encoder has a bias."""
        if isinstance(self.layer, Mamba):
            u = amplitudes.to(waves.signals) @ waves.signals
            heard = mean_gelu(self.layer(self.encoder(u[..., None]).mT))
        else:
            heard = self._mix(cast(LinearLayer, self.layer), amplitudes, waves, constant)
        answer: Tensor = self.decoder(heard)
        return answer

    def _mix(self, layer: LinearLayer, amplitudes: Tensor, waves: FixedSources, constant: FixedSources) -> Tensor:
        """The mean of GELU of the output of a linear layer for every example, (B, H)."""
        scales, sources, mixture = self.encoder.weight.reshape(1, -1), [waves], amplitudes
        if self.encoder.bias is not None:
            scales, sources = torch.cat([scales, self.encoder.bias[None]]), [waves, constant]
            mixture = torch.cat([amplitudes, amplitudes.new_ones(len(amplitudes), 1)], dim=1)
        kernels = layer.responses(scales, waves.length)
        parts = [each(kernel) for each, kernel in zip(sources, kernels, strict=True)]
        D = self.layer._parameters.get("D")
        if D is not None:
            parts = [part + D * scale[:, None] * each.signals[:, None] for part, scale, each in zip(parts, scales, sources, strict=True)]
        return mean_gelu_of_mixtures(mixture, torch.cat(parts))


class Waves:
    """The problem: model, waves, and the amplitudes of every step."""

    def __init__(self, settings: WavesSettings, device: torch.device, start: State | None = None) -> None:
        self.settings = settings
        self.model = WaveModel(settings).to(device)
        load_start(self.model, start)
        bank = self.model.layer
        step = weight_step(bank, settings) if start is not None and isinstance(bank, Bank) else settings.step
        time = settings.step * torch.arange(settings.length, dtype=torch.float64)
        weighting, tones = bank_weighting(settings), torch.tensor([*settings.tones, 0.0], dtype=torch.float64)
        signals = torch.cos(tones[:, None] * time)
        self.sources = [FixedSources(each, weighting, settings.beta, step).to(device) for each in (signals[:-1], signals[-1:])]

    def opening(self) -> list[str]:
        """A line on the meaning of alpha, if alpha is not a factor on frequencies."""
        if self.settings.architecture != "mamba1":
            return []
        return ["mamba1 has real poles: alpha multiplies its initial steps instead of frequencies"]

    def about(self) -> dict[str, Any]:
        """The settings, which determine the model and its data."""
        return {"task": "waves", "settings": asdict(self.settings)}

    def draw(self, step: int, generator: torch.Generator) -> Tensor:
        """Amplitudes (B, J)."""
        settings = self.settings
        if settings.amplitudes == "uniform":
            drawn = torch.rand(settings.batch, len(settings.tones), generator=generator)
        else:
            drawn = _from_grid(step, settings)
        return drawn.to(self.model.encoder.weight.device)

    def loss(self, batch: Tensor) -> Tensor:
        """Mean square error of the amplitudes."""
        return nn.functional.mse_loss(self.model.answer(batch, *self.sources), batch)

    def errors(self) -> Tensor:
        """Mean absolute error of every amplitude over held-out examples, (J,)."""
        settings = self.settings
        amplitudes = torch.rand(HELD_OUT, len(settings.tones), generator=torch.Generator().manual_seed(HELD_OUT_SEED))
        size = max(1, CHUNK // (settings.channels * settings.length)) if isinstance(self.model.layer, Mamba) else HELD_OUT
        with torch.no_grad():
            batches = torch.split(amplitudes.to(self.model.encoder.weight.device), size)
            parts = [(self.model.answer(batch, *self.sources) - batch).abs() for batch in batches]
        return torch.cat(parts).mean(0).cpu()

    def measures(self) -> list[Measure]:
        """The error of every tone."""
        pairs = zip(self.settings.tones, self.errors().tolist(), strict=True)
        return [
            Measure(f"error_{tone:g}", error, "", f"mean absolute error of the amplitude of {tone:g} rad/model time", CHANCE)
            for tone, error in pairs
        ]

    def heard(self) -> Tensor:
        """Superposed waves, (B, L, 1). The encoder only scales them."""
        waves = self.sources[0].signals
        drawn = self.draw(0, torch.Generator().manual_seed(self.settings.seed)).to(waves)
        return (drawn @ waves)[..., None]

    def weights(self) -> dict[str, Sobolev]:
        """The weight of the layer. S5 and LRU are one system of all channels."""
        copies = 1 if self.settings.architecture in ("s5", "lru") else self.settings.channels
        return {"layer": bank_sobolev(self.settings, copies, self.settings.length)} if self.settings.architecture != "mamba1" else {}

    def marks(self) -> dict[str, float]:
        """The frequencies of the tones."""
        return {f"{tone:g} rad/model time": tone * self.settings.step for tone in self.settings.tones}

    def pictures(self, folder: Path, measures: Sequence[Measure]) -> list[Path]:
        """Draw the error of every tone as bars."""
        from ssmspec.report.figures.style import save
        from ssmspec.report.figures.training import bars_figure

        values = {f"{tone:g}": error for tone, error in zip(self.settings.tones, (measure.value for measure in measures), strict=True)}
        axis, value = "tone [rad/model time]", "mean absolute error of the amplitude"
        figure = bars_figure(values, axis=axis, value=value, reference=("always 1/2", CHANCE))
        return [save(figure, folder / "errors.png")]


def adopt(settings: WavesSettings, tensors: State) -> WavesSettings:
    """Settings for a model with these tensors, as far as the tensors determine them.

    Raises:
        SsmspecError: the tensors do not belong to such a model.
    """
    found = {"offset": "encoder.bias" in tensors, "skip": "layer.D" in tensors, **sizes_of(tensors)}
    settings = changed(settings, found)
    with torch.random.fork_rng(devices=[]):
        check_tensors(WaveModel(settings), tensors, "waves")
    return settings


def _from_grid(step: int, settings: WavesSettings) -> Tensor:
    """The batch of a step from an epoch over all points of {0.1, .., 1}^J, in an order that depends only on seed and epoch."""
    tones = len(settings.tones)
    batches = -(-(10**tones) // settings.batch)
    epoch, index = divmod(step, batches)
    order = torch.randperm(10**tones, generator=torch.Generator().manual_seed(settings.seed * 10**6 + epoch))
    points = order[index * settings.batch : (index + 1) * settings.batch]
    digits = [points // 10**place % 10 for place in range(tones)]
    return (torch.stack(digits, dim=1) + 1).float() / 10


def _draw_sweep(outcomes: Any, folder: Path) -> list[Path]:
    from ssmspec.report.figures.style import save
    from ssmspec.report.figures.training import sweep_figure

    groups: dict[tuple[float, float], list[list[float]]] = {}
    for outcome in outcomes:
        key = (outcome.settings.alpha, outcome.settings.beta)
        groups.setdefault(key, []).append([measure.value for measure in outcome.measures])
    means = {key: np.mean(values, axis=0) for key, values in groups.items()}
    names = [f"{tone:g} rad/model time" for tone in outcomes[0].settings.tones]
    figure = sweep_figure(means, names, quantity="mean absolute error of the amplitude", limits=(0.0, CHANCE))
    return [save(figure, folder / "errors.png")]


_SMALL = WavesSettings(
    alpha=1.0,
    beta_convention="paper",  # the knee at 1 rad per model time
    steps=1000,
    batch=16,
    lr=1e-2,
    length=2048,
    step=2 * math.pi / 2048,
    tones=(1.0, 8.0, 64.0, 512.0),
    channels=8,
    modes=4,
    lr_real=2e-3,
    lr_imag=0.1,
    offset=False,
    skip=False,
    amplitudes="uniform",
)
_PAPER = WavesSettings(
    alpha=1.0,
    beta_convention="waves",
    steps=15_700,  # 100 epochs of 157 batches
    batch=64,
    lr=1e-3,
    length=62_832,
    step=1e-4,
    tones=(1.0, 16.0, 256.0, 4096.0),
    channels=16,
    modes=4,
    lr_real=1e-3,
    lr_imag=0.1,
    offset=True,
    skip=True,
    amplitudes="grid",
)

WAVES = Task(
    name="waves",
    title="regress the amplitudes of superposed waves; the error of every tone shows which frequencies were learned",
    source="arXiv 2410.02035, section 5.1; AnnanYu/FreqBiasSSM, waves.py",
    presets={"small": _SMALL, "paper": _PAPER},
    problem=Waves,
    goal=Goal("error_*"),
    published=dict.fromkeys(("small", "paper"), ((1.0, 0.0), (100.0, 1.0), (0.01, -1.0), (10.0, 0.5))),
    draw_sweep=_draw_sweep,
    adopt=adopt,
)

__all__ = ["WAVES", "Outcome", "WaveModel", "Waves", "WavesSettings"]
