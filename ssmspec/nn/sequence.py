"""A sequence model: an encoder, residual blocks that each contain one `ssmspec.nn.S4D`, and a decoder.

Each block, with its S4D called `layer` and x of shape (B, H, L), computes:

    prenorm   x <- x + dropout(layer(norm(x)))
    postnorm  x <- norm(x + dropout(layer(x)))
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ssmspec.errors import LayerError
from ssmspec.nn.s4d import S4D
from ssmspec.nn.settings import Layout
from ssmspec.systems.sobolev import Convention

Norm = Literal["layer", "batch"]
Pooling = Literal["mean", "last"]


class LayerOptions(TypedDict, total=False):
    """The options of every `ssmspec.nn.S4D` in a `SequenceModel`; documented there."""

    d_state: int
    layout: Layout
    alpha: float
    beta: float | None
    trainable_beta: bool | None
    beta_convention: Convention
    theta_ref: float | None
    discretization: Literal["zoh", "bilinear"]
    bidirectional: bool
    channels: int
    n_ssm: int | None
    l_max: int | None
    step_min: float
    step_max: float
    tie_step: bool
    dropout: float
    tie_dropout: bool | None
    lr: float | Mapping[str, float | None] | None
    lr_beta: float | None
    poles: npt.ArrayLike | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The parts of a `SequenceModel` around its S4D layers; the fields are documented there.

    Raises:
        LayerError: an option is unknown, out of range, or contradicts another.
    """

    d_input: int | None
    vocabulary: int | None
    d_output: int
    d_model: int
    n_layers: int
    norm: Norm
    prenorm: bool
    final_norm: bool
    pooling: Pooling | None

    def __post_init__(self) -> None:
        if (self.d_input is None) == (self.vocabulary is None):
            given = f"d_input {self.d_input} and vocabulary {self.vocabulary}"
            raise LayerError(f"{given}; give d_input for sequences of numbers or vocabulary for sequences of symbols, not both")
        for name in ("d_input", "vocabulary", "d_output", "d_model", "n_layers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise LayerError(f"{name} is {value}, expected at least 1")
        for name, known in (("norm", get_args(Norm)), ("pooling", (*get_args(Pooling), None))):
            if getattr(self, name) not in known:
                raise LayerError(f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(map(str, known))}")


class SequenceModel(nn.Module):
    """Maps sequences to one output each, or to one output per sample, through residual blocks around S4D layers.

    Names in the state dict are those of state-spaces/s4, example.py: `encoder`, `s4_layers.{i}`, `norms.{i}`, `decoder`. With layout
    minimal, norm "layer" and no beta, files can be exchanged in both directions with strict=True.

    Args:
        d_input: features of a sample, for a linear encoder; or vocabulary: number of symbols, for an embedding.
        d_output: outputs. d_model: H, channels of the blocks. n_layers: number of blocks.
        norm: "layer" over the channels of a sample, or "batch". prenorm: normalize the input of the S4D instead of the output of the block.
        final_norm: one more norm, `norm`, before pooling, as in the published prenorm backbone (but not in example.py).
        pooling: "mean" over the samples, "last" sample, or None for one output per sample.
        **layer: options of every `ssmspec.nn.S4D`. Its dropout is also applied to the output of the block, tied if the layer's is. poles
            may be (n_layers, S, N), with separate poles for every layer.

    Raises:
        LayerError: an option is unknown, out of range, or contradicts another.
    Source: state-spaces/s4, example.py and src/models/sequence/backbones; arXiv 2206.11893.
    """

    def __init__(
        self,
        *,
        d_input: int | None = None,
        vocabulary: int | None = None,
        d_output: int,
        d_model: int,
        n_layers: int,
        norm: Norm = "layer",
        prenorm: bool = False,
        final_norm: bool = False,
        pooling: Pooling | None = "mean",
        **layer: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        self.frame = Frame(
            d_input=d_input,
            vocabulary=vocabulary,
            d_output=d_output,
            d_model=d_model,
            n_layers=n_layers,
            norm=norm,
            prenorm=prenorm,
            final_norm=final_norm,
            pooling=pooling,
        )
        self.encoder: nn.Module = nn.Linear(d_input, d_model) if d_input is not None else nn.Embedding(vocabulary or 0, d_model)
        self.s4_layers = nn.ModuleList(S4D(d_model, **each) for each in _per_layer(layer, n_layers))
        self.norms = nn.ModuleList(_norm(norm, d_model) for _ in range(n_layers))
        self.dropouts = nn.ModuleList(_dropout(each) for each in self.s4_layers)
        if final_norm:
            self.norm = _norm(norm, d_model)
        self.decoder: nn.Module = nn.Linear(d_model, d_output)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Outputs of sequences.

        Args:
            x: (B, L, d_input) real, or (B, L) integers below the vocabulary.
            lengths: (B,) integers in 1..L, samples of each sequence before its padding, which pooling ignores; None if all are L.
        Returns:
            (B, d_output), or (B, L, d_output) without pooling.
        Raises:
            LayerError: another shape or type.
        """
        y: Tensor = self.decoder(self.features(x, lengths))
        return y

    def features(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The input of the decoder, (B, H), or (B, L, H) without pooling; arguments and errors as for `forward`."""
        self._check(x, lengths)
        x = self.encoder(x).transpose(1, 2)
        for layer, norm, dropout in zip(self.s4_layers, self.norms, self.dropouts, strict=True):
            z = layer(self._normalized(norm, x) if self.frame.prenorm else x)[0]
            x = x + dropout(z)
            x = x if self.frame.prenorm else self._normalized(norm, x)
        x = self._normalized(self.norm, x) if self.frame.final_norm else x
        return self._pooled(x, lengths)

    def _normalized(self, norm: nn.Module, x: Tensor) -> Tensor:
        """(B, H, L) to the same shape."""
        y: Tensor = norm(x) if self.frame.norm == "batch" else norm(x.transpose(1, 2)).transpose(1, 2)
        return y

    def _pooled(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        pooling, L = self.frame.pooling, x.shape[2]
        if pooling is None:
            return x.transpose(1, 2)
        if lengths is None:
            return x.mean(2) if pooling == "mean" else x[..., -1]
        if pooling == "last":
            return x.gather(2, (lengths - 1)[:, None, None].expand(-1, x.shape[1], 1))[..., 0]
        inside = torch.arange(L, device=x.device) < lengths[:, None]
        return torch.where(inside[:, None], x, 0).sum(2) / lengths[:, None]

    def _check(self, x: Tensor, lengths: Tensor | None) -> None:
        d_input = self.frame.d_input
        if d_input is None:
            wanted, holds = "(B, L) of integers", x.ndim == 2 and not x.is_floating_point() and not x.is_complex()
        else:
            wanted, holds = f"(B, L, {d_input}) of real numbers", x.ndim == 3 and x.shape[2] == d_input and x.is_floating_point()
        if not holds or x.shape[1] == 0:
            raise LayerError(f"the input has shape {tuple(x.shape)} of {x.dtype}, expected {wanted} with L at least 1")
        if lengths is not None and lengths.shape != x.shape[:1]:
            raise LayerError(f"lengths have shape {tuple(lengths.shape)}, expected ({len(x)},), one per sequence")


def _per_layer(options: LayerOptions, n_layers: int) -> list[LayerOptions]:
    """The options of every layer; they differ only in the poles, if at all."""
    poles = options.get("poles")
    if poles is None or np.ndim(poles) < 3:
        return [options] * n_layers
    if len(np.asarray(poles)) != n_layers:
        raise LayerError(f"poles have shape {np.shape(poles)}, expected ({n_layers}, S, N), one set per layer")
    return [{**options, "poles": each} for each in np.asarray(poles)]


def _norm(kind: Norm, d_model: int) -> nn.Module:
    return nn.LayerNorm(d_model) if kind == "layer" else nn.BatchNorm1d(d_model)


def _dropout(layer: Any) -> nn.Module:
    """Dropout for the block's output, of the same kind as in its S4D."""
    if not layer.settings.dropout:
        return nn.Identity()
    return (nn.Dropout1d if layer.settings.ties_dropout else nn.Dropout)(layer.settings.dropout)
