"""The options of an S4D layer, checked in one place."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from ssmspec.errors import LayerError
from ssmspec.nn.weighting import WITH_REFERENCE, Weighting
from ssmspec.systems.sobolev import CONVENTIONS, Convention

Layout = Literal["minimal", "s4-diag", "freqbias-block"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
DISCRETIZATIONS = ("zoh", "bilinear")
MOVED = {"minimal": "dt A C", "s4-diag": "dt A B C", "freqbias-block": "dt A C"}  # keys allowed in `lr`
MOVED_TOGETHER = {"minimal": "dt A", "s4-diag": "dt A B C", "freqbias-block": "dt A"}  # parameters to which a number for `lr` applies


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `ssmspec.nn.S4D`; documented there.

    Raises:
        LayerError: an option is unknown, out of range, or contradicts another.
    """

    d_model: int
    d_state: int
    layout: Layout
    alpha: float
    beta: float | None
    trainable_beta: bool | None
    beta_convention: Convention
    theta_ref: float | None
    discretization: Literal["zoh", "bilinear"]
    bidirectional: bool
    channels: int
    n_ssm: int | None
    l_max: int | None
    step_min: float
    step_max: float
    tie_step: bool
    dropout: float
    tie_dropout: bool | None
    lr: float | Mapping[str, float | None] | None
    lr_beta: float | None

    def __post_init__(self) -> None:
        _choice("layout", self.layout, LAYOUTS)
        _choice("discretization", self.discretization, DISCRETIZATIONS)
        _choice("beta_convention", self.beta_convention, CONVENTIONS)
        for name in ("d_model", "d_state", "channels"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, expected at least 1")
        _require(self.l_max is None or self.l_max >= 1, f"l_max is {self.l_max}, expected at least 1, or None")
        _require(math.isfinite(self.alpha) and self.alpha >= 0, f"alpha is {self.alpha}, expected a finite factor of at least 0")
        bounds = f"step_min and step_max are {self.step_min} and {self.step_max}"
        _require(0 < self.step_min <= self.step_max < math.inf, f"{bounds}; expected positive finite values, the smaller one first")
        _require(0 <= self.dropout < 1, f"dropout is {self.dropout}, expected at least 0 and less than 1")
        self._check_layout()
        self._check_beta()
        self._check_rates()

    def _check_layout(self) -> None:
        halves = self.layout == "freqbias-block" or self.d_state % 2 == 0
        _require(halves, f"d_state is {self.d_state}, but layout {self.layout} stores half of the state; choose an even number")
        _require(
            self.copies >= 1 and self.d_model % self.copies == 0, f"n_ssm is {self.n_ssm}, which does not divide d_model = {self.d_model}"
        )
        if self.layout == "minimal":
            plain = not self.bidirectional and self.copies == self.d_model and self.tie_step
            _require(plain, "layout minimal does not support bidirectional, n_ssm or tie_step=False; choose layout s4-diag")
        _require(
            self.channels == 1 or self.layout == "s4-diag", f"layout {self.layout} has one channel; choose s4-diag for {self.channels}"
        )

    def _check_beta(self) -> None:
        if self.layout == "freqbias-block":
            _require(self.beta_convention == "lra", "layout freqbias-block supports only beta_convention lra; choose another layout")
        _require(self.beta is None or math.isfinite(self.beta), f"beta is {self.beta}, expected a finite exponent, or None for no weight")
        needed = self.beta is not None and self.beta_convention in WITH_REFERENCE
        given = self.theta_ref is not None and 0 < self.theta_ref < math.inf
        _require(given or not needed, f"beta_convention {self.beta_convention} needs theta_ref, a positive knee in rad/sample")
        _require(needed or self.theta_ref is None, f"theta_ref needs a beta and one of the conventions {', '.join(WITH_REFERENCE)}")
        _require(self.weighted or not self.trainable_beta, "trainable_beta needs an initial value; give beta")
        tied = self.tie_step or not self.weighted or self.beta_convention != "paper"
        _require(tied, "beta_convention paper needs one step per copy; choose another one, or tie_step=True")

    def _check_rates(self) -> None:
        if isinstance(self.lr, Mapping):
            known = MOVED[self.layout].split()
            unknown = sorted(set(self.lr) - set(known))
            _require(not unknown, f"lr names {', '.join(unknown)}; layout {self.layout} has {', '.join(known)}")
        given = [*(self.lr.values() if isinstance(self.lr, Mapping) else [self.lr]), self.lr_beta]
        _require(all(rate is None or 0 <= rate < math.inf for rate in given), "learning rates must be finite and at least 0")

    @property
    def modes(self) -> int:
        """N, stored modes per copy."""
        return self.d_state if self.layout == "freqbias-block" else self.d_state // 2

    @property
    def copies(self) -> int:
        """S, independent sets of poles, which are assigned to the d_model channels in turn."""
        return self.d_model if self.n_ssm is None else self.n_ssm

    @property
    def weighted(self) -> bool:
        """Whether the layer has a beta."""
        return self.beta is not None or self.layout == "freqbias-block"

    @property
    def weighting(self) -> Weighting | None:
        """The convention of beta, or None without a beta."""
        return Weighting(self.beta_convention, self.theta_ref or 0.0) if self.weighted else None

    @property
    def moves_beta(self) -> bool:
        """Whether beta is a parameter rather than a buffer. The published block trains it."""
        trainable = self.layout == "freqbias-block" if self.trainable_beta is None else self.trainable_beta
        return trainable and self.lr_beta != 0

    @property
    def ties_dropout(self) -> bool:
        """Whether channels are dropped for all times at once."""
        return self.layout == "minimal" if self.tie_dropout is None else self.tie_dropout

    def rate(self, part: str) -> float | None:
        """The learning rate of dt, A, B or C; None means that of the other parameters."""
        if isinstance(self.lr, Mapping):
            return self.lr.get(part)
        return self.lr if part in MOVED_TOGETHER[self.layout].split() else None


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise LayerError(text)


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    _require(value in choices, f"{name} {value!r} is unknown; choose one of {', '.join(choices)}")
