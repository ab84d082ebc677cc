"""The protocol that every layer answers, so that tables, documents, pictures and commands work for any of them."""

from collections.abc import Mapping
from dataclasses import Field
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from ssmspec.backends import CauchySum
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.response import FrequencyResponse
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import Assumed, FloatArray, StateSpace


class System(Protocol):
    """K copies of a linear layer with O outputs and I inputs: a `StateSpace` or a `KernelSystem`.

    Attributes:
        name, family, D, operating_point, assumptions, assumed: as for `StateSpace`.
        modes, rank, step, has_step, sobolev, decay_gate: likewise; 0, ones (K, 1), None and False where there are no poles.
        no_poles: why what lives on poles is absent; empty where there are poles.
        earliest_lag: the lag of the first sample of `impulse`; below 0 where outputs depend on later inputs.
        sized_in, shape_text, zeros: words for what copies consist of, for how much of it there is, and for a copy without a response.
        form: what only such layers have, as keywords of `ssmspec.statistics.LayerAnalysis`.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def D(self) -> FloatArray: ...  # noqa: N802  # the letter of the papers
    @property
    def operating_point(self) -> str | None: ...
    @property
    def assumptions(self) -> tuple[str, ...]: ...
    @property
    def assumed(self) -> tuple[Assumed, ...]: ...
    @property
    def copies(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    @property
    def inputs(self) -> int: ...
    @property
    def modes(self) -> int: ...
    @property
    def rank(self) -> int: ...
    @property
    def step(self) -> FloatArray: ...
    @property
    def has_step(self) -> bool: ...
    @property
    def sobolev(self) -> Sobolev | None: ...
    @property
    def decay_gate(self) -> bool: ...
    @property
    def no_poles(self) -> str: ...
    @property
    def earliest_lag(self) -> int: ...
    @property
    def sized_in(self) -> str: ...
    @property
    def shape_text(self) -> str: ...
    @property
    def zeros(self) -> str: ...
    @property
    def form(self) -> Mapping[str, Any]: ...

    def response(self, grid: FrequencyGrid, cauchy_sum: CauchySum, *, with_beta: bool = True) -> FrequencyResponse:
        """The response of every copy, (K, O, I, F)."""

    def impulse(self, length: int) -> FloatArray:
        """The kernel of every copy, (K, O, I, length), without D and beta."""

    def acting(self) -> npt.NDArray[np.bool_]:
        """Which inputs of a copy reach which of its outputs, (K, O, I), D apart."""

    def not_finite(self) -> dict[str, tuple[npt.NDArray[np.intp], int]]:
        """By quantity, how many values of every copy are NaN or infinite, (K,), and how many values all copies have."""

    def state_space(self) -> StateSpace:
        """The layer itself where it has poles.

        Raises:
            LayerError: it has none; the message says why.
        """

    def export(self) -> tuple[dict[str, FloatArray], dict[str, Any], list[str]]:
        """What other tools take: arrays with the copies as their first axis, words that go with them, and notes on both."""

    def pick(self, copies: Any) -> Self:
        """Some copies, selected by a slice or by index, as a separate system."""

    def copy_slice(self, start: int, stop: int) -> Self:
        """The copies start..stop-1 as a separate system."""

    def detached(self, copy: int) -> Self:
        """One copy that holds its own numbers: a view would keep the whole layer in memory."""
