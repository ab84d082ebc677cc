"""The number of parameters of `ssmspec.nn.VideoModel`, counted by hand."""

from collections.abc import Sequence
from itertools import pairwise


def parameters(channels: int, depths: Sequence[int], d_model: int, n_layers: int, d_state: int) -> int:
    """3 x 3 convolutions in and out, blocks of two, 1 x 1 where channels change, ConvS5 with 3 x 3 kernels, norms."""

    def block(before: int, after: int) -> int:
        return 9 * before * after + 9 * after**2 + 2 * after + 2 * before + 2 * after + (before * after if before != after else 0)

    encoder = 9 * channels * depths[0] + depths[0] + block(depths[0], depths[0]) + depths[-1] * d_model + d_model
    encoder += sum(block(before, after) for before, after in pairwise(depths))
    decoder = 9 * d_model * depths[0] + depths[0] + block(depths[0], depths[-1]) + 2 * depths[0] + depths[0] * channels + channels
    decoder += sum(block(before, after) for before, after in pairwise(reversed(depths)))
    layer = 3 * d_state // 2 + 2 * (9 * d_state * d_model) + block(d_model, d_model) + 2 * d_model
    return encoder + decoder + n_layers * layer
