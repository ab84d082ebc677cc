"""One layer of one checkpoint as the report stores it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ssmspec.errors import printable
from ssmspec.report.documents.document import Document
from ssmspec.report.html.packing import Amount, bins_of, first_modes, highest, histogram, packed, packed_curve, packed_places, sampled
from ssmspec.statistics import HALF_LIFE, STATISTICS, LayerAnalysis, Summary
from ssmspec.systems.grid import FloatArray
from ssmspec.systems.statespace import ComplexArray


@dataclass(slots=True)
class Texts:
    """Sentences that many layers share, each stored once and named by its place."""

    all: list[str] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)

    def place(self, text: str) -> int:
        """The place of a text, which is added if it is new."""
        shown = printable(text)
        if shown not in self._places:
            self._places[shown] = len(self.all)
            self.all.append(shown)
        return self._places[shown]

    def places(self, texts: Sequence[str]) -> list[int]:
        """The places of some texts."""
        return [self.place(text) for text in texts]


@dataclass(frozen=True, slots=True)
class Version:
    """A layer in one checkpoint, and the versions of the same layer in the others, with which it shares the bins of histograms."""

    layer: LayerAnalysis
    all: Sequence[LayerAnalysis]


def layer_data(version: Version, texts: Texts, amount: Amount) -> Document:
    """Statistics, curve, poles, Hankel values and half-lives of a layer; what is missing is null beside the place of its reason."""
    layer = version.layer
    return {
        "problem": None if layer.problem is None else texts.place(layer.problem),
        "sound": layer.sound,
        "notes": texts.places(layer.notes),
        "faults": texts.places([fault.text for fault in layer.faults] if layer.problem is None else []),
        "assumptions": texts.places(layer.assumptions),
        "statistics": [_summary(layer.statistics[name], texts) for name in STATISTICS],
        "curve": _curve(layer, amount),
        "poles": _poles(version, amount),
        "hankel": _hankel(layer),
        "hankelMissing": _missing_hankel(layer, texts),
        "lives": _lives(layer, amount),
        "memory": None if layer.memory is None else [[tokens, share] for tokens, share in layer.memory.items()],
    }


def _summary(value: Summary, texts: Texts) -> list[float | None] | int:
    """Median and range; the place of the reason where there is no value."""
    if value.median is None:
        return texts.place(value.reason or "no value")
    return [value.median] if value.p5 is None else [value.median, value.p5, value.p95]


def _curve(layer: LayerAnalysis, amount: Amount) -> Document | None:
    """|H| at one point of every bin of the grid, and which point that is."""
    if layer.curve is None:
        return None
    bins = bins_of(len(layer.curve.median), amount.points)
    places = highest(layer.curve.median, bins)
    return {"places": packed_places(places - bins[:-1]), **packed_curve(layer.curve, places)}


def _poles(version: Version, amount: Amount) -> Document | None:
    """A sample of the poles in both planes, or histograms of decay rates and half-lives where all poles of all versions are real."""
    layer = version.layer
    if not layer.poles.size or layer.details is None:
        return None
    own, z = _both_planes(layer)
    if not len(own):
        return None
    real = all(not poles.imag.any() for other in version.all for poles in _both_planes(other))
    document: Document = {"count": len(own), "continuous": layer.continuous_poles}
    if real:
        rates, lives = ([of(other) for other in version.all] for of in (_decay_rates, _pole_lives))
        document["rates"] = histogram(_decay_rates(layer), np.concatenate(rates)) if layer.continuous_poles else None
        document["lives"] = histogram(_pole_lives(layer, amount), np.concatenate(lives))
        return document | {"endless": len(own) - len(_pole_lives(layer, amount))}
    places = sampled(own, amount.poles)
    planes = {"s": own if layer.continuous_poles else None, "z": z}
    for plane, poles in planes.items():
        document[plane] = None if poles is None else [packed(part[places]) for part in (poles.real, poles.imag)]
    document["shown"] = len(places)
    return document


def _both_planes(layer: LayerAnalysis) -> tuple[ComplexArray, ComplexArray]:
    """The finite poles of all copies in their own plane and in the z-plane (upper half), each (n,)."""
    assert layer.details is not None
    own, z = layer.poles.ravel(), layer.details.discrete_poles.ravel()
    usable = np.isfinite(own) & np.isfinite(z)
    own, z = own[usable], z[usable]
    return own, np.where(z.imag < 0, z.conj(), z)  # a pole beyond Nyquist is an alias of one in the upper half


def _decay_rates(layer: LayerAnalysis) -> FloatArray:
    """-Re a [1/model time] of every finite pole."""
    return -_both_planes(layer)[0].real


def _pole_lives(layer: LayerAnalysis) -> FloatArray:
    """-ln 2/log|z| [samples] of every pole that decays, and not at once."""
    sizes = np.abs(_both_planes(layer)[1])
    return -np.log(2) / np.log(sizes[(sizes > 0) & (sizes < 1)])


def _hankel(layer: LayerAnalysis) -> Document | None:
    if layer.details is None or layer.details.hankel is None:
        return None
    count = len(layer.details.hankel.median)
    return {"count": count, **packed_curve(layer.details.hankel, first_modes(count))}


def _missing_hankel(layer: LayerAnalysis, texts: Texts) -> int | None:
    missing = None if layer.details is None else layer.details.hankel_missing
    return None if missing is None else texts.place(missing)


def _lives(layer: LayerAnalysis, amount: Amount) -> Document | None:
    """Half-lives [samples] of the copies that have one: all, or evenly spaced ones in rising order, the extremes included."""
    values = layer.half_lives if layer.half_lives is not None else layer.values.get(HALF_LIFE)
    known = np.zeros(0) if values is None else np.sort(values[np.isfinite(values)])
    if not known.size:
        return None
    places = np.unique(np.linspace(0, known.size - 1, min(known.size, amount.lives)).round().astype(int))
    return {"count": int(known.size), "values": known[places].tolist()}
