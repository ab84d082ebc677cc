"""The S4D layer: one diagonal state space model per channel, a GELU and a gated linear map, in the layouts of three published codes."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ssmspec.errors import LayerError
from ssmspec.nn.convolution import fft_convolution
from ssmspec.nn.kernel_dft import Diagonal, diagonal_kernel, discretize, kernel_spectrum
from ssmspec.nn.kernels import BlockKernel, MinimalKernel, linear_poles
from ssmspec.nn.optim import mark, marks, register
from ssmspec.nn.powers import COMPLEX
from ssmspec.nn.settings import Layout, Settings
from ssmspec.nn.to_statespace import as_array, state_spaces
from ssmspec.nn.weighting import fft_length, weighted
from ssmspec.systems.sobolev import Convention, Sobolev
from ssmspec.systems.statespace import ComplexArray, StateSpace


class S4D(nn.Module):
    """S4D with both frequency-bias mechanisms: alpha, for the initial poles, and beta, a Sobolev weight on the response.

        y = GLU(W dropout(GELU(G_beta u + D u)) + b),   G_beta(theta) = weight(theta)^beta sum_n g_n/(1 - z_n e^{-i theta}) + conj-pair

    Names and shapes of the state dict, and the function of the parameters, are those of the layout's original. As long as no beta is added,
    files can be exchanged in both directions with strict=True.

    Args:
        d_model: H, channels. d_state: state size, twice the stored modes N; for freqbias-block, whose code counts stored modes, N itself.
        layout: "minimal" (state-spaces/s4, models/s4/s4d.py), "s4-diag" (its S4Block with mode="diag", models/s4/s4.py), or
            "freqbias-block" (AnnanYu/FreqBiasSSM, src/models/sequence/modules/s4block.py).
        alpha: factor on the imaginary parts of the initial poles.
        beta: initial value of the Sobolev exponent; None for no weight (freqbias-block always has one, which is 0 then).
        trainable_beta: whether beta is a parameter rather than a buffer; by default only in freqbias-block. It is stored as `beta` (H,) in
            minimal, `layer.beta` (channels, H) in s4-diag, `layer.s` (1, H) in freqbias-block.
        beta_convention: the kind of weight; see `ssmspec.nn.weighting`. With all but "causal" the output depends on later inputs.
        theta_ref: knee of "angular" and "causal" [rad/sample].
        discretization: "zoh" or "bilinear".
        bidirectional: a second set of C for the reversed input, delayed by one sample as in the original; not in minimal.
        channels: outputs per channel; only in s4-diag.
        n_ssm: S, independent sets of poles (and B), which the channels use in turn; H by default; not in minimal.
        l_max: longest kernel in samples; None for the length of the input.
        step_min, step_max: initial Delta is log-uniform between them [model time per sample]. tie_step: one Delta per channel; False for
            one per mode, not in minimal.
        dropout: probability. tie_dropout: drop channels for all times at once; the default follows the original (only in minimal).
        transposed: input and output are (B, H, L); (B, L, H) if False.
        lr: learning rate of the system's parameters, or a dict with any of dt, A, B, C; None means that of the other parameters. Zero makes
            buffers. A number applies to dt and A, in s4-diag also to B and C, as in the originals. Only C has weight decay.
        lr_beta: the same for beta.
        poles: (S, N) complex initial poles, Re < 0 [1/model time]; S4D-Lin by default. alpha scales them, too.

    Raises:
        LayerError: an option is unknown, out of range, or contradicts another.
    Source: arXiv 2206.11893 (S4D), arXiv 2410.02035 (alpha and beta).
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        layout: Layout = "minimal",
        alpha: float = 1.0,
        beta: float | None = None,
        trainable_beta: bool | None = None,
        beta_convention: Convention = "lra",
        theta_ref: float | None = None,
        discretization: Literal["zoh", "bilinear"] = "zoh",
        bidirectional: bool = False,
        channels: int = 1,
        n_ssm: int | None = None,
        l_max: int | None = None,
        step_min: float = 1e-3,
        step_max: float = 1e-1,
        tie_step: bool = True,
        dropout: float = 0.0,
        tie_dropout: bool | None = None,
        transposed: bool = True,
        lr: float | Mapping[str, float | None] | None = None,
        lr_beta: float | None = None,
        poles: npt.ArrayLike | None = None,
    ) -> None:
        super().__init__()
        self.settings = Settings(
            d_model=d_model,
            d_state=d_state,
            layout=layout,
            alpha=alpha,
            beta=beta,
            trainable_beta=trainable_beta,
            beta_convention=beta_convention,
            theta_ref=theta_ref,
            discretization=discretization,
            bidirectional=bidirectional,
            channels=channels,
            n_ssm=n_ssm,
            l_max=l_max,
            step_min=step_min,
            step_max=step_max,
            tie_step=tie_step,
            dropout=dropout,
            tie_dropout=tie_dropout,
            lr=lr,
            lr_beta=lr_beta,
        )
        self.transposed = transposed
        kind = nn.Dropout1d if self.settings.ties_dropout else nn.Dropout
        self.dropout = kind(dropout) if dropout else nn.Identity()
        if layout != "minimal":
            self.layer = nn.Module()
        _fill(self._core, self.settings, _initial_poles(self.settings, poles))
        width = d_model * channels
        linear = nn.Linear(width, 2 * d_model) if layout == "s4-diag" else nn.Conv1d(width, 2 * d_model, 1)
        self.output_linear = nn.Sequential(linear, nn.GLU(dim=-1 if layout == "s4-diag" else -2))
        self._marks = marks(self)
        self.register_load_state_dict_post_hook(_mark_again)  # type: ignore[no-untyped-call]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_marks": marks(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        _mark_again(self)  # copy.deepcopy of a parameter drops its attributes

    def forward(self, u: Tensor) -> tuple[Tensor, None]:
        """The layer's output, and None in place of the state that the originals return.

        Args:
            u: (B, H, L), or (B, L, H) if not transposed; real, not wider than the layer's parameters.
        Returns:
            The shape of u, in the parameters' type (under autocast, in the type of its matrix products).
        Raises:
            LayerError: another shape or type. BackendError: a second derivative is requested.
        """
        u = u if self.transposed else u.transpose(-1, -2)
        self._check(u, 3)
        spectrum, n = self.spectrum(u.shape[-1])
        y = fft_convolution(u.to(self._precision), spectrum, n).flatten(1, 2)
        y = self._output(y if self.settings.layout == "minimal" else self.dropout(y))
        return (y if self.transposed else y.transpose(-1, -2)), None

    def spectrum(self, length: int) -> tuple[Tensor, int]:
        """The factor applied to inputs of `length` samples: the weighted response of the truncated kernels, plus D.

        Returns:
            (channels, H, n//2 + 1) complex at theta_k = 2 pi k/n, and n [samples].
        """
        settings, core, beta = self.settings, self._core, self._beta
        kernel_length = length if settings.l_max is None else min(length, settings.l_max)
        n = fft_length(settings.weighting, kernel_length, length)
        system: Diagonal = core.kernel.system()
        result = kernel_spectrum(system, kernel_length, n, self._precision)
        if beta is not None and settings.weighting is not None:
            directions = len(result) // len(beta)
            result = weighted(result, beta.to(self._precision).repeat(directions, 1), system.step, settings.weighting, n)
        if settings.bidirectional:
            theta = torch.arange(n // 2 + 1, dtype=torch.float64, device=result.device) * (2 * math.pi / n)
            forward, backward = result.chunk(2)
            result = forward + torch.polar(torch.ones_like(theta), theta).to(result.dtype) * backward.conj()
        return result + core.D.to(self._precision).reshape(-1, settings.d_model, 1), n

    def impulse_response(self, length: int) -> Tensor:
        """Kernels of the dynamic part, without beta and D: (channels, H, length), dimensionless; backward ones after forward ones."""
        return diagonal_kernel(self._core.kernel.system(), length, self._precision)

    def default_state(self, batch: int) -> Tensor:
        """The initial (zero) state for `step`, (batch, H, N) complex."""
        settings, D = self.settings, self._core.D
        return torch.zeros(batch, settings.d_model, settings.modes, dtype=COMPLEX[self._precision], device=D.device)

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One sample of `forward` as a recurrence, without dropout. Both agree for as many samples as the kernel has.

            s <- z s + b u,    y = GLU(W GELU(2 Re sum_n r_n s_n + D u) + b)

        Args:
            u: (B, H). state: (B, H, N) complex, from `default_state` or an earlier step.
        Returns:
            y (B, H) and the next state.
        Raises:
            LayerError: another shape or type; a bidirectional layer or a nonzero beta, for which no recurrence exists.
        """
        self._check(u, 2)
        self._check_causal()
        self._check_state(state, len(u))
        system: Diagonal = self._core.kernel.system()
        modes = discretize(system)
        state = modes.z.to(state.dtype) * state + modes.gain.to(state.dtype) * u.to(self._precision)[..., None]
        y = 2 * (system.residues.to(state.dtype) * state[:, None]).sum(-1).real
        y = y + u.to(y.dtype)[:, None] * self._core.D.to(y.dtype).reshape(-1, self.settings.d_model)
        return self._mix(nn.functional.gelu(y.flatten(1))[..., None])[..., 0], state

    def state_spaces(self, name: str = "layer", *, length: int | None = None) -> list[StateSpace]:
        """The layer as the systems that `ssmspec.families` would read from its checkpoint, for analysis: one, or one per direction.

        Args:
            name: name of the layer. length: length of its inputs [samples], on which the weights "denoising" and "waves" depend.
        Raises:
            LayerError: the length is needed but missing.
        """
        return state_spaces(self.settings, self._core.kernel.system(), self._core.D, self.sobolev(length), name)

    def sobolev(self, length: int | None = None) -> Sobolev | None:
        """The weight of the layer's channels times H copies, or None without a beta; `length` as for `state_spaces`.

        Raises:
            LayerError: the length is needed but missing.
        """
        if self._beta is None:
            return None
        return Sobolev(as_array(self._beta).reshape(-1), self.settings.beta_convention, self.settings.theta_ref, length)

    def _output(self, y: Tensor) -> Tensor:
        return self._mix(self.dropout(nn.functional.gelu(y)))

    def _mix(self, y: Tensor) -> Tensor:
        """GLU of the linear map, (B, channels H, L) -> (B, H, L), without transposing, whichever way the weight is stored."""
        linear: Any = self.output_linear[0]
        y = y.to(self._core.D.dtype)
        if not _bare(self.output_linear):
            return self.output_linear(y.mT).mT if self.settings.layout == "s4-diag" else self.output_linear(y)
        weight = linear.weight.flatten(1).expand(len(y), -1, -1)  # a batched product is a tenth faster than conv1d
        return nn.functional.glu(torch.baddbmm(linear.bias[:, None], weight, y), dim=1)

    def _check(self, u: Tensor, dimensions: int) -> None:
        H = self.settings.d_model
        if u.ndim != dimensions or u.shape[1] != H or 0 in u.shape[2:]:
            shape = tuple(u.shape if self.transposed or u.ndim != 3 else u.transpose(1, 2).shape)
            wanted = f"(B, {H})" if dimensions == 2 else f"(B, {H}, L)" if self.transposed else f"(B, L, {H})"
            raise LayerError(f"the input has shape {shape}, expected {wanted} with L at least 1")
        if not u.is_floating_point() or (u.dtype == torch.float64 and self._precision == torch.float32):
            raise LayerError(f"the input is {u.dtype}, but the layer is {self._core.D.dtype}; convert one of them")

    def _check_causal(self) -> None:
        if self.settings.bidirectional:
            raise LayerError("a bidirectional layer has no recurrence: its output depends on later inputs")
        if self._beta is not None and bool((self._beta != 0).any()):
            raise LayerError("a layer with a beta that is not zero has no recurrence: its weighted response is not rational")

    def _check_state(self, state: Tensor, batch: int) -> None:
        wanted = (batch, self.settings.d_model, self.settings.modes)
        if state.shape != wanted or not state.is_complex():
            shape = tuple(state.shape)
            raise LayerError(f"the state is {state.dtype} of shape {shape}, expected a complex one of {wanted}, as from default_state")

    @property
    def _precision(self) -> torch.dtype:
        return torch.float64 if self._core.D.dtype == torch.float64 else torch.float32

    @property
    def _core(self) -> Any:
        """The module that holds D, kernel and beta: this one, or `layer` as in the original blocks."""
        return self if self.settings.layout == "minimal" else self.layer

    @property
    def _beta(self) -> Tensor | None:
        """beta as (channels, H), or None."""
        if not self.settings.weighted:
            return None
        beta: Tensor = self._core.s if self.settings.layout == "freqbias-block" else self._core.beta
        return beta.reshape(-1, self.settings.d_model)


def _fill(core: Any, settings: Settings, poles: Tensor) -> None:
    """Adds D, kernel and beta, with the names and in the order of the originals, because optimizers number parameters."""
    minimal = settings.layout == "minimal"
    shape = (settings.d_model,) if minimal else (settings.channels, settings.d_model)
    core.D = nn.Parameter(torch.randn(shape))
    first, rate = torch.full(shape, settings.beta or 0.0), settings.lr_beta if settings.moves_beta else 0
    if settings.layout == "freqbias-block":
        register(core, "s", first, lr=rate)
    core.kernel = (MinimalKernel if minimal else BlockKernel)(settings, poles)
    if settings.weighted and settings.layout != "freqbias-block":
        register(core, "beta", first, lr=rate)


def _initial_poles(settings: Settings, given: npt.ArrayLike | None) -> Tensor:
    """(S, N) complex128: the given poles or S4D-Lin, with imaginary parts scaled by alpha."""
    shape = (settings.copies, settings.modes)
    poles = linear_poles(*shape) if given is None else torch.tensor(_checked(np.array(given, dtype=complex), shape))
    return torch.complex(poles.real, settings.alpha * poles.imag)


def _checked(poles: ComplexArray, shape: tuple[int, int]) -> ComplexArray:
    if poles.shape != shape:
        raise LayerError(f"poles have shape {poles.shape}, expected {shape} (independent copies, stored modes)")
    if not (np.isfinite(poles) & (poles.real < 0)).all():
        raise LayerError("poles must be finite with a negative real part")
    return poles


def _bare(sequence: nn.Sequential) -> bool:
    """Whether the modules are unmodified: adapters and quantization replace them, and pruning and others add hooks."""
    return all(
        type(part) in (nn.Sequential, nn.Linear, nn.Conv1d, nn.GLU)
        and not (part._forward_pre_hooks or part._forward_hooks or part._backward_pre_hooks or part._backward_hooks)
        for part in (sequence, *sequence)
    )


def _mark_again(module: S4D, keys: object = None) -> None:
    """Restores `_optim` after copying, and after loading with assign=True, which replaces parameters."""
    for name, parameter in module.named_parameters():
        if name in module._marks:
            mark(parameter, module._marks[name])
