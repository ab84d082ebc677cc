"""`ssmspec plot`: every figure shows what it claims, computed here in another way; labels, units, legible text, formats, errors."""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from drawing import labels, unreadable
from locations import SAMPLES
from matplotlib.figure import Figure
from program import ssmspec
from scipy.integrate import trapezoid
from scipy.linalg import solve_discrete_lyapunov, toeplitz

from ssmspec.backends import load_backend
from ssmspec.checkpoint import open_checkpoint
from ssmspec.commands.analyze import analyze
from ssmspec.errors import LayerError, SsmspecError
from ssmspec.families import ReadOptions
from ssmspec.families.layers import find_layers, read_systems
from ssmspec.report.figures import FIGURES, FrequencyAxis
from ssmspec.report.figures.poles import poles_figure
from ssmspec.report.figures.style import COLOR_MAP, LINE, MARK, styled
from ssmspec.report.plot import Look, PlotOptions, plot
from ssmspec.statistics import LayerSpectrum
from ssmspec.statistics.curves import kernel_quantiles, over_copies, sigma_grid
from ssmspec.statistics.results import FEW_COPIES
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.response import impulse_response
from ssmspec.systems.statespace import StateSpace, bilinear_realization, discrete_poles, discrete_residues
from ssmspec.tuning.poles.initializations import INITIALIZATIONS

S4D, DPLR, S5, LRU, MAMBA = (
    "s4d_trained.safetensors",
    "s4_dplr_trained.pt",
    "s5_trained.msgpack",
    "lru_trained.npz",
    "mamba1_trained.safetensors",
)
MAMBA2 = "mamba2_trained"
FILES = (S4D, DPLR, S5, LRU, MAMBA)
OPTIONS = {S5: ReadOptions(assume={"s5_clip": "true"})}  # it was trained with clip_eigs
DRAWN = [name for name, figure in FIGURES.items() if figure.function]
THETA_LABEL = r"$\theta$ [rad/sample]"
THETA = FrequencyGrid.default(128)
SAMPLED, CYCLES, HERTZ, OMEGA = FrequencyAxis(), FrequencyAxis("cycles"), FrequencyAxis("hertz", 1000.0), FrequencyAxis("omega")

TITLE = "a_checkpoint_with_a_name_that_is_far_too_long_for_the_width_of_any_figure.safetensors"


@cache
def systems(file: str) -> tuple[StateSpace, ...]:
    checkpoint = open_checkpoint(SAMPLES / file)
    return tuple(read_systems(checkpoint, find_layers(checkpoint), OPTIONS.get(file, ReadOptions()))[0])


def spectrum(system: StateSpace, *, with_skip: bool = False) -> LayerSpectrum:
    return LayerSpectrum(system, THETA, load_backend("reference"), with_skip=with_skip)


def draw(name: str, *layers: LayerSpectrum, axis: FrequencyAxis = SAMPLED) -> Figure:
    function = FIGURES[name].function
    assert function is not None
    with styled():
        return function(layers, axis, TITLE)


def realization(system: StateSpace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dense A, B, C of every copy with k[l] = C A^l B: not the Cauchy sum that ssmspec uses."""
    if system.rank:
        return bilinear_realization(system)
    z, B = discrete_poles(system), system.B * discrete_residues(system)[:, :, None]
    A = np.concatenate([z, z.conj()], axis=1)[:, :, None] * np.eye(2 * system.modes)
    return A, np.concatenate([B, B.conj()], axis=1), np.concatenate([system.C, system.C.conj()], axis=2)


def dense_response(system: StateSpace, theta: np.ndarray) -> np.ndarray:
    """(K, F, O, I) by solving with I - A e^{-i theta}."""
    A, B, C = realization(system)
    w = np.exp(-1j * theta)[:, None, None]
    inner = np.eye(A.shape[1]) - A[:, None] * w
    return w**system.delay * (
        C[:, None] @ np.linalg.solve(inner, np.broadcast_to(B[:, None], (*inner.shape[:3], B.shape[2])).astype(complex))
    )


def dense_magnitude(system: StateSpace, theta: np.ndarray) -> np.ndarray:
    return np.linalg.norm(dense_response(system, theta), axis=(2, 3))


def band_of(axes) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper edge of the filled band."""
    vertices = axes.collections[0].get_paths()[0].vertices
    points = (len(vertices) - 3) // 2
    return vertices[1 : points + 1, 1], vertices[points + 2 : -1, 1][::-1]


@pytest.mark.parametrize("file", [S4D, MAMBA])
def test_response_of_a_bank_is_the_median_and_the_band_of_the_dense_system(file: str) -> None:
    system = systems(file)[0]
    (axes,) = draw("response", spectrum(system)).axes
    values = dense_magnitude(system, THETA.values)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), np.median(values, axis=0), rtol=1e-8)
    for edge, percent in zip(band_of(axes), (5, 95), strict=True):
        np.testing.assert_allclose(edge, np.percentile(values, percent, axis=0), rtol=1e-8)
    assert (axes.get_xlabel(), axes.get_ylabel()) == (THETA_LABEL, "$|H|$ [output/input]")


@pytest.mark.parametrize("file", [S4D, DPLR])
def test_few_copies_are_drawn_one_by_one_with_their_phases_in_degrees(file: str) -> None:
    system = systems(file)[0].copy_slice(0, 3)
    magnitude, phase = draw("response", spectrum(system)).axes
    H = dense_response(system, THETA.values)[:, :, 0, 0]
    for copy in range(3):
        np.testing.assert_allclose(magnitude.lines[copy].get_ydata(), np.abs(H[copy]), rtol=1e-8)
        x, drawn = (np.asarray(values) for values in phase.lines[copy].get_data())
        broken = np.isnan(drawn)
        np.testing.assert_array_equal(x[~broken], THETA.values)
        np.testing.assert_allclose(np.exp(1j * np.radians(drawn[~broken])), H[copy] / np.abs(H[copy]), atol=1e-8)
        assert np.nanmax(np.abs(np.diff(drawn))) <= 180  # no line runs across the circle
    assert not magnitude.collections  # no band
    assert phase.get_ylabel() == "phase [degrees]"


@pytest.mark.parametrize("file", [S5, LRU])
def test_response_of_several_inputs_and_outputs_is_its_singular_values(file: str) -> None:
    system = systems(file)[0]
    (axes,) = draw("response", spectrum(system)).axes
    wanted = np.linalg.svd(dense_response(system, THETA.values)[0], compute_uv=False)
    for place in range(wanted.shape[1]):
        np.testing.assert_allclose(axes.lines[place].get_ydata(), wanted[:, place], rtol=1e-7)
    assert axes.get_ylabel() == r"$\sigma(H)$ [output/input]"
    assert axes.lines[0].get_label() == r"$\sigma_1$, the largest"


def test_singular_values_of_a_wide_layer_are_drawn_at_fewer_points_and_at_every_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = spectrum(systems(LRU)[0])
    monkeypatch.setattr("ssmspec.statistics.curves.SIGMA_WORK", 0.0)
    monkeypatch.setattr("ssmspec.statistics.curves.FEWEST_SIGMA", 16)
    thinned = sigma_grid(layer, THETA).values
    norm = dense_magnitude(layer.system, THETA.values)[0]
    peaks = THETA.values[1:-1][(norm[1:-1] > norm[:-2]) & (norm[1:-1] > norm[2:])]
    assert set(peaks) <= set(thinned) <= set(THETA.values)
    assert 16 <= len(thinned) <= 16 + len(peaks) < THETA.values.size


def test_response_with_skip_includes_d() -> None:
    system = systems(S4D)[0]
    figure = draw("response", spectrum(system, with_skip=True))
    wanted = np.abs(dense_response(system, THETA.values)[:, :, 0, 0] + system.D[:, 0])
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), np.median(wanted, axis=0), rtol=1e-8)
    assert figure.axes[0].get_title() == "magnitude of the response, with D"


def test_response_of_a_silent_layer_is_a_line_at_zero() -> None:
    system = systems(S4D)[0].copy_slice(0, 1)
    magnitude, phase = draw("response", spectrum(replace(system, C=np.zeros_like(system.C)))).axes
    assert not magnitude.lines[0].get_ydata().any()
    assert len(phase.lines) == 1  # Nyquist alone


def test_axis_omega_of_several_inputs_and_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    system = systems(S5)[0]
    whole = draw("heatmap", spectrum(system), axis=OMEGA).axes[0].collections[0].get_array()
    monkeypatch.setattr("ssmspec.statistics.curves.CHUNK", 20 * system.outputs * system.inputs)  # pieces of 20 frequencies
    pieces = draw("response", spectrum(system), axis=OMEGA).axes[0].lines
    omega = np.asarray(pieces[0].get_xdata())
    drawn = np.array([line.get_ydata() for line in pieces]).T
    s = 1j * omega[:, None]
    phi = 1 / (s - system.poles), 1 / (s - system.poles.conj())
    G = np.einsum("on,fn,ni->foi", system.C[0], phi[0], system.B[0]) + np.einsum(
        "on,fn,ni->foi", system.C[0].conj(), phi[1], system.B[0].conj()
    )
    np.testing.assert_allclose(drawn, np.linalg.svd(G, compute_uv=False), rtol=1e-7)
    np.testing.assert_allclose(np.ravel(whole), 20 * np.log10(np.linalg.norm(G, axis=(1, 2))), atol=1e-8)


def test_axis_omega_draws_the_continuous_response() -> None:
    system = systems(S4D)[0]
    figure = draw("response", spectrum(system), axis=OMEGA)
    omega, drawn = figure.axes[0].lines[0].get_data()
    assert (omega[0], omega[-1]) == pytest.approx((np.pi / 1024 / system.step.max(), np.pi / system.step.min()))
    residues = (system.C[:, 0] * system.B[:, :, 0])[:, :, None]
    s, poles = 1j * omega, system.poles[:, :, None]
    G = (residues / (s - poles) + residues.conj() / (s - poles.conj())).sum(axis=1)
    np.testing.assert_allclose(drawn, np.median(np.abs(G), axis=0), rtol=1e-9)
    assert labels(figure) == {r"$\omega$ [rad/model time]", "$|G|$ [output/input]"}
    assert len(figure.axes[0].lines) == 1  # copies differ in their step, so there is no one Nyquist frequency


@pytest.mark.parametrize(("axis", "last", "label"), [(CYCLES, 0.5, "frequency [cycles/sample]"), (HERTZ, 500.0, "frequency [Hz]")])
@pytest.mark.parametrize("name", [name for name in DRAWN if "cycles" in FIGURES[name].axes])
def test_every_frequency_axis_can_be_in_cycles_or_hertz(name: str, axis: FrequencyAxis, last: float, label: str) -> None:
    figure = draw(name, spectrum(systems(S4D)[0]), axis=axis)
    if name == "bias":
        right = figure.axes[1]
        center = analyze(SAMPLES / S4D).layers[0].statistics["center_frequency"].median
        assert right.lines[0].get_xdata()[0] == pytest.approx(center * last / np.pi, rel=1e-2)  # other grids
        assert right.get_xlabel() == label.replace("frequency", "center_frequency")
        return
    assert figure.axes[0].get_xlabel() == label
    drawn = np.concatenate([line.get_xdata() for line in figure.axes[0].lines])
    assert max(drawn) == pytest.approx(last)


@pytest.mark.parametrize("file", FILES)
def test_heatmap_draws_decibels_of_every_layer(file: str) -> None:
    layers = [spectrum(system) for system in systems(file)]
    figure = draw("heatmap", *layers)
    mesh = figure.axes[0].collections[0]
    wanted = np.array([20 * np.log10(np.median(dense_magnitude(system, THETA.values), axis=0)) for system in systems(file)])
    np.testing.assert_allclose(mesh.get_array().reshape(wanted.shape), np.maximum(wanted, wanted.max() - 80), atol=1e-6)
    assert mesh.get_cmap().name == COLOR_MAP
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [system.name for system in systems(file)]
    assert labels(figure) == {THETA_LABEL, "layer", r"$\|H\|_F$ [dB]" if file in (S5, LRU) else "$|H|$ [dB]"}


def test_heatmap_of_a_silent_layer_is_the_bottom_of_the_range() -> None:
    system = systems(S4D)[0]
    silent = replace(system, C=np.zeros_like(system.C), name="silent")
    figure = draw("heatmap", spectrum(system), spectrum(silent))
    mesh = figure.axes[0].collections[0]
    np.testing.assert_array_equal(np.asarray(mesh.get_array()).reshape(2, -1)[1], mesh.norm.vmin)
    draw("heatmap", spectrum(silent))


def test_poles_are_drawn_in_the_z_plane_where_steps_differ_and_in_both_planes_where_they_do_not() -> None:
    system = systems(S4D)[0]
    (disk,) = draw("poles", spectrum(system)).axes
    z = np.exp(system.poles * system.step).ravel()
    np.testing.assert_allclose(disk.collections[0].get_offsets(), np.stack([z.real, np.abs(z.imag)], axis=1))
    assert (disk.get_xlabel(), disk.get_ylabel()) == ("Re z", "Im z")
    alike = replace(system, step=np.full_like(system.step, 0.01))
    figure = draw("poles", spectrum(alike))
    plane, disk = figure.axes
    drawn = plane.collections[0].get_offsets()
    np.testing.assert_allclose(drawn, np.stack([system.poles.real.ravel(), system.poles.imag.ravel()], axis=1))
    z = np.exp(system.poles * 0.01).ravel()
    np.testing.assert_allclose(disk.collections[0].get_offsets(), np.stack([z.real, np.abs(z.imag)], axis=1))
    assert (plane.get_xlabel(), plane.get_ylabel()) == ("Re a [1/model time]", "Im a [rad/model time]")
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["poles", "Re a = 0: no decay; poles on its right grow", "|z| = 1: no decay; poles outside grow"]


def test_the_plane_of_poles_can_be_chosen() -> None:
    layers = [spectrum(system) for system in systems(S4D)]
    figure = poles_figure(layers, SAMPLED, TITLE, plane="s")
    assert figure.get_supylabel() == "Im a [rad/model time]"
    np.testing.assert_allclose(figure.axes[1].collections[0].get_offsets()[:, 1], layers[1].system.poles.imag.ravel())
    with pytest.raises(LayerError, match=r"layers\.0\.lru stores poles in discrete time, so it has no s-plane"):
        poles_figure([spectrum(systems(LRU)[0])], SAMPLED, TITLE, plane="s")


def test_counts_of_decay_rates_have_whole_ticks() -> None:
    system = systems(MAMBA)[0]
    (axes,) = draw("poles", spectrum(system)).axes
    rates = -(system.poles * system.step).real
    np.testing.assert_allclose(
        [axes.patches[0].get_x(), axes.patches[-1].get_x() + axes.patches[-1].get_width()], [rates.min(), rates.max()]
    )
    assert all(float(tick).is_integer() for tick in axes.get_yticks())


def test_poles_of_a_low_rank_layer_are_eigenvalues_of_its_state_matrix() -> None:
    system = systems(DPLR)[0]
    disk = draw("poles", spectrum(system)).axes[-1].collections[0].get_offsets()
    eigenvalues = np.linalg.eigvals(realization(system)[0]).ravel()
    distance = np.abs((disk[:, 0] + 1j * disk[:, 1])[:, None] - eigenvalues)
    assert distance.min(axis=1).max() < 1e-8


@pytest.mark.parametrize(("file", "across", "up"), [(LRU, "Re z", "Im z"), (MAMBA, "-ln |z| [1/sample]", "poles")])
def test_poles_of_several_layers_are_small_multiples(file: str, across: str, up: str) -> None:
    layers = [spectrum(replace(systems(file)[i % 2], name=f"layers.{i}")) for i in range(5)]
    figure = draw("poles", *layers)
    assert [axes.get_title() for axes in figure.axes] == [f"layers.{i}" for i in range(5)]
    assert (figure.get_supxlabel(), figure.get_supylabel()) == (across, up)
    if file == LRU:
        assert all(len(axes.collections[0].get_offsets()) == layer.system.modes for axes, layer in zip(figure.axes, layers, strict=True))
    else:
        assert all(sum(bar.get_height() for bar in axes.patches) == layers[0].system.poles.size for axes in figure.axes)


@pytest.mark.parametrize("file", [S4D, DPLR, LRU])
def test_bias_draws_medians_and_ranges_of_the_analysis(file: str) -> None:
    engine = load_backend("reference")
    layers = [LayerSpectrum(system, FrequencyGrid.default(), engine) for system in systems(file)]
    figure = draw("bias", *layers)
    found = analyze(SAMPLES / file).layers
    for axes, name, unit in ((figure.axes[0], "bias_slope", "decades/decade"), (figure.axes[1], "center_frequency", "rad/sample")):
        dots = [line.get_data() for line in axes.lines if line.get_marker() == "o"]
        np.testing.assert_allclose([float(x[0]) for x, _ in dots], [layer.statistics[name].median for layer in found], rtol=1e-9)
        assert [float(y[0]) for _, y in dots] == [0.5, 1.5]
        ranges = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
        wanted = [(layer.statistics[name].p5, layer.statistics[name].p95) for layer in found if layer.copies > 1]
        np.testing.assert_allclose(np.reshape(ranges, (-1, 2)), np.reshape(wanted, (-1, 2)), rtol=1e-9)
        assert axes.get_xlabel() == f"{name} [{unit}]"


def test_bias_without_a_value_says_so() -> None:
    system = systems(S4D)[0]
    figure = draw("bias", spectrum(system), spectrum(replace(system, C=np.zeros_like(system.C))))
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["no value", "no value"]


@pytest.mark.parametrize("file", FILES)
def test_energy_draws_the_integral_of_the_squared_response(file: str) -> None:
    system = systems(file)[0].copy_slice(0, min(2, systems(file)[0].copies))
    figure = draw("energy", spectrum(system))
    axes = figure.axes[0]
    curves = [line for line in axes.lines if len(line.get_xdata()) > 100]
    theta = np.asarray(curves[0].get_xdata())
    fine = np.unique(np.concatenate([np.linspace(0, np.pi, 20_001), np.geomspace(1e-5, np.pi, 4_000), theta, [np.pi / 4]]))
    density = np.concatenate([dense_magnitude(system, part) for part in np.array_split(fine, 40)], axis=1) ** 2
    cumulative = np.concatenate(
        [np.zeros((len(density), 1)), np.cumsum(np.diff(fine) * (density[:, 1:] + density[:, :-1]) / 2, axis=1)], axis=1
    )
    shares = cumulative / trapezoid(density, fine, axis=1)[:, None]
    np.testing.assert_allclose([line.get_ydata() for line in curves], shares[:, np.searchsorted(fine, theta)], atol=2e-4)
    corner, rolloff = (np.asarray(line.get_data()) for line in axes.lines if line.get_marker() in ("o", "s"))
    np.testing.assert_allclose(corner[0], np.pi / 4)
    np.testing.assert_allclose(corner[1], shares[:, np.searchsorted(fine, np.pi / 4)], atol=2e-4)
    np.testing.assert_allclose(rolloff[0], [fine[np.searchsorted(share, 0.95)] for share in shares], rtol=2e-3)
    np.testing.assert_allclose(rolloff[1], 0.95, atol=1e-9)
    assert labels(figure) == {THETA_LABEL, r"$E(\theta)/E(\pi)$, share of energy"}


def test_the_roll_off_of_a_bank_lies_on_its_curve_and_differs_in_color_from_nyquist() -> None:
    (axes,) = draw("energy", spectrum(systems(S4D)[0])).axes
    square = next(line for line in axes.lines if line.get_marker() == "s")
    theta, median = axes.lines[0].get_data()
    assert float(np.interp(square.get_xdata()[0], theta, median)) == float(square.get_ydata()[0])
    colors = {line.get_label(): line.get_color() for line in axes.lines}
    rolloff = next(label for label in colors if "roll-off" in label)
    assert colors["Nyquist"] not in {colors[rolloff], LINE}


@pytest.mark.parametrize("file", FILES)
def test_sensitivity_draws_the_sum_over_poles_and_its_slope(file: str) -> None:
    system = systems(file)[0]
    layer = spectrum(system)
    axes = draw("sensitivity", layer).axes[0]
    A, B, C = realization(system)
    z, V = np.linalg.eig(A)
    strength = np.linalg.norm(C @ V, axis=1) * np.linalg.norm(np.linalg.solve(V, B.astype(complex)), axis=2) * np.abs(z)
    K = (strength[:, :, None] / np.abs(1 - z[:, :, None] * np.exp(-1j * THETA.values)) ** 2).sum(axis=1)
    *curves, guide = axes.lines
    wanted = K if len(K) <= FEW_COPIES else np.median(K, axis=0)[None]
    np.testing.assert_allclose([curve.get_ydata() for curve in curves], wanted, rtol=1e-6)
    slopes = np.polyfit(np.log(THETA.values), np.log(K).T, 1)[0]
    theta, line = guide.get_data()
    assert np.polyfit(np.log(theta), np.log(line), 1)[0] == pytest.approx(np.median(slopes), rel=1e-6)
    assert f"{np.median(slopes):.3g} decades/decade" in guide.get_label()
    assert (axes.get_xlabel(), axes.get_ylabel()) == (THETA_LABEL, "$K$ [output/input]")
    highest = K.max(axis=0) if len(K) <= FEW_COPIES else band_of(axes)[1]
    assert (np.interp(np.log(THETA.values), np.log(theta), np.log(line), np.inf, np.inf) > np.log(highest)).all()  # it is no fit


@pytest.mark.parametrize("file", [S4D, DPLR, LRU])
def test_hankel_draws_singular_values_from_lyapunov_equations(file: str) -> None:
    system = systems(file)[0]
    figure = draw("hankel", spectrum(system))
    axes = figure.axes[0]
    values = []
    for A, B, C in zip(*realization(system), strict=True):
        P, Q = solve_discrete_lyapunov(A, B @ B.conj().T), solve_discrete_lyapunov(A.conj().T, C.conj().T @ C)
        values.append(np.sqrt(np.sort(np.abs(np.linalg.eigvals(P @ Q)))[::-1]))
    wanted = np.array(values) / np.max(values, axis=1, keepdims=True)
    *curves, limit = axes.lines
    np.testing.assert_array_equal(curves[0].get_xdata(), np.arange(1, wanted.shape[1] + 1))
    few = wanted if len(wanted) <= FEW_COPIES else np.median(wanted, axis=0)[None]
    np.testing.assert_allclose([curve.get_ydata() for curve in curves], few, atol=1e-5)
    assert set(limit.get_ydata()) == {0.01}
    assert f"effective order {np.median((wanted > 0.01).sum(axis=1)):g}" in limit.get_label()
    assert labels(figure) == {"index of the singular value", "singular value / largest"}


def test_hankel_of_one_mode_is_one_point_and_no_rounding_error() -> None:
    system = systems(MAMBA)[0]
    one = replace(system, **{name: getattr(system, name)[:, :1] for name in ("poles", "B")}, C=system.C[:, :, :1])
    (axes,) = draw("hankel", spectrum(one)).axes
    assert [list(values) for values in axes.lines[0].get_data()] == [[1.0], [1.0]]
    assert axes.get_ylim()[0] == pytest.approx(0.01 / 3)


def test_kernel_quantiles_are_eigenvalues_of_all_copies_against_their_squared_responses() -> None:
    system = systems(DPLR)[0].copy_slice(0, 3)
    found, copies = kernel_quantiles(spectrum(system), (16, 200))
    assert ([quantiles.length for quantiles in found], copies) == ([16, 200], 3)
    for quantiles in found:
        T = [toeplitz(k, np.zeros_like(k)) for k in impulse_response(system, quantiles.length)[:, 0, 0]]
        eigenvalues = np.sort(np.concatenate([np.linalg.eigvalsh(t.T @ t) for t in T]))
        np.testing.assert_allclose(quantiles.eigenvalues, eigenvalues, atol=1e-9 * eigenvalues.max())
        squares = dense_magnitude(system, (np.arange(4096) + 0.5) * np.pi / 4096) ** 2
        place = (np.arange(len(eigenvalues)) + 0.5) / len(eigenvalues)
        np.testing.assert_allclose(quantiles.limits, np.quantile(squares, place), rtol=1e-8)


@cache
def kernel_figure(file: str) -> Figure:
    """Eigenvalues of large matrices: once for all tests."""
    return draw("kernel", long_named(file))


@pytest.mark.parametrize("file", [DPLR, LRU])
def test_kernel_draws_spectra_that_come_closer_to_the_diagonal(file: str) -> None:
    figure = kernel_figure(file)
    *spectra, limit = figure.axes[0].lines
    assert [line.get_label() for line in spectra] == [f"L = {n} samples" for n in ((32, 128, 512) if file == DPLR else (8, 32, 128))]
    np.testing.assert_array_equal(*limit.get_data())
    errors = [np.abs(np.subtract(*line.get_data())).mean() for line in spectra]
    assert errors[0] > errors[1] > errors[2]
    assert {text.split(" [")[1] for text in labels(figure)} == {"(output/input)$^2$]"}


def test_kernel_of_a_wide_layer_is_refused_with_the_reason() -> None:
    system = systems(LRU)[0]
    wide = replace(system, B=np.tile(system.B, (1, 1, 16)), D=np.tile(system.D, (1, 1, 16)))
    with pytest.raises(LayerError, match=r"has 128 inputs or outputs; .* at most 64"):
        draw("kernel", spectrum(wide))


@pytest.mark.parametrize("name", ["energy", "sensitivity", "hankel", "kernel"])
def test_a_layer_without_response_has_nothing_to_draw(name: str) -> None:
    system = systems(S4D)[0]
    with pytest.raises(LayerError, match="nothing to draw"):
        draw(name, spectrum(replace(system, C=np.zeros_like(system.C))))


def test_curves_leave_out_copies_without_a_value() -> None:
    curve = over_copies(np.array([[1.0, 2.0], [np.nan, 5.0], [3.0, 4.0]]))
    np.testing.assert_array_equal(curve.median, [2, 3])


LONG = "a_rather_long_backbone_name.model.decoder_layers.{}.sequence_mixer.layer"


@cache
def long_named(file: str) -> LayerSpectrum:
    """The first layer under a long name. What the figures compute of it is computed once."""
    return spectrum(replace(systems(file)[0], name=LONG.format(0)))


@pytest.mark.parametrize("file", [*FILES, MAMBA2])
@pytest.mark.parametrize("name", [name for name in DRAWN if name != "kernel"])
def test_text_of_every_figure_can_be_read_at_one_layer(name: str, file: str) -> None:
    assert unreadable(draw(name, long_named(file))) == []


@pytest.mark.parametrize(("name", "file"), [("heatmap", S4D), ("bias", S4D), ("poles", LRU), ("poles", MAMBA)])
def test_text_of_every_figure_can_be_read_at_64_layers(name: str, file: str) -> None:
    layer = spectrum(systems(file)[0])
    layer.magnitude, layer.sensitivity  # noqa: B018  (computed once for all)
    layers = []
    for index in range(64):
        named = spectrum(replace(systems(file)[0], name=LONG.format(index)))
        named.__dict__ |= {key: layer.__dict__[key] for key in ("magnitude", "sensitivity")}
        layers.append(named)
    figure = draw(name, *layers)
    assert unreadable(figure) == []


def test_text_of_the_kernel_figure_can_be_read() -> None:
    for file in (DPLR, LRU):
        assert unreadable(kernel_figure(file)) == []


def lightness(color: object) -> float:
    return float(np.dot(mpl.colors.to_rgb(color), [0.2126, 0.7152, 0.0722]))


def test_colors_survive_gray_printing() -> None:
    shades = [lightness(mpl.colormaps[COLOR_MAP](place)) for place in np.linspace(0, 1, 32)]
    assert (np.diff(shades) > 0).all()
    assert lightness(MARK) - lightness(LINE) > 0.2


# the command


def test_list_names_every_figure(tmp_path: Path) -> None:
    result = ssmspec("plot", "--list", cwd=tmp_path)
    assert result.code == 0
    assert [line.split()[0] for line in result.out.splitlines()] == [*DRAWN, "compare", "inits"]
    unknown = ssmspec("plot", "spectrum", SAMPLES / S4D, cwd=tmp_path)
    assert f"choose one of {', '.join([*DRAWN, 'compare', 'inits'])}" in unknown.err
    assert {"response", "heatmap", "poles", "bias", "energy", "sensitivity", "hankel", "kernel"} <= set(DRAWN)


def test_inits_takes_no_checkpoint_and_shows_every_initialization(tmp_path: Path) -> None:
    result = ssmspec("plot", "inits", "-o", "starts.svg", "--alpha", "3", cwd=tmp_path)
    assert result.code == 0, result.err
    text = (tmp_path / "starts.svg").read_text(encoding="utf-8")
    assert all(f">{name}</text>" in text for name in INITIALIZATIONS)
    assert "alpha = 3" in text
    refused = ssmspec("plot", "inits", SAMPLES / LRU, cwd=tmp_path)
    assert (refused.code, refused.err) == (2, "ssmspec: the figure inits takes no checkpoints, but the number given is 1\n")
    assert ssmspec("plot", "inits", "--layer", "0", cwd=tmp_path).code == 2


def test_default_name_is_in_the_current_folder_and_is_named_on_stderr(tmp_path: Path) -> None:
    result = ssmspec("plot", "bias", SAMPLES / LRU, cwd=tmp_path)
    assert (result.code, result.out) == (0, "")
    assert result.err.splitlines()[-1] == "ssmspec: wrote lru_trained.bias.png"
    assert [path.name for path in tmp_path.iterdir()] == ["lru_trained.bias.png"]
    assert (tmp_path / "lru_trained.bias.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_layer_every_layer_is_drawn_and_the_folder_is_made(tmp_path: Path) -> None:
    result = ssmspec("plot", "response", SAMPLES / S4D, "-o", "new/folder/x.svg", "--points", "64", cwd=tmp_path)
    assert result.code == 0, result.err
    text = (tmp_path / "new" / "folder" / "x.svg").read_text(encoding="utf-8")
    assert text.count("s4_layers.0") == text.count("s4_layers.1") == 1


def test_svg_and_pdf_hold_real_text_and_are_the_same_every_time(tmp_path: Path) -> None:
    before = {key: value for key, value in mpl.rcParams.copy().items() if key != "backend"}
    options = PlotOptions(layers=("0",), points=64)
    for suffix in ("svg", "pdf"):
        first, second = (tmp_path / f"{name}.{suffix}" for name in "ab")
        for path in (first, second):
            assert plot("response", SAMPLES / S4D, path, options=options)[0] == path
        assert first.read_bytes() == second.read_bytes()
    assert {key: mpl.rcParams[key] for key in before} == before
    svg = (tmp_path / "a.svg").read_text(encoding="utf-8")
    texts = re.findall(r"<text[^>]*>([^<]*)", svg)
    assert {"Nyquist", "s4_layers.0 (s4d, 16 x 16)", "magnitude of the response"} <= set(texts)
    assert {"θ", "H"} <= set(re.findall(r"<tspan[^>]*>([^<]*)", svg))
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf  # TrueType, which stays text; Type 3 fonts are drawings
    assert b"/Type3" not in pdf


def test_the_style_is_the_same_whatever_the_user_has_set() -> None:
    with mpl.rc_context({"lines.linestyle": ":", "axes.facecolor": "black", "font.size": 30}):
        figure = draw("hankel", spectrum(systems(LRU)[0]))
        assert mpl.rcParams["font.size"] == 30
    assert figure.axes[0].get_facecolor() == (1, 1, 1, 1)
    assert figure.axes[0].lines[0].get_linestyle() == "-"


def test_a_failed_figure_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "old.png"
    target.write_bytes(b"old")
    with pytest.raises(LayerError, match="only in discrete time"):
        plot("response", SAMPLES / LRU, target, options=PlotOptions(layers=("0",), axis="omega"))
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "output", "options", "message"),
    [
        ("spectrum", "x.png", {}, "figure 'spectrum' is unknown; choose one of response, heatmap"),
        ("compare", "x.png", {}, "takes two checkpoints"),
        ("heatmap", "x.gif", {}, r"no supported picture format; end its name in one of \.png, \.svg, \.pdf"),
        ("heatmap", "/dev/null/x.png", {}, "cannot write /dev/null/x.png: its folder cannot be created"),
        ("energy", "x.png", {"axis": "omega"}, "--axis omega does not apply to the figure energy"),
        ("hankel", "x.png", {"axis": "theta"}, "hankel has no frequency axis; leave out --axis"),
        ("poles", "x.png", {"sample_rate": 100.0}, "poles has no frequency axis; leave out --sample-rate"),
        ("bias", "x.png", {"sample_rate": 100.0, "axis": "cycles"}, "leave out one of them"),
        ("kernel", "x.png", {"with_skip": True}, "does not depend on D; leave out --with-skip"),
        ("response", "x.png", {"plane": "s"}, "shows no plane of poles; leave out --plane"),
        ("bias", "x.png", {"look": Look(title="$x^{$")}, r"'\$x\^\{\$' is no mathtext"),
        ("bias", "x.png", {"look": Look(style=Path("absent.mplstyle"))}, "cannot read the style absent.mplstyle: No such file"),
        ("response", "x.png", {"layers": ("7",)}, "matches no layer"),
        ("heatmap", "x.png", {"backend": "abacus"}, "backend 'abacus' is unknown"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_line(tmp_path: Path, name: str, output: str, options: dict, message: str) -> None:
    with pytest.raises(SsmspecError, match=message) as caught:
        plot(name, SAMPLES / S4D, tmp_path / output, options=PlotOptions(**options))
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_checkpoint_itself_is_never_the_output(tmp_path: Path) -> None:
    path = tmp_path / "model.png"
    path.write_bytes((SAMPLES / S4D).read_bytes())
    with pytest.raises(SsmspecError, match="is the checkpoint itself"):
        plot("heatmap", path, path)


def test_a_layer_that_cannot_be_used_is_left_out_and_named(tmp_path: Path) -> None:
    with np.load(SAMPLES / LRU) as archive:
        arrays = dict(archive)
    broken = next(name for name in arrays if name.startswith("layers.0") and name.endswith("nu_log"))
    arrays[broken] = np.full_like(arrays[broken], np.nan)
    np.savez(tmp_path / "half.npz", **arrays)
    _, notes = plot("heatmap", tmp_path / "half.npz", tmp_path / "half.png", options=PlotOptions(points=32))
    assert notes[0].startswith("skipped: layer layers.0.lru: ")
    with pytest.raises(LayerError, match=r"layers\.0\.lru cannot be used"):
        plot("response", tmp_path / "half.npz", options=PlotOptions(layers=("layers.0.lru",)))


@pytest.mark.usefixtures("blank_pictures")
@pytest.mark.parametrize("file", [S5, MAMBA])
@pytest.mark.parametrize("name", ["response", "energy", "sensitivity", "hankel", "kernel"])
def test_every_figure_of_one_layer_is_written(tmp_path: Path, name: str, file: str) -> None:
    options = PlotOptions(layers=("1",), points=64, read=OPTIONS.get(file, ReadOptions()))
    path, notes = plot(name, SAMPLES / file, tmp_path / "x.png", options=options)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert all(note.startswith("assumed: ") for note in notes)
