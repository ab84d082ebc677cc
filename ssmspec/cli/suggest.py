"""The command `suggest`: starting values for the data that a layer will see."""

from typing import TYPE_CHECKING, Annotated

import typer

from ssmspec.cli.app import command
from ssmspec.cli.options import AsJson, BetaConvention, FamilyName, LayerNames, Layout, Reading, Segment, takes
from ssmspec.cli.terminal import echo, message, tell_read
from ssmspec.errors import LayerError, SsmspecError

if TYPE_CHECKING:
    from ssmspec.tuning.spectra.suggest import StartingLayer


@command("suggest signals.npy")
@takes(reading=Reading)
def suggest(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Signals: .npy, .npz, .wav or .csv; FILE:NAME picks an array or a column.")],
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="Suggest values for a layer of this checkpoint; default: a new S4D-Lin layer.")
    ] = None,
    layer: LayerNames = None,
    modes: Annotated[int, typer.Option("--modes", min=1, help="Number of stored modes of the new layer.")] = 32,
    step_min: Annotated[float, typer.Option("--step-min", help="Smallest Delta of the new layer.")] = 1e-3,
    step_max: Annotated[float, typer.Option("--step-max", help="Largest Delta of the new layer.")] = 1e-1,
    memory: Annotated[
        float | None, typer.Option("--memory", help="Memory of the slowest mode [samples]; default: correlation time of the data.")
    ] = None,
    beta_convention: Annotated[
        BetaConvention, typer.Option("--beta-convention", help="Convention of the beta weight.")
    ] = BetaConvention.lra,
    theta_ref: Annotated[float | None, typer.Option("--theta-ref", help="Knee of the conventions angular and causal [rad/sample].")] = None,
    sequence_length: Annotated[
        int | None, typer.Option("--sequence-length", min=1, help="L of the conventions denoising and waves [samples].")
    ] = None,
    segment: Segment = None,
    layout: Layout = None,
    as_json: AsJson = False,
    family: FamilyName = None,
    *,
    reading: Reading,
) -> None:
    """Suggest beta, a range of alpha and the step for given data, each with its source and uncertainty."""
    from ssmspec.report.documents.document import read_document, to_json
    from ssmspec.report.documents.suggest import suggestion_document
    from ssmspec.report.progress import LayerProgress
    from ssmspec.report.tables.parts import console
    from ssmspec.report.tables.suggest import suggestion_text
    from ssmspec.tuning.spectra.estimate import power_spectrum
    from ssmspec.tuning.spectra.signals import read_signals
    from ssmspec.tuning.spectra.suggest import StartingLayer, SuggestSettings
    from ssmspec.tuning.spectra.suggest import suggest as run

    if checkpoint is None and layer:
        raise SsmspecError("--layer needs --checkpoint; give it too, or leave --layer out")
    if theta_ref is not None and beta_convention.value not in ("angular", "causal"):
        raise SsmspecError(f"--theta-ref does not apply to the convention {beta_convention.value}; leave it out")
    settings = SuggestSettings(beta_convention.value, theta_ref, sequence_length, memory)
    with LayerProgress() as progress:
        start = (
            StartingLayer.s4d_lin(modes, (step_min, step_max))
            if checkpoint is None
            else _stored(reading.given(checkpoint), layer, reading, family)
        )
    found = run(power_spectrum(read_signals(data, layout=layout), segment=segment), start, settings)
    if as_json:
        echo(to_json(suggestion_document(found, data) | read_document(progress.opened)))
    else:
        console().print(suggestion_text(found, data), highlight=False)
        tell_read(progress.opened)


def _stored(checkpoint: str, layer: list[str] | None, reading: Reading, family: str | None) -> "StartingLayer":
    from ssmspec.families.layers import load_system
    from ssmspec.systems.trust import assess
    from ssmspec.tuning.spectra.suggest import StartingLayer

    if layer and len(layer) > 1:
        raise SsmspecError(f"suggestions are for one layer, but --layer was given {len(layer)} times; choose one")
    system = load_system(checkpoint, layer[0] if layer else "0", reading.options(), family).state_space()
    trust = assess(system)
    if trust.problem:
        raise LayerError(f"{checkpoint}: layer {system.name} cannot be used: {trust.problem}")
    for text in trust.gaps:
        message(f"note: layer {system.name}: {text}; the suggestion is for the other copies")
    return StartingLayer.of(trust.pick(system))
