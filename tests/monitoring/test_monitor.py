"""What SpectralMonitor finds, measures and leaves alone."""

import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import MODES, H, Net, lines, net, train
from safetensors.torch import save_file
from torch import nn

from ssmspec import STATISTICS, SpectralMonitor, SsmspecError
from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.errors import LayerError, NoLayerError
from ssmspec.families import ReadOptions
from ssmspec.families.mapping.mapping_file import load_mapping
from ssmspec.nn import S4D
from ssmspec.statistics import CheckpointAnalysis, Measurement
from ssmspec.systems.sobolev import Sobolev


def saved(model: nn.Module, folder: Path, options: AnalysisOptions | None = None) -> CheckpointAnalysis:
    """What analyze says of a checkpoint of the model."""
    path = folder / "model.safetensors"
    save_file({name: value.clone().contiguous() for name, value in model.state_dict().items()}, path)
    return analyze(path, options)


def measured(model: nn.Module, **options: Any) -> Measurement:
    found = SpectralMonitor(model, strict=True, **options)(0)
    assert found is not None
    return found


def assert_same(found: Measurement, truth: CheckpointAnalysis) -> None:
    """Bit for bit."""
    assert found.backend == truth.backend
    assert [layer.name for layer in found.layers] == [layer.name for layer in truth.layers]
    for mine, other in zip(found.layers, truth.layers, strict=True):
        assert mine.statistics == {name: other.statistics[name] for name in mine.statistics}
        assert (mine.family, mine.index, mine.step_range, mine.problem) == (other.family, other.index, other.step_range, other.problem)
        assert mine.curve is not None
        assert other.curve is not None
        assert np.array_equal(mine.curve.median, other.curve.median)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_numbers_of_a_trained_model_are_those_of_its_checkpoint(tmp_path: Path, backend: str) -> None:
    model, found = net(), []
    options = AnalysisOptions(backend=backend)
    monitor = SpectralMonitor(model, every=7, budget=None, statistics=tuple(STATISTICS), options=options, strict=True)
    train(model, 14, lambda step: found.append(monitor(step)))
    assert [each.step for each in found if each] == [0, 7, 14]
    assert_same(found[-1], saved(model, tmp_path, options))
    assert found[0].layers[0].statistics != found[-1].layers[0].statistics


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_values_are_read_in_their_own_precision(tmp_path: Path, dtype: torch.dtype) -> None:
    model = net().to(dtype)
    assert_same(measured(model), saved(model, tmp_path))


def test_training_goes_on_as_if_no_one_watched(tmp_path: Path) -> None:
    results = []
    for watched in (False, True):
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002 - the generator that must stay as it is
        random.seed(1)
        model = net().train()
        logs = [tmp_path / "a.jsonl", tmp_path / "a.csv"]
        monitor = SpectralMonitor(model, logs, every=2, images=1, budget=None, strict=True) if watched else None
        losses = train(model, 6, monitor)
        states = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
        results.append((losses, [value.clone() for value in model.state_dict().values()], states))
        assert model.training
        assert all(parameter.requires_grad and parameter.grad is not None for parameter in model.parameters())
        assert torch.is_grad_enabled()
    (losses, weights, states), (watched_losses, watched_weights, watched_states) = results
    assert losses == watched_losses
    assert all(torch.equal(a, b) for a, b in zip(weights, watched_weights, strict=True))
    assert torch.equal(states[0], watched_states[0])
    assert np.array_equal(states[1], watched_states[1])
    assert states[2] == watched_states[2]
    assert len(lines(tmp_path / "a.jsonl")) == 4


def test_measuring_within_a_graph_leaves_the_graph_alone() -> None:
    model = net(dropout=0.0)
    batch = torch.randn(1, 16, 1)
    loss = model(batch).square().mean()
    measured(model)
    loss.backward()
    gradient = model.blocks[0].kernel.C.grad.clone()
    model.zero_grad()
    model(batch).square().mean().backward()
    assert torch.equal(gradient, model.blocks[0].kernel.C.grad)


def test_wrappers_do_not_change_names_or_numbers(tmp_path: Path) -> None:
    model = net()
    plain = measured(model)
    compiled = measured(torch.compile(model, backend="eager"))
    inner = nn.ModuleList([torch.compile(block, backend="eager") for block in model.blocks])
    parts = measured(nn.ModuleDict({"blocks": inner}))
    for found in (compiled, parts):
        assert [layer.name for layer in found.layers] == ["blocks.0", "blocks.1"]
        assert [layer.statistics for layer in found.layers] == [layer.statistics for layer in plain.layers]


def test_layers_are_chosen_and_keep_their_place() -> None:
    found = measured(net(), options=AnalysisOptions(layers=("*.1",)))
    assert [(layer.name, layer.index) for layer in found.layers] == [("blocks.1", 1)]
    both = net(layout="s4-diag", bidirectional=True)
    found = measured(both, options=AnalysisOptions(layers=("blocks.1.layer:backward",)))
    assert [(layer.name, layer.index) for layer in found.layers] == [("blocks.1.layer:backward", 3)]
    assert found.layers[0].statistics == measured(both).layers[3].statistics
    with pytest.raises(LayerError, match=r"model Net: --layer x matches no layer; the 2 layers are blocks.0, blocks.1"):
        SpectralMonitor(net(), options=AnalysisOptions(layers=("x",)))


def test_model_without_layers_is_an_error_that_says_what_it_has() -> None:
    with pytest.raises(NoLayerError, match="model Linear: no SSM layer found: it holds 2 tensors such as bias, weight; no known family"):
        SpectralMonitor(nn.Linear(2, 2))


def test_near_miss_is_named() -> None:
    model = net()
    del model.blocks[1]
    del model.blocks[0].kernel.C
    with pytest.raises(NoLayerError, match=r"model Net: .* blocks.0: nearest family s4d: missing .*C"):
        SpectralMonitor(model)


def test_mapping_reads_code_of_ones_own(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self, layer: S4D) -> None:
            super().__init__()
            self.rate = nn.Parameter(layer.kernel.log_A_real.detach().clone())
            self.turn = nn.Parameter(layer.kernel.A_imag.detach().clone())
            self.pace = nn.Parameter(layer.kernel.log_dt.detach().clone())
            self.out = nn.Parameter(layer.kernel.C.detach().clone())

    mapping = tmp_path / "mapping.toml"
    mapping.write_text(
        """
[[layer]]
match = "*"
kind = "siso"
discretization = "zoh"
output = "2Re"
pole_real = { tensor = "rate", transform = "-exp" }
pole_imag = { tensor = "turn" }
step = { tensor = "pace", transform = "exp" }
C = { tensor = "out" }
""",
        encoding="utf-8",
    )
    options = AnalysisOptions(read=ReadOptions(mapping=load_mapping(mapping)))
    model = net()
    own = measured(nn.ModuleDict({"ssm": Own(model.blocks[0])}), options=options)
    assert own.layers[0].name == "ssm"
    assert own.layers[0].statistics == measured(model).layers[0].statistics


def test_shared_module_is_one_layer_and_equal_ones_are_two(tmp_path: Path) -> None:
    block = S4D(H, 2 * MODES)
    shared = measured(nn.ModuleList([block, block]))
    assert [layer.name for layer in shared.layers] == ["0"]
    assert [(item.name, item.reason) for item in shared.skipped] == [("1", "the same tensors as 0 (shared module)")]
    twin = S4D(H, 2 * MODES)
    twin.load_state_dict(block.state_dict())
    equal = measured(nn.ModuleList([block, twin]))
    assert [layer.name for layer in equal.layers] == ["0", "1"]
    assert equal.layers[0].statistics == equal.layers[1].statistics


@pytest.mark.parametrize("layout", ["minimal", "s4-diag", "freqbias-block"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_beta_of_the_own_layers_is_taken_in(layout: str, bidirectional: bool) -> None:
    if layout == "minimal" and bidirectional:
        pytest.skip("no such layer")
    layer = S4D(H, MODES * 2, layout=layout, beta=0.7, bidirectional=bidirectional, trainable_beta=True)
    with torch.no_grad():
        dict(layer.named_parameters())["beta" if layout == "minimal" else f"layer.{'s' if 'block' in layout else 'beta'}"].mul_(2)
    found = measured(nn.Sequential(layer))
    core = "0" if layout == "minimal" else "0.layer"
    assert [each.name for each in found.layers] == ([f"{core}:forward", f"{core}:backward"] if bidirectional else [core])
    for each, system in zip(found.layers, layer.state_spaces(), strict=True):
        assert each.beta_range == pytest.approx((1.4, 1.4))
        assert system.sobolev is not None
        assert each.beta_convention == system.sobolev.convention
    if layout == "freqbias-block":
        return
    bare = S4D(H, MODES * 2, layout=layout, bidirectional=bidirectional)
    bare.load_state_dict(layer.state_dict(), strict=False)
    plain = measured(nn.Sequential(bare))
    for each, other in zip(found.layers, plain.layers, strict=True):
        change = each.statistics["bias_slope"].median - other.statistics["bias_slope"].median
        assert change == pytest.approx(log_slope(found.grid.values, 1.4, 2 * np.pi), rel=1e-7)  # beta is float32


def log_slope(theta: np.ndarray, beta: float, knee: float) -> float:
    """Of the weight (1 + theta/knee)^beta; log K is a sum with log w, and a least-squares slope is linear."""
    return float(np.polyfit(np.log(theta), beta * np.log1p(theta / knee), 1)[0])


def test_weights_of_other_code_are_given() -> None:
    model = net()
    weight = Sobolev(np.full(H, -1.0), "angular", 0.01)
    found = measured(model, weights=lambda: {"blocks.1": weight})
    plain = measured(model)
    assert found.layers[0].statistics == plain.layers[0].statistics
    assert found.layers[1].beta_range == (-1.0, -1.0)
    change = found.layers[1].statistics["bias_slope"].median - plain.layers[1].statistics["bias_slope"].median
    assert change == pytest.approx(log_slope(found.grid.values, -1.0, 0.01), rel=1e-9)


def test_config_of_a_transformers_model_is_used(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", minversion="5.0", reason="the model is one of transformers")
    config = transformers.Mamba2Config(
        hidden_size=16, state_size=4, num_heads=4, head_dim=8, n_groups=1, num_hidden_layers=2, vocab_size=11, time_step_limit=(0.01, 0.02)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.Mamba2ForCausalLM(config)
    model.save_pretrained(tmp_path / "saved")
    assert_same(measured(model, statistics=tuple(STATISTICS)), analyze(tmp_path / "saved"))
    low, high = measured(model).layers[0].step_range
    assert (low, high) == (pytest.approx(0.01), pytest.approx(0.02))


# --- what must not end a run ---


def test_layer_with_nan_is_null_with_the_reason_until_it_recovers(tmp_path: Path) -> None:
    model = net()
    monitor = SpectralMonitor(model, tmp_path / "a.jsonl", every=1, budget=None, strict=True)
    first = monitor(0)
    good = model.blocks[0].kernel.log_A_real.detach().clone()
    with torch.no_grad():
        model.blocks[0].kernel.log_A_real.fill_(float("nan"))
    bad = monitor(1)
    assert bad.layers[0].problem == f"{H * MODES} of {H * MODES} values of the poles are NaN or infinite"
    assert bad.layers[0].statistics["bias_slope"].median is None
    assert bad.layers[1].statistics == first.layers[1].statistics
    with torch.no_grad():
        model.blocks[0].kernel.log_A_real.copy_(good)
    assert monitor(2).layers[0].statistics == first.layers[0].statistics
    assert [line["layers"][0]["problem"] is None for line in lines(tmp_path / "a.jsonl")] == [True, False, True]


def test_layer_that_changes_shape_or_goes_is_null_with_the_reason() -> None:
    model = net()
    monitor = SpectralMonitor(model, every=1, budget=None, strict=True)
    model.blocks[0].kernel.C = nn.Parameter(torch.zeros(H, MODES + 1, 2))
    del model.blocks[1].kernel.log_dt
    found = monitor(0)
    assert [layer.problem for layer in found.layers] == [
        f"tensor blocks.0.kernel.C now has shape ({H}, {MODES + 1}, 2), but had ({H}, {MODES}, 2)",
        "the model no longer has a tensor blocks.1.kernel.log_dt",
    ]
    assert all(value.median is None and value.reason == layer.problem for layer in found.layers for value in layer.statistics.values())


def test_statistic_that_fails_is_null_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(spectrum: object) -> None:
        raise np.linalg.LinAlgError("Eigenvalues did\nnot converge")

    monkeypatch.setitem(STATISTICS, "centroid", STATISTICS["centroid"].__class__("centroid", "", "theta", "f", "s", fails))
    found = measured(net(), statistics=("bias_slope", "centroid"))
    assert found.layers[0].problem == "LinAlgError: Eigenvalues did not converge"


def test_log_that_fails_is_a_warning_unless_strict(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(strict: bool) -> SpectralMonitor:
        log = tmp_path / f"{strict}.jsonl"
        monitor = SpectralMonitor(net(), log, every=1, images=0, strict=strict)
        log.mkdir()
        return monitor

    with caplog.at_level(logging.WARNING, logger="ssmspec"):
        assert broken(strict=False)(0) is not None
    assert "step 0 could not be logged completely: IsADirectoryError" in caplog.text
    with pytest.raises(IsADirectoryError):
        broken(strict=True)(0)


def test_sharded_models_are_refused(tmp_path: Path, process_group: None) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_tensor

    model = net()
    model.decoder.weight = nn.Parameter(distribute_tensor(model.decoder.weight.detach(), init_device_mesh("cpu", (1,))))
    with pytest.raises(LayerError, match=r"parameter decoder.weight is a DTensor, so no process holds all of it; analyze checkpoints"):
        SpectralMonitor(model)

    class FullyShardedDataParallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net()

        def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            raise AssertionError("a collective that would wait for ever")

    with pytest.raises(LayerError, match=r"the model is sharded \(FullyShardedDataParallel\)"):
        SpectralMonitor(FullyShardedDataParallel())


# --- ranks ---


@pytest.fixture
def process_group(tmp_path: Path) -> Any:
    """A group of one process."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_distributed_data_parallel(tmp_path: Path, process_group: None) -> None:
    model = net()
    found = measured(torch.compile(nn.parallel.DistributedDataParallel(model), backend="eager"))
    assert [layer.name for layer in found.layers] == ["blocks.0", "blocks.1"]
    assert_same(found, saved(model, tmp_path))
    for layout in ("minimal", "s4-diag"):  # a layer that is the whole model, with its beta
        layer = S4D(H, 2 * MODES, layout=layout, beta=1.0)
        plain, wrapped = (measured(each).layers[0] for each in (layer, nn.parallel.DistributedDataParallel(layer)))
        assert plain.name == wrapped.name == ("root" if layout == "minimal" else "layer")
        assert plain.beta_range == wrapped.beta_range == (1.0, 1.0)
        assert plain.statistics == wrapped.statistics


def test_names_that_would_be_the_same_without_wrappers_stay_as_they_are() -> None:
    layer = S4D(H, 2 * MODES, beta=1.0)
    found = measured(nn.ModuleDict({"module": layer, "other": S4D(H, 2 * MODES)}))
    assert [(each.name, each.beta_range) for each in found.layers] == [("root", (1.0, 1.0)), ("other", None)]
    found = measured(nn.ModuleDict({"module": nn.ModuleDict({"x": layer}), "x": S4D(H, 2 * MODES)}))
    assert [(each.name, each.beta_range) for each in found.layers] == [("module.x", (1.0, 1.0)), ("x", None)]


def test_parts_of_a_model_that_have_no_values_yet_are_left_out() -> None:
    found = measured(nn.Sequential(S4D(H, 2 * MODES), nn.LazyLinear(3), nn.Linear(2, 2, device="meta")))
    assert [layer.name for layer in found.layers] == ["0"]


def test_other_ranks_measure_and_write_nothing(tmp_path: Path, process_group: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monitor = SpectralMonitor(net(), [tmp_path / "a.jsonl", tmp_path / "b.csv"], every=1, strict=True)
    assert monitor(0) is None
    assert monitor.finish(1) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


# --- calls ---


def test_steps_are_measured_once_and_only_forward(caplog: pytest.LogCaptureFixture) -> None:
    monitor = SpectralMonitor(net(), every=2, budget=None, strict=True)
    found = [monitor(step) for step in (np.int64(2), torch.tensor(2), 3, 4)]
    assert [None if each is None else each.step for each in found] == [2, None, None, 4]
    with caplog.at_level(logging.WARNING, logger="ssmspec"):
        assert monitor(2) is None
    assert "step 2 came after step 4 and is not measured; count the steps of the whole run" in caplog.text
    assert monitor.finish(5).step == 5
    assert monitor.finish(5) is None
    assert monitor.layers == ("blocks.0", "blocks.1")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"statistics": ("bias",)}, "the statistic 'bias' is unknown; choose some of bias_slope, "),
        ({"every": 0}, "every is 0 and images is 10; every must be at least 1 step"),
        ({"images": -1}, "every is 100 and images is -1"),
        ({"budget": 0.0}, "budget is 0.0; it must be a positive share"),
        ({"log": "a.json"}, "a.json is not a valid log: end its name in .jsonl or .csv, or give a folder"),
        ({"log": 3}, "a log must be a path, a SummaryWriter, a WandbLog or an MlflowLog, not int"),
        ({"options": AnalysisOptions(backend="fortran")}, "backend 'fortran' is unknown"),
    ],
)
def test_wrong_options_are_errors_before_the_training(options: dict[str, Any], text: str) -> None:
    with pytest.raises(SsmspecError) as caught:
        SpectralMonitor(net(), **options)
    assert text in str(caught.value)


def test_overhead_says_what_was_spent() -> None:
    monitor = SpectralMonitor(net(), every=1, budget=None, strict=True)
    assert (monitor.overhead.measurements, monitor.overhead.setup_seconds, monitor.overhead.share) == (0, 0, 0)
    monitor(0)
    assert monitor.overhead.seconds == 0  # the first one counts as setup
    assert monitor.overhead.setup_seconds > 0
    monitor(1)
    overhead = monitor.overhead
    assert overhead.measurements == 2
    assert overhead.seconds > 0
    assert overhead.share == pytest.approx(overhead.seconds / overhead.training_seconds)
    assert str(overhead).startswith("2 measurements: ")


def test_monitor_keeps_no_values_between_calls() -> None:
    model = net()
    monitor = SpectralMonitor(model, every=1, budget=None, strict=True)
    before = monitor(0).layers[0].statistics["bias_slope"].median
    replaced = Net(dropout=0.0)
    model.load_state_dict(replaced.state_dict(), assign=True)  # other tensors under the same names
    after = monitor(1).layers[0].statistics["bias_slope"].median
    assert after != before
    assert after == measured(replaced).layers[0].statistics["bias_slope"].median
