"""Many runs of one task over alpha, beta and seeds, each in its own folder, and the results of all together."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import isfinite, pi
from pathlib import Path

from ssmspec.errors import SsmspecError
from ssmspec.parallel.in_order import Lost, each_in_order
from ssmspec.parallel.workplace import Workplace
from ssmspec.report.documents.document import to_json
from ssmspec.report.documents.train import SweepRow, sweep_csv, sweep_document
from ssmspec.report.quiet import be_quiet
from ssmspec.report.tables.train import sweep_card
from ssmspec.training.engine.loop import Stopped
from ssmspec.training.engine.run import FinishedRun, run
from ssmspec.training.engine.run_folder import (
    CARD,
    CONFIG,
    RESULTS,
    RunConfig,
    new_folder,
    read_config,
    read_document,
    toml_text,
    write,
    write_config,
)
from ssmspec.training.task import changed

SCHEMA = "ssmspec.sweep/1"
TABLE = "table.csv"
KEYS = ("alpha", "beta")
PUBLISHED = "published"
MOST_RUNS = 10_000

Pair = tuple[float, float]
_NUMBER = re.compile(r"(?P<factor>[-+0-9.eE]*)\s*\*?\s*(?P<pi>pi)?(?:/(?P<divisor>[0-9.]+))?")


def parse_number(text: str) -> float:
    """A number such as 10, -0.5, pi, pi/3 or 10*pi.

    Raises:
        SsmspecError: the text is not a number, or the number is not finite.
    """
    match = _NUMBER.fullmatch(text.strip())
    try:
        if match is None or not (match["factor"] or match["pi"]):
            raise ValueError
        factor = {"": 1.0, "-": -1.0, "+": 1.0}.get(match["factor"])
        value = float(match["factor"]) if factor is None else factor
        value = value * (pi if match["pi"] else 1.0) / float(match["divisor"] or 1.0)
        if not isfinite(value):
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise SsmspecError(f"{text!r} is not a number; write one such as 10, -0.5, pi/3 or 10*pi") from None
    return value


def parse_sweep(text: str, published: Sequence[Pair], settings: object) -> list[Pair]:
    """Pairs of alpha and beta: all combinations of "alpha=0.1,1,10 beta=-1,0,1", or the published ones for "published".

    Args:
        published: published pairs of the task for its preset. settings: give the value of a key that is not in the text.
    Raises:
        SsmspecError: a key is unknown or given twice, or a value is not a number.
    """
    if text.strip() == PUBLISHED:
        if not published:
            raise SsmspecError(
                'there are no published settings for this task and preset; give your own: --sweep "alpha=NUMBERS beta=NUMBERS"'
            )
        return list(published)
    values: dict[str, list[float]] = {}
    for part in text.split():
        key, equals, numbers = part.partition("=")
        if not equals or key not in KEYS or key in values:
            wanted = f'expected "alpha=NUMBERS beta=NUMBERS" with commas between numbers, or {PUBLISHED}'
            raise SsmspecError(f"--sweep {text!r}: {part!r} is not understood; {wanted}")
        values[key] = list(dict.fromkeys(map(parse_number, numbers.split(","))))
    if not values:
        raise SsmspecError(f'--sweep is empty; expected "alpha=NUMBERS beta=NUMBERS" with commas between numbers, or {PUBLISHED}')
    return list(itertools.product(*(values.get(key, [getattr(settings, key)]) for key in KEYS)))


def open_sweep(folder: Path, base: RunConfig, text: str, seeds: int, *, resume: bool, force: bool) -> None:
    """Create the folder of a sweep, or check that the folder belongs to this sweep.

    Raises:
        SsmspecError: the folder holds another sweep, or something else.
    """
    head = {"schema": SCHEMA, "task": base.task, "preset": base.preset, "sweep": text, "seeds": seeds, "command": base.command}
    if resume:
        found = read_document(folder, SCHEMA)
        for key in ("task", "preset", "sweep", "seeds"):
            if found.get(key) != head[key]:
                raise SsmspecError(
                    f"{folder} holds a sweep with {key} {found.get(key)!r}, not {head[key]!r}; choose another folder with --out"
                )
        return
    new_folder(folder, force=force, schema=SCHEMA)
    write(folder / CONFIG, toml_text(head, {"environment": base.environment}))


def run_sweep(
    folder: Path,
    base: RunConfig,
    pairs: Sequence[Pair],
    seeds: int,
    note: Callable[[str], None],
    *,
    pictures: bool = True,
    place: Workplace | None = None,
) -> list[SweepRow]:
    """Do all runs that are not finished, and then write the table, pictures, card and results.

    Args:
        base: settings of all runs, except alpha, beta and the seed, which counts up from that of `base`.
        note: receives a line about each run, before it starts, or when it is done if several run at once.
        pictures: whether the sweep is drawn; its runs never are. place: how many run at once; one by default.
    Raises:
        SsmspecError: runs failed, and all others are done; the message names the folder of the first. Stopped: a signal ended a run, after
            saving.
    """
    place = place or Workplace()
    if len(pairs) * seeds > MOST_RUNS:
        raise SsmspecError(f"the sweep has {len(pairs) * seeds} runs; at most {MOST_RUNS} are allowed")
    runs = []
    for (alpha, beta), offset in itertools.product(pairs, range(seeds)):
        settings = changed(base.settings, {"alpha": alpha, "beta": beta, "seed": base.settings.seed + offset})
        runs.append((replace(base, settings=settings), folder / f"alpha{alpha:.6g}-beta{beta:.6g}-seed{settings.seed}"))
    done = _all(runs, place, note)
    rows = []
    for number, (alpha, beta) in enumerate(pairs):
        rows.append(SweepRow(alpha, beta, [each.summary for each in done[number * seeds : (number + 1) * seeds]]))
    _write_results(folder, base, rows, done, pictures=pictures)
    return rows


def _all(runs: Sequence[tuple[RunConfig, Path]], place: Workplace, note: Callable[[str], None]) -> list[FinishedRun]:
    """Every run, finished. One that fails does not stop the others. Raises as `run_sweep`."""
    done: list[FinishedRun] = []
    failed: list[str] = []
    told = (f"run {number} of {len(runs)}: {folder.name}" for number, (_, folder) in enumerate(runs, start=1))
    if place.alone:
        results: Iterator[FinishedRun | SsmspecError | Lost[tuple[RunConfig, Path]]] = map(_noted(note, told), runs)
    else:
        results = each_in_order(_in_worker, runs, place)
    for found in results:
        if not place.alone:
            note(f"{next(told)}: done")
        if isinstance(found, Lost):
            failed.append(f"{found.item[1].name}: its process died {found.times} times, as it does when memory is too small")
        elif isinstance(found, SsmspecError):
            failed.append(str(found))
        else:
            done.append(found)
    if failed:
        raise SsmspecError(failed[0] if len(failed) == 1 else f"{failed[0]} (and {len(failed) - 1} other runs failed)")
    return done


def _noted(note: Callable[[str], None], lines: Iterator[str]) -> Callable[[tuple[RunConfig, Path]], FinishedRun | SsmspecError]:
    def one(item: tuple[RunConfig, Path]) -> FinishedRun | SsmspecError:
        note(next(lines))
        return _attempt(item)

    return one


def _in_worker(item: tuple[RunConfig, Path]) -> FinishedRun | SsmspecError:
    """A run in a process of its own, where nobody looks at progress."""
    be_quiet(True)
    return _attempt(item)


def _attempt(item: tuple[RunConfig, Path]) -> FinishedRun | SsmspecError:
    try:
        return one_run(*item)
    except Stopped:
        raise
    except SsmspecError as error:
        return SsmspecError(str(error))


def prepare_folder(config: RunConfig, place: Path) -> None:
    """Create the folder of one of many runs, or check that it holds this run.

    Raises:
        SsmspecError: the folder holds another run, or something else.
    """
    if (place / CONFIG).is_file():
        if read_config(place).settings != config.settings:
            raise SsmspecError(f"{place} holds a run with different settings; start anew with --force")
    else:
        new_folder(place, force=False)
        write_config(place, config)


def one_run(config: RunConfig, place: Path) -> FinishedRun:
    """Do one of many runs, or what remains of it. Nothing is drawn.

    Raises:
        SsmspecError: the run failed; the message names its folder. Stopped: a signal ended the run, after saving.
    """
    prepare_folder(config, place)
    try:
        return run(config, place, pictures=False)
    except Stopped:
        raise
    except SsmspecError as error:
        raise SsmspecError(f"{place.name}: {error}") from error


def _write_results(folder: Path, base: RunConfig, rows: Sequence[SweepRow], finished: Sequence[FinishedRun], *, pictures: bool) -> None:
    from ssmspec.report.figures.style import styled

    title = sweep_title(base)
    drawn: list[Path] = []
    if pictures:
        with styled():
            drawn = base.kind.draw_sweep([each.outcome for each in finished], folder)
    write(folder / TABLE, sweep_csv(rows))
    write(folder / RESULTS, to_json(sweep_document(title, base.command, rows)) + "\n")
    write(folder / CARD, sweep_card(title, base.command, rows, [path.name for path in drawn]))


def sweep_title(base: RunConfig) -> str:
    """The title of a sweep's table."""
    return f"{base.task}, preset {base.preset}{', closed form' if base.closed_form else ''}"
