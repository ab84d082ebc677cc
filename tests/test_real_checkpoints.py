"""Ground truth: kernels that the original code of the models computed in float64 from public trained checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ssmspec.backends import load_backend
from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.errors import NoLayerError
from ssmspec.families import ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.response import frequency_response, impulse_response

THETA = np.linspace(0, np.pi, 301)


@dataclass(frozen=True)
class Case:
    """A layer of a checkpoint, its reference file, and how the reference was made."""

    checkpoint: str
    layer: str
    reference: str
    options: ReadOptions
    channel: int | None = None
    with_skip: bool = False


def _pairs(folder: str, file: str, layers: str, **more: object) -> list[Case]:
    return [Case(f"{folder}/{file}", layers.format(n), f"{folder}/reference_layer{n}.npz", ReadOptions(), **more) for n in (0, 3)]


PRE_UPDATE = ReadOptions(assume={"lru_convention": "pre-update"})
CASES = [
    *_pairs("s4d-cifar-cnstanlee", "cnstanlee_s4_cifar10.pth", "s4_layers.{}"),
    *_pairs("s4-dplr-v4-ppg", "ppg100HZ_ckpt.pth", "s4_layers.{}.layer"),
    *_pairs("s4-nplr-v2-bidir", "ckpt.pth", "module.s4_layers.{}:forward", channel=0),
    *_pairs("s4-nplr-v2-bidir", "ckpt.pth", "module.s4_layers.{}:backward", channel=1),
    *(
        Case(
            "s5-flax-cifar-choi/checkpoint_25",
            "encoder.layers_0.seq",
            f"s5-flax-cifar-choi/reference_layer0_{rule}.npz",
            ReadOptions(assume={"discretization": rule}),
            with_skip=True,
        )
        for rule in ("zoh", "bilinear")
    ),
    Case(
        "lru-decodepfl/checkpoint_epoch_99999.pth",
        "blocks.2.lru",
        "lru-decodepfl/reference_checkpoint_epoch_99999_block2.npz",
        PRE_UPDATE,
        with_skip=True,
    ),
    Case(
        "lru-decodepfl/trained_models_lru.pth",
        "SSM_0_state_dict.blocks.0.lru",
        "lru-decodepfl/reference_trained_models_lru_block0.npz",
        PRE_UPDATE,
        with_skip=True,
    ),
]
case = pytest.mark.parametrize("case", CASES, ids=lambda c: f"{Path(c.reference).parent.name}:{c.layer}:{Path(c.reference).stem}")
Find = Callable[[str], Path]


@case
def test_impulse_equals_the_reference_kernel(case: Case, real_checkpoints: Find) -> None:
    system = load_system(real_checkpoints(case.checkpoint), case.layer, case.options)
    wanted = np.load(real_checkpoints(case.reference), allow_pickle=False)["kernel"]
    wanted = wanted if case.channel is None else wanted[case.channel]
    found = impulse_response(system, wanted.shape[-1])
    if case.with_skip:
        found[..., 0] += system.D
    found = found[0] if system.copies == 1 else found[:, 0, 0]
    assert np.abs(found - wanted).max() < 1e-10 * np.abs(wanted).max()


def closed_form(case: Case, z: np.ndarray, reference: dict[str, np.ndarray]) -> np.ndarray:
    """The response from the A, B, C, dt that the reference holds, by a dense solve where the state matrix is not diagonal."""
    get = reference.get
    if case.checkpoint.startswith("lru"):
        phi = 1 / (z - get("A")[:, None])  # one sample of delay
        pairs = (
            np.einsum("on,nf,ni->oif", get("C"), phi, get("B")),
            np.einsum("on,nf,ni->oif", get("C").conj(), 1 / (z - get("A").conj()[:, None]), get("B").conj()),
        )
        return 0.5 * (pairs[0] + pairs[1]) + get("D")[..., None]
    if case.checkpoint.startswith("s5"):
        return (
            _diagonal(get("A"), get("dt"), get("B"), get("C"), z, str(case.options.assume["discretization"])) + np.diag(get("D"))[..., None]
        )
    if case.checkpoint.startswith("s4d"):
        rows = [
            _diagonal(a, dt, np.ones((len(a), 1)), c[None], z, "zoh")[0, 0] for a, dt, c in zip(get("A"), get("dt"), get("C"), strict=True)
        ]
        return np.array(rows)
    return _dense(case, z, reference)


def _diagonal(A, dt, B, C, z, rule) -> np.ndarray:
    zoh = rule == "zoh"
    poles = np.exp(A * dt) if zoh else (1 + A * dt / 2) / (1 - A * dt / 2)
    gain = (poles - 1) / A if zoh else dt / (1 - A * dt / 2)

    def half(poles, B, C, gain):
        return np.einsum("on,nf,ni->oif", C, 1 / (1 - poles[:, None] / z), gain[:, None] * B)

    return half(poles, B, C, gain) + half(poles.conj(), np.conj(B), C.conj(), gain.conj())


def _dense(case: Case, z: np.ndarray, reference: dict[str, np.ndarray]) -> np.ndarray:
    get = reference.get
    length = int(get("L") if get("L") is not None else get("l_kernel"))
    C_stored = get("C_stored")[case.channel or 0]
    conjugate_q = case.channel is None  # v4 stores P with Q = conj P in its notation; v2 stores Q as conj already
    rows = []
    for h in range(0, len(C_stored), 16):
        P, Q = get("P")[0, h], get("Q")[0, h]
        Q = np.conj(P) if conjugate_q else Q
        both = [np.concatenate([part, part.conj()]) for part in (get("A_diag")[h], P, Q, get("B")[0, h], C_stored[h])]
        A = np.diag(both[0]) - np.outer(both[1], both[2])
        n, dt = len(A), float(get("dt").reshape(len(C_stored), -1)[h, 0])
        forward = np.linalg.inv(np.eye(n) - dt / 2 * A)
        step, source = forward @ (np.eye(n) + dt / 2 * A), forward @ (dt * both[3])
        C = np.linalg.solve((np.eye(n) - np.linalg.matrix_power(step, length)).T, both[4])
        rows.append([C @ np.linalg.solve(np.eye(n) - step / value, source) for value in z])
    return np.array(rows)


@case
def test_response_equals_the_closed_form_of_the_reference(case: Case, real_checkpoints: Find) -> None:
    system = load_system(real_checkpoints(case.checkpoint), case.layer, case.options)
    with np.load(real_checkpoints(case.reference), allow_pickle=False) as file:
        reference = {key: file[key] for key in ("dt", "A", "A_diag", "P", "Q", "B", "C", "C_stored", "D", "L", "l_kernel") if key in file}
    H = frequency_response(system, FrequencyGrid(THETA, "theta"), load_backend("reference"))
    found = (H.total if case.with_skip else H.dynamic)[0] if system.copies == 1 else H.dynamic[:, 0, 0]
    wanted = closed_form(case, np.exp(1j * THETA), reference)
    found = found[::16] if "C_stored" in reference else found
    assert np.abs(found - wanted).max() < 1e-10 * np.abs(wanted).max()


def test_mamba_poles_and_steps_equal_the_reference(real_checkpoints: Find) -> None:
    system = load_system(real_checkpoints("mamba1-pfn-felix/mamba_custom.cpkt"), "mamba_backbone.blocks.1.mixer", ReadOptions())
    with np.load(real_checkpoints("mamba1-pfn-felix/reference_mamba_custom.npz")) as file:
        A = file["mamba_backbone.blocks.1.mixer.A=-exp(A_log)"]
        delta = file["mamba_backbone.blocks.1.mixer.dt_proj.bias|dt0=softplus"]
    np.testing.assert_allclose(system.poles, A, rtol=1e-6)
    np.testing.assert_allclose(system.step[:, 0], delta, rtol=1e-6)


@pytest.mark.parametrize("name", ["lru-decodepfl/checkpoint_epoch_4999.pth", "lru-decodepfl/best_model.pth"])
def test_cells_that_only_look_like_lrus_are_refused(name: str, real_checkpoints: Find) -> None:
    with pytest.raises(NoLayerError, match=r"blocks\.0\.lru: nearest family lru: missing nu_log"):
        analyze(real_checkpoints(name))


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("s4d-cifar-cnstanlee/cnstanlee_s4_cifar10.pth", 4),
        ("s4-dplr-v4-ppg/ppg100HZ_ckpt.pth", 4),
        ("s4-nplr-v2-bidir/ckpt.pth", 8),
        ("s5-flax-cifar-choi/checkpoint_25", 1),
        ("lru-decodepfl/checkpoint_epoch_55999.pth", 2),
        ("lru-decodepfl/trained_models_lru.pth", 14),
        ("mamba1-pfn-felix/mamba_test_model.cpkt", 8),
    ],
)
def test_analyze_gives_every_layer_a_bias_slope_and_a_center_frequency(name: str, layers: int, real_checkpoints: Find) -> None:
    found = analyze(real_checkpoints(name), AnalysisOptions(points=64))
    assert len(found.layers) == layers
    for layer in found.layers:
        assert layer.problem is None
        assert layer.statistics["bias_slope"].median is not None
        assert layer.statistics["center_frequency"].median is not None
