"""The command `probe`: what a whole model hears."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from ssmspec.cli.app import COMPUTING, command
from ssmspec.cli.options import AsJson, takes
from ssmspec.cli.terminal import echo, message, tell_pictures
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.probing.subjects import Given, Subject
    from ssmspec.statistics.frequency_sensitivity import Probed


class FeatureAxes(StrEnum):
    L = "L"
    HW = "HW"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What enters the model."""

    PANEL: ClassVar[str] = "Inputs"
    data: Annotated[str | None, typer.Option("--data", help="Numbers: .npy, .npz, .csv, .wav or a folder of .wav.", show_default=False)] = (
        None
    )
    layout: Annotated[
        str | None, typer.Option("--layout", help="Axes of the data, such as BLC: B sequences, L samples, C channels.", show_default=False)
    ] = None
    text: Annotated[Path | None, typer.Option("--text", help="Text for a language model with a tokenizer.", show_default=False)] = None
    tokens: Annotated[
        Path | None, typer.Option("--tokens", help="Tokens for a language model: integers (T,) or (B, L) in .npy.", show_default=False)
    ] = None
    inputs: Annotated[int, typer.Option("--inputs", min=1, help="Number of inputs; errors come from the spread over them.")] = 8
    max_length: Annotated[int | None, typer.Option("--max-length", min=16, help="Samples of each input at most.", show_default=False)] = (
        None
    )

    def given(self) -> "Given":
        """These options in the form that `ssmspec.probing.subjects` takes."""
        from ssmspec.probing.subjects import Given

        return Given(data=self.data, axes=self.layout, text=self.text, tokens=self.tokens, count=self.inputs, max_length=self.max_length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """What is measured, and how well."""

    PANEL: ClassVar[str] = "What is measured"
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", help="Blocks from whose input S is measured, too: exact name or glob, or none. Default: all blocks."),
    ] = None
    output: Annotated[
        str | None,
        typer.Option("--output", help="Module or key that is the output; default: that of the model.", show_default=False),
    ] = None
    features: Annotated[
        FeatureAxes | None,
        typer.Option("--features", help="Also the spectra of what the blocks give: over time (L) or height and width (HW)."),
    ] = None
    grid: Annotated[
        str | None, typer.Option("--grid", metavar="HxW", help="With --features HW: height and width of the tokens.", show_default=False)
    ] = None
    noise: Annotated[
        str | None,
        typer.Option("--noise", metavar="SPEC", help='The metric under noise by band, such as "bands=8 snr=20,10,0".', show_default=False),
    ] = None
    attack: Annotated[
        str | None,
        typer.Option(
            "--attack", metavar="SPEC", help='The same after one gradient step by band, such as "bands=8 snr=30,20".', show_default=False
        ),
    ] = None
    samples: Annotated[int, typer.Option("--samples", min=1, help="Random draws, each a backward pass.", rich_help_panel=COMPUTING)] = 8
    batch: Annotated[int, typer.Option("--batch", min=1, help="Inputs per pass.", rich_help_panel=COMPUTING)] = 8
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draws.", rich_help_panel=COMPUTING)] = 0
    device: Annotated[str, typer.Option("--device", help="Where the model runs: cpu, cuda, cuda:1, ...", rich_help_panel=COMPUTING)] = "cpu"

    def options(self) -> dict[str, Any]:
        """These options in the form that `ssmspec.probe` takes.

        Raises:
            SsmspecError: the grid cannot be read.
        """
        blocks = "blocks" if not self.layer else None if self.layer == ["none"] else self.layer
        if self.features is not None and blocks is None:
            raise SsmspecError("--features needs blocks, and --layer none leaves them out; leave one of them out")
        return {
            "layers": blocks,
            "output": self.output,
            "axes": None if self.features is None else self.features.value,
            "grid": _grid(self.grid),
            "samples": self.samples,
            "batch": self.batch,
            "seed": self.seed,
        }


def _grid(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdigit() and int(side) > 0 for side in sides):
        raise SsmspecError(f"--grid {text!r} is not understood; write height and width like 14x14")
    return int(sides[0]), int(sides[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparing:
    """What it is compared with, and how it is shown."""

    compare: Annotated[str | None, typer.Option("--compare", help="Another model, which gets the same inputs.", show_default=False)] = None
    before: Annotated[bool, typer.Option("--before", help="Of a run: the model before training.")] = False
    after: Annotated[bool, typer.Option("--after", help="Of a run: the model after training (default); with --before, both.")] = False
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FOLDER", help="Write the pictures into this folder.", show_default=False)
    ] = None
    as_json: AsJson = False


@command(
    "probe run",
    "probe run --before --after --plot pictures",
    'probe run --noise "bands=4 snr=20,10,0"',
    "probe model.safetensors --data X.npy",
    "probe mamba --text book.txt --compare gpt2",
)
@takes(inputs=Inputs, measuring=Measuring, comparing=Comparing)
def probe(
    model: Annotated[
        str,
        typer.Argument(
            metavar="CKPT",
            help="Folder of a run of ssmspec train, a checkpoint of it, or a folder of transformers.",
            show_default=False,
        ),
    ],
    *,
    inputs: Inputs,
    measuring: Measuring,
    comparing: Comparing,
) -> None:
    """Measure what a whole model hears: how strongly its output responds to every frequency of its input.

    A few backward passes give it for all frequencies, from the input and every block; errors come from the spread over inputs and draws.
    """
    options = measuring.options()
    from ssmspec.probing.robustness import Disturbance
    from ssmspec.probing.subjects import subject
    from ssmspec.probing.whole import Asked, probe_subject
    from ssmspec.report.documents.document import to_json
    from ssmspec.report.documents.probe import probe_document
    from ssmspec.report.progress import LayerProgress
    from ssmspec.report.tables.parts import console
    from ssmspec.report.tables.probe import probe_text

    asked = Asked(
        options=options,
        noise=None if measuring.noise is None else Disturbance.parsed(measuring.noise, "--noise"),
        attack=None if measuring.attack is None else Disturbance.parsed(measuring.attack, "--attack"),
    )
    given = replace(inputs.given(), device=measuring.device)
    subjects = [subject(path, each) for path, each in _models(model, given, comparing)]
    with LayerProgress() as progress:
        found = [probe_subject(each, asked, progress) for each in subjects]
    if comparing.as_json:
        echo(to_json(probe_document(found[0], found[1:])))
    else:
        console().print(probe_text(found), highlight=False)
    if comparing.plot is not None:
        _draw(comparing.plot, subjects, found)


def _models(model: str, given: "Given", comparing: Comparing) -> "list[tuple[str, Given]]":
    """The models to probe: one, before and after, and the other."""
    run = (Path(model) / "config.toml").is_file()
    if (comparing.before or comparing.after) and not run:
        raise SsmspecError(f"{model} is not the folder of a run, so it has no before and after; give one, or use --compare")
    models = [(model, replace(given, which="initial"))] if comparing.before else []
    models += [(model, given)] if comparing.after or not comparing.before else []
    return models + ([(comparing.compare, given)] if comparing.compare is not None else [])


def _draw(folder: Path, subjects: "Sequence[Subject]", found: "Sequence[Probed]") -> None:
    """Write all pictures that there are; say what is not drawn."""
    from ssmspec.probing.drawing import draw_probes

    written, notes = draw_probes(folder, subjects, found)
    for note in notes:
        message(note)
    tell_pictures(written)
