"""Differentiable state space layers for PyTorch, with the two mechanisms that tune their frequency bias: alpha and beta."""

from ssmspec.errors import needing

with needing("torch", "ssmspec.nn"):
    from ssmspec.nn.conv_s5 import ConvS5
    from ssmspec.nn.optim import optimizer_groups
    from ssmspec.nn.s4d import S4D
    from ssmspec.nn.sequence import SequenceModel
    from ssmspec.nn.video import VideoModel

__all__ = ["S4D", "ConvS5", "SequenceModel", "VideoModel", "optimizer_groups"]
