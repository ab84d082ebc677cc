"""The tables of probing.md.

python docs/probing.py waves FOLDER           # S of the runs of a sweep of waves, and the slopes of their layers
python docs/probing.py bands RUN...           # S by half octaves of runs, band noise, and their rank correlation
python docs/probing.py architectures FOLDER   # S4D, LRU, Mamba-1 and a Transformer on one task, before and after training
"""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

import ssmspec
from ssmspec.nn import S4D
from ssmspec.nn.mamba import Mamba
from ssmspec.probing.robustness import Disturbance
from ssmspec.probing.subjects import Given, subject
from ssmspec.probing.whole import Asked, probe_subject
from ssmspec.statistics.frequency_sensitivity import Estimate, FrequencySensitivity

SEEDS = 2
LENGTH, WIDTH, EXAMPLES, STEPS = 256, 16, 512, 150
TONES = (0.1, 0.4, 1.0, 2.2)  # rad/sample
PERMUTATIONS = 9999
LEVEL = 10.0  # dB, of the signal over the noise


def pm(estimate: Estimate) -> str:
    """A number with its standard error."""
    return f"{estimate.value:.2f} +- {estimate.error:.2f}" if estimate.value is not None and estimate.error is not None else "none"


def waves(folder: Path) -> Iterator[str]:
    """Slopes of S of whole models and statistics of their layer, and the correlation over runs."""
    yield "| alpha | beta | seed | slope of S | before training | `spectral_slope` of the layer | `bias_slope` | before |"
    yield "|---|---|---|---|---|---|---|---|"
    found: list[tuple[float, ...]] = []
    for run in sorted(path for path in folder.iterdir() if (path / "results.json").is_file()):
        settings = json.loads((run / "results.json").read_text())["settings"]
        slopes = [_probed(run, which)["input"].slope for which in ("final", "initial")]
        layers = [ssmspec.analyze(run / f"{which}.safetensors")[0] for which in ("final", "initial")]
        numbers = [layers[0]["spectral_slope"].median, layers[0]["bias_slope"].median, layers[1]["bias_slope"].median]
        found.append((slopes[0].value or math.nan, *(math.nan if each is None else each for each in numbers), settings["beta"]))
        cells = [f"{settings['alpha']:g}", f"{settings['beta']:g}", str(settings["seed"]), *map(pm, slopes)]
        yield f"| {' | '.join([*cells, *(f'{each:.2f}' if each is not None else 'none' for each in numbers)])} |"
    values = np.array(found)
    for name, column in (("spectral_slope", 1), ("bias_slope", 2), ("beta", 4)):
        usable = np.isfinite(values[:, [0, column]]).all(axis=1)
        yield _correlated(f"slope of S and {name}, {usable.sum()} runs", values[usable, 0], values[usable, column])


def _probed(run: Path, which: str, **options: Any) -> Any:
    made = subject(str(run), Given(which=which, count=16))
    return ssmspec.probe(made.model, made.inputs, at=made.at, samples=16, **options)


def _correlated(what: str, first: np.ndarray, second: np.ndarray) -> str:
    """Spearman's rank correlation, with the p of random permutations (two-sided)."""
    if len(first) < 3:
        return f"{what}: too few"
    value, rng = float(stats.spearmanr(first, second)[0]), np.random.default_rng(0)
    above = sum(abs(stats.spearmanr(rng.permutation(first), second)[0]) >= abs(value) - 1e-12 for _ in range(PERMUTATIONS))
    return f"{what}: rank correlation {value:.2f}, permutation p {(above + 1) / (PERMUTATIONS + 1):.4f}"


def bands(runs: Sequence[str]) -> Iterator[str]:
    """Means of S before and after training, and what noise of equal energy in each half octave costs."""
    ranks: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for run in runs:
        task = Path(run).name.rpartition("-")[0]
        asked = Asked(options={"samples": 16, "layers": None}, noise=Disturbance(per_octave=2, snr=(LEVEL,), seeds=SEEDS))
        after = probe_subject(subject(run, Given(count=32)), asked)
        before = probe_subject(subject(run, Given(count=32, which="initial")), Asked(options={"samples": 16}))
        robust, place = after.robustness[0], after.places[0]
        means = [{(b.low, b.high): b for b in each.bands(2)} for each in (place, before.places[0])]
        yield f"{run}: {robust.metric} {robust.clean:.3f}, L {place.length}"
        yield "| theta [rad/sample] | S, share before training | S, share after | S | loss of accuracy under noise at 10 dB |"
        yield "|---|---|---|---|---|"
        rows = []
        for effect in robust.effects:
            key = next(k for k in means[0] if np.allclose(k, (effect.low, effect.high)))
            shares = [each[key].mean * each[key].bins / sum(b.mean * b.bins for b in each.values()) for each in means]
            own, lost = means[0][key], robust.clean - effect.mean
            rows.append((own.mean, lost))
            error = f" +- {own.error:.1g}" if own.error is not None else ""
            spread = f" +- {effect.spread:.2g}" if effect.spread is not None else ""
            label = f"{effect.low:.2f} to {effect.high:.2f}"
            yield f"| {label} | {shares[1]:.3f} | {shares[0]:.3f} | {own.mean:.3g}{error} | {lost:.3f}{spread} |"
        ranks.setdefault(task, []).append((np.array([s for s, _ in rows]), np.array([lost for _, lost in rows])))
    for task, pairs in ranks.items():
        yield _pooled(task, pairs)
    yield _pooled("all runs", [pair for pairs in ranks.values() for pair in pairs])


def _pooled(what: str, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
    """Mean of the rank correlations of runs; permutations are within each run, whose bands are what can be exchanged."""
    usable = [(s, lost) for s, lost in pairs if np.ptp(lost) > 0 and len(s) > 2]
    if not usable:
        return f"{what}: no run with three bands or more"
    rng = np.random.default_rng(0)

    def mean(shuffled: bool) -> float:
        return float(np.mean([stats.spearmanr(rng.permutation(s) if shuffled else s, lost)[0] for s, lost in usable]))

    value = mean(False)
    above = sum(abs(mean(True)) >= abs(value) - 1e-12 for _ in range(999))
    return f"{what}: mean rank correlation {value:.2f} over {len(usable)} of {len(pairs)} runs, permutation p {(above + 1) / 1000:.3f}"


class Lru(nn.Module):
    """LRU with H inputs and outputs and P poles: |z| in 0.9..0.999, phases up to pi/10 (arXiv 2303.06349); (B, H, L) to (B, H, L)."""

    def __init__(self, H: int, P: int) -> None:
        super().__init__()
        radius = torch.sqrt(torch.rand(P) * (0.999**2 - 0.9**2) + 0.9**2)
        self.nu = nn.Parameter(torch.log(-torch.log(radius)))
        self.phase = nn.Parameter(torch.log(math.pi / 10 * torch.rand(P)))
        self.B = nn.Parameter(torch.randn(P, H, 2) / math.sqrt(2 * H))
        self.C = nn.Parameter(torch.randn(H, P, 2) / math.sqrt(P))
        self.D = nn.Parameter(torch.randn(H))

    def forward(self, u: Tensor) -> Tensor:
        length = u.shape[-1]
        z = torch.exp(torch.complex(-torch.exp(self.nu), torch.exp(self.phase)))
        gamma = torch.sqrt(1 - z.abs() ** 2)
        powers = torch.exp(torch.log(z)[:, None] * torch.arange(length))
        H = torch.fft.fft(powers, 2 * length)
        x = torch.einsum("ph,bhl->bpl", gamma[:, None] * torch.view_as_complex(self.B), torch.fft.fft(u, 2 * length).to(z))
        y = torch.fft.ifft(torch.einsum("hp,bpl->bhl", torch.view_as_complex(self.C), H * x)).real[..., :length]
        return nn.functional.gelu(y + self.D[:, None] * u)


class Attention(nn.Module):
    """Causal self-attention with a feed-forward part, (B, H, L) to (B, H, L)."""

    def __init__(self, H: int) -> None:
        super().__init__()
        self.attention, self.norm = nn.MultiheadAttention(H, 2, batch_first=True), nn.LayerNorm(H)
        self.inner = nn.Sequential(nn.Linear(H, 2 * H), nn.GELU(), nn.Linear(2 * H, H))

    def forward(self, u: Tensor) -> Tensor:
        x = u.mT
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        x = x + self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]
        return self.inner(self.norm(x)).mT


class Model(nn.Module):
    """Encoder, two blocks with a norm before each, mean over time, decoder: (B, L, 1) to the amplitudes (B, 4)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        make = {
            "S4D": lambda: S4D(WIDTH, 16),
            "LRU": lambda: Lru(WIDTH, 16),
            "Mamba-1": lambda: Mamba(WIDTH, 8),
            "Transformer": lambda: Attention(WIDTH),
        }[kind]
        self.encoder, self.decoder = nn.Linear(1, WIDTH), nn.Linear(WIDTH, len(TONES))
        self.blocks = nn.ModuleList(make() for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.placed = kind == "Transformer"

    def forward(self, u: Tensor) -> Tensor:
        x = self.encoder(u)
        if self.placed:
            place = torch.arange(u.shape[1])[:, None] * 10_000 ** (-torch.arange(0, WIDTH, 2) / WIDTH)
            x = x + torch.cat([place.sin(), place.cos()], dim=1)
        for block, norm in zip(self.blocks, self.norms, strict=True):
            found = block(norm(x).mT)
            x = x + (found[0] if isinstance(found, tuple) else found).mT
        return self.decoder(x.mean(1))


def examples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Four tones with uniform amplitudes and random phases in noise, and the amplitudes."""
    generator = torch.Generator().manual_seed(seed)
    amplitudes = torch.rand(count, len(TONES), generator=generator)
    phases = 2 * math.pi * torch.rand(count, len(TONES), 1, generator=generator)
    waves = torch.sin(torch.tensor(TONES)[:, None] * torch.arange(LENGTH) + phases)
    u = torch.einsum("bj,bjl->bl", amplitudes, waves) + 0.3 * torch.randn(count, LENGTH, generator=generator)
    return u[..., None], amplitudes


def architectures(folder: Path) -> Iterator[str]:
    """S in octaves as shares of the resolved whole, slopes, and the error of the task, for every architecture and seed."""
    folder.mkdir(parents=True, exist_ok=True)
    yield "| model | parameters | seed | explained | slope before | after | share of S in octaves up to pi, before | after |"
    yield "|---|---|---|---|---|---|---|---|"
    u, a = examples(EXAMPLES, 0)
    tests, wanted = examples(256, 1)
    for kind in ("S4D", "LRU", "Mamba-1", "Transformer"):
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            model = Model(kind)
            start = ssmspec.probe(model, tests[:32])["input"]
            optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
            for _ in range(STEPS):
                rows = torch.randint(EXAMPLES, (32,))
                optimizer.zero_grad()
                nn.functional.mse_loss(model(u[rows]), a[rows]).backward()
                optimizer.step()
                schedule.step()
            with torch.no_grad():
                skill = 1 - float((model(tests) - wanted).square().mean() / wanted.var(dim=0).mean())
            end = ssmspec.probe(model, tests[:32])["input"]
            torch.save(model.state_dict(), folder / f"{kind}-{seed}.pt")
            count = sum(p.numel() for p in model.parameters())
            slopes = f"{pm(start.slope)} | {pm(end.slope)}"
            yield f"| {kind} | {count} | {seed} | {skill:.3f} | {slopes} | {_shares(start)} | {_shares(end)} |"


def _shares(place: FrequencySensitivity) -> str:
    parts = [band.mean * band.bins for band in place.bands() if band.resolved]
    return " ".join(f"{part / sum(parts):.2f}" for part in parts)


def main() -> None:
    """Print one of the tables."""
    torch.set_num_threads(1)
    kind, *paths = sys.argv[1:]
    lines = {"waves": lambda: waves(Path(paths[0])), "bands": lambda: bands(paths), "architectures": lambda: architectures(Path(paths[0]))}
    for line in lines[kind]():
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
