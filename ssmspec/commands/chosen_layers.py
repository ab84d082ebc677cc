"""The layers of a checkpoint that a command works on, read once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ssmspec.checkpoint import Checkpoint
from ssmspec.checkpoint.remote.path import Location
from ssmspec.families import LayerTensors, ReadOptions
from ssmspec.families.layers import find_layers, open_for_layers, read_layers, readable_layers, select_layers
from ssmspec.statistics import Skipped
from ssmspec.systems.system import System


@dataclass(frozen=True, slots=True)
class ChosenLayers:
    """The selected layers of an open checkpoint.

    Args:
        systems: in model order. places: the index of each among all layers of the checkpoint. skipped: what was not read.
        tensors: the stored tensors of every layer that was read, by the names of its systems.
    """

    checkpoint: Checkpoint
    systems: tuple[System, ...]
    places: tuple[int, ...]
    skipped: tuple[Skipped, ...]
    tensors: Mapping[str, LayerTensors]


def choose_layers(
    path: Location | str | Checkpoint, wanted: Sequence[str], family: str | None, read: ReadOptions, *, needed: bool = False
) -> ChosenLayers:
    """Read the selected layers of a checkpoint, which may be open already.

    Args:
        wanted: exact names, globs or indices; empty selects all. family, read: as in `AnalysisOptions`.
        needed: whether it is an error if no layer can be read.
    Raises:
        CheckpointError: the file cannot be read. NoLayerError: it holds no SSM layer. LayerError: none is selected, or needed and read.
    """
    checkpoint = open_for_layers(path, read)
    look = read_layers if needed else readable_layers
    layers, skipped = look(checkpoint, find_layers(checkpoint, family, read), read)
    everything = [system for layer in layers for system in layer.systems]
    places = {id(system): place for place, system in enumerate(everything)}
    systems = select_layers(everything, wanted, checkpoint, skipped) if everything else []
    tensors = {system.name: layer.tensors for layer in layers for system in layer.systems}
    return ChosenLayers(checkpoint, tuple(systems), tuple(places[id(system)] for system in systems), tuple(skipped), tensors)
