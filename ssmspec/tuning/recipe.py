"""Apply all requested changes to one layer, in a fixed order: diagonal form, re-initialization, alpha and step, spectrum, beta, baking."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ssmspec.errors import LayerError, SsmspecError
from ssmspec.systems.sobolev import Convention, Sobolev
from ssmspec.systems.statespace import StateSpace
from ssmspec.tuning.poles.diagonal import diagonalize
from ssmspec.tuning.poles.refit import bake
from ssmspec.tuning.poles.reinitialization import Place, Reinitialization, reinitialize
from ssmspec.tuning.poles.scaling import Scaling, scale
from ssmspec.tuning.spectra.estimate import Spectrum
from ssmspec.tuning.spectra.matching import Match, MatchSettings, match_spectrum
from ssmspec.tuning.spectra.power_law import opposed_aims, power_law

LEAK_SAMPLES = 8192
LEAST_LEAK = 1e-6  # of the peak; a smaller leak is not reported
MOST_CANCELLATION = 100.0  # strength of single modes over that of their sum: 1..6 in trained S4 v4, 2e5 in untrained HiPPO-LegS; ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighting:
    """A beta weight.

    Args:
        beta: exponent. convention: None means "lra" if the layer's own code reads a beta, else the layer's present convention, or "paper".
        theta_ref: knee [rad/sample] for "angular" and "causal". length: samples, for "denoising" and "waves".
        bake: refit residues so that code without beta reproduces the weighted response.
        max_bake_error: largest accepted relative L2 error of a layer's response (median over copies).

    Raises:
        SsmspecError: beta is not finite, or the convention does not use the given knee or length.
    """

    beta: float
    convention: Convention | None = None
    theta_ref: float | None = None
    length: int | None = None
    bake: bool = False
    max_bake_error: float = 0.2

    def __post_init__(self) -> None:
        if not np.isfinite(self.beta):
            raise SsmspecError(f"beta is {self.beta}; expected a finite exponent")
        for what, value, users in (
            ("--theta-ref", self.theta_ref, ("angular", "causal")),
            ("--sequence-length", self.length, ("denoising", "waves")),
        ):
            if value is not None and self.convention not in users:
                raise SsmspecError(f"{what} needs --beta-convention {' or '.join(users)}; give one of them, or remove it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """The spectrum whose shape the mean |H|^2 of a layer should match, where it comes from, and the seed and backend of the fit."""

    spectrum: Spectrum
    source: str
    seed: int = 0
    backend: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The changes to a layer.

    Args:
        scaling: alpha, alpha_real, step_scale, preserve_gain.
        start: re-initialization; its alpha is used instead of that of scaling.
        matching: spectrum to match, starting from the result of start and scaling.
        weighting: beta, or None to keep it unchanged.
        diagonalize: convert low-rank layers to diagonal ones first. max_diagonalize_error: like `Weighting.max_bake_error`.
        training: the task that the layers are trained on afterwards, or None; only for the record, `apply` does not train.

    Raises:
        SsmspecError: there is nothing to change.
    """

    scaling: Scaling = field(default_factory=Scaling)
    start: Reinitialization | None = None
    matching: Matching | None = None
    weighting: Weighting | None = None
    diagonalize: bool = False
    max_diagonalize_error: float = 0.05
    training: str | None = None

    def __post_init__(self) -> None:
        if not (self.scaling.changes or self.start or self.matching or self.weighting or self.diagonalize or self.training):
            raise SsmspecError(
                "nothing to change; give --alpha, --beta, --step-scale, --reinit, --match-spectrum, --alpha-real, --diagonalize "
                "or --retrain"
            )
        if self.scaling.preserve_gain and not self.scaling.changes:
            if self.start is not None:
                raise SsmspecError("a re-initialized layer has no gain to preserve; remove --preserve-gain")
            raise SsmspecError("--preserve-gain needs --alpha, --alpha-real or --step-scale; give one of them, or remove it")

    def document(self) -> dict[str, Any]:
        """The recipe as JSON values; a spectrum is represented by its source."""
        steps = {"start": self.start, "weighting": self.weighting}
        parts = {name: None if step is None else asdict(step) for name, step in steps.items()}
        matching = None if self.matching is None else {"source": self.matching.source, "seed": self.matching.seed}
        limits = {"diagonalize": self.diagonalize, "max_diagonalize_error": self.max_diagonalize_error}
        return {"scaling": asdict(self.scaling), "matching": matching, **parts, **limits, "training": self.training}


@dataclass(slots=True)
class Tuned:
    """The directions of a layer during the changes, with notes in words and figures by name."""

    systems: list[StateSpace]
    notes: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    match: Match | None = None

    @property
    def name(self) -> str:
        return self.systems[0].name

    def record(self, what: str, errors: np.ndarray, limit: float, advice: str) -> str:
        """Record the error of a conversion over all copies, refuse it above the limit, and return it in words."""
        median, worst = float(np.median(errors)), float(errors.max())
        self.figures |= {f"{what}_error": median, f"{what}_worst_error": worst}
        if not median <= limit:
            raise LayerError(
                f"layer {self.name}: {advice.split(';')[0]} by {median:.2g} (median over copies, relative L2), above {limit:g};"
                f"{advice.split(';', 1)[1]}"
            )
        return f"relative L2 error {median:.2g} (worst copy {worst:.2g})"


def apply(recipe: Recipe, systems: Sequence[StateSpace], place: Place, *, features: int, slot: bool) -> Tuned:
    """Change the directions of one layer.

    Args:
        systems: the directions of the layer. place, features: see `reinitialize`.
        slot: whether the layer's own code reads a beta from the file, in the convention "lra".
    Raises:
        LayerError: the layer does not support a change, or its error exceeds the limit; the message says what can be done.
    """
    tuned = Tuned(list(systems))
    if recipe.diagonalize and tuned.systems[0].rank:
        _diagonalize(tuned, recipe.max_diagonalize_error)
    elif recipe.diagonalize:
        tuned.notes.append("is already diagonal; --diagonalize did nothing")
    scaling = recipe.scaling
    if recipe.start is not None:
        tuned.systems, clamped = reinitialize(tuned.systems, recipe.start, place, features=features)
        tuned.notes.append(f"re-initialized: {recipe.start.describe(systems[0].family)}")
        _count_clamped(tuned, clamped)
        scaling = replace(scaling, alpha=1.0)
    if scaling.changes:
        scaled = [scale(system, scaling) for system in tuned.systems]
        tuned.systems = [part.system for part in scaled]
        _count_clamped(tuned, scaled[0].clamped)
    if recipe.matching is not None:
        _match(tuned, recipe.matching, features, place.groups)
    if recipe.weighting is not None:
        _weigh(tuned, recipe.weighting, slot)
    if len(systems) > 1:
        shared = len(_sharing(systems)) == 1
        tuned.notes.append(
            "both directions share their poles and change together" if shared else f"{len(systems)} systems of one layer change"
        )
    return tuned


def _sharing(systems: Sequence[StateSpace]) -> list[list[StateSpace]]:
    """Directions of one layer that follow each other and have the same poles and steps, as lists."""
    groups: list[list[StateSpace]] = []
    for system in systems:
        if groups and _shares(system, groups[-1][0]):
            groups[-1].append(system)
        else:
            groups.append([system])
    return groups


def _shares(system: StateSpace, other: StateSpace) -> bool:
    parts = ("poles", "step", "P", "Q") if system.rank and other.rank else ("poles", "step")
    return all(np.array_equal(getattr(system, part), getattr(other, part), equal_nan=True) for part in parts)


def _count_clamped(tuned: Tuned, clamped: int) -> None:
    if tuned.systems[0].discretization == "direct":
        tuned.figures["clamped_phases"] = tuned.figures.get("clamped_phases", 0.0) + clamped
        if clamped:
            tuned.notes.append(f"{clamped} of {tuned.systems[0].poles.size} phases reached pi and stay there")


def _match(tuned: Tuned, wanted: Matching, features: int, groups: int | None) -> None:
    """Fit all directions as one layer, so that shared values stay shared; a shared step is not changed."""
    systems = tuned.systems
    if len(_sharing(systems)) > 1:
        raise LayerError(
            f"layer {tuned.name} ({systems[0].family}): its directions have poles of their own, and no spectrum is matched by all of them; "
            "leave --match-spectrum out, or choose other layers with --layer"
        )
    base = min(systems[0].copies, features)
    stacked = systems[0] if len(systems) == 1 else _stack(systems)
    shared = stacked.copies > base
    sets = min(groups or base, base)
    settings = MatchSettings(
        moved=("decay", "frequency", "C") if shared else ("step", "decay", "frequency", "C"),
        pole_sets=sets if sets < stacked.copies else None,
        backend=wanted.backend,
    )
    found = match_spectrum(stacked, wanted.spectrum, seed=wanted.seed, settings=settings)
    tuned.match = found
    tuned.figures |= {"match_before_db": found.before.band, "match_after_db": found.after.band, "match_spread_db": found.spread}
    if found.declined:
        tuned.notes.append(f"spectrum of {wanted.source}: {found.declined}; nothing was changed")
        return
    ends = np.cumsum([system.copies for system in systems])
    tuned.systems = [
        replace(system, **{part: getattr(found.system, part)[end - system.copies : end] for part in ("poles", "step", "C")})
        for system, end in zip(systems, ends, strict=True)
    ]
    near = "within" if found.matched else "not yet within"
    tuned.notes.append(
        f"spectrum of {wanted.source}: log-spectral distance {found.before.band:.3g} -> {found.after.band:.3g} dB in the band with 95 % of "
        f"the power, {near} the accuracy of the estimate (spread {found.spread:.2g} dB, {found.iterations} iterations)"
    )
    tuned.notes += [text for text in [opposed_aims(_gamma(wanted.spectrum))] if text]


def _gamma(spectrum: Spectrum) -> float:
    """The slope of the spectrum of the data; 0 where too few bins have power to tell."""
    try:
        return power_law(spectrum).gamma
    except SsmspecError:
        return 0.0


def _stack(systems: Sequence[StateSpace]) -> StateSpace:
    parts: dict[str, Any] = {
        part: np.concatenate([getattr(system, part) for system in systems]) for part in ("poles", "B", "C", "D", "step")
    }
    return replace(systems[0], sobolev=None, **parts)


def _diagonalize(tuned: Tuned, limit: float) -> None:
    found = [part for group in _sharing(tuned.systems) for part in diagonalize(group)]
    left_out = int(sum(part.dropped.sum() for part in found))
    condition = float(max(part.condition.max() for part in found))
    tuned.figures |= {"condition": condition, "modes_left_out": float(left_out)}
    text = tuned.record(
        "diagonalize",
        np.concatenate([part.error for part in found]),
        limit,
        "as a diagonal layer its response is off; raise --max-diagonalize-error to accept this, or exclude the layer with --layer",
    )
    cancellation = np.concatenate([part.cancellation for part in found])
    tuned.figures["cancellation"] = float(np.median(cancellation))
    if tuned.figures["cancellation"] > MOST_CANCELLATION:
        raise LayerError(
            f"layer {tuned.name}: as a diagonal layer its modes would be {tuned.figures['cancellation']:.2g} times stronger than their sum "
            f"(median over copies; the eigenvectors have condition {condition:.2g}), so changed poles would spoil it; exclude it by --layer"
        )
    tuned.systems = [part.system for part in found]
    tuned.notes.append(
        f"converted to diagonal: {text}, condition of the eigenvectors {condition:.2g}; modes are up to {cancellation.max():.2g} times "
        f"stronger than their sum; {left_out} weakest modes were dropped (two real eigenvalues need two modes, a complex pair needs one)"
    )


def _weigh(tuned: Tuned, wanted: Weighting, slot: bool) -> None:
    first = tuned.systems[0]
    if first.operating_point is not None:
        raise LayerError(
            f"layer {first.name} ({first.family}) is linear only at an operating point, so a beta weight has no fixed meaning; "
            "--step-scale changes its time scale"
        )
    had = first.sobolev
    if wanted.convention is None and had is not None and not slot:
        wanted = replace(wanted, convention=had.convention, theta_ref=had.theta_ref, length=had.length)
    convention = wanted.convention or ("lra" if slot else "paper")
    if slot and convention != "lra" and not wanted.bake:
        raise LayerError(
            f"layer {first.name}: the code of {first.family} reads beta in the convention lra; remove --beta-convention, or add --bake"
        )
    try:
        weights = [Sobolev(np.full(s.copies, wanted.beta), convention, wanted.theta_ref, wanted.length) for s in tuned.systems]
        for weight, system in zip(weights, tuned.systems, strict=True):
            weight.knee(system.step)
    except LayerError as error:
        raise LayerError(f"layer {first.name} ({first.family}): {error} (--beta-convention, --theta-ref, --sequence-length)") from error
    tuned.systems = [replace(system, sobolev=weight) for system, weight in zip(tuned.systems, weights, strict=True)]
    with np.errstate(over="ignore", divide="ignore"):
        pairs = zip(weights, tuned.systems, strict=True)
        gains = 20 * np.log10(np.concatenate([weight.gain(np.array([[np.pi]]), system.step).reshape(-1) for weight, system in pairs]))
    if not np.isfinite(gains).all():
        raise LayerError(
            f"layer {first.name}: beta {wanted.beta:g} ({convention}) overflows at Nyquist; give a smaller beta or a larger knee"
        )
    low, high = float(gains.min()), float(gains.max())
    tuned.figures |= {"nyquist_gain_db_min": low, "nyquist_gain_db_max": high}
    span = f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g}..{high:.3g}"
    tuned.notes.append(f"beta {wanted.beta:g} ({convention}): gain at Nyquist {span} dB")
    if wanted.bake:
        _bake(tuned, wanted.max_bake_error, slot)
        return
    if len(tuned.systems) == 1 and not weights[0].causal:
        tuned.figures["leak"] = leak(weights[0], first.step)
        if tuned.figures["leak"] > LEAST_LEAK:
            tuned.notes.append(
                f"the weight has zero phase: its own response reaches {tuned.figures['leak']:.2g} of the peak before the input arrives, a "
                "leak in causal models; --beta-convention causal has none"
            )
    if not slot and wanted.beta != 0:
        tuned.notes.append("beta is stored as metadata: ssmspec applies it, the model's own code does not; --bake writes it into C")


def leak(weight: Sobolev, step: np.ndarray) -> float:
    """Largest response of a beta weight by itself before an impulse arrives, relative to its peak, for the worst copy."""
    theta = np.arange(LEAK_SAMPLES + 1)[None] * np.pi / LEAK_SAMPLES
    taps = np.abs(np.fft.irfft(weight.weight(theta, step), axis=1))
    return float((taps[:, LEAK_SAMPLES:].max(axis=1) / taps.max(axis=1)).max())


def _bake(tuned: Tuned, limit: float, slot: bool) -> None:
    found = [bake(system) for system in tuned.systems]
    growth = float(max(part.growth.max() for part in found))
    text = tuned.record(
        "bake",
        np.concatenate([part.error for part in found]),
        limit,
        "residues on its poles miss the weighted response; raise --max-bake-error to accept this, choose a smaller beta, or remove --bake",
    )
    tuned.figures["bake_growth"] = growth
    tuned.notes.append(f"baked into C: {text}, modes at most {growth:.3g} times as strong (root of the sum of their energies)")
    zero = Sobolev(np.zeros(tuned.systems[0].copies), "lra")
    tuned.systems = [replace(part.system, sobolev=zero if slot else None) for part in found]
