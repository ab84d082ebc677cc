"""Frequencies in hertz and times in seconds, for users who give a sample rate."""

from dataclasses import replace

import numpy as np

from ssmspec.statistics import CheckpointAnalysis, LayerAnalysis, Summary


def in_physical_units(analysis: CheckpointAnalysis, sample_rate: float) -> CheckpointAnalysis:
    """The same analysis with rad/sample converted to Hz and samples converted to seconds, in every statistic.

    Args:
        sample_rate: samples per second [Hz].
    """
    return replace(analysis, layers=tuple(_layer(layer, sample_rate) for layer in analysis.layers))


def _layer(layer: LayerAnalysis, sample_rate: float) -> LayerAnalysis:
    band = layer.over_tokens
    if band is not None:
        band = replace(band, half_lives=band.half_lives / sample_rate, unit="s")
    return replace(layer, statistics={name: _summary(value, sample_rate) for name, value in layer.statistics.items()}, over_tokens=band)


def _summary(summary: Summary, sample_rate: float) -> Summary:
    factors = {"rad/sample": (sample_rate / (2 * np.pi), "Hz"), "samples": (1 / sample_rate, "s")}
    if summary.unit not in factors:
        return summary
    factor, unit = factors[summary.unit]
    median, p5, p95 = (None if value is None else value * factor for value in (summary.median, summary.p5, summary.p95))
    return Summary(median, p5, p95, unit, summary.reason)
