"""The values of configurations that state the size of the state, of a checkpoint that is written with another size.

Those that belong to the checkpoint are written with it: config.json of a folder, the line of JSON of an Equinox file, the configuration
inside a file of torch.save, what `ssmspec train` recorded in the metadata. A config.json or config.toml beside a single file belongs to the
input, too, and stays as it is, since other files of the input have its size; a copy with the new size is written beside the result if
there is no such file.
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ssmspec.checkpoint import Checkpoint
from ssmspec.checkpoint.formats.folders import CONFIG, PREFERRED, is_index, load_json
from ssmspec.checkpoint.write.write_reshaped import reshapes, settings_in_file
from ssmspec.errors import CheckpointError, SsmspecError
from ssmspec.families.state_size import Change, Stated, with_state_size
from ssmspec.files.reading import parse_toml
from ssmspec.files.replacing import new_file

RUN_CONFIG = "config.toml"  # of a run of `ssmspec train`
START = "start"  # table of it about a file of that run, which another folder does not have
METADATA, LINE, INSIDE = "metadata", "hyperparameters", "settings inside the file"


@dataclass(frozen=True, slots=True)
class Setting:
    """One value that states the size.

    Args:
        place: the file or the part of the checkpoint that has it. stated: its key, and the value before and after.
        written: the file that has the new value; None if it must be changed by hand.
    """

    place: str
    stated: Stated
    written: str | None

    def document(self) -> dict[str, Any]:
        """The setting as JSON values."""
        return {"place": self.place, "key": self.stated.key, "before": self.stated.before, "after": self.stated.after, "file": self.written}


@dataclass(frozen=True, slots=True)
class Settings:
    """All values that state the size, and what is written for them.

    Args:
        found: the values. notes: the same in words, and what cannot be said of a value.
        texts: new contents of files of a folder, by their path in the input. line: the new line of JSON of an Equinox file.
        trained: what `ssmspec train` recorded. beside: new files beside the result.
    """

    found: tuple[Setting, ...] = ()
    notes: tuple[str, ...] = ()
    texts: Mapping[Path, bytes] = field(default_factory=dict)
    line: bytes | None = None
    trained: Mapping[str, Any] | None = None
    beside: Mapping[Path, bytes] = field(default_factory=dict)

    def joined(self, place: str, stated: Sequence[Stated], written: Path | None, note: str = "", **more: Any) -> "Settings":
        """The same with the values of one more place."""
        if not stated and not note:
            return replace(self, **more)
        found = [Setting(place, value, None if written is None else str(written)) for value in stated]
        notes = [note] if note else [f"{place}: {value}" for value in stated]
        return replace(self, found=(*self.found, *found), notes=(*self.notes, *notes), **more)

    def write_beside(self) -> None:
        """Write the new files; call it when the checkpoint is there.

        Raises:
            SsmspecError: a file was created meanwhile, or cannot be written.
        """
        for path, content in self.beside.items():
            with new_file(path, 0o644, exclusive=True) as file:
                file.write(content)


def settings_of(
    checkpoint: Checkpoint,
    change: Change | None,
    trained: Mapping[str, Any] | None,
    target: Path | None,
) -> Settings:
    """What states the size of the state of a checkpoint, and what is written for it.

    Args:
        change: the old and the new size; None where layers have different ones now. trained: what `ssmspec train` recorded.
        target: where the result goes, None for a dry run.
    """
    result = Settings(trained=trained)
    if change is None:
        return result.joined("", [], None, _different(checkpoint))
    if trained is not None:
        found, stated = with_state_size(trained, change)
        result = result.joined(METADATA, stated, target, trained=found)
    if checkpoint.path.is_dir() or is_index(checkpoint.path):
        return _of_folder(result, checkpoint, change, target)
    return _beside(_inside(result, checkpoint, change, target), checkpoint, change, target)


def _different(checkpoint: Checkpoint) -> str:
    names = [path.name for path in _configs(checkpoint)]
    return f"{' and '.join(names)} of the input states one size for all layers, and stays as it is: layers differ now" if names else ""


def _configs(checkpoint: Checkpoint) -> list[Path]:
    """Configurations in the folder of a checkpoint."""
    path = checkpoint.path
    folder = path if path.is_dir() else path.parent
    return [folder / name for name in (CONFIG, RUN_CONFIG) if (folder / name).is_file()] if isinstance(folder, Path) else []


def _rewritten(path: Path, change: Change) -> tuple[bytes, list[Stated]] | None:
    """A configuration with the new size; None if it cannot be read."""
    try:
        if path.name == RUN_CONFIG:
            return with_toml_size(path.read_text(encoding="utf-8"), change, str(path))
        config = load_json(path)
    except (OSError, ValueError, SsmspecError):
        return None
    if not isinstance(config, dict):
        return None
    found, stated = with_state_size(config, change)
    return (json.dumps(found, indent=2) + "\n").encode("ascii"), stated


def _unchanged(path: Path, change: Change, rewritten: tuple[bytes, list[Stated]] | None) -> str:
    """Why a configuration has no new size, or nothing."""
    if rewritten is None:
        return f"{path.name} cannot be read or rewritten, and stays as it is"
    return "" if rewritten[1] else f"{path.name} names no state size of {change.before} or {2 * change.before}, and stays as it is"


def _of_folder(result: Settings, checkpoint: Checkpoint, change: Change, target: Path | None) -> Settings:
    """Configurations of a folder, which is written with them."""
    for path in _configs(checkpoint):
        rewritten = _rewritten(path, change)
        if rewritten is None or not rewritten[1]:
            result = result.joined(path.name, [], None, _unchanged(path, change, rewritten))
            continue
        written = None if target is None else (target if checkpoint.path.is_dir() else target.parent) / path.name
        result = result.joined(path.name, rewritten[1], written, texts={**result.texts, path: rewritten[0]})
    return result


def _inside(result: Settings, checkpoint: Checkpoint, change: Change, target: Path | None) -> Settings:
    """The configuration inside a file: rewritten in Equinox files and those of torch.save, named in others."""
    config = {key: value for key, value in checkpoint.config.items() if key != "__metadata__"}
    if checkpoint.container != "equinox" and checkpoint.path.name in PREFERRED:
        config = {}  # that of config.json beside it
    found, stated = with_state_size(config, change)
    if checkpoint.container == "equinox":
        return result.joined(LINE, stated, target, line=json.dumps(found).encode() + b"\n" if stated else None)
    done = [Stated(each.key, each.before, each.after) for each in settings_in_file(checkpoint, change.new)]
    result = result.joined(INSIDE, done, target)
    left = [value for value in stated if value not in done]
    if not left:
        return result
    named = ", ".join(map(str, left))
    kept = "stay as they are" if reshapes(checkpoint) else "are not in the result"
    return result.joined(INSIDE, left, None, f"the settings inside the file {kept}; the model of the result needs {named}")


def _beside(result: Settings, checkpoint: Checkpoint, change: Change, target: Path | None) -> Settings:
    """Configurations beside a single file."""
    for path in _configs(checkpoint):
        rewritten = _rewritten(path, change)
        if rewritten is None or not rewritten[1]:
            result = result.joined(path.name, [], None, _unchanged(path, change, rewritten))
            continue
        content, stated = rewritten
        named = ", ".join(map(str, stated))
        if target is None:
            result = result.joined(path.name, stated, None, f"the model of the result needs {path.name}: {named}")
            continue
        place = target.parent / path.name
        if not place.exists():
            note = f"wrote {place}, which is that of the input with {named}"
            result = result.joined(path.name, stated, place, note, beside={**result.beside, place: content})
        elif place.samefile(path):
            note = f"{place} belongs to the input, and stays as it is; the model of {target.name} needs {named}"
            result = result.joined(path.name, stated, None, note)
        elif _states(place, stated):
            result = result.joined(path.name, stated, place, f"{place} has the new size already: {named}")
        else:
            note = f"{place} exists, and stays as it is; the model of {target.name} needs {named}"
            result = result.joined(path.name, stated, None, note)
    return result


def _states(path: Path, stated: Sequence[Stated]) -> bool:
    """Whether a configuration has the new values already."""
    try:
        config = tomllib.loads(path.read_text(encoding="utf-8")) if path.name == RUN_CONFIG else load_json(path)
    except (OSError, ValueError, CheckpointError):
        return False
    return all(_at(config, value.key) == value.after for value in stated)


def _at(config: object, key: str) -> object:
    for word in key.split("."):
        config = config.get(word) if isinstance(config, dict) else None
    return config


def with_toml_size(text: str, change: Change, source: str) -> tuple[bytes, list[Stated]] | None:
    """A configuration in TOML with another state size; what does not state it stays, but for the table of the file that a run began with.

    Returns:
        The text and the values that changed; None if a value is not on a line of its own.
    Raises:
        SsmspecError: it is not valid.
    """
    wanted, stated = with_state_size(parse_toml(text, source), change)
    new = {value.key: value for value in stated}
    lines, table = [], ""
    for line in text.splitlines(keepends=True):
        head = re.match(r"\s*\[\s*([\w.-]+)\s*\]", line)
        table = head[1] if head else table
        value = re.match(r"(\s*([\w-]+)\s*=\s*)[\d_+]+", line)
        found = new.get(f"{table}.{value[2]}" if table else value[2]) if value else None
        if table != START:
            lines.append(line if value is None or found is None else f"{value[1]}{found.after}{line[value.end() :]}")
    result = "".join(lines)
    if parse_toml(result, source) != {key: part for key, part in wanted.items() if key != START}:
        return None
    return (
        f"# By ssmspec reduce, {', '.join(map(str, stated))}; the rest is that of the run. A run with it begins anew.\n{result}".encode(),
        stated,
    )
