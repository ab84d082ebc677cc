"""The command `inspect`."""

from typing import Annotated

import typer

from ssmspec.cli.app import command
from ssmspec.cli.options import AsJson, CheckpointPath, MapFile, local_copy
from ssmspec.cli.terminal import echo, tell_read


@command("inspect model.safetensors", "inspect model.safetensors --suggest-map")
def inspect(
    checkpoint: CheckpointPath,
    as_json: AsJson = False,
    map_file: MapFile = None,
    suggest_map: Annotated[
        bool, typer.Option("--suggest-map", help="Print a draft of a mapping file for --map, guessed from names, shapes and values.")
    ] = False,
    download: Annotated[bool, typer.Option("--download", help="Fetch a remote checkpoint whole, into a cache.")] = False,
) -> None:
    """Show what is in a checkpoint: SSM layers with the evidence for them, near misses, and all other tensors."""
    from ssmspec.commands.inspect import inspect_checkpoint, suggest_mapping
    from ssmspec.families import ReadOptions
    from ssmspec.families.mapping.mapping_file import load_mapping
    from ssmspec.report.documents.document import to_json
    from ssmspec.report.progress import LayerProgress
    from ssmspec.report.tables.inspect import inspection_tables
    from ssmspec.report.tables.parts import console

    checkpoint = local_copy(checkpoint) if download else checkpoint
    options = ReadOptions(mapping=() if map_file is None else load_mapping(map_file))
    if suggest_map:
        if as_json:
            raise typer.BadParameter("a mapping is TOML; leave out --json", param_hint="--suggest-map")
        with LayerProgress() as progress:
            draft = suggest_mapping(checkpoint, options)
        echo(draft, end="")
        tell_read(progress.opened)
        return
    with LayerProgress():
        document = inspect_checkpoint(checkpoint, options)
    if as_json:
        echo(to_json(document))
        return
    console().print(inspection_tables(document), highlight=False)
