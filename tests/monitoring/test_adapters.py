"""SpectralMonitor within Lightning, under both of its names, and within the Trainer of transformers."""

import warnings
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from nets import lines, loss_of, net
from torch.utils.data import DataLoader, TensorDataset

from ssmspec import SpectralMonitor
from ssmspec.errors import NoLayerError

SAMPLES = torch.linspace(-1, 1, 8 * 32).reshape(8, 32, 1).sin()
OPTIONS: dict[str, Any] = {"every": 2, "images": 0, "budget": None, "strict": True}

# of the frameworks, about how tests use them: few workers, no logger, deprecated parts of torch that they call
pytestmark = pytest.mark.filterwarnings("ignore:::lightning", "ignore:::pytorch_lightning", "ignore:::torch", "ignore:::accelerate")


def expected(model: torch.nn.Module) -> dict[str, Any]:
    """The statistics of a model as it is, by layer."""
    found = SpectralMonitor(model, strict=True)(0)
    assert found is not None
    return {layer.name.split("net.", 1)[-1]: layer.statistics for layer in found.layers}


def logged(line: dict[str, Any]) -> dict[str, Any]:
    return {layer["name"].split("net.", 1)[-1]: layer["statistics"] for layer in line["layers"]}


def assert_log(path: Path, steps: list[int], first: dict[str, Any], last: dict[str, Any]) -> None:
    """The steps, and the numbers of the first and the last one."""
    written = lines(path)
    assert [line["step"] for line in written] == steps
    for line, truth in ((written[0], first), (written[-1], last)):
        medians = {name: {k: v.median for k, v in each.items()} for name, each in truth.items()}
        assert {name: {k: v["median"] for k, v in each.items()} for name, each in logged(line).items()} == medians
    assert logged(written[0]) != logged(written[-1])


# --- Lightning ---

PACKAGES = {"lightning": "lightning.pytorch", "pytorch_lightning": "pytorch_lightning"}


def fit(package: str, model: Any, log: Path, folder: Path, *, steps: int, resume: Path | None = None, accumulate: int = 1) -> Any:
    L = import_module(PACKAGES[package])
    callback = import_module(f"ssmspec.monitoring.{package}").LightningMonitor(log, **OPTIONS)
    trainer = L.Trainer(
        max_steps=steps,
        accumulate_grad_batches=accumulate,
        accelerator="cpu",
        logger=False,
        callbacks=[callback],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # since 2.6 it has to be told that the checkpoint which a test resumes from may be unpickled
        more = {"weights_only": False} if "weights_only" in signature(trainer.fit).parameters else {}
        trainer.fit(model, DataLoader(TensorDataset(SAMPLES), batch_size=2), ckpt_path=resume, **more)
    assert isinstance(callback, L.Callback)
    return trainer


def module(package: str) -> Any:
    L = import_module(PACKAGES[package])

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net(dropout=0.0)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return loss_of(self.net, batch[0])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    return Module()


@pytest.mark.parametrize("package", PACKAGES)
def test_lightning(package: str, tmp_path: Path) -> None:
    pytest.importorskip(package, reason="the adapter is for it")
    model = module(package)
    before, log = expected(model), tmp_path / "bias.jsonl"
    trainer = fit(package, model, log, tmp_path, steps=5)
    assert_log(log, [0, 2, 4, 5], before, expected(model))
    trainer.save_checkpoint(tmp_path / "five.ckpt")
    fit(package, model, log, tmp_path, steps=9, resume=tmp_path / "five.ckpt")
    assert_log(log, [0, 2, 4, 6, 8, 9], before, expected(model))


def test_lightning_counts_the_steps_of_the_optimizer(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="the adapter is for it")
    model = module("lightning")
    before = expected(model)
    fit("lightning", model, tmp_path / "bias.jsonl", tmp_path, steps=4, accumulate=3)
    assert_log(tmp_path / "bias.jsonl", [0, 2, 4], before, expected(model))


def test_lightning_stops_at_once_where_there_is_no_layer(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="the adapter is for it")
    model = module("lightning")
    model.net = torch.nn.Linear(1, 1)
    with pytest.raises(NoLayerError, match="model Module: no SSM layer found"):
        fit("lightning", model, tmp_path / "bias.jsonl", tmp_path, steps=4)


# --- transformers ---


class Regression(torch.nn.Module):
    """A model as the Trainer wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net(dropout=0.0)

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": loss_of(self.net, batch)}


@pytest.mark.filterwarnings("ignore:::transformers")
def test_transformers(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the adapter is for its Trainer")
    pytest.importorskip("accelerate", reason="the Trainer of transformers needs it")
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from ssmspec.monitoring.transformers import TransformersMonitor

    model, log = Regression(), tmp_path / "bias.jsonl"
    before = expected(model)

    def train(steps: int, resume: str | None = None) -> None:
        callback = TransformersMonitor(log, **OPTIONS)
        assert isinstance(callback, TrainerCallback)
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "run"),
            max_steps=steps,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            learning_rate=1e-2,
            use_cpu=True,
            report_to=[],
            save_steps=3,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        data = [{"batch": sample} for sample in SAMPLES]
        Trainer(model=model, args=arguments, train_dataset=data, callbacks=[callback]).train(resume_from_checkpoint=resume)

    train(5)
    assert_log(log, [0, 2, 4, 5], before, expected(model))
    train(7, resume=str(tmp_path / "run" / "checkpoint-3"))
    assert_log(log, [0, 2, 4, 6, 7], before, expected(model))
