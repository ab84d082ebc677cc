"""The pages of the documentation, their code blocks, and a folder with the files that the blocks name."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from locations import ROOT, SAMPLES
from safetensors.numpy import save_file
from scipy.io import wavfile

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(path for path in DOCS.rglob("*.md") if "generated" not in path.parts)]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, and what it needs that a test has not ("gpu", "network", "hours")."""

    page: str
    number: int
    language: str
    text: str
    needs: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"

    @property
    def commands(self) -> list[list[str]]:
        """The lines of a shell block as words, without their comments."""
        return [shlex.split(line, comments=True) for line in self.text.splitlines() if line and not line.startswith("#")]


def blocks(path: Path) -> Iterator[Block]:
    """The blocks of a page, in their order."""
    page, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    for number, found in enumerate(re.finditer(r"^(?:<!-- needs: (\w+) -->\n)?```(\S*)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)):
        yield Block(page, number, found[2], found[3], found[1] or "")


def own_kernel(tensors: dict[str, np.ndarray], length: int) -> np.ndarray:
    """The kernel of own.safetensors, (channels, samples), by its recurrence: zero-order hold, B = 1, output 2 Re."""
    values = {name: each.astype(float) for name, each in tensors.items()}
    a = -np.exp(values["lambda_re"].T) + 1j * values["lambda_im"].T
    z = np.exp(a * np.exp(values["log_delta"])[:, None])
    state, samples = (z - 1) / a, []
    for _ in range(length):
        samples.append(2 * ((values["C"][..., 0] + 1j * values["C"][..., 1]) * state).sum(axis=1).real)
        state = z * state
    return np.stack(samples, axis=1)


def fill(folder: Path) -> None:
    """Make the files that the blocks name: small ones, some of which are the samples under another name."""
    rng = np.random.default_rng(20260711)
    (folder / "paper.mplstyle").write_text("font.family: serif\n", encoding="utf-8")
    (folder / "sample_checkpoints").symlink_to(SAMPLES)
    for name in ("model", "before", "after"):
        (folder / f"{name}.safetensors").symlink_to(SAMPLES / "s4d_trained.safetensors")
    (folder / "mamba").symlink_to(SAMPLES / "mamba2_trained")
    own = {"lambda_re": (6, 4), "lambda_im": (6, 4), "log_delta": (4,), "C": (4, 6, 2), "skip": (4,)}
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in own.items()}
    values["log_delta"] -= 4
    save_file({f"blocks.0.ssm.{name}": each for name, each in values.items()}, folder / "own.safetensors")
    np.save(folder / "k.npy", own_kernel(values, 512))
    np.save(folder / "tokens.npy", np.random.default_rng(0).integers(0, 32, 256))
    np.save(folder / "train.npy", np.cumsum(rng.normal(size=(16, 256)), axis=1))
    x, y = rng.normal(size=(20, 32)), rng.normal(size=20)
    np.save(folder / "X.npy", x)
    np.save(folder / "Y.npy", y)
    np.savez(folder / "X.npz", X=x, y=rng.integers(0, 2, size=20))
    np.savetxt(folder / "series.csv", np.cumsum(rng.normal(size=(300, 2)), axis=0), delimiter=",")
    for word in ("yes", "no"):
        (folder / "words" / word).mkdir(parents=True)
        for number in range(6):
            wavfile.write(folder / "words" / word / f"{number}.wav", 16000, (1000 * rng.normal(size=400)).astype(np.int16))
