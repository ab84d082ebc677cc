"""The figures of a probe: one method per picture of `ssmspec probe --plot`."""

from collections.abc import Sequence
from typing import Any

from ssmspec.errors import SsmspecError
from ssmspec.statistics.frequency_sensitivity import Probed


class ProbePlots:
    """Figures of one probe, or S of several on one axis.

    Every method takes `ax` (matplotlib Axes, or a sequence of them) and `title`. Without `ax` it returns a new Figure, with it the axes.
    """

    def __init__(self, found: Sequence[Probed]) -> None:
        self._found = tuple(found)

    @property
    def _first(self) -> Probed:
        return self._found[0]

    def sensitivity(self, ax: Any = None, *, sample_rate: float | None = None, title: str | None = None) -> Any:
        """S over theta, or over frequency [Hz] with a sample rate."""
        from ssmspec.report.figures.probe import sensitivity_figure
        from ssmspec.report.figures.style import FrequencyAxis, styled

        if not self._first.places:
            raise SsmspecError(f"{self._first.path}: no place was measured, so there is nothing to draw")
        models = [(found.path, found) for found in self._found]
        with styled():
            return sensitivity_figure(models, FrequencyAxis.at_rate(sample_rate), self._title(title), ax=ax)

    def features(self, ax: Any = None, *, title: str | None = None) -> Any:
        """Relative log amplitude of what every block gives, a curve per block."""
        from ssmspec.report.figures.probe import features_figure
        from ssmspec.report.figures.style import styled

        self._need_features()
        with styled():
            return features_figure(self._first.features, self._title(title), ax=ax)

    def depth(self, ax: Any = None, *, title: str | None = None) -> Any:
        """Relative log amplitude as a heat map over depth."""
        from ssmspec.report.figures.probe import depth_figure
        from ssmspec.report.figures.style import styled

        self._need_features()
        with styled():
            return depth_figure(self._first.features, self._title(title), ax=ax)

    def robustness(self, kind: str | None = None, ax: Any = None, *, title: str | None = None) -> Any:
        """The metric under disturbances by band, above S. `kind`: "noise" or "attack"; the first by default."""
        from ssmspec.report.figures.probe import robustness_figure
        from ssmspec.report.figures.style import styled

        usable = [each for each in self._first.robustness if kind in (None, each.kind)]
        if not usable:
            raise SsmspecError("no robustness was measured; ask for it with noise or attack")
        place = next(iter(self._first.places), None)
        with styled():
            return robustness_figure(usable[0], place, self._title(title), ax=ax)

    def layers(self, analysis: Any, ax: Any = None, *, title: str | None = None) -> Any:
        """S of the model above the median |H| of the layers of `ssmspec.analyze` of the same model."""
        from ssmspec.report.figures.probe import layers_figure
        from ssmspec.report.figures.style import styled

        layers = [layer._found for layer in analysis]
        with styled():
            return layers_figure(self._first, layers, analysis.grid.values, self._title(title), ax=ax)

    def _need_features(self) -> None:
        if not self._first.features:
            raise SsmspecError("no spectra of features were measured; ask for them with axes='L' or 'HW' and layers")

    def _title(self, title: str | None) -> str:
        return title if title is not None else " and ".join(found.path for found in self._found[:3])
