"""What a state space and an explicit kernel both answer, compared with the kernel that each of them gives."""

from dataclasses import replace

import numpy as np
import pytest

from ssmspec.backends import load_backend
from ssmspec.commands.analyze import analyze_layer
from ssmspec.errors import LayerError
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.kernel import HeldKernel, KernelSystem
from ssmspec.systems.statespace import StateSpace
from ssmspec.systems.system import System


def state_space(rng: np.random.Generator, *, rank: int = 0) -> StateSpace:
    """Two outputs and three inputs; the second input and the first output are cut off."""
    K, N, O, I = 1, 4, 2, 3
    B, C = (rng.normal(size=shape) + 1j * rng.normal(size=shape) for shape in ((K, N, I), (K, O, N)))
    B[:, :, 1], C[:, 0] = 0, 0
    low_rank = {name: rng.normal(size=(K, N, rank)) + 1j * rng.normal(size=(K, N, rank)) for name in "PQ"} if rank else {}
    poles = -rng.uniform(0.2, 1, (K, N)) + 1j * rng.uniform(1, 9, (K, N))
    made = StateSpace(
        name="a", family="s4", poles=poles, B=B, C=C, D=np.zeros((K, O, I)), step=np.full((K, 1), 0.1), discretization="bilinear"
    )
    return replace(made, **low_rank)


def kernel(rng: np.random.Generator) -> KernelSystem:
    values = rng.normal(size=(1, 2, 3, 16))
    values[:, 0], values[:, :, 1] = 0, 0
    return KernelSystem(name="b", family="hyena", source=HeldKernel(values), shape=values.shape, D=np.zeros((1, 2, 3)))


@pytest.mark.parametrize("make", [state_space, kernel])
def test_both_answer_the_same_questions(make: object, rng: np.random.Generator) -> None:
    system: System = make(rng)  # type: ignore[operator]
    samples, grid = system.impulse(4096), FrequencyGrid.default(16)
    np.testing.assert_array_equal(system.acting(), samples.any(axis=3))
    transform = samples @ np.exp(-1j * np.arange(4096)[:, None] * grid.values)
    np.testing.assert_allclose(system.response(grid, load_backend("reference")).total, transform, atol=1e-8 * np.abs(transform).max())
    assert not any(bad.any() for bad, _ in system.not_finite().values())
    assert system.pick([0]).shape_text == system.detached(0).shape_text == system.shape_text
    arrays, _, _ = system.export()
    if system.no_poles:
        np.testing.assert_array_equal(arrays["kernel"][..., :16], samples[..., :16])
        with pytest.raises(LayerError, match="cannot be used here: the layer is an explicit kernel, which has no poles"):
            system.state_space()
    else:
        markov = arrays["C"] @ np.linalg.matrix_power(arrays["A"], 3) @ arrays["B"]
        np.testing.assert_allclose(markov, samples[..., 4], atol=1e-12)


def test_a_layer_cut_at_a_horizon_still_shows_its_poles(rng: np.random.Generator) -> None:
    system = state_space(rng, rank=1)
    growing = replace(system, poles=system.poles + 3.0)
    found = analyze_layer(growing, FrequencyGrid.default(16), load_backend("reference"), horizon=32)
    A = np.diag(growing.poles[0])
    P, Q = growing.P[0], growing.Q[0]
    full = np.block([[A - P @ Q.conj().T, -P @ Q.T], [-P.conj() @ Q.conj().T, A.conj() - P.conj() @ Q.T]])
    expected = np.linalg.eigvals(full)
    shown = found.poles[0][np.isfinite(found.poles[0])]
    assert len(shown) >= 4
    assert all(np.abs(expected - pole).min() < 1e-8 for pole in shown)
