"""Systems that hypothesis draws at the edge of double precision, and how many digits their reference needs."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from problems import random_system

from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.sobolev import CONVENTIONS, Sobolev
from ssmspec.systems.statespace import StateSpace

GRID = FrequencyGrid.default(24)
NYQUIST = np.pi


def _powers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high).map(lambda exponent: 10.0**exponent)


ANGLES = st.one_of(
    st.sampled_from([0.0, NYQUIST, NYQUIST * (1 - 1e-12), float(GRID.values[7]), float(GRID.values[20])]),  # on nodes, and beside them
    st.floats(0, NYQUIST),
    st.builds(lambda angle, turns: angle * turns, st.floats(0.5, NYQUIST), _powers(0, 11)),
)
DECAYS = st.one_of(_powers(-3, 1), _powers(-8, 2), _powers(-17, 4))
STEPS = st.sampled_from([1e-30, 1e-12, 1e-6, 1e-3, 0.1, 0.1, 0.1, 1.0, 1e3, 1e6, 1e12, 1e30])
SIZES = st.sampled_from([1.0, 1.0, 1.0, 1e30, 1e-30, 1e150, 1e-150, 1e300, 1e-300, 0.0])
PARTS = st.floats(-2, 2).map(lambda part: round(part, 3))  # of residues; zero is likely
WEIGHTS = st.builds(
    lambda beta, convention: Sobolev(
        np.array([beta]),
        convention,
        0.1 if convention in ("angular", "causal") else None,
        64 if convention in ("denoising", "waves") else None,
    ),
    st.sampled_from([-3.0, -0.5, 0.5, 1.0, 3.0, 300.0]),
    st.sampled_from(CONVENTIONS),
)


@st.composite
def extreme_systems(draw: st.DrawFn) -> StateSpace:
    """One copy with 1, 2, 3 or 5 modes: poles that may coincide with each other or a node, residues that may cancel, any size and step."""
    modes = draw(st.sampled_from([1, 2, 3, 5]))
    rule = draw(st.sampled_from(["zoh", "bilinear", "euler", "direct"]))
    decay, angle = np.array([[draw(DECAYS), draw(ANGLES)] for _ in range(modes)]).T
    residues = draw(SIZES) * np.array([draw(PARTS) + 1j * draw(PARTS) for _ in range(modes)])
    near = draw(st.sampled_from([None, None, 0.0, 1e-9])) if modes > 1 else None
    if near is not None:
        decay[1], angle[1] = decay[0] * (1 + near), angle[0]
        residues[1] = draw(st.sampled_from([residues[1], -residues[0], -residues[0] * (1 + 1e-10), -residues[0] * (1 + 1e-3)]))
    step = 1.0 if rule == "direct" else draw(STEPS)
    poles = (-decay + 1j * angle) / step
    if rule == "direct":
        poles = np.exp(-decay + 1j * (angle % NYQUIST))
    return StateSpace(
        name="layer",
        family="test",
        poles=np.where(poles.imag < 0, poles.conj(), poles)[None],
        B=np.ones((1, modes, 1), complex),
        C=residues[None, None],
        D=np.array([[[draw(st.sampled_from([0.0, 1.0, 1e30]))]]]),
        step=np.array([[step]]),
        discretization=rule,
        delay=draw(st.integers(0, 1)),
        sobolev=draw(st.one_of(st.none(), st.none(), st.none(), WEIGHTS)),
    )


@st.composite
def wide_systems(draw: st.DrawFn) -> StateSpace:
    """One copy with several inputs, outputs, or a low-rank part that may be strong, one-sided or nearly none; some poles lightly damped."""
    rank = draw(st.sampled_from([0, 1, 1, 2]))
    inputs, outputs = draw(st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 3)] if rank else [(1, 3), (2, 2), (3, 2), (4, 5)]))
    system = random_system(
        np.random.default_rng(draw(st.integers(0, 2**31))),
        **{"K": 1, "N": draw(st.integers(1, 4)), "I": inputs, "O": outputs, "R": rank},
        **({} if rank else {"discretization": draw(st.sampled_from(["zoh", "bilinear", "euler", "direct"]))}),
    )
    if system.discretization != "direct":
        damping = np.array([[draw(_powers(-8, 0)) for _ in range(system.modes)]])
        system = replace(system, poles=system.poles.real * damping + 1j * system.poles.imag, step=draw(STEPS) * np.ones((1, 1)))
    if rank:
        system = replace(system, P=system.P * draw(_powers(-4, 2)), Q=system.Q * draw(_powers(-4, 1)))
    return replace(system, C=system.C * draw(st.sampled_from([1.0, 1.0, 1e200, 1e-200])))


def digits_for(system: StateSpace) -> int:
    """Decimal digits that outlast what cancels in the definitions: 1 - |z|, angles of many turns, residues of different size."""
    turns = np.abs(system.poles * system.step)
    decay = -np.log(np.maximum(np.abs(system.poles), 1e-300)) if system.discretization == "direct" else -(system.poles.real * system.step)
    sizes = np.abs(system.C[system.C != 0])
    spread = np.log10(sizes.max()) - np.log10(sizes.min()) if sizes.size else 0
    return int(80 + 2 * max(0, -np.log10(decay.min())) + 2 * spread + 2 * max(0, np.log10(turns.max())))
