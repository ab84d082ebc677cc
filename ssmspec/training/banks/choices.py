"""How alpha, init and beta of a task's settings determine a bank: its initial poles, and the weight on its response."""

import numpy as np
import torch

from ssmspec.errors import SsmspecError
from ssmspec.nn.weighting import Weighting
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import ComplexArray
from ssmspec.training.banks.bank import Bank
from ssmspec.training.task import OWN, Settings
from ssmspec.tuning.poles.initializations import Settings as Sizes
from ssmspec.tuning.poles.initializations import initial_poles


def bank_poles(settings: Settings, own: ComplexArray, copies: int, step: float) -> ComplexArray:
    """(copies, N) poles [1/model time], their imaginary parts scaled by alpha.

    Args:
        own: (N,) poles of the task at alpha = 1. copies: H. step: Delta, by which poles that are given per sample are divided.
    Raises:
        SsmspecError: alpha is given, but all poles are real.
    """
    if settings.init == OWN:
        return np.tile(own.real + 1j * settings.alpha * own.imag, (copies, 1))
    sizes = Sizes(copies=copies, modes=len(own))
    found = initial_poles(settings.init, sizes, alpha=settings.alpha, rng=np.random.default_rng(settings.seed))
    return found.continuous(np.full((copies, 1), step))


def bank_weighting(settings: Settings) -> Weighting:
    """The weight in the form that the layers of `ssmspec.nn` use."""
    return Weighting(settings.beta_convention, settings.theta_ref or 0.0)


def weight_step(bank: Bank, settings: Settings) -> float:
    """The step [model time per sample] that sets the knee of the weight "paper", for a bank with given tensors.

    Raises:
        SsmspecError: the steps differ.
    """
    steps = bank.kernel.log_dt.double().exp()
    if settings.beta != 0 and settings.beta_convention == "paper" and not torch.allclose(steps, steps[0], rtol=1e-6, atol=0):
        raise SsmspecError(
            f"the beta convention paper needs a single step here, but those of the layer range from {float(steps.min()):.3g} to "
            f"{float(steps.max()):.3g}; choose another convention, or draw one step with --step-min and --step-max"
        )
    return float(steps[0])


def bank_sobolev(settings: Settings, copies: int, length: int) -> Sobolev:
    """The weight in the form that the analysis uses. `length` is the length of the sequences [samples]."""
    counted = length if settings.beta_convention in ("denoising", "waves") else None
    return Sobolev(np.full(copies, settings.beta), settings.beta_convention, settings.theta_ref, counted)
