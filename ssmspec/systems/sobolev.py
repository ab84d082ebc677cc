"""The Sobolev weight of a layer (beta), in all conventions used by published code and papers.

| convention  | weight W(theta) |
| `lra`       | (1 + theta/(2 pi))^beta |
| `paper`     | (1 + theta/step)^beta |
| `angular`   | (1 + theta/theta_ref)^beta, the general form of these two |
| `denoising` | [w(k) + w(k - 1)]/2, w(k) = (1 + k/10^4)^beta, k = theta L/pi |
| `waves`     | [w(k) + w(L - k)]/2, and 1 at k = 0, with k = theta L/(2 pi) |
| `causal`    | [(1 - rho e^{-i theta})/(1 - rho)]^beta, rho = exp(-2 asinh(theta_ref/2)) |

Sources: arXiv 2410.02035, section 4.2, with s in rad per model time (`paper`); AnnanYu/FreqBiasSSM: the trainable `s` of
src/models/sequence/modules/s4block.py (`lra`), denoising.py (two-sided FFT of length 2L, mirrored), models/s4/s4d.py as waves.py uses it
(circular FFT of length L, not mirrored). `causal` is ours: minimum phase, and |W| is the Bessel potential of the norm of H^beta.
All others have zero phase, so the weighted output depends on later inputs. This is harmless in a bidirectional layer, but a leak in a
causal one.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError

FloatArray = npt.NDArray[np.float64]

Convention = Literal["lra", "paper", "angular", "denoising", "waves", "causal"]
CONVENTIONS: tuple[Convention, ...] = ("lra", "paper", "angular", "denoising", "waves", "causal")
RAMP = 1e4  # number of bins after which the ramps of the published scripts have doubled


@dataclass(frozen=True, slots=True)
class Sobolev:
    """A Sobolev weight on the dynamic part of the response.

    Args:
        beta: (K,) exponent of every copy, dimensionless.
        convention: see the table of the module.
        theta_ref: knee [rad/sample] of "angular" and "causal"; otherwise None.
        length: L [samples] for "denoising" and "waves", whose ramps count bins of an FFT; otherwise None.

    Raises:
        LayerError: the convention is unknown, or the theta_ref or length that it needs is missing or not positive.
    """

    beta: FloatArray
    convention: Convention
    theta_ref: float | None = None
    length: int | None = None

    def __post_init__(self) -> None:
        if self.convention not in CONVENTIONS:
            raise LayerError(f"the beta convention {self.convention!r} is unknown; choose one of {', '.join(CONVENTIONS)}")
        for needs, value, text in (
            (("angular", "causal"), self.theta_ref, "theta_ref in rad/sample"),
            (("denoising", "waves"), self.length, "the length of the sequences in samples"),
        ):
            if self.convention in needs and (value is None or not 0 < value < np.inf):
                raise LayerError(f"the beta convention {self.convention!r} needs {text}, a positive number, but got {value}")

    @property
    def causal(self) -> bool:
        """Whether the weighted response does not depend on later inputs."""
        return self.convention == "causal" or not self.beta.any()

    @property
    def zero_phase(self) -> bool:
        """Whether the weight is real."""
        return self.convention != "causal"

    def knee(self, step: FloatArray) -> FloatArray:
        """The frequency of every copy at which the weight changes from flat to a power of theta, (K, 1) [rad/sample]."""
        if self.convention == "paper":
            if step.shape[-1] != 1:
                raise LayerError(
                    "the beta convention 'paper' needs one step per copy, but this layer has one per mode; use 'angular' or 'lra'"
                )
            return np.broadcast_to(step, (len(self.beta), 1))
        return np.full((len(self.beta), 1), 2 * np.pi if self.convention == "lra" else self.theta_ref or RAMP / self._bins_per_radian)

    @property
    def knots(self) -> tuple[float, ...]:
        """Corners of the weight within 0..pi [rad/sample]: where one ramp of "denoising" starts, and where the other one stops."""
        if self.convention != "denoising" or self.length is None or self.length < 2:
            return ()
        return np.pi / self.length, np.pi - np.pi / self.length

    @property
    def _bins_per_radian(self) -> float:
        return (self.length or 1) / (np.pi if self.convention == "denoising" else 2 * np.pi)

    def weight(self, theta: FloatArray, step: FloatArray) -> npt.NDArray[Any]:
        """W at theta (1|K, F) [rad/sample] for copies with the given step; (K, F), real except for "causal"."""
        theta, beta = np.abs(theta), self.beta[:, None]
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return self._weight(theta, beta, step)

    def _weight(self, theta: FloatArray, beta: FloatArray, step: FloatArray) -> npt.NDArray[Any]:
        if self.convention == "causal":
            return np.exp(beta * (np.log(1 - self._rho * np.exp(-1j * theta)) - np.log1p(-self._rho)))
        if self.convention in ("denoising", "waves"):
            near, far = self._ramps(theta)
            weight = ((1 + near / RAMP) ** beta + (1 + far / RAMP) ** beta) / 2
            return np.where(theta == 0, 1.0, weight) if self.convention == "waves" else weight
        return np.asarray((1 + theta / self.knee(step)) ** beta)

    def gain(self, theta: FloatArray, step: FloatArray) -> FloatArray:
        """|W|, with the same arguments as `weight`."""
        return np.abs(self.weight(theta, step))

    def log_slope(self, theta: FloatArray, step: FloatArray) -> npt.NDArray[Any]:
        """W'/W at theta > 0 (1|K, F) [1/(rad/sample)]; (K, F), real except for "causal"."""
        beta = self.beta[:, None]
        if self.convention == "causal":
            turned = self._rho * np.exp(-1j * theta)
            return np.asarray(1j * beta * turned / (1 - turned))
        if self.convention in ("denoising", "waves"):
            near, far = (1 + ramp / RAMP for ramp in self._ramps(theta))
            rises, falls = self._directions(theta)
            slope = beta * (rises * near ** (beta - 1) + falls * far ** (beta - 1)) * self._bins_per_radian / RAMP
            return np.asarray(slope / (near**beta + far**beta))
        return np.asarray(beta / (self.knee(step) + theta))

    def pick(self, copies: Any) -> "Sobolev":
        """The weight of some copies."""
        return Sobolev(self.beta[copies], self.convention, self.theta_ref, self.length)

    @property
    def _rho(self) -> float:
        return float(np.exp(-2 * np.arcsinh((self.theta_ref or 1) / 2)))

    def _ramps(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The two bins at theta whose ramps a published script averages."""
        bins, length = theta * self._bins_per_radian, self.length or 1
        if self.convention == "denoising":
            return np.minimum(bins, length - 1), np.maximum(bins - 1, 0)
        return bins, length - bins

    def _directions(self, theta: FloatArray) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Slope of each of the two ramps, in bins per bin of theta; each ramp of `_ramps` is constant at one end."""
        bins, length = theta * self._bins_per_radian, self.length or 1
        if self.convention == "denoising":
            return bins < length - 1, bins > 1
        return np.ones_like(bins), -np.ones_like(bins)
