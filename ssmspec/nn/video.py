"""A video model with ConvS5 layers: an encoder and a decoder that process each frame separately, and layers that connect frames.

Source: NVlabs/ConvSSM: src/models/sequence_models/noVQ/convS5.py, src/models/base.py (encoder, decoder), src/models/convS5/layers.py, and
the block "resnet" after ConvS5, as described in src/models/convLSTM/conv_ops.py.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from ssmspec.errors import LayerError
from ssmspec.nn.conv_s5 import ConvS5

ENCODER_SCALE = 0.1  # scale of the branch that a block of encoder or decoder adds to its input


class VideoModel(nn.Module):
    """Frames in, frames out: (B, L, C, height, width) to the same shape. A frame depends only on itself and earlier frames.

    Args:
        channels: C, colors. depths: channels of the encoder at full size, at half size, and so on; the decoder has them in reverse order.
        d_model: U of the layers. n_layers: number of layers. groups: of the group norms, a divisor of all these numbers of channels.
        bounded: whether the output passes through a tanh, as in the original, for values in -1..1.
        ssm: options of `ssmspec.nn.ConvS5` except d_model; `poles` may be (layers, P), one row per layer.

    Raises:
        LayerError: sizes contradict each other, or ConvS5 refuses an option.
    """

    def __init__(
        self, *, channels: int, depths: Sequence[int], d_model: int, n_layers: int, groups: int, bounded: bool = True, **ssm: Any
    ) -> None:
        super().__init__()
        if any(width % groups for width in (*depths, d_model)):
            raise LayerError(f"groups is {groups}; expected a divisor of depths {', '.join(map(str, depths))} and of d_model {d_model}")
        poles = ssm.pop("poles", None)
        self.reduction = 2 ** (len(depths) - 1)
        encoder: list[nn.Module] = [_convolution(channels, depths[0]), ResidualBlock(depths[0], depths[0], groups)]
        decoder: list[nn.Module] = [_convolution(d_model, depths[0]), ResidualBlock(depths[0], depths[-1], groups)]
        for narrow, wide in pairwise(depths):
            encoder += [nn.AvgPool2d(2), ResidualBlock(narrow, wide, groups)]
        for wide, narrow in pairwise(reversed(depths)):
            decoder += [nn.Upsample(scale_factor=2), ResidualBlock(wide, narrow, groups)]
        self.encoder = nn.Sequential(*encoder, nn.Conv2d(depths[-1], d_model, 1))
        own = [{} if poles is None else {"poles": each} for each in (range(n_layers) if poles is None else poles)]
        self.layers = nn.ModuleList(VideoLayer(d_model, groups, **ssm, **each) for each in own)
        self.decoder = nn.Sequential(
            *decoder, ChannelNorm(depths[0]), nn.Conv2d(depths[0], channels, 1), nn.Tanh() if bounded else nn.Identity()
        )

    def forward(self, frames: Tensor) -> Tensor:
        """See the class.

        Raises:
            LayerError: frames have another shape, or the encoder cannot halve their height or width.
        """
        if frames.ndim != 5 or any(side % self.reduction for side in frames.shape[-2:]):
            raise LayerError(
                f"frames have shape {tuple(frames.shape)}; expected (B, L, C, height, width), both sides multiples of {self.reduction}"
            )
        u = self.encoder(frames.flatten(0, 1))
        u = u.reshape(*frames.shape[:2], *u.shape[1:])
        for layer in self.layers:
            u = layer(u)
        decoded: Tensor = self.decoder(u.flatten(0, 1))
        return decoded.reshape(frames.shape)


class VideoLayer(nn.Module):
    """u + block(ConvS5(u)), then a norm; the block processes each frame separately. `ssm`: options of `ssmspec.nn.ConvS5`."""

    def __init__(self, d_model: int, groups: int, **ssm: Any) -> None:
        super().__init__()
        self.seq = ConvS5(d_model, **ssm)
        self.block = ResidualBlock(d_model, d_model, groups, activation=nn.GELU(), scale=1.0)
        self.norm = ChannelNorm(d_model)

    def forward(self, u: Tensor) -> Tensor:
        """(B, L, U, height, width) to the same shape."""
        mixed = nn.functional.gelu(self.block(self.seq(u).flatten(0, 1)))
        normed: Tensor = self.norm(u.flatten(0, 1) + mixed)
        return normed.reshape(u.shape)


class ResidualBlock(nn.Module):
    """x + scale conv(f(norm(conv(f(norm(x)))))) for frames (F, C, height, width); x passes through a 1 x 1 convolution if C changes.

    Args:
        inputs, outputs: channels before and after. groups: groups of both norms. activation: f. scale: scale of the branch.
    """

    def __init__(
        self, inputs: int, outputs: int, groups: int, *, activation: nn.Module | None = None, scale: float = ENCODER_SCALE
    ) -> None:
        super().__init__()
        f = activation or nn.ELU()
        self.scale = scale
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, bias=False)
        first, second = _convolution(inputs, outputs), _convolution(outputs, outputs)
        self.branch = nn.Sequential(nn.GroupNorm(groups, inputs), f, first, nn.GroupNorm(groups, outputs), f, second)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        total: Tensor = self.skip(x) + self.scale * self.branch(x)
        return total


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of every pixel, (F, C, height, width)."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding="same")
