"""The task `listops` of the Long Range Arena: the value of a nested expression, read symbol by symbol."""

from pathlib import Path

import numpy as np
import torch

from ssmspec.errors import SsmspecError
from ssmspec.training.datasets.characters import END, SPECIAL
from ssmspec.training.datasets.expressions import WORDS, Rules, Symbols, draw, evaluate, parse
from ssmspec.training.datasets.release import find_files, read_lines
from ssmspec.training.kinds.arena import PUBLISHED, SOURCE, labels_of, paper, small
from ssmspec.training.kinds.classification import ACCURACY
from ssmspec.training.kinds.own_data import draw_sweep
from ssmspec.training.kinds.published import Dataset, PublishedSettings, absolute, in_turn, problem, tokens
from ssmspec.training.task import Task

FILES = [f"basic_{part}.tsv" for part in ("train", "val", "test")]
LAYOUTS = [FILES, [f"listops-1000/{name}" for name in FILES], [f"lra_release/listops-1000/{name}" for name in FILES]]


def read(settings: PublishedSettings, device: torch.device) -> Dataset:
    """Expressions and their values, from the release or drawn by the rules of the arena, where `width` is the largest length."""
    if settings.drawn:
        rules = _rules(settings.width)
        found = draw(settings.examples + settings.tests, rules, np.random.default_rng(settings.seed))
        values = [evaluate(symbols) for symbols in found]
        sizes = [settings.examples, settings.tests]
        lines = [
            f"expressions of {rules.shortest + 1} to {rules.longest - 1} symbols and depth up to {rules.depth}, by the rules of the arena; "
            f"{sizes[0]} to train on, {sizes[1]} held out"
        ]
    else:
        _, paths = find_files(settings.data, LAYOUTS, "ListOps of the Long Range Arena (lra_release, listops-1000)")
        training, _, test = (_table(path) for path in paths)
        found, values = [symbols for symbols, _ in training + test], [value for _, value in training + test]
        sizes = [len(training), len(test)]
        lines = [f"{settings.data}: {sizes[0]} expressions to train on, the {sizes[1]} of the test part held out"]
    rows = [np.append(symbols + SPECIAL, END) for symbols in found]
    return Dataset(tokens(rows, SPECIAL + len(WORDS), device), labels_of(values, WORDS[:10]), in_turn(sizes), lines)


def _rules(width: int) -> Rules:
    """The rules of the arena for width 0; else rules for expressions of up to `width` symbols with less depth and fewer arguments."""
    return Rules() if not width else Rules(depth=4, arguments=4, shortest=width // 8, longest=width + 1)


def _table(path: Path) -> list[tuple[Symbols, int]]:
    """Expressions and values from a table with the columns Source and Target."""
    found = []
    for number, line in enumerate(read_lines(path), start=1):
        cells = line.split("\t")
        if number == 1 and cells[0].strip() == "Source":
            continue
        if len(cells) != 2 or cells[1].strip() not in WORDS[:10]:
            raise SsmspecError(f"{path}, line {number}: expected an expression, a tab and a digit; fetch the file again")
        found.append((parse(cells[0]), int(cells[1])))
    if not found:
        raise SsmspecError(f"{path} has no expressions; fetch it again")
    return found


LISTOPS = Task(
    name="listops",
    title="values of nested expressions, symbol by symbol (Long Range Arena)",
    source=f"{SOURCE}, section 2.1",
    presets={
        "small": small(examples=4000, tests=500, width=48),
        "paper": paper(
            **{"alpha": 3.0, "d_model": 128, "lr": 8e-3, "lr_ssm": 4e-3, "weight_decay": 0.03, "batch": 32},
            **{"steps": 150_000, "warmup": 5000, "examples": 96_000, "tests": 2000},
        ),
    },
    problem=problem(read),
    goal=ACCURACY,
    published=PUBLISHED,
    prepare=absolute,
    draw_sweep=draw_sweep,
)
