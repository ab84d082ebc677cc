"""Every family reduced: what its own forward computes from the written file, and the error that the certificate states."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import factories as f
import numpy as np
import pytest
from examples_s4_history import annotated_truth, diag_v3_truths, dss_truths, v1_truth
from examples_s5_gates import linoss_truth, s5_bidirectional_truths, s5_torch_truths
from factories import BlockShape, Recurrence, Tensors, make
from safetensors.numpy import load_file, save_file

from ssmspec.commands.reduce import ReducePlan, plan_reduce
from ssmspec.commands.reduce_writing import write_reduced
from ssmspec.commands.retune import ChangeOptions
from ssmspec.errors import LayerError
from ssmspec.families import ReadOptions
from ssmspec.systems.statespace import StateSpace
from ssmspec.tuning.reduction.request import Request

PREFIX = "model.layers.0"
THETA = np.linspace(0, np.pi, 601)

Forward = Callable[[Tensors], tuple[Recurrence, ...]]


def block(directions: int = 1, channels: int = 1, length: int | None = None) -> Forward:
    """The forward of a block of any size: the sizes are those of its tensors."""

    def forward(tensors: Tensors) -> tuple[Recurrence, ...]:
        sets, modes = tensors["kernel.A_real"].shape
        H, steps = tensors["kernel.inv_dt"].shape
        rank = len(tensors["kernel.P"]) if "kernel.P" in tensors else 0
        shape = BlockShape(H=H, N=modes, S=sets, channels=channels, directions=directions, rank=rank, steps=steps)
        return f.diagonal_block_truths(tensors, shape) if length is None else f.dplr_truths(tensors, shape, length)

    return forward


def old_diagonal(tensors: Tensors) -> tuple[Recurrence, ...]:
    """The forward of the diagonal kernels of v3 and v2.1, of any size."""
    channels, H, modes, _ = next(values for name, values in tensors.items() if name.endswith("kernel.kernel.C")).shape
    return diag_v3_truths(tensors, BlockShape(H=H, N=modes, channels=channels))


def annotated_s4d_truths(tensors: Tensors) -> tuple[Recurrence, ...]:
    """s4d_kernel_zoh: a = min(A_re, -1e-4) + i A_im, C (exp(dt a) - 1)/a, Re; arrays are (N, H)."""
    a = (np.minimum(f.wide(tensors["A_re"]), -1e-4) + 1j * f.wide(tensors["A_im"])).T
    dt = np.exp(f.wide(tensors["log_step"])).T
    C = f.joined(tensors["C"]).T * (np.exp(dt * a) - 1) / a
    skip = f.wide(tensors["D"]).T[:, :, None]
    return (Recurrence(f.diagonal(np.exp(dt * a)), np.ones((*a.shape, 1), complex), C[:, None, :], skip),)


FORWARDS: Mapping[str, Forward] = {
    "s4d": lambda t: (f.s4d_truth(t, "kernel."),),
    "s4d-flat": lambda t: (f.s4d_truth(t, ""),),
    "freqbias-standalone": lambda t: (f.s4d_truth(t, "kernel."),),
    "s4-diag-tied": block(),
    "s4-diag-bidirectional": block(directions=2),
    "s4-diag-two-channels": block(channels=2),
    "freqbias-block": block(),
    "freqbias-block-bidirectional": block(directions=2),
    "s4-diag-v3": old_diagonal,
    "s4-diag-v2": old_diagonal,
    "s5-half": lambda t: (f.s5_truth(t, full=False),),
    "s5-full": lambda t: (f.s5_truth(t, full=True),),
    "s5-flat-step": lambda t: (f.s5_truth(t, full=False),),
    "s5-with-constants": lambda t: (f.s5_truth(dict(t, log_step=f.wide(t["log_step"]) + np.log(0.5)), full=True),),
    "s5-torch": s5_torch_truths,
    "s5-torch-bidirectional": s5_torch_truths,
    "s5-bidirectional": s5_bidirectional_truths,
    "s5-bidirectional-joined": s5_bidirectional_truths,
    "lru": lambda t: (f.lru_truth(t),),
    "lru-bp": lambda t: (f.lru_truth(t),),
    "lru-pairs": lambda t: (f.lru_truth(t),),
    "annotated-s4d": annotated_s4d_truths,
}
LOW_RANK: Mapping[str, Forward] = {
    "s4-dplr": block(length=48),
    "s4-dplr-without-length": block(length=0),
    "s4-dplr-bidirectional": block(directions=2, length=32),
    "s4-dplr-tied": block(length=32),
    "s4-nplr-v1-untied": lambda t: (v1_truth(t, 32),),
    "s4-nplr-bidirectional": lambda t: f.nplr_truths(t, 32),
    "s4-nplr-log-w": lambda t: f.nplr_truths(t, 40),
    "s4-nplr-hurwitz": lambda t: f.nplr_truths(t, 40),
    "annotated-s4": lambda t: (annotated_truth(t, 20),),
}
ONLY_MODAL: Mapping[str, Forward] = {
    "dss-softmax": lambda t: dss_truths(t, length=12),
    "dss-exp": dss_truths,
    "linoss": lambda t: (linoss_truth(t),),  # of these tensors; others are in test_reduced_linoss.py
}
EVERY = {**FORWARDS, **LOW_RANK, **ONLY_MODAL}


def in_float64(values: np.ndarray) -> np.ndarray:
    return values.astype({np.dtype(np.float32): np.float64, np.dtype(np.complex64): np.complex128}.get(values.dtype, values.dtype))


@dataclass(frozen=True)
class Reduced:
    """A file before and after, its tensors by suffix, the systems that a reader finds in the second, and the plan."""

    before: Tensors
    after: Tensors
    stored: Sequence[StateSpace]
    plan: ReducePlan


@pytest.fixture
def reduced(tmp_path: Path) -> Callable[..., Reduced]:
    def run(name: str, *, double: bool = False, assume: Mapping[str, str] | None = None, **request: object) -> Reduced:
        example, suffix = make(name), ".npz" if double else ".safetensors"
        source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
        tensors = {key: np.array(in_float64(values) if double else values) for key, values in example.under(PREFIX).items()}
        tensors |= {"head.weight": np.arange(6, dtype=np.float32)}
        np.savez(source, **tensors) if double else save_file(tensors, source)
        options = ChangeOptions(read=ReadOptions(length=example.length, assume=assume or {}))
        plan = plan_reduce(source, Request(**request), options)
        found, _ = write_reduced(plan, target, command="test", replace_target=True)
        result = dict(np.load(target)) if double else load_file(target)
        assert {key: values.dtype for key, values in result.items()} == {key: values.dtype for key, values in tensors.items()}
        for key in set(tensors) - set(plan.changes):
            assert result[key].tobytes() == tensors[key].tobytes()
        short = [{key.removeprefix(f"{PREFIX}."): values for key, values in part.items()} for part in (tensors, result)]
        return Reduced(*short, found, plan)

    return run


def response(truth: Recurrence) -> np.ndarray:
    """C (1 - A e^{-i theta})^{-1} B of the real part of the module's output, (K, F, O, I)."""
    found = []
    for sign in (1, -1):
        turn = np.exp(-1j * sign * THETA)[:, None, None, None]
        identity = np.eye(truth.A.shape[-1])
        H = truth.C @ np.linalg.solve(identity - turn * truth.A, np.broadcast_to(truth.B, (len(THETA), *truth.B.shape)))
        found.append(H if sign == 1 else H.conj())
    H = (found[0] + found[1]) / 2
    if truth.beta is not None:
        H = H * (1 + THETA / (2 * np.pi))[:, None, None, None] ** truth.beta[:, None, None]
    return H.transpose(1, 0, 2, 3)


def peaks(H: np.ndarray) -> np.ndarray:
    return np.linalg.svd(H, compute_uv=False)[..., 0].max(axis=1)


@pytest.mark.parametrize(
    ("method", "double"), [("balanced", False), ("balanced", True), ("h2", True), ("modal", False)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("name", EVERY)
def test_the_certificate_is_the_error_of_what_the_family_computes_from_the_file(
    reduced: Callable[..., Reduced], name: str, method: str, double: bool
) -> None:
    if name in ONLY_MODAL and method != "modal":
        with pytest.raises(LayerError, match="--method modal keeps some of its own"):
            reduced(name, double=double, method=method, keep=0.5)
        return
    found = reduced(name, double=double, method=method, keep=0.5)
    forward = EVERY[name]
    for truth, now, layer, stored in zip(forward(found.before), forward(found.after), found.plan.layers, found.stored, strict=True):
        certificate = layer.certificate
        H, error = response(truth), response(truth) - response(now)
        assert certificate.norm == pytest.approx(peaks(H).max(), rel=2e-2)
        grid = peaks(error)
        slack = 1e-10 * certificate.norm
        assert (certificate.error.peak >= grid * (1 - 1e-9) - slack).all()
        np.testing.assert_allclose(certificate.error.peak, grid, rtol=2e-2, atol=slack)
        assert certificate.holds in ((None,) if method != "balanced" else (True,))
        np.testing.assert_array_equal(stored.poles, layer.after.poles)
        assert certificate.rounding.max() <= (1e-10 if double else 1e-4) * certificate.norm


@pytest.mark.parametrize("name", [*FORWARDS, *ONLY_MODAL])
def test_modal_truncation_keeps_stored_numbers_as_they_are(reduced: Callable[..., Reduced], name: str) -> None:
    found = reduced(name, method="modal", keep=0.5)
    for key in found.plan.changes:
        suffix = key.removeprefix(f"{PREFIX}.")
        assert np.isin(found.after[suffix], found.before[suffix]).all()
        assert found.after[suffix].size < found.before[suffix].size


REFUSED = {
    "mamba-1": "its poles hold at one operating point",
    "mamba-2": "its poles hold at one operating point",
    "rg-lru": "its poles hold at one operating point",
    "mega": "how the code of mega-ema stores fewer modes is not known",
    "s4-torch": "all channels share Lambda, p and q",
    "s4-nplr-v1": "all channels share one row of w and B",
    "s4nd-diagonal": "the product over its axes",
    "h3": "one d_state for the modes and for the taps of the shift filter",
    "retnet": "constants of the architecture",
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_layers_are_refused_with_the_reason(reduced: Callable[..., Reduced], name: str) -> None:
    with pytest.raises(LayerError, match=REFUSED[name]):
        reduced(name, keep=0.5, assume=None)


def test_undamped_oscillators_have_no_norm(reduced: Callable[..., Reduced]) -> None:
    with pytest.raises(LayerError, match="undamped by design"):
        reduced("linoss", method="modal", keep=0.5, assume={"linoss_scheme": "imex"})


def test_shared_poles_become_those_of_every_channel(reduced: Callable[..., Reduced]) -> None:
    """Channels of one set have steps of their own, so that what is balanced for one is not for another."""
    found = reduced("s4-diag-tied", keep=0.67)
    assert found.before["kernel.A_real"].shape == (2, 3)
    assert found.after["kernel.A_real"].shape == (6, 2)
    assert found.after["kernel.B"].shape == (1, 6, 2, 2)
    assert any("n_ssm = 6" in note for note in found.plan.layers[0].notes)
    kept = reduced("s4-diag-tied", method="modal", keep=0.67)
    assert kept.after["kernel.A_real"].shape == (2, 2)


def test_the_bound_is_of_the_response_without_beta(reduced: Callable[..., Reduced]) -> None:
    found = reduced("freqbias-block", keep=0.5)
    (truth,), (now,) = block()(found.before), block()(found.after)
    certificate = found.plan.layers[0].certificate
    plain = peaks(response(replace(truth, beta=None)) - response(replace(now, beta=None)))
    assert certificate.unweighted is not None
    assert certificate.bound is not None
    np.testing.assert_allclose(certificate.unweighted.peak, plain, rtol=2e-2)
    assert (plain <= certificate.bound).all()
    assert not np.allclose(certificate.error.peak, plain, rtol=0.05)


def test_a_positive_pole_of_lru_is_written_finite_and_read_as_the_same_pole(reduced: Callable[..., Reduced], tmp_path: Path) -> None:
    """Two oscillations far from a decay: the decay stays, and its phase is 0."""
    tensors = f.lru_tensors(np.random.default_rng(0), N=3, I=1, O=1)
    tensors["nu_log"] = f.single(np.log(-np.log(np.array([0.9, 0.3, 0.3]))))
    tensors["theta_log"] = f.single(np.log(np.array([1e-30, 1.0, 2.0])))
    save_file({f"{PREFIX}.{key}": values for key, values in tensors.items()}, tmp_path / "lru.safetensors")
    plan = plan_reduce(tmp_path / "lru.safetensors", Request(modes=1))
    values = plan.changes[f"{PREFIX}.theta_log"]
    (stored,), _ = write_reduced(plan, tmp_path / "out.safetensors", command="test")
    assert np.isfinite(values).all()
    assert np.exp(values.astype(np.float32)) == 0
    assert stored.poles[0, 0].imag == 0
    assert 0 < stored.poles[0, 0].real < 1


def test_real_poles_stay_real(tmp_path: Path) -> None:
    """A block without A_imag holds real poles only; what is reduced has real poles, or the layer is refused."""
    rng = np.random.default_rng(3)
    H, N = 4, 6
    tensors = {
        "kernel.A_real": f.single(np.log(np.sort(rng.uniform(0.2, 3, (H, N)), axis=1))),
        "kernel.inv_dt": f.single(np.log(rng.uniform(0.05, 0.3, (H, 1)))),
        "kernel.B": f.single(np.ones((1, H, N))),
        "kernel.C": f.single(rng.uniform(0.5, 1, (1, H, N))),
        "D": f.single(np.ones((1, H))),
    }
    save_file({f"{PREFIX}.{key}": values for key, values in tensors.items()}, tmp_path / "real.safetensors")
    plan = plan_reduce(tmp_path / "real.safetensors", Request(tolerance=1e-3))
    layer = plan.layers[0]
    assert layer.stored[1] < N
    assert not layer.after.poles.imag.any()
    assert layer.certificate.relative.max() <= 1e-3
    (stored,), _ = write_reduced(plan, tmp_path / "out.safetensors", command="test")
    assert load_file(tmp_path / "out.safetensors")[f"{PREFIX}.kernel.C"].shape == (1, H, layer.stored[1])
    np.testing.assert_array_equal(stored.poles, layer.after.poles)
