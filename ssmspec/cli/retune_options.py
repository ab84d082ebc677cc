"""The options of the command `retune`, in groups. Each group turns itself into its part of the request."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from ssmspec.cli.options import Backend, BetaConvention, Layout, Placing, Segment
from ssmspec.cli.retune_training import Training
from ssmspec.cli.train import assignments, files
from ssmspec.errors import SsmspecError, needed

if TYPE_CHECKING:
    from ssmspec.tuning.poles.reinitialization import Reinitialization
    from ssmspec.tuning.recipe import Matching, Weighting


# the keys of `ssmspec.tuning.poles.initializations.INITIALIZATIONS`, whose module is too heavy for --help; a test compares them
STARTS = ("s4d-lin", "s4d-inv", "s4d-legs", "s4d-real", "fout", "random", "s5-hippo", "dfout", "lru-ring")


def require(owner: object, name: str, group: object, *fields: str) -> None:
    """Refuse options of a group that were given although the option they belong to was not.

    Raises:
        SsmspecError: the message names them.
    """
    given = [field for field in fields if getattr(group, field) is not None and getattr(group, field) is not False]
    idle = ["--set" if field == "setting" else f"--{field.replace('_', '-')}" for field in given]
    if idle and (owner is None or owner is False):
        raise SsmspecError(f"{', '.join(idle)} need{'s' * (len(idle) == 1)} {name}; give it too, or leave {', '.join(idle)} out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Factors on the poles and the step, and the diagonal form that they may need."""

    alpha: Annotated[float | None, typer.Option("--alpha", help="Factor on Im of every pole.", show_default=False)] = None
    alpha_real: Annotated[float, typer.Option("--alpha-real", help="Factor on Re of every pole.")] = 1.0
    step_scale: Annotated[float, typer.Option("--step-scale", help="Factor on the step Delta; also works for real poles.")] = 1.0
    preserve_gain: Annotated[bool, typer.Option("--preserve-gain", help="Change C so that every |g_n| stays the same.")] = False
    diagonalize: Annotated[bool, typer.Option("--diagonalize", help="Convert low-rank layers to diagonal ones first.")] = False
    max_diagonalize_error: Annotated[
        float | None, typer.Option("--max-diagonalize-error", min=0, help="Largest accepted median error; default: 0.05.")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """The Sobolev weight."""

    PANEL: ClassVar[str] = "Sobolev weight (beta)"
    beta: Annotated[float | None, typer.Option("--beta", help="Exponent of a Sobolev weight.", show_default=False)] = None
    beta_convention: Annotated[
        BetaConvention | None,
        typer.Option(
            "--beta-convention", help="Convention of the weight; default: lra if the layer stores beta, else that of the file, else paper."
        ),
    ] = None
    theta_ref: Annotated[
        float | None, typer.Option("--theta-ref", help="Knee of the conventions angular and causal [rad/sample].", show_default=False)
    ] = None
    sequence_length: Annotated[
        int | None, typer.Option("--sequence-length", min=1, help="L of the conventions denoising and waves [samples].", show_default=False)
    ] = None
    bake: Annotated[bool, typer.Option("--bake", help="Refit C so that code that ignores beta gives the weighted response.")] = False
    max_bake_error: Annotated[
        float | None, typer.Option("--max-bake-error", min=0, help="Largest accepted median error; default: 0.2.")
    ] = None

    def weighting(self) -> "Weighting | None":
        """These options as part of a recipe; None without --beta."""
        from ssmspec.tuning.recipe import Weighting

        if self.beta is None:
            return None
        return Weighting(
            beta=self.beta,
            convention=None if self.beta_convention is None else self.beta_convention.value,
            theta_ref=self.theta_ref,
            length=self.sequence_length,
            bake=self.bake,
            max_bake_error=0.2 if self.max_bake_error is None else self.max_bake_error,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A new initialization."""

    PANEL: ClassVar[str] = "New initialization"
    reinit: Annotated[str | None, typer.Option("--reinit", help=f"Reinitialize: {', '.join(STARTS)}; 'ssmspec plot inits' draws them.")] = (
        None
    )
    init_b: Annotated[str | None, typer.Option("--init-b", help="How --reinit draws B; default: as the family does.")] = None
    init_c: Annotated[str | None, typer.Option("--init-c", help="How --reinit draws C; default: as the family does.")] = None
    step_min: Annotated[float | None, typer.Option("--step-min", help="Smallest Delta drawn by --reinit; default: 0.001.")] = None
    step_max: Annotated[float | None, typer.Option("--step-max", help="Largest Delta drawn by --reinit; default: 0.1.")] = None
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of every random draw.")] = 0

    def reinitialization(self, alpha: float | None) -> "Reinitialization | None":
        """These options as part of a recipe, including its alpha; None without --reinit."""
        from ssmspec.tuning.poles.reinitialization import Reinitialization

        if self.reinit is None:
            return None
        step = (1e-3 if self.step_min is None else self.step_min, 1e-1 if self.step_max is None else self.step_max)
        factor = 1.0 if alpha is None else alpha
        return Reinitialization(name=self.reinit, alpha=factor, seed=self.seed, step=step, inputs=self.init_b, outputs=self.init_c)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The spectrum that layers are fitted to."""

    PANEL: ClassVar[str] = "Fit to data"
    match_spectrum: Annotated[
        str | None,
        typer.Option(
            "--match-spectrum",
            metavar="DATA",
            help="Fit |H|^2 of the first layer, or of those of --layer, to the spectrum of these signals.",
        ),
    ] = None
    target: Annotated[
        str | None,
        typer.Option("--target", help="With --match-spectrum: match the cross-spectrum with these signals. With --retrain: as in train."),
    ] = None
    segment: Segment = None
    layout: Layout = None

    def matching(self, seed: int, backend: str | None) -> "Matching | None":
        """These options as part of a recipe, with the spectrum of the data; None without --match-spectrum.

        Raises:
            SsmspecError: the data cannot be read, or are too short.
        """
        from ssmspec.tuning.recipe import Matching
        from ssmspec.tuning.spectra.estimate import cross_spectrum, power_spectrum
        from ssmspec.tuning.spectra.signals import read_signals

        data = self.match_spectrum
        if data is None:
            return None
        signals = read_signals(data, layout=self.layout)
        if self.target is None:
            return Matching(spectrum=power_spectrum(signals, segment=self.segment), source=data, seed=seed, backend=backend)
        spectrum = cross_spectrum(signals, read_signals(self.target, layout=self.layout), segment=self.segment)
        return Matching(spectrum=spectrum, source=f"{data} with {self.target}", seed=seed, backend=backend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """Training after the change."""

    PANEL: ClassVar[str] = "Training afterward"
    retrain: Annotated[
        str | None, typer.Option("--retrain", metavar="TASK", help="Then train: waves, denoise, regress, classify or forecast.")
    ] = None
    data: Annotated[str | None, typer.Option("--data", help="With --retrain: as in train.", show_default=False)] = None
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="With --retrain: optimizer steps.", show_default=False)] = None
    lr: Annotated[float | None, typer.Option("--lr", help="With --retrain: as in train.", show_default=False)] = None
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="With --retrain: a setting, in TOML. May be repeated.")
    ] = None
    preset: Annotated[
        str | None, typer.Option("--preset", help="With --retrain; default: the settings in the checkpoint, or small.", show_default=False)
    ] = None
    device: Annotated[str, typer.Option("--device", help="With --retrain: cpu, cuda, cuda:1, ...")] = "cpu"
    threads: Annotated[int, typer.Option("--threads", min=1, help="With --retrain: threads of torch.")] = 1
    out: Annotated[
        Path | None,
        typer.Option("--out", help="With --retrain: folder of the run; default: <stem>-TASK in the current folder.", show_default=False),
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="With --retrain: continue the run in the folder.")] = False

    def check(self) -> None:
        """Refuse options that have no effect without --retrain, and --retrain without torch, before anything is written.

        Raises:
            SsmspecError: the message names them. MissingPackageError: torch is not installed.
        """
        require(self.retrain, "--retrain", self, "data", "steps", "lr", "setting", "preset", "out", "resume")
        if self.retrain is not None:
            needed("torch", "--retrain")

    def training(self, checkpoint: Path, seed: int, target: str | None) -> Training | None:
        """These options as one request; None without --retrain."""
        if self.retrain is None:
            return None
        named = {"seed": seed, "steps": self.steps, "lr": self.lr}
        given = {name: value for name, value in named.items() if value is not None}
        given |= files(self.data, target) | assignments(self.setting or ())
        folder = self.out or Path(f"{checkpoint.stem}-{self.retrain}")
        return Training(self.retrain, self.preset, given, self.device, self.threads, folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing(Placing):
    """Where the result goes, and how it is shown."""

    plot: Annotated[Path | None, typer.Option("--plot", help="Write one PNG per layer, before and after, into this folder.")] = None
    backend: Backend = None

    def check(self) -> None:
        """Check what can be checked before anything is read or written.

        Raises:
            SsmspecError: an engine is missing, a folder cannot be made, or two targets are given.
        """
        from ssmspec.backends import load_backend

        if self.plot is not None:
            from ssmspec.files.writing import made_folder

            made_folder(self.plot)
        if self.backend is not None:
            load_backend(self.backend)
        self.refuse_two_targets()
