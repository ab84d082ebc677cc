"""Every statistic against its definition in arbitrary precision: finite and right within its stated error, or null with a reason."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mpmath
import numpy as np
import pytest
from drawn import GRID, digits_for, extreme_systems, wide_systems
from exact import Exact
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from problems import build, random_system
from program import s4d_tensors

from ssmspec.backends import load_backend
from ssmspec.commands.analyze import AnalysisOptions, analyze, analyze_layer
from ssmspec.statistics import STATISTICS, LayerSpectrum
from ssmspec.statistics.distances import DISTANCES, FINE_GRID
from ssmspec.statistics.rounding import ERROR
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import StateSpace
from ssmspec.systems.trust import untrustworthy

COSTLY = "total_variation"  # most of the time of the reference


def error_of(name: str, value: float, exact: Exact) -> float:
    """The error of a value by the measure that is stated for it; 0 where rounding in the definition itself leaves a choice."""
    mp = exact.mp
    if name == "rolloff_95":
        shares = [exact.energy(min(mp.mpf(float(value)) * (1 + off), mp.pi)) / exact.total - mp.mpf("0.95") for off in (-ERROR, 0, ERROR)]
        return 0.0 if shares[0] <= 0 <= shares[2] or abs(shares[1]) < 1e-9 else float(abs(shares[1]))
    if name == "peak_frequency":  # by the gain there: a flat peak has no sharp place
        return float(abs(exact.gain(value) / exact.peak_gain() - 1))
    if name == "length_99":
        held, short = exact.beyond(value) <= mp.mpf("0.01") * (1 + ERROR), exact.beyond(value - 1) >= mp.mpf("0.01") * (1 - ERROR)
        return 0.0 if held and (short or value == 1) else 1.0
    wanted = getattr(exact, name)()
    if name == "aliased_share":
        ties = sum(abs(abs(mp.im(a)) * step / mp.pi - 1) < 1e-15 for a, step in zip(exact.a, exact.steps, strict=True))
        return max(0.0, float(abs(value - wanted)) * len(exact.a) - ties)
    if name == "effective_order" and any(abs(100 * sigma / exact.hankel[0] - 1) < ERROR for sigma in exact.hankel):
        return 0.0
    assert mp.isfinite(wanted), f"{name} is {value}, and has no value"
    scale = max(1, abs(wanted)) if STATISTICS[name].absolute else abs(wanted)
    difference = abs(mp.mpf(float(value)) - wanted)
    return float(difference / scale) if scale else float(difference)


def assert_right_or_null(system: StateSpace, *, with_skip: bool = False, leave_out: tuple[str, ...] = (), digits: int | None = None) -> int:
    """Compares all statistics of one copy, by NumPy and by compiled loops; returns how many have a value by both."""
    exact = Exact(system, GRID.values, with_skip=with_skip, digits=digits or digits_for(system))
    return min(right_or_null(system, exact, engine, with_skip=with_skip, leave_out=leave_out) for engine in ("reference", "cpu"))


def right_or_null(system: StateSpace, exact: Exact, engine: str, *, with_skip: bool, leave_out: tuple[str, ...]) -> int:
    layer = analyze_layer(system, GRID, load_backend(engine), with_skip=with_skip)
    assert layer.problem is None
    given_values = 0
    for name in STATISTICS:
        summary, value = layer.statistics[name], layer.values[name][0]
        assert (summary.median is None) == bool(summary.reason) == (not np.isfinite(value)), (engine, name)
        if summary.median is None:
            continue
        given_values += 1
        if name not in leave_out:
            assert error_of(name, value, exact) <= ERROR, (engine, name)
    return given_values


KINDS: dict[str, dict[str, object]] = {
    "zoh": {},
    "bilinear": {"discretization": "bilinear"},
    "euler, one step later": {"discretization": "euler", "delay": 1},
    "direct": {"discretization": "direct"},
    "low rank": {"R": 1},
    "low rank 2": {"R": 2, "delay": 1},
    "several inputs": {"I": 2, "O": 3},
    "one input, several outputs": {"O": 3},
    "many inputs": {"N": 1, "I": 3, "O": 3},
    "beta, paper": {"sobolev": Sobolev(np.array([0.7]), "paper")},
    "beta, causal": {"sobolev": Sobolev(np.array([-0.7]), "causal", 0.1)},
    "beta, denoising": {"sobolev": Sobolev(np.array([1.3]), "denoising", None, 64)},
    "beta, waves": {"sobolev": Sobolev(np.array([1.3]), "waves", None, 64)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_statistic_of_an_ordinary_system_has_a_value_and_it_is_right(kind: str) -> None:
    system = random_system(np.random.default_rng(8), K=1, **{"N": 2, **KINDS[kind]})
    absent = {"bilinear": {"aliased_share"}, "direct": {"aliased_share", "total_variation_bound", "alpha_hat", "alpha_residual"}}
    expected = len(STATISTICS) - len(absent.get(system.discretization, set())) - (2 if system.modes == 1 else 0)
    expected -= 0 if system.sobolev is None else len({"energy_delay", "length_99"})  # a beta weight is no part of the kernel
    assert assert_right_or_null(system, digits=40) == expected
    leave_out = (COSTLY,) if system.sobolev is None else (COSTLY, "centroid", "rolloff_95")
    assert assert_right_or_null(system, with_skip=True, digits=40, leave_out=leave_out) == expected


def one(poles: object, residues: object, **more: object) -> StateSpace:
    residues = np.atleast_2d(residues)
    return build(poles, np.ones((residues.shape[1], 1)), residues, **more)


NODE = GRID.values[12] / 0.1
EXTREMES: dict[str, Callable[[], StateSpace]] = {
    "one mode": lambda: one([-0.3 + 2j], [0.7]),
    "a step of 1e-30": lambda: one([-0.5 + 3j, -0.5 + 9j], [1, 2 - 1j], step=1e-30),
    "a step of 1e30": lambda: one([-0.5 + 3j, -0.5 + 9j], [1, 2 - 1j], step=1e30),
    "a bilinear step of 1e30": lambda: one([-0.5 + 3j, -0.5 + 9j], [1, 2 - 1j], step=1e30, discretization="bilinear"),
    "poles that turn 1e9 times a sample": lambda: one([-0.2 + 1e9j, -0.5 + 7e9j], [1, 2 - 1j], step=1.0, discretization="euler"),
    "poles in one place": lambda: one([-0.5 + 3j] * 3, [1, 2 - 1j, 0.5j]),
    "poles almost in one place": lambda: one([-0.5 + 3j, -0.5 + 3.0000001j], [1, -1]),
    "a pole beside a node": lambda: one([-1e-6 + 1j * NODE, -1 + 3j], [1, 1]),
    "a pole upon a node": lambda: one([-1e-14 + 1j * NODE, -1 + 3j], [1, 1]),
    "a pole at Nyquist": lambda: one([-1e-3 + 1j * np.pi / 0.1], [1j]),
    "a pole that is nearly real, with an imaginary residue": lambda: one([-1 + 1e-60j], [1j], step=1.0),
    "a pole beside the axis": lambda: one([-1e-11 + 7j, -1 + 3j], [1, 1]),
    "a pole upon the axis": lambda: one([-1e-300 + 7j, -1 + 3j], [1, 1]),
    "poles that are gone after a sample": lambda: one([-1e4 + 3j, -1e5], [1, 1]),
    "residues of 1e30 that cancel": lambda: one([-0.5 + 3j, -0.5 + 3j, -1 + 2j], [1e30, -1e30, 1]),
    "residues of 1e30 that almost cancel": lambda: one([-0.5 + 3j, -0.5 + 3j], [1e30, -1e30 * (1 + 1e-7)]),
    "residues of 1e300": lambda: one([-0.5 + 3j, -1 + 2j], [1e300, 1e299j]),
    "residues of 1e-300": lambda: one([-0.5 + 3j, -1 + 2j], [1e-300, 1e-301j]),
    "a mode without a residue beside small ones": lambda: one([-5e-33, -1e-30 + 3e-31j, -4e-34 + 3e-31j], [2e30, 1e30, 0], step=1e30),
    "a bilinear pole far beside Nyquist": lambda: one([-1 + 792218j], [0.3 + 1j], step=1.0, discretization="bilinear"),
    "a bilinear mode without an input": lambda: build([-0.5 + 3j, -1 + 9j], [[1], [0]], [[1, 2]], discretization="bilinear"),
    "no residues": lambda: one([-0.5 + 3j, -1 + 2j], [0, 0]),
    "discrete poles on the rim": lambda: one([(1 - 1e-13) * np.exp(0.7j), 0.5j], [1, 1], step=1.0, discretization="direct"),
    "discrete poles near zero": lambda: one([1e-200, 1e-3j], [1, 1], step=1.0, discretization="direct"),
    "only real eigenvalues": lambda: one([-0.5 + 0.1j, -2 + 0.1j], [1, 1], P=[[0.6], [0.5]], Q=[[0.4], [0.5]], discretization="bilinear"),
    "eigenvectors that almost coincide": lambda: one(
        [-1 + 2j, -1 + 2.2j], [1, 1], P=[[30], [30j]], Q=[[1e-3], [2e-3]], discretization="bilinear"
    ),
}
SILENT = {"no residues"}


@pytest.mark.parametrize("name", EXTREMES)
def test_a_system_at_the_edge_has_right_values_or_none(name: str) -> None:
    system = EXTREMES[name]()
    count = assert_right_or_null(system, digits=digits_for(system) + 60, leave_out=(COSTLY,))
    assert count >= (2 if name in SILENT else 4)


ORDINARY_REACH = {  # what must not be given up: names of statistics that have to have a value
    "a step of 1e-30": {"bias_slope", "center_frequency", "low_frequency_share", "hankel_norm", "time_constant"},
    "a step of 1e30": {"center_frequency", "spectral_slope", "hankel_norm", "low_frequency_share"},
    "poles that turn 1e9 times a sample": {"time_constant", "peak_gain"},
    "poles in one place": set(STATISTICS),
    "a bilinear mode without an input": set(STATISTICS),
    "a bilinear pole far beside Nyquist": {"low_frequency_share", "rolloff_95", "center_frequency", "bias_slope"},
    "a pole beside a node": set(STATISTICS),
    "a pole at Nyquist": {"center_frequency", "low_frequency_share", "centroid", "rolloff_95", "peak_gain", "total_variation"},
    "a pole beside the axis": {"low_frequency_share", "rolloff_95", "peak_gain", "center_frequency", "hankel_norm"},
    "residues of 1e300": set(STATISTICS),
    "residues of 1e-300": set(STATISTICS),
    "only real eigenvalues": {"hankel_norm", "bias_slope", "low_frequency_share", "peak_gain", "total_variation"},
}


@pytest.mark.parametrize("name", ORDINARY_REACH)
def test_what_can_be_known_is_not_withheld(name: str) -> None:
    layer = analyze_layer(EXTREMES[name](), GRID, load_backend("reference"))
    assert {key for key in ORDINARY_REACH[name] if layer.statistics[key].median is None} <= {"aliased_share"}


BOUNDED = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(BOUNDED, max_examples=25)
@given(system=extreme_systems(), with_skip=st.sampled_from([False, False, False, True]))
@example(system=one([-1e30 + 1.40129846e-15j, -1e30, -1e30], [1j, 0, 0], step=1e-30), with_skip=False)
def test_drawn_systems_have_right_values_or_none(system: StateSpace, with_skip: bool) -> None:
    assume(untrustworthy(system) is None)
    assert_right_or_null(system, with_skip=with_skip, leave_out=(COSTLY,))


@settings(BOUNDED, max_examples=12)
@given(system=wide_systems(), with_skip=st.sampled_from([False, False, True]))
def test_drawn_wide_and_low_rank_systems_have_right_values_or_none(system: StateSpace, with_skip: bool) -> None:
    assume(untrustworthy(system) is None)
    assert_right_or_null(system, with_skip=with_skip, leave_out=(COSTLY,))


@pytest.mark.nightly
@settings(BOUNDED, max_examples=1000)
@given(system=wide_systems(), with_skip=st.sampled_from([False, False, True]))
def test_thousands_of_drawn_wide_and_low_rank_systems_have_right_values_or_none(system: StateSpace, with_skip: bool) -> None:
    assume(untrustworthy(system) is None)
    assert_right_or_null(system, with_skip=with_skip)


@pytest.mark.nightly
@settings(BOUNDED, max_examples=3000)
@given(system=extreme_systems(), with_skip=st.sampled_from([False, False, False, True]))
def test_thousands_of_drawn_systems_have_right_values_or_none(system: StateSpace, with_skip: bool) -> None:
    assume(untrustworthy(system) is None)
    assert_right_or_null(system, with_skip=with_skip)


@pytest.mark.slow
def test_the_values_of_4096_modes_are_right_where_a_definition_is_affordable() -> None:
    rng = np.random.default_rng(4)
    poles = -rng.uniform(0.5, 50, 4096) + 1j * np.pi * np.arange(4096)
    system = one(poles, rng.normal(size=4096) + 1j * rng.normal(size=4096), step=1e-3)
    grid = replace(GRID, values=GRID.values[::8])
    layer = analyze_layer(system, grid, load_backend("cpu"))
    exact = Exact(system, grid.values, digits=30)
    for name in ("bias_slope", "center_frequency", "spectral_slope", "time_constant", "aliased_share", "alpha_hat", "alpha_residual"):
        assert error_of(name, layer.values[name][0], exact) <= 1e-9, name
    assert all((summary.median is None) == bool(summary.reason) for summary in layer.statistics.values())
    assert "1024 modes" in (layer.statistics["hankel_norm"].reason or "")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_values_of_a_file_in_half_precision_are_those_of_the_numbers_that_it_holds(dtype: str, tmp_path: Path) -> None:
    """The definition of S4D, a = -exp(log_A_real) + i A_imag, in arbitrary precision on what is left of the numbers after rounding."""
    import torch
    from safetensors.torch import save_file

    kind = getattr(torch, dtype)
    tensors = {name: torch.from_numpy(array).to(kind) for name, array in s4d_tensors(H=2, N=3).items()}
    save_file(tensors, tmp_path / "half.safetensors")
    layer = analyze(tmp_path / "half.safetensors", AnalysisOptions(points=len(GRID.values))).layers[0]
    stored = {name.removeprefix("layers.0."): tensor.double().numpy() for name, tensor in tensors.items()}
    for copy in range(2):
        poles = [
            complex(-mpmath.exp(real), imag)
            for real, imag in zip(stored["kernel.log_A_real"][copy], stored["kernel.A_imag"][copy], strict=True)
        ]
        system = one(poles, stored["kernel.C"][copy] @ [1, 1j], step=float(mpmath.exp(stored["kernel.log_dt"][copy])))
        exact = Exact(system, GRID.values, digits=40)
        for name in STATISTICS:
            assert error_of(name, layer.values[name][copy], exact) <= ERROR, name


def wanted_distances(before: Exact, after: Exact) -> dict[str, float]:
    """Three distances from their definitions; the layers have one input and one output, and their poles correspond in order."""
    mp = before.mp
    moves = []
    for start, end in zip(before.z[: before.system.modes], after.z[: before.system.modes], strict=True):
        angles = [abs(mp.arg(z)) if z else mp.mpf(0) for z in (start, end)]
        moves.append(mp.hypot(mp.log(abs(end)) - mp.log(abs(start)), angles[1] - angles[0]))
    ratios = [20 * mp.log10(b / a) for a, b in zip(before.magnitudes, after.magnitudes, strict=True)]
    gaps = np.array([float(abs(after.energy(at) / after.total - before.energy(at) / before.total)) for at in FINE_GRID])
    return {
        "pole_movement": float(np.median(np.array(moves, float))),
        "log_spectral_distance": float(mp.sqrt(mp.fsum(ratio**2 for ratio in ratios) / len(ratios))),
        "spectrum_distance": float((gaps[1:] + gaps[:-1]) @ np.diff(FINE_GRID) / 2),
    }


@pytest.mark.parametrize(
    "name",
    ["a step of 1e-30", "poles in one place", "a pole beside a node", "a pole beside the axis", "residues of 1e300", "residues of 1e-300"],
)
def test_distances_at_the_edge_are_right_or_null(name: str) -> None:
    before = EXTREMES[name]()
    after = replace(before, poles=before.poles * (1.01 + 0.002j), C=before.C * 1.3)
    wanted = wanted_distances(*(Exact(system, GRID.values, digits=digits_for(system) + 40) for system in (before, after)))
    spectra = [LayerSpectrum(system, GRID, load_backend("reference")) for system in (before, after)]
    with np.errstate(all="ignore"):
        found = {key: DISTANCES[key].of(*spectra).values[0] for key in wanted}
    assert sum(np.isfinite(value) for value in found.values()) >= 2
    for key, value in found.items():
        assert np.isnan(value) or abs(value - wanted[key]) <= ERROR * max(1, wanted[key]), key


def test_distances_that_rounding_decides_are_null() -> None:
    before = EXTREMES["residues of 1e30 that cancel"]()
    after = replace(before, poles=before.poles * 1.01)
    spectra = [LayerSpectrum(system, GRID, load_backend("reference")) for system in (before, after)]
    with np.errstate(all="ignore"):
        values = {name: distance.of(*spectra) for name, distance in DISTANCES.items()}
    assert np.isfinite(values["pole_movement"].values).all()
    for name in ("log_spectral_distance", "spectrum_distance"):
        assert np.isnan(values[name].values).all(), name
