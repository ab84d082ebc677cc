"""The built-in rules. To add one, write a function of `LayerFacts` that returns what is wrong or None, and add one line to BUILT_IN."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ssmspec.checking.decay import unusual_decay
from ssmspec.checking.duplicates import duplicated_modes
from ssmspec.checking.facts import LayerFacts
from ssmspec.checking.findings import Severity
from ssmspec.checking.initialization import HARDLY, equal_dt_bias, lost_initialization, slow_decay
from ssmspec.systems.system import System
from ssmspec.systems.trust import GROWING, STEP_NOT_POSITIVE, UNDAMPED

LONGEST_MEMORY = 1e6
"""Time constant [samples] above which a pole counts as marginal. A minute of audio at 16 kHz has 0.96e6 samples, and the longest sequences
of LRA have 16 384, so such a pole acts as a plain sum over its input. Moreover, 1 - |z| = 1e-6 is only 17 spacings of float32 below 1, so a
stored z has hardly any accurate digits of its decay."""

STEP_RANGE = (1e-6, 1.0)  # model time per sample; initializations draw from 1e-4..1e-1

SIGNIFICANT_BITS = {"bfloat16": 8, "float16": 11, "float8_e4m3fn": 4, "float8_e4m3fnuz": 4, "float8_e5m2": 3, "float8_e5m2fnuz": 3}
POLE_ROLES = (
    frozenset({"A_log", "log_A_real", "A_real", "A_imag", "w", "log_w_real", "w_imag", "A_diag", "real", "imag", "param"})
    | {"Lambda", "Lambda_re", "Lambda_im", "Lambda_log_neg_re", "nu_log", "theta_log", "params_log"}
    | {"poles", "log_poles"}
    | {"pole", "pole_real", "pole_imag", "pole_abs", "pole_phase"}
)
"""Roles in the templates of `ssmspec.families` that determine poles."""


NOT_FINITE = "not-finite"


@dataclass(frozen=True, slots=True)
class Rule:
    """One check.

    Args:
        id: its name in rules files, findings and test cases.
        severity: default severity; a rules file can change it.
        description: one line.
        function: returns what is wrong with a layer, in one line, or None. The function itself is None for rules about skipped tensors.
        needs_trust: whether it is applied only to layers whose values can be trusted.
        needs_poles: whether it looks at poles, so that it is not applied to explicit kernels.
    """

    id: str
    severity: Severity
    description: str
    function: Callable[[LayerFacts], str | None] | None
    needs_trust: bool = True
    needs_poles: bool = True


def not_finite(facts: LayerFacts) -> str | None:
    """NaN or infinite values, counted by quantity, with the tensors that hold them."""
    return spoiled_values(spoiled_quantities(facts.system), facts.spoiled)


def spoiled_quantities(system: System) -> dict[str, str]:
    """How many of how many values of a quantity are NaN or infinite, by its name."""
    return {label: f"{counts.sum()} of {size}" for label, (counts, size) in system.not_finite().items() if counts.any()}


def spoiled_values(quantities: Mapping[str, str], tensors: Mapping[str, str]) -> str | None:
    """What is not finite, in one line: quantities of a layer, and tensors that are stored so."""
    parts = [f"{count} values of {label}" for label, count in quantities.items()]
    stored = [f"{name} ({count} values)" for name, count in tensors.items()]
    if parts:
        return f"{', '.join(parts)} are NaN or infinite" + (f"; they are stored in {', '.join(stored)}" if stored else "")
    return f"NaN or infinite values are stored in {', '.join(stored)}" if stored else None


def unstable_pole(facts: LayerFacts) -> str | None:
    """Re a >= 0, or |z| >= 1 for layers that store discrete poles."""
    return _fault(facts, GROWING)


def undamped_pole(facts: LayerFacts) -> str | None:
    """Poles on the unit circle that are meant to be there."""
    return _fault(facts, UNDAMPED)


def unsaid_gate(facts: LayerFacts) -> str | None:
    """A decay gate whose formula neither the configuration nor the user says."""
    lines = [line for line in facts.system.assumptions if line.startswith("gate_lower_bound=")]
    unsaid = any(each.name == "gate_lower_bound" and each.by == "default" for each in facts.system.assumed)
    return f"every pole depends on an assumption: {lines[0]}" if unsaid and lines else None


def step_not_positive(facts: LayerFacts) -> str | None:
    """A step that is zero (its logarithm underflowed) or negative."""
    return _fault(facts, STEP_NOT_POSITIVE)


def _fault(facts: LayerFacts, kind: str) -> str | None:
    return "; ".join(fault.text for fault in facts.trust.faults if fault.kind == kind) or None


def marginal_pole(facts: LayerFacts) -> str | None:
    """Copies whose slowest pole has a time constant above LONGEST_MEMORY."""
    slowest = facts.decay.min(axis=1)
    count = int((slowest < 1 / LONGEST_MEMORY).sum())
    if not count:
        return None
    row = int(slowest.argmin())
    length = f"{1 / slowest[row]:.3g} samples" if slowest[row] > 0 else "longer than double precision can resolve"
    where = "" if facts.system.copies == 1 else f" (copy {facts.copy(row)})"
    return f"{facts.some(count)} a time constant above {LONGEST_MEMORY:,.0f} samples; the longest is {length}{where}"


def dead_channel(facts: LayerFacts) -> str | None:
    """Copies whose residues (or samples) are all zero; if the layer is a single system, its inputs and outputs without any other."""
    system = facts.trust.pick(facts.system)
    acting = system.acting()
    if facts.system.copies > 1 or system.operating_point or system.inputs * system.outputs == 1:
        dead = ~acting.any(axis=(1, 2))
        if not dead.any():
            return None
        return f"{facts.some(int(dead.sum()))} {system.zeros}, so no response; the first is copy {facts.copy(int(dead.argmax()))}"
    inputs, outputs = ~acting[0].any(axis=0), ~acting[0].any(axis=1)
    parts = [
        f"{int(dead.sum())} of {dead.size} {name} (the first is {dead.argmax()})"
        for name, dead in (("inputs", inputs), ("outputs", outputs))
        if dead.any()
    ]
    return f"{' and '.join(parts)} have {system.zeros}, so no response" if parts else None


def beyond_nyquist(facts: LayerFacts) -> str | None:
    """Poles with |Im a| step > pi under zoh and euler, which alias to another frequency."""
    system = facts.sound
    if system.discretization not in ("zoh", "euler"):
        return None
    phase = np.abs(system.poles.imag) * system.step
    count = int((phase > np.pi).sum())
    if not count:
        return None
    share = f"{100 * count / phase.size:.3g} %"
    return f"{count} of {phase.size} poles ({share}) lie beyond Nyquist: |Im a| step reaches {phase.max():.3g} rad/sample"


def step_range(facts: LayerFacts) -> str | None:
    """A step outside STEP_RANGE; for selective layers, the step at the operating point."""
    system, (low, high) = facts.system, STEP_RANGE
    if not system.has_step:
        return None
    step = system.step[np.isfinite(system.step) & (system.step > 0)]
    count = int(((step < low) | (step > high)).sum())
    if not count:
        return None
    return f"{count} of {system.step.size} steps lie outside {low:g}..{high:g}; the layer's steps are {step.min():.3g}..{step.max():.3g}"


def low_precision_poles(facts: LayerFacts) -> str | None:
    """Tensors that store poles with lower precision than float32."""
    layer = facts.tensors
    found = [
        f"{layer.tensor_names[role]} in {tensor.dtype} ({SIGNIFICANT_BITS[tensor.dtype]} significant bits)"
        for role, tensor in layer.tensors.items()
        if role.split(".")[0] in POLE_ROLES and tensor.dtype in SIGNIFICANT_BITS
    ]
    return f"poles are stored with low precision: {', '.join(found)}; keep them in float32" if found else None


BUILT_IN: dict[str, Rule] = {
    rule.id: rule
    for rule in (
        Rule(NOT_FINITE, "error", "NaN or infinite values in a layer, in any tensor under its name", not_finite, False, False),
        Rule("unstable-pole", "error", "a pole that does not decay: Re a >= 0, or |z| >= 1", unstable_pole, needs_trust=False),
        Rule("step-not-positive", "error", "a step that is zero or negative", step_not_positive, needs_trust=False),
        Rule("unread-layer", "error", "a layer whose tensors contradict its family, so it was skipped", None),
        Rule("near-miss", "warning", "tensors that look like a layer of a known family but cannot be read as one", None),
        Rule("recognized-only", "info", "a sequence mixer that is recognized by its tensors, and not read", None),
        Rule("marginal-pole", "warning", f"a time constant above {LONGEST_MEMORY:,.0f} samples", marginal_pole),
        Rule("dead-channel", "warning", "a copy, an input or an output whose residues are all zero", dead_channel, needs_poles=False),
        Rule("duplicated-modes", "warning", "more than 1 in 1000 modes repeat a pole of their copy", duplicated_modes),
        Rule("step-range", "warning", f"a step outside {STEP_RANGE[0]:g}..{STEP_RANGE[1]:g}", step_range, needs_trust=False),
        Rule("low-precision-poles", "warning", "poles (A_log and the like) in bfloat16, float16 or 8 bits", low_precision_poles, False),
        Rule("equal-dt-bias", "warning", "a dt_bias with one value for all, or steps within 1 %", equal_dt_bias, needs_trust=False),
        Rule(
            "lost-initialization",
            "warning",
            "selective layers: all steps together above the published 0.001..0.1, or A = 1 everywhere",
            lost_initialization,
            needs_trust=False,
        ),
        Rule("unsaid-gate", "warning", "a decay gate that may have a lower bound, and no configuration that says so", unsaid_gate),
        Rule("unusual-decay", "warning", "the same Re a in all modes, far from every known initialization", unusual_decay),
        Rule("slow-decay", "info", f"selective layers: an A below {HARDLY:g}, with which a state keeps nearly everything", slow_decay),
        Rule("undamped-pole", "info", "poles on the unit circle by design", undamped_pole, needs_trust=False),
        Rule("beyond-nyquist", "info", "poles with |Im a| step > pi (zoh, euler), which alias", beyond_nyquist),
    )
}
