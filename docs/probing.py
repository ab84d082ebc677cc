"""The tables of probing.md.

python docs/probing.py waves FOLDER           # S of the runs of a sweep of waves, and the slopes of their layers
python docs/probing.py bands FOLDER           # S by half octaves of the runs TASK-SEED in a folder, band noise, and their rank correlation
python docs/probing.py architectures          # S4D, LRU, Mamba-1 and a Transformer on one task, before and after training
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

SEEDS = 3
LENGTH, BATCH, STEPS, RATE = 128, 16, 500, 1e-2
WIDTHS = {"S4D": 32, "LRU": 28, "Mamba-1": 18, "Transformer": 20}  # 6573 to 6943 parameters
TONES = (0.6, 1.2, 2.4)  # rad/sample, one in each octave that is resolved
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


Rows = dict[tuple[float, float], tuple[float, float, float, float]]  # of a band: S, its share before and after training, the loss


def bands(folder: Path) -> Iterator[str]:
    """Means of S before and after training, and what noise of equal energy in each half octave costs, over the seeds of every task."""
    tasks: dict[str, list[Rows]] = {}
    for run in sorted(path for path in folder.iterdir() if (path / "results.json").is_file()):
        line, rows = _noisy(run)
        yield line
        tasks.setdefault(run.name.rpartition("-")[0], []).append(rows)
    pairs = []
    for task, runs in tasks.items():
        shared = [key for key in runs[0] if all(key in rows for rows in runs)]
        values = np.array([[rows[key] for key in shared] for rows in runs])
        yield f"{task}, {len(runs)} seeds of training: means, and of the loss the deviation over them"
        yield "| theta [rad/sample] | S, share before training | S, share after | S | loss of accuracy under noise at 10 dB |"
        yield "|---|---|---|---|---|"
        for (low, high), (own, before, after, lost) in zip(shared, values.mean(axis=0), strict=True):
            place = shared.index((low, high))
            spread = f" +- {values[:, place, 3].std(ddof=1):.2g}" if len(runs) > 1 else ""
            yield f"| {low:.2f} to {high:.2f} | {before:.3f} | {after:.3f} | {own:.3g} | {lost:.3f}{spread} |"
        pairs.append([(rows[:, 0], rows[:, 3]) for rows in values])
        yield _pooled(task, pairs[-1:])
    yield _pooled("all tasks", pairs)


def _noisy(run: Path) -> tuple[str, Rows]:
    """A line on one run, and what its bands give."""
    noise = Disturbance(per_octave=2, snr=(LEVEL,), seeds=SEEDS)
    after = probe_subject(subject(str(run), Given(count=32)), Asked(options={"samples": 16, "layers": None}, noise=noise))
    before = probe_subject(subject(str(run), Given(count=32, which="initial")), Asked(options={"samples": 16}))
    robust, place = after.robustness[0], after.places[0]
    means = [{(round(b.low, 6), round(b.high, 6)): b for b in each.places[0].bands(2)} for each in (before, after)]
    found: Rows = {}
    for effect in robust.effects:
        key = (round(effect.low, 6), round(effect.high, 6))
        if key not in means[1] or key not in means[0]:
            continue  # sequences of a batch of the task may be longer than those that were probed
        shares = [each[key].mean * each[key].bins / sum(b.mean * b.bins for b in each.values()) for each in means]
        found[key] = (means[1][key].mean, shares[0], shares[1], robust.clean - effect.mean)
    own, lost = (np.array([values[which] for values in found.values()]) for which in (0, 3))
    rank = f"{stats.spearmanr(own, lost)[0]:.2f}" if len(own) > 2 and np.ptp(lost) > 0 else "none"
    return f"{run.name}: {robust.metric} {robust.clean:.3f}, L {place.length}, {len(own)} bands, rank correlation {rank}", found


def _pooled(what: str, tasks: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]]) -> str:
    """Mean of the rank correlations of all runs. Bands are permuted alike in all seeds of a task, which so do not count as more bands."""
    usable = [pairs for pairs in tasks if len(pairs[0][0]) > 2 and all(np.ptp(lost) > 0 for _, lost in pairs)]
    if not usable:
        return f"{what}: no run with three bands or more"
    rng = np.random.default_rng(0)

    def mean(shuffled: bool) -> float:
        ranks = []
        for pairs in usable:
            order = rng.permutation(len(pairs[0][0])) if shuffled else slice(None)
            ranks.append(np.mean([stats.spearmanr(own[order], lost)[0] for own, lost in pairs]))
        return float(np.mean(ranks))

    value = mean(False)
    above = sum(abs(mean(True)) >= abs(value) - 1e-12 for _ in range(PERMUTATIONS))
    p = (above + 1) / (PERMUTATIONS + 1)
    return f"{what}: mean rank correlation {value:.2f}, {len(usable)} of {len(tasks)} tasks, permutation p {p:.4f}"


class Lru(nn.Module):
    """LRU with H inputs and outputs and P poles: |z| in 0.9..0.999, phases up to pi (arXiv 2303.06349); (B, H, L) to (B, H, L)."""

    def __init__(self, H: int, P: int) -> None:
        super().__init__()
        radius = torch.sqrt(torch.rand(P) * (0.999**2 - 0.9**2) + 0.9**2)
        self.nu = nn.Parameter(torch.log(-torch.log(radius)))
        self.phase = nn.Parameter(torch.log(math.pi * torch.rand(P)))
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
    """Causal self-attention with rotary positions (arXiv 2104.09864) and a feed-forward part; (B, H, L) to (B, H, L)."""

    def __init__(self, H: int) -> None:
        super().__init__()
        self.heads, self.norm = H // 4, nn.LayerNorm(H)
        self.qkv, self.out = nn.Linear(H, 3 * H), nn.Linear(H, H)
        self.inner = nn.Sequential(nn.Linear(H, 2 * H), nn.GELU(), nn.Linear(2 * H, H))

    def forward(self, u: Tensor) -> Tensor:
        q, k, v = self.qkv(u.mT).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = nn.functional.scaled_dot_product_attention(_rotated(q), _rotated(k), v, is_causal=True)
        x = self.out(found.transpose(1, 2).flatten(2))
        return (x + self.inner(self.norm(u.mT + x))).mT


def _rotated(x: Tensor) -> Tensor:
    """(.., L, d) with pairs of numbers turned by angles that grow with the position."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[-2])[:, None] * 10_000 ** (-torch.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * angles.cos() - second * angles.sin(), first * angles.sin() + second * angles.cos()], dim=-1)


class Model(nn.Module):
    """Encoder, two blocks with a norm before each, mean over time, decoder: (B, L, 1) to the amplitudes (B, J)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        H = WIDTHS[kind]
        make = {
            "S4D": lambda: S4D(H, 16),
            "LRU": lambda: Lru(H, H),
            "Mamba-1": lambda: Mamba(H, 8),
            "Transformer": lambda: Attention(H),
        }[kind]
        self.encoder, self.decoder = nn.Linear(1, H), nn.Linear(H, len(TONES))
        self.blocks = nn.ModuleList(make() for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(H) for _ in range(2))

    def forward(self, u: Tensor) -> Tensor:
        x = self.encoder(u)
        for block, norm in zip(self.blocks, self.norms, strict=True):
            found = block(norm(x).mT)
            x = x + (found[0] if isinstance(found, tuple) else found).mT
        return self.decoder(x.mean(1))


def examples(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tones with uniform amplitudes and random phases in noise, and the amplitudes."""
    amplitudes = torch.rand(count, len(TONES), generator=generator)
    phases = 2 * math.pi * torch.rand(count, len(TONES), 1, generator=generator)
    waves = torch.sin(torch.tensor(TONES)[:, None] * torch.arange(LENGTH) + phases)
    u = torch.einsum("bj,bjl->bl", amplitudes, waves) + 0.3 * torch.randn(count, LENGTH, generator=generator)
    return u[..., None], amplitudes


def architectures() -> Iterator[str]:
    """S in octaves as shares of the resolved whole, its mean there, slopes, and what the model learned, for every architecture and seed."""
    yield "| model | parameters | seed | explained | slope before | after | mean S before | after | shares of octaves before | after |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    tests, wanted = examples(512, torch.Generator().manual_seed(2**20))
    found: dict[str, list[list[float]]] = {}
    for kind in WIDTHS:
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            model = Model(kind)
            start = ssmspec.probe(model, tests[:32])["input"]
            _fit(model, seed)
            with torch.no_grad():
                skill = 1 - float((model(tests) - wanted).square().mean() / wanted.var(dim=0).mean())
            end = ssmspec.probe(model, tests[:32])["input"]
            means = [_resolved(place) for place in (start, end)]
            found.setdefault(kind, []).append([start.slope.value or math.nan, end.slope.value or math.nan, *np.log10(means)])
            count = sum(p.numel() for p in model.parameters())
            numbers = f"{pm(start.slope)} | {pm(end.slope)} | {means[0]:.2g} | {means[1]:.2g}"
            yield f"| {kind} | {count} | {seed} | {skill:.3f} | {numbers} | {_shares(start)} | {_shares(end)} |"
    for column, what in enumerate(("slope before training", "slope after", "log10 of mean S before", "log10 of mean S after")):
        yield _grouped(what, {kind: np.array(rows)[:, column] for kind, rows in found.items()})


def _fit(model: nn.Module, seed: int) -> None:
    """New examples in every step; the same for all architectures."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS, pct_start=0.1)
    for _ in range(STEPS):
        u, a = examples(BATCH, generator)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(u), a).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def _grouped(what: str, groups: dict[str, np.ndarray]) -> str:
    """Means of the architectures, and whether they differ by more than seeds do: variance between over that within, runs permuted."""
    values, sizes = np.concatenate(list(groups.values())), [len(each) for each in groups.values()]
    rng = np.random.default_rng(0)

    def ratio(mixed: np.ndarray) -> float:
        return float(stats.f_oneway(*np.split(mixed, np.cumsum(sizes)[:-1]))[0])

    above = sum(ratio(rng.permutation(values)) >= ratio(values) - 1e-12 for _ in range(PERMUTATIONS))
    text = ", ".join(f"{kind} {each.mean():.2f} +- {each.std(ddof=1):.2f}" for kind, each in groups.items())
    return f"{what}: {text}; F {ratio(values):.1f}, permutation p {(above + 1) / (PERMUTATIONS + 1):.4f}"


def _resolved(place: FrequencySensitivity) -> float:
    """The mean of S over all bins that are resolved."""
    return float(place.curve[place.resolved].mean())


def _shares(place: FrequencySensitivity) -> str:
    parts = [band.mean * band.bins for band in place.bands() if band.resolved]
    return " ".join(f"{part / sum(parts):.2f}" for part in parts)


def main() -> None:
    """Print one of the tables."""
    torch.set_num_threads(1)
    kind, *paths = sys.argv[1:]
    lines = {"waves": lambda: waves(Path(paths[0])), "bands": lambda: bands(Path(paths[0])), "architectures": architectures}
    for line in lines[kind]():
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
