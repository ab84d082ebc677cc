"""Frequencies and their axis."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ssmspec.errors import SsmspecError

FloatArray = npt.NDArray[np.float64]
Axis = Literal["theta", "omega"]

DEFAULT_POINTS = 1024
MOST_POINTS = 1_000_000
LOWEST_THETA = np.pi / 1024  # rad/sample; the low end of the grid on which statistics are defined


@dataclass(frozen=True, slots=True)
class FrequencyGrid:
    """F frequencies on one axis.

    Args:
        values: (F,) float64; theta [rad/sample] within [-pi, pi], or omega [rad per model time], any finite values.
        axis: "theta" or "omega".

    Raises:
        SsmspecError: not a vector, empty, not finite, or theta beyond Nyquist.
    """

    values: FloatArray
    axis: Axis

    def __post_init__(self) -> None:
        if self.values.ndim != 1 or self.values.size == 0:
            raise SsmspecError(f"frequencies have shape {self.values.shape}; expected a vector with at least one value")
        if not np.isfinite(self.values).all():
            raise SsmspecError("frequencies contain NaN or infinite values; expected finite ones")
        if self.axis == "theta" and np.abs(self.values).max() > np.pi:
            raise SsmspecError(f"theta reaches {np.abs(self.values).max():.6g} rad/sample; expected at most pi (Nyquist)")

    @classmethod
    def default(cls, points: int = DEFAULT_POINTS) -> "FrequencyGrid":
        """The grid of the statistics: log-spaced theta over [pi/1024, pi] rad/sample, pi itself included."""
        check_points(points)
        values = np.geomspace(LOWEST_THETA, np.pi, points)
        values[-1] = np.pi
        return cls(values, "theta")

    def nodes(self) -> tuple[FloatArray, FloatArray]:
        """Homogeneous nodes x, y of the Cauchy sum, each (1, F): (cos theta/2, sin theta/2), or (1, omega)."""
        if self.axis == "omega":
            return np.ones((1, self.values.size)), self.values[None, :]
        return theta_nodes(self.values[None, :])


def check_points(points: int) -> None:
    """Refuse grids that are too small to be useful or too large for memory.

    Raises:
        SsmspecError: fewer than 2 points, or more than MOST_POINTS.
    """
    if not 2 <= points <= MOST_POINTS:
        raise SsmspecError(f"a grid of {points} points was requested; expected at least 2 and at most {MOST_POINTS}")


def theta_nodes(theta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(cos theta/2, sin theta/2), exact at Nyquist."""
    half = theta / 2
    x = np.cos(half)
    np.copyto(x, 0.0, where=np.abs(half) == np.pi / 2)
    return x, np.sin(half)
