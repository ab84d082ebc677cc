"""Disturbances by band: their energy, where it lies, what an adversary finds, and the metric of a task."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from probed_models import Filter
from torch import Tensor, nn

from ssmspec.errors import SsmspecError
from ssmspec.probing.entry import find_entry
from ssmspec.probing.robustness import Disturbance, Robust, restricted, scaled

PI = np.pi


@dataclass
class Errors:
    """A task whose loss and metric are the mean square of the output minus the clean one."""

    model: nn.Module
    u: Tensor
    metric: str = "error"
    meaning: str = "mean square"
    batches: int = 1

    def answer(self, batch: int) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            if not hasattr(self, "clean"):
                self.clean = self.model(self.u)
        y = self.model(self.u) - self.clean + 1.0
        return y.square().mean(), y.detach() - 1.0

    def value(self, answers: Sequence[Tensor]) -> float:
        return float(torch.cat(list(answers)).square().mean())


def silent(name: str, done: int, whole: int) -> None:
    """No progress."""


def robust(model: nn.Module, u: Tensor) -> Robust:
    return Robust(model, find_entry(model, u, None), Errors(model, u))


def test_octaves_go_down_from_pi_and_the_top_one_has_pi_itself() -> None:
    edges = Disturbance(bands=8).edges(512)
    np.testing.assert_allclose([low for low, _ in edges], PI * 2.0 ** np.arange(-8, 0))
    assert edges[-1][1] == PI
    with pytest.raises(
        SsmspecError, match=r"band 8 of 8, \[0\.0123, 0\.0245\) rad/sample, has no bin of the DFT of 256 samples; give at most 7 bands"
    ):
        Disturbance(bands=8).edges(256)
    assert len(Disturbance(per_octave=2).edges(256)) == 8  # half octaves down to 16 pi/L
    x = torch.randn(1, 1, 512, dtype=torch.float64)
    parts = [restricted(x, band) for band in edges]
    rest = x - x.mean()
    np.testing.assert_allclose(sum(parts), rest, atol=1e-12)  # every bin but zero lies in one band
    assert abs(np.fft.rfft(parts[-1][0, 0].numpy())[-1]) == pytest.approx(abs(np.fft.rfft(x[0, 0].numpy())[-1]))


def test_energy_is_relative_to_the_signal_about_its_mean() -> None:
    x = 7 + torch.randn(3, 2, 64, dtype=torch.float64)
    change = scaled(torch.randn(3, 2, 64, dtype=torch.float64), x, 20.0)
    power = (x - x.mean(dim=-1, keepdim=True)).square().mean(dim=(1, 2))
    np.testing.assert_allclose(change.square().mean(dim=(1, 2)), power / 100, rtol=1e-12)


@pytest.mark.parametrize("layout", ["BLC", "BCL"])
def test_noise_of_a_band_gives_what_s_predicts(layout: str) -> None:
    """A model that averages two neighbors passes a band with the mean of |H|^2 over it."""

    class Turned(nn.Module):
        def forward(self, u: Tensor) -> Tensor:
            return inner(u.transpose(1, 2)) if layout == "BCL" else inner(u)

    inner, u = Filter(np.array([0.5, 0.5])), torch.randn(8, 512, 1, dtype=torch.float64)
    model, given = Turned(), u.transpose(1, 2) if layout == "BCL" else u
    found = Robust(model, find_entry(model, given, None), Errors(model, given), layout=layout).noise(
        Disturbance(bands=4, snr=(10.0,), seeds=4), silent
    )
    assert found.clean == 0
    power = float((u - u.mean(dim=1, keepdim=True)).square().mean()) / 10
    for effect in found.effects:
        theta = np.linspace(effect.low, effect.high, 1000)
        assert effect.mean == pytest.approx(power * np.mean(np.cos(theta / 2) ** 2), rel=0.1)
        assert effect.spread > 0


def test_an_adversary_does_more_than_noise_and_stays_in_its_band() -> None:
    model, u = Filter(np.random.default_rng(0).normal(size=(1, 1, 9)), "last"), torch.randn(4, 64, 1, dtype=torch.float64)
    asked = Disturbance(bands=2, snr=(20.0, 10.0))
    noise, attack = robust(model, u).noise(asked, silent), robust(model, u).attack(asked, silent)
    for random, sought in zip(noise.effects, attack.effects, strict=True):
        assert (random.low, random.level) == (sought.low, sought.level)
        assert sought.mean > 2 * random.mean
        assert len(sought.values) == 1
    # of a linear output, the best change of energy E in a band is along the gradient: |change| = sqrt(E sum |g|^2)
    kernel = model.kernel.detach().numpy()[0, 0]
    gradient = np.zeros(64)
    gradient[-9:] = kernel[::-1]
    inside = np.abs(2 * np.pi * np.fft.fftfreq(64)) >= PI / 2 - 1e-9
    energy = (np.abs(np.fft.fft(gradient)[inside]) ** 2).sum() / 64
    power = (u - u.mean(dim=1, keepdim=True)).square().mean(dim=(1, 2)).numpy() / 100
    assert attack.effects[2].mean == pytest.approx((power * 64 * energy).mean(), rel=1e-9)


def test_nothing_is_changed_and_the_model_answers_in_eval_mode() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.5), nn.Linear(4, 2)).double().train()
    u = torch.randn(2, 64, 1, dtype=torch.float64)
    before = torch.get_rng_state()
    found = robust(model, u).noise(Disturbance(bands=1, snr=(0.0,), seeds=1), silent)
    assert found.clean == 0  # no dropout
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert not model._forward_pre_hooks


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bands=8 snr=20,10,0", Disturbance(bands=8)),
        ("snr=-3 seeds=5 per_octave=2", Disturbance(snr=(-3.0,), seeds=5, per_octave=2)),
        ("", Disturbance()),
    ],
)
def test_a_specification_is_read(text: str, expected: Disturbance) -> None:
    assert Disturbance.parsed(text, "--noise") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("octaves=8", r"--noise 'octaves=8': 'octaves=8' is not understood; write it like \"bands=8 snr=20,10,0\""),
        ("bands=0", "bands is '0'; expected a number from 1 to 999"),
        ("snr=loud", "snr is 'loud'; expected numbers of dB between -200 and 200"),
        ("snr=nan", "snr is 'nan'"),
        ("bands=2 bands=3", "'bands=3' is not understood"),
    ],
)
def test_a_wrong_specification_is_one_line(text: str, message: str) -> None:
    with pytest.raises(SsmspecError, match=message):
        Disturbance.parsed(text, "--noise")
