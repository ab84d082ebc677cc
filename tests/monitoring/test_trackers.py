"""Logs of experiment trackers: Weights & Biases without a network, MLflow in a database of its own."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import torch
from nets import net

from ssmspec import SpectralMonitor, SsmspecError
from ssmspec.monitoring.mlflow import MlflowLog, allowed_name
from ssmspec.monitoring.wandb import WandbLog
from ssmspec.statistics import Measurement

NAMES = [f"{name}{part}/blocks.{n}" for name in ("bias_slope", "center_frequency") for part in ("", ".p5", ".p95") for n in (0, 1)]


def watched(log: Any) -> list[Measurement]:
    """Three measurements, the first and the last with pictures, and a fourth of a layer that lost its numbers."""
    model = net()
    monitor = SpectralMonitor(model, log, every=5, images=2, budget=1e9, strict=True)
    found = [monitor(step) for step in (0, 5, 10)]
    with torch.no_grad():
        model.blocks[1].kernel.log_dt.fill_(float("nan"))
    return [each for each in (*found, monitor.finish(15)) if each is not None]


# --- Weights & Biases ---


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The package, as it works without a network and without looking at the machine."""
    for name, value in {"SILENT": "true", "CONSOLE": "off", "DISABLE_GIT": "true", "X_DISABLE_STATS": "true", "MODE": "offline"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    found = pytest.importorskip("wandb", reason="the log is that of Weights & Biases")
    yield found
    found.teardown()


def test_wandb_has_the_numbers_pictures_and_reasons(wandb: Any, tmp_path: Path) -> None:
    from offline_runs import axes, logged, summary

    found = watched(WandbLog(project="tones", dir=str(tmp_path)))
    wandb.teardown()  # the file is complete when the process that writes it has ended
    lines = logged(tmp_path)
    assert [line["ssmspec/step"] for line in lines] == [0, 5, 10, 15]
    for line, measurement in zip(lines, found, strict=True):
        for layer in measurement.layers:
            for name, value in layer.statistics.items():
                key = f"{name}/{layer.name}"
                assert line.get(key) == value.median
                assert line.get(f"{name}.p95/{layer.name}") == value.p95
        assert {"monitor/seconds", "monitor/share"} <= set(line)
    assert set(NAMES) <= set(lines[0])
    paths = [[line[key] for key in sorted(line) if re.fullmatch("response/blocks.[01]/path", key)] for line in lines]
    assert [len(each) for each in paths] == [2, 0, 2, 0]
    (picture,) = tmp_path.rglob(Path(paths[0][0]).name)
    assert matplotlib.image.imread(picture).std() > 0.05
    assert {"bias_slope/*", "bias_slope.p5/*", "response/*", "monitor/*"} <= set(axes(tmp_path))
    assert set(axes(tmp_path).values()) == {"ssmspec/step"}
    assert "4 values of step are NaN or infinite" in summary(tmp_path)["problem/blocks.1"]


def test_a_run_of_the_user_is_used_and_left_open(wandb: Any, tmp_path: Path) -> None:
    from offline_runs import logged

    run = wandb.init(project="tones", dir=str(tmp_path))
    SpectralMonitor(net(), WandbLog(run), images=0, strict=True).finish(1)
    run.log({"loss": 0.5})
    run.finish()
    wandb.teardown()
    lines = logged(tmp_path)
    assert lines[0]["ssmspec/step"] == 1
    assert lines[1]["loss"] == 0.5


def test_a_run_and_settings_are_refused(wandb: Any) -> None:
    with pytest.raises(SsmspecError, match="not both; leave out project"):
        WandbLog(object(), project="x")


@pytest.mark.parametrize(("package", "log"), [("wandb", WandbLog), ("mlflow", MlflowLog)])
def test_a_missing_package_is_an_error_before_the_training(monkeypatch: pytest.MonkeyPatch, package: str, log: Any) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SsmspecError, match=rf"needs {package}, which is not installed; type: pip install 'ssmspec\[{package}\]'"):
        log()


# --- MLflow ---


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where runs are, and a client of it. A database is made once, since that takes seconds."""
    import warnings

    pytest.importorskip("sqlalchemy", reason="the runs are in a database")
    folder = tmp_path_factory.mktemp("mlflow")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # of old names in new packages
        patch.chdir(folder)
        found = pytest.importorskip("mlflow", reason="the log is that of MLflow")
        address = f"sqlite:///{folder}/runs.db"
        client = found.MlflowClient(address)
        client.create_experiment("tones", artifact_location=(folder / "artifacts").as_uri())
    return address, client


def test_mlflow_has_the_numbers_pictures_and_reasons(mlflow: Any) -> None:
    address, client = mlflow
    found = watched(MlflowLog(experiment="tones", tracking_uri=address))
    (run,) = client.search_runs([client.get_experiment_by_name("tones").experiment_id])
    assert run.info.status == "FINISHED"
    assert set(run.data.metrics) == {*NAMES, "monitor/seconds", "monitor/share"}
    for place, layer in ((0, "blocks.0"), (1, "blocks.1")):
        history = client.get_metric_history(run.info.run_id, f"bias_slope/{layer}")
        medians = [(each.step, each.layers[place].statistics["bias_slope"].median) for each in found]
        assert [(each.step, each.value) for each in history] == [(step, value) for step, value in medians if value is not None]
    assert "4 values of step are NaN or infinite" in run.data.tags["problem/blocks.1"]
    pictures = sorted(Path(run.info.artifact_uri.removeprefix("file://")).rglob("response*.png"))
    assert len(pictures) == 4
    assert matplotlib.image.imread(pictures[0]).std() > 0.05


def test_a_run_of_mlflow_is_used_and_left_open_and_names_are_made_allowed(mlflow: Any) -> None:
    address, client = mlflow
    run = client.create_run(client.get_experiment_by_name("tones").experiment_id).info.run_id
    model = torch.nn.ModuleDict({"a<b": net().blocks[0]})
    SpectralMonitor(model, MlflowLog(run, tracking_uri=address), images=0, strict=True).finish(1)
    data = client.get_run(run).data
    assert client.get_run(run).info.status == "RUNNING"
    key = allowed_name("bias_slope/a<b")
    assert key in data.metrics
    assert data.tags[f"name/{key}"] == "bias_slope/a<b"
    with pytest.raises(SsmspecError, match="not both; leave out tones"):
        MlflowLog(run, experiment="tones")


def test_allowed_names_differ_where_names_differ() -> None:
    names = ("a/b", "a<b", "a>b", "a//b", "../a", "a/.", "x" * 300, "x" * 301, "é", "a/", "/a", "a b")
    found = [allowed_name(name) for name in names]
    assert found[0] == "a/b"
    assert len(set(found)) == len(names)
    assert all(len(name) <= 250 and name.isascii() and not {"", ".", ".."} & set(name.split("/")) for name in found)
