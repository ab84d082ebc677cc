"""`ssmspec.retune` and what it returns."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast, get_args

from ssmspec.api.analyze import Layers
from ssmspec.api.changed import Changed, ChangedLayer
from ssmspec.api.compare import Comparison, LayerChange
from ssmspec.api.keywords import read_options, selection
from ssmspec.checkpoint.remote.path import is_address
from ssmspec.commands.analyze import AnalysisOptions
from ssmspec.commands.compare import compare_systems
from ssmspec.commands.retune import ChangeOptions, LayerRetune, RetunePlan, plan_retune
from ssmspec.commands.retune_writing import check_target, write_retuned
from ssmspec.errors import SsmspecError
from ssmspec.report.documents.document import Document
from ssmspec.report.documents.retune import retune_document
from ssmspec.systems.sobolev import Convention
from ssmspec.tuning.poles.reinitialization import Reinitialization
from ssmspec.tuning.poles.scaling import Scaling
from ssmspec.tuning.recipe import Recipe, Weighting


class RetunedLayer(ChangedLayer[LayerRetune]):
    """One layer that was changed: `before` and `after` are its systems."""


class Retuned(Changed[RetunedLayer, RetunePlan]):
    """A retuned model: its changed layers, the file that was written, and how it compares with what it was."""

    @property
    def tensors(self) -> Mapping[str, Any]:
        """The new values of the tensors that change, by name."""
        return {**self._plan.changes, **self._plan.added}

    @cached_property
    def comparison(self) -> Comparison:
        """What the change did to the bias; computed when it is first asked for."""
        pairs = [(layer.before, layer.after) for layer in self]
        after = "not written" if self._output is None else str(self._output)
        found = compare_systems(
            (str(self._plan.checkpoint.path), [before for before, _ in pairs]), (after, [after for _, after in pairs]), AnalysisOptions()
        )
        return Comparison(found, map(LayerChange, found.layers))

    def plot(self, *, ax: Any = None) -> Any:
        """Draw |H| before and after; see `Comparison.plot`."""
        return self.comparison.plot(ax=ax)

    def to_dict(self) -> Document:
        """The document of `ssmspec retune --json` (schema ssmspec.retune/1). It always holds all layers that changed."""
        whole = Retuned(self._plan, self._output, map(RetunedLayer, self._plan.layers))
        return retune_document(self._plan, whole.comparison._found, self._output)

    def _some(self, items: Sequence[RetunedLayer]) -> "Retuned":
        return Retuned(self._plan, self._output, items)

    def _rows(self) -> tuple[Sequence[str], list[list[object]]]:
        return self.comparison._rows()

    def _wide(self) -> list[dict[str, object]]:
        return self.comparison._wide()

    def _title(self) -> str:
        changed = len(self._plan.changes) + len(self._plan.added)
        return f"{self._plan.checkpoint.path}: {len(self)} layers, {changed} tensors changed; {self._written()}"


def retune(
    path: Path | str,
    output: Path | str | None = None,
    layers: Layers = None,
    *,
    alpha: float | None = None,
    alpha_real: float = 1.0,
    beta: float | None = None,
    beta_convention: str | None = None,
    theta_ref: float | None = None,
    sequence_length: int | None = None,
    bake: bool = False,
    step_scale: float = 1.0,
    preserve_gain: bool = False,
    diagonalize: bool = False,
    reinit: str | None = None,
    seed: int = 0,
    force: bool = False,
    family: str | None = None,
    **read: Any,
) -> Retuned:
    """Change the frequency bias of a checkpoint.

        >>> import ssmspec
        >>> tuned = ssmspec.retune("sample_checkpoints/s4d_trained.safetensors", alpha=2.0)
        >>> tuned.output is None, len(tuned.tensors)
        (True, 2)
        >>> bool((tuned[0].after.poles.imag == 2 * tuned[0].before.poles.imag).all())
        True

    Args:
        path: a checkpoint file or folder.
        output: the file to write, in the format of the input; without it nothing is written.
        layers: exact names, globs or indices; all by default.
        alpha, alpha_real, step_scale: factors on Im and Re of every pole, and on the step.
        beta: exponent of a Sobolev weight (1 + |s|)^beta. beta_convention: "lra", "paper", "angular", "denoising", "waves" or "causal".
        theta_ref: the knee of angular and causal [rad/sample]. sequence_length: L of denoising and waves [samples].
        bake: refit C, so that code that ignores beta gives the weighted response.
        preserve_gain: change C so that every residue keeps its size. diagonalize: convert low-rank layers to diagonal ones first.
        reinit: the name of an initialization to start again from, with `seed`. force: replace an existing output.
        family, read: as for `ssmspec.analyze`.
    Raises:
        SsmspecError: nothing is to be changed, a layer cannot be changed as asked, or the output cannot be written.
    Source: Yu et al. 2025 (arXiv 2410.02035), sections 4 and 5, for alpha and beta.
    """
    if all(value is None for value in (alpha, beta, reinit)) and (alpha_real, step_scale) == (1.0, 1.0) and not diagonalize:
        raise SsmspecError("there is nothing to change; give alpha, alpha_real, beta, step_scale, reinit or diagonalize")
    idle = {"beta_convention": beta_convention, "theta_ref": theta_ref, "sequence_length": sequence_length, "bake": bake or None}
    given = [name for name, value in idle.items() if value is not None]
    if given and beta is None:
        raise SsmspecError(f"{', '.join(given)} need{'s' * (len(given) == 1)} beta; give it too, or leave {', '.join(given)} out")
    if output is not None and is_address(str(path)):
        raise SsmspecError(f"{path} is remote, and a retuned copy takes the whole file; fetch it first, or leave output away to look")
    conventions = get_args(Convention)
    if beta_convention is not None and beta_convention not in conventions:
        raise SsmspecError(f"beta_convention={beta_convention!r} is unknown; choose one of {', '.join(conventions)}")
    fresh = None if reinit is None else Reinitialization(name=reinit, alpha=1.0 if alpha is None else alpha, seed=seed)
    weighting = None
    if beta is not None:
        convention = cast("Convention | None", beta_convention)
        weighting = Weighting(beta=beta, convention=convention, theta_ref=theta_ref, length=sequence_length, bake=bake)
    recipe = Recipe(
        scaling=Scaling(1.0 if alpha is None or fresh else alpha, alpha_real, step_scale, preserve_gain),
        start=fresh,
        weighting=weighting,
        diagonalize=diagonalize,
    )
    plan = plan_retune(path, recipe, ChangeOptions(layers=selection(layers), family=family, read=read_options(**read)))
    target = None if output is None or plan.changes_nothing else Path(output)
    if target is not None:
        check_target(plan, target, replace_target=force)
        write_retuned(plan, target, command="ssmspec.retune", replace_target=force)
    return Retuned(plan, target, map(RetunedLayer, plan.layers))
