"""What a calibration adds to an analysis: how the half-lives of a selective layer move from token to token."""

from collections.abc import Sequence

import numpy as np

from ssmspec.families import ReadOptions
from ssmspec.statistics import LayerAnalysis, TokenBand
from ssmspec.statistics.quadrature import pole_distances
from ssmspec.systems.system import System


def _given(read: ReadOptions) -> bool:
    return read.operating_point is not None and read.operating_point.delta is not None


def band_over_tokens(system: System, read: ReadOptions) -> TokenBand | None:
    """The half-lives that the copies of a layer would have if all tokens were like those at a quantile; None without such a recording.

    The logarithm of a decay is proportional to Delta (in decay gates, the decay itself is recorded), so half-lives go with 1/Delta.

    Args:
        system: as it was read at the mean of the calibration.
    Raises:
        LayerError: the recording is damaged.
    """
    if read.calibration is None or _given(read) or system.operating_point is None or system.no_poles:
        return None
    found = read.calibration.over_tokens(system.name, system.copies)
    if found is None:
        return None
    with np.errstate(all="ignore"):
        rates = pole_distances(system.state_space())[1].min(axis=1)
        lives = np.log(2) / (rates * found.ratios[::-1])
    return TokenBand(np.where(np.isfinite(lives) & (lives >= 0), lives, np.nan), found.tokens, found.sampled)


def calibration_notes(layers: Sequence[LayerAnalysis], read: ReadOptions) -> tuple[str, ...]:
    """What a calibration says about itself, and what of it is not shown."""
    if read.calibration is None:
        return ()
    if _given(read):
        return (*read.calibration.notes, "delta is given (--operating-point), so the range of the calibration over tokens is not shown")
    shown = not layers or any(layer.over_tokens is not None for layer in layers)
    return (*read.calibration.notes, *(() if shown else ("the calibration has one value per copy, and no range over tokens",)))
