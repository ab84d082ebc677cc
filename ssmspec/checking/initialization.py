"""The rules about initializations of selective layers: whether Delta and A are still where published code, or training from it, puts them.

Frameworks that initialize a model anew write over them: a dt bias drawn from N(0, 0.02) or by the default of a linear layer puts all steps
near ln 2, and weight decay pulls A_log to 0. Training moves steps and decays, but not all of them to one place.
"""

import numpy as np

from ssmspec.checking.facts import LayerFacts
from ssmspec.families import FAMILIES
from ssmspec.families.parameterization import softplus
from ssmspec.systems.statespace import FloatArray

EQUAL = 0.01  # relative spread of steps that training did not move apart; published code draws them over two decades
FAR = 2.0  # factor above the published steps
TOGETHER = 5.0  # largest over smallest step of a lost initialization; a linear layer of one input makes 4.2
NEAR_ZERO = 0.05  # |A_log|; of two heads drawn from 1..16, one layer in 100 000 has both so near
HARDLY = 1e-4  # A of a state that keeps nearly everything; published code draws from 1..16 or 0..16


def equal_dt_bias(facts: LayerFacts) -> str | None:
    """A dt_bias with one value: its random initialization was lost, for example because all biases were set to a constant."""
    found = _stored(facts, "dt_bias")
    if found is None:
        return None
    (bias, name), steps = found, softplus(found[0])
    if bias.size > 1 and (bias == bias[0]).all():
        return f"all {bias.size} values of {name} are {bias[0]:.6g}: its initialization seems to be lost"
    if bias.size > 2 and steps.max() <= (1 + EQUAL) * steps.min():
        return (
            f"{name} makes all {steps.size} steps nearly equal, {steps.min():.6g}..{steps.max():.6g}: its initialization seems to be lost"
        )
    return None


def lost_initialization(facts: LayerFacts) -> str | None:
    """Steps that all lie together above the published ones, or an A that is 1 everywhere."""
    parts = [_lost_steps(facts), _lost_decays(facts)]
    return "; ".join(part for part in parts if part) or None


def slow_decay(facts: LayerFacts) -> str | None:
    """An A below HARDLY, with which a state keeps nearly everything."""
    found = _stored(facts, "A_log")
    family = FAMILIES.get(facts.system.family)
    if found is None or family is None or family.initial_decays is None:
        return None
    rates, name = np.exp(found[0]), found[1]
    count = int((rates < HARDLY).sum())
    if not count:
        return None
    smallest, longest = f"{rates.min():.3g}", f"{1 / facts.decay.min():.6g} samples"
    return f"{count} of {rates.size} values of {name} make A smaller than {HARDLY:g}, down to {smallest}: time constants up to {longest}"


def _lost_steps(facts: LayerFacts) -> str | None:
    found, family = _stored(facts, "dt_bias"), FAMILIES.get(facts.system.family)
    if found is None or family is None or family.initial_steps is None or equal_dt_bias(facts):
        return None
    steps, (low, high) = softplus(found[0]), family.initial_steps
    if steps.size < 2 or not (steps.min() > FAR * high and steps.max() < TOGETHER * steps.min()):
        return None
    return (
        f"{found[1]} makes all {steps.size} steps lie in {steps.min():.3g}..{steps.max():.3g}, but published code starts from "
        f"{low:g}..{high:g}: its initialization seems to be lost (biases near 0 make steps near ln 2)"
    )


def _lost_decays(facts: LayerFacts) -> str | None:
    found, family = _stored(facts, "A_log"), FAMILIES.get(facts.system.family)
    if found is None or family is None or family.initial_decays is None:
        return None
    logarithms, name = found
    system = facts.system.state_space()
    alone = len(facts.tensors.tensors[_role(facts, "A_log")].shape) > 1 and system.modes == 1  # A = 1 is where one mode starts
    if logarithms.size < 2 or alone or not (np.abs(logarithms) < NEAR_ZERO).all():
        return None
    low, high = family.initial_decays
    return (
        f"all {logarithms.size} values of {name} are within {np.abs(logarithms).max():.2g} of 0, so A is 1 everywhere, but published code "
        f"starts from {low:g}..{high:g}: its initialization seems to be lost (weight decay pulls A_log to 0)"
    )


def _role(facts: LayerFacts, quantity: str) -> str:
    """The role of a quantity in the direction of a block that the facts are about."""
    label = facts.system.name.removeprefix(facts.tensors.name).removeprefix(":")
    own = f"{quantity}.{label}"
    return own if own in facts.tensors else quantity


def _stored(facts: LayerFacts, quantity: str) -> tuple[FloatArray, str] | None:
    """Values and name of the tensor that holds a quantity, if there is one and all of them are finite."""
    role = _role(facts, quantity)
    if role not in facts.tensors:
        return None
    values = facts.tensors.array(role).reshape(-1)
    return (values, facts.tensors.tensor_names[role]) if values.size and np.isfinite(values).all() else None
