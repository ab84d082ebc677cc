"""Statistics of values that arrive in pieces: means and deviations of all, and a random sample for quantiles, in bounded memory."""

import numpy as np

from ssmspec.systems.grid import FloatArray

COLUMNS_AT_ONCE = 1 << 22  # values that are sorted at a time


class RateStream:
    """Mean, deviation and quantiles over tokens of K values.

    A uniform sample of tokens is kept, those with the smallest of random keys: all of them up to `keep`, where quantiles are exact.

    Args:
        keep: tokens whose values are kept, in float32.
    """

    def __init__(self, copies: int, keep: int) -> None:
        self.count = 0
        self.mean = np.zeros(copies)
        self._squares = np.zeros(copies)
        self._kept = np.empty((keep, copies), np.float32)
        self._keys = np.empty(keep)
        self._filled = 0

    def add(self, values: FloatArray, keys: FloatArray) -> None:
        """Add values (n, K) of n tokens, whose random keys (n,) are the same for all layers."""
        both = self.count + len(values)
        mean = values.mean(axis=0)
        self._squares += ((values - mean) ** 2).sum(axis=0) + (mean - self.mean) ** 2 * (self.count * len(values) / both)
        self.mean += (mean - self.mean) * (len(values) / both)
        self.count = both
        free = min(len(self._keys) - self._filled, len(values))
        self._kept[self._filled : self._filled + free] = values[:free]
        self._keys[self._filled : self._filled + free] = keys[:free]
        self._filled += free
        self._replace(values[free:], keys[free:])

    def _replace(self, values: FloatArray, keys: FloatArray) -> None:
        """Keep the rows with the smallest keys of those kept and the new ones."""
        if not len(values):
            return
        size = len(self._keys)
        smallest = np.argpartition(np.concatenate([self._keys, keys]), size - 1)[:size]
        new = smallest[smallest >= size] - size
        places = np.setdiff1d(np.arange(size), smallest)
        self._kept[places], self._keys[places] = values[new], keys[new]

    @property
    def sampled(self) -> int:
        """Of how many tokens the quantiles are."""
        return self._filled

    @property
    def deviation(self) -> FloatArray:
        """Standard deviation over tokens, (K,)."""
        return np.asarray(np.sqrt(self._squares / max(self.count, 1)))

    def quantiles(self, levels: tuple[float, ...]) -> FloatArray:
        """Quantiles over the sample, (Q, K), interpolated between order statistics."""
        kept = self._kept[: self._filled]
        width = max(1, COLUMNS_AT_ONCE // max(len(kept), 1))
        rows = (np.ascontiguousarray(kept[:, start : start + width].T) for start in range(0, kept.shape[1], width))
        blocks = [np.quantile(each, levels, axis=1) for each in rows]
        return np.concatenate(blocks, axis=1).astype(np.float64)


class VectorStream:
    """Mean (groups, N) and second moments (groups, N, N) over tokens of a vector B or C; of an input gate (K,) only the mean."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: FloatArray = np.zeros(0)
        self.moments: FloatArray | None = None

    def add(self, values: FloatArray) -> None:
        """Add values (n, groups, N) of n tokens, or (n, K)."""
        self.count += len(values)
        share, mean = len(values) / self.count, values.mean(axis=0)
        self.mean = mean if self.count == len(values) else self.mean + (mean - self.mean) * share
        if values.ndim == 3:
            by_group = values.transpose(1, 2, 0)
            moments = by_group @ by_group.transpose(0, 2, 1) / len(values)
            self.moments = moments if self.moments is None else self.moments + (moments - self.moments) * share
