"""Every family in a live model: SpectralMonitor reports what analyze reports for the checkpoint of the model, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
from factories import FACTORIES, make

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402 - only useful where torch is

from ssmspec import STATISTICS, SpectralMonitor  # noqa: E402
from ssmspec.commands.analyze import AnalysisOptions, analyze  # noqa: E402
from ssmspec.families import ReadOptions  # noqa: E402


def module_with(tensors: dict[str, np.ndarray]) -> torch.nn.Module:
    """A module whose state dict has these tensors: floats as parameters, others as buffers."""
    root = torch.nn.Module()
    for name, values in tensors.items():
        *path, last = name.split(".")
        owner = root
        for word in path:
            if word not in owner._modules:
                owner.add_module(word, torch.nn.Module())
            owner = owner._modules[word]
        value = torch.from_numpy(np.array(values))
        if value.is_floating_point() or value.is_complex():
            owner.register_parameter(last, torch.nn.Parameter(value))
        else:
            owner.register_buffer(last, value)
    return root


@pytest.mark.parametrize("name", FACTORIES)
def test_live_layer_has_the_numbers_of_its_checkpoint(name: str, tmp_path: Path) -> None:
    example = make(name)
    model = module_with(example.under("encoder.layers.0"))
    path = tmp_path / "model.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    options = AnalysisOptions(read=ReadOptions(length=example.length), points=128)
    found = SpectralMonitor(model, statistics=tuple(STATISTICS), options=options, strict=True)(0)
    truth = analyze(path, options)
    assert found is not None
    assert [(layer.name, layer.family) for layer in found.layers] == [(layer.name, example.family) for layer in truth.layers]
    for mine, other in zip(found.layers, truth.layers, strict=True):
        assert mine.statistics == other.statistics
        assert mine.energy_error == other.energy_error
        assert (mine.assumptions, mine.notes, mine.problem) == (other.assumptions, other.notes, other.problem)
