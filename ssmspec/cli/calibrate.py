"""The command `calibrate`: operating points of selective layers, recorded while a model reads."""

from pathlib import Path
from typing import Annotated

import typer

from ssmspec.cli.app import command
from ssmspec.cli.options import AsJson
from ssmspec.cli.terminal import echo, message
from ssmspec.errors import SsmspecError

LIMIT = 65536


@command("calibrate falcon-mamba-7b --text book.txt -o calibration.npz", "calibrate mamba-130m --tokens tokens.npy --limit 4096")
def calibrate(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Causal language model of transformers.", show_default=False)],
    text: Annotated[Path | None, typer.Option("--text", help="Text in UTF-8; the folder needs a tokenizer.", show_default=False)] = None,
    tokens: Annotated[
        Path | None, typer.Option("--tokens", help="Token numbers: .npy, (tokens,) or (sequences, tokens).", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write, for analyze --calibration.")] = Path("calibration.npz"),
    max_length: Annotated[
        int | None,
        typer.Option("--max-length", min=1, help="Tokens per sequence. Default: the context, at most 2048.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Stop after so many tokens.")] = LIMIT,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ...")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Record what the selective layers of a model do on your text: Delta (or log z), B and C over tokens.

    Writes their means, and deviation and quantiles over tokens, into a file. 'analyze --calibration FILE' then takes the means as operating
    point and shows between which half-lives each head moves. Every sequence begins with an empty state.
    """
    from ssmspec.checkpoint.remote.path import is_address
    from ssmspec.files.writing import Kind, refuse_precious
    from ssmspec.probing.calibrate_folder import FolderOptions, calibrate_folder
    from ssmspec.report.documents.document import to_json
    from ssmspec.report.progress import LayerProgress
    from ssmspec.report.tables.parts import console, plain_table
    from ssmspec.training.engine.run import checked_device

    if is_address(folder):
        raise SsmspecError(f"{folder}: calibrate runs a model, so it needs a local folder of transformers; download it and give its path")
    refuse_precious(output, Kind.arrays)
    options = FolderOptions(text=text, tokens=tokens, max_length=max_length, limit=limit, device=checked_device(device))
    with LayerProgress() as progress:
        found = calibrate_folder(Path(folder), options, progress=progress)
    found.save(output)
    if as_json:
        echo(to_json(found.to_dict()))
    else:
        console().print(plain_table(*found.table()), highlight=False)
    for line in found.remarks:
        message(line)
    message(f"wrote {output}")
