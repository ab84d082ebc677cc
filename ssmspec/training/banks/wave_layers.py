"""The layers that `waves` can use, by architecture. All but Mamba-1 are linear, so their response to the waves is computed once per step.

Poles, steps and damping are as close to each other as the architectures allow. The steps are frozen, all have the same number of stored
modes per channel, and alpha scales the initial frequencies with which each architecture was published.

    s4d     S4D, a = -1/2 + i pi (1.3 + n), as in the published experiment
    s4      S4: HiPPO-LegS, diagonal plus low rank (`s4-dplr`); alpha acts on the diagonal part
    s5      S5: one system of all channels, HiPPO-N in a block per channel (`s5`)
    lru     LRU: one system of all channels, |z| in 0.9..0.999, phases up to 2 pi (`lru`); alpha below 1 narrows them
    mamba1  Mamba-1 (`mamba-1`), whose poles are real: alpha multiplies the steps, 0.001..0.1
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ssmspec.errors import SsmspecError
from ssmspec.nn.conv_s5 import CLIP
from ssmspec.nn.kernel_dft import Diagonal, low_rank_spectrum
from ssmspec.nn.mamba import SMALLEST_STEP, Mamba
from ssmspec.nn.optim import register
from ssmspec.nn.powers import power_sum
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace, bilinear_realization
from ssmspec.training.banks.bank import Bank
from ssmspec.training.banks.choices import bank_poles
from ssmspec.training.task import OWN, State
from ssmspec.tuning.poles.hippo import legs_normal_part, legs_weights
from ssmspec.tuning.poles.initializations import Poles, initial_poles
from ssmspec.tuning.poles.initializations import Settings as Sizes
from ssmspec.tuning.poles.matrices import initial_inputs, initial_outputs

MAMBA_STEPS = (1e-3, 1e-1)


class LinearLayer(Protocol):
    """A layer that is a linear time-invariant system."""

    def responses(self, inputs: Tensor, length: int) -> Tensor:
        """Impulse responses without D of H channels, where channel h receives inputs[j, h] times the impulse: (J, H) to (J, H, length)."""


class LowRankBank(nn.Module):
    """H bilinear systems A = diag(a) - P P^* of S4, with the names of `s4-dplr`. It stores the lower half of conjugate pairs.

    Args:
        poles: (H, N), the diagonal a, upper half. B, P, C: (H, N). step: Delta, frozen. length: L, the length of the kernels [samples].
        rates: learning rates of the real part of a, of its imaginary part, and of all other parameters.
    """

    def __init__(
        self,
        poles: ComplexArray,
        B: ComplexArray,
        P: ComplexArray,
        C: ComplexArray,
        *,
        step: float,
        length: int,
        rates: Mapping[str, float],
    ) -> None:
        super().__init__()
        system = StateSpace(
            name="layer",
            family="s4-dplr",
            poles=poles,
            B=B[:, :, None],
            C=C[:, None],
            D=np.zeros((len(poles), 1, 1)),
            step=np.full((len(poles), 1), step),
            discretization="bilinear",
            P=P[:, :, None],
            Q=P[:, :, None],
        )
        transition, _, output = bilinear_realization(system)
        truncated = output - output @ np.linalg.matrix_power(transition, length)
        half = poles.shape[1]
        stored = (truncated[:, 0, :half] + 1j * truncated[:, 0, half:]) / 2  # conjugate, for the lower half
        self.kernel = nn.Module()
        register(self.kernel, "inv_dt", _single(np.full((len(poles), 1), np.log(step))), lr=0.0)
        register(self.kernel, "A_real", _single(np.log(-poles.real)), lr=rates["real"])
        register(self.kernel, "A_imag", _single(poles.imag), lr=rates["imag"])
        for name, value in (("B", B.conj()), ("P", P.conj()), ("C", stored)):
            register(self.kernel, name, _pairs(value)[None], lr=rates["other"])
        self.kernel.register_buffer("l_kernel", torch.tensor(length))

    def responses(self, inputs: Tensor, length: int) -> Tensor:
        """As in `LinearLayer`. The length is that of the kernels."""
        kernel: Any = self.kernel
        with torch.autocast(inputs.device.type, enabled=False):
            poles = torch.complex(-torch.exp(kernel.A_real.double()), -kernel.A_imag.double())
            B, P, C = (torch.view_as_complex(each.double()) for each in (kernel.B, kernel.P, kernel.C))
            system = Diagonal(poles, C, torch.exp(kernel.inv_dt.double()), "bilinear")
            spectrum = low_rank_spectrum(system, B[0], P[0], length, torch.float32)
            return torch.fft.irfft(spectrum, length) * inputs[..., None]


class S5System(nn.Module):
    """One zero-order-hold system of S5 with H inputs and outputs, with the names of `s5`. It stores the upper half of conjugate pairs.

    Args:
        poles: (P,). B: (P, H). C: (H, P). step: Delta, frozen. rates: as for `LowRankBank`.
    """

    def __init__(self, poles: ComplexArray, B: ComplexArray, C: ComplexArray, *, step: float, rates: Mapping[str, float]) -> None:
        super().__init__()
        register(self, "Lambda_re", _single(poles.real), lr=rates["real"])
        register(self, "Lambda_im", _single(poles.imag), lr=rates["imag"])
        register(self, "log_step", _single(np.full((len(poles), 1), np.log(step))), lr=0.0)
        register(self, "B", _pairs(B), lr=rates["other"])
        register(self, "C", _pairs(C), lr=rates["other"])

    Lambda_re: Tensor
    Lambda_im: Tensor
    log_step: Tensor
    B: Tensor
    C: Tensor

    def responses(self, inputs: Tensor, length: int) -> Tensor:
        """As `LinearLayer` says."""
        with torch.autocast(inputs.device.type, enabled=False):
            poles = torch.complex(self.Lambda_re.double().clamp(max=CLIP), self.Lambda_im.double())
            exponents = poles * torch.exp(self.log_step[:, 0].double())
            inner = torch.view_as_complex(self.B.double()) @ inputs.T.to(poles)
            return _combined(exponents, torch.view_as_complex(self.C.double()), 2 * torch.expm1(exponents) / poles, inner, length)


class LruSystem(nn.Module):
    """One system of LRU with H inputs and outputs, where y_t includes u_t, with the names of `lru`.

    It stores half of the conjugate pairs, and its output is the real part.

    Args:
        exponents: (P,), log z. B: (P, H). C: (H, P).
        rates: as for `LowRankBank`. The logarithms of ring and gamma have the learning rate of real parts.
    """

    def __init__(self, exponents: ComplexArray, B: ComplexArray, C: ComplexArray, *, rates: Mapping[str, float]) -> None:
        super().__init__()
        register(self, "nu_log", _single(np.log(-exponents.real)), lr=rates["real"])
        register(self, "theta_log", _single(np.log(exponents.imag)), lr=rates["real"])
        register(self, "gamma_log", _single(np.log(-np.expm1(2 * exponents.real)) / 2), lr=rates["real"])
        for name, value in (("B", B), ("C", C)):
            register(self, f"{name}_re", _single(value.real), lr=rates["other"])
            register(self, f"{name}_im", _single(value.imag), lr=rates["other"])

    nu_log: Tensor
    theta_log: Tensor
    gamma_log: Tensor

    def responses(self, inputs: Tensor, length: int) -> Tensor:
        """As `LinearLayer` says."""
        values: Any = self
        with torch.autocast(inputs.device.type, enabled=False):
            exponents = torch.complex(-torch.exp(self.nu_log.double()), torch.exp(self.theta_log.double()))
            B, C = (torch.complex(re.double(), im.double()) for re, im in ((values.B_re, values.B_im), (values.C_re, values.C_im)))
            return _combined(exponents, C, torch.exp(self.gamma_log.double()).to(B), B @ inputs.T.to(B), length)


def _combined(exponents: Tensor, C: Tensor, gains: Tensor, inner: Tensor, length: int) -> Tensor:
    """Re sum_n C_hn gains_n inner_nj exp(x_n l): C (H, P), gains (P,), inner (P, J) to (J, H, length) float32."""
    H, J = len(C), inner.shape[1]
    weights = C * (gains * inner.T)[:, None]
    return power_sum(weights.reshape(J * H, 1, -1), torch.exp(exponents)[None], length, torch.float32).reshape(J, H, length)


def _single(values: FloatArray) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))


def _pairs(values: ComplexArray) -> Tensor:
    """Complex values as (.., 2) float32, the real and the imaginary part."""
    return torch.view_as_real(torch.from_numpy(np.ascontiguousarray(values, np.complex64))).clone()


def _draw(settings: Any, sizes: Sizes, kinds: tuple[str, str]) -> tuple[ComplexArray, ComplexArray]:
    """B (K, N, I) and C (K, O, N), drawn as in the architecture or as the setting `matrices` says."""
    rng = np.random.default_rng([settings.seed, 1])
    inputs, outputs = kinds if settings.matrices == OWN else (settings.matrices, settings.matrices)
    return initial_inputs(inputs, sizes, rng=rng), initial_outputs(outputs, sizes, rng=rng)


def _poles(settings: Any, own: str, sizes: Sizes) -> Poles:
    name = own if settings.init == OWN else settings.init
    return initial_poles(name, sizes, alpha=settings.alpha, rng=np.random.default_rng(settings.seed))


def _rates(settings: Any) -> dict[str, float]:
    return {"real": settings.lr_real, "imag": settings.lr_imag, "other": settings.lr}


def _s4d(settings: Any) -> nn.Module:
    own = np.asarray(-0.5 + 1j * np.pi * (1.3 + np.arange(settings.modes)), complex)
    poles = bank_poles(settings, own, settings.channels, settings.step)
    rates = {"log_A_real": settings.lr_real, "A_imag": settings.lr_imag, "C": settings.lr}
    bank = Bank(poles, settings.step, rates=rates, skip=settings.skip)
    if settings.matrices != OWN:
        B, C = _draw(settings, Sizes(copies=settings.channels, modes=settings.modes), ("ones", "normal"))
        bank.kernel.C.data.copy_(_pairs(B[:, :, 0] * C[:, 0]))
    return bank


def _s4(settings: Any) -> nn.Module:
    sizes = Sizes(copies=settings.channels, modes=settings.modes)
    poles = _poles(settings, "s4d-legs", sizes).continuous(np.full((settings.channels, 1), settings.step))
    B, C = _draw(settings, sizes, ("legs", "normal"))
    basis = legs_normal_part(settings.modes)[1]
    P = np.tile(basis.conj().T @ (legs_weights(2 * settings.modes) / np.sqrt(2)), (settings.channels, 1))
    return LowRankBank(poles, B[:, :, 0], P, C[:, 0], step=settings.step, length=settings.length, rates=_rates(settings))


def _whole(settings: Any) -> Sizes:
    """The sizes of one system of all channels."""
    H = settings.channels
    return Sizes(copies=1, modes=H * settings.modes, inputs=H, outputs=H, blocks=H)


def _s5(settings: Any) -> nn.Module:
    sizes = _whole(settings)
    poles = _poles(settings, "s5-hippo", sizes).continuous(np.full((1, 1), settings.step))
    B, C = _draw(settings, sizes, ("s5", "s5"))
    return S5System(poles[0], B[0], C[0], step=settings.step, rates=_rates(settings))


def _lru(settings: Any) -> nn.Module:
    sizes = _whole(settings)
    poles = _poles(settings, "lru-ring", sizes)
    exponents = poles.exponents * (1.0 if poles.plane == "z" else settings.step)
    if (exponents.imag <= 0).any():
        raise SsmspecError(
            f"an LRU stores the logarithm of the phase, but init {settings.init} at alpha {settings.alpha:g} has poles with phase 0; "
            "choose another init, or alpha above 0"
        )
    B, C = _draw(settings, sizes, ("lru", "lru"))
    return LruSystem(exponents[0], B[0], C[0], rates=_rates(settings))


def _mamba1(settings: Any) -> nn.Module:
    low, high = (settings.alpha * step for step in MAMBA_STEPS)
    return Mamba(settings.channels, settings.modes, expand=1, step_min=low, step_max=high, skip=settings.skip)


ARCHITECTURES: dict[str, Callable[[Any], nn.Module]] = {"s4d": _s4d, "s4": _s4, "s5": _s5, "lru": _lru, "mamba1": _mamba1}
MATRICES = (OWN, "xavier", "kaiming")


# a tensor that only one architecture has, and the tensor whose elements are the stored modes of all channels
_TENSORS = {
    "s4": ("kernel.P", "kernel.A_imag"),
    "s4d": ("kernel.A_imag", "kernel.A_imag"),
    "s5": ("Lambda_im", "Lambda_im"),
    "lru": ("theta_log", "theta_log"),
    "mamba1": ("A_log", "A_log"),
}


def sizes_of(tensors: State) -> dict[str, Any]:
    """Architecture, channels and modes of a model with these tensors, and for S4 the length. Empty if they fit no architecture."""
    for architecture, (mark, poles) in _TENSORS.items():
        if f"layer.{mark}" in tensors and f"layer.{poles}" in tensors and "decoder.weight" in tensors:
            channels = tensors["decoder.weight"].shape[-1]
            modes = max(1, tensors[f"layer.{poles}"].numel() // max(1, channels))
            length = (
                {"length": int(tensors["layer.kernel.l_kernel"])} if "layer.kernel.l_kernel" in tensors else {}
            )  # the length that C~ belongs to
            return {"architecture": architecture, "channels": channels, "modes": modes, **length}
    return {}


def check_architecture(settings: Any) -> None:
    """Refuse settings that an architecture does not support.

    Raises:
        SsmspecError: the architecture or the way to draw B and C is unknown; or beta, init or matrices do not apply to it.
    """
    architecture = settings.architecture
    for name, value, choices in (("architecture", architecture, ARCHITECTURES), ("matrices", settings.matrices, MATRICES)):
        if value not in choices:
            raise SsmspecError(f"{name} is {value!r}; choose one of {', '.join(choices)}")
    if architecture == "mamba1" and (settings.beta, settings.init, settings.matrices) != (0.0, OWN, OWN):
        raise SsmspecError("mamba1 depends on its input and has real poles; leave beta at 0, and init and matrices at their defaults")
    lowest = SMALLEST_STEP / MAMBA_STEPS[0]
    if architecture == "mamba1" and settings.alpha < lowest:
        raise SsmspecError(
            f"alpha multiplies the steps of mamba1, which start at {SMALLEST_STEP:g} or more; choose alpha of at least {lowest:g}"
        )
    if architecture == "lru" and settings.beta != 0 and settings.beta_convention == "paper":
        raise SsmspecError("the beta convention paper takes its knee from the step, and an LRU has none; choose angular with --theta-ref")
    if settings.skip and architecture not in ("s4d", "mamba1"):
        raise SsmspecError(f"{architecture} is trained without a skip weight here; add --set skip=false")
