"""Train the sample checkpoints: `python sample_checkpoints/make.py s4d --seed 0 --out DIR`, or `all` in place of a family.

Every model is tiny and trained on a synthetic task; README.md says which. The state space models are trained in double precision and stored
in single precision, so that another BLAS or another number of threads gives the same file up to rounding.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from containers import write_flax, write_npz, write_safetensors, write_torch
from models import S4D, LRUModel, S4Block, S4Model
from s5 import S5Model
from torch import Tensor, nn
from training import AMPLITUDES, FREQUENCIES, LEVELS, NEXT_LEVEL, SAMPLES, Recipe, Task, reproducible, train

STEPS_PER_EPOCH = 50
"""An epoch only exists as a number in `s4_dplr_trained.pt`: batches are drawn afresh."""


@dataclass(frozen=True, slots=True)
class Family:
    """How to build a model and how to train it.

    Attributes:
        build: makes the untrained model from torch's global generator.
        task: batches and loss.
        recipe: steps and rates.
        dtype: precision of the training.
    """

    build: Callable[[], nn.Module]
    task: Task
    recipe: Recipe
    dtype: torch.dtype = torch.float64


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model, and what its file holds besides the weights.

    Attributes:
        model: the model after training, in the precision of the training.
        optimizer: the optimizer in its final state.
        initial: the float32 state dict before training.
        recipe: as used.
        loss_before: on the held-out batches, before training.
        loss_after: on the same batches, after training.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    initial: dict[str, Tensor]
    recipe: Recipe
    loss_before: float
    loss_after: float


def build_s4d() -> nn.Module:
    """Minimal S4D, two layers, H = 16, N = 16 stored modes (d_state 32)."""
    return S4Model([S4D(16, 16) for _ in range(2)], features=16, outputs=len(FREQUENCIES))


def build_s4() -> nn.Module:
    """S4 with a DPLR kernel, two layers, H = 8, N = 8 stored modes (d_state 16), S = 2 tied copies."""
    return S4Model([S4Block(8, 8, copies=2, length=SAMPLES) for _ in range(2)], features=8, outputs=len(FREQUENCIES))


def build_s5() -> nn.Module:
    """S5, two layers, H = 8, P = 8 stored states of 16."""
    return S5Model(8, 8, layers=2, outputs=len(FREQUENCIES))


def build_lru() -> nn.Module:
    """LRU, two layers, H = 8, N = 16."""
    return LRUModel(8, 16, layers=2, outputs=len(FREQUENCIES))


def build_mamba1() -> nn.Module:
    """Mamba-1 of transformers, two layers, hidden 16, inner 32, state 8."""
    from transformers import MambaConfig, MambaForCausalLM

    return MambaForCausalLM(MambaConfig(vocab_size=LEVELS, hidden_size=16, state_size=8, num_hidden_layers=2, tie_word_embeddings=True))


def build_mamba2() -> nn.Module:
    """Mamba-2 of transformers, two layers, hidden 16, four heads of 8, state 8, one group."""
    from transformers import Mamba2Config, Mamba2ForCausalLM

    return Mamba2ForCausalLM(
        Mamba2Config(
            vocab_size=LEVELS,
            hidden_size=16,
            num_heads=4,
            head_dim=8,
            state_size=8,
            n_groups=1,
            num_hidden_layers=2,
            chunk_size=32,
            tie_word_embeddings=True,
        )
    )


FAMILIES: dict[str, Family] = {
    "s4d": Family(build_s4d, AMPLITUDES, Recipe(400, ssm_rate=1e-2)),
    "s4": Family(build_s4, AMPLITUDES, Recipe(600)),
    "s5": Family(build_s5, AMPLITUDES, Recipe(600)),
    "lru": Family(build_lru, AMPLITUDES, Recipe(500)),
    "mamba1": Family(build_mamba1, NEXT_LEVEL, Recipe(300), torch.float32),
    "mamba2": Family(build_mamba2, NEXT_LEVEL, Recipe(300), torch.float32),
}


def as_float32(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A detached copy with every real tensor in single precision."""
    return {
        name: value.detach().to(torch.float32 if value.is_floating_point() else value.dtype, copy=True) for name, value in state.items()
    }


def train_family(name: str, *, seed: int = 0, steps: int | None = None, threads: int = 1) -> Trained:
    """Build and train one of `FAMILIES`; equal arguments give equal tensors on one machine.

    Args:
        name: key of `FAMILIES`.
        seed: seed of the initial values and of the batches.
        steps: in place of the recipe's number of steps.
        threads: threads of torch; the committed files used one.
    """
    family = FAMILIES[name]
    recipe = family.recipe if steps is None else replace(family.recipe, steps=steps)
    with reproducible(seed, dtype=family.dtype, threads=threads):
        model = family.build()
        initial, before = as_float32(model.state_dict()), family.task.held_out(model)
        optimizer = train(model, family.task, recipe=recipe, seed=seed)
        return Trained(model, optimizer, initial, recipe, before, family.task.held_out(model))


def write(name: str, trained: Trained, *, seed: int, out: Path) -> list[Path]:
    """Write the files of one family into the folder `out`; returns their paths (a folder for Mamba-2)."""
    state = as_float32(trained.model.state_dict())
    if name == "s4d":
        paths = [out / "s4d_initial.safetensors", out / "s4d_trained.safetensors"]
        write_safetensors(paths[0], trained.initial)
        write_safetensors(paths[1], state)
        return paths
    if name == "s4":
        path = out / "s4_dplr_trained.pt"
        config = argparse.Namespace(
            d_model=8, n_layers=2, d_state=16, n_ssm=2, mode="dplr", init="legs", l_max=SAMPLES, lr=trained.recipe.rate, seed=seed
        )
        write_torch(path, state, trained.optimizer, epoch=trained.recipe.steps // STEPS_PER_EPOCH, config=config)
        return [path]
    if name == "s5":
        path = out / "s5_trained.msgpack"
        write_flax(path, trained.model, trained.optimizer, step=trained.recipe.steps)
        return [path]
    if name == "lru":
        path = out / "lru_trained.npz"
        write_npz(path, state)
        return [path]
    if name == "mamba1":
        path = out / "mamba1_trained.safetensors"
        # The head is the embedding matrix; safetensors stores a shared tensor once, as save_pretrained does.
        write_safetensors(path, {key: value for key, value in state.items() if key != "lm_head.weight"})
        return [path]
    path = out / "mamba2_trained"
    trained.model.save_pretrained(path)
    (path / "generation_config.json").unlink(missing_ok=True)
    return [path]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the sample checkpoints of ssmspec.")
    parser.add_argument("family", choices=[*FAMILIES, "all"])
    parser.add_argument("--seed", type=int, default=0, help="of initial values and batches")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write into")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in FAMILIES if options.family == "all" else [options.family]:
        start = time.perf_counter()
        trained = train_family(name, seed=options.seed)
        paths = write(name, trained, seed=options.seed, out=options.out)
        seconds = time.perf_counter() - start
        print(f"{name}: {trained.recipe.steps} steps, loss {trained.loss_before:.4f} -> {trained.loss_after:.4f}, {seconds:.1f} s")
        for path in paths:
            print(f"  {path}")


if __name__ == "__main__":
    main()
