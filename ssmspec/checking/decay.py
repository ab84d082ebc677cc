"""The rule about decays: a trained layer rarely has the same decay in all modes; if it does, the decay comes from its initialization."""

from dataclasses import dataclass

import numpy as np

from ssmspec.checking.facts import LayerFacts

FAR = 2.0  # a decay is unusual if it differs from every known value by more than this factor
CONSTANT = 1e-6  # relative spread up to which decays count as equal; a few roundings of float32


@dataclass(frozen=True, slots=True)
class KnownDecay:
    """Initial decays of layers: -Re a [1/model time], or -log|z| [1/sample] for discrete poles.

    Args:
        what: name of the initialization. low, high: smallest and largest decay.
        discrete: for layers that store discrete poles. real: for real poles only.
    """

    what: str
    low: float
    high: float
    discrete: bool = False
    real: bool = False


KNOWN: tuple[KnownDecay, ...] = (
    KnownDecay("S4D-Lin, S4D-Inv, S4D-LegS; HiPPO-LegS of S4, S5 and DSS: 1/2", 0.5, 0.5),  # arXiv 2206.11893, section 4
    KnownDecay("S4D-Real and Mamba-1: n + 1, Mamba-2 and gated delta nets: uniform in 1..16; Mamba-3: 1", 1.0, 16.0, real=True),
    KnownDecay("ring of LRU and RG-LRU: |z| in 0.9..0.999", 0.001, 0.105, discrete=True),  # arXiv 2303.06349; 2402.19427
    KnownDecay("DFouT: |z| = exp(-xi/2), xi in 1e-3..1e-1", 0.0005, 0.05, discrete=True),  # arXiv 2508.20441
)


def unusual_decay(facts: LayerFacts) -> str | None:
    """The same decay in all modes, more than a factor FAR from every known one. For S4, the decay of the diagonal part is used."""
    system = facts.sound
    discrete, real = not system.has_step, not system.poles.imag.any()
    with np.errstate(divide="ignore"):
        decay = -np.log(np.abs(system.poles)) if system.discretization == "direct" else -system.poles.real
    value = float(decay.mean())
    if decay.size < 2 or not np.isfinite(decay).all() or np.ptp(decay) > CONSTANT * value:
        return None
    known = [entry for entry in KNOWN if entry.discrete == discrete and (real or not entry.real)]
    if any(entry.low / FAR <= value <= entry.high * FAR for entry in known):
        return None
    quantity = "-log|z|" if discrete else "-Re a"
    return f"{quantity} is {value:.4g} in all {decay.size} modes, far from known initializations ({'; '.join(e.what for e in known)})"
