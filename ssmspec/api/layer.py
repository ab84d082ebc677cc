"""One analyzed layer as the public functions hand it out."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.backends import choose_backend, load_backend
from ssmspec.errors import LayerError, needed
from ssmspec.statistics import HALF_LIFE, HEADLINES, Curve, LayerAnalysis, Summary, TokenBand
from ssmspec.systems.grid import FloatArray, FrequencyGrid
from ssmspec.systems.statespace import ComplexArray
from ssmspec.systems.system import System


class Layer:
    """A layer of a model: what it is, its statistics by name, and what it does to any signal.

        >>> import ssmspec
        >>> layer = ssmspec.analyze("sample_checkpoints/s4d_trained.safetensors")[0]
        >>> layer.name, layer.family, layer.copies
        ('s4_layers.0', 's4d', 16)
        >>> round(layer["bias_slope"].median, 2)
        -1.05

    Statistics are `Summary` objects: the median over copies, the 5th and 95th percentile, the unit, and the reason where there is no value.
    """

    def __init__(self, found: LayerAnalysis, system: System) -> None:
        self._found = found
        self._system = system

    @property
    def name(self) -> str:
        """Its name in the checkpoint."""
        return self._found.name

    @property
    def index(self) -> int:
        """Its index among all layers of the checkpoint."""
        return self._found.index

    @property
    def family(self) -> str:
        """The family whose layout it has, a key of `ssmspec.FAMILIES`."""
        return self._found.family

    @property
    def copies(self) -> int:
        """K, the number of independent systems in it, such as channels or heads."""
        return self._found.copies

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What no tensor tells and was assumed, in words."""
        return self._found.assumptions

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual or was skipped, in words."""
        return self._found.notes

    @property
    def problem(self) -> str | None:
        """Why its numbers cannot be trusted, or None. With a problem, every statistic is null."""
        return self._found.problem

    @property
    def over_tokens(self) -> TokenBand | None:
        """Between which half-lives its copies move over the tokens of a calibration, `half_lives` (3, K); None without one."""
        return self._found.over_tokens

    @property
    def system(self) -> System:
        """Its `StateSpace` with all copies, or the explicit kernel of a layer that has no poles."""
        return self._system

    @property
    def poles(self) -> ComplexArray:
        """(K, N) poles of the upper half plane; in the s-plane if the layer has a step, otherwise in the z-plane."""
        return self._found.poles

    @property
    def curve(self) -> Curve | None:
        """Median |H| and the 5..95 % band over copies, each (F,), on the grid of the analysis; None with a problem."""
        return self._found.curve

    @property
    def statistics(self) -> Mapping[str, Summary]:
        """Its statistics by name, each computed when it is first asked for."""
        return self._found.statistics

    def values(self, name: str) -> FloatArray:
        """The values of a statistic of every copy, (K,), NaN where a copy has none.

        Raises:
            KeyError: there is no such statistic, or it was not chosen.
        """
        if name not in self:
            raise KeyError(name)
        return np.array(self._found.values.get(name, np.full(self.copies, np.nan)))

    def __getitem__(self, name: str) -> Summary:
        return self._found.statistics[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found.statistics)

    def __len__(self) -> int:
        return len(self._found.statistics)

    def __contains__(self, name: object) -> bool:
        return name in self._found.statistics

    def response(self, theta: npt.ArrayLike, *, with_skip: bool = True) -> ComplexArray:
        """The complex frequency response of every copy, (K, O, I, F), beta weight included.

        Of a copy whose poles grow it is the transfer function on the unit circle, not the spectrum of its kernel, and of one with values
        that are not finite it is NaN; `problem` and `notes` name such copies.

        Args:
            theta: (F,) frequencies in [-pi, pi] [rad/sample].
            with_skip: include D.
        Raises:
            LayerError: the response would take more memory than there may be. SsmspecError: theta beyond Nyquist.
        """
        grid = FrequencyGrid(np.atleast_1d(np.asarray(theta, float)), "theta")
        system = self._system
        sums = system.copies * max(1, system.modes) * min(system.inputs * system.outputs, 4 * max(1, system.modes))
        found = system.response(grid, load_backend(choose_backend(float(sums * grid.values.size))))
        return found.total if with_skip else found.dynamic

    def impulse(self, length: int) -> FloatArray:
        """The first samples of the convolution kernel of every copy, without D and beta, (K, O, I, length)."""
        return self._system.impulse(length)

    def to_scipy(self, copy: int = 0) -> Any:
        """One copy as `scipy.signal.StateSpace` with dt = 1 sample, D included.

        Raises:
            LayerError: there is no such copy, or the layer has no poles.
        """
        from scipy import signal

        return signal.StateSpace(*self._matrices(copy), dt=1.0)

    def to_control(self, copy: int = 0) -> Any:
        """One copy as `control.StateSpace` with dt = 1 sample, D included; needs python-control.

        Raises:
            SsmspecError: python-control is not installed. LayerError: there is no such copy, or the layer has no poles.
        """
        control = needed("control", "to_control()")
        return control.StateSpace(*self._matrices(copy), 1.0)

    def _matrices(self, copy: int) -> list[FloatArray]:
        if not 0 <= copy < self.copies:
            raise LayerError(f"layer {self.name} has no copy {copy}; choose one of 0..{self.copies - 1}")
        if self._system.no_poles:
            raise LayerError(f"layer {self.name} has no state matrices: {self._system.no_poles}; impulse() gives its kernel")
        arrays, _, _ = self._system.pick(slice(copy, copy + 1)).export()
        return [arrays[name][0] for name in "ABCD"]

    def to_dict(self) -> dict[str, Any]:
        """The layer as in `layers` of the JSON document (schema ssmspec.analyze/1)."""
        from ssmspec.report.documents.analyze import layer_document

        return layer_document(self._found)

    def __repr__(self) -> str:
        return f"<Layer {self.summary()}>"

    def summary(self) -> str:
        """The layer in one line: its name, family, size and headline statistics."""
        head = f"{self.name}: {self.family}, {self._found.shape_text}"
        if self.problem:
            return f"{head}; no numbers: {self.problem}"
        return "; ".join([head, *(_shown(name, self[name]) for name in self._headlines())])

    def _headlines(self) -> Iterator[str]:
        wanted = (HALF_LIFE, HEADLINES[1]) if self._found.half_lives is not None else HEADLINES
        return (name for name in wanted if name in self)


def _shown(name: str, value: Summary) -> str:
    if value.median is None:
        return f"{name} none"
    return f"{name} {value.median:.3g}" + (f" {value.unit}" if value.unit else "")
