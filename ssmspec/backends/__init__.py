"""Engines for the one numerical primitive of the package, the homogeneous Cauchy sum.

    S_km(x, y) = sum_n [ r_kmn/(i y - sigma_kn x) + conj(r_kmn)/(i y - conj(sigma_kn) x) ]

Every engine is a module with a function of this signature:

    cauchy_sum(residues (K, M, N), poles (K, N), x (1|K, F), y (1|K, F)) -> (K, M, F)

and its vector-Jacobian product, which also takes a cotangent (K, M, F) and returns the gradients of residues and poles,

    cauchy_vjp(residues, poles, x, y, cotangent) -> (K, M, N), (K, N)

Input and output are complex, in the precision of the poles; x and y are real and finite. M sums share the poles of their copy.
`reference` is the specification. The other engines must agree with it to within 8 times the effect of rounding every pole and node once,
both in float64 and in float32 (`precision` explains how much float32 loses at a resonance). An engine that cannot run on every machine has
a third function, obstacle() -> str | None, which returns what is missing. `autograd` combines `cpu` and `gpu` into one differentiable
PyTorch operator.
"""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy.typing as npt

from ssmspec.errors import BackendError

CauchySum = Callable[..., npt.NDArray[Any]]

BACKENDS: dict[str, str] = {
    "reference": "ssmspec.backends.reference",
    "cpu": "ssmspec.backends.cpu",
    "gpu": "ssmspec.backends.gpu",
}

# Number of pole-node pairs above which compiled code pays off against NumPy (about 5e7 pairs per second): it is loaded in 0.1 s. The first
# time on a machine it is compiled, which takes up to 10 s with the loops of statistics.
COMPILE_WORTHWHILE = 2e7


def load_backend(name: str) -> CauchySum:
    """The Cauchy sum of a named engine; raises the same errors as `load_engine`."""
    found: CauchySum = load_engine(name).cauchy_sum
    return found


def load_engine(name: str) -> ModuleType:
    """The module of a named engine.

    Raises:
        BackendError: there is no engine of that name, or it cannot run here because a package (for `gpu`, a CUDA device) is missing.
    """
    if name not in BACKENDS:
        raise BackendError(f"backend {name!r} is unknown; choose one of {', '.join(BACKENDS)}")
    try:
        engine = import_module(BACKENDS[name])
        missing = engine.obstacle() if hasattr(engine, "obstacle") else None
    except ImportError as error:
        raise BackendError(_refusal(name, str(error))) from error
    if missing:
        raise BackendError(_refusal(name, missing))
    return engine


def compiles(engine: CauchySum) -> bool:
    """Whether an engine is compiled code on the processor, so that other loops may be, too."""
    return getattr(engine, "__module__", "") == BACKENDS["cpu"]


def _refusal(name: str, reason: str) -> str:
    return f"backend {name!r} cannot run here ({reason}); choose one of {', '.join(other for other in BACKENDS if other != name)}"


def choose_backend(pairs: float) -> str:
    """The engine that finishes `pairs` pole-node pairs first, including its start-up time."""
    return "cpu" if pairs > COMPILE_WORTHWHILE else "reference"
