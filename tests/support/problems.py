"""Systems whose response is known in closed form: each problem carries its own exact answer.

The exact G is written as a rational function from a textbook, never through poles and residues of the code under test.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssmspec.systems.statespace import StateSpace


@dataclass(frozen=True)
class Problem:
    """A system and its exact continuous response G(s) as (O, I)."""

    name: str
    system: StateSpace
    G: Callable[[complex], np.ndarray]


def build(poles: object, B: object, C: object, *, step: float = 0.1, **more: object) -> StateSpace:
    """A single copy from lists: poles (N,), B (N, I), C (O, N)."""
    poles, B, C = np.array(poles, complex), np.array(B, complex), np.array(C, complex)
    defaults = {"discretization": "zoh", "D": np.zeros((1, len(C), B.shape[1])), "step": np.array([[step]])}
    for letter in "PQ":
        if letter in more:
            more[letter] = np.array(more[letter], complex)[None]
    return StateSpace(name="layer", family="test", poles=poles[None], B=B[None], C=C[None], **{**defaults, **more})


def _second_order(m: float, b: float, k: float, name: str) -> Problem:
    """Mass, spring and damper 1/(m s^2 + b s + k): poles -b/2m +- i w_d, residues -+ i/(2 m w_d)."""
    damped = np.sqrt(k / m - (b / (2 * m)) ** 2)
    system = build([-b / (2 * m) + 1j * damped], [[1]], [[-0.5j / (m * damped)]])
    return Problem(name, system, lambda s: np.array([[1 / (m * s * s + b * s + k)]]))


def one_pole() -> Problem:
    """1/(s + 2): a real pole, stored once with half of its residue."""
    return Problem("one real pole", build([-2], [[1]], [[0.5]]), lambda s: np.array([[1 / (s + 2)]]))


def repeated_poles() -> Problem:
    """Two modes at the same pole: the residues add."""
    a, b = -0.3, 4.0
    system = build([a + 1j * b, a + 1j * b], [[1], [1]], [[0.5, 1.0]])
    return Problem("repeated poles", system, lambda s: np.array([[3 * (s - a) / ((s - a) ** 2 + b * b)]]))


def near_nyquist() -> Problem:
    """A pair whose frequency times the step is 0.9999 pi."""
    b = 0.9999 * np.pi / 0.1
    return Problem("near Nyquist", build([-0.2 + 1j * b], [[1]], [[0.5]]), lambda s: np.array([[(s + 0.2) / ((s + 0.2) ** 2 + b * b)]]))


def aliased() -> Problem:
    """A pair at 2.7 times the Nyquist frequency."""
    b = 2.7 * np.pi / 0.1
    return Problem("aliased poles", build([-1 + 1j * b], [[1]], [[0.5]]), lambda s: np.array([[(s + 1) / ((s + 1) ** 2 + b * b)]]))


def lightly_damped() -> Problem:
    """A pair with a quality factor of 5e5."""
    return Problem("lightly damped", build([-1e-5 + 10j], [[1]], [[0.5]]), lambda s: np.array([[(s + 1e-5) / ((s + 1e-5) ** 2 + 100)]]))


def multiple_inputs() -> Problem:
    """Two inputs and three outputs over two modes: a real pole and a damped pair."""

    def response(s: complex) -> np.ndarray:
        slow, pair, quadrature = 1 / (s + 0.5), (s + 1) / ((s + 1) ** 2 + 9), 3 / ((s + 1) ** 2 + 9)
        return np.array([[slow, 2 * pair], [0 * s, quadrature], [slow - pair, pair]])

    # the pair's matrix of residues has rank 2 and needs two coinciding modes
    system = build(
        [-0.5, -1 + 3j, -1 + 3j],
        [[1, 0], [1, 0], [0, 1]],
        [[0.5, 0, 1.0], [0, 0, -0.5j], [0.5, -0.5, 0.5]],
    )
    return Problem("two inputs, three outputs", system, response)


def low_rank() -> Problem:
    """Companion matrix of 1/((s + 1)(s^2 + 2 s + 5)) as a diagonal plus rank one: feedback q around two modes.

    With x' = a x - p 2 Re(conj(q) x) + b u and y = 2 Re(c x), closing the loop v = 2 Re(conj(q) x) around the open transfer functions gives
    G = G_cb - G_cp G_qb/(1 + G_qp), each a rational function written out below.
    """
    poles, B, C, P, Q = [-1, -1 + 2j], [[1], [1]], [[0.5, 0.5]], [[0.25], [0.5]], [[1], [-0.5j]]

    def pair(s: complex, residue: complex) -> complex:
        d = (s + 1) ** 2 + 4
        return 2 * (residue.real * (s + 1) - 2 * residue.imag) / d

    def response(s: complex) -> np.ndarray:
        real = 1 / (s + 1)
        g_cb = real + pair(s, 0.5 + 0j)
        g_cp = 0.25 * real + pair(s, 0.25 + 0j)
        g_qb = 2 * real + pair(s, 0.5j)
        g_qp = 0.5 * real + pair(s, 0.25j)
        return np.array([[g_cb - g_cp * g_qb / (1 + g_qp)]])

    return Problem("diagonal plus rank one", build(poles, B, C, P=P, Q=Q, discretization="bilinear"), response)


PROBLEMS = [
    one_pole(),
    _second_order(2.0, 0.3, 5.0, "mass, spring, damper"),
    repeated_poles(),
    near_nyquist(),
    aliased(),
    lightly_damped(),
    multiple_inputs(),
    low_rank(),
]


def random_system(rng: np.random.Generator, **choices: object) -> StateSpace:
    """A stable random system: K, N, I, O, R and the fields of StateSpace may be chosen."""
    sizes = {"K": 3, "N": 4, "I": 1, "O": 1, "R": 0} | {key: choices.pop(key) for key in list(choices) if key in "KNIOR"}
    K, N, I, O, R = (sizes[key] for key in "KNIOR")
    discretization = choices.pop("discretization", "bilinear" if R else "zoh")

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape) + 1j * rng.normal(size=shape)

    poles = -np.exp(rng.normal(size=(K, N))) + 1j * np.abs(rng.normal(size=(K, N))) * 5
    fields = {
        "poles": np.exp(0.1 * poles) if discretization == "direct" else poles,
        "B": normal(K, N, I),
        "C": normal(K, O, N),
        "D": rng.normal(size=(K, O, I)),
        "step": np.ones((K, 1)) if discretization == "direct" else np.exp(rng.uniform(-4, -1, size=(K, 1))),
        "discretization": discretization,
    }
    if R:
        fields["P"] = fields["Q"] = 0.3 * normal(K, N, R)
    return StateSpace(name="layer", family="test", **{**fields, **choices})
