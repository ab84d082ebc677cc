"""What is asked of a reduction: a method, and a size or an accuracy."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from ssmspec.errors import SsmspecError
from ssmspec.systems.statespace import FloatArray

Method = Literal["balanced", "modal", "h2"]
Over = Literal["median", "p95", "all"]
QUANTILES: dict[Over, float] = {"median": 0.5, "p95": 0.95, "all": 1.0}
METHODS: tuple[Method, ...] = ("balanced", "modal", "h2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """How layers are reduced.

    Args:
        method: "balanced" truncation, "modal" truncation, or "h2" for H2-optimal poles and residues.
        tolerance: largest H-infinity error of a copy, relative to the H-infinity norm of its layer. modes: stored modes per copy.
            keep: the share of the stored modes that is kept. Exactly one of the three is given.
        over: the copies whose error must be below the tolerance: "all", or the "median" or 95th percentile ("p95") of them.
        own_sizes: whether layers may end with different numbers of modes.

    Raises:
        SsmspecError: none or several of the three are given, or a value is out of range.
    """

    method: Method = "balanced"
    tolerance: float | None = None
    modes: int | None = None
    keep: float | None = None
    over: Over = "all"
    own_sizes: bool = False

    def __post_init__(self) -> None:
        given = [name for name in ("tolerance", "modes", "keep") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(f"--{name}" for name in given) or "none of them"
            raise SsmspecError(f"give exactly one of --tolerance, --modes and --keep; given: {found}")
        for what, value, choices in (("method", self.method, METHODS), ("--over", self.over, QUANTILES)):
            if value not in choices:
                raise SsmspecError(f"{what} {value!r} is unknown; choose one of {', '.join(choices)}")
        if self.tolerance is not None and not 0 < self.tolerance < np.inf:
            raise SsmspecError(f"--tolerance is {self.tolerance}; expected a positive finite number")
        if self.modes is not None and self.modes < 1:
            raise SsmspecError(f"--modes is {self.modes}; expected at least 1")
        if self.keep is not None and not 0 < self.keep < 1:
            raise SsmspecError(f"--keep is {self.keep}; expected a share between 0 and 1")
        if self.tolerance is None and self.over != "all":
            raise SsmspecError("--over says which copies must meet a --tolerance; give that too, or leave --over out")

    def count(self, modes: int) -> int | None:
        """Modes to keep of so many; None if the tolerance decides."""
        if self.keep is not None:
            return max(1, round(self.keep * modes))
        return self.modes

    def met(self, errors: FloatArray) -> bool:
        """Whether relative errors (K,) are within the tolerance."""
        assert self.tolerance is not None
        return bool(np.isfinite(errors).all() and self.measure(errors) <= self.tolerance)

    def measure(self, errors: FloatArray) -> float:
        """The error that is compared with the tolerance, of those of all copies (K,)."""
        return float(np.quantile(errors, QUANTILES[self.over]))

    def document(self) -> dict[str, Any]:
        """The request as JSON values."""
        return asdict(self)
