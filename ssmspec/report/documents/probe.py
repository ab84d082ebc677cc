"""What a model hears as a document of schema ssmspec.probe/1, and as rows of a table."""

from collections.abc import Sequence

from ssmspec.report.documents.document import Document
from ssmspec.statistics.frequency_sensitivity import (
    PER_OCTAVE,
    Band,
    Estimate,
    FeatureSpectrum,
    FrequencySensitivity,
    Probed,
    Robustness,
)
from ssmspec.version import __version__

BAND_COLUMNS = ("place", "low", "high", "mean", "error", "bins", "resolved")


def probe_document(found: Probed, others: Sequence[Probed] = ()) -> Document:
    """The document of schema ssmspec.probe/1.

    Args:
        others: probes of other models beside it, such as of `--compare`.
    """
    return {
        "schema": "ssmspec.probe/1",
        "version": __version__,
        "models": [_model(each) for each in (found, *others)],
    }


def _model(found: Probed) -> Document:
    return {
        "path": found.path,
        "backward_passes": found.passes,
        "places": [_place(place) for place in found.places],
        "features": [_features(each) for each in found.features],
        "robustness": [_robustness(each) for each in found.robustness],
        "skipped": [{"name": name, "reason": reason} for name, reason in found.skipped],
        "notes": list(found.notes),
    }


def _place(place: FrequencySensitivity) -> Document:
    inputs, draws = place.draws.shape[:2]
    return {
        "name": place.name,
        "length": place.length,
        "channels": len(place.channels),
        "inputs": inputs,
        "samples": None if place.exact else draws,
        "outputs": place.outputs,
        "per_step": place.per_step,
        "window": "hann" if place.per_step else "none",
        "exact": place.exact,
        "relative_error": place.relative_error,
        "resolved_from": place.resolved_from,
        "half_sensitivity": _estimate(place.half_frequency),
        "slope": _estimate(place.slope),
        "bands": [_band(band) for band in place.bands(PER_OCTAVE)],
        "theta": place.theta.tolist(),
        "sensitivity": place.curve.tolist(),
        "notes": list(place.notes),
    }


def _estimate(estimate: Estimate) -> Document:
    return {"value": estimate.value, "error": estimate.error}


def _band(band: Band) -> Document:
    return {"low": band.low, "high": band.high, "mean": band.mean, "error": band.error, "bins": band.bins, "resolved": band.resolved}


def _features(each: FeatureSpectrum) -> Document:
    return {
        "name": each.name,
        "axes": each.axes,
        "theta": each.theta.tolist(),
        "power": each.power.tolist(),
        "relative_log_amplitude": each.relative.tolist(),
        "error": None if each.error is None else each.error.tolist(),
        "notes": list(each.notes),
    }


def _robustness(each: Robustness) -> Document:
    return {
        "kind": each.kind,
        "metric": each.metric,
        "meaning": each.meaning,
        "clean": each.clean,
        "effects": [
            {"low": e.low, "high": e.high, "db": e.level, "mean": e.mean, "spread": e.spread, "values": list(e.values)}
            for e in each.effects
        ],
        "notes": list(each.notes),
    }


def band_rows(places: Sequence[FrequencySensitivity]) -> list[list[object]]:
    """One row per place and half-octave band, under `BAND_COLUMNS`."""
    return [
        [place.name, band.low, band.high, band.mean, band.error, band.bins, band.resolved]
        for place in places
        for band in place.bands(PER_OCTAVE)
    ]
