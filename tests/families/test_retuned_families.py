"""Every family retuned: what its own forward computes from the written file, and which bytes of it changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import factories as f
import numpy as np
import pytest
from examples_filters import EXAMPLES as FILTERS
from examples_layouts import PLANE, SPACE, SPACE_LENGTHS, mega_truths, nnx_truth, s4_torch_truth, s4nd_truths
from examples_s4_history import diag_v3_truths, dss_truths
from examples_s5_gates import conv_s5_truth, s5_bidirectional_truths, s5_torch_truths
from factories import TIED, BlockShape, Example, Recurrence, Tensors, make
from safetensors.numpy import load_file, save_file

from ssmspec.checkpoint import open_checkpoint
from ssmspec.commands.retune import ChangeOptions, plan_retune
from ssmspec.commands.retune_writing import write_retuned
from ssmspec.errors import LayerError
from ssmspec.families import FAMILIES, ReadOptions
from ssmspec.families.layers import find_layers, read_layers
from ssmspec.systems.response import impulse_response
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import StateSpace, discrete_poles, discrete_residues
from ssmspec.systems.trust import assess
from ssmspec.tuning.poles.diagonal import diagonalize
from ssmspec.tuning.poles.initializations import Settings, initial_poles, sample_step
from ssmspec.tuning.poles.matrices import initial_inputs
from ssmspec.tuning.poles.reinitialization import DRAWS, Place, Reinitialization, reinitialize
from ssmspec.tuning.poles.scaling import Scaling
from ssmspec.tuning.recipe import Recipe, Weighting

PREFIX = "model.layers.0"
EPS = 2.0**-23

Forward = Callable[[Tensors], tuple[Recurrence, ...]]
TWO_WAYS = BlockShape(H=4, S=4, directions=2, channels=2)
FORWARDS: Mapping[str, Forward] = {
    "s4d": lambda t: (f.s4d_truth(t, "kernel."),),
    "s4d-flat": lambda t: (f.s4d_truth(t, ""),),
    "freqbias-standalone": lambda t: (f.s4d_truth(t, "kernel."),),
    "s4-diag-tied": lambda t: f.diagonal_block_truths(t, TIED),
    "s4-diag-bidirectional": lambda t: f.diagonal_block_truths(t, replace(TIED, directions=2, steps=3)),
    "s4-diag-two-channels": lambda t: f.diagonal_block_truths(t, BlockShape(channels=2)),
    "freqbias-block": lambda t: f.diagonal_block_truths(t, BlockShape(S=2)),
    "freqbias-block-bidirectional": lambda t: f.diagonal_block_truths(t, BlockShape(S=2, directions=2)),
    "s4-diag-v3": diag_v3_truths,
    "s4-diag-v3-bidirectional": lambda t: diag_v3_truths(t, TWO_WAYS),
    "s4-diag-v2": diag_v3_truths,
    "h3": lambda t: diag_v3_truths(t, BlockShape()),
    "dss-softmax": lambda t: dss_truths(t, length=12),
    "dss-softmax-bidirectional": lambda t: dss_truths(t, directions=2, length=9),
    "dss-exp": dss_truths,
    "dss-exp-re-im": dss_truths,
    "s5-half": lambda t: (f.s5_truth(t, full=False),),
    "s5-full": lambda t: (f.s5_truth(t, full=True),),
    "s5-flat-step": lambda t: (f.s5_truth(t, full=False),),
    "s5-torch": s5_torch_truths,
    "s5-torch-bidirectional": s5_torch_truths,
    "s5-bidirectional": s5_bidirectional_truths,
    "s5-bidirectional-joined": s5_bidirectional_truths,
    "conv-s5": lambda t: (conv_s5_truth(t),),
    "conv-s5-wide-outputs": lambda t: (conv_s5_truth(t),),
    "lru": lambda t: (f.lru_truth(t),),
    "lru-bp": lambda t: (f.lru_truth(t),),
    "lru-pairs": lambda t: (f.lru_truth(t),),
    "lru-pairs-full-skip": lambda t: (f.lru_truth(t),),
    "s4nd-diagonal": lambda t: s4nd_truths(t, PLANE, (0, 0)),
}
DPLR_FORWARDS: Mapping[str, Forward] = {
    "s4-dplr": lambda t: f.dplr_truths(t, BlockShape(rank=1), 48),
    "s4-dplr-without-length": lambda t: f.dplr_truths(t, BlockShape(rank=1), 0),
    "s4-dplr-bidirectional": lambda t: f.dplr_truths(t, replace(f.DPLR_TIED, directions=2, rank=1), 32),
    "s4-dplr-tied": lambda t: f.dplr_truths(t, f.DPLR_TIED, 32),
    "s4-nplr-bidirectional": lambda t: f.nplr_truths(t, 32),
    "s4-nplr-log-w": lambda t: f.nplr_truths(t, 40),
    "s4-nplr-hurwitz": lambda t: f.nplr_truths(t, 40),
    "s4nd-low-rank": lambda t: s4nd_truths(t, SPACE, SPACE_LENGTHS),
    "s4-torch": lambda t: (s4_torch_truth(t, 36),),
    "annotated-s4-nnx": lambda t: (nnx_truth(t, 20),),
    "s4-nplr-v3": lambda t: f.nplr_truths({name.replace("inv_w_real", "log_w_real"): values for name, values in t.items()}, 40),
}
# what holds Im a, and in DSS the W whose quotient by a is the residue
FREQUENCIES = {"A_imag", "w_imag", "Lambda_im", "A_im", "theta_log", "Lambda", "Lambda_log_im", "params_log"}
DIAGONAL = [*FORWARDS, "annotated-s4d", "lru-params-log", "s5-with-constants"]
LOW_RANK = [*DPLR_FORWARDS, "s4-nplr-v1", "s4-nplr-v1-untied", "annotated-s4"]
REAL = [name for name in f.FACTORIES if FAMILIES[make(name).family].selective and not FAMILIES[make(name).family].fixed]
MODAL = [name for name in FILTERS if not FAMILIES[make(name).family].fixed]  # Evo, Centaurus, GSS
FIXED = [name for name in f.FACTORIES if FAMILIES[make(name).family].fixed]
MEGA = ["mega", "mega-bidirectional", "mega-of-transformers"]


def in_float64(values: np.ndarray) -> np.ndarray:
    return values.astype({np.dtype(np.float32): np.float64, np.dtype(np.complex64): np.complex128}.get(values.dtype, values.dtype))


@dataclass(frozen=True)
class Retuned:
    """A file before and after, its tensors by suffix, and the systems that a reader finds in both."""

    before: Tensors
    after: Tensors
    systems: Sequence[StateSpace]
    retuned: Sequence[StateSpace]
    figures: Mapping[str, float]
    notes: Sequence[str]

    @property
    def changed(self) -> set[str]:
        return {name for name, values in self.before.items() if values.tobytes() != self.after[name].tobytes()}


Retune = Callable[..., Retuned]


@pytest.fixture
def retuned(tmp_path: Path) -> Retune:
    """Retunes an example by its name, through files; double: in float64, as .npz, since safetensors have no complex128."""

    def run(
        name: str, *, double: bool = False, extra: Tensors | None = None, assume: Mapping[str, str] | None = None, **recipe: object
    ) -> Retuned:
        example, suffix = make(name), ".npz" if double else ".safetensors"
        source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
        tensors = {key: np.array(in_float64(values) if double else values) for key, values in example.under(PREFIX).items()}
        tensors |= extra or {} | {"head.weight": np.arange(6, dtype=np.float32)}
        np.savez(source, **tensors) if double else save_file(tensors, source)
        options = ChangeOptions(read=ReadOptions(length=example.length, assume=assume or {}))
        plan = plan_retune(source, Recipe(**recipe), options)
        found, _ = write_retuned(plan, target, command="test", replace_target=True)
        result = dict(np.load(target)) if double else load_file(target)
        assert {key: (values.dtype, values.shape) for key, values in result.items()} == {
            key: (values.dtype, values.shape) for key, values in tensors.items()
        }
        short = [{key.removeprefix(f"{PREFIX}."): values for key, values in part.items()} for part in (tensors, result)]
        layers = [layer for layer in plan.layers if layer.after.name.startswith(PREFIX)]
        return Retuned(
            *short, [layer.before for layer in layers], found, layers[0].figures, [note for layer in layers for note in layer.notes]
        )

    return run


def assert_near(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def assert_forward_is(forwards: Sequence[Recurrence], systems: Sequence[StateSpace], tolerance: float) -> None:
    """What the module computes from the file is what the systems answer to an impulse."""
    for truth, system in zip(forwards, systems, strict=True):
        assert_near(truth.impulse(80), impulse_response(system, 80), tolerance)


def with_alpha(system: StateSpace, alpha: float) -> StateSpace:
    if system.discretization == "direct":
        phase = np.minimum(alpha * np.abs(np.angle(system.poles)), np.pi)
        return replace(system, poles=np.abs(system.poles) * np.exp(1j * phase))
    return replace(system, poles=system.poles.real + 1j * alpha * system.poles.imag)


def test_every_family_is_retuned_here_or_refused() -> None:
    assert set(f.FACTORIES) == {*DIAGONAL, *LOW_RANK, *REAL, *MEGA, *MODAL, *FIXED, "linoss"}


@pytest.mark.parametrize("name", DIAGONAL)
@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
def test_alpha_scales_every_stored_frequency_and_leaves_all_other_bytes(retuned: Retune, name: str, double: bool) -> None:
    found = retuned(name, double=double, scaling=Scaling(alpha=1.7))
    eps = 2.0**-52 if double else EPS
    for before, after in zip(found.systems, found.retuned, strict=True):
        wanted = with_alpha(before, 1.7)
        if before.discretization == "direct":  # phases up to 7.4 rad, of which the logarithm is stored, in float32
            np.testing.assert_allclose(np.abs(after.poles), np.abs(wanted.poles), rtol=4 * 2.0**-52)
            np.testing.assert_allclose(np.angle(after.poles), np.angle(wanted.poles), rtol=0, atol=16 * eps)
        else:
            np.testing.assert_array_equal(after.poles.real, wanted.poles.real)
            np.testing.assert_allclose(after.poles.imag, wanted.poles.imag, rtol=8 * eps)
        np.testing.assert_array_equal(after.step, before.step)
    frequencies = {suffix for suffix in found.before if suffix.rsplit(".", 1)[-1] in FREQUENCIES}
    assert frequencies
    quotient = {"kernel.W"} if make(name).family == "dss" else set()
    assert frequencies <= found.changed <= frequencies | quotient
    if name in FORWARDS:
        assert_forward_is(FORWARDS[name](found.after), [with_alpha(system, 1.7) for system in found.systems], 400 * eps)


@pytest.mark.parametrize("name", [name for name in MODAL if not name.startswith("evo-2")])
def test_alpha_moves_the_frequencies_of_modal_filters_alone(retuned: Retune, name: str) -> None:
    found = retuned(name, scaling=Scaling(alpha=1.4))
    for before, after in zip(found.systems, found.retuned, strict=True):
        assert_near(impulse_response(after, 60), impulse_response(with_alpha(before, 1.4), 60), 400 * EPS)
        np.testing.assert_array_equal(after.step, before.step)
    assert found.changed == {"evo-1": {"poles"}, "gss": {"Lambda_imag"}, "centaurus": {"A"}}[make(name).family]


@pytest.mark.parametrize("name", MODAL)
def test_step_scale_of_modal_filters_goes_to_the_step_or_where_there_is_none_to_the_poles(retuned: Retune, name: str) -> None:
    found = retuned(name, scaling=Scaling(step_scale=1.5))
    for before, after in zip(found.systems, found.retuned, strict=True):
        lengths = np.log(np.abs(discrete_poles(after))) / np.log(np.abs(discrete_poles(before)))
        np.testing.assert_allclose(lengths, 1.5, rtol=1e-3 if before.discretization == "direct" else 32 * EPS)
        assert (after.step == 1).all() or before.family == "centaurus"
    roles = {"evo-1": {"poles"}, "gss": {"Lambda_real", "Lambda_imag"}, "centaurus": {"log_dt"}, "evo-2-hcl": {"log_poles", "filter.p"}}
    assert found.changed <= roles[make(name).family]


@pytest.mark.parametrize("name", FIXED)
def test_filters_whose_poles_cannot_be_stored_refuse_a_change_with_the_reason(retuned: Retune, name: str) -> None:
    with pytest.raises(LayerError, match="cannot be changed"):
        retuned(name, scaling=Scaling(step_scale=2))


STARTS = {"evo-1": "lru-ring", "evo-2-hcl": "s4d-real", **dict.fromkeys(("gss", "centaurus-dws", "centaurus-s5"), "s4d-lin")}


@pytest.mark.parametrize("name", STARTS)
def test_modal_filters_are_drawn_anew_and_written(retuned: Retune, name: str) -> None:
    found = retuned(name, start=Reinitialization(name=STARTS[name], seed=3))
    for before, after in zip(found.systems, found.retuned, strict=True):
        assert np.abs(after.poles - before.poles).min() > 1e-4
        assert assess(after).problem is None


@pytest.mark.parametrize(("name", "reason"), [("evo-2-hcl", "real poles"), ("centaurus-neck", "change them together")])
def test_draws_that_a_modal_filter_cannot_store_are_refused(retuned: Retune, name: str, reason: str) -> None:
    with pytest.raises(LayerError, match=reason):
        retuned(name, start=Reinitialization(name="s4d-lin"))


def test_alpha_on_complex_poles_keeps_their_real_parts_to_the_bit(retuned: Retune) -> None:
    found = retuned("s5-torch", scaling=Scaling(alpha=1.7))
    np.testing.assert_array_equal(found.after["Lambda"].real, found.before["Lambda"].real)
    np.testing.assert_array_equal(found.after["Lambda"].imag, np.float32(1.7 * found.before["Lambda"].imag.astype(float)))


def test_phases_of_an_lru_follow_the_rule_for_both_halves_of_the_circle(retuned: Retune) -> None:
    """phi = |arg z|, phi' = min(alpha phi, pi), stored as phi' or 2 pi - phi' in the turn that the phase was in."""
    found = retuned("lru", scaling=Scaling(alpha=1.3))
    theta = np.exp(found.before["theta_log"].astype(float))
    turns, inside = np.divmod(theta, 2 * np.pi)
    phi = np.where(inside <= np.pi, inside, 2 * np.pi - inside)
    scaled = np.minimum(1.3 * phi, np.pi)
    expected = turns * 2 * np.pi + np.where(inside <= np.pi, scaled, 2 * np.pi - scaled)
    np.testing.assert_allclose(np.exp(found.after["theta_log"].astype(float)), expected, rtol=16 * EPS)
    assert found.figures["clamped_phases"] == (1.3 * phi > np.pi).sum() == 1
    assert any(note.startswith("1 of 5 phases reached pi") for note in found.notes)


def test_phases_of_an_lru_are_left_alone_without_alpha(retuned: Retune) -> None:
    found = retuned("lru", scaling=Scaling(alpha_real=1.5))
    assert found.changed == {"nu_log"}
    np.testing.assert_allclose(np.exp(found.after["nu_log"]), 1.5 * np.exp(found.before["nu_log"]), rtol=4 * EPS)


def test_rows_of_packed_logarithms_change_one_by_one(retuned: Retune) -> None:
    found = retuned("lru-params-log", scaling=Scaling(alpha=1.3))
    np.testing.assert_array_equal(found.after["params_log"][[0, 2]], found.before["params_log"][[0, 2]])
    assert (found.after["params_log"][1] != found.before["params_log"][1]).any()


@pytest.mark.parametrize("name", FORWARDS)
def test_kept_gain_keeps_every_discrete_residue_of_the_file(retuned: Retune, name: str) -> None:
    found = retuned(name, scaling=Scaling(alpha=2, step_scale=1.4, preserve_gain=True))
    for before, after in zip(found.systems, found.retuned, strict=True):
        sizes = [np.abs(np.einsum("kon,kni,kn->koin", s.C, s.B, discrete_residues(s))) for s in (before, after)]
        np.testing.assert_allclose(sizes[1], sizes[0], rtol=100 * EPS)


@pytest.mark.parametrize("name", [name for name in FORWARDS if not name.startswith("lru")])
def test_decay_and_step_are_scaled_in_the_own_forward(retuned: Retune, name: str) -> None:
    found = retuned(name, scaling=Scaling(alpha_real=0.7, step_scale=1.5))
    wanted = [replace(s, poles=0.7 * s.poles.real + 1j * s.poles.imag, step=1.5 * s.step) for s in found.systems]
    assert_forward_is(FORWARDS[name](found.after), wanted, 400 * EPS)
    assert not found.changed & {"D", "head.weight", "s"}


@pytest.mark.parametrize("name", [name for name in LOW_RANK if name != "annotated-s4"])
def test_step_of_a_low_rank_layer_is_scaled_and_the_rest_of_its_system_stays(retuned: Retune, name: str) -> None:
    found = retuned(name, scaling=Scaling(step_scale=1.5))
    wanted = [replace(system, step=1.5 * system.step) for system in found.systems]
    for after, system in zip(found.retuned, wanted, strict=True):
        assert_near(impulse_response(after, 80), impulse_response(system, 80), 1000 * EPS)
    if name in DPLR_FORWARDS:
        assert_forward_is(DPLR_FORWARDS[name](found.after), wanted, 1000 * EPS)
    ends = {suffix.rsplit(".", 1)[-1] for suffix in found.changed}
    assert ends <= {"log_dt", "inv_dt", "C", "log_step", "_Ct", "C_real_imag"}


@pytest.mark.parametrize("name", REAL)
def test_step_scale_multiplies_the_logarithm_of_real_poles(retuned: Retune, name: str) -> None:
    """exp(a Delta) to the power of two, and where Delta is a parameter, Delta itself."""
    found = retuned(name, scaling=Scaling(step_scale=2))
    for before, after in zip(found.systems, found.retuned, strict=True):
        if before.discretization == "direct":
            np.testing.assert_allclose(np.log(after.poles.real), 2 * np.log(before.poles.real), rtol=32 * EPS)
        elif before.unit_step:
            np.testing.assert_allclose(after.poles, 2 * before.poles, rtol=64 * EPS)
        else:
            np.testing.assert_allclose(after.step, 2 * before.step, rtol=32 * EPS)
            np.testing.assert_array_equal(after.poles, before.poles)
    ends = {suffix.rsplit(".", 1)[-1] for suffix in found.changed}
    biases = {"dt_bias", "bias", "dt_proj_bias", "dt_projs_bias"}
    assert ends <= {*biases, "time_decay", "w0", "recurrent_param", "a_param", *(["D"] if name == "mamba-3" else [])}
    assert ends


def test_bias_of_mamba_is_shifted_through_the_inverse_of_softplus(retuned: Retune) -> None:
    found = retuned("mamba-1", scaling=Scaling(step_scale=2))
    before, after = (f.softplus(part["dt_proj.bias"].astype(float)) for part in (found.before, found.after))
    np.testing.assert_allclose(after, 2 * before, rtol=8 * EPS)


@pytest.mark.parametrize("name", REAL)
def test_alpha_is_refused_where_poles_are_real(retuned: Retune, name: str) -> None:
    with pytest.raises(LayerError, match=rf"{PREFIX}(:\w+)? \({make(name).family}\) has only real poles.*--step-scale"):
        retuned(name, scaling=Scaling(alpha=2))


@pytest.mark.parametrize("name", ["mamba-1", "mamba-2", "rg-lru"])
def test_a_gain_that_is_computed_from_the_input_is_not_kept(retuned: Retune, name: str) -> None:
    with pytest.raises(LayerError, match="--preserve-gain"):
        retuned(name, scaling=Scaling(step_scale=2, preserve_gain=True))


@pytest.mark.parametrize("name", MEGA)
def test_step_scale_squares_the_decays_of_a_moving_average(retuned: Retune, name: str) -> None:
    """q to the power of two, with the input weights that the layer had."""
    found = retuned(name, scaling=Scaling(step_scale=2))
    for before, after in zip(found.systems, found.retuned, strict=True):
        np.testing.assert_allclose(after.poles, before.poles**2, rtol=16 * EPS)
    if name == "mega":
        (before,), (after,) = mega_truths(found.before), mega_truths(found.after)
        np.testing.assert_allclose(after.A, before.A**2, rtol=16 * EPS)
        np.testing.assert_allclose(after.C @ after.B, before.C @ before.B, rtol=64 * EPS, atol=64 * EPS)
    assert found.changed <= {"alpha", "delta", "beta", "damping_factor", "decay_factor", "ema_expansion_matrix"}


@pytest.mark.parametrize("name", LOW_RANK)
def test_alpha_is_refused_where_a_low_rank_part_moves_the_poles(retuned: Retune, name: str) -> None:
    with pytest.raises(LayerError, match=r"low-rank part.*--diagonalize"):
        retuned(name, scaling=Scaling(alpha=2))


def test_oscillators_whose_decay_follows_from_their_frequency_refuse_alpha(retuned: Retune) -> None:
    with pytest.raises(LayerError, match="LinOSS-IM"):
        retuned("linoss", scaling=Scaling(alpha=2))


def power_and_error(forwards: Sequence[Recurrence], wanted: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Relative L2 error of every copy of every direction, by the DFT of the module's own kernel."""
    errors = []
    for truth, target in zip(forwards, wanted, strict=True):
        assert truth.tail(length) < 1e-6 * np.abs(target).max()
        found = np.fft.fft(truth.impulse(length), axis=-1)
        power = [(np.abs(part) ** 2).sum(axis=(1, 2, 3)) for part in (found - target, target)]
        errors.append(np.sqrt(power[0] / power[1]))
    return np.concatenate(errors)


@pytest.mark.parametrize("name", DPLR_FORWARDS)
def test_a_diagonalized_file_deviates_from_its_own_forward_by_the_reported_error(retuned: Retune, name: str) -> None:
    found = retuned(name, diagonalize=True, max_diagonalize_error=1.0)
    length = 1024
    targets = [np.fft.fft(truth.impulse(length), axis=-1) for truth in DPLR_FORWARDS[name](found.before)]
    errors = power_and_error(DPLR_FORWARDS[name](found.after), targets, length)
    assert found.figures["diagonalize_error"] == pytest.approx(np.median(errors), rel=1e-2, abs=20 * EPS)
    assert found.figures["diagonalize_worst_error"] == pytest.approx(errors.max(), rel=1e-2, abs=20 * EPS)
    for suffix in found.after:
        if suffix.rsplit(".", 1)[-1] in ("P", "Q"):
            assert not found.after[suffix].any()
    assert not found.changed & {"D", "kernel.inv_dt", "kernel.kernel.log_dt", "kernel.l_kernel", "kernel.kernel.omega"}


@pytest.mark.parametrize("name", DPLR_FORWARDS)
def test_poles_of_a_diagonalized_file_are_scaled_in_its_own_forward(retuned: Retune, name: str) -> None:
    found = retuned(name, diagonalize=True, max_diagonalize_error=1.0, scaling=Scaling(alpha=1.6))
    wanted = [with_alpha(part.system, 1.6) for part in diagonalize(list(found.systems))]
    assert_forward_is(DPLR_FORWARDS[name](found.after), wanted, 2000 * EPS)


@pytest.mark.parametrize("name", ["s4-nplr-v1-untied", "annotated-s4"])
def test_poles_of_other_diagonalized_files_are_scaled_as_they_are_read(retuned: Retune, name: str) -> None:
    found = retuned(name, diagonalize=True, max_diagonalize_error=1.0, scaling=Scaling(alpha=1.6))
    for part, after in zip(diagonalize(list(found.systems)), found.retuned, strict=True):
        assert_near(impulse_response(after, 80), impulse_response(with_alpha(part.system, 1.6), 80), 2000 * EPS)


def test_tied_poles_beside_untied_low_rank_parts_cannot_be_diagonalized(retuned: Retune) -> None:
    with pytest.raises(LayerError, match="must change together"):
        retuned("s4-nplr-v1", diagonalize=True, max_diagonalize_error=1.0)


BAKED = [name for name in FORWARDS if name not in ("s4-diag-tied", "lru-bp", "s5-flat-step", "s4d-flat")]


@pytest.mark.parametrize("name", BAKED)
def test_baked_files_have_the_weighted_response_in_their_own_forward(retuned: Retune, name: str) -> None:
    """To the reported error, by the DFT of the kernels that the module computes from both files."""
    beta, length = -0.8, 1024
    weighting = Weighting(beta=beta, convention="angular", theta_ref=0.3, bake=True, max_bake_error=1)
    found = retuned(name, weighting=weighting)
    theta = 2 * np.pi * np.arange(length) / length
    weight = (1 + np.minimum(theta, 2 * np.pi - theta) / 0.3) ** beta
    targets = [np.fft.fft(truth.impulse(length), axis=-1) * weight for truth in FORWARDS[name](found.before)]
    errors = power_and_error(FORWARDS[name](found.after), targets, length)
    assert found.figures["bake_error"] == pytest.approx(np.median(errors), rel=2e-3)
    assert found.figures["bake_worst_error"] == pytest.approx(errors.max(), rel=2e-3)
    assert found.figures["bake_growth"] <= 2
    outputs = {"C", "W", "C1", "C2", "C_re", "C_im", "s"}
    assert {suffix.rsplit(".", 1)[-1] for suffix in found.changed} <= outputs
    assert found.changed
    for truth in FORWARDS[name](found.after):
        assert truth.beta is None or not truth.beta.any()


@pytest.mark.parametrize("name", BAKED)
def test_baking_a_beta_of_zero_changes_no_byte_but_a_stored_beta(retuned: Retune, name: str) -> None:
    weighting = Weighting(beta=0, convention="lra", bake=True)
    assert retuned(name, weighting=weighting).changed <= {"s"}


@pytest.mark.parametrize("name", ["freqbias-block", "freqbias-block-bidirectional"])
def test_beta_goes_into_the_slot_of_a_freqbias_block(retuned: Retune, name: str) -> None:
    found = retuned(name, weighting=Weighting(beta=-0.75))
    assert found.changed == {"s"}
    np.testing.assert_array_equal(found.after["s"], np.float32(-0.75))
    for truth, system in zip(FORWARDS[name](found.after), found.retuned, strict=True):
        np.testing.assert_array_equal(truth.beta, system.sobolev.beta)
        assert system.sobolev.convention == "lra"


REINITIALIZED = [name for name in f.FACTORIES if make(name).family in DRAWS and name not in FILTERS]
SSM = {"A_real", "A_imag", "inv_dt", "log_dt", "log_A_real", "inv_A_real", "log_w_real", "w_imag", "B", "C", "C1", "C2", "Bp"}
SSM |= {"A_re", "A_im", "log_step", "Lambda", "Lambda_re", "Lambda_im", "nu_log", "theta_log", "gamma_log", "params_log"}
SSM |= {"B_re", "B_im", "C_re", "C_im"}


def start_of(name: str) -> str:
    family = make(name).family
    return "lru-ring" if family == "lru" else "s5-hippo" if family.startswith("s5") else "s4d-lin"


@pytest.mark.parametrize("name", REINITIALIZED)
def test_a_new_start_changes_dynamics_alone_and_is_read_back(retuned: Retune, name: str) -> None:
    how = Reinitialization(name=start_of(name), alpha=1.5, seed=3, step=(0.01, 0.02))
    found = retuned(name, start=how)
    moved = {suffix for suffix in found.changed if suffix.rsplit(".", 1)[-1] not in SSM}
    assert moved <= {"in_proj.weight", "out_proj.weight"}  # what LRURec calls B and C
    system, after = found.systems[0], found.retuned[0]
    if system.discretization != "direct":
        blocks = np.gcd(8, system.modes) if start_of(name) == "s5-hippo" else 1
        settings = Settings(copies=1, modes=system.modes, blocks=int(blocks))
        expected = initial_poles(how.name, settings, alpha=1.5, rng=np.random.default_rng()).exponents
        np.testing.assert_allclose(after.poles, np.broadcast_to(expected, after.poles.shape), rtol=8 * EPS, atol=1e-30)
        assert 0.01 * (1 - 8 * EPS) <= after.step.min() <= after.step.max() <= 0.02 * (1 + 8 * EPS)
    sizes = make(name)
    drawn, _ = reinitialize(found.systems, how, Place(1, 1, _groups(sizes)), features=_features(sizes, system))
    for wanted, read in zip(drawn, found.retuned, strict=True):
        assert_near(impulse_response(read, 50), impulse_response(wanted, 50), 1e-4)


@pytest.mark.parametrize("name", [name for name in REINITIALIZED if make(name).family == "lru"])
def test_gamma_of_an_lru_starts_with_its_poles_and_b_as_its_code_draws_it(retuned: Retune, name: str) -> None:
    """gamma = sqrt(1 - |z|^2), and E|B|^2 = 1/I before gamma (minimal-LRU, lru/model.py), by the file's own numbers."""
    found = retuned(name, start=Reinitialization(name="lru-ring", seed=5))
    packed = found.after.get("params_log")
    nu, gamma = (found.after["nu_log"], found.after["gamma_log"]) if packed is None else (packed[0], packed[2])
    np.testing.assert_allclose(np.exp(gamma.astype(float)) ** 2, -np.expm1(-2 * np.exp(nu.astype(float))), rtol=64 * EPS)
    drawn = initial_inputs("lru", Settings(copies=1, modes=len(nu), inputs=found.systems[0].inputs), rng=_rng_after_poles(len(nu)))
    stored = found.retuned[0].B[0] / np.exp(gamma.astype(float))[:, None]
    np.testing.assert_allclose(np.abs(stored), np.abs(drawn[0]), rtol=64 * EPS)


def _rng_after_poles(modes: int) -> np.random.Generator:
    rng = np.random.default_rng([5, 1])
    initial_poles("lru-ring", Settings(copies=1, modes=modes), rng=rng)
    sample_step(1, 1e-3, 1e-1, rng)
    return rng


def _groups(example: Example) -> int | None:
    names = ("kernel.A_imag", "kernel.kernel.A_imag", "kernel.kernel.w_imag")
    tied = example.family.startswith(("s4-diag", "freqbias-block"))
    return next(len(example.tensors[name]) for name in names if name in example.tensors) if tied else None


def _features(example: Example, system: StateSpace) -> int:
    C = example.tensors.get("kernel.C", example.tensors.get("kernel.kernel.C"))
    return C.shape[1] if C is not None and C.ndim == 4 else system.copies


@pytest.mark.parametrize("name", REINITIALIZED)
def test_the_same_seed_gives_the_same_bytes_and_another_one_others(retuned: Retune, name: str) -> None:
    outputs = []
    for seed in (1, 1, 2):
        found = retuned(name, start=Reinitialization(name=start_of(name), seed=seed))
        outputs.append({suffix: values.tobytes() for suffix, values in found.after.items()})
    assert outputs[0] == outputs[1]
    differ = {suffix.rsplit(".", 1)[-1] for suffix in outputs[0] if outputs[0][suffix] != outputs[2][suffix]}
    assert differ & {"C", "C1", "C_re", "out_proj", "weight"}


@pytest.mark.parametrize("name", ["s4-diag-tied", "s4-diag-bidirectional", "freqbias-block", "s4-diag-v2"])
def test_a_start_on_the_circle_fits_tied_copies(retuned: Retune, name: str) -> None:
    (after, *_) = retuned(name, start=Reinitialization(name="dfout")).retuned
    angles = (after.poles * after.step).imag
    np.testing.assert_allclose(angles, np.broadcast_to(np.pi * np.arange(3) / 3, angles.shape), rtol=32 * EPS, atol=1e-30)


def test_a_start_that_would_be_taken_for_half_a_spectrum_is_refused(retuned: Retune) -> None:
    """Whether an S5 file holds both halves is told by mirrored poles alone, which this start has not."""
    with pytest.raises(LayerError, match="requested residues cannot be stored"):
        retuned("s5-full", start=Reinitialization(name="s4d-lin"))


def test_real_parts_that_the_code_of_a_family_clips_are_told(retuned: Retune) -> None:
    """S5 with clip_eigs clips real parts above -1e-4: half of 0.4..1.2 times 2e-4 lie there."""
    found = retuned("s5-half", assume={"s5_clip": "true"}, scaling=Scaling(alpha_real=1.3e-4))
    clipped = int((1.3e-4 * found.systems[0].poles.real > -1e-4).sum())
    assert 0 < clipped < found.systems[0].modes
    assert any(note.startswith(f"{clipped} of 6 poles of {PREFIX} cannot be stored as requested") for note in found.notes)


def test_twins_change_together(retuned: Retune) -> None:
    copy = {f"shadow.{key}": np.array(values) for key, values in make("s4d").under(PREFIX).items()}
    found = retuned("s4d", extra=copy, scaling=Scaling(alpha=2))
    assert found.changed == {"kernel.A_imag", f"shadow.{PREFIX}.kernel.A_imag"}
    np.testing.assert_array_equal(found.after["kernel.A_imag"], found.after[f"shadow.{PREFIX}.kernel.A_imag"])
    assert any(f"shadow.{PREFIX} holds the same values and changes with it" in note for note in found.notes)


def test_weights_of_both_directions_are_those_of_one_sobolev(tmp_path: Path) -> None:
    """Beta beside the tensors of a layer with two directions is found again for both."""
    tensors = {key: np.array(values) for key, values in make("s4-diag-v3-bidirectional").under(PREFIX).items()}
    save_file(tensors, tmp_path / "in.safetensors")
    plan = plan_retune(tmp_path / "in.safetensors", Recipe(weighting=Weighting(beta=0.4, convention="causal", theta_ref=0.5)))
    write_retuned(plan, tmp_path / "out.safetensors", command="test")
    checkpoint = open_checkpoint(tmp_path / "out.safetensors")
    (layer,), _ = read_layers(checkpoint, find_layers(checkpoint), ReadOptions())
    assert len(layer.systems) == 2
    for system in layer.systems:
        expected = Sobolev(np.full(system.copies, 0.4), "causal", 0.5)
        np.testing.assert_array_equal(system.sobolev.beta, expected.beta)
        assert (system.sobolev.convention, system.sobolev.theta_ref) == ("causal", 0.5)
