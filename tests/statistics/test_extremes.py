"""Systems at the edge of double precision: every statistic is finite and correct, or null with a true reason."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from locations import SAMPLES
from problems import build, random_system

from ssmspec.backends import CauchySum, load_backend
from ssmspec.commands.analyze import analyze, analyze_layer
from ssmspec.families import ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.statistics import STATISTICS
from ssmspec.statistics.quadrature import Integral
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import StateSpace, modal_form, real_realization

GRID = FrequencyGrid.default(256)


def bank(**changes: object) -> StateSpace:
    system = random_system(np.random.default_rng(3), K=4, N=6, step=np.full((4, 1), 0.05))
    return replace(system, **changes)


EXTREMES = {
    "huge residues": lambda: bank(C=bank().C * 1e200),
    "tiny residues": lambda: bank(C=bank().C * 1e-200),
    "tiny step": lambda: bank(step=np.full((4, 1), 1e-30)),
    "huge step": lambda: bank(step=np.full((4, 1), 1e30)),
    "poles that vanish in one sample": lambda: bank(poles=bank().poles * 1e5),
    "poles beside the axis": lambda: bank(poles=-1e-300 + 1j * bank().poles.imag),
    "poles on a node": lambda: bank(poles=np.tile(-1e-6 + 1j * GRID.values[100] / 0.05, (4, 6))),
    "one mode": lambda: random_system(np.random.default_rng(3), N=1),
    "residues that cancel": lambda: build([-0.5 + 3j, -0.5 + 3j, -1 + 2j], np.ones((3, 1)), [[1e15, -1e15, 1]]),
    "no residues": lambda: bank(C=bank().C * 0),
    "a wide system with huge residues": lambda: random_system(
        np.random.default_rng(3), K=1, N=4, I=40, O=50, C=np.full((1, 50, 4), 1e307 + 0j)
    ),
    "a wide system": lambda: random_system(np.random.default_rng(3), K=1, N=4, I=40, O=50),
}


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", EXTREMES)
def test_every_statistic_is_finite_or_null_with_a_reason(name: str, backend: str) -> None:
    layer = analyze_layer(EXTREMES[name](), GRID, load_backend(backend))
    assert set(layer.statistics) == set(STATISTICS)
    for statistic, summary in layer.statistics.items():
        numbers = [summary.median, summary.p5, summary.p95]
        assert all(number is None or np.isfinite(number) for number in numbers), statistic
        assert (summary.median is None) == (summary.reason is not None), statistic


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_numbers_lost_to_cancellation_are_null(backend: str) -> None:
    layer = analyze_layer(EXTREMES["residues that cancel"](), GRID, load_backend(backend))
    for name in ("center_frequency", "spectral_slope", "peak_gain", "low_frequency_share"):
        assert layer.statistics[name].median is None, name
    assert "cancellation" in (layer.statistics["center_frequency"].reason or "")


def test_scaled_residues_leave_the_bias_slope_as_it_is() -> None:
    engine = load_backend("reference")
    slopes = [analyze_layer(bank(C=bank().C * scale), GRID, engine).statistics["bias_slope"].median for scale in (1e-100, 1, 1e100)]
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-9) == pytest.approx(slopes[2], rel=1e-9)


def test_a_dead_copy_is_in_no_median() -> None:
    system = bank()
    dead = replace(system, C=system.C * np.array([1, 1, 1, 0])[:, None, None])
    engine = load_backend("reference")
    wanted, found = analyze_layer(system.copy_slice(0, 3), GRID, engine), analyze_layer(dead, GRID, engine)
    for name in ("peak_gain", "center_frequency", "total_variation", "hankel_norm"):
        assert found.statistics[name].median == pytest.approx(wanted.statistics[name].median, rel=1e-9), name
    np.testing.assert_allclose(found.curve.median, wanted.curve.median, rtol=1e-12)


def test_modes_that_pad_a_low_rank_layer_are_no_poles() -> None:
    """Copies of the DPLR sample have different numbers of real poles; the fit of alpha takes the eigenvalues, each once."""
    layer = analyze(SAMPLES / "s4_dplr_trained.pt").layers[1]
    from ssmspec.families import ReadOptions
    from ssmspec.families.layers import load_system

    system = load_system(SAMPLES / "s4_dplr_trained.pt", "1", ReadOptions())
    fits = []
    for A in real_realization(system)[0]:
        imag = np.sort(np.abs(np.linalg.eigvals(A).imag))[::2][-system.modes :]
        n = np.arange(system.modes)
        fits.append(imag @ n / (np.pi * n @ n))
    assert layer.statistics["alpha_hat"].median == pytest.approx(np.median(fits), rel=1e-9)
    counts = np.isfinite(layer.poles).sum(axis=1)
    assert len(set(counts)) > 1
    assert counts.max() == modal_form(system)[0].modes


def test_a_stored_pole_too_close_to_the_circle_has_no_time_constant() -> None:
    system = random_system(np.random.default_rng(3), discretization="direct")
    near = replace(system, poles=np.where(np.arange(4) == 0, (1 - 1e-12) * np.exp(0.3j), system.poles))
    summary = analyze_layer(near, GRID, load_backend("reference")).statistics["time_constant"]
    assert summary.median is None
    assert "double precision" in (summary.reason or "")


@pytest.mark.parametrize("beta", [100.0, 400.0, 1e6])
def test_a_weight_that_leaves_the_range_of_numbers_takes_no_more_work_than_none(engine: CauchySum, beta: float, monkeypatch) -> None:
    counted: list[int] = []
    variation = import_module("ssmspec.statistics.variation")  # the package has a function of this name
    speed, energy = variation._speed, Integral.up_to

    def count(function):
        def call(*arguments):
            counted.append(1)
            return function(*arguments)

        return call

    monkeypatch.setattr(variation, "_speed", count(speed))
    monkeypatch.setattr(Integral, "up_to", count(energy))
    system = load_system(SAMPLES / "s4d_trained.safetensors", "0", ReadOptions())
    work = []
    for weight in (None, Sobolev(np.full(system.copies, 0.5), "paper"), Sobolev(np.full(system.copies, beta), "paper")):
        counted.clear()
        analyze_layer(replace(system, sobolev=weight), FrequencyGrid.default(), engine)
        work.append(len(counted))
    assert work[2] <= 2 * max(work[:2])
