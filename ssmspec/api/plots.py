"""The figures of a result: one method per picture of `ssmspec plot`."""

from collections.abc import Callable, Sequence
from typing import Any

from ssmspec.backends import choose_backend, load_backend
from ssmspec.errors import LayerError
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.system import System


class Plots:
    """Figures of some layers.

        >>> import ssmspec
        >>> result = ssmspec.analyze("sample_checkpoints/s4d_trained.safetensors")
        >>> figure = result[:1].plot.poles()
        >>> len(figure.axes) > 0
        True

    Every method takes `ax` (matplotlib Axes, or a sequence of them for a figure of several panels), `axis` ("theta", "cycles" or "omega")
    and `sample_rate` [Hz], where the figure has a frequency axis; `poles` takes `plane` ("s" or "z").
    Without `ax` it returns a new Figure, with it the axes.
    """

    def __init__(self, title: str, systems: Sequence[System], grid: FrequencyGrid, *, with_skip: bool) -> None:
        self._title, self._systems, self._grid, self._with_skip = title, tuple(systems), grid, with_skip

    def __dir__(self) -> list[str]:
        from ssmspec.report.figures import FIGURES

        return [name for name, kind in FIGURES.items() if kind.function is not None]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        from ssmspec.report.figures import FIGURES

        if name not in FIGURES or FIGURES[name].function is None:
            raise AttributeError(f"there is no figure {name!r}; choose one of {', '.join(dir(self))}")

        def draw(
            ax: Any = None,
            *,
            axis: str | None = None,
            sample_rate: float | None = None,
            title: str | None = None,
            plane: str | None = None,
        ) -> Any:
            return self._draw(name, ax, axis, sample_rate, title, plane)

        draw.__name__, draw.__doc__ = name, f"Draw {FIGURES[name].description}."
        return draw

    def _draw(self, name: str, ax: Any, axis: str | None, sample_rate: float | None, title: str | None, plane: str | None) -> Any:
        from typing import cast

        from ssmspec.report.figures import FIGURES
        from ssmspec.report.figures.poles import Plane
        from ssmspec.report.figures.style import styled
        from ssmspec.report.plot import Axis, PlotOptions, SpectraInTurn, drawable_systems, drawing_of, frequency_axis

        kind = FIGURES[name]
        options = PlotOptions(axis=cast("Axis | None", axis), sample_rate=sample_rate, plane=cast("Plane | None", plane))
        function = drawing_of(name, options)
        systems, _, reasons = drawable_systems(self._systems, kind)
        if not systems:
            raise LayerError(f"{self._title}: {reasons[0] if reasons else 'no layer is selected'}")
        engine = load_backend(choose_backend(0.0))
        spectra = SpectraInTurn(tuple(systems), self._grid, engine, self._with_skip and kind.skip)
        with styled():
            return function(spectra, frequency_axis(kind, options), self._title if title is None else title, ax=ax)
