"""The layers of a live model and their statistics at one step: like `ssmspec.commands.analyze`, but without a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from ssmspec.backends import CauchySum, choose_backend, load_backend
from ssmspec.commands.analyze import AnalysisOptions, analyze_layer, pairs_of
from ssmspec.errors import LayerError, SsmspecError
from ssmspec.families import Detection
from ssmspec.families.layers import ReadLayer, block_of, find_layers, select_layers, try_layers
from ssmspec.families.provenance import Attached
from ssmspec.files.reading import one_line
from ssmspec.nn.live import LiveModel, beta_weights, with_weight
from ssmspec.statistics import STATISTICS, LayerAnalysis, Measurement, Skipped, unavailable
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.system import System
from ssmspec.systems.trust import assess

MEASUREMENTS = 20  # least number assumed per run, when deciding whether compiling an engine pays off
REHEARSAL = 16  # points of a small grid for a first pass, so that no timed measurement imports or compiles anything

Weights = Callable[[], Mapping[str, Sobolev]]


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer as it was found: its first copy, and the analysis that is reported when it has no usable numbers."""

    sample: System
    blank: LayerAnalysis


class Probe:
    """The chosen layers of a model. They are found once, and can then be read and measured any number of times.

    Args:
        model: see `LiveModel`.
        options: as for `analyze`.
        statistics: names of `STATISTICS`.
        weights: beta of layers whose tensors do not hold it, by name. The beta of `ssmspec.nn.S4D` is known.

    Raises:
        SsmspecError: as `analyze`, except that a layer whose numbers cannot be trusted is no error. LayerError: also for sharded models.
    """

    def __init__(self, model: nn.Module, options: AnalysisOptions, statistics: Sequence[str], weights: Weights | None) -> None:
        self.source = LiveModel(model, options.read.config)
        self.options, self.statistics, self._weights = options, tuple(statistics), weights
        self.grid = FrequencyGrid.default(options.points)
        if options.backend:
            load_backend(options.backend)
        with self.source.snapshot():
            self._detection = find_layers(self.source, options.family, options.read)
            self._originals = self.source.originals(self._detection.layers)
            found, self.skipped = self._read()
            if not found:
                raise LayerError(f"{self.source.path}: {next(item.reason for item in self.skipped if item.kind == 'unread')}")
            systems = [system for layer in found for system in layer.systems]
            chosen = select_layers(systems, options.layers, self.source)
            self.layers = [self._layer(system, next(i for i, each in enumerate(systems) if each is system)) for system in chosen]
        self.backend = options.backend or choose_backend(MEASUREMENTS * sum(pairs_of(system, options.points) for system in chosen))
        kept = [layer.tensors for layer in found if any(system is each for system in layer.systems for each in chosen)]
        self._detection, self._originals = Detection(tuple(kept), ()), [layer.name for layer in kept]

    def _layer(self, system: System, index: int) -> _Layer:
        sample = system.detached(int(next(iter(assess(system).sound), 0)))
        nothing = replace(sample, D=np.full_like(sample.D, np.nan))
        blank = analyze_layer(nothing, self.grid, load_backend("reference"), chosen=self.statistics)
        return _Layer(sample, replace(blank, index=index, copies=system.copies, faults=()))

    def rehearse(self) -> list[LayerAnalysis]:
        """Do everything once, for one copy of every layer and few points, so that imports and compilation are done."""
        engine, grid = load_backend(self.backend), FrequencyGrid.default(REHEARSAL)
        return [self._analyze(layer, layer.sample, grid, engine) for layer in self.layers]

    def settle(self) -> None:
        """Wait for pending work of the devices, so that it does not count as time spent on measuring."""
        accelerator = torch.accelerator.current_accelerator()
        for device in {parameter.device for parameter in self.source.model.parameters()}:
            if accelerator is not None and device.type == accelerator.type:
                torch.accelerator.synchronize(device)

    def measure(self, step: int) -> Measurement:
        """The statistics of every layer as it is now, over its sound copies. A layer without sound copies has a reason instead."""
        engine = load_backend(self.backend)
        layers = []
        with self.source.snapshot():  # explicit kernels are read while they are analyzed
            found, skipped = self._read()
            systems = {system.name: system for layer in found for system in layer.systems}
            reasons = {item.name: item.reason for item in skipped}
            for layer in self.layers:
                name = layer.sample.name
                if name in systems:
                    layers.append(self._analyze(layer, systems[name], self.grid, engine))
                else:
                    layers.append(_withheld(layer.blank, reasons.get(block_of(name, reasons), "the layer no longer exists")))
        return Measurement(
            step=step,
            backend=self.backend,
            grid=self.grid,
            with_skip=self.options.with_skip,
            layers=tuple(layers),
            skipped=tuple(self.skipped),
        )

    def _read(self) -> tuple[list[ReadLayer], list[Skipped]]:
        """The layers as they are now, and what was skipped."""
        found, skipped = try_layers(self.source, self._detection, self.options.read, Attached({}), self._originals)
        weights = {**beta_weights(self.source.model, self.options.read.length), **(self._weights() if self._weights else {})}
        weighted = [replace(layer, systems=tuple(with_weight(system, weights) for system in layer.systems)) for layer in found]
        return weighted, skipped

    def _analyze(self, layer: _Layer, system: System, grid: FrequencyGrid, engine: CauchySum) -> LayerAnalysis:
        try:
            found = analyze_layer(system, grid, engine, with_skip=self.options.with_skip, chosen=self.statistics)
        except Exception as error:  # whatever error the numbers of a diverging run cause, the run must continue
            return _withheld(layer.blank, one_line(f"{type(error).__name__}: {error}", 200))
        return replace(found, index=layer.blank.index)


def _withheld(layer: LayerAnalysis, reason: str) -> LayerAnalysis:
    return replace(layer, problem=reason, statistics={name: unavailable(value.unit, reason) for name, value in layer.statistics.items()})


def check_statistics(names: Sequence[str]) -> None:
    """Refuse names that are not statistics.

    Raises:
        SsmspecError: the message names the first of them.
    """
    for name in names:
        if name not in STATISTICS:
            raise SsmspecError(f"the statistic {name!r} is unknown; choose some of {', '.join(STATISTICS)}")
