"""What an analysis keeps of the layers that it has done."""

import numpy as np
from locations import SAMPLES

from ssmspec.commands.analyze import AnalysisOptions, analyze_chosen
from ssmspec.commands.chosen_layers import choose_layers
from ssmspec.families import ReadOptions
from ssmspec.systems.statespace import cayley_poles


def test_what_is_derived_from_a_layer_is_not_kept_with_it() -> None:
    chosen = choose_layers(SAMPLES / "s4d_trained.safetensors", (), None, ReadOptions())
    assert all(layer.statistics for layer in analyze_chosen(chosen, AnalysisOptions()).layers)
    assert all(not system._known for system in chosen.systems)
    cayley_poles(chosen.systems[0])
    assert chosen.systems[0]._known  # where it would be


def test_unit_residues_of_selective_layers_take_no_memory() -> None:
    for system in choose_layers(SAMPLES / "mamba1_trained.safetensors", (), None, ReadOptions()).systems:
        np.testing.assert_array_equal(system.B, np.ones((system.copies, system.modes, 1)))
        np.testing.assert_array_equal(system.C, np.full((system.copies, 1, system.modes), 0.5))
        assert system.B.strides[0] == system.C.strides[0] == 0
