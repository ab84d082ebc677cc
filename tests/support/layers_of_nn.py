"""Layers of `ssmspec.nn` in every layout, and weights of every convention."""

import torch

from ssmspec.nn import S4D

H, N = 6, 4

CASES = {
    "minimal": {},
    "minimal, bilinear": {"discretization": "bilinear"},
    "minimal, short kernel": {"l_max": 11},
    "minimal, longer kernel than input": {"l_max": 100},
    "block": {"layout": "s4-diag"},
    "block, bilinear": {"layout": "s4-diag", "discretization": "bilinear"},
    "block, both directions": {"layout": "s4-diag", "bidirectional": True},
    "block, both directions, short kernel": {"layout": "s4-diag", "bidirectional": True, "l_max": 11},
    "block, tied": {"layout": "s4-diag", "n_ssm": 2},
    "block, all tied": {"layout": "s4-diag", "n_ssm": 1, "bidirectional": True},
    "block, channels": {"layout": "s4-diag", "channels": 2, "bidirectional": True},
    "block, step per mode": {"layout": "s4-diag", "tie_step": False},
    "freqbias": {"layout": "freqbias-block"},
    "freqbias, both directions": {"layout": "freqbias-block", "bidirectional": True},
    "freqbias, tied, short kernel": {"layout": "freqbias-block", "n_ssm": 3, "l_max": 11},
    "freqbias, bilinear": {"layout": "freqbias-block", "discretization": "bilinear", "bidirectional": True},
}


def make(seed: int = 0, **options: object) -> S4D:
    """A layer in float64 with random values everywhere, poles on both sides of the real axis."""
    torch.manual_seed(seed)
    layer = S4D(H, 2 * N if options.get("layout") != "freqbias-block" else N, step_min=0.05, step_max=0.5, **options).double()
    with torch.no_grad():
        for name, tensor in layer.state_dict().items():
            if name.endswith(("A_imag", "kernel.B")):
                tensor.copy_(4 * torch.randn_like(tensor))
            elif name.endswith((".s", "beta")):
                tensor.copy_(torch.randn_like(tensor))
    return layer


BETAS = {
    "lra": {"beta_convention": "lra"},
    "paper": {"beta_convention": "paper"},
    "angular": {"beta_convention": "angular", "theta_ref": 0.3},
    "denoising": {"beta_convention": "denoising"},
    "waves": {"beta_convention": "waves"},
    "causal": {"beta_convention": "causal", "theta_ref": 0.5},
}
