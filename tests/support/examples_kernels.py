"""Tiny layers whose files hold or generate a convolution kernel, and the kernel that the original module of each one uses.

The truths are written from the original code, sample by sample, in float64 from the stored float32 numbers; nothing of ssmspec is in them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from factories import Tensors, single, wide

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class KernelExample:
    """One layer.

    Args:
        tensors: by suffix. kernel: (K, O, I, L), sample j acts at lag first_lag + j. skip: (K, O, I).
        assume: what the user must say. config: what a configuration says instead.
    """

    family: str
    tensors: Tensors
    kernel: Array
    skip: Array
    first_lag: int = 0
    assume: Mapping[str, str | float] = field(default_factory=dict)
    config: Mapping[str, object] = field(default_factory=dict)

    def under(self, prefix: str) -> Tensors:
        return {f"{prefix}.{name}": values for name, values in self.tensors.items()}


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Array:
    return single(scale * rng.standard_normal(shape))


def per_copy(kernel: Array, skip: Array | None = None) -> tuple[Array, Array]:
    """A kernel (K, L) and D (K,) with their axes of outputs and inputs."""
    skip = np.zeros(len(kernel)) if skip is None else wide(skip)
    return kernel[:, None, None, :], skip[:, None, None]


# --- Evo 2: vortex, model.py (HyenaCascade), engine.py ---


def evo2_hcm(rng: np.random.Generator) -> KernelExample:
    tensors = {"filter.h": normal(rng, 2, 1, 20), "filter.D": normal(rng, 6), "filter.short_filter_weight": normal(rng, 18, 1, 3)}
    kernel = [wide(tensors["filter.h"])[channel // 3, 0] for channel in range(6)]
    return KernelExample("evo-2-hcm", tensors, *per_copy(np.array(kernel), tensors["filter.D"]))


def evo2_hcm_in_training(rng: np.random.Generator) -> KernelExample:
    """savanna: h times decay, of which hyena_medium_conv_len samples are used."""
    tensors = {"filter.h": normal(rng, 2, 20), "filter.decay": single(rng.uniform(0, 1, (2, 20))), "conv_bias": normal(rng, 4)}
    product = wide(tensors["filter.h"]) * wide(tensors["filter.decay"])
    kernel = np.array([product[channel // 2, :12] for channel in range(4)])
    config = {"hyena_medium_conv_len": 12}
    return KernelExample("evo-2-hcm", tensors, *per_copy(kernel, tensors["conv_bias"]), config=config)


def evo2_hcs(rng: np.random.Generator) -> KernelExample:
    tensors = {"filter.h": normal(rng, 2, 1, 7), "filter.short_filter_weight": normal(rng, 12, 1, 3)}
    kernel = [[wide(tensors["filter.h"])[channel // 2, 0, 6 - lag] for lag in range(7)] for channel in range(4)]
    return KernelExample("evo-2-hcs", tensors, *per_copy(np.array(kernel)))


def evo2_hcs_in_training(rng: np.random.Generator, *, fast: bool = False) -> KernelExample:
    """NeMo, hyena_utils.py: F.conv1d of groups with repeat_interleave, and conv_bias of groups times the input."""
    tensors = {
        "mixer.short_conv.short_conv_weight": normal(rng, *((2, 4) if fast else (2, 1, 7))),
        "hyena_proj_conv.short_conv_weight": normal(rng, *((12, 3) if fast else (12, 1, 3))),
    }
    tensors |= {} if fast else {"mixer.conv_bias": normal(rng, 2)}
    weight = wide(tensors["mixer.short_conv.short_conv_weight"]).reshape(2, -1)
    kernel = np.array([weight[channel // 2, ::-1] for channel in range(4)])
    skip = np.zeros(4) if fast else np.array([tensors["mixer.conv_bias"][channel // 2] for channel in range(4)])
    return KernelExample("evo-2-hcs", tensors, *per_copy(kernel, skip))


def lfm2(rng: np.random.Generator) -> KernelExample:
    tensors = {
        "conv.conv.weight": normal(rng, 4, 1, 3),
        "conv.in_proj.weight": normal(rng, 12, 4),
        "conv.out_proj.weight": normal(rng, 4, 4),
    }
    kernel = [[wide(tensors["conv.conv.weight"])[channel, 0, 2 - lag] for lag in range(3)] for channel in range(4)]
    return KernelExample("lfm2-conv", tensors, *per_copy(np.array(kernel)))


# --- Hyena: safari and hyena-dna, hyena.py, HyenaFilter.filter ---


def hyena(
    rng: np.random.Generator,
    *,
    inner: int = 2,
    shift: float = 0.05,
    embedded: bool = True,
    normalized: str = "",
    both: bool = False,
) -> KernelExample:
    d, L, width, features = 4, 24, 5, 5
    tensors: Tensors = {"bias": normal(rng, d), "modulation.deltas": single(np.linspace(-3, -15, d)[None, None])}
    bands = (features - 1) // 2
    z = np.empty((L, features))
    for l in range(L):
        for band, f in enumerate(np.linspace(1e-4, bands - 1, bands)):
            turn = np.exp(-1j * f * 2 * np.pi * l / L)
            z[l, 1 + band], z[l, 1 + bands + band] = turn.real, turn.imag
        z[l, 0] = l / (L - 1)
    t = z[:, 0]
    if embedded:
        tensors["pos_emb.z"], tensors["pos_emb.t"] = single(z[None]), single(t[None, :, None])
        z, t = wide(tensors["pos_emb.z"])[0], wide(tensors["pos_emb.t"])[0, :, 0]
    shared = single(1 + 0.3 * rng.standard_normal((1, width)))

    def filtered(module: str) -> Array:
        for place in range(inner + 1):
            tensors[f"{module}.{2 * place}.weight"] = normal(rng, width, width if place else features)
            tensors[f"{module}.{2 * place}.bias"] = normal(rng, width)
            tensors[f"{module}.{2 * place + 1}.freq"] = shared
        tensors[f"{module}.{2 * inner + 2}.weight"] = normal(rng, d, width)
        h = np.empty((d, L))
        for l in range(L):
            x = z[l]
            for place in range(inner + 1):
                matrix, bias = (wide(tensors[f"{module}.{2 * place}.{part}"]) for part in ("weight", "bias"))
                x = np.sin(wide(shared)[0] * (matrix @ x + bias))
            free = wide(tensors[f"{module}.{2 * inner + 2}.weight"]) @ x
            window = np.exp(-t[l] * np.abs(wide(tensors["modulation.deltas"])[0, 0])) + shift
            if normalized == "before":
                free = free / np.abs(free).sum()
            h[:, l] = free * window
            if normalized == "after":
                h[:, l] /= np.abs(h[:, l]).sum()
        return h

    h = filtered("implicit_filter")
    if both:  # M2-BERT: entry j of the second acts at lag -(1 + j)
        ahead = filtered("implicit_filter_rev")
        h = np.array([[late[-1 - lag] if lag < 0 else own[lag] for lag in range(-L, L)] for own, late in zip(h, ahead, strict=True)])
    assume: dict[str, str | float] = {"hyena_shift": shift} | ({} if embedded else {"hyena_length": L})
    assume |= {"hyena_normalized": normalized} if normalized else {}
    return KernelExample("hyena", tensors, *per_copy(h, tensors["bias"]), first_lag=-L if both else 0, assume=assume)


# --- long_conv.py, long_conv_kernel.py of safari ---


def long_conv(rng: np.random.Generator, *, heads: int = 1, both: bool = False, lam: float = 0.003) -> KernelExample:
    d, L = 3, 16
    tensors = {"kernel.kernel": normal(rng, heads * (1 + both), d, L, scale=0.02), "D": normal(rng, heads, d)}
    w = wide(tensors["kernel.kernel"])
    k = np.where(np.abs(w) > lam, w - lam * np.sign(w), 0)
    causal = k[:heads].reshape(-1, L)
    if both:  # entry j of the second half acts at lag -(1 + j)
        ahead = k[heads:].reshape(-1, L)
        kernel = np.array(
            [[row[-1 - lag] if lag < 0 else own[lag] for lag in range(-L, L)] for own, row in zip(causal, ahead, strict=True)]
        )
        return KernelExample("long-conv", tensors, *per_copy(kernel, tensors["D"].reshape(-1)), first_lag=-L, assume={"longconv_lam": lam})
    return KernelExample("long-conv", tensors, *per_copy(causal, tensors["D"].reshape(-1)), assume={"longconv_lam": lam})


# --- SGConv: gconv_standalone.py, GConv.forward ---


def stretched(row: Array, factor: int, nearest: bool) -> list[float]:
    """F.interpolate with a scale factor: linear between the middles of samples (align_corners false), or nearest."""
    found = []
    for place in range(len(row) * factor):
        if nearest:
            found.append(row[place // factor])
            continue
        at = max((place + 0.5) / factor - 0.5, 0.0)
        low = int(np.floor(at))
        high = min(low + 1, len(row) - 1)
        found.append(row[low] * (1 - (at - low)) + row[high] * (at - low))
    return found


def sgconv(rng: np.random.Generator, *, mode: str = "cat_randn", scales: int = 4, both: bool = False, used: bool = True) -> KernelExample:
    d, size = 3, 4
    rows = 2 if both else 1
    tensors: Tensors = {f"kernel_list.{i}": normal(rng, rows, d, size) for i in range(scales)}
    tensors |= {"multiplier": single(rng.uniform(0.5, 2, (1, d, 1))), "D": normal(rng, 1, d)}
    tensors |= {"kernel_norm": single(rng.uniform(1, 2, (rows, d, 1))) if used else single(np.ones((d, 1)))}
    tensors["kernel_norm_initialized"] = np.array(used)
    length = size * 2 ** (scales - 1)
    kernel = np.zeros((rows, d, length))
    for c in range(rows):
        for h in range(d):
            place = 0
            for i in range(scales):
                added = mode.startswith("sum")
                scaled = wide(tensors[f"kernel_list.{i}"])[c, h] * wide(tensors["multiplier"])[0, h, 0] ** (scales - i - 1)
                part = stretched(scaled, 2 ** (i if added else max(0, i - 1)), "nearest" in mode)
                begin = 0 if added else place
                kernel[c, h, begin : begin + len(part)] += part
                place += len(part)
            norm = wide(tensors["kernel_norm"])[c, h, 0] if used else np.sqrt((kernel[c, h] ** 2).sum())
            kernel[c, h] /= norm
    assume = {} if mode == "cat_randn" else {"sgconv_mode": mode}
    skip = tensors["D"].reshape(-1)
    if both:
        whole = np.concatenate([kernel[1, :, ::-1], kernel[0]], axis=1)
        return KernelExample("sgconv", tensors, *per_copy(whole, skip), first_lag=-length, assume=assume)
    return KernelExample("sgconv", tensors, *per_copy(kernel[0], skip), assume=assume)


# --- CKConv: ckconv.py, KernelNet; causalconv.py ---


def ckconv(rng: np.random.Generator, *, length: int = 20, told: bool = True) -> KernelExample:
    inputs, outputs, width, omega = 2, 3, 4, 12.5
    tensors: Tensors = {"bias": normal(rng, outputs)} | ({"train_length": np.array([length], np.int32)} if told else {})
    for i, (rows, columns) in {0: (width, 1), 4: (width, width), 8: (outputs * inputs, width)}.items():
        tensors[f"Kernel.kernel_net.{i}.weight_v"] = normal(rng, rows, columns, 1, scale=0.2)
        tensors[f"Kernel.kernel_net.{i}.weight_g"] = single(rng.uniform(0.5, 1.5, (rows, 1, 1)))
        tensors[f"Kernel.kernel_net.{i}.bias"] = normal(rng, rows)
    stored = np.empty((outputs * inputs, length))
    for l in range(length):
        x = np.array([-1 + 2 * l / (length - 1)])
        for i in (0, 4, 8):
            g, v, b = (wide(tensors[f"Kernel.kernel_net.{i}.{part}"]) for part in ("weight_g", "weight_v", "bias"))
            x = np.array([g[r, 0, 0] / np.sqrt((v[r] ** 2).sum()) * (v[r, :, 0] @ x) + b[r] for r in range(len(b))])
            x = x if i == 8 else np.sin(omega * x)
        stored[:, l] = x
    if length % 2 == 0:
        stored = np.concatenate([np.zeros((len(stored), 1)), stored], axis=1)
    kernel = stored[:, ::-1].reshape(1, outputs, inputs, -1)  # a convolution of torch: the last sample acts first
    assume: dict[str, str | float] = {"ckconv_omega_0": omega} | ({} if told else {"ckconv_length": length})
    return KernelExample("ckconv", tensors, kernel, np.zeros((1, outputs, inputs)), assume=assume)


def _seeded(number: int) -> np.random.Generator:
    return np.random.default_rng(1000 + number)


KERNELS: Mapping[str, KernelExample] = {
    "evo-2-hcm": evo2_hcm(_seeded(0)),
    "evo-2-hcm-in-training": evo2_hcm_in_training(_seeded(1)),
    "evo-2-hcs": evo2_hcs(_seeded(2)),
    "evo-2-hcs-in-training": evo2_hcs_in_training(_seeded(26)),
    "evo-2-hcs-fast": evo2_hcs_in_training(_seeded(27), fast=True),
    "lfm2-conv": lfm2(_seeded(3)),
    "hyena": hyena(_seeded(4)),
    "hyena-safari": hyena(_seeded(5), shift=0.0),
    "hyena-without-positions": hyena(_seeded(6), embedded=False),
    "hyena-one-inner-layer": hyena(_seeded(7), inner=1),
    "hyena-normalized": hyena(_seeded(8), normalized="after"),
    "hyena-normalized-before": hyena(_seeded(9), normalized="before"),
    "hyena-two-sided": hyena(_seeded(25), shift=0.0, both=True),
    "long-conv": long_conv(_seeded(10)),
    "long-conv-heads": long_conv(_seeded(11), heads=2),
    "long-conv-two-sided": long_conv(_seeded(12), both=True),
    "conv-kernel-of-s4": long_conv(_seeded(13), lam=0.0),
    "sgconv": sgconv(_seeded(14)),
    "sgconv-sum": sgconv(_seeded(15), mode="sum_randn"),
    "sgconv-nearest": sgconv(_seeded(16), mode="cat_randn_nearest"),
    "sgconv-two-sided": sgconv(_seeded(17), both=True),
    "sgconv-not-used": sgconv(_seeded(18), used=False),
    "ckconv": ckconv(_seeded(19)),
    "ckconv-odd": ckconv(_seeded(20), length=21),
    "ckconv-without-length": ckconv(_seeded(21), told=False),
}
