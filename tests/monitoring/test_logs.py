"""What is written, and what happens to it when a run is resumed."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import matplotlib.image
import numpy as np
import pytest
import torch
from nets import lines, net, train

from ssmspec import SpectralMonitor, SsmspecError
from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.report.documents.analyze import layer_document
from ssmspec.report.documents.document import schema
from ssmspec.report.documents.monitoring import COLUMNS
from ssmspec.statistics import Measurement


def watched(log: Any, steps: int, first: int = 0, **options: Any) -> list[Measurement]:
    """Measurements of a model that changes from step `first` to `steps`, and is determined by the step."""
    model, found = net(), []
    monitor = SpectralMonitor(model, log, strict=True, **{"every": 2, "images": 0, "budget": None, **options})
    for step in range(first, steps + 1):
        with torch.no_grad():
            model.blocks[0].kernel.A_imag.fill_(1.0 + step)
        found.append(monitor(step))
    return [each for each in found if each is not None]


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_lines_are_valid_and_hold_what_was_measured(tmp_path: Path) -> None:
    log = tmp_path / "run" / "bias.jsonl"
    found = watched(log, 6, images=2, budget=1e9)
    written = lines(log)
    assert [line["step"] for line in written] == [0, 2, 4, 6]
    for line, measurement in zip(written, found, strict=True):
        jsonschema.validate(line, schema("monitor-1"))
        assert line["layers"] == [json.loads(json.dumps(layer_document(layer))) for layer in measurement.layers]
        assert line["timing"]["seconds"] > 0
        assert (line["response"] is None) == (line["pictures"] is None) == (line["step"] % 4 != 0)
    assert [line["timing"]["share"] > 0 for line in written] == [False, False, True, True]  # the first one counts as setup


def test_schema_is_not_met_by_everything(tmp_path: Path) -> None:
    watched(tmp_path / "a.jsonl", 0)
    (line,) = lines(tmp_path / "a.jsonl")
    for wrong in ({**line, "step": "0"}, {**line, "more": 1}, {**line, "layers": []}, {k: v for k, v in line.items() if k != "timing"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema("monitor-1"))


def test_layers_have_the_schema_of_an_analysis() -> None:
    """Whatever reads layers of ssmspec.analyze/1 reads those of a log."""
    assert schema("monitor-1")["$defs"].items() >= schema("analyze-1")["$defs"].items()
    assert schema("monitor-1")["properties"]["grid"] == schema("analyze-1")["properties"]["grid"]


def test_curves_are_points_of_the_response(tmp_path: Path) -> None:
    (measurement,) = watched(tmp_path / "a.jsonl", 0, images=1)
    (line,) = lines(tmp_path / "a.jsonl")
    theta = np.array(line["response"]["theta"])
    assert len(theta) == 64
    assert theta[[0, -1]].tolist() == [np.pi / 1024, np.pi]
    for layer in measurement.layers:
        places = np.searchsorted(measurement.grid.values, theta)
        for part in ("median", "p5", "p95"):
            assert line["response"]["magnitude"][layer.name][part] == getattr(layer.curve, part)[places].tolist()


def test_rows_hold_the_same_numbers(tmp_path: Path) -> None:
    found = watched([tmp_path / "a.csv", tmp_path / "a.jsonl"], 4, statistics=("time_constant", "bias_slope"))
    written = rows(tmp_path / "a.csv")
    assert tuple(written[0]) == COLUMNS
    expected = [
        (str(each.step), layer.name, name, value.median, value.unit)
        for each in found
        for layer in each.layers
        for name, value in layer.statistics.items()
    ]
    assert [(row["step"], row["layer"], row["statistic"], float(row["median"]), row["unit"]) for row in written] == expected
    assert len(expected) == 3 * 2 * 2


def test_same_run_without_budget_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        watched([tmp_path / f"{name}.jsonl", tmp_path / f"{name}.csv"], 6, images=2)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    text = [(tmp_path / f"{name}.jsonl").read_text(encoding="utf-8") for name in ("a", "b")]
    assert text[0] == text[1].replace("b.pictures", "a.pictures")
    pictures = [sorted((tmp_path / f"{name}.pictures").iterdir()) for name in ("a", "b")]
    assert [path.read_bytes() for path in pictures[0]] == [path.read_bytes() for path in pictures[1]]


# --- resuming ---


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
@pytest.mark.parametrize("stopped", [4, 5, 9])
def test_resumed_run_continues_its_file(tmp_path: Path, suffix: str, stopped: int) -> None:
    whole, log = tmp_path / f"whole{suffix}", tmp_path / f"log{suffix}"
    watched(whole, 12)
    watched(log, 9)
    torn = log.read_bytes() + whole.read_bytes().splitlines()[-1][:40]  # killed while it wrote
    log.write_bytes(torn)
    watched(log, 12, first=stopped)  # from a checkpoint before the last lines
    assert log.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([log.name, whole.name])


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_new_run_sets_the_file_of_an_old_one_aside(tmp_path: Path, suffix: str) -> None:
    log = tmp_path / f"log{suffix}"
    contents = []
    for steps in (0, 2, 0):
        watched(log, steps, images=1, options=AnalysisOptions(layers=("0",)))
        contents.append(log.read_bytes())
    kept = [tmp_path / f"log.{number}{suffix}" for number in (1, 2)]
    assert [path.read_bytes() for path in (*kept, log)] == contents
    pictures = [len(list((tmp_path / f"{stem}.pictures").iterdir())) for stem in ("log.1", "log.2", "log")]
    assert pictures == [1, 2, 1]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_run_that_is_first_seen_at_step_one_is_a_new_one(tmp_path: Path, suffix: str) -> None:
    """A line of step 0 does not make it the continuation of a run that was measured before its first step."""
    log = tmp_path / f"log{suffix}"
    watched(log, 4)
    old = log.read_bytes()
    watched(log, 4, first=1)
    assert (tmp_path / f"log.1{suffix}").read_bytes() == old
    steps = [line["step"] for line in lines(log)] if suffix == ".jsonl" else [int(row["step"]) for row in rows(log)[::4]]
    assert steps == [2, 4]


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", '{"step": 1}\n'), ("a.csv", "step,layer\n1,x\n"), ("a.csv", "\0\0\n")])
def test_file_of_something_else_is_refused_and_kept(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(SsmspecError, match="name another file"):
        SpectralMonitor(net(), tmp_path / name)
    assert (tmp_path / name).read_text(encoding="utf-8") == content


def test_folder_that_cannot_be_made_is_an_error_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SsmspecError, match=r"cannot write .*a.csv: "):
        SpectralMonitor(net(), tmp_path / "file" / "a.csv")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_line_that_finds_no_room_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource
    import signal

    log = tmp_path / "a.jsonl"
    monitor = SpectralMonitor(net(), log, every=1, images=0, budget=None)
    monitor(0)
    size = log.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))
    try:
        assert monitor(1) is not None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert log.stat().st_size == size
    monitor(2)
    assert [line["step"] for line in lines(log)] == [0, 2]


# --- pictures ---


def test_pictures_of_files(tmp_path: Path) -> None:
    watched(tmp_path / "a.jsonl", 4, images=2)
    written = lines(tmp_path / "a.jsonl")
    assert written[1]["pictures"] is None
    for line in (written[0], written[2]):
        assert line["pictures"] == {f"blocks.{n}": f"a.pictures/blocks.{n}.{line['step']:08d}.png" for n in (0, 1)}
        for place in line["pictures"].values():
            image = matplotlib.image.imread(tmp_path / place)
            assert image.shape[2] in (3, 4)
            assert image.std() > 0.05


def test_layer_without_numbers_has_no_picture(tmp_path: Path) -> None:
    model = net()
    with torch.no_grad():
        model.blocks[0].kernel.log_A_real.fill_(float("nan"))
    SpectralMonitor(model, tmp_path / "a.jsonl", strict=True)(0)
    (line,) = lines(tmp_path / "a.jsonl")
    jsonschema.validate(line, schema("monitor-1"))
    assert list(line["pictures"]) == ["blocks.1"]
    assert line["response"]["magnitude"]["blocks.0"] is None


# --- TensorBoard ---


@pytest.fixture
def events() -> Any:
    """What TensorBoard itself reads from a folder."""
    pytest.importorskip("tensorboard", reason="the log is TensorBoard's")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def read(folder: Path) -> Any:
        found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
        found.Reload()
        return found

    return read


def test_tensorboard_shows_scalars_and_pictures(tmp_path: Path, events: Any) -> None:
    folder = tmp_path / "board"
    model = net()
    monitor = SpectralMonitor(model, folder, every=1, images=2, budget=1e9, strict=True)
    found = [monitor(step) for step in range(3)]
    with torch.no_grad():
        model.blocks[1].kernel.log_dt.fill_(float("nan"))
    found.append(monitor.finish(3))
    board = events(folder)
    tags = board.Tags()
    names = [f"{name}{part}/blocks.{n}" for name in ("bias_slope", "center_frequency") for part in ("", ".p5", ".p95") for n in (0, 1)]
    assert sorted(tags["scalars"]) == sorted([*names, "monitor/seconds", "monitor/share"])
    logged = [(each.step, each.value) for each in board.Scalars("bias_slope/blocks.1")]
    assert logged == [(m.step, float(np.float32(m.layers[1].statistics["bias_slope"].median))) for m in found[:3]]
    assert [each.step for each in board.Scalars("bias_slope/blocks.0")] == [0, 1, 2, 3]
    assert tags["images"] == ["response/blocks.0", "response/blocks.1"]
    pictures = board.Images("response/blocks.0")
    assert [each.step for each in pictures] == [0, 2]
    image = matplotlib.image.imread(io.BytesIO(pictures[0].encoded_image_string))
    assert image.shape[:2] == (pictures[0].height, pictures[0].width)
    assert image.std() > 0.05
    (problem,) = board.Tensors("problem/blocks.1/text_summary")
    assert problem.step == 3
    assert b"4 values of step are NaN or infinite" in problem.tensor_proto.string_val[0]


def test_tensorboard_hides_what_a_resumed_run_does_again(tmp_path: Path, events: Any) -> None:
    for first, last in ((0, 6), (3, 5)):
        monitor = SpectralMonitor(net(seed=first), tmp_path, every=1, images=0, budget=None, strict=True)
        for step in range(first, last):
            monitor(step)
        monitor.finish(last)
    assert [each.step for each in events(tmp_path).Scalars("bias_slope/blocks.0")] == [0, 1, 2, 3, 4, 5]


def test_what_others_wrote_into_the_folder_stays_visible(tmp_path: Path, events: Any) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("loss", 1.0, 0)
        writer.add_scalar("loss", 0.5, 1)
    monitor = SpectralMonitor(net(), tmp_path, images=0, strict=True)
    monitor.finish(1)
    board = events(tmp_path)
    assert [each.step for each in board.Scalars("loss")] == [0, 1]
    assert [each.step for each in board.Scalars("bias_slope/blocks.0")] == [1]


def test_writer_of_the_user_is_used_and_left_open(tmp_path: Path, events: Any) -> None:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path))
    monitor = SpectralMonitor(net(), writer, images=0, strict=True)
    monitor.finish(1)
    writer.add_scalar("own", 1.0, 1)
    writer.close()
    assert {"own", "bias_slope/blocks.0"} <= set(events(tmp_path).Tags()["scalars"])


def test_missing_tensorboard_is_an_error_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(
        SsmspecError, match=r"needs TensorBoard, which is not installed; install ssmspec\[tensorboard\], or log to a .jsonl"
    ):
        SpectralMonitor(net(), tmp_path / "board")


def test_numbers_of_a_line_are_those_that_analyze_prints(tmp_path: Path) -> None:
    """From the file alone: engine and step of the line, and a checkpoint of that step."""
    from safetensors.torch import save_file

    from ssmspec.report.documents.analyze import analysis_document

    model = net()
    monitor = SpectralMonitor(model, tmp_path / "a.jsonl", images=0, strict=True)
    train(model, 3, monitor)
    monitor.finish(3)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, tmp_path / "step3.safetensors")
    line = lines(tmp_path / "a.jsonl")[-1]
    document = analysis_document(analyze(tmp_path / "step3.safetensors", AnalysisOptions(backend=line["backend"])))
    for mine, other in zip(line["layers"], document["layers"], strict=True):
        assert mine["statistics"] == {name: other["statistics"][name] for name in ("bias_slope", "center_frequency")}
        changed = {"statistics", "energy_error", "notes"}
        assert {k: v for k, v in mine.items() if k not in changed} == {k: v for k, v in other.items() if k not in changed}
