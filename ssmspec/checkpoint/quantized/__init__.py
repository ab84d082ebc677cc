"""Quantized weights: which tensors of a checkpoint are codes, and what they stand for. Nothing is decoded until it is read."""

from ssmspec.checkpoint.quantized.find import dequantizable

__all__ = ["dequantizable"]
