"""Differentiable state space layers for PyTorch, with the two mechanisms that tune their frequency bias, alpha and beta."""

from ssmspec.nn.optim import optimizer_groups
from ssmspec.nn.s4d import S4D

__all__ = ["S4D", "optimizer_groups"]
