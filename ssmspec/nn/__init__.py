"""Differentiable state space layers for PyTorch, with the two mechanisms that tune their frequency bias, alpha and beta."""

from ssmspec.nn.optim import optimizer_groups
from ssmspec.nn.s4d import S4D
from ssmspec.nn.sequence import SequenceModel

__all__ = ["S4D", "SequenceModel", "optimizer_groups"]
